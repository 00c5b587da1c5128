"""Which of the samples that other frames offer is the background, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from inpainterz.inpaint.blend import Floats, level_gap
from inpainterz.inpaint.samples import Layers
from inpainterz.types import Mask

LEVELS = 14.0
"""Samples that differ by less, in levels, show the same thing."""


STAY = 1.0
"""What it costs a sample to differ from the frame before by 24 levels or more."""


DOUBT = 2.6
"""From this sum of doubts on, a spot is better invented than borrowed; see `choose`."""


RIM = 6
"""Pixels around all samples that are looked at with them."""


@dataclass(eq=False)
class Choice:
    """A hole filled from layers of samples."""

    pixels: Floats
    """(h, w, 3) float32, defined where `trust` > 0."""
    trust: Floats
    """(h, w) float32, 0 = no sample that can be believed .. 1 = certain."""


def choose(layers: Layers, carried: Floats, valid: Mask) -> Choice:
    """Weigh the samples of each pixel and blend those that agree with the best one.

    A sample is good when others support it (other moving things pass, the background stays), when
    its frame continues the hole's surroundings, when it was taken near in time, is not itself
    part of something that moves, and stands where the frame before had it.

    Args:
        layers: what other frames offer.
        carried: (h, w, 3) float32, the same layer of the frame before moved onto this one.
        valid: (h, w) bool, where it was known.
    """
    h, w = layers.there.shape[1:]
    fill, trust = np.zeros((h, w, 3), np.float32), np.zeros((h, w), np.float32)
    x, y, width, height = cv2.boundingRect(layers.there.any(0).astype(np.uint8))
    if width:
        x0, y0 = max(0, x - RIM) & ~1, max(0, y - RIM) & ~1
        part = np.s_[y0 : y + height + RIM, x0 : x + width + RIM]
        fill[part], trust[part] = _chosen(layers.part(part), carried[part], valid[part])
    return Choice(fill, trust)


def _chosen(layers: Layers, carried: Floats, valid: Mask) -> tuple[Floats, Floats]:
    n = len(layers.pixels)
    h, w = layers.there.shape[1:]
    spacing = 2 if h * w > 40_000 else 1
    coarse = np.s_[:, ::spacing, ::spacing]
    pixels = np.ascontiguousarray(layers.pixels[coarse])
    there = layers.there[coarse]
    voice = np.where(layers.flow, 0.4, 1.0).astype(np.float32)
    apart, both = np.zeros((n, *there.shape), np.float32), np.zeros((n, *there.shape), np.bool_)
    agreeing, votes = np.full((2, *there.shape), 0.3, np.float32)
    for a, b, gap, shared in _distances(pixels, there):
        apart[a, b] = apart[b, a] = gap
        both[a, b] = both[b, a] = shared > 0
        alike = cv2.exp(gap * np.float32(-1 / LEVELS)) * shared
        for one, other in ((a, b), (b, a)):
            agreeing[one] += voice[other] * alike
            votes[one] += voice[other] * shared
    support = agreeing / (votes + np.float32(0.7))
    stray = np.clip(layers.stray[coarse] - 0.7, 0, 2) / 2
    doubt = 2.0 * (1 - support) + 1.5 * np.minimum(layers.mismatch[coarse], 24.0) / 24.0
    cost = doubt + 0.4 * stray + 0.5 * layers.flow[:, None, None]
    cost += np.log2(1 + layers.lag[coarse]) / 3.0
    if valid.any():
        before = np.ascontiguousarray(carried[coarse[1:]])
        step = np.stack([level_gap(p, before) for p in pixels])
        cost += STAY * np.minimum(step, 24.0) / 24.0 * valid[coarse[1:]]
    cost = _smoothed(np.asarray(cost, np.float32), there)
    best = cost.argmin(0)
    rows, columns = np.indices(best.shape)
    near = apart[best, :, rows, columns].transpose(2, 0, 1)
    shared = both[best, :, rows, columns].transpose(2, 0, 1)
    weight = np.where(shared, np.exp(-((near / LEVELS) ** 2) - 2 * (cost - cost.min(0))), 0)
    weight = weight.astype(np.float32)
    np.put_along_axis(weight, best[None], 1.0, 0)
    full = np.stack([cv2.resize(x, (w, h), interpolation=cv2.INTER_LINEAR) for x in weight])
    full = np.where(layers.there, np.maximum(full, 1e-6), 0)
    full = (full / np.maximum(full.sum(0), 1e-9)).astype(np.float32)
    fill = np.einsum("nhwc,nhw->hwc", layers.pixels, full)
    seen = np.asarray(there.any(0))
    worst = np.take_along_axis(doubt + stray, best[None], 0).astype(np.float32)
    worst = _smoothed(worst, seen[None])[0]
    trust = 1 / (1 + np.exp(np.minimum(4 * (worst - DOUBT), 30)))
    trust = cv2.resize(trust.astype(np.float32), (w, h), interpolation=cv2.INTER_LINEAR)
    trust = np.where(layers.there.any(0), trust, 0)
    return np.asarray(fill, np.float32), trust.astype(np.float32)


def _distances(pixels: Floats, there: Mask) -> Iterator[tuple[int, int, Floats, Floats]]:
    """For each two layers: mean difference around each pixel, levels; and where both exist."""
    for a, b in combinations(range(len(there)), 2):
        weight = (there[a] & there[b]).astype(np.float32)
        if not weight.any():
            continue
        gap = cv2.blur(level_gap(pixels[a], pixels[b]) * weight, (5, 5))
        yield a, b, gap / np.maximum(cv2.blur(weight, (5, 5)), 1e-3), weight


def _smoothed(cost: Floats, there: Mask) -> Floats:
    """The mean cost of a layer around each pixel; very high where it has no sample."""
    smooth = np.empty_like(cost)
    for k, (c, t) in enumerate(zip(cost, there, strict=True)):
        weight = t.astype(np.float32)
        smooth[k] = cv2.blur(c * weight, (5, 5)) / np.maximum(cv2.blur(weight, (5, 5)), 1e-3)
    return np.where(there, smooth, np.float32(1e3)).astype(np.float32)
