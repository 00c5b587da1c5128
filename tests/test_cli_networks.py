"""The networks through the command line, with deterministic weights placed like the published."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import Clip, Coding, Scene, make
from parity import deaot_fixtures, e2fgvi_fixtures
from PIL import Image

from inpainterz.cli import main
from inpainterz.masks import encode_labels
from inpainterz.video.reader import VideoReader

SCENE = Scene(width=97, height=63, frames=8)
"""An odd size: nothing of it fits a network's grid."""
PARITY = Path(__file__).parent / "parity"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for variant, file in (
        ("deaott", "DeAOTT_PRE_YTB_DAV.pth"),
        ("r50_deaotl", "R50_DeAOTL_PRE_YTB_DAV.pth"),
    ):
        golden = deaot_fixtures.Golden(PARITY / f"deaot_{variant}_golden.npz")
        torch.save({"state_dict": golden.state_dict(variant)}, folder / file)
    torch.save(e2fgvi_fixtures.state_dict("e2fgvi_hq"), folder / "E2FGVI-HQ-CVPR22.pth")
    return folder


@pytest.fixture
def run(
    weights_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setenv("INPAINTERZ_WEIGHTS", str(weights_folder))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inpainterz", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return make(tmp_path_factory.mktemp("clip") / "clip.mkv", SCENE, Coding("ffv1", pix_fmt="bgr0"))


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    for i in range(SCENE.frames):
        (folder / f"{i:05d}.png").write_bytes(encode_labels(SCENE.mask(i).astype(np.uint8)))
    return folder


@pytest.mark.parametrize("tracker", ["deaot", "deaot-t"])
def test_track_with_deaot(run: Run, clip: Clip, masks: Path, tmp_path: Path, tracker: str) -> None:
    target = tmp_path / "masks.zip"
    code, out, err = run(
        "track", clip.path, "--mask", masks / "00000.png", "--tracker", tracker, "-o", target,
        "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    facts = json.loads(out)
    assert facts["frames"] == SCENE.frames
    for confidence in facts["confidence"].values():
        assert set(confidence) == {"1"}
        assert 0 <= confidence["1"] <= 1
    with zipfile.ZipFile(target) as archive:
        maps = [n for n in sorted(archive.namelist()) if n.endswith(".png")]
        found = [np.asarray(Image.open(io.BytesIO(archive.read(n)))) for n in maps]
    assert len(found) == SCENE.frames
    assert all(f.shape == (SCENE.height, SCENE.width) for f in found)
    assert np.array_equal(found[0] > 0, SCENE.mask(0))


def images(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as video:
        return [frame.image for frame in video.frames(0)]


@pytest.mark.parametrize("alone", [False, True], ids=["hybrid", "no-hybrid"])
def test_inpaint_with_e2fgvi(
    run: Run, clip: Clip, masks: Path, tmp_path: Path, alone: bool
) -> None:
    target = tmp_path / "clean.mkv"
    code, out, err = run(
        "inpaint", clip.path, "--masks", masks, "--inpainter", "e2fgvi-hq", "-o", target,
        "--codec", "ffv1", "--device", "cpu", "--json", *(["--no-hybrid"] if alone else []),
    )  # fmt: skip
    assert code == 0, err
    report: dict[str, Any] = json.loads(out)
    hole = sum(int(SCENE.mask(i).sum()) for i in range(SCENE.frames))
    assert report["hole_px"] == hole
    assert report["seen_px"] + report["invented_px"] == hole
    assert (report["seen_px"] == 0) is alone
    assert report["engines"]["inpaint"] == "e2fgvi-hq"
    for i, (before, after) in enumerate(zip(images(clip.path), images(target), strict=True)):
        assert np.array_equal(before[~SCENE.mask(i)], after[~SCENE.mask(i)])
        assert not np.array_equal(before, after)


@pytest.mark.parametrize("command", ["remove", "inpaint"])
def test_no_hybrid_needs_a_network(
    run: Run, clip: Clip, masks: Path, tmp_path: Path, command: str
) -> None:
    given = ["--masks", masks] if command == "inpaint" else ["--mask", masks / "00000.png"]
    code, _, err = run(command, clip.path, *given, "--no-hybrid", "-o", tmp_path / "o.mkv")
    assert code == 2
    assert "--no-hybrid is for networks, and the engine that fills is builtin" in err
    assert "e2fgvi-hq" in err
    assert list(tmp_path.iterdir()) == []
