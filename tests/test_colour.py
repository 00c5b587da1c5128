"""Red in is red out: matrix, range and channel order, through reader and writer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import clips
import cv2
import numpy as np
import pytest
from clips import Coding, Scene

from inpainterz.types import Image
from inpainterz.video.planes import (
    Orientation,
    composite,
    layout_of,
    orientation_of,
    plane_view,
    to_rgb,
    upright,
)
from inpainterz.video.reader import VideoReader
from inpainterz.video.writer import VideoWriter, WriteOptions

PURE = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "skin": (224, 172, 105),
}
MATRICES = {"unspecified": 2, "bt709": 1, "bt601": 6, "bt2020": 9}


class Flat(Scene):
    """Stripes of pure colour, 32 pixels wide."""

    def image(self, index: int) -> Image:
        return np.repeat(np.array([*PURE.values()], np.uint8), 32, axis=0)[None].repeat(64, 0)


FLAT = Flat(32 * len(PURE), 64, 3)


def stripes(image: Image) -> dict[str, np.ndarray]:
    """The mean of each stripe, its rims left out."""
    return {
        name: image[8:-8, 32 * i + 8 : 32 * i + 24].reshape(-1, 3).mean(0)
        for i, name in enumerate(PURE)
    }


def assert_pure(image: Image, tolerance: float) -> None:
    for name, colour in stripes(image).items():
        assert np.abs(colour - PURE[name]).max() <= tolerance, (name, colour)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_pure_colours_survive_reader_and_writer(
    tmp_path: Path, pix_fmt: str, matrix: str, full: bool
) -> None:
    code = MATRICES[matrix]
    coding = Coding(
        pix_fmt=pix_fmt, colours=(1 + full, code, code, code), options={"qp": "2"}, sound=None
    )
    clip = clips.make(tmp_path / "flat.mp4", FLAT, coding)
    video = VideoReader(clip.path)
    assert video.info.color_space == code and (video.info.color_range == 2) == full
    image = video.frame(1).image
    assert_pure(image, 4)

    # what the engine gives back is what comes out, and in the source's own codes
    for name in ("out.mp4", "out.mkv"):
        options = WriteOptions(codec="ffv1" if name == "out.mkv" else "h264", preset="ultrafast")
        with VideoWriter(tmp_path / name, video, options=options) as writer:
            for frame in video.frames():
                writer.write(replace(frame, image=FLAT.image(0)))
        result = VideoReader(tmp_path / name)
        assert result.info.color_space == code and (result.info.color_range == 2) == full
        assert_pure(result.frame(1).image, 6 if name == "out.mp4" else 3)
        was, now = next(video.natives()), next(result.natives())
        if name == "out.mkv":
            for index in range(3):
                a, b = plane_view(was, index), plane_view(now, index)
                middle = np.s_[a.shape[0] // 2, a.shape[1] // 14 :: a.shape[1] // 7]
                assert np.abs(a[middle].astype(int) - b[middle]).max() <= 3 * (
                    int(b.max()) // 256 + 1
                )


@pytest.mark.parametrize("codec", ["hevc", "vp9", "av1", "prores"])
def test_red_is_red_in_every_codec(tmp_path: Path, codec: str) -> None:
    video = VideoReader(clips.make(tmp_path / "a.mp4", FLAT, Coding(options={"qp": "2"})).path)
    target = tmp_path / ("out.mov" if codec == "prores" else "out.mp4")
    with VideoWriter(target, video, options=WriteOptions(codec, preset="ultrafast")) as writer:
        for frame in video.frames():
            writer.write(replace(frame, image=FLAT.image(0)))
    assert_pure(VideoReader(target).frame(1).image, 8)


@pytest.mark.parametrize("source", ["bgr0", "gray", "yuvj420p"])
@pytest.mark.parametrize("codec", ["h264", "prores", "ffv1"])
def test_sources_that_are_not_video_yuv(tmp_path: Path, source: str, codec: str) -> None:
    coding = Coding(codec="mjpeg" if "j" in source else "ffv1", pix_fmt=source, sound=None)
    video = VideoReader(clips.make(tmp_path / "a.mkv", FLAT, coding).path)
    was = stripes(video.frame(0).image)
    target = tmp_path / ("out.mov" if codec == "prores" else "out.mkv")
    with VideoWriter(target, video, options=WriteOptions(codec)) as writer:
        for frame in video.frames():
            writer.write(frame, np.zeros(video.size, np.bool_))
    for name, colour in stripes(VideoReader(target).frame(0).image).items():
        assert np.abs(colour - was[name]).max() <= 6, (name, colour, was[name])


def test_pictures_are_rgb(tmp_path: Path) -> None:
    video = VideoReader(clips.make(tmp_path / "a.mp4", FLAT, Coding(options={"qp": "2"})).path)
    with VideoWriter(f"{tmp_path / 'out'}/", video) as writer:
        for frame in video.frames():
            writer.write(replace(frame, image=FLAT.image(0)))
    assert_pure(cv2.imread(str(tmp_path / "out" / "000000.png"))[..., ::-1], 0)


@pytest.mark.parametrize(
    ("scene", "codec"),
    [(Scene(), "libx264"), (Scene(75, 49), "ffv1"), (Scene(1280, 720, 2), "libx264")],
    ids=["even", "odd", "hd"],
)
def test_an_untagged_file_looks_as_opencv_decodes_it(
    tmp_path: Path, scene: Scene, codec: str
) -> None:
    coding = Coding(codec=codec, sound=None, time_base=clips.Fraction(1, 1000))
    clip = clips.make(tmp_path / "a.mkv", scene, coding)
    capture = cv2.VideoCapture(str(clip.path))
    for frame in VideoReader(clip.path).frames():
        there, image = capture.read()
        assert there
        off = np.abs(image[..., ::-1].astype(int) - frame.image)
        assert off.max() <= (0 if codec == "libx264" else 30) and off.mean() < 1
    capture.release()


# --- planes -----------------------------------------------------------------------------------

FORMATS = [
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuv440p",
    "yuv444p",
    "yuv411p",
    "yuv410p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p12le",
    "yuva420p",
    "gray",
    "gray10le",
    "gbrp",
    "gbrp10le",
    "bgr0",
    "bgra",
    "rgb24",
]


def random_frame(name: str, width: int, height: int, seed: int = 0) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, name)
    rng = np.random.default_rng(seed)
    layout = layout_of(name)
    assert layout is not None
    for index in range(len(frame.planes)):
        view = plane_view(frame, index, layout.planes[0][2])
        view[:] = rng.integers(16, 236, view.shape) << (layout.bits - 8)
    return frame


def samples(frame: av.VideoFrame) -> list[np.ndarray]:
    layout = layout_of(frame.format.name)
    assert layout is not None
    step = layout.planes[0][2]
    return [plane_view(frame, i, step).copy() for i in range(len(frame.planes))]


@pytest.mark.parametrize("size", [(32, 24), (33, 25), (1, 1), (2, 1)], ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_compositing_changes_the_hole_and_nothing_else(name: str, size: tuple[int, int]) -> None:
    width, height = size
    frame = random_frame(name, width, height)
    before = samples(frame)
    hole = np.zeros((height, width), np.bool_)
    hole[height // 3 : height // 3 + 9, width // 3 : width // 3 + 11] = True
    image = np.full((height, width, 3), (200, 40, 60), np.uint8)
    composite(frame, image, hole)
    layout = layout_of(name)
    assert layout is not None
    for index, (was, now) in enumerate(zip(before, samples(frame), strict=True)):
        changed = was != now
        if layout.planes[0][2] > 1:
            changed = changed.reshape(height, width, -1).any(2)
        if changed.shape == hole.shape:
            assert not changed[~hole].any(), index
        else:
            cells = [-(-hole.shape[i] // changed.shape[i]) for i in (0, 1)]
            wide = changed.repeat(1 << layout.shift_y, 0).repeat(1 << layout.shift_x, 1)
            assert not wide[:height, :width][~hole].any(), (index, cells)
    deep = cv2.erode(hole.view(np.uint8), np.ones((9, 9), np.uint8)) > 0
    if name == "yuv410p":
        deep[:] = False  # sixteen pixels share a sample: the hole holds two
    if deep.any() and "gray" not in name:
        assert np.abs(to_rgb(frame)[deep].astype(int) - (200, 40, 60)).max() <= 40


@pytest.mark.parametrize("name", FORMATS)
def test_compositing_a_frame_into_itself_changes_next_to_nothing(name: str) -> None:
    frame = upright(clips.native(Scene().image(0), Coding()), Orientation(), name)
    before, layout = samples(frame), layout_of(name)
    assert layout is not None
    composite(frame, to_rgb(frame), np.ones((64, 96), np.bool_))
    if layout.alpha or layout.colours == "grey":
        before = before[:1] if layout.colours == "grey" else before[:3]
    for was, now in zip(before, samples(frame), strict=False):
        off = np.abs(was.astype(int) - now) / 2 ** (layout.bits - 8)
        assert np.quantile(off, 0.95) <= 4, (off.max(), off.mean())


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuva420p", "bgra", "rgb24", "gbrp10le"])
@pytest.mark.parametrize("turn", range(8))
def test_all_eight_orientations_move_samples_only(name: str, turn: int) -> None:
    orientation = Orientation(bool(turn & 4), bool(turn & 2), bool(turn & 1))
    frame = random_frame(name, 32, 24)
    layout = layout_of(name)
    assert layout is not None
    wide = layout.full_chroma if layout.is_subsampled else name
    target = wide if orientation.transpose else name
    result = upright(frame, orientation, target)
    step = layout.planes[0][2]
    luma = plane_view(frame, 0, step).reshape(24, 32, -1)
    there = plane_view(result, 0, step).reshape(result.height, result.width, -1)
    assert np.array_equal(orientation.apply(luma), there)
    assert (result.height, result.width) == orientation.apply(np.empty((24, 32))).shape


def test_display_matrices_are_read_as_they_are_written() -> None:
    for degrees in (0, 90, 180, 270):
        matrix = clips.matrix_of(degrees)
        assert Orientation.of_matrix(matrix).rotation == degrees
    slanted = [46341, 46000, 0, -46000, 46341, 0, 0, 0, 1 << 30]  # 45 degrees, a little less
    assert Orientation.of_matrix(slanted).is_identity
    assert orientation_of(av.VideoFrame(8, 8, "yuv420p")).is_identity
