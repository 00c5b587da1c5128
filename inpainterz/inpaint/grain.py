"""Grain: what a fill has less of than the picture around it is added in the end.

A fill is averaged over many frames, which takes the grain out of it: on noisy footage it would show
as a smooth patch. How strong the grain is next to the hole and in the fill is measured by a
Laplacian that ignores edges (Immerkaer, Fast Noise Variance Estimation, Computer Vision and Image
Understanding 64(2), 1996), with a median for its mean. Fine texture looks the same to it, but it
stays in its place along the motion, which grain does not: the lesser of the two counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint.background import Box, boxes, look
from inpainterz.inpaint.blend import Floats
from inpainterz.types import Frame, Image, Inpainted, Mask, Origin

LEAST = 0.8
"""Grain that is weaker than this, in levels, is not missed by anybody."""

MOST = 12.0
"""Stronger grain is not believed."""

ENOUGH = 200
"""Pixels without edges from which grain can be measured."""

KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
"""Has the mean square of 1 on white noise of 1, and is blind to edges and slopes."""


def restored(results: Iterable[Inpainted], margin_px: int) -> Iterator[Inpainted]:
    """Filled frames, of any number of shots, with the grain that their fills lack.

    Args:
        results: in the order of the clip; the first of a shot waits for the second.
        margin_px: how far around a hole grain is measured.
    """
    before: Inpainted | None = None
    waiting: Inpainted | None = None
    for result in results:
        if before is not None and before.frame.shot != result.frame.shot:
            before = None
        if waiting is not None:
            yield waiting if before is None else _restored(waiting, result, margin_px)
            waiting = None
        if before is None and result.origin is not None:
            waiting = result
        else:
            yield result if before is None else _restored(result, before, margin_px)
        before = result
    if waiting is not None:
        yield waiting


def _restored(result: Inpainted, neighbour: Inpainted, margin_px: int) -> Inpainted:
    if result.origin is None:
        return result
    hole, other = _hole(result), _hole(neighbour)
    old = result.frame
    parts = boxes(hole, margin_px)
    image = grained(old.image, hole, neighbour.frame.image, other, parts, old.index)
    if image is old.image:
        return result
    done = Frame(image, old.index, old.pts, old.time_base, old.shot)
    return Inpainted(done, result.origin, result.confidence)


def _hole(result: Inpainted) -> Mask:
    if result.origin is None:
        return np.zeros(result.frame.image.shape[:2], np.bool_)
    return np.asarray(result.origin != Origin.KEPT)


def grained(
    image: Image, hole: Mask, before: Image, hole_before: Mask, parts: Sequence[Box], number: int
) -> Image:
    """A filled frame with grain in its fill as around it.

    Args:
        image: (H, W, 3), filled.
        hole: (H, W) bool.
        before, hole_before: a neighbouring frame and its hole.
        parts: rectangles that together hold the hole, with a margin.
        number: of the frame; the same number draws the same grain.

    Returns:
        (H, W, 3), `image` outside the hole, and `image` itself where no grain is missed.
    """
    done = image
    for box in parts:
        crop = box.slices
        inside = hole[crop]
        luma = _luma(image[crop])
        ring = _away(inside)
        grain = _Grain(luma, ring, inside)
        if grain.missing() < LEAST:
            continue
        there = _away(hole_before[crop])
        shape = grain.proven(_luma(before[crop]), ring & there)
        missing = min(grain.missing(), MOST)
        if missing < LEAST:
            continue
        noise = _noise(luma.shape, shape, np.random.default_rng((number, box.x0, box.y0)))
        if done is image:
            done = image.copy()
        rough = done[crop].astype(np.float32) + (missing * noise)[..., None]
        done[crop][inside] = np.clip(np.rint(rough), 0, 255).astype(np.uint8)[inside]
    return done


class _Grain:
    """Grain of one box, in levels: around the hole, and in the fill."""

    def __init__(self, luma: Floats, ring: Mask, inside: Mask) -> None:
        self.luma = luma
        smooth = cv2.GaussianBlur(luma, (0, 0), 1.5)
        across, down = (cv2.Sobel(smooth, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
        self.slope = cv2.magnitude(across, down)
        self.around = self.within = 0.0
        if ring.sum() < 2 * ENOUGH:
            return
        # the flatter half of the surroundings, and what is as flat in the fill
        self.flat = float(np.median(self.slope[ring]))
        fill = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        fill &= self.slope <= self.flat
        if fill.sum() < ENOUGH:
            return
        fine = cv2.filter2D(luma, cv2.CV_32F, KERNEL)
        self.around = _spread(fine[ring & (self.slope <= self.flat)])
        self.within = _spread(fine[fill])

    def missing(self) -> float:
        """What is to be added to the fill's grain, as a standard deviation."""
        return float(np.sqrt(max(0.0, self.around**2 - self.within**2)))

    def proven(self, before: Floats, ring: Mask) -> float:
        """Believe only so much grain as differs from the frame before along the motion.

        Returns:
            0..1, how alike the grain of neighbouring pixels is.
        """
        guides = (np.clip(np.rint(x), 0, 255).astype(np.uint8) for x in (self.luma, before))
        flow = motion.dense_flow(*guides, fast=True)
        step = self.luma - look(before, motion.grid(*self.luma.shape) + flow, cv2.INTER_CUBIC)
        calm = ring & (self.slope <= self.flat)
        if calm.sum() < ENOUGH:
            self.around = 0.0
            return 0.0
        fine = cv2.filter2D(step, cv2.CV_32F, KERNEL)
        self.around = min(self.around, _spread(fine[calm]) / np.sqrt(2))
        pairs = calm[:, 1:] & calm[:, :-1]
        limit = 4 * _spread(step[calm]) + 1
        near, next_ = (np.clip(x[pairs], -limit, limit) for x in (step[:, :-1], step[:, 1:]))
        power = float((near * near).mean() + (next_ * next_).mean()) / 2
        return float(np.clip((near * next_).mean() / max(power, 1e-6), 0.0, 0.9))


def _noise(
    shape: tuple[int, ...], alike: float, source: np.random.Generator
) -> npt.NDArray[np.float32]:
    """(h, w) noise that `KERNEL` measures as 1, its neighbours correlated by `alike`, 0..0.9."""
    noise = source.standard_normal(shape, np.float32)
    if alike > 0.05:
        # white noise blurred by a Gaussian of s has this correlation: exp(-1 / (4 s^2))
        noise = cv2.GaussianBlur(noise, (0, 0), float(np.sqrt(-0.25 / np.log(alike))))
    fine = cv2.filter2D(noise, cv2.CV_32F, KERNEL)
    return np.asarray(noise / max(float(fine.std()), 1e-3), np.float32)


def _spread(values: Floats) -> float:
    """A standard deviation that outliers do not move."""
    return 1.4826 * float(np.median(np.abs(values)))


def _away(hole: Mask) -> Mask:
    """What is not touched by a hole, as a codec smooths over its edge."""
    return np.asarray(cv2.dilate(hole.astype(np.uint8), np.ones((7, 7), np.uint8)) == 0)


def _luma(image: Image) -> Floats:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), np.float32)
