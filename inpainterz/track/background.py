"""A memory of the background: what is seen where no object is, kept aligned with the camera."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.motion import Homography, squared
from inpainterz.types import Mask

Map = npt.NDArray[np.floating[Any]]
"""(H, W) or (H, W, C), float32."""

_CALM = 4.0
"""Differences beyond so many medians are something that moves, not noise or parallax."""


class Background:
    """The colours of the background as last seen free, in the coordinates of the current frame."""

    def __init__(self, height: int, width: int) -> None:
        self.colour: Map = np.zeros((height, width, 3), np.float32)
        self.age: Map = np.zeros((height, width), np.float32)
        """How many frames a pixel was seen free, less where alignment is poor."""

    def move(self, matrix: Homography, trust: float) -> None:
        """Follow the camera from one frame to the next.

        Args:
            matrix: homography from the old frame to the new.
            trust: 0..1, the share of the background that follows it.
        """
        height, width = self.age.shape
        if not np.allclose(matrix, np.eye(3), atol=1e-4):
            size = (width, height)
            self.colour = np.asarray(cv2.warpPerspective(self.colour, matrix, size))
            self.age = np.asarray(cv2.warpPerspective(self.age, matrix, size))
        self.age *= min(1.0, 0.5 + trust)

    def learn(self, lab: Map, free: Mask) -> None:
        """Take in what is seen where no object is.

        Args:
            lab: (H, W, 3) float32 CIE L*a*b*.
            free: (H, W) surely no object there.
        """
        blend = (free / (1.0 + np.minimum(self.age, 3.0))).astype(np.float32)[..., None]
        self.colour += blend * (lab - self.colour)
        self.age[free] += 1

    def differs(
        self, lab: Map, crop: tuple[slice, slice], free: Mask, reach: int
    ) -> tuple[Map, Map]:
        """How far a picture is from the background, in units of what is usual thereabouts.

        Args:
            lab: (h, w, 3) float32, the crop of the current frame.
            crop: where it lies.
            free: (h, w) where the difference is only noise and parallax.
            reach: px, how far around the usual difference is taken.

        Returns:
            (h, w) the difference, 1 = usual, and (h, w) 0..1 how well the background is known.
        """
        seen = np.clip(self.age[crop] / 3, 0, 1)
        own = cv2.GaussianBlur(np.ascontiguousarray(lab), (0, 0), 0.8)
        kept = cv2.GaussianBlur(np.ascontiguousarray(self.colour[crop]), (0, 0), 0.8)
        best = np.full(seen.shape, np.inf, np.float32)
        padded = np.pad(kept, ((1, 1), (1, 1), (0, 0)), mode="edge")
        height, width = seen.shape
        for dy in range(3):  # forgives a pixel of misalignment
            for dx in range(3):
                shifted = padded[dy : dy + height, dx : dx + width]
                np.minimum(best, squared(own - shifted), out=best)
        best = np.sqrt(best)
        known = (free & (seen > 0.5)).astype(np.float32)
        # what moves there, and what the mask lacks of the object, is not what is usual
        calm = best[known > 0][:: max(1, int(known.sum()) // 4096)]
        noise = np.minimum(best, _CALM * float(np.median(calm)) + 1.0 if len(calm) else 0.0)
        window = (2 * reach + 1, 2 * reach + 1)
        weight = cv2.blur(known, window)
        overall = float((noise * known).sum() / max(1.0, float(known.sum())))
        usual = (cv2.blur(noise * known, window) + 0.02 * overall) / (weight + 0.02)
        return best / (usual + 2.0), np.asarray(seen, np.float32)
