"""What a tracked mask left out of a moving object: shoes, hands, the shadow at its feet.

A frame is compared with the same spot in frames a little earlier and later, aligned by the
camera's motion. What differs from all of them, and touches the mask, moved with the object. Where
the camera's motion explains the surroundings badly, nothing is added.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.types import Frame, Image, Mask

OFFSETS = (-23, -16, -9, 9, 16, 23)
"""Which frames a frame is compared with."""

LOOKAHEAD = max(OFFSETS)
"""How many frames are taken in beyond the one that comes out."""

SIDE_PX = 640
"""The comparison is made with the longer side reduced to this."""

REACH = 0.2
"""How far from the mask is looked, in square roots of its area."""

LEAST_REACH = 0.03
"""How far at least, in diagonals of the picture: a mask may be a small part of the object."""

MOST_ADDED = 2.0
"""More than so many times the mask's area is not a part that it lacks, but something else."""


@dataclass(frozen=True, slots=True, eq=False)
class _Small:
    """One frame at the size of the comparison."""

    index: int
    shot: int
    image: Image
    grey: npt.NDArray[np.uint8]
    mask: Mask


def complete(items: Iterable[tuple[Frame, Mask, Mask]]) -> Iterator[tuple[Frame, Mask]]:
    """Add to each mask what it left out of a moving object.

    Args:
        items: frames in order of time, each with the (H, W) mask of what goes and the (H, W) mask
            of what must stay.

    Yields:
        The same frames with their completed masks, `LOOKAHEAD` frames late.
    """
    window: deque[_Small] = deque()
    waiting: deque[tuple[Frame, Mask, Mask, _Small]] = deque()
    for frame, mask, keep in items:
        small = _reduced(frame, mask)
        window.append(small)
        waiting.append((frame, mask, keep, small))
        if len(waiting) > LOOKAHEAD:
            yield _completed(*waiting.popleft(), window)
        while len(window) > 2 * LOOKAHEAD + 1:
            window.popleft()
    while waiting:
        yield _completed(*waiting.popleft(), window)


def _reduced(frame: Frame, mask: Mask) -> _Small:
    height, width = mask.shape
    scale = min(1.0, SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = (
        frame.image if scale == 1 else cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    )
    small = mask if scale == 1 else cv2.resize(mask.astype(np.uint8), size) > 0
    image = np.asarray(image, np.uint8)
    return _Small(frame.index, frame.shot, image, motion.grey(image), np.asarray(small, np.bool_))


def _completed(
    frame: Frame, mask: Mask, keep: Mask, small: _Small, window: Iterable[_Small]
) -> tuple[Frame, Mask]:
    if not mask.any() or mask.all() or min(small.mask.shape) < 32:
        return frame, mask
    others = [
        other
        for other in window
        if other.index - small.index in OFFSETS and other.shot == small.shot
    ]
    added = _left_out(small, others)
    if added is None:
        return frame, mask
    height, width = mask.shape
    if added.shape != mask.shape:
        soft = cv2.resize(added.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        added = np.asarray(soft > 0.5)
    return frame, np.asarray(mask | (added & ~keep))


def _left_out(here: _Small, others: list[_Small]) -> Mask | None:
    """The part of the object beside its mask, at the size of the comparison; None: nothing."""
    diagonal = float(np.hypot(*here.mask.shape))
    reach = round(max(REACH * float(np.sqrt(here.mask.sum())), LEAST_REACH * diagonal))
    samples = []
    for other in others:
        sample = _aligned(here, other, reach)
        if sample is not None:
            samples.append(sample)
    if len(samples) < 2:
        return None
    stacked = np.stack(samples)  # (S, h, w, 3), NaN where hidden
    hidden = np.isnan(stacked)
    low = np.where(hidden, np.float32(np.inf), stacked).min(0)
    high = np.where(hidden, np.float32(-np.inf), stacked).max(0)
    compared = (~hidden[..., 0]).sum(0) >= 2
    differs = compared & (_outside(here.image, low, high) > 20)
    near = _disc(here.mask, reach)
    ring = _disc(near, reach) & ~near & compared
    if ring.sum() < 50 or (differs & ring).sum() > 0.1 * ring.sum():
        return None  # the camera's motion does not explain the surroundings
    wanted = (differs & near & ~here.mask).astype(np.uint8)
    wanted = cv2.morphologyEx(wanted, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    total, parts = cv2.connectedComponents(wanted | here.mask.astype(np.uint8))
    touching = np.unique(parts[here.mask])
    added = np.isin(parts, touching[touching > 0]) & (wanted > 0)
    if total < 2 or not added.any() or added.sum() > MOST_ADDED * here.mask.sum():
        return None
    return np.asarray(added)


def _aligned(here: _Small, other: _Small, reach: int) -> npt.NDArray[np.float32] | None:
    """Another frame as `here` would see it, (h, w, 3) float32, NaN where its own mask hides it."""
    hidden = _disc(other.mask, reach)
    matrix, trust = motion.global_motion(
        here.grey, other.grey, ignore_a=_disc(here.mask, reach), ignore_b=hidden, features=300
    )
    if trust < 0.4:
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


def _outside(
    image: Image, low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """How far each pixel lies outside what the other frames show within two pixels of its place.

    Two pixels forgive the parallax of what is not as far away as most of the background.

    Returns:
        (h, w) float32, grey levels of the worst channel; 0 and less = inside.
    """
    soft = cv2.GaussianBlur(image, (3, 3), 0).astype(np.float32)
    around = np.ones((5, 5), np.uint8)
    return np.asarray(
        np.maximum(soft - cv2.dilate(high, around), cv2.erode(low, around) - soft).max(-1),
        np.float32,
    )


def _disc(mask: Mask, radius: int) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)
