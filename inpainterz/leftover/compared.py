"""A frame compared with the same spot in frames around it: what is not as they show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.motion import Homography
from inpainterz.types import Frame, Image, LabelMap, Mask

SIDE_PX = 640
"""The comparison is made with the longer side reduced to this."""

ENOUGH = 4
"""From so many frames on that show a spot, the one that differs most is left out."""

DIFFERENT = 20.0
"""What lies so many grey levels outside of what other frames show is something else."""

PLAY = (0, 1, 2)
"""Alignment may be off by so many pixels; the least of these is taken at which..."""

MISTAKEN = 0.002
"""... at most this share of the still surroundings seems to be something else."""

TRUSTED = 0.4
"""A motion that so much of the background follows is the camera's."""

BESIDE_PX = 8
"""What is so close to an object may belong to it, and tells nothing of the camera."""

Sides: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the source."""


@dataclass(frozen=True, slots=True, eq=False)
class Small:
    """One frame at the size of the comparison."""

    index: int
    shot: int
    image: Image
    grey: npt.NDArray[np.uint8]
    labels: LabelMap
    areas: dict[int, int]
    """Object id -> pixels, of the objects that are there."""

    @property
    def mask(self) -> Mask:
        return np.asarray(self.labels > 0)


def reduced(frame: Frame, labels: LabelMap) -> Small:
    """A frame and its objects (H, W) at the size of the comparison."""
    height, width = labels.shape
    scale = min(1.0, SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = (
        frame.image if scale == 1 else cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    )
    small = labels.astype(np.uint8)
    if scale < 1:
        small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    image = np.asarray(image, np.uint8)
    counts = np.bincount(small.ravel(), minlength=1)
    areas = {int(k): int(counts[k]) for k in np.flatnonzero(counts) if k}
    return Small(frame.index, frame.shot, image, motion.grey(image), small, areas)


class Camera:
    """The camera's motion between the frames of a shot that are at hand."""

    def __init__(self) -> None:
        self.shot: Sequence[Small] = ()
        """In order, none left out."""
        self._steps: dict[int, Homography | None] = {}
        """Frame index -> the homography to the frame before it, None where it is not known."""

    def go_on(self, shot: Sequence[Small]) -> None:
        """Take other frames: later ones of the same shot, or those of the next."""
        self.shot = shot
        kept = {small.index for small in shot[1:]}
        self._steps = {index: step for index, step in self._steps.items() if index in kept}

    def between(self, a: Small, b: Small, ignored: tuple[Mask, Mask]) -> Homography | None:
        """The homography from a to b; None where too little agrees on it.

        Found near where the steps between them lead: far frames of a pan show too different parts
        of the scene to be compared without.

        Args:
            a, b: two of the frames.
            ignored: (h, w) each, what is not used in either, as it may move on its own.
        """
        guess = self._led(a, b)
        found = None if guess is None else _motion(a, b, ignored, guess)
        return _motion(a, b, ignored) if found is None else found

    def _led(self, a: Small, b: Small) -> Homography | None:
        """The homography from a to b from step to step."""
        total = np.eye(3)
        indices = [small.index for small in self.shot]
        low, high = sorted(indices.index(small.index) for small in (a, b))
        later, earlier = self.shot[low + 1 : high + 1], self.shot[low:high]
        for here, before in zip(later, earlier, strict=True):
            if here.index not in self._steps:
                ignored = disc(here.mask, BESIDE_PX), disc(before.mask, BESIDE_PX)
                self._steps[here.index] = _motion(here, before, ignored)
            step = self._steps[here.index]
            if step is None:
                return None
            total = total @ step  # from the later one to the earlier one
        return np.asarray(total if a.index > b.index else np.linalg.inv(total), np.float64)


def _motion(
    a: Small, b: Small, ignored: tuple[Mask, Mask], guess: Homography | None = None
) -> Homography | None:
    """The homography from a to b, looked for near a guess; None where too little agrees on it."""
    matrix, trust = motion.global_motion(
        a.grey, b.grey, ignore_a=ignored[0], ignore_b=ignored[1], features=300, guess=guess
    )
    return matrix if trust >= TRUSTED else None


