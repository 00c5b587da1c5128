"""A pool of object hypotheses around a prompt, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from inpainterz.segment import regions as rg
from inpainterz.segment.moving import Motion, along_with
from inpainterz.segment.regions import Flags, Floats, Regions

COLOURS = 48
_LIMIT = 3.0  # log odds of one cue never exceed this: no cue is ever certain
_SNUG = 0.88  # IoU of two boxes that are as good as equal
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
    sure: Floats | None
    """(n,) 0..1, how much `motion` of a region says."""
    map: Floats | None
    """(h, w) the same by pixel, for outlines finer than regions."""
    flows: Floats | None = None
    """(n, k, 2) flow of each region beyond the background's, as `Motion.residual`."""

    @staticmethod
    def of(regions: Regions, seen: Motion | None) -> Judge:
        """Measure what every prompt on this frame needs."""
        n = regions.count
        k = min(COLOURS, n)
        look = np.concatenate([regions.colour, regions.grain[:, None]], -1)
        stop = (cv2.TERM_CRITERIA_MAX_ITER, 12, 0.1)
        cv2.setRNGSeed(7)
        if n > k:
            _, _, centres = cv2.kmeans(look, k, None, stop, 1, cv2.KMEANS_PP_CENTERS)
        else:
            centres = look.copy()
        distance = ((look[:, None] - centres[None]) ** 2).sum(-1)
        spread = max(16.0, float(np.median(distance.min(1))))
        likeness = np.exp(-0.5 * (distance - distance.min(1, keepdims=True)) / spread)
        likeness /= likeness.sum(1, keepdims=True)
        step = look[regions.pairs[:, 0]] - look[regions.pairs[:, 1]]
        step = 0.5 * (np.sqrt((step**2).sum(-1)) + regions.contrast)
        typical = max(2.0, float(np.mean(step)) if len(step) else 2.0)
        separation = 1 - np.exp(-0.5 * (step / typical) ** 2)
        odds = sure = by_pixel = flows = None
        if seen is not None:
            flows = np.stack([regions.mean(flow) for flow in seen.residual], 1)
            by_pixel = _moving_odds(seen.change, seen.drift, np.clip(seen.texture, 0, 1))
            tells = np.clip(regions.mean(np.clip(seen.texture, 0, 4)), 0, 1)
            change = regions.mean(np.clip(seen.change, 0, 12))
            odds = _moving_odds(change, regions.mean(np.clip(seen.drift, 0, 12)), tells)
            sure = np.clip(np.maximum(tells, np.abs(np.tanh(odds))), 0.05, 1)
        return Judge(
            regions=regions,
            likeness=likeness.astype(np.float32),
            separation=separation.astype(np.float32),
            motion=odds,
            sure=sure,
            map=by_pixel,
            flows=flows,
        )


def _moving_odds(change: Floats, drift: Floats, tells: Floats) -> Floats:
    """Log odds of moving against the background.

    Args:
        change, drift: as in `Motion`.
        tells: 0..1, whether there is texture that would show a motion; flow is smeared into what
            has none, and what has none looks still.
    """
    changed = 0.9 * (change - 1.2)
    changed = np.clip(np.where(changed < 0, changed * tells, changed), -1.0, 2.5)
    drifts = np.clip(0.7 * (drift - 1.6), -1.0, 1.5) * (0.35 + 0.65 * tells)
    # textured, seen, and unchanged: its flow is a neighbour's, smeared over it
    smeared = tells * np.clip(1.2 - change, 0, 1)
    drifts = np.where(drifts > 0, drifts * (1 - 0.6 * smeared), drifts)
    return np.asarray(changed + drifts, np.float32)


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
    past: tuple[tuple[Flags, tuple[float, float]], ...] = ()
    """Earlier answers (n,) by region, each with the click (x, y) that corrected it."""


SITUATIONS = ("click", "still", "edit", "box")
"""A first answer with and without motion, a correction, a box."""

