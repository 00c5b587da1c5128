"""What an object and its surroundings look like: descriptors of pixels and a memory of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.floating[Any]]
"""(H, W) or (H, W, C), float32."""

DESCRIPTOR = 15
"""Numbers in a descriptor."""


_LOOKS = 13
"""How many of them are about looks, not place; they come first."""

_COLOURS = 3
"""How many of those are the block's own colour; they come first of all."""

_NOTHING = 1e-4
"""The density that is taken for none at all."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is, the coordinates in which its parts keep their places."""

    x: float
    y: float
    size: float
    """Square root of its area, pixels."""


def describe(lab: Map, place: Place, origin: tuple[int, int] = (0, 0), step: int = 1) -> Map:
    """Describe blocks of pixels by colour at three scales, texture, and place in the object.

    Distances between descriptors are Euclidean; the weights of the parts are in the numbers.

    Args:
        lab: (H, W, 3) float32 CIE L*a*b*.
        place: of the object; its size sets the scales.
        origin: (x, y) of the first pixel of `lab` in the coordinates of `place`.
        step: side of the blocks, px; descriptors compare only with those of the same step.

    Returns:
        (ceil(H / step), ceil(W / step), `DESCRIPTOR`) float32.
    """
    light = np.ascontiguousarray(lab[..., 0])
    gx = np.asarray(cv2.Sobel(light, cv2.CV_32F, 1, 0, scale=0.125))
    gy = np.asarray(cv2.Sobel(light, cv2.CV_32F, 0, 1, scale=0.125))
    steep = np.sqrt(gx * gx + gy * gy) + 1e-3
    texture = cv2.merge([np.abs(gx), np.abs(gy), (gx * gx - gy * gy) / steep, 2 * gx * gy / steep])
    if step > 1:
        lab, texture = reduced(lab, step), reduced(texture, step)
    x, y = (
        (at - corner + 0.5) / step - 0.5
        for at, corner in zip((place.x, place.y), origin, strict=True)
    )
    height, width = lab.shape[:2]
    size = place.size / step

    def soft(values: Map, sigma_px: float) -> Map:
        """Blurred as by `sigma_px` of the picture; blocks are that of a sixth of their area."""
        left = np.sqrt(max(0.0, sigma_px**2 - (step**2 - 1) / 12)) / step
        return np.asarray(cv2.GaussianBlur(values, (0, 0), left) if left > 0.3 else values)

    out = np.empty((height, width, DESCRIPTOR), np.float32)
    scaled = lab * np.asarray([0.1, 0.15, 0.15], np.float32)  # chroma tells more than lightness
    out[..., 0:3] = soft(scaled, max(0.7, 0.01 * place.size))
    out[..., 3:6] = soft(scaled, max(1.0, 0.04 * place.size))
    out[..., 6:9] = 0.7 * soft(scaled, max(2.0, 0.12 * place.size))
    out[..., 9:13] = 0.4 * soft(texture, max(1.5, 0.06 * place.size))
    out[..., 13] = (2.0 * (np.arange(width) - x) / size)[None, :]
    out[..., 14] = (2.0 * (np.arange(height) - y) / size)[:, None]
    return out


