"""What belonged to objects in earlier frames, which tells their parts from what passes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.leftover.compared import Small, box_of, disc
from inpainterz.types import Mask

MEMORY = 48
"""What belonged to an object in so many frames before says what may belong to it now..."""

LASTING = 0.3
"""... where it did in this share of them; what something else that passes covers it seldom did."""

LACKING = 1.2
"""A mask lacks something where it usually was so many times as large."""

ALIKE = 1.6
"""Masks whose sizes differ by more than so many times are not compared."""

LEAST_MEMORY = 4
"""From so many remembered frames on."""

STRANGER = 0.15
"""What never belonged to an object and is at least this share of its mask is something else."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What belonged to the objects in an earlier frame, or seemed to."""

    index: int
    shot: int
    reached: npt.NDArray[np.uint8]
    """(h, w) 0 or 1, a little more than that."""
    anchors: dict[int, npt.NDArray[np.float64]]
    """Object id -> see `_anchors`."""
    areas: dict[int, int]


def strangers_in(here: Small, differs: Mask, past: Iterable[Past]) -> Mask:
    """(h, w) what is not as in other frames and is no part of the objects, but passes them.

    Args:
        here: the frame.
        differs: (h, w) what is not as in other frames.
        past: what belonged to the objects before.
    """
    strange = np.zeros_like(here.mask)
    if not here.mask.any():
        return strange
    share = _support(here, past)
    if share is None:
        return strange
    unknown = (differs & ~here.mask & (share < LASTING)).astype(np.uint8)
    unknown = cv2.morphologyEx(unknown, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, facts, _ = cv2.connectedComponentsWithStats(unknown)
    large = facts[:, cv2.CC_STAT_AREA] >= STRANGER * here.mask.sum()
    large[0] = False
    strange = np.asarray(large[parts])
    # what is remembered reaches a little beyond the object
    return np.asarray(disc(strange, _margin(here) + 1) & differs & ~here.mask)


def _support(here: Small, past: Iterable[Past]) -> npt.NDArray[np.float32] | None:
    """(h, w) in what share of earlier frames a spot beside an object belonged to it; None: they are
    too few.
    """
    best = np.zeros(here.mask.shape, np.float32)
    for label, now in _anchors(here).items():
        area = here.areas[label]
        earlier = [p for p in past if p.shot == here.shot and label in p.anchors]
        earlier = [p for p in earlier if 1 / ALIKE < p.areas[label] / area < ALIKE]
        if len(earlier) < LEAST_MEMORY:
            return None
        # which end of it a mask lacks is not known, so each of them is tried
        lacks = float(np.median([p.areas[label] for p in earlier])) > LACKING * area
        for k in range(len(now) if lacks else 1):
            share = np.zeros_like(best)
            for p in earlier:
                x, y = now[k] - p.anchors[label][k]
                shift = np.asarray([[1, 0, round(x)], [0, 1, round(y)]], np.float64)
                share += cv2.warpAffine(p.reached, shift, best.shape[::-1], flags=cv2.INTER_NEAREST)
            np.maximum(best, share / len(earlier), out=best)
    return best


def _anchors(small: Small) -> dict[int, npt.NDArray[np.float64]]:
    """Object id -> (5, 2) the middle of its mask and the corners of the box around it, x and y."""
    found = {}
    for label in small.areas:
        own = np.asarray(small.labels == label)
        x0, y0, x1, y1 = box_of(own)
        moments = cv2.moments(own.astype(np.uint8), binaryImage=True)
        middle = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
        found[label] = np.asarray([middle, (x0, y0), (x1, y0), (x0, y1), (x1, y1)], np.float64)
    return found


def remember(past: deque[Past], here: Small, known: Mask) -> None:
    """Keep of every second frame what belonged to its objects.

    Args:
        past: what is kept, the latest last.
        here: the frame.
        known: (h, w) its completed masks, and what else touched them.
    """
    if past and here.index - past[-1].index < 2:
        return
    reached = disc(known, _margin(here)).astype(np.uint8)
    past.append(Past(here.index, here.shot, reached, _anchors(here), here.areas))


def _margin(small: Small) -> int:
    """How far a limb may be from where it was remembered, px."""
    return max(2, round(0.08 * float(np.sqrt(small.mask.sum()))))
