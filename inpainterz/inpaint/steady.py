"""The last step of the fill: fills of neighbouring frames agree with each other and the picture.

Each frame's fill was chosen by itself, so small errors of place and choice flicker. Here a fill is
averaged with what the frames next to it show at the same spot, found by the dense flow between
the finished pictures, as in blind temporal smoothing (Lang et al., Practical Temporal Consistency
for Image-Based Graphics Applications, ACM Transactions on Graphics 31(4), 2012). True
pixels that come out from under the hole count more than filled ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from inpainterz import motion
from inpainterz.inpaint.background import Box, boxes, look
from inpainterz.inpaint.blend import Floats, level_gap
from inpainterz.types import Frame, Image, Inpainted, Mask

REACH = 2
"""Frames before and after that are averaged."""
LEVELS = 60.0
"""A neighbour that differs by this much around a pixel counts for a third."""
TRUE = 3.0
"""How much more a pixel counts that was not filled."""


class Steadier:
    """Frames of one shot on their way out, each held until those that it is averaged with are in.

    Args:
        delay: frames that a filled one waits for, at most `REACH`; before it, `REACH` count.
        margin_px, flow_side_px: see `steadied`.
        doubtful: average only as far as the fill is not sure.
    """

    def __init__(
        self, delay: int, *, margin_px: int, flow_side_px: int, doubtful: bool = False
    ) -> None:
        self.delay = delay
        self.margin_px = margin_px
        self.flow_side_px = flow_side_px
        self.doubtful = doubtful
        self.held: deque[tuple[Inpainted, Mask]] = deque()
        self.out = 0
        """How many of those held came out; they are kept as neighbours."""

    def take(self, result: Inpainted, hole: Mask) -> Iterator[tuple[Inpainted, Mask]]:
        """Take a filled frame in; yields those that are ready, each with its hole."""
        self.held.append((result, hole))
        yield from self._ready(self.delay)

    def finish(self) -> Iterator[tuple[Inpainted, Mask]]:
        """Yield the rest."""
        yield from self._ready(0)

    def _ready(self, delay: int) -> Iterator[tuple[Inpainted, Mask]]:
        while self.out < len(self.held):
            result, hole = self.held[self.out]
            if hole.any():
                if len(self.held) - 1 - self.out < delay:
                    return
                result = self._averaged(self.out)
            self.out += 1
            yield result, hole
            while self.out > REACH:
                self.held.popleft()
                self.out -= 1

    def _averaged(self, number: int) -> Inpainted:
        result, hole = self.held[number]
        around = [
            (other.frame.image, mask)
            for i, (other, mask) in enumerate(self.held)
            if 0 < abs(i - number) <= REACH
        ]
        strength = None
        if self.doubtful and result.confidence is not None:
            strength = (1 - result.confidence / 255).astype(np.float32)
        old = result.frame
        image = steadied(
            old.image,
            hole,
            around,
            boxes(hole, self.margin_px),
            flow_side_px=self.flow_side_px,
            strength=strength,
        )
        done = Frame(image, old.index, old.pts, old.time_base, old.shot)
        return Inpainted(done, result.origin, result.confidence)


def steadied(
    image: Image,
    hole: Mask,
    neighbours: Sequence[tuple[Image, Mask]],
    parts: Sequence[Box],
    *,
    flow_side_px: int,
    strength: Floats | None = None,
) -> Image:
    """A filled frame with its fill averaged along the motion.

    Args:
        image: (H, W, 3), filled.
        hole: (H, W) bool.
        neighbours: filled frames of the same shot and size, with their holes.
        parts: rectangles that together hold the hole, with a margin.
        flow_side_px: flow is measured with the longer side of the frame reduced to this.
        strength: (H, W) float32 0..1, how much neighbours count; None = fully.

    Returns:
        (H, W, 3), `image` outside the hole.
    """
    done = image.copy()
    shrink = min(1.0, flow_side_px / max(hole.shape))
    for box in parts:
        inside = hole[box.slices]
        own = image[box.slices].astype(np.float32)
        guide = _guide(image, box, shrink)

        def seen(
            other: tuple[Image, Mask], box: Box = box, own: Floats = own, guide: Image = guide
        ) -> tuple[Floats, Floats]:
            return _seen(*other, box, own, guide, shrink)

        total, weight = own, np.ones(box.shape, np.float32)
        with ThreadPoolExecutor(2) as pool:
            for pixels, share in pool.map(seen, neighbours):
                if strength is not None:
                    share = share * strength[box.slices]
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
    image: Image, hole: Mask, box: Box, own: Floats, guide: Image, shrink: float
) -> tuple[Floats, Floats]:
    """What a neighbour shows at the pixels of a box (h, w, 3), and how much it counts (h, w)."""
    h, w = box.shape
    flow = motion.dense_flow(guide, _guide(image, box, shrink), fast=True)
    if shrink < 1:
        scale = np.array([w / guide.shape[1], h / guide.shape[0]], np.float32)
        flow = cv2.resize(flow, (w, h), interpolation=cv2.INTER_LINEAR) * scale
    at = motion.grid(h, w) + flow
    pixels = look(image[box.slices], at, cv2.INTER_CUBIC)
    filled = look(hole[box.slices].astype(np.uint8) * 255, at)
    x, y = at[..., 0], at[..., 1]
    within = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    apart = cv2.blur(level_gap(pixels, own), (5, 5))
    share = np.exp(-((apart / LEVELS) ** 2)) * within * np.where(filled < 3, TRUE, 1)
    return pixels, np.asarray(share, np.float32)
