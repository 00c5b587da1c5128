"""What lies behind the walker of the example clip, from frames where the spot is free.

Independent of the package's own motion code: SIFT matches, one homography for each pair of
frames, the median of the samples, and the walker as what differs from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FRAMES = tuple(range(1, 26, 2))
"""The frames that are checked; from frame 27 on no more than a shoe of his is in the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One frame's truth."""

    plate: np.ndarray
    """(H, W, 3) float32 RGB, the street without him; NaN where no frame shows it."""
    walker: np.ndarray
    """(H, W) bool."""
    care: np.ndarray
    """(H, W) bool, False round the bollard and at the foot of the picture: both are nearer to the
    camera than the wall and move differently."""


def references(images: list[np.ndarray]) -> dict[int, Reference]:
    """The truth for `FRAMES` of the clip's images."""
    sift = cv2.SIFT_create(1500, contrastThreshold=0.02)
    seen = [sift.detectAndCompute(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), None) for i in images]
    return {t: _reference(images, seen, t) for t in FRAMES}


def _homography(seen: list, t: int, j: int) -> np.ndarray:
    pairs = cv2.BFMatcher().knnMatch(seen[t][1], seen[j][1], k=2)
    good = [a for a, b in pairs if a.distance < 0.75 * b.distance]
    here = np.array([seen[t][0][m.queryIdx].pt for m in good], np.float32)
    there = np.array([seen[j][0][m.trainIdx].pt for m in good], np.float32)
    return np.asarray(cv2.findHomography(here, there, cv2.USAC_MAGSAC, 1.0)[0])


def _reference(images: list[np.ndarray], seen: list, t: int) -> Reference:
    h, w = images[t].shape[:2]
    x, y = np.meshgrid(np.arange(w), np.arange(h))
    centre = 125 + 17.7 * t  # he walks to the right at an even pace
    samples = []
    for offset in (-15, -13, -11, -9, 9, 11, 13, 15, 18, 21):
        j = t + offset
        if not 0 <= j < len(images):
            continue
        matrix = _homography(seen, t, j)
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        image = cv2.warpPerspective(images[j], matrix, (w, h), flags=flags).astype(np.float32)
        inside = cv2.warpPerspective(np.ones((h, w), np.uint8), matrix, (w, h), flags=flags) > 0
        inside &= np.abs(x - (125 + 17.7 * j)) > 110  # not where he is in that frame
        image[~inside] = np.nan
        samples.append(image)
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(np.stack(samples)).all(0)
        plate = np.where(known, np.nanmedian(np.where(known, samples, 0), 0), np.nan)
    difference = np.nan_to_num(np.abs(images[t] - plate).max(-1)).astype(np.float32)
    bollard = 280 - 82 * t / 54
    care = ~((np.abs(x - bollard) < 48) & (y > 80)) & (y < 225)
    near = np.abs(x - centre) < 150
    mask = ((cv2.GaussianBlur(difference, (5, 5), 0) > 16) & care & near).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((13, 13), np.uint8))
    count, parts, facts, _ = cv2.connectedComponentsWithStats(mask)
    large = [k for k in range(1, count) if facts[k, cv2.CC_STAT_AREA] > 600]
    return Reference(plate.astype(np.float32), np.isin(parts, large) & care, care)
