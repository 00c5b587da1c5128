"""The command line in process, once as a subprocess; bad input is one sentence and exit code 2."""

from __future__ import annotations

import errno
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from clips import Clip, Scene, cut_short, make, packets
from command import Run
from PIL import Image

from inpainterz.masks import encode_labels
from inpainterz.video.reader import VideoReader

SCENE = Scene(width=128, height=96, frames=12)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return make(tmp_path_factory.mktemp("cli") / "a clip; it's \U0001f6b2.mp4", SCENE)


@pytest.fixture(scope="module")
def middle() -> str:
    ys, xs = np.nonzero(SCENE.mask(0))
    return f"{int(xs.mean())},{int(ys.mean())}"


def _mask_png(tmp_path: Path, index: int = 0) -> Path:
    path = tmp_path / "mask.png"
    path.write_bytes(encode_labels(SCENE.mask(index).astype(np.uint8)))
    return path


def test_remove_from_one_click(run: Run, clip: Clip, middle: str, tmp_path: Path) -> None:
    target, masks, sheet = (tmp_path / n for n in ("out.mp4", "masks.zip", "sheet.png"))
    answer = run(
        *("remove", clip.path, "--click", middle, "-o", target),
        *("--save-masks", masks, "--sheet", sheet, "--json"),
    )
    assert answer.code == 0, answer.err
    report = answer.report
    assert report["frames"] == 12
    assert report["engines"] == {"segment": "builtin", "track": "builtin", "inpaint": "builtin"}
    assert report["hole_px"] == report["seen_px"] + report["invented_px"]  # type: ignore[operator]
    with zipfile.ZipFile(masks) as bundle:
        assert bundle.namelist() == [f"{i:06d}.png" for i in range(12)]
    with Image.open(sheet) as picture:
        assert picture.width == 1500
    with VideoReader(clip.path) as before, VideoReader(target) as after:
        assert list(after.pts) == list(before.pts)
        assert after.size == before.size
        for frame in after.frames():
            mask = SCENE.mask(frame.index)
            error = np.square(
                frame.image[mask].astype(float) - SCENE.plate(frame.index)[mask].astype(float)
            ).mean()
            assert 10 * np.log10(255**2 / error) > 22, frame.index
    (sound,) = packets(target, "audio")
    assert sound.data == packets(clip.path, "audio")[0].data


def test_segment_then_track_then_inpaint(run: Run, clip: Clip, middle: str, tmp_path: Path) -> None:
    mask, masks, clean = tmp_path / "mask.png", tmp_path / "masks.zip", tmp_path / "clean.mkv"
    answer = run("segment", clip.path, "--click", f"{middle}@0", "-o", mask, "--json")
    assert answer.code == 0, answer.err
    found = np.array(Image.open(mask)) > 0
    truth = SCENE.mask(0)
    assert (found & truth).sum() / (found | truth).sum() > 0.6
    answer = run("track", clip.path, "--mask", f"{mask}@0", "-o", masks, "--json")
    assert answer.code == 0, answer.err
    assert len(answer.report["confidence"]) == 12  # type: ignore[arg-type]
    answer = run("inpaint", clip.path, "--masks", masks, "-o", clean, "--codec", "ffv1", "--json")
    assert answer.code == 0, answer.err
    with (
        VideoReader(clip.path) as before,
        VideoReader(clean) as after,
        zipfile.ZipFile(masks) as bundle,
    ):
        for one, other in zip(before.frames(), after.frames(), strict=True):
            hole = np.array(Image.open(io.BytesIO(bundle.read(f"{one.index:06d}.png")))) > 0
            assert np.array_equal(one.image[~hole], other.image[~hole])


def test_two_objects_and_a_mask_later_on(run: Run, clip: Clip, tmp_path: Path) -> None:
    ys, xs = np.nonzero(SCENE.mask(6))
    box = f"{xs.min()},{ys.min()},{xs.max() + 1},{ys.max() + 1}@6#2"
    answer = run(
        *("remove", clip.path, "--mask", f"{_mask_png(tmp_path)}@0", "--box", box),
        *("-o", f"{tmp_path}/frames/", "--grow", "2", "--json"),
    )
    assert answer.code == 0, answer.err
    assert answer.report["objects"] == [1, 2]
    assert sorted(p.name for p in (tmp_path / "frames").iterdir())[-1] == "000011.png"


