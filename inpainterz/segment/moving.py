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


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Signs of motion against the background, in units of the frame's own noise."""

    change: Floats
    """(h, w) colour difference to the aligned neighbours; about 1 in still background."""
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
    for other in neighbours:
        other_grey = motion.grey(other)
        matrix, trust = motion.global_motion(own_grey, other_grey)
        if trust < _TRUST:
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
        aligned.append((noise / max(0.2, float(seen.mean())), change, other_grey, matrix))
    if not aligned:
        return None
    with np.errstate(all="ignore"):
        stack = np.sort(np.stack([a[1] for a in aligned]), axis=0)  # NaN last
    known = np.isfinite(stack).sum(0)
    pick = np.clip(np.floor((known - 1) * 0.4), 0, None).astype(np.intp)
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
    return Motion(change, drift, residual)
