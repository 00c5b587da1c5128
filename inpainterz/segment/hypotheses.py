"""A pool of object hypotheses around a prompt, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from inpainterz.segment import regions as rg
from inpainterz.segment.moving import Motion
from inpainterz.segment.regions import Flags, Floats, Regions

COLOURS = 48
_LIMIT = 3.0  # log odds of one cue never exceed this: no cue is ever certain
_SCALES = (0.03, 0.045, 0.07, 0.1, 0.15, 0.22, 0.33)  # object radius / sqrt(frame area)


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """A frame prepared for cutting objects out of it."""

    regions: Regions
    likeness: Floats
    """(n, COLOURS) soft membership of each region in the frame's own palette."""
    separation: Floats
    """(e,) 0..1, how much of a border there is between neighbours."""
    motion: Floats | None
    """(n,) log odds of moving against the background."""
    drift: Floats | None
    """(n, 2k) flow beyond the background's, in units of noise."""

    @staticmethod
    def of(regions: Regions, seen: Motion | None) -> Judge:
        """Measure what every prompt on this frame needs."""
        n = regions.count
        k = min(COLOURS, n)
        stop = (cv2.TERM_CRITERIA_MAX_ITER, 12, 0.1)
        cv2.setRNGSeed(7)
        if n > k:
            _, _, centres = cv2.kmeans(regions.colour, k, None, stop, 1, cv2.KMEANS_PP_CENTERS)
        else:
            centres = regions.colour.copy()
        distance = ((regions.colour[:, None] - centres[None]) ** 2).sum(-1)
        spread = max(16.0, float(np.median(distance.min(1))))
        likeness = np.exp(-0.5 * (distance - distance.min(1, keepdims=True)) / spread)
        likeness /= likeness.sum(1, keepdims=True)
        step = regions.colour[regions.pairs[:, 0]] - regions.colour[regions.pairs[:, 1]]
        step = 0.5 * (np.sqrt((step**2).sum(-1)) + regions.contrast)
        typical = max(2.0, float(np.mean(step)) if len(step) else 2.0)
        separation = 1 - np.exp(-0.5 * (step / typical) ** 2)
        odds = drift = None
        if seen is not None:
            change = regions.mean(np.clip(seen.change, 0, 12))
            pace = regions.mean(np.clip(seen.drift, 0, 12))
            odds = np.clip(0.9 * (change - 1.2), -1.0, 2.5) + np.clip(0.7 * (pace - 1.6), -1.0, 1.5)
            odds = odds.astype(np.float32)
            flat = seen.residual.transpose(1, 2, 0, 3).reshape(*regions.labels.shape, -1)
            drift = regions.mean(flat)
        return Judge(
            regions, likeness.astype(np.float32), separation.astype(np.float32), odds, drift
        )


@dataclass(frozen=True, slots=True, eq=False)
class Hint:
    """A prompt in pixels of the reduced frame."""

    points: Floats
    positive: Flags
    box: Floats | None
    previous: Flags | None
    """(n,) the last answer, by region."""
    fresh: Flags
    """(N,) clicks that the last answer did not know."""


@dataclass(frozen=True, slots=True, eq=False)
class Traits:
    """What a hypothesis is judged by, each about 0..1."""

    border: float
    contrast: float
    motion: float
    compact: float
    centred: float
    size: float
    frame: float
    box: float

    def vector(self) -> Floats:
        return np.asarray(
            [
                self.border,
                self.contrast,
                self.motion,
                self.compact,
                self.centred,
                self.size,
                self.frame,
                self.box,
            ],
            np.float32,
        )


WEIGHTS = np.asarray([1.0, 0.8, 1.2, 0.6, 0.5, 0.3, -0.8, 2.0], np.float32)


