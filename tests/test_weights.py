"""Weights: cards, fetching from a server on this machine, checking, strict loading."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inpainterz import download, engines, weights
from inpainterz.engines import ENGINES
from inpainterz.errors import (
    EngineUnavailable,
    OptionError,
    WeightsCorrupt,
    WeightsError,
    WeightsMismatch,
    WeightsMissing,
)

torch = pytest.importorskip("torch")


# A server whose faults are set by the test --------------------------------------------------------


class Site(ThreadingHTTPServer):
    """Serves `files` by path; `cuts` says after how many bytes to hang up, one entry a request."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges = True
        self.etag = '"one"'
        self.status = 0
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site = self.server
        asked = self.headers.get("Range", "")
        site.asked.append(asked)
        body = site.files.get(self.path)
        if site.status or body is None:
            self.send_error(site.status or 404)
            return
        fresh = self.headers.get("If-Range", site.etag) == site.etag
        start = int(asked[6:-1]) if asked and site.ranges and fresh else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        if site.etag:
            self.send_header("ETag", site.etag)
        self.end_headers()
        cut = site.cuts.pop(0) if site.cuts else len(body)
        self.wfile.write(body[start : start + cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(8, 3, 3, 3, generator=generator),
        "conv.bias": torch.randn(8, generator=generator),
        "big": torch.randn(300, 1000, generator=generator),
        "table": torch.arange(4),
    }


def saved(value: object, *, old_format: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not old_format)
    return buffer.getvalue()


BODY = saved(state())
SHAPES = {key: tuple(value.shape) for key, value in state().items()}


@pytest.fixture
def card(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, object]]:
    """The card of "toy", served by the site; `write` after a change of its fields."""
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setattr(weights, "card_folder", lambda: folder)
    monkeypatch.setattr(weights, "CHUNK_BYTES", 1 << 16)
    monkeypatch.setattr(download, "CHUNK_BYTES", 1 << 16)
    monkeypatch.setenv("INPAINTERZ_WEIGHTS", str(tmp_path / "ckpt"))
    site.files["/toy.pth"] = BODY
    yield {
        "stage": "segment",
        "title": "a toy",
        "file": "toy.pth",
        "url": f"{site.url}/toy.pth",
        "size": len(BODY),
        "sha256": hashlib.sha256(BODY).hexdigest(),
        "licence": "MIT",
        "commercial": True,
        "paper": "none",
        "authors": "nobody",
        "home": "nowhere",
    }


def write(card: dict[str, object]) -> None:
    lines = (f"{key} = {json.dumps(value)}" for key, value in card.items())
    (weights.card_folder() / "toy.toml").write_text("\n".join(lines), "utf-8")


def loadable(folder: Path) -> list[str]:
    """Names of files that a search for weights could take for weights."""
    return sorted(
        path.name for path in folder.glob("*") if path.suffix in (".pth", ".zip", ".safetensors")
    )


# Cards --------------------------------------------------------------------------------------------


def test_cards_are_complete() -> None:
    known = weights.cards()
    assert set(known) == {
        "sam-vit-b", "sam-vit-l", "sam-vit-h",
        "sam2.1-hiera-t", "sam2.1-hiera-s", "sam2.1-hiera-b", "sam2.1-hiera-l",
        "edgetam", "sam-hq-vit-b",
        "deaott", "deaots", "deaotb", "deaotl", "r50-deaotl", "swinb-deaotl",
        "e2fgvi", "e2fgvi-hq", "mask2former", "grounding-dino",
    }  # fmt: skip
    for card in known.values():
        assert card.stage in ("detect", "segment", "track", "inpaint")
        assert card.sha256 == "" or re.fullmatch(r"[0-9a-f]{64}", card.sha256)
        assert card.sha256 == "" or (card.sha256_from and card.size > 0)
        assert card.size > 0 or card.parameters > 0
        assert card.licence and card.paper and card.authors
        assert re.match(r"https://|gdrive:\w", card.url)
        place = card.url.removesuffix("/resolve/main")
        assert card.url.startswith("gdrive:") or place.endswith(card.file)
        assert not card.files or {"config.json", "model.safetensors"} <= set(card.files)
    for entry in ENGINES:
        if entry.weights is not None:
            assert known[entry.weights].stage == entry.stage


