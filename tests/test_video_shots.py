"""Cuts: found where they are, and nowhere else; marked in either direction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import clips
import numpy as np
import pytest
from clips import Coding, Scene

from inpainterz.errors import OptionError
from inpainterz.types import Frame, Image
from inpainterz.video.reader import VideoReader
from inpainterz.video.shots import CutOptions, find_cuts, mark, shot_of


def cuts_of(folder: Path, scene: Scene) -> tuple[int, ...]:
    return find_cuts(VideoReader(clips.make(folder / "clip.mp4", scene, Coding(sound=None)).path))


@pytest.mark.parametrize("size", [(96, 64), (480, 270), (75, 49)], ids=str)
def test_cuts_are_found_where_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    scene = Scene(width - width % 2, height - height % 2, 60, cuts=(17, 38))
    assert cuts_of(tmp_path, scene) == (17, 38)


def test_a_moving_object_is_not_a_cut(tmp_path: Path) -> None:
    assert cuts_of(tmp_path, Scene(frames=40)) == ()


class Pan(Scene):
    """The whole picture slides quickly."""

    def image(self, index: int) -> Image:
        return np.roll(self.plate(0), 4 * index, axis=1)


class Flash(Scene):
    """One frame is overexposed."""

    def image(self, index: int) -> Image:
        image = super().image(index)
        return np.full_like(image, 255) if index == 20 else image


def test_a_pan_is_not_a_cut(tmp_path: Path) -> None:
    assert cuts_of(tmp_path, Pan(frames=40)) == ()


def test_a_flash_is_not_two_cuts(tmp_path: Path) -> None:
    assert len(cuts_of(tmp_path, Flash(frames=40))) <= 1


def test_a_clip_of_one_frame_has_no_cut(tmp_path: Path) -> None:
    assert cuts_of(tmp_path, Scene(frames=1)) == ()


def test_frames_that_somebody_decodes_already_will_do(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", Scene(frames=40, cuts=(20,)), Coding(sound=None))
    video = VideoReader(clip.path)
    seen: list[int] = []

    def watched() -> object:
        for frame in video.frames():
            seen.append(frame.index)
            yield frame

    assert find_cuts(video, frames=watched()) == (20,)  # type: ignore[arg-type]
    assert seen == list(range(40))


@pytest.mark.parametrize(("start", "found"), [(4, (20,)), (20, ()), (30, ())])
def test_where_reading_begins_is_no_cut(tmp_path: Path, start: int, found: tuple[int, ...]) -> None:
    clip = clips.make(tmp_path / "a.mp4", Scene(frames=40, cuts=(20,)), Coding(sound=None))
    with VideoReader(clip.path) as video:
        assert find_cuts(video, frames=video.frames(start)) == found


def test_marks_in_either_direction(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", Scene(frames=12), Coding(sound=None))
    video = VideoReader(clip.path)
    truth = [0] * 4 + [1] * 5 + [2] * 3
    assert [f.shot for f in mark(video.frames(), (4, 9))] == truth
    assert [f.shot for f in mark(video.backwards(), (4, 9))] == truth[::-1]
    assert [shot_of(i, (4, 9)) for i in range(12)] == truth
    frame = Frame(np.zeros((2, 2, 3), np.uint8), 3, 0, video.time_base)
    assert next(mark([frame], (4, 9))) is frame
    assert [f.shot for f in mark(video.frames(), ())] == [0] * 12


@pytest.mark.parametrize("bad", [{"ratio": 0.5}, {"min_change": 300.0}, {"min_shot_frames": 0}])
def test_options_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        CutOptions(**bad)  # type: ignore[arg-type]


def test_looking_for_cuts_loads_no_network() -> None:
    code = (
        "import sys, inpainterz.video.shots; assert 'scenedetect' not in sys.modules;"
        "from scenedetect.detectors import AdaptiveDetector;"
        "print([m for m in ('torch', 'gradio') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
