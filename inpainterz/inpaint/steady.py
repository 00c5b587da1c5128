"""The last step of the fill: fills of neighbouring frames agree with each other and the picture.

Each frame's fill was chosen by itself, so errors of place and choice flicker. Here a fill is seen
as a noisy measurement of one picture that moves: a filter that runs forward in time and one that
runs backward over the next few frames tell what the neighbours say, and the fill is averaged with
both (the two-filter smoother of Fraser and Potter, The Optimum Linear Smoother as a Combination of
Two Optimum Linear Filters, IEEE Transactions on Automatic Control 14(4), 1969, along the motion as
in Lang et al., Practical Temporal Consistency for Image-Based Graphics Applications, ACM
Transactions on Graphics 31(4), 2012). True pixels that come out from under the hole count most.

Around a hole motion is measured finely, under it only roughly: there it is spread from around, as
motion measured on a fill that flickers follows the flicker, and would keep it. It counts only where
the spread one misses the picture by far, and where it leads forth and back to the same place. What
comes out from under the hole in the next frame goes as it does from there, and what went under it
as it did before (see `inpaint.emerging`).

A passer-by who walks out from under the hole goes elsewhere than the scene that was spread under
it. Where a way leads out of the hole to pixels that come from another place, and that look quite
unlike the fill, what they say is not heard.

Where past and future tell the same and the fill something else, it is the fill that is wrong for a
moment, and it is heard less.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint.background import Box, boxes, look
from inpainterz.inpaint.blend import Floats, diffuse, level_gap
from inpainterz.inpaint.emerging import Scene, emerging, scene_motion
from inpainterz.types import Flow, Frame, Image, Inpainted, Mask

OVERLAP = 4
"""Frames that the backward filter starts behind those that come out."""
CHUNK = 6
"""Frames that come out at once, so that the backward filter runs little more than once a frame."""
DELAY = CHUNK + OVERLAP - 1
"""Frames that a filled one waits for if there is room for them."""
LEVELS = 400.0
"""A neighbour that differs by this much around a pixel counts for a third."""
LOOSE = 4.0
"""What a neighbour's word weighs at most, sure fills of one frame being 1."""
DOUBT = 0.3
"""What a fill weighs that is not sure at all."""
TRUE = 50.0
"""What a pixel weighs that was not filled."""
GUARD = 3
"""Pixels so close to a hole may still show what is removed."""
BESIDE = 1.7
"""What they weigh."""
RIM = 4
"""Pixels around a fill, of the flow's picture, where the flow goes with it."""
CLOSE = 24
"""So far around a hole, in pixels of that picture, flow is measured finely."""
FINE_LEAST = 32
"""Flow is measured finely in pieces that are no smaller than this, pixels."""
EDGE = 4
"""Pixels around a hole that are looked at with it."""

ASTRAY = 1.0
"""A way that leads back so many pixels off, of the flow's picture, is doubted by half."""
UNLIKE = 15.0
"""Doubt begins to count where what it leads to differs from the fill by so many levels around,"""
FOREIGN = 40.0
"""and counts fully from so many on."""

MUCH = 1.35
"""The flow of the fill itself counts where the spread one misses the picture by this much more,"""
LEAST = 1.0
"""and by this many levels at least."""
NOISE = 2.0
"""Levels by which past and future always differ: a fill that differs from both by as much as they
do from each other, and this, counts for half."""
Grey = npt.NDArray[np.uint8]
Half = npt.NDArray[np.float16]


@dataclass(slots=True, eq=False)
class _Word:
    """What a filter says of a box: pixels (h, w, 3) and what they weigh (h, w)."""

    pixels: Image
    weight: Half


@dataclass(slots=True, eq=False)
class _Held:
    """A frame on its way out."""

    result: Inpainted
    hole: Mask
    boxes: list[Box]
    grey: Grey
    """(h, w) luma at the size that flow is measured at."""
    sure: Mask
    """(h, w) at that size, where the flow is believed."""
    covered: Mask
    """(h, w) at that size, where there is anything of the hole."""
    onward: Half | None = None
    """(h, w, 2) flow to the next frame, small pixels; None where it is not needed."""
    home: Half | None = None
    """(h, w, 2) that from the next frame, as it was measured there."""
    sure_ahead: Mask | None = None
    """(h, w) where in the next frame it is believed."""
    scene: Scene | None = None
    """What most of it follows."""
    words: list[_Word | None] = field(default_factory=list)
    """What the past says of each box."""


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """The way from a frame to its neighbour."""

    flow: Flow | None
    """(h, w, 2) small pixels; None where it is not needed."""
    home: Flow | None
    """(h, w, 2) the flow back, as it was measured in the neighbour."""
    sure: Mask | None
    """(h, w) where in the neighbour it is believed."""
    covered: Mask
    """(h, w) where it is only spread."""
    scene: Scene | None