_WEIGHED: dict[str, tuple[float, float, float, float]] = {
    # mean separation along the outline
    "border": (1.0, 3.18, 1.85, 2.1),
    # share of the outline where there is hardly any separation
    "leak": (-2.0, -2.96, -1.76, -2.2),
    # colour distance to a ring around it (Bhattacharyya)
    "contrast": (0.8, 1.75, 1.21, 0.6),
    # motion inside, if the click moves
    "moves": (3.2, 0.0, 1.26, 3.3),
    # motion in the ring around, if the click moves
    "still": (-0.7, 0.0, -0.81, 0.0),
    # motion inside, if the click is still
    "calm": (0.0, 0.0, -0.42, 1.0),
    # area over convex hull
    "compact": (-0.3, -2.06, -0.76, 0.0),
    # depth of the first click over the greatest depth
    "centred": (2.4, 2.62, 2.41, 0.5),
    # log of the share of the frame, 0 at 1e-4, 1 at 1
    "size": (1.9, 1.79, 0.89, 0.7),
    # share of the frame's rim that it covers
    "frame": (-2.5, -4.3, -2.47, -1.0),
    # IoU of its bounding box with the prompt's
    "box": (0.0, 0.0, 0.0, 2.9),
    # share of the prompt's box that it fills
    "fill": (0.0, 0.0, 0.0, 1.3),
    # IoU with the last answer
    "kept": (0.0, 0.0, 0.81, 0.0),
    # depth of the new click in what changed, over the greatest depth there
    "aimed": (0.0, 0.0, 3.51, 0.0),
    # log of the greatest depth of what changed over the click's to the old outline
    "over": (0.0, 0.0, -2.03, 0.0),
    # the same below 0
    "under": (0.0, 0.0, 1.37, 0.0),
    # mean separation along the outline of what changed, where that is new
    "edge": (0.0, 0.0, 1.21, 0.0),
    # IoU to be expected if the chances of its regions are what a box says
    "believed": (0.0, 0.0, 0.0, 3.0),
    # share of it that is nearer to a negative than to a positive click
    "nearer": (0.0, 0.0, -1.57, 0.0),
    # mean log odds inside of being nearer to positive clicks
    "odds": (0.0, 0.0, 0.22, 0.0),
    # the same in what is around it
    "beside": (0.0, 0.0, -0.5, 0.0),
    # as "aimed", of the clicks before the new one and the answers that they corrected
    "told": (0.0, 0.0, 2.32, 0.0),
    # share it has of all that moves together with the clicks, if the click moves
    "along": (0.7, 0.0, 0.0, 0.0),
    # share of it that stays behind while the rest of it goes, if the click moves
    "apart": (-5.0, 0.0, 0.0, 0.0),
}
TRAITS = tuple(_WEIGHED)
"""What a hypothesis is judged by, each about -1..1; 0 where it does not apply."""

WEIGHTS = {
    situation: tuple(row[i] for row in _WEIGHED.values()) for i, situation in enumerate(SITUATIONS)
}
"""Weights of `TRAITS` for a first answer with and without motion, a correction and a box: fitted
so that the expected IoU of the choice is highest, those with motion and of a box on the first and
some later frames of the evaluation clips, the others also on more clips and single pictures. With
scenes left out of the fit the IoU of the choice, before refinement, is 0.71 for a correction and
0.41 for a first answer without motion; a fit for each to all scenes gains another 0.01.
With motion, "frame" is set to what it is elsewhere (fitted: -0.9) and "calm" to nothing (0.5):
nearly all that was fitted on moves, and somebody who stands still was taken for the ground on which
others walk. "apart" was fitted alone, on these clips and objects of each pasted into the others:
with scenes left out the IoU of the choice rose by 0.01, on clips of other objects by as much."""

_MOVES = TRAITS.index("moves")
_GOES, _STANDS = 0.3, 0.1  # of that trait: something moves, something does not
_STANDING = 12.0
_TOGETHER = 3.0  # log odds of moving from which a region counts for "along"
_BEYOND = 0.3  # what a region that does not move counts there
_LARGE, _TOO_LARGE = 0.25, 1.5  # share of the frame from which a doubling costs so much
_APART, _CALM = -0.2, 2.0  # of `along_with` and log odds of moving: no part of what moves


SCORES = {
    "click": (0.061, 0.206),
    "still": (0.061, 0.206),
    "edit": (0.032, 0.442),
    "box": (0.033, 0.459),
}
"""Slope and base of the line from the weighed sum to the IoU of the answer, fitted on 31 frames of
the evaluation clips and 32 other pictures: the sum tells some of a first click and of a box
(correlation 0.4), little of a correction (0.3)."""