def aligned(
    here: Small, other: Small, reach: int, camera: Camera
) -> npt.NDArray[np.float32] | None:
    """Another frame as `here` would see it, (h, w, 3) float32, NaN where its own mask hides it."""
    hidden = disc(other.mask, reach)
    matrix = camera.between(here, other, (disc(here.mask, reach), hidden))
    if matrix is None:
        return None
    height, width = here.grey.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = np.asarray(cv2.warpPerspective(other.image, matrix, (width, height), flags=flags))
    free = cv2.warpPerspective(
        np.where(hidden, 0, 255).astype(np.uint8), matrix, (width, height), flags=flags
    )
    sample = image.astype(np.float32)
    sample[free < 255] = np.nan
    return np.asarray(sample, np.float32)


def usual(
    samples: npt.NDArray[np.float32], hidden: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The lowest and the highest of what frames show, without one that stands out.

    Args:
        samples: (S, h, w, 3), S >= 2.
        hidden: (S, h, w, 3) where a sample says nothing.
    """
    count = (~hidden[..., :1]).sum(0)
    low = np.full((2, *samples.shape[1:]), np.inf, np.float32)
    high = -low
    for sample, unseen in zip(samples, hidden, strict=True):
        upper = np.where(unseen, np.float32(np.inf), sample)
        lower = np.where(unseen, np.float32(-np.inf), sample)
        low[1] = cv2.min(low[1], cv2.max(low[0], upper))
        low[0] = cv2.min(low[0], upper)
        high[1] = cv2.max(high[1], cv2.min(high[0], lower))
        high[0] = cv2.max(high[0], lower)
    many = count >= ENOUGH
    return np.where(many, low[1], low[0]), np.where(many, high[1], high[0])


def differing(
    image: Image, low: npt.NDArray[np.float32], high: npt.NDArray[np.float32], far: Mask
) -> tuple[Mask, Mask]:
    """What is not as the other frames show it, (h, w), and that with the most play.

    Play forgives poor alignment and the parallax of what is not as far away as most of the
    background, but on a patterned ground whatever is as dark as some of it passes for ground: so
    no more is given than the surroundings need.

    Args:
        image: (h, w, 3).
        low, high: (h, w, 3) from `usual`.
        far: (h, w) the surroundings: known, and away from the objects.
    """
    square = np.ones((3, 3), np.uint8)
    found = [_outside(image, low, high, play) > DIFFERENT for play in PLAY]
    solid = [cv2.morphologyEx(f.astype(np.uint8), cv2.MORPH_OPEN, square) > 0 for f in found]
    still = far & ~disc(solid[-1], 4 * PLAY[-1])  # without others that move
    for differs, pieces in zip(found, solid, strict=True):
        if (pieces & still).sum() <= MISTAKEN * still.sum():
            return np.asarray(differs), np.asarray(found[-1])
    return np.asarray(found[-1]), np.asarray(found[-1])


def _outside(
    image: Image, low: npt.NDArray[np.float32], high: npt.NDArray[np.float32], play: int
) -> npt.NDArray[np.float32]:
    """How far each pixel lies outside what the other frames show within `play` px of its place.

    Returns:
        (h, w) float32, grey levels of the worst channel; 0 and less = inside.
    """
    soft = cv2.GaussianBlur(image, (3, 3), 0).astype(np.float32)
    around = np.ones((2 * play + 1, 2 * play + 1), np.uint8)
    return np.asarray(
        np.maximum(soft - cv2.dilate(high, around), cv2.erode(low, around) - soft).max(-1),
        np.float32,
    )


def box_of(mask: Mask) -> Sides:
    """The box around a mask (h, w) with something in it; right and bottom are outside."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def disc(mask: Mask, radius: int) -> Mask:
    """A mask (h, w) grown by a radius, px."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel(radius)) > 0)


def kernel(radius: int) -> npt.NDArray[np.uint8]:
    """A disc, 1 within a radius, px, for `cv2.dilate` and the like."""
    size = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size), np.uint8)