@dataclass(slots=True, eq=False)
class _State:
    """A frame as a filter leaves it: pixels (H, W, 3), and what each weighs (H, W)."""

    pixels: Image
    weight: Floats


class Steadier:
    """Frames of one shot on their way out, each held until those that it is averaged with are in.

    Args:
        delay: frames that a filled one waits for at most; the past always counts.
        flow_side_px: flow is measured with the longer side of the frame reduced to this.
    """

    def __init__(self, delay: int, *, flow_side_px: int) -> None:
        self.delay = delay
        self.overlap = min(OVERLAP, delay // 2)
        self.flow_side_px = flow_side_px
        self.held: deque[_Held] = deque()
        self.last: _Held | None = None
        """The frame that was taken in last."""
        self.past: _State | None = None
        """That frame as the forward filter left it."""
        self.ways: deque[_Way] = deque(maxlen=2)
        """From the last two frames to those before them."""

    def take(self, result: Inpainted, hole: Mask) -> Iterator[Inpainted]:
        """Take a filled frame in with its hole; yields those that are ready."""
        new = self._prepared(result, hole)
        back: Flow | None = None
        there: Flow | None = None
        if self.last is not None and (hole.any() or self.last.boxes):
            there, back = self._flows(self.last, new)
        scene = None if back is None else scene_motion(back, np.asarray(~new.covered))
        sure = None if self.last is None else self.last.sure
        way = _led(_Way(back, there, sure, new.covered, scene), self.ways)
        if self.past is not None:
            new.words = _heard(self.past, new, way)
        self.ways.append(way)
        self.past = _filtered(new, new.words)
        self.last = new
        self.held.append(new)
        yield from self._ready(self.delay)

    def finish(self) -> Iterator[Inpainted]:
        """Yield the rest."""
        yield from self._ready(0)

    def _prepared(self, result: Inpainted, hole: Mask) -> _Held:
        h, w = hole.shape
        shrink = min(1.0, self.flow_side_px / max(h, w))
        size = (max(1, round(w * shrink)), max(1, round(h * shrink)))
        small = cv2.resize(result.frame.image, size, interpolation=cv2.INTER_AREA)
        found = boxes(hole, EDGE) if hole.any() else []
        grey = motion.grey(np.asarray(small, np.uint8))
        covered = cv2.resize(hole.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) > 0
        reach = np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)
        sure = cv2.dilate(covered.astype(np.uint8), reach) == 0
        nothing: list[_Word | None] = [None] * len(found)
        return _Held(result, hole, found, grey, np.asarray(sure), covered, words=nothing)

    def _flows(self, a: _Held, b: _Held) -> tuple[Flow, Flow | None]:
        """Note the flow from a to b in a if it is needed.

        Returns:
            That flow as it was measured, and the one from b to a if it is needed.
        """
        near = boxes(np.asarray(a.covered | b.covered), CLOSE)
        there, home = _flow(a, b, near), _flow(b, a, near)
        onward = _completed(a.grey, b.grey, a.sure, there, home) if a.boxes else None
        back = _completed(b.grey, a.grey, b.sure, home, there) if b.boxes else None
        if onward is not None:
            a.onward, a.home = onward.astype(np.float16), home.astype(np.float16)
            a.sure_ahead = b.sure
        a.scene = None if onward is None else scene_motion(onward, np.asarray(~a.covered))
        return there, back

    def _ready(self, delay: int) -> Iterator[Inpainted]:
        while self.held:
            if not self.held[0].boxes:
                first = self.held.popleft()
                yield first.result
                continue
            if len(self.held) - 1 < delay:
                return
            # all but the overlap, or what is left
            count = max(1, len(self.held) - (self.overlap if delay else 0))
            done = self._averaged(count)
            for _ in range(count):
                self.held.popleft()
            yield from done

    def _averaged(self, count: int) -> list[Inpainted]:
        """The first `count` frames held, averaged with what comes before and after them."""
        done: list[Inpainted] = []
        future: _State | None = None
        ways: list[_Way] = []
        for number in range(len(self.held) - 1, -1, -1):
            held = self.held[number]
            words: list[_Word | None] = [None] * len(held.boxes)
            onward = None if held.onward is None else held.onward.astype(np.float32)
            home = None if held.home is None else held.home.astype(np.float32)
            way = _led(_Way(onward, home, held.sure_ahead, held.covered, held.scene), ways)
            if future is not None:
                words = _heard(future, held, way)
            ways.append(way)
            if number < count:
                done.append(_mixed(held, words))
            if number:
                future = _filtered(held, words)
        return done[::-1]


