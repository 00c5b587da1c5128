"""What an object and its surroundings look like: descriptors of pixels and a memory of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.floating[Any]]
"""(H, W) or (H, W, C), float32."""

DESCRIPTOR = 15
"""Numbers in a descriptor."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is, the coordinates in which its parts keep their places."""

    x: float
    y: float
    size: float
    """Square root of its area, pixels."""


def describe(lab: Map, place: Place, origin: tuple[int, int] = (0, 0)) -> Map:
    """Describe pixels by colour at three scales, texture, and place relative to the object.

    Distances between descriptors are Euclidean; the weights of the parts are in the numbers.

    Args:
        lab: (H, W, 3) float32 CIE L*a*b*.
        place: of the object; its size sets the scales.
        origin: (x, y) of the first pixel of `lab` in the coordinates of `place`.

    Returns:
        (H, W, `DESCRIPTOR`) float32.
    """
    height, width = lab.shape[:2]
    size = place.size
    out = np.empty((height, width, DESCRIPTOR), np.float32)
    scaled = lab * np.asarray([0.1, 0.15, 0.15], np.float32)  # chroma tells more than lightness
    out[..., 0:3] = cv2.GaussianBlur(scaled, (0, 0), max(0.7, 0.01 * size))
    out[..., 3:6] = cv2.GaussianBlur(scaled, (0, 0), max(1.0, 0.04 * size))
    out[..., 6:9] = 0.7 * cv2.GaussianBlur(scaled, (0, 0), max(2.0, 0.12 * size))
    light = np.ascontiguousarray(lab[..., 0])
    gx = np.asarray(cv2.Sobel(light, cv2.CV_32F, 1, 0, scale=0.125))
    gy = np.asarray(cv2.Sobel(light, cv2.CV_32F, 0, 1, scale=0.125))
    steep = np.sqrt(gx * gx + gy * gy) + 1e-3
    texture = np.stack(
        [np.abs(gx), np.abs(gy), (gx * gx - gy * gy) / steep, 2 * gx * gy / steep], -1
    )
    out[..., 9:13] = 0.4 * cv2.GaussianBlur(texture, (0, 0), max(1.5, 0.06 * size))
    out[..., 13] = (2.0 * (np.arange(width) + origin[0] - place.x) / size)[None, :]
    out[..., 14] = (2.0 * (np.arange(height) + origin[1] - place.y) / size)[:, None]
    return out


@dataclass(slots=True, eq=False)
class Samples:
    """Descriptors (N, `DESCRIPTOR`) of pixels of the object and of its surroundings."""

    inside: Map
    outside: Map


@dataclass(slots=True, eq=False)
class Memory:
    """Descriptors of the frames that the user showed, and of the last ones that were trusted.

    Args:
        shown_frames, seen_frames: how many of each kind are kept; the oldest goes first.
    """

    shown_frames: int = 2
    seen_frames: int = 6
    shown: list[Samples] = field(default_factory=list)
    seen: list[Samples] = field(default_factory=list)

    def learn(
        self,
        descriptors: Map,
        belief: Map,
        *,
        shown: bool,
        count: int,
        random: np.random.Generator,
    ) -> None:
        """Take in one frame.

        Args:
            descriptors: (H, W, `DESCRIPTOR`).
            belief: (H, W) 0..1; pixels in between are left out.
            shown: the user showed this frame.
            count: how many pixels of the object to keep; of the surroundings half as many more.
            random: chooses them.
        """
        inside = np.flatnonzero(belief > 0.8)
        if not len(inside):
            inside = np.flatnonzero(belief > 0.5)
        outside = np.flatnonzero(belief < 0.1)
        if not len(inside) or not len(outside):
            return
        flat = descriptors.reshape(-1, DESCRIPTOR)
        sample = Samples(
            flat[random.choice(inside, min(count, len(inside)), replace=False)],
            flat[random.choice(outside, min(count * 3 // 2, len(outside)), replace=False)],
        )
        kept, limit = (self.shown, self.shown_frames) if shown else (self.seen, self.seen_frames)
        kept.append(sample)
        del kept[:-limit]

    def log_ratios(self, descriptors: Map) -> tuple[Map, Map]:
        """How much more each pixel looks like the object than like its surroundings.

        Args:
            descriptors: (N, `DESCRIPTOR`).

        Returns:
            Two (N,) logarithms of the ratio of kernel densities: by the frames that were shown,
            and by those seen since. 0 where neither resembles anything known.
        """
        shown = _log_ratio(descriptors, self.shown)
        return shown, _log_ratio(descriptors, self.seen) if self.seen else shown


def _log_ratio(descriptors: Map, kept: list[Samples]) -> Map:
    density = [
        _density(descriptors, np.concatenate([getattr(s, part) for s in kept]))
        for part in ("inside", "outside")
    ]
    return np.asarray(np.log(density[0] + 1e-4) - np.log(density[1] + 1e-4), np.float32)


def _density(at: Map, samples: Map) -> Map:
    """(N,) mean over the samples of exp(-distance^2)."""
    out = np.empty(len(at), np.float32)
    centred = samples.T.astype(np.float32)
    own = (samples**2).sum(-1)
    block = 1024  # keeps the table of distances in the cache
    for start in range(0, len(at), block):
        part = at[start : start + block]
        table = part @ centred
        table *= 2
        table -= own
        table -= (part**2).sum(-1)[:, None]
        np.maximum(table, -30, out=table)  # beyond it OpenCV's exp is slow on denormals
        cv2.exp(table, table)
        out[start : start + block] = table.mean(-1)
    return out
