"""A part of a frame looked at closely: small objects need finer regions than a whole frame has."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inpainterz.segment import regions as rg
from inpainterz.segment.hypotheses import Judge
from inpainterz.segment.regions import Floats
from inpainterz.types import Image

MARGIN = 0.27
"""How much is seen on each side of what is looked at, in its own sides."""

MOST = 3.0
"""A source pixel is never drawn larger than this many pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Zoom:
    """A window of a frame, prepared for cutting objects out of it."""

    judge: Judge
    left: int
    top: int
    right: int
    bottom: int
    """The window in source pixels; right and bottom are outside."""
    scale: Floats
    """(2,) pixels of `judge` per source pixel, (x, y)."""

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the source."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def points(self, points: Floats) -> Floats:
        """(N, 2) from source pixels to those of `judge`."""
        return np.asarray((points - (self.left, self.top)) * self.scale, np.float32)

    def box(self, box: Floats) -> Floats:
        """(4,) the same for a box."""
        return self.points(box.reshape(2, 2)).ravel()


def zoom(
    image: Image, judge: Judge, scale: tuple[float, float], area: Floats, *, pixels: int, cell: int
) -> Zoom:
    """Look closely at a part of a frame.

    Args:
        image: (H, W, 3) the source.
        judge: of the whole reduced frame, which knows the motion.
        scale: reduced frame over source, (x, y).
        area: (4,) x0, y0, x1, y1 in source pixels, the part that matters.
        pixels: of the window as it is looked at.
        cell: side of its superpixels.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (float(v) for v in area)
    left, top = max(0, int(x0 - MARGIN * (x1 - x0)) - 4), max(0, int(y0 - MARGIN * (y1 - y0)) - 4)
    right = min(width, int(x1 + MARGIN * (x1 - x0)) + 5)
    bottom = min(height, int(y1 + MARGIN * (y1 - y0)) + 5)
    crop = np.ascontiguousarray(image[top:bottom, left:right])
    factor = min(MOST, (pixels / (crop.shape[0] * crop.shape[1])) ** 0.5)
    size = max(1, round((right - left) * factor)), max(1, round((bottom - top) * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    seen = np.asarray(cv2.resize(crop, size, interpolation=how), np.uint8)
    lab = rg.lab_of(np.asarray(cv2.bilateralFilter(seen, 5, 25, 3)) if min(size) > 2 else seen)
    graph = rg.build(lab, rg.superpixels(lab, cell), rg.grain_of(crop, size))
    ratio = np.asarray([size[0] / (right - left), size[1] / (bottom - top)], np.float32)
    step = np.asarray(scale, np.float32) / ratio
    matrix = np.asarray([[step[0], 0, left * scale[0]], [0, step[1], top * scale[1]]], np.float64)

    def there(values: Floats) -> Floats:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(values, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, np.float32)

    motion = sure = by_pixel = None
    if judge.motion is not None and judge.sure is not None and judge.map is not None:
        labels = judge.regions.labels
        by_pixel = there(judge.map)
        # regions are steadier than pixels, pixels keep to the outlines
        motion = 0.5 * graph.mean(by_pixel) + 0.5 * graph.mean(there(judge.motion[labels]))
        sure = graph.mean(there(judge.sure[labels]))
    close = Judge.of(graph, None)
    return Zoom(
        Judge(
            regions=graph,
            likeness=close.likeness,
            separation=close.separation,
            motion=motion,
            sure=sure,
            map=by_pixel,
        ),
        *(left, top, right, bottom),
        ratio,
    )