def _led(way: _Way, further: Sequence[_Way]) -> _Way:
    """A way mended by those that lead on from it, the first of them last."""
    if way.flow is None or way.scene is None or len(further) < 2:
        return way
    next_, after = further[-1], further[-2]
    if next_.flow is None or next_.scene is None:
        return way
    ahead = (next_.flow, next_.covered, next_.scene)
    flow, told = emerging(way.flow, way.covered, way.scene, *ahead, after.covered)
    return replace(way, flow=flow, covered=np.asarray(way.covered & ~told))


def _flow(a: _Held, b: _Held, near: Sequence[Box]) -> Flow:
    """Flow (h, w, 2) from a to b, fine in some boxes, but for what was filled in a."""
    flow = motion.dense_flow(a.grey, b.grey, fast=True)
    for box in near:
        if min(box.shape) < FINE_LEAST:
            continue
        crop = box.slices
        fine = motion.finer_flow(a.grey[crop], b.grey[crop], flow[crop])
        flow[crop] = np.where(a.covered[crop][..., None], flow[crop], fine)
    return flow


def _completed(a: Grey, b: Grey, sure: Mask, flow: Flow, back: Flow) -> Flow:
    """A flow (h, w, 2) from a to b with what is not believed spread from around it."""
    done = flow.copy()
    for box in boxes(np.asarray(~sure), 8):
        crop = box.slices
        spread = diffuse(np.ascontiguousarray(flow[crop]), np.ascontiguousarray(sure[crop]))
        plain = np.asarray(cv2.blur(flow[crop], (9, 9)), np.float32)
        gap = _misses(a, b, box, spread) - MUCH * _misses(a, b, box, plain)
        share = np.where(sure[crop], 0, np.clip((gap - LEAST) / 4, 0, 1))
        if share.any():
            home = flow[crop] + look(back, np.asarray(box.grid() + flow[crop], np.float32))
            limit = 0.5 + 0.02 * motion.squared(flow[crop])
            agreed = (motion.squared(home) < limit).astype(np.float32)
            share = share * cv2.blur(agreed, (9, 9)) ** 2
        done[crop] = spread + share[..., None] * (plain - spread)
    return done


def _misses(a: Grey, b: Grey, box: Box, flow: Flow) -> Floats:
    """(h, w) levels by which a flow from a to b misses the picture around each pixel of a box."""
    seen = look(b, np.asarray(box.grid() + flow, np.float32))
    gap = cv2.absdiff(seen, a[box.slices].astype(np.float32))
    return np.asarray(cv2.blur(gap, (15, 15)), np.float32)


def _data(held: _Held, box: Box) -> Floats:
    """(h, w) what a frame's own pixels weigh."""
    crop = box.slices
    own = np.full(box.shape, DOUBT, np.float32)
    if held.result.confidence is not None:
        own += (1 - DOUBT) / 255 * held.result.confidence[crop]
    return np.where(held.hole[crop], own, TRUE).astype(np.float32)


def _heard(state: _State, held: _Held, way: _Way) -> list[_Word | None]:
    """What the neighbour in a state says of the boxes of a frame, from which the way leads."""
    h, w = held.hole.shape
    flow, home, sure = way.flow, way.home, way.sure
    if flow is None or home is None or sure is None:
        return [None] * len(held.boxes)
    scale = np.array([w / flow.shape[1], h / flow.shape[0]], np.float32)
    words: list[_Word | None] = []
    for box in held.boxes:
        grid = box.grid()
        small = motion.scaled(grid + np.float32(0.5), *(1 / scale)) - np.float32(0.5)
        leads = look(flow, small)
        at = grid + motion.scaled(leads, *scale)
        x, y = at[..., 0], at[..., 1]
        within = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
        pixels = look(state.pixels, at, cv2.INTER_CUBIC)
        own = held.result.frame.image[box.slices].astype(np.float32)
        apart = cv2.blur(level_gap(pixels, own), (5, 5))
        weight = 1 / (1 / LOOSE + 1 / np.maximum(look(state.weight, at), 1e-3))
        weight = weight * np.exp(-((apart / LEVELS) ** 2)) * within
        onto = np.asarray(small + leads, np.float32)
        elsewhere = _elsewhere(leads, look(home, onto)) * look(sure.astype(np.float32), onto)
        weight = weight * (1 - elsewhere * _unlike(pixels, own))
        levels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        words.append(_Word(levels, weight.astype(np.float16)))
    return words