def test_sets() -> None:
    def names(**how: bool) -> set[str]:
        return {card.name for card in weights.choose(**how)}

    assert names() == {"sam-vit-b", "r50-deaotl", "e2fgvi-hq"}
    assert names(commercial=True) == {"sam-vit-b", "r50-deaotl"}
    assert names(everything=True) == set(weights.cards())
    assert names(everything=True, commercial=True) == {
        name for name, card in weights.cards().items() if card.commercial
    }
    assert [card.name for card in weights.choose(["e2fgvi"])] == ["e2fgvi"]
    with pytest.raises(OptionError, match="commercial"):
        weights.choose(["e2fgvi"], commercial=True)
    with pytest.raises(OptionError, match="sam-vit-b"):
        weights.choose(["sam"])


def test_description_shows_size_and_licence() -> None:
    assert "375 MB, Apache-2.0 (commercial use allowed)" in weights.describe(
        weights.card("sam-vit-b")
    )
    hq = weights.describe(weights.card("e2fgvi-hq"))
    assert "about 164 MB, CC-BY-NC-4.0 (NO commercial use)" in hq


# Sets of engines ----------------------------------------------------------------------------------


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A list with two neural inpainters, of which one may be used commercially; no weights."""
    entries = (
        engines.Entry("segment", "builtin", "m", "t"),
        engines.Entry("segment", "sam-b", "m", "t", "sam-vit-b"),
        engines.Entry("track", "builtin", "m", "t"),
        engines.Entry("inpaint", "builtin", "m", "t"),
        engines.Entry("inpaint", "e2fgvi-hq", "m", "t", "e2fgvi-hq"),
    )
    monkeypatch.setattr(engines, "ENGINES", entries)
    monkeypatch.setattr(weights, "folders", lambda first=None: [first] if first else [])
    return tmp_path


def test_engine_sets(listed: Path) -> None:
    builtin = {"segment": "builtin", "track": "builtin", "inpaint": "builtin"}
    neural = {"segment": "sam-b", "track": "builtin", "inpaint": "e2fgvi-hq"}
    assert engines.choose("builtin") == builtin
    assert engines.choose("auto") == builtin
    assert engines.choose("neural") == neural
    for name in ("sam-vit-b", "e2fgvi-hq"):
        (listed / weights.card(name).file).write_bytes(b"")
    assert engines.choose("auto") == builtin
    assert engines.choose("auto", weights_dir=listed) == neural
    assert engines.choose("builtin", weights_dir=listed) == builtin
    free = engines.choose("commercial-ok", weights_dir=listed)
    assert free == {**builtin, "segment": "sam-b"}


def test_engines_by_name_beside_a_set(listed: Path) -> None:
    named: dict[engines.Stage, str | None] = {"inpaint": "e2fgvi-hq", "segment": None}
    assert engines.choose("builtin", named)["inpaint"] == "e2fgvi-hq"
    with pytest.raises(OptionError, match="e2fgvi-hq does not allow commercial use"):
        engines.choose("commercial-ok", named)
    with pytest.raises(OptionError, match="no engine set 'best'"):
        engines.choose("best")
    with pytest.raises(OptionError, match="no track engine"):
        engines.choose("auto", {"track": "magic"})


def test_load_looks_in_a_given_folder_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "folders", lambda first=None: [first] if first else [])
    (tmp_path / "sam_vit_b_01ec64.pth").write_bytes(b"not it")
    with pytest.raises(WeightsMissing):
        engines.load("segment", "sam-b")
    with pytest.raises(WeightsCorrupt, match="375,042,383 bytes, found 6 bytes"):
        engines.load("segment", "sam-b", weights_dir=tmp_path)


# Fetching -----------------------------------------------------------------------------------------


def test_fetch(card: dict[str, object], tmp_path: Path, site: Site) -> None:
    write(card)
    seen: list[tuple[int, int | None]] = []
    path = weights.fetch("toy", progress=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "ckpt" / "toy.pth"
    assert path.read_bytes() == BODY
    assert seen[0] == (0, len(BODY)) and seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)
    assert sorted(p.name for p in path.parent.iterdir()) == ["hashes.json", "toy.pth"]
    assert weights.locate("toy") == path
    weights.fetch("toy")
    assert len(site.asked) == 1  # it is here, so nothing is asked again


def test_fetch_resumes_after_a_cut_connection(
    card: dict[str, object], tmp_path: Path, site: Site
) -> None:
    write(card)
    site.cuts = [400_000, 300_000]
    path = weights.fetch("toy")
    assert path.read_bytes() == BODY
    assert site.asked == ["", "bytes=400000-", "bytes=700000-"]


@pytest.mark.parametrize("hashed", [True, False])
def test_an_interrupted_fetch_is_gone_on_with_later(
    card: dict[str, object], tmp_path: Path, site: Site, hashed: bool
) -> None:
    write(card if hashed else {**card, "sha256": ""})
    site.cuts = [500_000, 0]
    with pytest.raises(WeightsError, match="cut") as caught:
        weights.fetch("toy", retries=0)
    assert f"{site.url}/toy.pth" in caught.value.hint
    assert str(tmp_path / "ckpt" / "toy.pth") in caught.value.hint
    assert loadable(tmp_path / "ckpt") == []
    with pytest.raises(WeightsMissing):
        weights.locate("toy")
    site.cuts = []
    assert weights.fetch("toy").read_bytes() == BODY
    assert site.asked == ["", "bytes=500000-", "bytes=500000-"]


def test_stopped_by_the_user(card: dict[str, object], tmp_path: Path, site: Site) -> None:
    write(card)

    def stop(done: int, total: int | None) -> None:
        if done > 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.fetch("toy", progress=stop)
    assert loadable(tmp_path / "ckpt") == []
    assert weights.fetch("toy").read_bytes() == BODY
    assert site.asked[1].startswith("bytes=3")


def test_a_file_that_changed_meanwhile_is_fetched_anew(
    card: dict[str, object], tmp_path: Path, site: Site
) -> None:
    write({**card, "sha256": "", "size": 0})
    site.cuts = [500_000, 0]
    with pytest.raises(WeightsError):
        weights.fetch("toy", retries=0)
    other = saved(state(seed=1))
    site.files["/toy.pth"], site.etag = other, '"two"'
    assert weights.fetch("toy").read_bytes() == other


@pytest.mark.parametrize("more", [b"", b"more than the file has"])
def test_a_part_that_is_complete_or_too_long(
    card: dict[str, object], tmp_path: Path, site: Site, more: bytes
) -> None:
    write(card)
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "toy.pth.part").write_bytes(BODY + more)
    assert weights.fetch("toy").read_bytes() == BODY
    assert sorted(p.name for p in (tmp_path / "ckpt").iterdir()) == ["hashes.json", "toy.pth"]


def test_server_without_ranges(card: dict[str, object], site: Site) -> None:
    write(card)
    site.ranges = False
    site.cuts = [500_000]
    assert weights.fetch("toy").read_bytes() == BODY


@pytest.mark.parametrize("hashed", [True, False])  # without a hash, the archive's own CRC tells
def test_a_flipped_bit_is_found_and_nothing_kept(
    card: dict[str, object], tmp_path: Path, site: Site, hashed: bool
) -> None:
    write(card if hashed else {**card, "sha256": ""})
    flipped = bytearray(BODY)
    flipped[len(BODY) // 2] ^= 1
    site.files["/toy.pth"] = bytes(flipped)
    with pytest.raises(WeightsCorrupt, match="Nothing of it was kept"):
        weights.fetch("toy")
    assert list((tmp_path / "ckpt").iterdir()) == []


def test_another_size_is_refused_before_the_download(
    card: dict[str, object], tmp_path: Path, site: Site
) -> None:
    write(card)
    site.files["/toy.pth"] = BODY + b"more"
    seen: list[int] = []
    with pytest.raises(WeightsCorrupt, match="bytes"):
        weights.fetch("toy", progress=lambda done, total: seen.append(done))
    assert seen == []
    assert list((tmp_path / "ckpt").iterdir()) == []


def test_a_web_page_is_no_weights_file(card: dict[str, object], tmp_path: Path, site: Site) -> None:
    write({**card, "sha256": "", "size": 0})
    site.files["/toy.pth"] = b"<!DOCTYPE html><html>Quota exceeded</html>"
    with pytest.raises(WeightsCorrupt, match="DOCTYPE"):
        weights.fetch("toy")
    assert list((tmp_path / "ckpt").iterdir()) == []


def test_not_found(card: dict[str, object], tmp_path: Path, site: Site) -> None:
    write({**card, "url": f"{site.url}/gone.pth"})
    with pytest.raises(WeightsError, match="404") as caught:
        weights.fetch("toy")
    assert caught.value.exit_code == 2
    assert f"save {site.url}/gone.pth as {tmp_path / 'ckpt' / 'toy.pth'}" in caught.value.hint
    assert site.asked == [""]  # asking again would not help
    assert list((tmp_path / "ckpt").iterdir()) == []


def test_offline(card: dict[str, object], tmp_path: Path, site: Site) -> None:
    write({**card, "url": "http://127.0.0.1:9/toy.pth"})
    with pytest.raises(WeightsError, match="cannot be reached") as caught:
        weights.fetch("toy")
    assert "save http://127.0.0.1:9/toy.pth as" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "ckpt").iterdir()) == []


def test_an_overloaded_server_is_asked_again(card: dict[str, object], site: Site) -> None:
    write(card)
    site.status = 503
    with pytest.raises(WeightsError, match="503"):
        weights.fetch("toy", retries=1)
    assert len(site.asked) == 2


def test_no_room(
    card: dict[str, object], tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    write({**card, "size": 1 << 60})
    with pytest.raises(WeightsError, match="no room"):
        weights.fetch("toy")
    assert site.asked == []


def test_two_fetches_of_one_file(card: dict[str, object], tmp_path: Path) -> None:
    write(card)
    (tmp_path / "ckpt").mkdir()
    with (
        download.one_at_a_time(tmp_path / "ckpt" / "toy.pth.part"),
        pytest.raises(WeightsError, match="another process"),
    ):
        weights.fetch("toy")


def test_folder_that_cannot_be_written(card: dict[str, object], tmp_path: Path) -> None:
    write(card)
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="could not be fetched"):
        weights.fetch("toy", folder=tmp_path / "file")


# Google Drive, through gdown itself, from the local server ----------------------------------------


@pytest.fixture
def drive(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    pytest.importorskip("gdown")
    monkeypatch.setattr(download, "DRIVE_URL", site.url + "/{}")
    return site


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, body in members:
            archive.writestr(name, body)
    return buffer.getvalue()


def test_drive(card: dict[str, object], drive: Site, tmp_path: Path) -> None:
    write({**card, "url": "gdrive:toy.pth"})
    seen: list[int] = []
    path = weights.fetch("toy", progress=lambda done, total: seen.append(done))
    assert path.read_bytes() == BODY
    assert seen[-1] == len(BODY)
    assert loadable(tmp_path / "ckpt") == ["toy.pth"]


def test_drive_resumes(card: dict[str, object], drive: Site, tmp_path: Path) -> None:
    write({**card, "url": "gdrive:toy.pth"})
    drive.cuts = [700_000]  # gdown writes blocks of 524,288 bytes
    assert weights.fetch("toy").read_bytes() == BODY
    assert drive.asked[-1] == "bytes=524288-"


def test_drive_interrupted(card: dict[str, object], drive: Site, tmp_path: Path) -> None:
    write({**card, "url": "gdrive:toy.pth"})
    drive.cuts = [700_000, 0, 0]
    with pytest.raises(WeightsError, match="could not be fetched") as caught:
        weights.fetch("toy", retries=0)
    assert "https://drive.google.com/file/d/toy.pth/view" in caught.value.hint
    assert loadable(tmp_path / "ckpt") == []
    assert weights.fetch("toy").read_bytes() == BODY
    assert drive.asked[-1] == "bytes=524288-"


def test_drive_archive(card: dict[str, object], drive: Site, tmp_path: Path) -> None:
    write({**card, "url": "gdrive:toy.zip", "member": "toy.pth", "sha256": "", "size": 0})
    drive.files["/toy.zip"] = zipped(("release/toy.pth", BODY), ("release/other.pt", b"other"))
    assert weights.fetch("toy").read_bytes() == BODY
    assert sorted(p.name for p in (tmp_path / "ckpt").iterdir()) == ["hashes.json", "toy.pth"]


def test_drive_archive_that_is_damaged(
    card: dict[str, object], drive: Site, tmp_path: Path
) -> None:
    write({**card, "url": "gdrive:toy.zip", "member": "toy.pth", "sha256": "", "size": 0})
    body = bytearray(zipped(("release/toy.pth", BODY)))
    body[len(body) // 2] ^= 1
    for wrong in (bytes(body), zipped(("another.pth", BODY)), b"<html>quota</html>"):
        drive.files["/toy.zip"] = wrong
        with pytest.raises(WeightsCorrupt, match=r"drive\.google\.com"):
            weights.fetch("toy")
        assert list((tmp_path / "ckpt").iterdir()) == []


def test_drive_without_gdown(
    card: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    write({**card, "url": "gdrive:abc"})
    with pytest.raises(WeightsError, match="pip install 'gdown"):
        weights.fetch("toy")


def test_drive_offline(
    card: dict[str, object], site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gdown")
    monkeypatch.setattr(download, "DRIVE_URL", "http://127.0.0.1:9/{}")
    write({**card, "url": "gdrive:abc", "member": "toy.pth"})
    with pytest.raises(WeightsError) as caught:
        weights.fetch("toy", retries=0)
    assert "https://drive.google.com/file/d/abc/view (the file toy.pth in it)" in caught.value.hint
    assert loadable(tmp_path / "ckpt") == []


# Finding and checking -----------------------------------------------------------------------------


def test_search_order(
    card: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(card)
    checkout = tmp_path / "checkout"
    (checkout / "ckpt").mkdir(parents=True)
    monkeypatch.setattr(weights, "PACKAGE", checkout / "inpainterz")
    order = weights.folders(tmp_path / "given")
    assert order[:3] == [tmp_path / "given", tmp_path / "ckpt", checkout / "ckpt"]
    assert "inpainterz" in str(order[3]) and len(order) == 4
    for folder in reversed(order[:3]):
        folder.mkdir(exist_ok=True)
        (folder / "toy.pth").write_bytes(BODY)
        assert weights.locate("toy", folder=tmp_path / "given") == folder / "toy.pth"
    assert weights.locate("toy") == tmp_path / "ckpt" / "toy.pth"


def test_missing_names_the_command(card: dict[str, object]) -> None:
    write(card)
    with pytest.raises(WeightsMissing, match="inpainterz weights fetch toy"):
        weights.locate("toy")
    assert weights.find("toy") is None


def test_a_file_put_there_by_hand_is_checked(card: dict[str, object], tmp_path: Path) -> None:
    write(card)
    path = tmp_path / "ckpt" / "toy.pth"
    path.parent.mkdir()
    flipped = bytearray(BODY)
    flipped[-5000] ^= 4
    for wrong in (bytes(flipped), BODY[: len(BODY) // 2]):
        path.write_bytes(wrong)
        with pytest.raises(WeightsCorrupt):
            weights.locate("toy")
        with pytest.raises(WeightsCorrupt):
            weights.fetch("toy")
    path.write_bytes(BODY)
    assert weights.locate("toy") == path


def test_a_hash_is_taken_once_and_again_after_a_change(
    card: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(card)
    path = weights.fetch("toy")
    taken: list[Path] = []
    check = weights.check
    monkeypatch.setattr(weights, "check", lambda c, p: taken.append(p) or check(c, p))
    weights.locate("toy")
    assert taken == []
    os.utime(path, ns=(1, 1))
    weights.locate("toy")
    assert taken == [path]
    weights.locate("toy")
    assert taken == [path]


def test_where_no_hash_is_published_the_first_fetch_counts(
    card: dict[str, object], tmp_path: Path, site: Site
) -> None:
    write({**card, "sha256": "", "size": 0})
    path = weights.fetch("toy")
    recorded = json.loads((path.parent / "hashes.json").read_text("utf-8"))
    assert recorded["toy.pth"]["sha256"] == hashlib.sha256(BODY).hexdigest()
    other = saved(state(seed=1))
    path.write_bytes(other)
    os.utime(path, ns=(1, 1))
    with pytest.raises(WeightsCorrupt, match=hashlib.sha256(BODY).hexdigest()):
        weights.locate("toy")
    path.unlink()
    site.files["/toy.pth"] = other
    with pytest.raises(WeightsCorrupt):
        weights.fetch("toy")
    assert loadable(path.parent) == []
    site.files["/toy.pth"] = BODY
    assert weights.fetch("toy") == path


def test_where_no_hash_is_published_a_file_put_there_by_hand_counts(
    card: dict[str, object], tmp_path: Path
) -> None:
    """Its keys and shapes are compared when it is loaded; so a network can run with any numbers."""
    write({**card, "sha256": ""})  # then the size of the card does not bind either
    path = tmp_path / "ckpt" / "toy.pth"
    path.parent.mkdir()
    for seed in (1, 2):
        path.write_bytes(saved({"state_dict": state(seed)}))
        os.utime(path, ns=(seed, seed))
        assert weights.locate("toy") == path
        assert weights.fetch("toy") == path
        (line,) = weights.inventory(verify=True)
        assert line.fault == ""
    path.write_bytes(b"<html>")
    with pytest.raises(WeightsCorrupt):
        weights.locate("toy")


def test_a_damaged_record_is_started_anew(
    card: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(card)
    path = weights.fetch("toy")
    (path.parent / "hashes.json").write_text('{"toy.pth": 3}')
    assert weights.locate("toy") == path
    assert "started anew" in caplog.text
    assert json.loads((path.parent / "hashes.json").read_text("utf-8"))["toy.pth"]["sha256"]


def test_a_folder_where_nothing_can_be_recorded(card: dict[str, object], tmp_path: Path) -> None:
    write(card)
    (tmp_path / "ckpt" / "hashes.json").mkdir(parents=True)
    (tmp_path / "ckpt" / "toy.pth").write_bytes(BODY)
    assert weights.locate("toy") == weights.locate("toy")
    assert sorted(p.name for p in (tmp_path / "ckpt").iterdir()) == ["hashes.json", "toy.pth"]


def test_inventory(card: dict[str, object], tmp_path: Path) -> None:
    write(card)
    assert [(line.card.name, line.path) for line in weights.inventory()] == [("toy", None)]
    path = weights.fetch("toy")
    (line,) = weights.inventory(verify=True)
    assert (line.path, line.sha256, line.fault) == (path, card["sha256"], "")
    path.write_bytes(BODY[:-1])
    (line,) = weights.inventory(verify=True)
    assert "bytes" in line.fault


# Loading ------------------------------------------------------------------------------------------


def put(tmp_path: Path, body: bytes, name: str = "toy.pth") -> Path:
    path = tmp_path / name
    path.write_bytes(body)
    return path


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "optimizer": {"lr": 0.1}, "step": 3},
        lambda s: {"model": s},
        lambda s: {"state_dict": {f"module.{key}": value for key, value in s.items()}},
    ],
    ids=["plain", "state_dict", "model", "module"],
)
def test_load(tmp_path: Path, wrap: object, old_format: bool) -> None:
    assert callable(wrap)
    path = put(tmp_path, saved(wrap(state()), old_format=old_format))
    loaded = weights.load_state_dict(path, name="toy", expected=SHAPES)
    assert list(loaded) == list(SHAPES)
    for key, value in state().items():
        assert torch.equal(loaded[key], value)


def test_load_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "toy.safetensors"
    safetensors.save_file(state(), path)
    loaded = weights.load_state_dict(path, name="toy", expected=SHAPES)
    assert torch.equal(loaded["big"], state()["big"])
    put(tmp_path, path.read_bytes()[:-10], path.name)
    with pytest.raises(WeightsCorrupt):
        weights.load_state_dict(path, name="toy", expected=SHAPES)


def test_safetensors_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="pip install safetensors"):
        weights.load_state_dict(put(tmp_path, b"", "a.safetensors"), name="toy", expected={})


def test_numpy_numbers_beside_the_weights_are_read(tmp_path: Path) -> None:
    import numpy as np

    value = {"state_dict": state(), "lr": np.float64(1e-4), "score": np.float32(3)}
    new = saved(value, old_format=True)
    by_numpy_1 = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    for body in (saved(value), new, by_numpy_1):
        loaded = weights.load_state_dict(put(tmp_path, body), name="toy", expected=SHAPES)
        assert set(loaded) == set(SHAPES)


def test_a_mismatch_names_the_keys(tmp_path: Path) -> None:
    wrong = state()
    wrong["conv.weight"] = torch.zeros(8, 3, 5, 5)
    del wrong["conv.bias"]
    wrong["extra"] = torch.zeros(1)
    wrong["table"] = 7  # type: ignore[assignment]
    path = put(tmp_path, saved(wrong))
    with pytest.raises(WeightsMismatch) as caught:
        weights.load_state_dict(path, name="toy", expected=SHAPES)
    error = caught.value
    assert list(error.missing) == ["conv.bias"]
    assert list(error.unexpected) == ["extra"]
    assert list(error.shapes) == [
        "conv.weight is 8x3x5x5, not 8x3x3x3", "table is int, not a tensor",
    ]  # fmt: skip
    for words in ("conv.bias", "extra", "8x3x5x5", "weights fetch toy"):
        assert words in str(error)
    with pytest.raises(WeightsMismatch, match="missing"):
        weights.load_state_dict(put(tmp_path, saved([1, 2])), name="toy", expected=SHAPES)


def test_allowances(tmp_path: Path) -> None:
    body = state()
    body["old.head"] = body.pop("conv.bias")
    body["fc.weight"] = torch.zeros(2)
    del body["table"]
    path = put(tmp_path, saved(body))
    loaded = weights.load_state_dict(
        path,
        name="toy",
        expected=SHAPES,
        rename={"old.head": "conv.bias"},
        may_lack=["tab*"],
        may_have=["fc.*"],
    )
    assert list(loaded) == ["conv.weight", "conv.bias", "big"]


def test_load_into_a_network(tmp_path: Path) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)
            self.register_buffer("table", torch.full((4,), 9))

    net = Net()
    source = {key: value for key, value in state().items() if key != "big"}
    weights.load_into(net, put(tmp_path, saved(source)), name="toy")
    assert torch.equal(net.conv.weight, source["conv.weight"])
    assert torch.equal(net.table, source["table"])
    del source["table"]
    net = Net()
    weights.load_into(net, put(tmp_path, saved(source)), name="toy", may_lack=["table"])
    assert net.table.tolist() == [9] * 4
    with pytest.raises(WeightsMismatch, match="table"):
        weights.load_into(net, tmp_path / "toy.pth", name="toy")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    body = state()
    body["big"][3, 4] = bad
    with pytest.raises(WeightsCorrupt, match="NaN or infinity in big"):
        weights.load_state_dict(put(tmp_path, saved(body)), name="toy", expected=SHAPES)


class Evil:
    """Pickles as an instruction to make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_that_runs_code_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    bodies = {
        "new": saved({**state(), "evil": Evil(mark)}),
        "old": saved({**state(), "evil": Evil(mark)}, old_format=True),
        "wrapped": saved({"state_dict": state(), "optimizer": Evil(mark)}),
        "bare": pickle.dumps(Evil(mark), protocol=2),
        "bare, protocol 4": pickle.dumps({"a": Evil(mark)}, protocol=4),
    }
    for name, body in bodies.items():
        with pytest.raises(WeightsCorrupt, match="a file of tensors") as caught:
            weights.load_state_dict(put(tmp_path, body), name="toy", expected=SHAPES)
        assert not mark.exists(), name
        if name == "new":
            assert "asks to run" in caught.value.actual and "system" in caught.value.actual
    pickle.loads(bodies["bare"])
    assert mark.exists()  # it does run where it is trusted