def test_the_file_s_options_reach_the_writer(run: Run, clip: Clip, tmp_path: Path) -> None:
    target, masks = tmp_path / "out.mp4", tmp_path / "masks"
    masks.mkdir()
    (masks / "000003.png").write_bytes(encode_labels(SCENE.mask(3).astype(np.uint8)))
    names = {kind: tmp_path / f"{kind}.mkv" for kind in ("overlay", "compare", "mask-video")}
    names |= {"coco": tmp_path / "c.json", "masks": tmp_path / "m.zip"}
    extra = [word for kind, path in names.items() for word in ("--also", f"{kind}={path}")]
    command = ("inpaint", clip.path, "--masks", masks, "-o", target, "--measure")
    answer = run(*command, "--preset", "ultrafast", "--crf", "10", *extra, "--json")
    assert answer.code == 0, answer.err
    written = answer.report["written"]
    assert isinstance(written, dict)
    assert written["codec"] == "h264" and written["fidelity"]["psnr_db"] > 35
    assert written["not_copied"] is None and 2 <= written["copied_frames"] <= 3
    assert answer.report["also"] == {kind: str(path) for kind, path in names.items()}
    for kind, path in names.items():
        if path.suffix == ".mkv":
            with VideoReader(path) as made:
                assert len(made) == 12, kind
    assert len(json.loads(names["coco"].read_text("utf-8"))["annotations"]) == 1
    options = ("--pix-fmt", "yuv444p", "--no-smart-copy", "--keep-location", "--overwrite")
    answer = run(*command, *options, "--limit", "frames=12", "--limit", "damaged-frames=0")
    assert answer.code == 0, answer.err
    assert "outside the holes:" in answer.out
    with VideoReader(target) as made:
        assert made.info.pix_fmt == "yuv444p"


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--limit", "frames=11", "12 frames, and 11 are allowed"),
        ("--limit", "pixels=100", "pixels"),
        ("--limit", "colours=3", "names: pixels"),
        ("--limit", "frames=many", "cannot be read"),
        ("--limit", "frames=0", "more than 0"),
        ("--also", "overlay", "KIND=PATH|overlay=overlay.mp4"),
        ("--also", "poster=a.png", "no output 'poster'"),
        ("--also", "layer=/tmp/none.mp4", "transparency"),
        ("--preset", "warp", "unknown preset"),
        ("--pix-fmt", "nv12", "pixel format"),
    ],
)
def test_wrong_file_options_are_one_sentence(
    run: Run, clip: Clip, tmp_path: Path, option: str, value: str, says: str
) -> None:
    answer = run(
        *("inpaint", clip.path, "--masks", _mask_png(tmp_path), "-o", tmp_path / "out.mp4"),
        *(option, value),
    )
    assert answer.code == 2 and answer.err.count("error:") == 1, answer.err
    assert re.search(says, answer.err), answer.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask.png"]


def test_info_and_engines(run: Run, clip: Clip) -> None:
    facts = run("info", clip.path, "--json").report
    assert (facts["width"], facts["height"], facts["frames"], facts["fps"]) == (128, 96, 12, 25)
    assert facts["shots"] == 1
    assert [s["kind"] for s in facts["streams"]] == ["video", "audio"]  # type: ignore[attr-defined]
    assert "128x96" in run("info", clip.path).out
    rows = run("engines", "--json").report["engines"]
    assert {r["stage"] for r in rows if r["name"] == "builtin"} == {  # type: ignore[attr-defined]
        "segment",
        "track",
        "inpaint",
        "detect",
    }
    assert "builtin" in run("engines").out


