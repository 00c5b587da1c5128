"""What moves against the background, seen from a frame and some frames around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.segment.regions import lab_of
from inpainterz.types import Image

Floats = npt.NDArray[np.float32]

_TRUST = 0.25  # share of corners that follow one homography, below which it says nothing
_FLOWS = 4  # neighbours followed densely: the most similar ones
_OVERLAP = 0.2  # share of the frame that a neighbour must show to be of use
_ROUNDS = 4  # of fitting a common motion
_LEAST, _HOLD = 1e-6, 0.02  # how strongly its shift, and its turn and zoom, are held back
_QUANTILE = 0.6  # of the changes to the neighbours, which counts


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Signs of motion against the background, in units of the frame's own noise."""

    change: Floats
    """(h, w) colour difference to the aligned neighbours; about 1 in still background."""
    texture: Floats
    """(h, w) colour spread within a few pixels in the unit of `change`: where it is small, motion
    would not have been seen."""
    drift: Floats
    """(h, w) length of the flow beyond the background's; about 1 in still background."""
    residual: Floats
    """(k, h, w, 2) flow beyond the background's to k neighbours, in the same unit."""


def observe(image: Image, neighbours: Sequence[Image]) -> Motion | None:
    """Compare a frame with its neighbours after taking out the camera's motion.

    Args:
        image: (h, w, 3) RGB.
        neighbours: of the same size and shot, in order of time.

    Returns:
        None when no neighbour could be aligned.
    """
    h, w = image.shape[:2]
    if min(h, w) < 24:
        return None
    own_grey = motion.grey(image)
    own = cv2.GaussianBlur(lab_of(image), (0, 0), 0.8)
    aligned: list[tuple[float, Floats, npt.NDArray[np.uint8], npt.NDArray[np.float64]]] = []
    units = []
    for other in neighbours:
        other_grey = motion.grey(other)
        matrix = background_motion(own_grey, other_grey)
        if matrix is None:
            continue
        warp = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        lab = cv2.GaussianBlur(lab_of(other), (0, 0), 0.8)
        moved = cv2.warpPerspective(lab, matrix, (w, h), flags=warp)
        seen = cv2.warpPerspective(
            np.ones((h, w), np.uint8),
            matrix,
            (w, h),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        )
        seen = cv2.erode(seen, np.ones((5, 5), np.uint8)) > 0
        if seen.mean() < _OVERLAP:
            continue
        difference = own - moved
        difference -= np.median(difference[seen], axis=0)  # exposure
        moved = own - difference
        # the least difference within a pixel: alignment is never exact
        least = np.full((h, w), np.inf, np.float32)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                shifted = np.roll(moved, (dy, dx), (0, 1))
                least = np.minimum(least, ((own - shifted) ** 2).sum(-1))
        least = np.sqrt(least)
        noise = float(np.median(least[seen]))
        change = np.where(seen, least / (2.0 + 2.0 * noise), np.nan).astype(np.float32)
        units.append(2.0 + 2.0 * noise)
        aligned.append((noise / max(0.2, float(seen.mean())), change, other_grey, matrix))
    if not aligned:
        return None
    with np.errstate(all="ignore"):
        stack = np.sort(np.stack([a[1] for a in aligned]), axis=0)  # NaN last
    known = np.isfinite(stack).sum(0)
    pick = np.clip(np.rint((known - 1) * _QUANTILE), 0, None).astype(np.intp)
    change = np.take_along_axis(stack, pick[None], 0)[0]
    change = np.where(known > 0, change, 0).astype(np.float32)
    flows = []
    for _, _, other_grey, matrix in sorted(aligned, key=lambda a: a[0])[:_FLOWS]:
        flow = motion.dense_flow(own_grey, other_grey)
        beyond = flow - motion.homography_flow(matrix, h, w)
        size = np.sqrt((beyond**2).sum(-1))
        flows.append(beyond / (0.5 + 2.0 * float(np.median(size))))
    residual = np.stack(flows).astype(np.float32)
    drift = np.median(np.sqrt((residual**2).sum(-1)), axis=0).astype(np.float32)
    mean = cv2.blur(own, (9, 9))
    spread = np.sqrt(np.maximum(cv2.blur(own * own, (9, 9)) - mean * mean, 0).sum(-1))
    texture = (spread / float(np.median(units))).astype(np.float32)
    return Motion(change, texture, drift, residual)


def along_with(flows: Floats, places: Floats, weights: Floats) -> Floats:
    """Which parts move as most of them do, which as the background.

    A similarity (shift, turn and zoom) is fitted to the parts in each flow; those that do not
    follow it count less and less. Turn and zoom are held back: two things that pass each other are
    no turning one.

    Args:
        flows: (m, k, 2) flow beyond the background's, in units of its noise, k times.
        places: (m, 2) of the parts, (x, y).
        weights: (m,) > 0.

    Returns:
        (m,) 1 = moves as most do, -1 = as the background, 0 = as neither or as both.
    """
    total = float(weights.sum())
    at = places - np.average(places, axis=0, weights=weights)
    at /= max(1.0, float(np.sqrt(np.average((at**2).sum(-1), weights=weights))))
    one, zero = np.ones(len(at), np.float32), np.zeros(len(at), np.float32)
    x, y = at.T
    terms = np.concatenate(
        [np.stack([one, zero, x, -y], -1), np.stack([zero, one, y, x], -1)]
    )  # (2m, 4)
    wanted = np.concatenate([flows[..., 0], flows[..., 1]])  # (2m, k)
    hold = np.diag([_LEAST, _LEAST, _HOLD, _HOLD]) * total
    counts = weights
    for _ in range(_ROUNDS):
        both = np.concatenate([counts, counts])[:, None]
        model = np.linalg.solve(terms.T @ (both * terms) + hold, terms.T @ (both * wanted))
        error = ((wanted - terms @ model) ** 2).reshape(2, len(at), -1).sum(0)
        mean = error.mean(-1)
        counts = weights / (1 + mean / max(0.5, float(np.median(mean))))
    still = (flows**2).sum(-1)
    return np.asarray(((still - error) / (still + error + 1)).mean(-1), np.float32)


def background_motion(
    a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64] | None:
    """The homography (3, 3) from a to b that the rim of the frame follows, None if none does.

    A large object in the middle may have more corners than all the background; so motion is also
    fitted without the middle, and what aligns the rim better is taken.
    """
    h, w = a.shape
    middle = np.zeros((h, w), np.uint8)
    axes = (int(0.36 * w), int(0.36 * h))
    cv2.ellipse(middle, (w // 2, h // 2), axes, 0, 0, 360, 1, -1)
    rim = middle == 0
    best, least = None, np.inf
    for ignored in (None, ~rim):
        matrix, trust = motion.global_motion(a, b, ignore_a=ignored)
        if trust < _TRUST:
            continue
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpPerspective(b, matrix, (w, h), flags=flags)
        inside = np.full((h, w), 255, np.uint8)
        seen = (cv2.warpPerspective(inside, matrix, (w, h), flags=flags) == 255) & rim
        if seen.sum() < 0.1 * rim.sum():
            continue
        error = float(np.minimum(cv2.absdiff(a, moved)[seen], 40).mean())
        if error < (least if best is None else 0.93 * least):
            best, least = matrix, error
    return best
