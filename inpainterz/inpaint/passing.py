"""What is at a place for a while only: where a frame differs from what most others show there.

A body that leaps or turns moves too fast for a flow to be believed, so its motion tells of parts of
it only. But frames before and after, brought onto this one by the camera's motion, show what is
behind it: where nearly all of them differ from this frame and agree with each other, something
passes (the aligned background model of Elqursh and Elgammal, Online Moving Camera Background
Subtraction, ECCV 2012, reduced to a vote). Leaves and water differ from frame to frame and agree
with nothing; parallax does so too at times, so what is found counts only together with motion.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.types import Image, Mask

LAGS = (-24, -12, -6, 6, 12, 24)
"""Frames that a frame is compared with."""

DIFFERENT = 10
"""Levels by which it differs there, in the colour that differs most and any pixel beside."""

ALIKE = 8
"""Levels up to which two others agree."""

ENOUGH = 200
"""Pixels that must be seen in both to compare."""

SHARE = 0.25
"""So much of what passes must be seen to move."""

LEAST = 40
"""Smaller pieces are specks, pixels."""

Bits = npt.NDArray[np.uint8]


def passing(here: Image, free: Bits, others: Iterable[tuple[Image, Bits]]) -> Mask:
    """Where a picture differs from what most others agree on.

    Args:
        here: (h, w, 3) uint8.
        free: (h, w) 1 where it shows no hole.
        others: pictures of the same place in the order of time, and where they show it.

    Returns:
        (h, w) bool.
    """
    count, differing, agreeing = (np.zeros(free.shape, np.uint8) for _ in range(3))
    before: tuple[Image, Image, Bits] | None = None
    for picture, seen in others:
        both = seen & free
        if cv2.countNonZero(both) < ENOUGH:
            continue
        at = both[::4, ::4] > 0
        change = here[::4, ::4][at].astype(np.int16) - picture[::4, ::4][at]
        level = np.median(change, axis=0) if len(change) else np.zeros(3)
        picture = np.asarray(cv2.add(picture, (*level.tolist(), 0.0)), np.uint8)
        low, high = _envelope(picture)
        apart = (_beyond(here, low, high) > DIFFERENT).astype(np.uint8) & both
        count += both
        differing += apart
        if before is not None:
            alike = (_beyond(picture, before[0], before[1]) < ALIKE).astype(np.uint8)
            agreeing += alike & apart & before[2]
        before = low, high, apart
    needed = np.where(count >= 4, 2, 1)
    return np.asarray((count > 1) & (differing + 1 >= np.maximum(count, 3)) & (agreeing >= needed))


def whole(found: Mask, moves: Mask) -> Mask:
    """The pieces (h, w) of what was found that move, as a whole, their gaps closed."""
    pieces = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    pieces = cv2.morphologyEx(pieces, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    number, labels, stats, _ = cv2.connectedComponentsWithStats(pieces, connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    moved = np.bincount(labels[moves], minlength=number)
    keep = (moved >= SHARE * area) & (area >= LEAST)
    keep[0] = False
    return np.asarray(keep[labels])


def _envelope(picture: Image) -> tuple[Image, Image]:
    """The least and most around each pixel: a place is never known to the pixel."""
    side = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.erode(picture, side)), np.asarray(cv2.dilate(picture, side))


def _beyond(picture: Image, low: Image, high: Image) -> Bits:
    """(h, w) levels by which the colour that differs most is outside an envelope."""
    gap = cv2.max(cv2.subtract(picture, high), cv2.subtract(low, picture))
    red, green, blue = cv2.split(gap)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)
