"""The built-in tracker: flow, appearance and a minimal cut. No download, no GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.errors import OptionError, PromptError
from inpainterz.track.appearance import DESCRIPTOR, Memory, Place, describe, middles, reduced
from inpainterz.track.background import Background
from inpainterz.track.cues import Moved, gather, likeness, own_motion
from inpainterz.track.refine import cut, edge_weights, guided
from inpainterz.types import Frame, Image, LabelMap, Mask, Tracked

Map = npt.NDArray[np.floating[Any]]
"""(H, W), float32."""


@dataclass(frozen=True, slots=True)
class Options:
    """What can be chosen about the built-in tracker."""

    max_side_px: int = 640
    """Longer side of the picture in which objects are followed; more is finer and slower."""
    smoothness_px: float = 3.0
    """How strongly a short outline is preferred to one that follows every colour."""

    def __post_init__(self) -> None:
        if not 64 <= self.max_side_px <= 4096:
            raise OptionError("max_side_px is outside 64..4096")
        if not 0 <= self.smoothness_px <= 100:
            raise OptionError("smoothness_px is outside 0..100")


_FOREIGN = 3.0
"""Log odds against a pixel that came from something else that moves."""

_ALIKE = 0.2
"""A mask that is less like the object than this share of what was usual is not the object."""

_OWN_COLOURS = 0.62
"""What shares less than this of its colours with the object is another one."""

_DOUBTED = 3
"""Frames in a row that it must do so beside others before the object counts as lost."""

_WATCHED = 8
"""Frames after it was found for which it is asked whether it is another one."""

_CANDIDATES = 4
"""Places at which a lost object is looked at."""

_MOVES = 2.5
"""Differences from the background beyond this are something that stands before it."""

_BLOCKS = (50, 150, 300)
"""From these sizes of an object on, px, its looks are compared in blocks of 2, 3 and 4 px."""

_PART = 0.08
"""What lies apart and has at least this share of an object's area is followed on its own..."""

_GAP = 0.4
"""... from so many square roots of the smaller one's area on."""

_PARTED = 0.1
"""A piece of at least this share of the object's area may turn out to be another object..."""

_PARTED_BY = 0.04
"""... if it went another way by this share of the object's size."""

_BREAK = 0.7
"""What is left of having been followed, where flow of one frame cannot be trusted."""

_ROOTED = 0.3
"""A piece of which this share could be followed since it was shown is no stranger."""

_THICK = 0.08
"""What was shown and stands still is a part of the object if it is as thick as twice this share of
its size; less is the rim of a mask that was drawn too wide."""

STILL_PX = 0.7
"""What moves less than this a frame beside the camera's motion stands still in the scene."""


@dataclass(slots=True, eq=False)
class _View:
    """One frame at working size."""

    grey: npt.NDArray[np.uint8]
    lab: Map  # (h, w, 3) CIE L*a*b*, L 0..100


@dataclass(slots=True, eq=False)
class _Object:
    """One object, or a part that lies apart: where it was, what it looks like."""

    label: int
    belief: Map  # (h, w) 0..1 at working size, in the last frame
    memory: Memory
    place: Place
    good: tuple[Map, Place]  # the last belief that could be trusted, and its place
    block: int  # px, side of the blocks in which looks are compared
    rooted: Map  # (h, w) 0..1, what could be followed without a break since it was shown
    velocity: tuple[float, float] = (0.0, 0.0)  # px a frame, beside the camera's motion
    lost: int = 0  # frames since it was last seen
    steps: int = 0
    confidence: float = 1.0
    crossing: int = 0  # frames that it counts as being beside something else that moves
    found: int = 0  # frames for which it counts as found just now
    other: int = 0  # frames in a row that it had the colours of another
    due: Place | None = None  # where it would be, had it gone on as when it was last sure
    alike: float = 0.0  # mean log ratio of likeness of its pixels, of late
    speed: float = 0.0  # px a frame beside the camera's motion, the highest of late
    parting: float = 0.0  # px by which two pieces of it went different ways


