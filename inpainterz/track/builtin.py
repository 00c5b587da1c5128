"""The built-in tracker: flow, appearance and a minimal cut. No download, no GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.errors import OptionError, PromptError
from inpainterz.track.appearance import DESCRIPTOR, Memory, Place, describe
from inpainterz.track.background import Background
from inpainterz.track.refine import cut, edge_weights, guided
from inpainterz.types import Flow, Frame, Image, LabelMap, Mask, Tracked

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


@dataclass(slots=True, eq=False)
class _View:
    """One frame at working size."""

    grey: npt.NDArray[np.uint8]
    lab: Map  # (h, w, 3) CIE L*a*b*, L 0..100


@dataclass(slots=True, eq=False)
class _Object:
    """One object: where it was, what it looks like."""

    belief: Map  # (h, w) 0..1 at working size, in the last frame
    memory: Memory
    place: Place
    confidence: float = 1.0


@dataclass(slots=True, eq=False)
class _State:
    """All that is remembered of one clip; its size does not depend on the clip's length."""

    shot: int
    view: _View
    background: Background
    random: np.random.Generator
    objects: dict[int, _Object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Moved:
    """What is known of the motion from the last frame to this one, at working size."""

    back: Flow
    """From this frame to the last."""
    trusted: Mask
    camera: Flow
    """As `back`, were all of it background."""
    mismatch: Map
    """Colour difference to where `back` points."""


@dataclass(frozen=True, slots=True, eq=False)
class _Cues:
    """What speaks for and against the object, (h, w) each, in a window of the picture."""

    prior: Map
    """-4..4, the log odds of the last frame's mask, carried along the flow."""
    trust: Map
    """0 or 1, where the flow agrees both ways."""
    shown: Map
    """Log ratio of likeness to what the user showed."""
    seen: Map
    """Log ratio of likeness to what was seen since."""
    differs: Map
    """0..4, difference from the background that was seen there."""
    known: Map
    """0..1, how well the background is known there."""
    moves: Map
    """-4..4, log ratio of moving as the object rather than as the background."""
    depth: Map
    """-1..1, distance to the outline of the prior, inside positive, 1 = a fifth of its size."""
    mismatch: Map
    """0..4, how far the colour differs from where the flow says it comes from."""

    def evidence(self) -> Map:
        """The log odds of the object, all taken together.

        The weights are a logistic regression on clips with true masks; leaving any one clip out
        changes them by less than a tenth or so.
        """
        sure = self.trust * np.clip(1 - 0.5 * self.mismatch, 0, 1)
        return (
            -1.3
            + 0.31 * self.prior * sure
            + 1.0 * self.depth
            + 0.6 * self.shown
            + 0.13 * self.seen
            + 0.43 * self.known * (self.differs - 1.3)
            + 0.23 * self.moves
        )


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
                state = _State(frame.shot, view, background, np.random.default_rng(0))
            self._follow(state, view)
            out = _compose(frame.image, {k: o.belief for k, o in state.objects.items()})
            if prompt is not None:
                ids = [int(k) for k in np.unique(prompt) if k]
                known.update(ids)
                out[np.isin(out, ids)] = 0
                out = np.where(prompt > 0, prompt, out)
                for label in ids:
                    self._teach(state, view, label, prompt == label)
            _learn_background(state, view)
            state.view = view
            confidence = {
                k: state.objects[k].confidence if k in state.objects else 0.0 for k in sorted(known)
            }
            yield Tracked(frame, out, confidence)

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
        belief = cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
        old = state.objects.get(label)
        memory = Memory() if old is None else old.memory
        thing = _Object(np.asarray(belief, np.float32), memory, _place(belief))
        self._remember(state, view, thing, shown=True)
        state.objects[label] = thing

    def _remember(self, state: _State, view: _View, thing: _Object, *, shown: bool) -> None:
        y0, y1, x0, x1 = _window(thing.belief > 0.5, view.grey.shape)
        crop = np.s_[y0:y1, x0:x1]
        thing.memory.learn(
            describe(view.lab[crop], thing.place, (x0, y0)),
            thing.belief[crop],
            shown=shown,
            count=500 if shown else 150,
            random=state.random,
        )

    def _follow(self, state: _State, view: _View) -> None:
        """Find each object in the next frame."""
        if not state.objects:
            return
        moved = self._motion(state, view)
        for thing in state.objects.values():
            self._follow_one(state, thing, view, moved)

    def _motion(self, state: _State, view: _View) -> _Moved:
        last = state.view.grey
        back = motion.dense_flow(view.grey, last)
        forth = motion.dense_flow(last, view.grey)
        taken = np.zeros(last.shape, np.uint8)
        for thing in state.objects.values():
            taken |= thing.belief > 0.3
        taken = np.asarray(cv2.dilate(taken, np.ones((7, 7), np.uint8)))
        matrix, trust = motion.global_motion(last, view.grey, ignore_a=taken > 0)
        state.background.move(matrix, trust)
        camera = motion.homography_flow(np.linalg.inv(matrix), *last.shape)
        came = np.asarray(motion.warp(state.view.lab, back), np.float32)
        mismatch = cv2.blur(np.sqrt(((came - view.lab) ** 2).sum(-1)), (3, 3))
        return _Moved(back, motion.agrees(back, forth), camera, mismatch)

    def _follow_one(self, state: _State, thing: _Object, view: _View, moved: _Moved) -> None:
        prior = motion.warp(thing.belief, moved.back, border=cv2.BORDER_CONSTANT)
        prior = np.asarray(prior, np.float32)
        solid = prior > 0.5
        if not solid.any():
            thing.confidence = 0.0
            thing.belief = np.zeros_like(prior)
            return
        place = _place(prior)
        y0, y1, x0, x1 = _window(solid, view.grey.shape)
        crop = np.s_[y0:y1, x0:x1]
        cues = self._cues(state, thing, view, moved, prior, place, crop)
        evidence = cues.evidence()
        near = prior[crop]
        found = cut(
            -evidence,
            edge_weights(view.lab[crop]),
            np.asarray(evidence > 0, np.float32),
            smoothness=self.options.smoothness_px,
        )
        thing.belief = np.zeros_like(prior)
        thing.belief[crop] = found
        now = found > 0.5
        area = float(now.sum())
        if not area:
            thing.confidence = 0.0
            return
        overlap = float((now & (near > 0.5)).sum()) / max(1.0, float((now | (near > 0.5)).sum()))
        trust = float(moved.trusted[crop][now].mean())
        separation = float((cues.shown[now] > 0).mean())
        score = overlap * (0.3 + 0.7 * trust) * (0.3 + 0.7 * separation)
        thing.confidence = float(min(1.0, 0.7 * thing.confidence + 0.3 * score, score * 1.5))
        thing.place = _place(thing.belief)
        if score > 0.5:
            self._remember(state, view, thing, shown=False)

    def _cues(
        self,
        state: _State,
        thing: _Object,
        view: _View,
        moved: _Moved,
        prior: Map,
        place: Place,
        crop: tuple[slice, slice],
    ) -> _Cues:
        lab, near = view.lab[crop], prior[crop]
        height, width = near.shape
        clipped = np.clip(near, 0.02, 0.98)
        descriptors = describe(lab, place, (crop[1].start, crop[0].start))[::2, ::2]
        ratios = [
            np.asarray(cv2.resize(r.reshape(descriptors.shape[:2]), (width, height)), np.float32)
            for r in thing.memory.log_ratios(descriptors.reshape(-1, DESCRIPTOR))
        ]
        differs, known = state.background.differs(
            lab, crop, near < 0.02, max(4, int(0.3 * place.size))
        )
        return _Cues(
            prior=np.log(clipped / (1 - clipped)),
            trust=moved.trusted[crop].astype(np.float32),
            shown=np.clip(ratios[0], -5, 5),
            seen=np.clip(ratios[1], -5, 5),
            differs=np.clip(differs, 0, 4),
            known=known,
            moves=_moves(moved, crop, near),
            depth=_depth(near, place),
            mismatch=np.clip(moved.mismatch[crop] / 8, 0, 4),
        )


def _moves(moved: _Moved, crop: tuple[slice, slice], near: Map) -> Map:
    """Log ratio of moving as the object does rather than as the background does."""
    flow, camera = moved.back[crop], moved.camera[crop]
    own = near > 0.9
    if own.sum() < 20:
        return np.zeros_like(near)
    height, width = near.shape
    at = motion.grid(height, width)
    terms = np.concatenate([at / max(height, width), np.ones((height, width, 1))], -1)
    use = own & moved.trusted[crop] if (own & moved.trusted[crop]).sum() >= 20 else own
    for _ in range(2):  # the second time without what moves otherwise
        model = np.linalg.lstsq(terms[use], flow[use], rcond=None)[0]
        object_error = ((flow - terms @ model) ** 2).sum(-1)
        use = own & (object_error <= np.quantile(object_error[own], 0.7))
    background_error = ((flow - camera) ** 2).sum(-1)
    usual = 0.5 + np.median(object_error[own])
    return np.clip((background_error - object_error) / (2 * usual), -4, 4).astype(np.float32)


def _depth(near: Map, place: Place) -> Map:
    solid = (near > 0.5).astype(np.uint8)
    inside = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 3)
    return np.clip((inside - outside) / max(2.0, 0.2 * place.size), -1, 1).astype(np.float32)


