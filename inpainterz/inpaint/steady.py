"""The last step of the fill: fills of neighbouring frames agree with each other and the picture.

Each frame's fill was chosen by itself, so small errors of place and choice flicker. Here a fill is
averaged with what the frames next to it show at the same spot, found by the dense flow between
the finished pictures, as in blind temporal smoothing (Lang et al., Practical Temporal Consistency
for Image-Based Graphics Applications, ACM Transactions on Graphics 31(4), 2012). True
pixels that come out from under the hole count more than filled ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from inpainterz import motion
from inpainterz.inpaint.background import Box, look
from inpainterz.inpaint.blend import Floats, level_gap
from inpainterz.types import Image, Mask

REACH = 2
"""Frames before and after that are averaged."""
LEVELS = 60.0
"""A neighbour that differs by this much around a pixel counts for a third."""
TRUE = 3.0
"""How much more a pixel counts that was not filled."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """A finished frame next to the one that is smoothed."""

    image: Image
    hole: Mask


def steadied(
    image: Image,
    hole: Mask,
    neighbours: Sequence[Neighbour],
    boxes: Sequence[Box],
    *,
    flow_side_px: int,
) -> Image:
    """A filled frame with its fill averaged along the motion.

    Args:
        image: (H, W, 3), filled.
        hole: (H, W) bool.
        neighbours: finished frames of the same shot and size.
        boxes: rectangles that together hold the hole, with a margin.
        flow_side_px: flow is measured with the longer side of the frame reduced to this.

    Returns:
        (H, W, 3), `image` outside the hole.
    """
    done = image.copy()
    shrink = min(1.0, flow_side_px / max(hole.shape))
    for box in boxes:
        inside = hole[box.slices]
        own = image[box.slices].astype(np.float32)
        guide = _guide(image, box, shrink)

        def seen(
            other: Neighbour, box: Box = box, own: Floats = own, guide: Image = guide
        ) -> tuple[Floats, Floats]:
            return _seen(other, box, own, guide, shrink)

        total, weight = own, np.ones(box.shape, np.float32)
        with ThreadPoolExecutor(2) as pool:
            for pixels, share in pool.map(seen, neighbours):
                total = total + share[..., None] * pixels
                weight = weight + share
        mean = np.clip(np.rint(total / weight[..., None]), 0, 255).astype(np.uint8)
        done[box.slices][inside] = mean[inside]
    return done


def _guide(image: Image, box: Box, shrink: float) -> Image:
    """(h, w) luma of a box at the size that flow is measured at."""
    grey = motion.grey(np.ascontiguousarray(image[box.slices]))
    if shrink < 1:
        size = [max(1, round(side * shrink)) for side in box.shape[::-1]]
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    return grey


def _seen(
    other: Neighbour, box: Box, own: Floats, guide: Image, shrink: float
) -> tuple[Floats, Floats]:
    """What a neighbour shows at the pixels of a box (h, w, 3), and how much it counts (h, w)."""
    h, w = box.shape
    flow = motion.dense_flow(guide, _guide(other.image, box, shrink), fast=True)
    if shrink < 1:
        scale = np.array([w / guide.shape[1], h / guide.shape[0]], np.float32)
        flow = cv2.resize(flow, (w, h), interpolation=cv2.INTER_LINEAR) * scale
    at = motion.grid(h, w) + flow
    pixels = look(other.image[box.slices], at, cv2.INTER_CUBIC)
    filled = look(other.hole[box.slices].astype(np.uint8) * 255, at)
    x, y = at[..., 0], at[..., 1]
    within = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    apart = cv2.blur(level_gap(pixels, own), (5, 5))
    share = np.exp(-((apart / LEVELS) ** 2)) * within * np.where(filled < 3, TRUE, 1)
    return pixels, np.asarray(share, np.float32)