class Pool:
    """All hypotheses for one prompt."""

    def __init__(self, judge: Judge, hint: Hint, belief: Floats | None = None) -> None:
        """Prepare for one prompt.

        Args:
            judge: the picture.
            hint: the prompt.
            belief: (n,) 0..1, how likely each region is the object's, where a box says so.
        """
        self.judge, self.hint, self.belief = judge, hint, belief
        r = judge.regions
        at = hint.points.astype(np.intp)
        hit = r.labels[at[:, 1], at[:, 0]] if len(at) else np.zeros(0, np.intp)
        self.hit = hit
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
        step = np.sqrt(((r.centre[r.pairs[:, 0]] - r.centre[r.pairs[:, 1]]) ** 2).sum(-1))
        self.step = (step * (0.3 + 3.0 * judge.separation)).astype(np.float32)
        self.lead = 0.0  # 0..1, whether what is shown moves
        if judge.motion is not None:
            shown = self.seeds if len(self.seeds) else ~self.outside
            m = np.tanh(judge.motion[shown])
            top = float(m.max() if len(self.seeds) else np.quantile(m, 0.8)) if m.size else 0.0
            self.lead = float(np.clip(top + 0.3, 0, 1))
        self.together: Flags | None = None  # all that moves and hangs together with the clicks
        if judge.motion is not None and self.situation() == "click":
            moving = (judge.motion > _TOGETHER) | self.inside
            self.together = self.whole(moving & ~self.outside)
        self.toward: Floats | None = None  # (n,) log odds of being nearer to positive clicks
        if len(self.seeds) and hint.previous is not None and len(hit[~hint.positive]):
            on, off = (
                np.minimum(rg.distances(r, self.step, at_), 1e4)
                for at_ in (self.seeds, hit[~hint.positive])
            )
            self.toward = np.clip(np.log((off + 2) / (on + 2)), -2, 2).astype(np.float32)
        self.radius = 0.0  # of the new click to the old outline
        if hint.previous is not None and hint.fresh.any():
            old = hint.previous[r.labels].astype(np.uint8)
            x, y = at[np.flatnonzero(hint.fresh)[-1]]
            if old[y, x] == 0:
                old = 1 - old
            depth = cv2.distanceTransform(old, cv2.DIST_L2, 3)
            self.radius = float(np.clip(depth[y, x], 2, self.frame_size / 3))

    def best(self) -> tuple[Flags, float]:
        """(n,) the regions of the best hypothesis, and how good it is believed to be, 0..1."""
        found = self.hypotheses()
        weights = np.asarray(WEIGHTS[self.situation()], np.float32)
        traits = np.stack([self.traits(x) for x in found])
        marks = traits @ weights
        if self.situation() == "box" and traits[:, _MOVES].max() > _GOES:
            # something in the box moves: what stands with the background is not it
            marks -= _STANDING * np.maximum(_STANDS - traits[:, _MOVES], 0)
        if self.situation() in ("click", "still"):
            # few mean half of the picture by one click, and a further one tells
            areas = self.judge.regions.area
            shares = np.stack(found) @ areas / areas.sum()
            marks -= _TOO_LARGE * np.maximum(np.log2(shares / _LARGE), 0)
        top = int(np.argmax(marks))
        slope, base = SCORES[self.situation()]
        return found[top], float(np.clip(slope * float(marks[top]) + base, 0.05, 0.95))

    def situation(self) -> str:
        """Which row of `WEIGHTS` counts."""
        if self.hint.previous is not None and len(self.hint.points):
            return "edit"
        if self.hint.box is not None:
            return "box"
        return "still" if self.judge.motion is None else "click"

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
        if hint.box is not None:
            for x in self.from_box(hint.box, self.belief):
                add(x)
        elif hint.previous is None or len(hint.points) <= 4:
            for x in self.from_clicks():
                add(x)
        if not found:
            x = self.inside.copy()
            if not x.any():  # a box smaller than a region
                x[int(np.argmin(self.outside))] = True
            found[b""] = x
        return list(found.values())

    def whole(self, x: Flags) -> Flags:
        """Only the pieces that hold a positive click; with a box, all large pieces.

        Small holes that no negative click made are closed.
        """
        r = self.judge.regions
        n, piece = self._pieces(x)
        size = np.bincount(piece[x], r.area[x], n)
        wanted = np.zeros(n, np.bool_)
        wanted[piece[self.seeds[x[self.seeds]]]] = True
        if self.hint.box is not None and size.any():
            wanted |= size > 0.1 * size.max()
        x = x & wanted[piece]
        n, piece = self._pieces(~x)
        size = np.bincount(piece[~x], r.area[~x], n)
        small = size < 0.05 * r.area[x].sum()
        small[piece[self.outside & ~x]] = False
        return np.asarray(x | (~x & small[piece]))

    def _pieces(self, x: Flags) -> tuple[int, rg.Labels]:
        """How many labels there are and that of each region (n,); regions not in x have 0."""
        r = self.judge.regions
        n, drawn = cv2.connectedComponents(x.astype(np.uint8)[r.labels], connectivity=4)
        return int(n), np.asarray(drawn.ravel()[r.somewhere], np.int32)

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

    def _learn(
        self, start: Flags, place: Floats, motion_weight: float, rounds: int, near: Floats
    ) -> list[Flags]:
        """Cut, learn colours, cut again; the labellings on the way.

        Args:
            start: (n,) the first guess.
            place: (n,) log odds of lying here.
            motion_weight: of the log odds of moving.
            rounds: of cutting.
            near: (n,) weight of each region in the colour models.
        """
        r = self.judge.regions
        moving = self.judge.motion
        x, way = start, []
        weight = (r.area * near).astype(np.float32)
        for _ in range(rounds):
            if not x.any() or x.all():
                break
            unary = self.colour_odds(weight * x, weight * ~x) + place
            if moving is not None and motion_weight > 0:
                unary = unary + motion_weight * moving
            x = self.whole(self._cut(unary.astype(np.float32)) & ~self.outside | self.inside)
            way.append(x)
        return way

    def from_clicks(self) -> list[Flags]:
        """Hypotheses at every scale around the positive clicks."""
        r, judge = self.judge.regions, self.judge
        found: list[Flags] = []
        way = np.minimum(rg.distances(r, self.step, self.seeds), 1e4)
        seeds = r.centre[self.seeds]
        far = np.sqrt(((r.centre[:, None] - seeds[None]) ** 2).sum(-1)).min(1)
        against = np.zeros(r.count, np.float32)
        off = np.flatnonzero(self.outside)
        if len(off):
            other = np.minimum(rg.distances(r, self.step, off), 1e4)
            against = np.clip(1.5 * np.log((other + 2) / (way + 2)), -2, 2).astype(np.float32)
        motions = (0.0,) if judge.motion is None else (0.0, 0.7, 1.6)
        # a correction starts from the last answer: fewer fresh ones will do
        for share in _SCALES if self.hint.previous is None else _SCALES[1::2]:
            radius = share * self.frame_size
            reach = 0.5 * (far + way) / radius
            place = np.clip(1.2 - reach, -4.0, 1.0).astype(np.float32) + against
            start = (reach < 0.8) & (against > -0.5)
            start[self.seeds] = True
            near = np.exp(-far / (6 * radius)).astype(np.float32)
            for weight in motions:
                found += self._learn(start, place, weight, 2, near)
        if judge.motion is not None:
            far_off = np.clip(0.3 - far / (0.5 * self.frame_size), -3, 0).astype(np.float32)
            place = far_off + against
            near = np.ones(r.count, np.float32)
            for base in (0.0, 0.5, 1.0, 1.8):
                x = self.whole(self._cut(judge.motion - base + place) | self.inside)
                found.append(x)
                found += self._learn(x, place, 1.0, 2, near)
        found += self.floods(self.seeds)
        return found

    def floods(self, start: npt.NDArray[np.integer[Any]]) -> list[Flags]:
        """What is reached from some regions over borders weaker than some height."""
        r = self.judge.regions
        found = []
        for height in (0.02, 0.05, 0.1, 0.2, 0.35):
            keep = self.judge.separation < height
            a, b = r.pairs[keep].T
            graph = sparse.coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(r.count, r.count))
            _, piece = csgraph.connected_components(graph, directed=False)
            found.append(np.isin(piece, piece[start]))
        return found

    def from_box(self, box: Floats, belief: Floats | None) -> list[Flags]:
        """Hypotheses that fill the box, from what is believed of each region."""
        r = self.judge.regions
        depth = np.abs(2 * (r.centre - box[:2]) / np.maximum(box[2:] - box[:2], 1) - 1).max(1)
        near = np.exp(-2 * np.maximum(depth - 1, 0)).astype(np.float32)
        if belief is None:
            belief = np.where(depth < 1, 0.8 - 0.6 * depth, 0).astype(np.float32)
        odds = np.log((belief + 0.01) / (1.01 - belief)).astype(np.float32)
        found: list[Flags] = []
        for lean in (-0.7, 0.0, 0.7):
            for weight in (0.5, 1.2):
                place = np.where(self.outside, -5, weight * (odds + lean)).astype(np.float32)
                found.append(self._cut(place))
            if lean >= 0:
                place = np.where(self.outside, -5, 0.6 * (odds + lean)).astype(np.float32)
                way = self._learn((odds + lean > 0) & ~self.outside, place, 0.0, 2, near)
                found += way
                if way:
                    found += self._pinned(way[-1], box, place, 0.0, near)
        if self.judge.motion is not None and all(self._moves(x) < _STANDS for x in found):
            place = np.where(depth > 1, -3, 0.2).astype(np.float32)
            for base in (0.0, 0.5, 1.0, 1.8):
                x = self._cut((self.judge.motion - base + place).astype(np.float32))
                found += [x, *self._learn(x, place, 1.0, 2, np.ones(r.count, np.float32))]
        return found

    def _pinned(
        self, x: Flags, box: Floats, place: Floats, weight: float, near: Floats
    ) -> list[Flags]:
        """Stretch a hypothesis to the sides of the box that it does not reach.

        An object touches all sides of its box (Lempitsky et al., ICCV 2009): the cheapest way
        from it to each missed side is taken in, and colours are learnt anew.
        """
        r = self.judge.regions
        if not x.any():
            return []
        x0, y0, x1, y1 = (float(v) for v in box)
        cx, cy = r.centre.T
        margin = 1.2 * float(np.sqrt(r.area.mean())) + 0.03 * np.asarray([x1 - x0, y1 - y0])
        within = ~self.outside
        sides = (
            within & (cx < x0 + margin[0]),
            within & (cx > x1 - margin[0]),
            within & (cy < y0 + margin[1]),
            within & (cy > y1 - margin[1]),
        )
        missed = [side for side in sides if side.any() and not (side & x).any()]
        if not missed:
            return []
        cost = self.step + 1e3 * (self.outside[r.pairs[:, 0]] | self.outside[r.pairs[:, 1]])
        way, back = rg.paths(r, cost.astype(np.float32), np.flatnonzero(x))
        taken = x.copy()
        for side in missed:
            at = int(np.flatnonzero(side)[way[side].argmin()])
            while at >= 0 and not x[at]:
                taken[at] = True
                at = int(back[at])
        pull = place + np.where(taken & ~x, 4.0, 0).astype(np.float32)
        return [taken, *self._learn(taken, pull, 0.5 * weight, 2, near)]

    def _moves(self, x: Flags) -> float:
        """How much a hypothesis moves against the background, -1..1."""
        r, judge = self.judge.regions, self.judge
        if judge.motion is None or judge.sure is None:
            return 0.0
        weight = judge.sure * r.area * x
        return float((np.tanh(judge.motion) * weight).sum() / max(1.0, float(weight.sum())))

    def _apart(self, x: Flags) -> float:
        """What share of a hypothesis hardly moves and does not go along with the rest, 0..1.

        A leg on which somebody stands was elsewhere before and after, so it does not count. Nor
        does anything where several clicks show what belongs together.
        """
        r, judge = self.judge.regions, self.judge
        motion = judge.motion
        if motion is None or judge.flows is None or judge.sure is None or len(self.hit) > 1:
            return 0.0
        weight = (judge.sure * r.area)[x]
        along = along_with(judge.flows[x], r.centre[x], weight)
        other = (along < _APART) & (motion[x] < _CALM)
        return float(weight[other].sum() / weight.sum())

    def edits(self, previous: Flags) -> list[Flags]:
        """The last answer, changed around the new clicks."""
        r = self.judge.regions
        found: list[Flags] = [previous]
        fresh = self.hit[self.hint.fresh]
        if not len(fresh):
            return found
        sign = np.where(previous, 1.0, -1.0)
        way = np.minimum(rg.distances(r, self.step, fresh), 1e4)
        far = np.sqrt(((r.centre[:, None] - r.centre[fresh][None]) ** 2).sum(-1))
        wish = np.where(self.hint.positive[self.hint.fresh][far.argmin(1)], 1.0, -1.0)
        far = far.min(1)
        motions = (0.0, 0.7) if self.judge.motion is not None else (0.0,)
        last = fresh[-1:]
        add = bool(self.hint.positive[self.hint.fresh][-1])
        for x in self.floods(last):
            found.append(previous | x if add else previous & ~x)
        if add and not previous[last[0]] and previous.any():
            found += self._joined(previous, int(last[0]))
        least = 1.2 * float(np.sqrt(r.area.mean()))
        radii = {max(least, times * self.radius) for times in (0.25, 0.5, 1.0, 1.6, 2.5, 4.0, 7.0)}
        for radius in sorted(radii):
            reach = 0.5 * (far + way) / radius
            held = np.clip(2 * (reach - 1), 0, 1)
            place = 5.0 * sign * held + 1.5 * wish * np.clip(1.3 - reach, 0, 1)
            place += np.where(far < 0.7 * min(radius, self.radius), 3.0 * wish, 0)
            base = np.where(reach < 0.8, wish > 0, previous)
            near = np.exp(-far / (3 * radius)).astype(np.float32)
            for weight in motions:
                found += self._learn(base, place.astype(np.float32), weight, 2, near)
            found.append(np.where((way / radius < 1) & (far < 2 * radius), wish > 0, previous))
        return found

    def _told(self, x: Flags, answer: Flags, at: tuple[float, float]) -> float:
        """How near the middle of an answer's largest error a click was, were x the truth."""
        wrong = (x ^ answer)[self.judge.regions.labels[::2, ::2]].astype(np.uint8)
        return depth_share(wrong, np.asarray([at], np.float32) * np.float32(0.5))[0]

    def _joined(self, previous: Flags, click: int) -> list[Flags]:
        """The last answer with a new part and what lies between the two."""
        r = self.judge.regions
        _, back = rg.paths(r, self.step, np.flatnonzero(previous))
        taken = previous.copy()
        at = click
        while at >= 0 and not previous[at]:
            taken[at] = True
            at = int(back[at])
        bridge = taken & ~previous
        off = np.minimum(rg.distances(r, self.step, np.flatnonzero(bridge)), 1e4)
        sign = np.where(previous, 1.0, -1.0)
        found = [taken]
        for wide in (3.0, 8.0):
            radius = wide * float(np.sqrt(r.area.mean()))
            held = np.clip(2 * (off / radius - 1), 0, 1)
            place = 5.0 * sign * held + np.where(bridge, 3.0, 0)
            near = np.exp(-off / (2 * radius)).astype(np.float32)
            found += self._learn(taken, place.astype(np.float32), 0.0, 2, near)
        return found

    def traits(self, x: Flags) -> Floats:
        """Measure one hypothesis by `TRAITS`."""
        r, judge, hint = self.judge.regions, self.judge, self.hint
        a, b = r.pairs.T
        rim = x[a] != x[b]
        length = max(1.0, float(r.length[rim].sum()))
        area = max(1.0, float(r.area[x].sum()))
        sharp = judge.separation[rim]
        border = float((r.length[rim] * sharp).sum() / length)
        leak = float((r.length[rim] * (sharp < 0.15)).sum() / length)
        mask = x[r.labels].astype(np.uint8)
        x0, y0, dx, dy = cv2.boundingRect(mask)
        ring_px = max(2, round(0.25 * area**0.5))
        top, left = max(0, y0 - ring_px - 1), max(0, x0 - ring_px - 1)
        window = np.s_[top : y0 + dy + ring_px + 1, left : x0 + dx + ring_px + 1]
        part = mask[window]
        kernel = np.ones((2 * ring_px + 1, 2 * ring_px + 1), np.uint8)
        ring = (cv2.dilate(part, kernel) > 0) & (part == 0)
        ring_area = np.bincount(r.labels[window][ring], minlength=r.count).astype(np.float32)
        around = max(1.0, float(ring_area.sum()))
        fore = judge.likeness.T @ (r.area * x) / area
        back = judge.likeness.T @ ring_area / around
        contrast = float(1 - np.sqrt(fore * back).sum())
        moves = still = calm = 0.0
        if judge.motion is not None:
            m = np.tanh(judge.motion)
            known = judge.sure if judge.sure is not None else np.ones_like(m)
            within = self._moves(x)
            beside = float((m * known * ring_area).sum() / max(1.0, (known * ring_area).sum()))
            click = self.lead
            moves, still = click * within, click * beside
            calm = (1 - click) * within
        contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        hull = sum(cv2.contourArea(cv2.convexHull(c)) for c in contours)
        compact = min(1.0, area / max(1.0, hull))
        on = hint.points[hint.positive]
        centred = depth_share(part, on[:1] - (left, top))[0] if len(on) else 0.0
        size = float(np.clip(1 + np.log10(area / mask.size) / 4, 0, 1))
        edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        fit = fill = kept = aimed = over = under = new_edge = 0.0
        if hint.box is not None:
            bx0, by0, bx1, by1 = (float(v) for v in hint.box)
            ix = max(0.0, min(bx1, x0 + dx) - max(bx0, x0))
            iy = max(0.0, min(by1, y0 + dy) - max(by0, y0))
            boxed = max(1.0, (bx1 - bx0) * (by1 - by0))
            # nobody draws a box to the pixel
            fit = min(1.0, ix * iy / max(1.0, boxed + dx * dy - ix * iy) / _SNUG)
            fill = min(1.0, area / boxed)
        if hint.previous is not None:
            both = float(r.area[x & hint.previous].sum())
            kept = both / max(1.0, float(r.area[x | hint.previous].sum()))
            if hint.fresh.any():
                differs = x ^ hint.previous
                aimed, deepest = depth_share(
                    differs[r.labels].astype(np.uint8), hint.points[hint.fresh][-1:]
                )
                ratio = float(np.clip(np.log2((deepest + 1) / (self.radius + 1)), -3, 3)) / 3
                over, under = max(0.0, ratio), min(0.0, ratio)
                new = (differs[a] != differs[b]) & rim
                length = max(1.0, float(r.length[new].sum()))
                new_edge = float((r.length[new] * judge.separation[new]).sum() / length)
        nearer = odds = beside_odds = told = 0.0
        if self.toward is not None:
            nearer = float(r.area[x & (self.toward < 0)].sum()) / area
            odds = float((r.area[x] * self.toward[x]).sum()) / area
            beside_odds = float((ring_area * self.toward).sum()) / around
        if hint.past:
            told = float(np.mean([self._told(x, answer, at) for answer, at in hint.past]))
        believed = along = apart = 0.0
        if self.together is not None:
            apart = self.lead * self._apart(x)
            both = float(r.area[x & self.together].sum())
            # what looks still may be a part that motion does not show: it counts less
            beyond = _BEYOND * float(r.area[x & ~self.together].sum())
            along = self.lead * both / max(1.0, float(r.area[self.together].sum()) + beyond)
        if self.belief is not None:
            likely = r.area * self.belief
            believed = float(likely[x].sum() / max(1.0, area + float(likely[~x].sum())))
        return np.asarray(
            [
                *(border, leak, contrast, moves, still, calm, compact, centred, size),
                *(edge.mean(), fit, fill, kept, aimed, over, under, new_edge),
                *(believed, nearer, odds, beside_odds, told, along),
                apart,
            ],
            np.float32,
        )


def depth_share(mask: npt.NDArray[np.uint8], points: Floats) -> tuple[float, float]:
    """How deep the first point (x, y) lies in the mask over the greatest depth, and that depth."""
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
    x, y = points[0].astype(np.intp) + 1
    deepest = float(depth.max())
    inside = 0 <= x < depth.shape[1] and 0 <= y < depth.shape[0]
    return (float(depth[y, x]) / max(1.0, deepest) if inside else 0.0), deepest
