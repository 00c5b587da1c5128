"""Parts that hang on an outline and look like nothing around it: a cap, a hand, a shoe.

A cut that knows an object by its colours leaves out what has colours of its own. Such a part
touches the outline and ends near it, and its colours are found nowhere in a ring beyond, neither
close by nor, if they are quite the same, further off: what the ring shows too is background that
comes up to the object.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import cKDTree

from inpainterz.segment.refine import odds_in
from inpainterz.segment.regions import Floats, lab_of
from inpainterz.types import Image, Mask

REACH = 0.4
"""How far from the outline a part may reach, in square roots of the object's area."""

UNLIKE = 12.0
"""What is so far from all that the ring shows is a part: CIE Lab, and..."""

AWAY = 10.0
"""...so much for a place as far off as the object is large."""

MOST = 0.3
"""A part has at most this share of the object's pixels."""

OPEN = 0.1
"""A part with more than this share of its pixels at the end of the reach goes on beyond."""

TOUCH = 3
"""So many of its pixels are beside the object; and so many at the frame's side mean that it goes on
outside."""

MOVES = 1.0
"""An object moves from these mean log odds on; what stands still is then no part of it."""

LEAST = 8
"""Fewer pixels are no part."""

PIXELS = 30_000
"""The object and what is around it are reduced to so many."""


def attached(image: Image, mask: Mask, moving: Floats | None) -> Mask:
    """Parts of an object beside its mask.

    Args:
        image: (H, W, 3) the frame.
        mask: (H, W) bool, the object.
        moving: (h, w) log odds of motion against the background, the frame at any size; None: not
            known.

    Returns:
        (H, W) bool, nothing of it in the mask.
    """
    found = np.zeros_like(mask)
    reach = REACH * float(np.sqrt(mask.sum()))
    if reach < 2:
        return found
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    pad = round(2 * reach) + 1
    left, top = max(0, x - pad), max(0, y - pad)
    bottom, right = min(mask.shape[0], y + h + pad), min(mask.shape[1], x + w + pad)
    window = np.s_[top:bottom, left:right]
    rows, columns = bottom - top, right - left
    zoom = min(1.0, (PIXELS / (rows * columns)) ** 0.5)
    size = max(1, round(columns * zoom)), max(1, round(rows * zoom))
    picture = cv2.resize(image[window], size, interpolation=cv2.INTER_AREA)
    own = cv2.resize(mask[window].astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    still = np.zeros(own.shape, np.bool_)
    if moving is not None:
        odds = odds_in(moving, window, mask.shape, size)
        if float(odds[own].mean()) > MOVES:
            still = odds < 0
    parts = _parts(np.asarray(picture, np.uint8), np.asarray(own), reach * zoom, np.asarray(still))
    if not parts.any():
        return found
    # half-covered pixels at its rim looked like what is around
    parts = cv2.dilate(parts.astype(np.uint8), np.ones((3, 3), np.uint8))
    soft = cv2.resize(parts.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    found[window] = (soft > 0.5) & ~mask[window]
    return found


def _parts(image: Image, mask: Mask, reach: float, still: Mask) -> Mask:
    """The same at the size (h, w) of the comparison; what stands still is no part."""
    none = np.zeros_like(mask)
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    ring, zone = away > reach, (away > 0) & (away <= reach)
    if ring.sum() < LEAST or not mask.any():
        return none
    lab = lab_of(cv2.GaussianBlur(image, (3, 3), 0))
    unit = AWAY / float(np.sqrt(mask.sum()))

    def looks(where: Mask) -> Floats:
        place = np.argwhere(where)
        return np.hstack([lab[place[:, 0], place[:, 1]], unit * place]).astype(np.float32)

    apart = np.zeros(mask.shape, np.uint8)
    distance, _ = cKDTree(looks(ring)[::2]).query(looks(zone), distance_upper_bound=2 * UNLIKE)
    apart[zone] = distance > UNLIKE
    apart = cv2.morphologyEx(apart, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    total, pieces = cv2.connectedComponents(apart)
    size = np.bincount(pieces.ravel(), minlength=total)
    beside = np.bincount(pieces[away < 2], minlength=total)
    end = np.bincount(pieces[zone & (away > reach - 2)], minlength=total)
    side = np.ones(mask.shape, np.bool_)
    side[2:-2, 2:-2] = False
    beyond = np.bincount(pieces[side], minlength=total)  # it may go on outside
    good = (size >= LEAST) & (beside >= TOUCH) & (end <= OPEN * size) & (size <= MOST * mask.sum())
    good &= (beyond < TOUCH) & (np.bincount(pieces[still], minlength=total) <= 0.5 * size)
    good[0] = False
    return np.asarray(good[pieces])
