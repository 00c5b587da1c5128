"""Label maps keep their ids on disk; masks that do not fit are refused with a sentence."""

from __future__ import annotations

import errno
import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from inpainterz.errors import InputError, PromptError, VideoEncodeError
from inpainterz.masks import (
    MaskStore,
    auto_grow_px,
    decode_labels,
    encode_labels,
    feather,
    grow,
    stack,
)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
@settings(max_examples=60, deadline=None)
def test_label_map_survives_png(labels: np.ndarray) -> None:
    assert np.array_equal(decode_labels(encode_labels(labels)), labels)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA"])
def test_a_black_and_white_picture_is_one_object(mode: str) -> None:
    mask = np.zeros((12, 17), bool)
    mask[3:9, 4:11] = True
    out = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255, "L").convert(mode).save(out, "PNG")
    assert np.array_equal(decode_labels(out.getvalue()), mask.astype(np.uint8))


def test_not_a_picture_is_one_sentence() -> None:
    with pytest.raises(InputError, match="not a picture"):
        decode_labels(b"hello", "mask.png")


def _store(tmp_path: Path, source: Path, count: int = 3) -> MaskStore:
    store = MaskStore(tmp_path / "store")
    store.take(source, count, (8, 10))
    return store


def _mask(value: int) -> np.ndarray:
    labels = np.zeros((8, 10), np.uint8)
    labels[2:5, 3:6] = value
    return labels


def test_zip_folder_and_single_png_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index:06d}.png").write_bytes(encode_labels(_mask(index + 1)))
    bundle = tmp_path / "masks.zip"
    with zipfile.ZipFile(bundle, "w") as out:
        for path in folder.iterdir():
            out.write(path, f"inside/{path.name}")
    for source in (folder, bundle):
        with _store(tmp_path / source.suffix.strip("."), source) as store:
            for index in range(3):
                found = store.get(index)
                assert found is not None
                assert np.array_equal(found, _mask(index + 1))
    with _store(tmp_path / "one", folder / "000001.png") as store:
        assert store.indices() == [0, 1, 2]
        assert all(np.array_equal(m, _mask(2)) for _, m in store.items())


