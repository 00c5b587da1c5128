"""What a decoded frame is made of: native planes, their orientation and their colour.

The writer keeps the source's own planes and changes only the samples that lie in the hole, so that
a pixel that nobody touched never makes the trip YUV -> RGB -> YUV. This file knows how: the eight
orientations of a display matrix, the luma and chroma planes of a frame as arrays, and the matrix
that takes RGB to them.

Sources: ITU-T H.273 (the code points of matrix and range), Rec. ITU-R BT.601-7, BT.709-6,
BT.2020-2 (the coefficients), ISO/IEC 14496-12 8.5.2 and libavutil/display.h (the display matrix).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import av
import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.types import Image, Mask

Plane: TypeAlias = npt.NDArray[Any]
"""(h, w) uint8 or uint16, a view of one plane of a native frame."""

UNSPECIFIED = 2
"""H.273: nobody says which matrix, primaries or transfer it is."""

_LUMA_WEIGHTS = {  # H.273 table 4, MatrixCoefficients -> (Kr, Kb)
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470BG
    6: (0.299, 0.114),  # BT.601
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
_BT601 = (0.299, 0.114)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels become upright ones: transpose first, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def is_identity(self) -> bool:
        """Whether stored pixels are upright already."""
        return not (self.transpose or self.flip_x or self.flip_y)

    @property
    def rotation(self) -> int:
        """Degrees clockwise that stored pixels are turned by, 0, 90, 180 or 270.

        A mirrored picture counts as turned by what remains when the mirror is taken away.
        """
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn (H, W, ...) stored samples upright; a view, nothing is copied."""
        if self.transpose:
            array = array.swapaxes(0, 1)
        if self.flip_y:
            array = array[::-1]
        if self.flip_x:
            array = array[:, ::-1]
        return array

    @staticmethod
    def of_matrix(matrix: Sequence[int] | npt.NDArray[np.int32]) -> Orientation:
        """Read the nine numbers of a display matrix.

        A matrix that turns by something other than a right angle gives the nearest one: frames
        have edges, and nothing is resampled here.
        """
        a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        # a stored point (x, y) is shown at (a x + c y, b x + d y), y pointing down
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return Orientation(flip_x=a < 0, flip_y=d < 0)
        return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)

    def revert(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn (H, W, ...) upright samples back as they are stored; a view."""
        if self.flip_x:
            array = array[:, ::-1]
        if self.flip_y:
            array = array[::-1]
        if self.transpose:
            array = array.swapaxes(0, 1)
        return array


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation that a frame's display matrix asks for; identity without one."""
    matrix = matrix_of(frame)
    return Orientation.of_matrix(matrix) if matrix else Orientation()


def side_data_of(frame: av.VideoFrame) -> frozenset[str]:
    """The kinds of side data that a frame carries: FFmpeg's AV_FRAME_DATA names, unprefixed."""
    side_data: Any = frame.side_data
    return frozenset(data.type.name for data in side_data)


def matrix_of(frame: av.VideoFrame) -> tuple[int, ...]:
    """A frame's display matrix as nine numbers; empty without one."""
    side_data: Any = frame.side_data  # PyAV's stubs list one of its keys only
    try:
        matrix = side_data["DISPLAYMATRIX"]
    except KeyError:
        return ()
    return tuple(int(n) for n in np.frombuffer(bytes(matrix), "<i4")[:9])


def is_full_range(frame: av.VideoFrame) -> bool:
    """Whether luma runs 0..255 (JPEG) and not 16..235; what nobody says is 16..235.

    Grey alone is always 0..255: swscale, and so OpenCV, takes it so, whatever the file says.
    """
    return frame.color_range == 2 or frame.format.name.startswith(("yuvj", "gray"))


def to_rgb(frame: av.VideoFrame) -> Image:
    """Convert a native frame to (H, W, 3) uint8 RGB, in stored orientation.

    The frame's own matrix and range are used. Where the file does not say, the matrix is BT.601 at
    every size: that is what FFmpeg's swscale, and with it OpenCV and most tools that make untagged
    files, take. Chroma is not interpolated between samples (again as in OpenCV), so that a pixel
    depends on its own luma and its own chroma sample only.
    """
    return np.ascontiguousarray(_reformat(frame, "rgb24", full=True).to_ndarray())


def _reformat(frame: av.VideoFrame, name: str, *, full: bool) -> av.VideoFrame:
    """Convert with the frame's own matrix into format `name`, its range 0..255 where `full`."""
    colorspace = frame.colorspace if frame.colorspace in _LUMA_WEIGHTS else 5
    primaries, transfer = frame.color_primaries, frame.color_trc
    # only the matrix and the range are converted; newer swscales refuse some of the other tags
    frame.color_primaries = frame.color_trc = UNSPECIFIED
    try:
        result = frame.reformat(
            format=name,
            src_colorspace=colorspace,
            dst_colorspace=colorspace,
            src_color_range=2 if is_full_range(frame) else 1,
            dst_color_range=2 if full else 1,
            # of several threads one writes beyond the end of its last row, onto the next one's
            # first, where the width is no multiple of 16: seen with 8 bits becoming 10
            threads=1,
        )
    finally:
        frame.color_primaries, frame.color_trc = primaries, transfer
    return result


@dataclass(frozen=True, slots=True)
class Layout:
    """What the compositor needs to know of a pixel format.

    `planes` gives, for each of Y Cb Cr or R G B (one entry for grey), the plane it is in, its
    offset and its step in samples; `shift_x`, `shift_y` are log2 of how many pixels share a chroma
    sample.
    """

    name: str
    bits: int
    colours: str  # "yuv", "rgb" or "grey"
    planes: tuple[tuple[int, int, int], ...]
    shift_x: int = 0
    shift_y: int = 0
    alpha: bool = False

    @property
    def is_subsampled(self) -> bool:
        """Whether pixels share chroma samples."""
        return bool(self.shift_x or self.shift_y)

    @property
    def full_chroma(self) -> str:
        """The name of the format with a chroma sample for every pixel and all else the same."""
        start = "yuva444p" if self.alpha else "yuvj444p" if "yuvj" in self.name else "yuv444p"
        return start + (f"{self.bits}le" if self.bits > 8 else "")


_PACKED = {  # 8 bits, one plane: where R, G and B are, and the step
    "rgb24": (0, 1, 2, 3),
    "bgr24": (2, 1, 0, 3),
    "rgba": (0, 1, 2, 4),
    "rgb0": (0, 1, 2, 4),
    "bgra": (2, 1, 0, 4),
    "bgr0": (2, 1, 0, 4),
}


def layout_of(name: str) -> Layout | None:
    """The layout of pixel format `name`; None if the compositor cannot work in it."""
    if name in _PACKED:
        *offsets, step = _PACKED[name]
        planes = tuple((0, offset, step) for offset in offsets)
        return Layout(name, 8, "rgb", planes, alpha=name.endswith("a"))
    try:
        pixel_format = av.VideoFormat(name, 64, 64)
    except ValueError:
        return None
    parts = pixel_format.components
    bits = parts[0].bits
    if pixel_format.is_big_endian or not 8 <= bits <= 16 or name.endswith(("f16le", "f32le")):
        return None
    if name.startswith("gray"):
        return Layout(name, bits, "grey", ((0, 0, 1),))
    if name.startswith("gbr") and pixel_format.is_planar:
        planes = ((2, 0, 1), (0, 0, 1), (1, 0, 1))
        return Layout(name, bits, "rgb", planes, alpha=name.startswith("gbrap"))
    if (
        name.startswith("yuv")
        and pixel_format.is_planar
        and [p.plane for p in parts[:3]] == [0, 1, 2]
    ):
        chroma = parts[1]
        return Layout(
            name,
            bits,
            "yuv",
            ((0, 0, 1), (1, 0, 1), (2, 0, 1)),
            (64 // chroma.width).bit_length() - 1,
            (64 // chroma.height).bit_length() - 1,
            alpha=name.startswith("yuva"),
        )
    return None


def plane_view(frame: av.VideoFrame, index: int, step: int = 1) -> Plane:
    """Plane `index` of a native frame as a (h, w * step) array that writes through."""
    plane = frame.planes[index]
    wide = frame.format.components[0].bits > 8
    dtype: npt.DTypeLike = np.dtype("<u2") if wide else np.dtype(np.uint8)
    samples = np.frombuffer(plane, dtype)  # type: ignore[call-overload]
    stride = abs(plane.line_size) // (2 if wide else 1)
    view: Plane = samples[: plane.height * stride].reshape(plane.height, stride)
    if plane.line_size < 0:
        view = view[::-1]
    return view[:, : plane.width * step]


def _rgb_to_yuv(frame: av.VideoFrame, bits: int) -> npt.NDArray[np.float32]:
    """The (3, 4) matrix from 8-bit RGB and 1 to the Y, Cb, Cr codes of `frame`."""
    kr, kb = _LUMA_WEIGHTS.get(frame.colorspace, _BT601)
    kg = 1 - kr - kb
    luma = np.array([kr, kg, kb])
    rows = np.stack(
        [
            luma,
            (np.array([0, 0, 1]) - luma) / (2 * (1 - kb)),
            (np.array([1, 0, 0]) - luma) / (2 * (1 - kr)),
        ]
    )
    if is_full_range(frame):
        top = 2**bits - 1
        scale, offset = np.array([top, top, top]), np.array([0, 2 ** (bits - 1), 2 ** (bits - 1)])
    else:
        unit = 2 ** (bits - 8)
        scale, offset = np.array([219, 224, 224]) * unit, np.array([16, 128, 128]) * unit
    matrix = np.concatenate([rows * scale[:, None] / 255, offset[:, None]], axis=1)
    return matrix.astype(np.float32)


def _codes(values: npt.NDArray[np.float32], bits: int) -> npt.NDArray[Any]:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.clip(np.rint(values), 0, 2**bits - 1).astype(dtype)


def composite(frame: av.VideoFrame, image: Image, hole: Mask, *, chroma_margin: int = 0) -> None:
    """Put `image` into `hole` of an upright native frame, in place.

    Luma changes exactly in the hole. A chroma sample changes only where all the pixels that share
    it are in the hole: the ones that straddle the rim keep the source's colour, which is the
    background's when the hole was grown by a pixel or more, and no pixel outside the hole changes
    for anybody who decodes the result without interpolating chroma. Alpha is left alone.

    Args:
        frame: in a format that `layout_of` knows; made writable first.
        image: (H, W, 3) uint8 RGB, of the frame's size.
        hole: (H, W) bool.
        chroma_margin: how many more chroma samples from the rim keep the source's colour, so that
            nothing changes outside for those who interpolate over that many.
    """
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    if not len(rows):
        return
    layout = layout_of(frame.format.name)
    assert layout is not None, frame.format.name
    cell_x, cell_y = 1 << layout.shift_x, 1 << layout.shift_y
    top, left = int(rows[0]) // cell_y * cell_y, int(columns[0]) // cell_x * cell_x
    part = np.s_[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    inside = hole[part]
    frame.make_writable()

    if layout.colours == "rgb":
        for channel, (plane, offset, step) in enumerate(layout.planes):
            samples = plane_view(frame, plane, step)[:, offset::step][part]
            values = image[part][..., channel]
            if layout.bits > 8:  # 255 becomes the top code
                scaled = values.astype(np.float32) * np.float32((2**layout.bits - 1) / 255)
                values = _codes(scaled, layout.bits)
            samples[inside] = values[inside]
        return

    matrix = _rgb_to_yuv(frame, layout.bits)
    yuv = cv2.transform(np.ascontiguousarray(image[part]).astype(np.float32), matrix)
    luma = plane_view(frame, 0)[part]
    luma[inside] = _codes(yuv[..., 0], layout.bits)[inside]
    if layout.colours == "grey":
        return

    means = _cells(yuv, cell_y, cell_x).mean((1, 3))
    y0, x0 = top // cell_y, left // cell_x
    cells = np.s_[y0 : y0 + means.shape[0], x0 : x0 + means.shape[1]]
    whole: Mask = np.asarray(_cells(hole, cell_y, cell_x).all((1, 3)))
    if chroma_margin:
        kernel = np.ones((2 * chroma_margin + 1,) * 2, np.uint8)
        whole = np.asarray(cv2.erode(whole.view(np.uint8), kernel, borderValue=1) > 0)
    whole = whole[cells]
    for channel in (1, 2):
        samples = plane_view(frame, channel)[cells]
        samples[whole] = _codes(means[..., channel], layout.bits)[whole]


def _cells(array: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Group (H, W, ...) pixels by the chroma sample they share.

    Gives (rows, height, columns, width, ...), of height x width pixels a sample. A cell that hangs
    over the edge repeats the pixels that are there.
    """
    pads = [(0, -array.shape[0] % height), (0, -array.shape[1] % width)]
    if any(after for _, after in pads):
        array = np.pad(array, [*pads, *[(0, 0)] * (array.ndim - 2)], mode="edge")
    rows, columns = array.shape[0] // height, array.shape[1] // width
    return array.reshape(rows, height, columns, width, *array.shape[2:])


def copy_times_and_colours(source: av.VideoFrame, target: av.VideoFrame) -> None:
    """Give `target` the presentation time and the colour tags of `source`."""
    target.pts = source.pts
    if source.time_base is not None:
        target.time_base = source.time_base
    target.colorspace = source.colorspace
    target.color_range = 2 if is_full_range(source) else source.color_range
    target.color_primaries = source.color_primaries
    target.color_trc = source.color_trc


def copy_of(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame of its own memory with the same samples, time and tags, in any pixel format."""
    result = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for source, target in zip(frame.planes, result.planes, strict=True):
        was = np.frombuffer(source, np.uint8)  # type: ignore[call-overload]
        now = np.frombuffer(target, np.uint8)  # type: ignore[call-overload]
        if source.line_size == target.line_size or source.line_size == 0:
            now[: min(len(was), len(now))] = was[: min(len(was), len(now))]
            continue
        stride = abs(source.line_size)
        rows = was[: source.height * stride].reshape(source.height, stride)
        if source.line_size < 0:
            rows = rows[::-1]
        view = now[: target.height * target.line_size].reshape(target.height, target.line_size)
        width = min(stride, target.line_size)
        view[:, :width] = rows[:, :width]
    copy_times_and_colours(frame, result)
    return result


_PLANAR_TWINS = {  # the same samples in another order; every one is known to `layout_of`
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
    "pal8": "bgra",
    "monob": "gray",
    "monow": "gray",
    "ya8": "gray",
    "rgb48le": "gbrp16le",
    "rgb48be": "gbrp16le",
    "rgba64le": "gbrap16le",
    "rgba64be": "gbrap16le",
    "argb": "bgra",
    "abgr": "bgra",
    "0rgb": "bgr0",
    "0bgr": "bgr0",
}


def workable(name: str) -> Layout:
    """The format that frames of pixel format `name` are worked on in: itself where it is known."""
    layout = layout_of(name)
    if layout is None and name.endswith("be"):
        layout = layout_of(name[:-2] + "le")
    if layout is None:
        layout = layout_of(_PLANAR_TWINS.get(name, "yuv444p"))
    assert layout is not None
    return layout


def needs_full_chroma(layout: Layout, orientation: Orientation, width: int, height: int) -> bool:
    """Whether frames cannot be turned upright without giving each pixel its own chroma sample."""
    if layout.colours != "yuv" or not layout.is_subsampled:
        return False
    if orientation.transpose and layout.shift_x != layout.shift_y:
        return True
    # of an odd side the last sample is shared by fewer pixels; turned round, it would be the first
    flips_odd = (orientation.flip_x and width % 2) or (orientation.flip_y and height % 2)
    return bool(flips_odd)


def upright(
    frame: av.VideoFrame, orientation: Orientation, name: str, *, limited: bool = False
) -> av.VideoFrame:
    """Turn a native frame upright and bring it into pixel format `name`.

    Samples are moved, not computed, where `name` is the frame's own format or the one with full
    chroma. Any other pair goes through swscale, with the frame's own matrix and range; RGB becomes
    YUV by BT.601, in the range 16..235.

    Args:
        frame: as decoded; it is returned as it is if there is nothing to do.
        orientation: of the stored pixels.
        name: a format that `layout_of` knows.
        limited: the result's range is 16..235, whatever the frame's is.
    """
    layout = workable(frame.format.name)
    frame = _converted(frame, layout.name, is_full_range(frame))
    width, height = frame.width, frame.height
    if orientation.transpose:
        width, height = height, width
    target = layout_of(name)
    assert target is not None, name
    widen = needs_full_chroma(layout, orientation, width, height) or (
        layout.is_subsampled and not target.is_subsampled
    )
    middle = layout_of(layout.full_chroma) if widen else layout
    assert middle is not None, layout.name
    if widen or not orientation.is_identity:
        source, frame = frame, av.VideoFrame(width, height, middle.name)
        copy_times_and_colours(source, frame)
        _move(source, layout, frame, middle, orientation)
    limited = limited or (target.colours != "rgb" and layout.colours == "rgb")
    return _converted(frame, name, is_full_range(frame) and not limited)


def _converted(frame: av.VideoFrame, name: str, full: bool) -> av.VideoFrame:
    was_full = is_full_range(frame)
    if frame.format.name == name and was_full == full:
        return frame
    result = _reformat(frame, name, full=full)
    copy_times_and_colours(frame, result)
    if was_full != full:
        result.color_range = 2 if full else 1
    return result


def _move(
    source: av.VideoFrame,
    old: Layout,
    target: av.VideoFrame,
    new: Layout,
    orientation: Orientation,
) -> None:
    step = old.planes[0][2]
    for index in range(len(target.planes)):
        samples = plane_view(source, index, step)
        if index in (1, 2) and old.is_subsampled and not new.is_subsampled:
            samples = samples.repeat(1 << old.shift_y, 0).repeat(1 << old.shift_x, 1)
            samples = samples[: source.height, : source.width]
        if step > 1:
            samples = samples.reshape(samples.shape[0], -1, step)
        view = plane_view(target, index, step)
        view[:] = orientation.apply(samples).reshape(view.shape)
