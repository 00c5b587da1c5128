"""What an object and its surroundings look like, learnt while they are followed."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Map = npt.NDArray[np.float32]
"""(H, W) float32."""

BINS = (16, 24, 24)
"""Bins of L (0..100), a and b (-96..96)."""


def _cells(lab: Map) -> npt.NDArray[np.intp]:
    low, high = np.float32([0, -96, -96]), np.float32([100, 96, 96])
    at = (lab - low) / (high - low) * np.float32(BINS)
    at = np.clip(at, 0, np.float32(BINS) - 1).astype(np.intp)
    return np.asarray((at[..., 0] * BINS[1] + at[..., 1]) * BINS[2] + at[..., 2], np.intp)


class ColourModel:
    """Colour histograms of one object and of what surrounds it; shown and learnt parts apart."""

    def __init__(self, *, forget: float = 0.05) -> None:
        count = BINS[0] * BINS[1] * BINS[2]
        self._forget = forget
        self._shown = np.zeros((2, count), np.float32)
        self._seen = np.zeros((2, count), np.float32)
        self._table: Map | None = None

    def learn(self, lab: Map, belief: Map, *, permanent: bool) -> None:
        """Take in one frame.

        Args:
            lab: (H, W, 3) CIE L*a*b*.
            belief: (H, W) 0..1, the object.
            permanent: never forgotten.
        """
        solid = (belief > 0.5).astype(np.uint8)
        if not solid.any():
            return
        reach = int(10 + 0.5 * np.sqrt(solid.sum()))
        inside = cv2.erode(solid, np.ones((3, 3), np.uint8)) > 0
        if not inside.any():
            inside = solid > 0
        ring = cv2.boxFilter(solid.astype(np.float32), -1, (2 * reach + 1, 2 * reach + 1)) > 0
        outside = ring & (cv2.dilate(solid, np.ones((5, 5), np.uint8)) == 0)
        cells = _cells(lab)
        for k, where in enumerate((outside, inside)):
            counts = np.bincount(cells[where], minlength=self._seen.shape[1]).astype(np.float32)
            counts /= max(1.0, float(counts.sum()))
            if permanent:
                self._shown[k] += counts
            self._seen[k] += (1.0 if permanent else self._forget) * (counts - self._seen[k])
        self._table = None

    def log_ratio(self, lab: Map) -> Map:
        """(H, W): log of how much more a colour is the object's than its surroundings'."""
        if self._table is None:
            parts = []
            for k in range(2):
                shown = self._shown[k] / max(1e-6, float(self._shown[k].sum()))
                share = (0.5 * shown + 0.5 * self._seen[k]).reshape(BINS)
                parts.append(ndimage.gaussian_filter(share, 0.7).ravel() + 2e-5)
            self._table = np.log(parts[1] / parts[0]).astype(np.float32)
        return np.asarray(self._table[_cells(lab)], np.float32)
