"""The soft shadow around an object: a little darker than other frames show the spot.

Under an open sky an object darkens the ground for some way around it, by a few levels only. Where
that is left the object is still to be seen, as a dark spot of its own shape.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.leftover.compared import Small, disc, kernel
from inpainterz.types import Mask

WINDOW_PX = 9
"""Differences are averaged over so many pixels: grain is larger than a soft shadow is deep."""

DEPTHS = (2.0, 3.0, 4.5)
"""Grey levels by which a shadow is darker; the least of these at which..."""

MISTAKEN = 0.04
"""... at most this share of the still surroundings seems to be in one."""

LEAST = 0.5
"""So much of the window around a pixel must be known."""

CALM = 16.0
"""Other frames that differ by more grey levels among themselves do not tell of a shadow."""

SOLID_PX = 3
"""Narrower than twice this are specks."""

OTHERS_PX = 4
"""What is so close to something else that moves is left alone."""

ROUND = 0.5
"""Shadow in this share of what is known around the objects is there in the rest as well, where
nothing else is nearer..."""

EVEN = 24.0
"""... and the ground is as it is there, but for so many grey levels."""


AROUND = 4
"""So many frames before and after one tell whether its shadow lasts."""

STEADY = 1.5
"""A shadow of more than so many times the usual size there is something else."""


class Shadows:
    """How large the shadows of the frames around are: what is there for a moment is none."""

    def __init__(self) -> None:
        self._shares: dict[int, tuple[int, float]] = {}
        """Frame index -> its shot, and its shadow in areas of its objects."""

    def note(self, small: Small, share: float) -> None:
        """Note a frame's shadow, in areas of its objects; 0 = it has none."""
        self._shares[small.index] = (small.shot, share)

    def lasts(self, index: int) -> bool:
        """Whether a frame's shadow is no larger than in most frames of its shot around it.

        Those up to `AROUND` later are noted by then; frames are asked about in order.
        """
        for old in [i for i in self._shares if i < index - AROUND]:
            del self._shares[old]
        shot, share = self._shares[index]
        around = (self._shares.get(i) for i in range(index - AROUND, index + AROUND + 1))
        usual = np.median([found[1] for found in around if found and found[0] == shot])
        return bool(share <= STEADY * usual)


def shaded(
    here: Small,
    objects: Mask,
    usual: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    compared: Mask,
    differs: Mask,
    reach: int,
) -> Mask:
    """What may be in a soft shadow of the objects of a frame, (h, w).

    Args:
        here: the frame.
        objects: (h, w) its objects.
        usual: (h, w, 3) each, the lowest and the highest of what other frames show.
        compared: (h, w) where that is known.
        differs: (h, w) what is something else than they show.
        reach: how far from the objects a shadow is looked for, px; it may go on as far again.
    """
    nothing = np.zeros_like(objects)
    away = cv2.distanceTransform(1 - objects.astype(np.uint8), cv2.DIST_L2, 3)
    solid = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    low, high = (np.where(compared[..., None], bound, 0).mean(-1) for bound in usual)
    calm = compared & (high - low < CALM)
    plain = np.asarray(calm & ~objects & ~disc(solid > 0, 2))
    still = plain & (away > 2 * reach)
    if still.sum() < 200:
        return nothing
    gap = np.where(plain, (low + high) / 2 - here.image.mean(-1), 0).astype(np.float32)
    gap -= np.where(plain, np.median(gap[still]), 0).astype(np.float32)
    square = (WINDOW_PX, WINDOW_PX)
    share = cv2.blur(plain.astype(np.float32), square)
    depth = cv2.blur(gap, square) / np.maximum(share, 1e-3)
    told = np.asarray(share >= LEAST)
    for least in DEPTHS:
        darker = told & (depth > least)
        if (darker & still).sum() <= MISTAKEN * max(1, (still & told).sum()):
            break
    else:
        return nothing
    apart = _away_from_others(solid > 0, objects)
    found = (darker & (away <= reach) & (apart > OTHERS_PX)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, kernel(SOLID_PX)) > 0
    if found.any():
        ring = (away > 0) & (away <= 2 * float(away[found].mean()))
        if (found & ring).sum() > ROUND * (told & ring).sum():
            ground = np.median(here.image[found], axis=0)
            even = np.abs(cv2.blur(here.image, (3, 3)) - ground).max(-1) < EVEN
            found |= ring & even & ~told & (away < apart) & ~(solid > 0)
    return np.asarray(found & ~objects)


def _away_from_others(differs: Mask, objects: Mask) -> npt.NDArray[np.float32]:
    """(h, w) how far it is to something else that moves, px."""
    _, parts = cv2.connectedComponents((differs | objects).astype(np.uint8))
    others = differs & ~np.isin(parts, np.unique(parts[objects]))
    if not others.any():
        return np.full(objects.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform(1 - others.astype(np.uint8), cv2.DIST_L2, 3))