@pytest.mark.parametrize(
    ("name", "labels", "says"),
    [
        ("000007.png", _mask(1), "ends at frame 2"),
        ("000001.png", np.zeros((9, 10), np.uint8), "10x9, the clip is 10x8"),
        ("notes.txt", _mask(1), "no PNG masks"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, labels: np.ndarray, says: str
) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / name).write_bytes(encode_labels(labels))
    with pytest.raises(InputError, match=says):
        _store(tmp_path, folder)


def test_store_keeps_confidence_and_temporary_store_vanishes(tmp_path: Path) -> None:
    with MaskStore(tmp_path / "kept") as store:
        store.put(4, _mask(1), {1: 0.25})
    with MaskStore(tmp_path / "kept") as store:
        assert store.confidence(4) == {1: 0.25}
        store.export_zip(tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as bundle:
        assert bundle.namelist() == ["000004.png"]
    with MaskStore.temporary() as store:
        store.put(0, _mask(1))
        folder = store.folder
    assert not folder.exists()


def test_stack_puts_later_ids_on_top_and_refuses_256() -> None:
    low, high = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    low[:3], high[2:] = True, True
    assert stack({2: high, 1: low}, (4, 4))[:, 0].tolist() == [1, 1, 2, 2]
    with pytest.raises(PromptError, match="256"):
        stack({256: low}, (4, 4))


def test_growth_is_a_disc_and_feather_stays_in_the_grown_ring() -> None:
    mask = np.zeros((41, 41), bool)
    mask[20, 20] = True
    hole = grow(mask, 6)
    ys, xs = np.nonzero(hole)
    assert np.hypot(ys - 20, xs - 20).max() <= 6.5
    assert hole.sum() > 100
    alpha = feather(mask, hole, 3)
    assert alpha[20, 20] == 1
    assert (alpha[~hole] == 0).all()
    assert 0 < alpha[20, 25] < 1
    assert auto_grow_px(np.zeros((9, 9), bool)) == 0
    big = np.zeros((480, 854), bool)
    big[100:300, 100:300] = True
    assert 4 <= auto_grow_px(big) <= 20


def test_doubtful_frames_are_told_until_an_object_has_gone(tmp_path: Path) -> None:
    with MaskStore(tmp_path / "kept") as store:
        gone = np.zeros((8, 10), np.uint8)
        for index, (labels, trust) in enumerate(
            [(_mask(1), 0.9), (_mask(1), 0.3), (_mask(1), 0.8), (gone, 0.0), (gone, 0.0)]
        ):
            store.put(index, labels, {1: trust})
        assert store.doubtful() == (1, 3)


# --- what comes from outside ------------------------------------------------------------------


def _zip(path: Path, entries: dict[str, bytes], **options: object) -> Path:
    with zipfile.ZipFile(path, "w", **options) as bundle:  # type: ignore[call-overload]
        for name, data in entries.items():
            bundle.writestr(name, data)
    return path


def _refused(tmp_path: Path, source: Path, count: int = 3) -> str:
    with MaskStore(tmp_path / "refused") as store, pytest.raises(InputError) as caught:
        store.take(source, count, (8, 10))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_zips_that_are_not_meant_well_are_refused(tmp_path: Path) -> None:
    good = encode_labels(_mask(1))
    path = tmp_path / "a.zip"
    for name in ("../000000.png", "/etc/000000.png", "a/../../000000.png", "C:\\000000.png"):
        assert "points outside" in _refused(tmp_path, _zip(path, {name: good}))
    link = zipfile.ZipInfo("000000.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr(link, "/etc/passwd")
    assert "is a link" in _refused(tmp_path, path)
    many = {f"{i}.txt": b"" for i in range(1100)}
    assert "1100 entries" in _refused(tmp_path, _zip(path, many))
    masks = {f"{i:06d}.png": good for i in range(4)}
    assert "4 masks" in _refused(tmp_path, _zip(path, masks))
    both = {"0.png": good, "000000.png": good}
    assert "both for frame 0" in _refused(tmp_path, _zip(path, both))
    huge = {"9" * 200 + ".png": good}
    assert "is for frame 9999999999" in _refused(tmp_path, _zip(path, huge))


def test_bombs_do_not_go_off(tmp_path: Path) -> None:
    zeros = bytes(300_000_000)
    bomb = _zip(
        tmp_path / "a.zip", {"000000.png": zeros}, compression=zipfile.ZIP_DEFLATED, compresslevel=1
    )
    del zeros
    tracemalloc.start()
    assert "beyond measure" in _refused(tmp_path, bomb) or "too large" in _refused(tmp_path, bomb)
    # what the zip says of itself may be a lie
    data = bytearray(bomb.read_bytes())
    directory = data.find(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (1000).to_bytes(4, "little")
    bomb.write_bytes(bytes(data))
    _refused(tmp_path, bomb)
    # a picture whose header claims another size is refused before its pixels are unpacked
    image = Image.new("L", (9000, 9000))
    out = io.BytesIO()
    image.save(out, "PNG")
    image.close()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    picture = _zip(tmp_path / "b.zip", {"000000.png": out.getvalue()})
    assert "9000x9000, the clip is 10x8" in _refused(tmp_path, picture) or "too large" in _refused(
        tmp_path, picture
    )
    assert tracemalloc.get_traced_memory()[1] - before < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("seed", range(3))
def test_damaged_zips_and_pictures_are_refused_or_taken(tmp_path: Path, seed: int) -> None:
    names = {f"{i:06d}.png": encode_labels(_mask(i + 1)) for i in range(3)}
    path = _zip(tmp_path / "a.zip", names, compression=zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    rng = np.random.default_rng(seed)
    refused = 0
    with MaskStore(tmp_path / "store") as store:
        for _ in range(150):
            data = bytearray(whole)
            for at in rng.integers(0, len(data), rng.integers(1, 6)):
                data[at] ^= int(rng.integers(1, 256))
            path.write_bytes(bytes(data))
            store.clear()
            try:
                store.take(path, 3, (8, 10))
            except InputError:
                refused += 1
    assert refused > 50


def test_a_folder_is_read_one_file_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / "000000.png").write_bytes(b"x" * 70_000)
    assert "too large" in _refused(tmp_path, folder)
    (folder / "000000.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    assert "not a picture" in _refused(tmp_path, folder)


@pytest.mark.parametrize("at", ["put", "close"])
def test_on_a_full_disk_it_is_one_sentence_and_the_masks_of_before_stay(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.ones((8, 8), np.uint8)
    store = MaskStore(tmp_path / "masks")
    store.put(0, labels, {1: 0.5})
    before = sorted(p.name for p in store.folder.iterdir())

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(VideoEncodeError, match="masks cannot be written: No space left"):
            store.put(0, 0 * labels) if at == "put" else store.close()
    assert sorted(p.name for p in store.folder.iterdir()) == before
    found = store.get(0)
    assert found is not None and np.array_equal(found, labels)