@dataclass(slots=True, eq=False)
class _State:
    """All that is remembered of one clip; its size does not depend on the clip's length."""

    shot: int
    view: _View
    background: Background
    random: np.random.Generator
    still: Map  # (h, w) for how many frames a pixel has stood still in the scene
    foreign: Map  # (h, w) 0..1, what moves and belongs to none of the objects
    objects: list[_Object] = field(default_factory=list)


class BuiltinTracker:
    """`engines.Tracker` from dense flow, colour memory and minimal cuts. Holds no clip."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def track(self, frames: Iterable[Frame], labels: Mapping[int, LabelMap]) -> Iterator[Tracked]:
        """Yield every frame with its objects; see `engines.Tracker.track`.

        Raises:
            PromptError: the first frame has no label map, or one is of another size or empty.
        """
        state: _State | None = None
        known: set[int] = set()
        for frame in frames:
            size = frame.image.shape[:2]
            if state is None:
                _check(labels, frame.index, size)
            prompt = labels.get(frame.index)
            view = self._look(frame.image)
            if state is None or frame.shot != state.shot:
                # nothing is known of what a cut brings
                background = Background(*view.grey.shape)
                state = _State(
                    frame.shot,
                    view,
                    background,
                    np.random.default_rng(0),
                    np.zeros(view.grey.shape, np.float32),
                    np.zeros(view.grey.shape, np.float32),
                )
            self._follow(state, view)
            out = _compose(frame.image, state.objects)
            if prompt is not None:
                ids = [int(k) for k in np.unique(prompt) if k]
                known.update(ids)
                out[np.isin(out, ids)] = 0
                out = np.where(prompt > 0, prompt, out)
                for label in ids:
                    self._teach(state, view, label, prompt == label)
            _learn_background(state, view)
            state.view = view
            yield Tracked(frame, out, {k: _confidence(state.objects, k) for k in sorted(known)})

    def _look(self, image: Image) -> _View:
        height, width = image.shape[:2]
        scale = min(1.0, self.options.max_side_px / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
        return _View(motion.grey(np.asarray(small, np.uint8)), np.asarray(lab, np.float32))

    def _teach(self, state: _State, view: _View, label: int, mask: Mask) -> None:
        """Take what the user showed as the truth about one object."""
        h, w = view.grey.shape
        belief: Map = np.asarray(
            cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA), np.float32
        )
        if not (belief > 0.5).any():  # smaller than a pixel of the working size
            belief /= max(1e-6, float(belief.max()))
        old = [thing for thing in state.objects if thing.label == label]
        state.objects = [thing for thing in state.objects if thing.label != label]
        for part in _parts(belief):
            place = _place(part)
            block = 1 + int(np.searchsorted(_BLOCKS, place.size))
            thing = _Object(label, part, Memory(), place, (part, place), block, part)
            if old:  # what is nearest is likely the same
                was = min(old, key=lambda o: np.hypot(o.place.x - place.x, o.place.y - place.y))
                thing.memory, thing.block = was.memory.copy(), was.block
                thing.velocity = was.velocity
            self._remember(state, view, thing, part, shown=True)
            state.objects.append(thing)

    def _remember(
        self,
        state: _State,
        view: _View,
        thing: _Object,
        belief: Map,
        *,
        shown: bool = False,
    ) -> None:
        y0, y1, x0, x1 = _window(belief > 0.5)
        crop = np.s_[y0:y1, x0:x1]
        thing.memory.learn(
            describe(view.lab[crop], thing.place, (x0, y0), thing.block),
            middles(belief[crop], thing.block),
            shown=shown,
            count=500 if shown else 150,
            random=state.random,
        )

    def _follow(self, state: _State, view: _View) -> None:
        """Find each object in the next frame."""
        if not state.objects:
            return
        last = state.view.grey
        back = motion.dense_flow(view.grey, last)
        forth = motion.dense_flow(last, view.grey)
        taken = np.zeros(last.shape, np.uint8)
        for thing in state.objects:
            taken |= thing.belief > 0.3
        taken = np.asarray(cv2.dilate(taken, np.ones((7, 7), np.uint8)))
        matrix, trust = motion.global_motion(last, view.grey, ignore_a=taken > 0)
        state.background.move(matrix, trust)
        came = np.asarray(motion.warp(state.view.lab, back), np.float32)
        moved = Moved(
            back,
            motion.agrees(back, forth),
            motion.homography_flow(np.linalg.inv(matrix).astype(np.float64), *last.shape),
            cv2.blur(np.sqrt(motion.squared(came - view.lab)), (3, 3)),
        )
        stands = motion.squared(moved.back - moved.camera) < STILL_PX**2
        state.still = np.where(stands, np.asarray(motion.warp(state.still, back)) + 1, 0)
        state.foreign = np.asarray(
            motion.warp(state.foreign, back, border=cv2.BORDER_CONSTANT), np.float32
        )
        priors: list[Map] = [
            np.asarray(motion.warp(thing.belief, back, border=cv2.BORDER_CONSTANT), np.float32)
            for thing in state.objects
        ]
        for i, thing in enumerate(state.objects):
            foreign = state.foreign.copy()
            for prior in priors[:i] + priors[i + 1 :]:
                np.maximum(foreign, prior, out=foreign)
            foreign[~moved.trusted] = 0
            self._follow_one(state, thing, view, moved, matrix, priors[i], foreign)
        objects = []
        for thing in state.objects:
            parts = _parted(thing, moved)
            if len(parts) > 1 and thing.crossing:  # one of them may be what it crosses
                alike = [_colours(part, view.lab, part.belief, (0, 0), 1.0) for part in parts]
                least = min(_OWN_COLOURS, max(alike))
                parts = [part for part, a in zip(parts, alike, strict=True) if a >= least]
            objects += parts
            if len(parts) > 1:  # looks are described in the measure of an object's size
                for part in parts:
                    self._remember(state, view, part, part.belief, shown=True)
        state.objects = objects
        _notice_others(state, view)

    def _follow_one(
        self,
        state: _State,
        thing: _Object,
        view: _View,
        moved: Moved,
        matrix: motion.Homography,
        prior: Map,
        foreign: Map,
    ) -> None:
        """Find one object.

        Args:
            state, view: the clip so far and the frame.
            thing: the object, brought up to date.
            moved: the motion of the picture.
            matrix: the motion of the camera, from the last frame to this one.
            prior: (h, w) the object's last mask, carried along the flow.
            foreign: (h, w) 0..1, what belonged to something else, carried along the flow.
        """
        rooted = np.asarray(
            motion.warp(thing.rooted, moved.back, border=cv2.BORDER_CONSTANT), np.float32
        )
        thing.rooted = np.where(moved.trusted, rooted, _BREAK * rooted)
        last = thing.place
        still = _carry(matrix, last)  # where it would be, were it fixed to the background
        thing.place = Place(still.x + thing.velocity[0], still.y + thing.velocity[1], last.size)
        due = _carry(matrix, thing.due or last)
        thing.due = Place(due.x + thing.velocity[0], due.y + thing.velocity[1], due.size)
        if thing.lost:
            found = self._search(state, thing, view, moved)
            if found is None:
                self._lose(thing)
                return
            prior, thing.place = found
        y0, y1, x0, x1 = _window(prior > 0.5, thing.place)
        if y0 >= y1 or x0 >= x1:
            self._lose(thing)
            return
        crop = np.s_[y0:y1, x0:x1]
        near, lab = prior[crop], view.lab[crop]
        own = None if thing.lost else own_motion(moved, crop, near)
        if own is not None and (near > 0.5).sum() > 0.15 * last.size**2:
            usual, carried = thing.place, own.carry(last)
            shown = min(1.0, 1.5 * float((near > 0.5).sum()) / last.size**2)
            if thing.crossing:  # the flow may be that of either
                shown *= 0.5
            thing.place = Place(
                usual.x + shown * (carried.x - usual.x),
                usual.y + shown * (carried.y - usual.y),
                last.size + shown * (carried.size - last.size),
            )
            astray = np.hypot(thing.place.x - usual.x, thing.place.y - usual.y)
            if (
                thing.steps >= 4
                and astray > 0.12 * last.size
                and self._resembles(thing, view, usual)
                > self._resembles(thing, view, thing.place) + 0.5
            ):  # the flow went off with something else
                thing.place, own = usual, None
                prior = 0.75 * _paste(thing.good, usual)
                y0, y1, x0, x1 = _window(prior > 0.5, usual)
                crop = np.s_[y0:y1, x0:x1]
                near, lab = prior[crop], view.lab[crop]
        cues = gather(
            lab, near, crop, thing.place, moved, own, thing.memory, state.background, thing.block
        )
        step = float(np.hypot(thing.place.x - still.x, thing.place.y - still.y))
        thing.speed = max(0.95 * thing.speed, min(step, thing.speed + 0.5))
        stood = _opened(thing.rooted[crop] > _ROOTED, _THICK * last.size)
        evidence = cues.evidence() - cues.left_behind(
            state.still[crop], stood, thing.speed, last.size
        )
        evidence -= _FOREIGN * foreign[crop] * (near < 0.5)
        beside = (foreign[crop] > 0.3).astype(np.uint8)
        if beside.any():  # what stands before the background may be one or the other
            reach = 2 * max(2, int(0.4 * last.size)) + 1
            evidence -= cues.strange() * cv2.dilate(beside, np.ones((reach, reach), np.uint8))
        belief = cut(
            -evidence,
            edge_weights(lab),
            np.asarray(evidence > 0, np.float32),
            smoothness=self.options.smoothness_px,
        )
        touching = cv2.dilate(
            beside, np.ones((2 * max(2, int(0.1 * last.size)) + 1,) * 2, np.uint8)
        )
        thing.crossing = 8 if (touching[near > 0.5] > 0).any() else max(0, thing.crossing - 1)
        if thing.crossing:
            expected = _paste(thing.good, thing.place)[crop]
            belief = _without_strangers(belief, expected, thing.rooted[crop], last.size)
        now = belief > 0.5
        area = float(now.sum())
        fresh = cues.fresh()
        quality = _quality(fresh, now)
        fullness = area / last.size**2
        if fullness < 0.1 or (
            thing.lost and (fullness < 0.3 or float(cues.shown[now].mean()) < 0.7)
        ):
            self._lose(thing)
            return
        if thing.lost or thing.found or (thing.crossing and thing.steps >= 4):
            other = _colours(thing, lab, belief, (x0, y0), fullness) < _OWN_COLOURS
            thing.other = thing.other + 1 if other else 0
            if other and (thing.lost or thing.other >= _DOUBTED):
                self._lose(thing)
                return
        thing.belief = np.zeros_like(prior)
        thing.belief[crop] = belief
        thing.rooted *= thing.belief > 0.3
        kept = float((now & (near > 0.5)).sum()) / max(1.0, float((now | (near > 0.5)).sum()))
        alike = float(np.maximum(cues.shown, cues.seen)[now].mean())
        if beside.any() and thing.steps >= 4 and alike < _ALIKE * thing.alike:
            self._lose(thing)
            return
        thing.alike = 0.9 * thing.alike + 0.1 * alike if thing.steps else alike
        whole = min(1.0, fullness, 1 / fullness)
        score = quality * (0.5 + 0.5 * kept) * (0.4 + 0.6 * whole)
        thing.confidence = min(score, 0.8 * thing.confidence + 0.2 * score)
        thing.found = _WATCHED if thing.lost else max(0, thing.found - 1)
        thing.lost = 0
        thing.steps += 1
        if quality > 0.5 and fullness > 0.5 and (fresh[now] > 0.5).any():
            seen, pull = _place(thing.belief), 0.15
            thing.place = Place(
                thing.place.x + pull * (seen.x - thing.place.x),
                thing.place.y + pull * (seen.y - thing.place.y),
                thing.place.size + (not thing.crossing) * pull * (seen.size - thing.place.size),
            )
            if thing.crossing:
                return  # whatever is learnt now may be the other's
            thing.velocity = (
                0.7 * thing.velocity[0] + 0.3 * (thing.place.x - still.x),
                0.7 * thing.velocity[1] + 0.3 * (thing.place.y - still.y),
            )
            thing.good, thing.due = (thing.belief, thing.place), thing.place
            if thing.steps % 2 == 0:
                agreed = np.zeros_like(prior)  # what only its past speaks for is not learnt
                sure = (fresh > 0.5) & ((cues.moves > 0.5) | (thing.rooted[crop] > _ROOTED))
                agreed[crop] = np.where(now, 0.5 + 0.5 * sure, 0.5 * (fresh > -0.5))
                self._remember(state, view, thing, agreed)

    def _search(
        self, state: _State, thing: _Object, view: _View, moved: Moved
    ) -> tuple[Map, Place] | None:
        """Look for a lost object around where it should be, by its looks and last shape.

        Returns:
            A faint mask (h, w) where it seems to be, and its place; None if it is nowhere.
        """
        step = thing.block
        place = thing.place
        reach = place.size * min(2.5, 1.0 + 0.2 * thing.lost)
        y0, y1 = (int(np.clip(place.y + d, 0, view.grey.shape[0])) for d in (-reach, reach))
        x0, x1 = (int(np.clip(place.x + d, 0, view.grey.shape[1])) for d in (-reach, reach))
        if y1 - y0 < 8 or x1 - x0 < 8:
            return None
        crop = np.s_[y0:y1, x0:x1]
        lab = view.lab[crop]
        looks = describe(lab, place, (x0, y0), step)
        rows, columns = looks.shape[:2]
        odds = thing.memory.likeness_anywhere(looks.reshape(-1, DESCRIPTOR)).reshape(rows, columns)
        free = np.ones(lab.shape[:2], np.bool_)
        differs, known = state.background.differs(lab, crop, free, int(0.5 * reach))
        odds = np.clip(odds, -4, 4) * 0.48 - 0.3
        differs = np.clip(differs, 0, 4)
        stands = known * (0.34 * (differs - 1.3) - 2.0 * np.clip(1.2 - differs, 0, 1))
        odds += reduced(np.asarray(stands, np.float32), step)
        shape, at = thing.good
        half = int(np.ceil(1.5 * place.size / step))
        scale = place.size / at.size / step
        template = np.asarray(
            cv2.warpAffine(
                shape.astype(np.float32),
                np.asarray(
                    [[scale, 0, half - scale * at.x], [0, scale, half - scale * at.y]], np.float64
                ),
                (2 * half + 1, 2 * half + 1),
            )
            > 0.5,
            np.float32,
        )
        inside = float(template.sum())
        if inside < 4:
            return None
        ring = np.asarray(cv2.dilate(template, np.ones((5, 5), np.uint8)), np.float32) - template
        kernel = template / inside - 0.3 * ring / max(1.0, float(ring.sum()))
        padded = cv2.copyMakeBorder(
            odds.astype(np.float32), half, half, half, half, cv2.BORDER_CONSTANT, value=-1.0
        )
        fits = np.asarray(cv2.filter2D(padded, cv2.CV_32F, kernel))[half:-half, half:-half]
        best: tuple[float, Map, Place] | None = None
        apart = max(1, int(0.3 * place.size / step))
        for _ in range(_CANDIDATES):
            row, column = (int(k) for k in np.unravel_index(int(np.argmax(fits)), fits.shape))
            if fits[row, column] < 0.6:
                break
            there = Place(x0 + float(column) * step, y0 + float(row) * step, place.size)
            belief = _paste(thing.good, there)
            covered = looks[reduced(belief[crop], step) > 0.5]
            alike = thing.memory.colours_in_common(covered, 1.0) if len(covered) else 0.0
            if best is None or alike > best[0] + 0.1:
                best = alike, belief, there
            fits[
                max(0, row - apart) : row + apart + 1, max(0, column - apart) : column + apart + 1
            ] = -9
        return None if best is None else (0.75 * best[1], best[2])

    def _resembles(self, thing: _Object, view: _View, place: Place) -> float:
        """How much what is seen at a place is like what was shown, were the object there."""
        shape = _paste(thing.good, place) > 0.5
        if not shape.any():
            return -5.0
        y0, y1, x0, x1 = _window(shape)
        crop = np.s_[y0:y1, x0:x1]
        shown, _, _ = likeness(view.lab[crop], crop, place, thing.memory, thing.block)
        there = reduced(shape[crop].astype(np.float32), thing.block) >= 0.5
        return float(np.clip(shown, -5, 5)[there].mean()) if there.any() else -5.0

    @staticmethod
    def _lose(thing: _Object) -> None:
        if not thing.lost and thing.due is not None and (thing.crossing or thing.found):
            thing.place = thing.due  # where it seemed to be may have been another's
        thing.confidence = 0.0
        thing.belief = np.zeros_like(thing.belief)
        thing.rooted = np.zeros_like(thing.belief)
        thing.velocity = (0.95 * thing.velocity[0], 0.95 * thing.velocity[1])
        thing.lost += 1


def _parted(thing: _Object, moved: Moved) -> list[_Object]:
    """An object, or the objects that it turns out to be.

    What comes apart from the largest piece could be followed since it was shown, and goes another
    way: what a pole in front cuts in two goes the same way.
    """
    solid = thing.belief > 0.5
    total, pieces, facts, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8))
    areas = facts[:, cv2.CC_STAT_AREA]
    own = np.bincount(pieces.ravel(), thing.rooted.ravel(), total) / np.maximum(areas, 1)
    large = [
        k
        for k in range(1, total)
        if areas[k] >= _PARTED * thing.place.size**2
        and (own[k] >= _ROOTED or areas[k] == areas[1:].max())
    ]
    if thing.lost or len(large) < 2:
        thing.parting = 0.0
        return [thing]
    flows = [
        np.median((moved.camera - moved.back)[(pieces == k) & moved.trusted], 0)
        if ((pieces == k) & moved.trusted).any()
        else np.full(2, np.nan)
        for k in large
    ]
    apart = max(float(np.hypot(*(a - b))) for a in flows for b in flows)
    thing.parting = thing.parting + apart if apart > 1 else 0.0
    if not thing.parting > max(2.0, _PARTED_BY * thing.place.size):
        return [thing]
    distance = [
        cv2.distanceTransform((pieces != k).astype(np.uint8), cv2.DIST_L2, 3) for k in large
    ]
    nearest = np.argmin(distance, 0)
    parts = []
    for n, flow in enumerate(flows):
        belief = np.asarray(np.where(nearest == n, thing.belief, 0), np.float32)
        place = _place(belief)
        x, y = (float(v) for v in flow)
        parts.append(
            replace(
                thing,
                belief=belief,
                memory=thing.memory.moved(thing.place, place),
                place=place,
                due=place,
                good=(belief, place),
                velocity=(x, y),
                speed=float(np.hypot(x, y)),
                parting=0.0,
            )
        )
    return parts


def _colours(
    thing: _Object, lab: Map, belief: Map, origin: tuple[int, int], fullness: float
) -> float:
    """How far what is taken for an object has its colours, see `Memory.colours_in_common`.

    Args:
        thing: the object.
        lab: (h, w, 3), a part of the frame.
        belief: (h, w) 0..1, where the object would be in it.
        origin: (x, y) of its first pixel.
        fullness: area as a share of the object's.
    """
    looks = describe(lab, thing.place, origin, thing.block)
    there = middles(belief, thing.block) > 0.5
    return thing.memory.colours_in_common(looks[there], fullness)


def _without_strangers(belief: Map, expected: Map, rooted: Map, size: float) -> Map:
    """Drop what lies apart from where the object should be, if a larger part of it lies there.

    Args:
        belief: (h, w) 0..1.
        expected: (h, w) 0..1, the last good mask where the object should be by its velocity.
        rooted: (h, w) 0..1, what was followed since it was shown: no stranger.
        size: of the object, pixels.
    """
    total, pieces, facts, _ = cv2.connectedComponentsWithStats((belief > 0.5).astype(np.uint8))
    if total < 3:
        return belief
    reach = 2 * max(1, int(0.1 * size)) + 1
    there = cv2.dilate((expected > 0.5).astype(np.uint8), np.ones((reach, reach), np.uint8))
    areas = np.maximum(facts[:, cv2.CC_STAT_AREA], 1)
    inside = np.bincount(pieces.ravel(), there.ravel(), total) / areas
    inside[0] = 1
    if (inside[1:] * facts[1:, cv2.CC_STAT_AREA]).max() < 0.15 * size**2:
        return belief
    own = np.bincount(pieces.ravel(), rooted.ravel(), total) / areas
    return np.asarray(np.where(((inside < 0.35) & (own < _ROOTED))[pieces], 0, belief), np.float32)


def _quality(fresh: Map, now: Mask) -> float:
    """The IoU that a mask may be expected to have, were the odds of this frame the truth."""
    odds = 1 / (1 + np.exp(-fresh))
    return float(odds[now].sum() / max(1.0, float(now.sum() + odds[~now].sum())))


def _opened(mask: Mask, radius_px: float) -> Mask:
    """What of a mask is nowhere thinner than twice a radius."""
    reach = max(1, round(radius_px))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0)


def _paste(good: tuple[Map, Place], place: Place) -> Map:
    """The last good mask (h, w), moved and scaled to another place."""
    shape, at = good
    grow = place.size / at.size
    matrix = np.asarray([[grow, 0, place.x - grow * at.x], [0, grow, place.y - grow * at.y]])
    pasted = cv2.warpAffine(np.asarray(shape, np.float32), matrix, shape.shape[::-1])
    return np.asarray(pasted, np.float32)


def _carry(matrix: motion.Homography, place: Place) -> Place:
    at = matrix @ np.asarray([place.x, place.y, 1.0])
    return Place(float(at[0] / at[2]), float(at[1] / at[2]), place.size)


def _place(belief: Map) -> Place:
    moments = cv2.moments(np.asarray(belief > 0.5, np.uint8), binaryImage=True)
    mass = moments["m00"]
    if not mass:
        return Place(belief.shape[1] / 2, belief.shape[0] / 2, 1.0)
    return Place(moments["m10"] / mass, moments["m01"] / mass, max(1.0, float(np.sqrt(mass))))


def _learn_background(state: _State, view: _View) -> None:
    taken = np.asarray(state.foreign > 0.5, np.uint8)
    for thing in state.objects:
        taken |= thing.belief > 0.05
    state.background.learn(view.lab, np.asarray(cv2.dilate(taken, np.ones((9, 9), np.uint8)) == 0))


def _notice_others(state: _State, view: _View) -> None:
    """Mark what stands before the background around the objects and is none of them.

    A piece that touches an object may be a part of it that its mask lacks, and is marked only
    where it was already marked before it came there.
    """
    own = np.zeros(view.grey.shape, np.bool_)
    for thing in state.objects:
        own |= thing.belief > 0.3
    for thing in state.objects:
        if thing.lost:
            continue  # it may be any of them
        room = int(16 + 1.6 * thing.place.size)
        y0, x0 = max(0, int(thing.place.y) - room), max(0, int(thing.place.x) - room)
        crop = np.s_[y0 : int(thing.place.y) + room, x0 : int(thing.place.x) + room]
        near = own[crop]
        if min(near.shape) < 8:
            continue
        reach = max(4, int(0.3 * thing.place.size))
        differs, known = state.background.differs(view.lab[crop], crop, ~near, reach)
        before = ((differs > _MOVES) & (known > 0.9)).astype(np.uint8)
        before = cv2.morphologyEx(before, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        kernel = np.ones((2 * max(1, int(0.3 * thing.place.size)) + 1,) * 2, np.uint8)
        around = cv2.dilate(near.astype(np.uint8), kernel)
        if before[around == 0].mean() > 0.3:
            continue  # the camera's motion does not explain the background
        _, pieces, facts, _ = cv2.connectedComponentsWithStats(before | around)
        small = np.flatnonzero(facts[:, cv2.CC_STAT_AREA] < 0.15 * thing.place.size**2)
        touching = np.unique(pieces[near])
        apart = (before > 0) & ~np.isin(pieces, np.concatenate([touching, small]))
        # what stands still is but a background that was never seen, and where the background
        # is seen again nothing stands before it
        stands = state.still[crop] > 3
        apart &= ~stands
        gone = stands | ((known > 0.9) & (differs < 1.2))
        foreign = state.foreign[crop] * np.where(gone, 0.3, 1)
        foreign *= 0.95
        foreign[apart] = np.minimum(1, foreign[apart] + 0.5)
        foreign[near] = 0
        state.foreign[crop] = foreign


def create(options: Options, device: str = "auto") -> BuiltinTracker:
    """Build the engine; it runs on the CPU whatever `device` says."""
    return BuiltinTracker(options)


def _check(labels: Mapping[int, LabelMap], first: int, size: tuple[int, ...]) -> None:
    if first not in labels:
        raise PromptError(f"frame {first} has no mask to start from", "Show the object there first")
    for index, given in labels.items():
        if given.shape != size:
            shape = "x".join(str(n) for n in given.shape[::-1])
            raise PromptError(
                f"the mask of frame {index} is {shape}, the clip is {size[1]}x{size[0]}",
                "Give masks at the clip's own size",
            )
        if not given.any():
            raise PromptError(f"the mask of frame {index} is empty", "Mark the object in it")


def _window(mask: Mask, place: Place | None = None) -> tuple[int, int, int, int]:
    """Rows and columns around the mask, and around the place, with room to move."""
    boxes = []
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        room = int(12 + 0.3 * max(y1 - y0, x1 - x0))
        boxes.append((y0 - room, y1 + room, x0 - room, x1 + room))
    if place is not None:
        room = int(12 + 0.8 * place.size)
        boxes.append((place.y - room, place.y + room, place.x - room, place.x + room))
    return (
        max(0, int(min(b[0] for b in boxes))),
        min(mask.shape[0], int(max(b[1] for b in boxes))),
        max(0, int(min(b[2] for b in boxes))),
        min(mask.shape[1], int(max(b[3] for b in boxes))),
    )


def _compose(image: Image, objects: Iterable[_Object]) -> LabelMap:
    """One label map at the source's size; where objects meet, the stronger belief wins."""
    height, width = image.shape[:2]
    out = np.zeros((height, width), np.uint8)
    best = np.full((height, width), 0.5, np.float32)
    guide = motion.grey(image).astype(np.float32) / 255
    for thing in sorted(objects, key=lambda o: o.label):
        belief = thing.belief
        if not (belief > 0.5).any():
            continue
        full = belief
        if belief.shape != (height, width):
            full = np.asarray(cv2.resize(belief, (width, height)), np.float32)
            y0, y1, x0, x1 = _window(full > 0.1)
            radius = max(2, round(2 * width / belief.shape[1]))
            crop = np.s_[y0:y1, x0:x1]
            full[crop] = guided(guide[crop], full[crop], radius, 1e-3)
        wins = full > best
        out[wins] = thing.label
        best[wins] = full[wins]
    return out