def reduced(values: Map, step: int) -> Map:
    """The means of blocks of step x step pixels; the last ones may go beyond the edge."""
    height, width = values.shape[:2]
    below, beside = -height % step, -width % step
    if below or beside:
        values = cv2.copyMakeBorder(values, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    size = ((width + beside) // step, (height + below) // step)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def middles(values: Map, step: int) -> Map:
    """The pixels in the middle of the blocks of `reduced`."""
    rows, columns = (
        np.minimum(np.arange(step // 2, n + step - 1 - (n - 1) % step, step), n - 1)
        for n in values.shape[:2]
    )
    return values[np.ix_(rows, columns)]


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

    def copy(self) -> Memory:
        """One that learns apart from this one."""
        return replace(self, shown=list(self.shown), seen=list(self.seen))

    def moved(self, old: Place, new: Place) -> Memory:
        """The same looks at the same spots of the picture, when an object has another place."""

        def there(samples: Map) -> Map:
            out = samples.copy()
            shift = np.asarray([old.x - new.x, old.y - new.y])
            out[:, _LOOKS:] = (old.size * samples[:, _LOOKS:] + 2 * shift) / new.size
            return out

        def all_there(kept: list[Samples]) -> list[Samples]:
            return [Samples(there(s.inside), there(s.outside)) for s in kept]

        return replace(self, shown=all_there(self.shown), seen=all_there(self.seen))

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

    def likeness(self, descriptors: Map) -> tuple[Map, Map, Map]:
        """How much more each pixel looks like the object than like its surroundings.

        Args:
            descriptors: (N, `DESCRIPTOR`).

        Returns:
            (N,) each: the logarithm of the ratio of kernel densities by the frames that were
            shown, 0 where neither resembles anything known; the same by those seen since; and
            how new the pixel is to what was shown, 0..1.
        """
        if not self.shown:  # the object filled the whole picture: nothing to tell it from
            nothing = np.zeros(len(descriptors), np.float32)
            return nothing, nothing, nothing + 1
        shown, new = _log_ratio(descriptors, self.shown)
        seen = _log_ratio(descriptors, self.seen)[0] if self.seen else shown
        return shown, seen, new

    def colours_in_common(self, descriptors: Map, fullness: float) -> float:
        """How far something has the object's colours in the object's proportions, 0..1.

        A pair of jeans is like a part of anyone in jeans: this tells whether there is more of a
        colour than the object has (the histogram intersection of Swain and Ballard, Color Indexing,
        IJCV 7(1), 1991, with kernel densities for bins). Less of one is no fault: a part may be
        hidden.

        Args:
            descriptors: (N, `DESCRIPTOR`), one or more of those of the thing.
            fullness: its area as a share of the object's.
        """
        if not self.shown or not len(descriptors):
            return 1.0
        few = descriptors[:: max(1, len(descriptors) // 400), :_COLOURS]
        at = np.ascontiguousarray(few)
        here = min(1.0, fullness) * _density(at, at)
        # what the user corrected may have looked quite otherwise before
        shown = [samples.inside[:, :_COLOURS] for samples in self.shown]
        seen = [samples.inside[:, :_COLOURS] for samples in self.seen]
        known = [*shown, np.concatenate(shown + seen)] if seen else shown
        return max(float(np.minimum(1, _density(at, k) / here).mean()) for k in known)

    def likeness_anywhere(self, descriptors: Map) -> Map:
        """(N,) the log ratio by all frames known, wherever in the picture a pixel lies."""
        known = self.shown + self.seen
        if not known:
            return np.zeros(len(descriptors), np.float32)
        return _log_ratio(descriptors, known, parts=_LOOKS)[0]


def _log_ratio(descriptors: Map, kept: list[Samples], parts: int = DESCRIPTOR) -> tuple[Map, Map]:
    at = np.ascontiguousarray(descriptors[:, :parts])
    inside, outside = (
        np.log(_density(at, np.concatenate([getattr(s, part)[:, :parts] for s in kept])) + _NOTHING)
        for part in ("inside", "outside")
    )
    new = np.maximum(inside, outside) / np.log(_NOTHING)
    return np.asarray(inside - outside, np.float32), np.asarray(np.clip(new, 0, 1), np.float32)


def _density(at: Map, samples: Map) -> Map:
    """(N,) mean over the samples of exp(-distance^2)."""
    # one product makes all of 2ab - bb - aa and another the mean: passes over the table cost most
    rows = np.concatenate([at, np.ones_like(at[:, :1]), (at**2).sum(-1, keepdims=True)], 1)
    columns = np.concatenate(
        [2 * samples, -(samples**2).sum(-1, keepdims=True), -np.ones_like(samples[:, :1])], 1
    ).T
    share = np.full(len(samples), 1 / len(samples), np.float32)
    out = np.empty(len(at), np.float32)
    block = max(1, 2**18 // len(samples))  # keeps the table in the cache
    for start in range(0, len(at), block):
        table = rows[start : start + block] @ columns
        np.maximum(table, -30, out=table)  # beyond it OpenCV's exp is slow on denormals
        cv2.exp(table, table)
        out[start : start + block] = table @ share
    return out