def test_subprocess_help_and_error() -> None:
    ask = [sys.executable, "-m", "inpainterz"]
    helped = subprocess.run([*ask, "remove", "--help"], capture_output=True, text=True, check=True)
    assert "--save-masks" in helped.stdout
    failed = subprocess.run(
        [*ask, "info", "nowhere.mp4"], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: ")
    assert len(failed.stderr.strip().splitlines()) == 1


# ---------------------------------------------------------------- bad input


def _bad(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    if name == "text.mp4":
        path.write_text("not a video at all\n" * 50)
    elif name == "empty.mp4":
        path.touch()
    elif name == "sound.mp4":
        import av

        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", 44100)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 44100
            out.mux(stream.encode(frame))
            out.mux(stream.encode())
    elif name == "truncated.mp4" or name == "truncated.mkv":
        cut_short(make(path, SCENE).path)
    return path


@pytest.mark.parametrize(
    "name",
    ["text.mp4", "empty.mp4", "sound.mp4", "truncated.mp4", "truncated.mkv", "missing.mp4", "."],
)
def test_a_clip_that_is_none(run: Run, tmp_path: Path, name: str) -> None:
    target = tmp_path / "out.mp4"
    answer = run("remove", _bad(tmp_path, name), "--click", "5,5", "-o", target)
    assert answer.code == 2, answer.err
    assert answer.err.startswith("error: ") or "\nerror: " in answer.err
    assert answer.out == ""
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--click", "500,5"], "(500, 5) is outside the frame"),
        (["--click", "5,5@12"], "there is no frame 12"),
        (["--click", "5"], "'5' cannot be read"),
        (["--click", "nan,5"], "outside the frame"),
        (["--not", "5,5"], "no click on the object"),
        (["--box", "9,9,5,5"], "does not fit the frame"),
        (["--click", "5,5", "--inpainter", "magic"], "no inpaint engine called 'magic'"),
        (["--click", "5,5", "--grow", "many"], "--grow 'many'"),
        (["--click", "5,5", "--codec", "mjpeg"], "codec"),
        (["--click", "5,5", "--crf", "99"], "crf"),
        (["--click", "5,5", "--device", "tpu"], "no device called 'tpu'"),
        ([], "nothing says what to remove"),
        (["--mask", "nowhere.png"], "nowhere.png cannot be read"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_arguments_that_do_not_fit(
    run: Run, clip: Clip, tmp_path: Path, arguments: list[str], says: str
) -> None:
    target = tmp_path / "out.mp4"
    answer = run("remove", clip.path, "-o", target, *arguments)
    assert answer.code == 2, answer.err
    assert says in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "says"), [((8, 8), "is 8x8"), ((96, 128), "is empty")])
def test_masks_that_do_not_fit(
    run: Run, clip: Clip, tmp_path: Path, size: tuple[int, int], says: str
) -> None:
    mask = tmp_path / "mask.png"
    mask.write_bytes(encode_labels(np.zeros(size, np.uint8)))
    answer = run("remove", clip.path, "--mask", mask, "-o", tmp_path / "out.mp4")
    assert answer.code == 2
    assert says in answer.err
    answer = run("inpaint", clip.path, "--masks", mask, "-o", tmp_path / "out.mp4")
    assert answer.code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["mask.png"]


def test_targets_that_cannot_be(run: Run, clip: Clip, tmp_path: Path) -> None:
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"mine")
    for target, says in (
        (taken, "taken.mp4"),
        (clip.path, "source"),
        (tmp_path / "no" / "folder.mp4", "folder"),
        (tmp_path / "out.txt", "out.txt"),
    ):
        answer = run("remove", clip.path, "--click", "40,48", "-o", target)
        assert answer.code == 2, (target, answer.err)
        assert says in answer.err
    assert taken.read_bytes() == b"mine"
    answer = run("remove", clip.path, "--click", "40,48", "-o", clip.path, "--overwrite")
    assert answer.code == 2
    answer = run(
        "remove", clip.path, "--click", "40,48", "-o", tmp_path / "o.mp4", "--save-masks", taken
    )
    assert answer.code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["taken.mp4"]


def test_an_engine_without_weights_names_the_command(
    run: Run, clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inpainterz import engines, weights

    monkeypatch.setattr(weights, "folders", lambda *_: [])
    names = [e.name for e in engines.ENGINES if e.stage == "segment" and e.weights]
    assert names
    answer = run(
        "remove", clip.path, "--click", "5,5", "-o", tmp_path / "o.mp4", "--segmenter", names[0]
    )
    assert answer.code == 2
    assert "inpainterz weights fetch" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    run: Run, clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    answer = run("remove", clip.path, "--click", "14,48", "-o", tmp_path / "o.mp4")
    assert answer.code == 2
    assert "the disk is full" in answer.err
    assert list(tmp_path.iterdir()) == []