class Pool:
    """All hypotheses for one prompt."""

    def __init__(self, judge: Judge, hint: Hint) -> None:
        self.judge, self.hint = judge, hint
        r = judge.regions
        at = hint.points.astype(np.intp)
        hit = r.labels[at[:, 1], at[:, 0]] if len(at) else np.zeros(0, np.intp)
        self.inside = np.zeros(r.count, np.bool_)
        self.outside = np.zeros(r.count, np.bool_)
        self.outside[hit[~hint.positive]] = True
        self.inside[hit[hint.positive]] = True
        self.outside &= ~self.inside
        self.seeds = np.flatnonzero(self.inside)
        self.frame_size = float(np.sqrt(r.labels.size))
        if hint.box is not None:
            x0, y0, x1, y1 = hint.box
            cx, cy = r.centre.T
            self.outside |= ~self.inside & ((cx < x0) | (cx > x1) | (cy < y0) | (cy > y1))
        self.cost = (r.length * (1 - judge.separation + 0.04) * 3.0).astype(np.float32)

    def best(self) -> tuple[Flags, float]:
        """(n,) the regions of the best hypothesis, and how good it is believed to be, 0..1."""
        found = self.hypotheses()
        marks = [float(self.traits(x).vector() @ WEIGHTS) for x in found]
        top = int(np.argmax(marks))
        return found[top], float(np.clip(marks[top] / 4.0, 0.05, 0.95))

    def hypotheses(self) -> list[Flags]:
        """Every different labelling that keeps to the clicks; never empty."""
        found: dict[bytes, Flags] = {}

        def add(x: Flags) -> None:
            x = self.whole((x | self.inside) & ~self.outside)
            if x.any():
                found.setdefault(x.tobytes(), x)

        hint = self.hint
        if hint.previous is not None:
            for x in self.edits(hint.previous):
                add(x)
        elif hint.box is not None:
            for x in self.from_box(hint.box):
                add(x)
        else:
            for x in self.from_clicks():
                add(x)
        if not found:
            x = self.inside.copy()
            if not x.any():  # a box smaller than a region
                x[int(np.argmin(self.outside))] = True
            found[b""] = x
        return list(found.values())

    def whole(self, x: Flags) -> Flags:
        """Only the pieces that hold a positive click; with a box alone, all large pieces."""
        r = self.judge.regions
        a, b = r.pairs.T
        keep = x[a] & x[b]
        graph = sparse.coo_matrix(
            (np.ones(int(keep.sum()), np.int8), (a[keep], b[keep])), shape=(r.count, r.count)
        )
        n, piece = csgraph.connected_components(graph, directed=False)
        if len(self.seeds):
            wanted = np.zeros(n, np.bool_)
            wanted[piece[self.seeds]] = True
            if self.hint.box is not None:
                size = np.bincount(piece[x], r.area[x], n)
                wanted |= size > 0.15 * size.max()
        else:
            size = np.bincount(piece[x], r.area[x], n)
            wanted = size > 0.15 * size.max() if size.any() else np.zeros(n, np.bool_)
        x = x & wanted[piece]
        # holes that nobody asked for
        out = ~x[a] & ~x[b]
        graph = sparse.coo_matrix(
            (np.ones(int(out.sum()), np.int8), (a[out], b[out])), shape=(r.count, r.count)
        )
        n, piece = csgraph.connected_components(graph, directed=False)
        size = np.bincount(piece[~x], r.area[~x], n)
        small = size < 0.05 * r.area[x].sum()
        small[piece[self.outside & ~x]] = False
        return np.asarray(x | (~x & small[piece]))

    def colour_odds(self, fore: Floats, back: Floats) -> Floats:
        """(n,) log odds of colour given weights (n,) of object and background regions."""
        like = self.judge.likeness
        p = like.T @ fore / max(1e-6, float(fore.sum()))
        q = like.T @ back / max(1e-6, float(back.sum()))
        odds = np.log((like @ p + 2e-3) / (like @ q + 2e-3))
        return np.clip(odds, -_LIMIT, _LIMIT).astype(np.float32)

    def _cut(self, per_pixel: Floats) -> Flags:
        r = self.judge.regions
        return rg.cut(per_pixel * r.area * 0.12, r.pairs, self.cost, self.inside, self.outside)

    def _learn(self, start: Flags, place: Floats, motion_weight: float, rounds: int) -> list[Flags]:
        """Cut, learn colours, cut again; the labellings on the way."""
        r = self.judge.regions
        moving = self.judge.motion
        x, way = start, []
        for _ in range(rounds):
            if not x.any() or x.all():
                break
            near = (~x) & (place > -2 * _LIMIT)
            odds = self.colour_odds(r.area * x, r.area * (near if near.any() else ~x))
            unary = odds + place
            if moving is not None:
                unary = unary + motion_weight * moving
            x = self.whole(self._cut(unary) & ~self.outside | self.inside)
            way.append(x)
        return way

    def from_clicks(self) -> list[Flags]:
        """Hypotheses at every scale around the positive clicks."""
        r, judge = self.judge.regions, self.judge
        found: list[Flags] = []
        step = np.sqrt(((r.centre[r.pairs[:, 0]] - r.centre[r.pairs[:, 1]]) ** 2).sum(-1))
        way = rg.distances(r, step * (0.3 + 3.0 * judge.separation), self.seeds)
        seeds = r.centre[self.seeds]
        far = np.sqrt(((r.centre[:, None] - seeds[None]) ** 2).sum(-1)).min(1)
        way = np.minimum(way, 1e4)
        motions = (0.0,) if judge.motion is None else (0.0, 0.7, 1.6)
        for share in _SCALES:
            radius = share * self.frame_size
            reach = 0.5 * (far + way) / radius
            place = np.clip(1.2 - reach, -4.0, 1.0).astype(np.float32)
            start = reach < 0.8
            start[self.seeds] = True
            for weight in motions:
                found += self._learn(start, place, weight, 2)
        if judge.motion is not None:
            for base in (0.0, 0.5, 1.0):
                place = np.clip(0.3 - far / (0.5 * self.frame_size), -3, 0).astype(np.float32)
                x = self.whole(self._cut(judge.motion - base + place) | self.inside)
                found.append(x)
                found += self._learn(x, place, 1.0, 2)
        return found

    def from_box(self, box: Floats) -> list[Flags]:
        """Hypotheses that fill the box."""
        r, judge = self.judge.regions, self.judge
        x0, y0, x1, y1 = box
        half = np.maximum([(x1 - x0) / 2, (y1 - y0) / 2], 1)
        off = np.abs(r.centre - [(x0 + x1) / 2, (y0 + y1) / 2]) / half
        depth = off.max(1)
        round_ = np.sqrt((off**2).sum(1))
        found: list[Flags] = []
        motions = (0.0,) if judge.motion is None else (0.0, 0.7, 1.6)
        for bias in (-0.3, 0.3, 0.9):
            place = np.where(depth > 1, -3, bias + 0.6 * (0.7 - round_)).astype(np.float32)
            for weight in motions:
                for start in (depth < 1, round_ < 0.8):
                    start = (start | self.inside) & ~self.outside
                    found += self._learn(start, place, weight, 3)
        return found

    def edits(self, previous: Flags) -> list[Flags]:
        """The last answer, changed around the new clicks."""
        r, judge = self.judge.regions, self.judge
        found: list[Flags] = []
        at = self.hint.points.astype(np.intp)
        hit = r.labels[at[:, 1], at[:, 0]]
        step = np.sqrt(((r.centre[r.pairs[:, 0]] - r.centre[r.pairs[:, 1]]) ** 2).sum(-1))
        fresh = hit[self.hint.fresh]
        sign = np.where(previous, 1.0, -1.0)
        if not len(fresh):
            return [previous]
        way = np.minimum(rg.distances(r, step * (0.3 + 3.0 * judge.separation), fresh), 1e4)
        wish = np.zeros(r.count)
        nearest = np.argmin(((r.centre[:, None] - r.centre[fresh][None]) ** 2).sum(-1), axis=1)
        wish = np.where(self.hint.positive[self.hint.fresh][nearest], 1.0, -1.0)
        for share in _SCALES:
            reach = way / (share * self.frame_size)
            trust = np.clip(reach - 0.6, 0, 1)
            place = 1.5 * sign * trust + 1.2 * wish * np.clip(1 - reach, 0, 1)
            base = np.where(reach < 0.8, wish > 0, previous)
            for weight in (0.0, 0.7) if judge.motion is not None else (0.0,):
                found += self._learn(base, place.astype(np.float32), weight, 2)
        return found

    def traits(self, x: Flags) -> Traits:
        """Measure one hypothesis."""
        r, judge = self.judge.regions, self.judge
        a, b = r.pairs.T
        rim = x[a] != x[b]
        length = max(1.0, float(r.length[rim].sum()))
        area = max(1.0, float(r.area[x].sum()))
        border = float((r.length[rim] * judge.separation[rim]).sum() / length)
        mask = x[r.labels].astype(np.uint8)
        ring_px = max(2, round(0.25 * area**0.5))
        kernel = np.ones((2 * ring_px + 1, 2 * ring_px + 1), np.uint8)
        ring = (cv2.dilate(mask, kernel) > 0) & (mask == 0)
        ring_share = np.bincount(r.labels[ring], minlength=r.count).astype(np.float32)
        fore = judge.likeness.T @ (r.area * x) / area
        back = judge.likeness.T @ ring_share / max(1.0, float(ring_share.sum()))
        contrast = float(1 - np.sqrt(fore * back).sum())
        motion = 0.0
        if judge.motion is not None and ring.any():
            m = np.tanh(judge.motion)
            motion = float((m * r.area * x).sum() / area - (m * ring_share).sum() / ring.sum()) / 2
        x0, y0, dx, dy = cv2.boundingRect(mask)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        hull = sum(cv2.contourArea(cv2.convexHull(c)) for c in contours)
        compact = min(1.0, area / max(1.0, hull))
        depth = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, 0), cv2.DIST_L2, 3)
        depth = depth[1:-1, 1:-1]
        on = self.hint.points[self.hint.positive].astype(np.intp)
        centred = 0.0
        if len(on):
            centred = float(depth[on[0, 1], on[0, 0]] / max(1.0, float(depth.max())))
        share = area / mask.size
        size = float(np.clip(1 + np.log10(max(share, 1e-5) / 0.02), 0, 1))
        edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        fit = 0.0
        if self.hint.box is not None:
            bx0, by0, bx1, by1 = self.hint.box
            ix = max(0.0, min(bx1, x0 + dx) - max(bx0, x0))
            iy = max(0.0, min(by1, y0 + dy) - max(by0, y0))
            fit = ix * iy / max(1.0, (bx1 - bx0) * (by1 - by0) + dx * dy - ix * iy)
        return Traits(
            border,
            contrast,
            motion,
            compact,
            centred,
            size,
            float(np.clip(edge.mean() * 4 - 0.2, 0, 1)),
            fit,
        )