def _place(belief: Map) -> Place:
    moments = cv2.moments(np.asarray(belief > 0.5, np.uint8), binaryImage=True)
    mass = moments["m00"]
    if not mass:
        return Place(belief.shape[1] / 2, belief.shape[0] / 2, 1.0)
    return Place(moments["m10"] / mass, moments["m01"] / mass, max(1.0, float(np.sqrt(mass))))


def _learn_background(state: _State, view: _View) -> None:
    taken = np.zeros(view.grey.shape, np.uint8)
    for thing in state.objects.values():
        taken |= thing.belief > 0.05
    state.background.learn(view.lab, np.asarray(cv2.dilate(taken, np.ones((9, 9), np.uint8)) == 0))


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


def _window(mask: Mask, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Rows and columns around the mask with room to move."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    room = int(12 + 0.3 * max(y1 - y0, x1 - x0))
    return (
        max(0, int(y0) - room),
        min(size[0], int(y1) + room),
        max(0, int(x0) - room),
        min(size[1], int(x1) + room),
    )


def _compose(image: Image, beliefs: Mapping[int, Map]) -> LabelMap:
    """One label map at the source's size; where objects meet, the stronger belief wins."""
    height, width = image.shape[:2]
    out = np.zeros((height, width), np.uint8)
    best = np.full((height, width), 0.5, np.float32)
    guide = motion.grey(image).astype(np.float32) / 255
    for label, belief in sorted(beliefs.items()):
        if not (belief > 0.5).any():
            continue
        full = belief
        if belief.shape != (height, width):
            full = np.asarray(cv2.resize(belief, (width, height)), np.float32)
            y0, y1, x0, x1 = _window(full > 0.1, full.shape)
            radius = max(2, round(2 * width / belief.shape[1]))
            crop = np.s_[y0:y1, x0:x1]
            full[crop] = guided(guide[crop], full[crop], radius, 1e-3)
        wins = full > best
        out[wins] = label
        best[wins] = full[wins]
    return out