@pytest.mark.parametrize("old_format", [False, True])
def test_half_a_file(tmp_path: Path, old_format: bool) -> None:
    body = saved(state(), old_format=old_format)
    for size in (0, 1, 100, len(body) // 2, len(body) - 1):
        with pytest.raises(WeightsCorrupt):
            weights.load_state_dict(put(tmp_path, body[:size]), name="toy", expected=SHAPES)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="weights fetch toy"):
        weights.load_state_dict(tmp_path / "none.pth", name="toy", expected=SHAPES)


# Folders of several files -------------------------------------------------------------------------


def tensors() -> bytes:
    from safetensors.torch import save

    return bytes(save(state()))


@pytest.fixture
def several(card: dict[str, object], site: Site) -> dict[str, object]:
    """The card of a folder with a description and tensors."""
    site.files["/toy/config.json"] = b'{"model_type": "toy"}'
    site.files["/toy/model.safetensors"] = tensors()
    told = {"file": "toy", "url": f"{site.url}/toy", "size": 0, "sha256": ""}
    card |= {**told, "files": ["config.json", "model.safetensors"]}
    write(card)
    return card


def test_a_folder_is_fetched_resumed_and_recorded(
    several: dict[str, object], tmp_path: Path, site: Site
) -> None:
    site.cuts = [10**9, 300_000]  # all of the first file, some of the second
    path = weights.fetch("toy")
    assert path == tmp_path / "ckpt" / "toy"
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors"]
    assert (path / "model.safetensors").read_bytes() == tensors()
    assert "bytes=300000-" in site.asked
    assert weights.locate("toy") == path
    assert not list((tmp_path / "ckpt").glob("*.part"))
    (line,) = weights.inventory(verify=True)
    assert line.path == path and line.sha256 and not line.fault
    changed = bytearray(tensors())
    changed[-1] ^= 1  # after the first fetch another file is not the same, whatever its size
    (path / "model.safetensors").write_bytes(bytes(changed))
    with pytest.raises(WeightsCorrupt, match="SHA-256"):
        weights.locate("toy")