def _confidence(objects: Iterable[_Object], label: int) -> float:
    """Of an object, the mean over its parts by area; 0 where it is not known."""
    parts = [(thing.confidence, thing.place.size**2) for thing in objects if thing.label == label]
    return sum(c * a for c, a in parts) / sum(a for _, a in parts) if parts else 0.0


def _parts(belief: Map) -> list[Map]:
    """Take what lies well apart for several objects: they may move on their own.

    What lies nearer than something thin in front of the object may explain hangs together.

    Args:
        belief: (h, w) 0..1, above 0.5 somewhere.
    """
    solid = np.asarray(belief > 0.5)
    total, pieces, facts, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8))
    areas = facts[:, cv2.CC_STAT_AREA]
    large = [k for k in range(1, total) if areas[k] >= _PART * solid.sum()]
    if len(large) < 2:
        return [belief]
    apart = [
        np.asarray(cv2.distanceTransform((pieces != k).astype(np.uint8), cv2.DIST_L2, 3))
        for k in large
    ]
    group = list(range(len(large)))
    for i, k in enumerate(large):
        for j in range(i):
            least = max(4.0, _GAP * float(np.sqrt(min(areas[k], areas[large[j]]))))
            if apart[i][pieces == large[j]].min() < least:
                group = [group[j] if g == group[i] else g for g in group]
    names = sorted(set(group))
    distance = [np.min([a for a, g in zip(apart, group, strict=True) if g == n], 0) for n in names]
    nearest = np.argmin(distance, 0)
    return [np.asarray(np.where(nearest == n, belief, 0), np.float32) for n in range(len(names))]
