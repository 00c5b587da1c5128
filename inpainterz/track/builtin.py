"""The built-in tracker: flow, appearance and a minimal cut. No download, no GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.errors import OptionError, PromptError
from inpainterz.track.appearance import ColourModel
from inpainterz.track.refine import cut, edge_weights, guided
from inpainterz.types import Flow, Frame, Image, LabelMap, Mask, Tracked

Map = npt.NDArray[np.float32]
"""(H, W) float32."""


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
    colours: ColourModel
    area: float  # working pixels, slowly following
    confidence: float = 1.0


@dataclass(slots=True, eq=False)
class _State:
    """All that is remembered of one clip; its size does not depend on the clip's length."""

    shot: int
    view: _View
    objects: dict[int, _Object] = field(default_factory=dict)


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
            if state is None:
                state = _State(frame.shot, view)
            if frame.shot != state.shot:
                state.objects.clear()  # nothing is known of what a cut brings
            beliefs = self._follow(state, view)
            for label, belief in beliefs.items():
                state.objects[label].belief = belief
            out = _compose(frame.image, beliefs)
            if prompt is not None:
                ids = [int(k) for k in np.unique(prompt) if k]
                known.update(ids)
                out[np.isin(out, ids)] = 0
                out = np.where(prompt > 0, prompt, out)
                for label in ids:
                    self._teach(state, view, label, prompt == label)
            state.shot, state.view = frame.shot, view
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
        belief = np.asarray(
            cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA), np.float32
        )
        old = state.objects.get(label)
        colours = ColourModel() if old is None else old.colours
        colours.learn(view.lab, belief, permanent=True)
        state.objects[label] = _Object(belief, colours, float(belief.sum()))

    def _follow(self, state: _State, view: _View) -> dict[int, Map]:
        """Where each object is in the next frame."""
        if not state.objects:
            return {}
        back = motion.dense_flow(view.grey, state.view.grey)
        forth = motion.dense_flow(state.view.grey, view.grey)
        trusted = motion.agrees(back, forth)
        return {
            label: self._follow_one(thing, view, back, trusted)
            for label, thing in state.objects.items()
        }

    def _follow_one(self, thing: _Object, view: _View, back: Flow, trusted: Mask) -> Map:
        prior = np.asarray(motion.warp(thing.belief, back, border=cv2.BORDER_CONSTANT), np.float32)
        solid = prior > 0.5
        if not solid.any():
            thing.confidence = 0.0
            return np.zeros_like(prior)
        y0, y1, x0, x1 = _window(solid, view.grey.shape)
        crop = np.s_[y0:y1, x0:x1]
        lab, near = view.lab[crop], prior[crop]
        ratio = thing.colours.log_ratio(lab)
        spread = max(2.0, 0.03 * float(np.sqrt(thing.area)))
        inside = cv2.distanceTransform((near > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        outside = cv2.distanceTransform((near <= 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        shape = np.clip((inside - outside) / spread, -3, 3)
        evidence = shape + 0.5 * np.clip(ratio, -3, 3)
        found = cut(
            -evidence.astype(np.float32),
            edge_weights(lab),
            near,
            smoothness=self.options.smoothness_px,
        )
        result = np.zeros_like(prior)
        result[crop] = found
        now = found > 0.5
        area = float(now.sum())
        overlap = float((now & (near > 0.5)).sum()) / max(1.0, float((now | (near > 0.5)).sum()))
        trust = float(trusted[crop][now].mean()) if area else 0.0
        separation = float((ratio[now] > 0).mean()) if area else 0.0
        size = min(area, thing.area) / max(area, thing.area, 1.0)
        score = overlap * (0.3 + 0.7 * trust) * (0.3 + 0.7 * separation) * (0.5 + 0.5 * size)
        thing.confidence = float(min(1.0, 0.7 * thing.confidence + 0.3 * score, score * 1.5))
        thing.area += 0.1 * (area - thing.area)
        if score > 0.5:
            thing.colours.learn(view.lab, result, permanent=False)
        return result


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
