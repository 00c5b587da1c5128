"""How near a result is to its source where nothing was to change."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import av
import cv2
import numpy as np

from inpainterz.types import Mask
from inpainterz.video.planes import layout_of, plane_view


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The pixels outside the holes, against the source's."""

    psnr_db: float | None
    """Peak signal-to-noise ratio of luma (of all channels in RGB) over all frames; None where
    there is no difference, or no pixel."""
    worst_psnr_db: float | None
    """Of the frame that is farthest from the source."""
    exact_frames: int
    """Frames in which every sample outside the hole is the source's, chroma too."""


class HoleFile:
    """The holes of a clip, packed into a temporary file as they come. A context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()

    def put(self, hole: Mask) -> None:
        """Add the next frame's."""
        data = zlib.compress(np.packbits(hole).tobytes(), 1)
        self._file.write(len(data).to_bytes(4, "big") + data)

    def masks(self, size: tuple[int, int]) -> Iterator[Mask]:
        """All of them, in order, each (height, width) = `size`."""
        self._file.seek(0)
        while head := self._file.read(4):
            packed = zlib.decompress(self._file.read(int.from_bytes(head, "big")))
            bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=size[0] * size[1])
            yield bits.reshape(size).view(np.bool_)

    def __enter__(self) -> HoleFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


def compare(
    was: Iterable[av.VideoFrame], now: Iterable[av.VideoFrame], holes: Iterable[Mask]
) -> Fidelity:
    """Hold the frames of a result against the source's, outside the holes.

    Args:
        was, now: frames of one size and one pixel format that `layout_of` knows.
        holes: (H, W) bool each, in the frames' own orientation.
    """
    error_sum, count, exact, worst = 0.0, 0, 0, 0.0
    top = 255.0
    for source, result, hole in zip(was, now, holes, strict=True):
        layout = layout_of(result.format.name)
        assert layout is not None and source.format.name == result.format.name
        top = float(2**layout.bits - 1)
        is_exact = True
        step = layout.planes[0][2]
        for index in range(len(result.planes)):
            a, b = (plane_view(frame, index, step) for frame in (source, result))
            outside = _outside(hole, a.shape, step)
            difference = np.subtract(a, b, dtype=np.int32)[outside]
            is_exact = is_exact and not difference.any()
            if index == 0 or layout.colours == "rgb":
                squares = float(np.square(difference, dtype=np.float64).sum())
                error_sum, count = error_sum + squares, count + difference.size
                worst = max(worst, squares / max(1, difference.size))
        exact += is_exact
    mean = error_sum / max(1, count)
    return Fidelity(_psnr(mean, top), _psnr(worst, top), exact)


def _outside(hole: Mask, shape: tuple[int, ...], step: int) -> Mask:
    """The samples of a plane that no pixel of the hole shares, as a mask of the plane."""
    height, width = shape[0], shape[1] // step
    outside = ~hole
    if (height, width) != hole.shape:
        # a sample stands for a cell of pixels: it counts where the whole cell is outside
        cell = [-(-hole.shape[i] // (height, width)[i]) for i in (0, 1)]
        pads = [(0, (height, width)[i] * cell[i] - hole.shape[i]) for i in (0, 1)]
        padded = np.pad(outside, pads, mode="edge")
        outside = np.asarray(padded.reshape(height, cell[0], width, cell[1]).all((1, 3)))
        # a decoder may have interpolated: no promise is made for the samples next to the rim
        kernel = np.ones((3, 3), np.uint8)
        outside = np.asarray(cv2.erode(outside.astype(np.uint8), kernel) > 0)
    return np.asarray(outside if step == 1 else np.repeat(outside, step, axis=1), np.bool_)


def _psnr(mean_square: float, top: float) -> float | None:
    return None if mean_square == 0 else round(float(10 * np.log10(top * top / mean_square)), 2)