def test_a_folder_half_fetched_is_nothing_and_gone_on_with(
    several: dict[str, object], tmp_path: Path, site: Site
) -> None:
    whole = site.files.pop("/toy/model.safetensors")
    with pytest.raises(WeightsError, match=r"404.*save .*/toy as"):
        weights.fetch("toy")
    assert weights.find("toy") is None
    site.files["/toy/model.safetensors"] = whole
    site.asked.clear()
    assert weights.locate("toy") if weights.fetch("toy") else None
    assert len(site.asked) == 1  # the first file was there already


def test_a_folder_with_half_a_file_is_refused(
    several: dict[str, object], tmp_path: Path, site: Site
) -> None:
    site.files["/toy/model.safetensors"] = tensors()[:-5]
    with pytest.raises(WeightsCorrupt, match="Nothing of it was kept"):
        weights.fetch("toy")
    assert [p.name for p in (tmp_path / "ckpt").iterdir() if not p.name.endswith(".lock")] == []
    folder = tmp_path / "ckpt" / "toy"
    folder.mkdir()
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsCorrupt, match="something else"):
        weights.locate("toy")


def test_a_mirror_of_the_hub(
    several: dict[str, object], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    several["url"] = "https://huggingface.co/toy"
    write(several)
    monkeypatch.setenv("HF_ENDPOINT", site.url + "/")
    assert weights.fetch("toy").name == "toy"