def _elsewhere(leads: Flow, home: Flow) -> Floats:
    """(h, w) 0..1 how surely a way (h, w, 2) leads to what was in another place."""
    off = motion.squared(leads + home) / (ASTRAY**2 + 0.02 * motion.squared(leads))
    return np.asarray(1 - 1 / (1 + off * off), np.float32)


def _unlike(pixels: Floats, own: Floats) -> Floats:
    """(h, w) 0..1 how surely two pictures (h, w, 3) show different things, not the same shifted."""
    red, green, blue = cv2.split(np.abs(cv2.blur(pixels - own, (9, 9))))
    most = cv2.max(cv2.max(red, green), blue)
    return np.asarray(np.clip((most - UNLIKE) / (FOREIGN - UNLIKE), 0, 1), np.float32)


def _averages(held: _Held, words: list[list[_Word | None]]) -> Iterator[tuple[Box, Floats, Floats]]:
    """For each box the mean (h, w, 3) of a frame's own pixels and all words, and their weight."""
    for box, said in zip(held.boxes, zip(*words, strict=True), strict=True):
        own = held.result.frame.image[box.slices].astype(np.float32)
        weight = _data(held, box)
        if len(said) == 2 and said[0] is not None and said[1] is not None:
            agreed = _agreement(own, said[0], said[1])
            weight = np.where(held.hole[box.slices], weight * agreed, weight)
        total = own * weight[..., None]
        for word in said:
            if word is not None:
                share = word.weight.astype(np.float32)
                total = total + share[..., None] * word.pixels
                weight = weight + share
        yield box, np.asarray(total / weight[..., None], np.float32), weight


def _agreement(own: Floats, past: _Word, future: _Word) -> Floats:
    """(h, w) 0..1 how far pixels (h, w, 3) are in keeping with past and future together.

    It is little only where the two agree with one another better than with the pixels.
    """
    before, after = past.pixels.astype(np.float32), future.pixels.astype(np.float32)
    heard = past.weight.astype(np.float32), future.weight.astype(np.float32)
    share = heard[1] / np.maximum(heard[0] + heard[1], 1e-3)
    mean = np.asarray(before + share[..., None] * (after - before), np.float32)
    apart = cv2.blur(level_gap(before, after), (5, 5)) + np.float32(NOISE)
    off = cv2.blur(level_gap(own, mean), (5, 5)) / apart
    return np.asarray(1 / (1 + off * off), np.float32)


def _painted(held: _Held, words: list[list[_Word | None]]) -> tuple[Image, Floats]:
    """A frame with its hole averaged, and what each pixel weighs."""
    image = held.result.frame.image
    weights = np.full(held.hole.shape, TRUE, np.float32)
    if held.boxes:
        image = image.copy()
        # a mask is seldom exact
        reach = np.ones((2 * GUARD + 1, 2 * GUARD + 1), np.uint8)
        weights[cv2.dilate(held.hole.astype(np.uint8), reach) > 0] = BESIDE
    for box, mean, weight in _averages(held, words):
        inside = held.hole[box.slices]
        levels = np.clip(np.rint(mean), 0, 255).astype(np.uint8)
        image[box.slices][inside] = levels[inside]
        weights[box.slices][inside] = weight[inside]
    return image, weights


def _filtered(held: _Held, words: list[_Word | None]) -> _State:
    """A frame as a filter leaves it that heard `words`."""
    return _State(*_painted(held, [words]))


def _mixed(held: _Held, future: list[_Word | None]) -> Inpainted:
    """A frame averaged with its past and its future."""
    if not held.boxes:
        return held.result
    image, _ = _painted(held, [held.words, future])
    old = held.result.frame
    done = Frame(image, old.index, old.pts, old.time_base, old.shot)
    return Inpainted(done, held.result.origin, held.result.confidence)
