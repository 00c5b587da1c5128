"""Segmentation from clicks or a box with nothing to download: colour, edges and motion.

A pool of hypotheses at several scales is cut out of a graph of superpixels around the prompt, as
in constrained parametric min-cuts (Carreira and Sminchisescu, PAMI 2012); colour models are
learnt from each hypothesis and the cut repeated, as in GrabCut (Rother, Kolmogorov and Blake,
SIGGRAPH 2004). Hypotheses are ranked by their border, their compactness, how the click lies in
them, and by motion against the background where frames around are at hand; the best one is
refined pixel by pixel in a crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.errors import OptionError, PromptError
from inpainterz.masks import grow
from inpainterz.segment import boxed, moving, paint, refine, regions
from inpainterz.segment.attached import attached
from inpainterz.segment.hypotheses import Hint, Judge, Pool
from inpainterz.segment.prompts import checked, checked_image
from inpainterz.segment.zoom import Zoom, zoom
from inpainterz.types import Image, Mask, Prompt, Segmentation

# a correction of an outline known to the pixel
_ABOUT = 1.5  # superpixels about what it changed, where the outline is drawn anew
_WIDE = 4.0  # and no further from the click than so many times its way to the old outline
_FAR = 0.25  # of the object's size: a click so far from its outline means something else
# a click that gave much of the frame, and not surely
_UNSURE, _LARGE = 0.52, 0.06  # believed no more than this, and a larger share
_NEAR = 0.1  # is looked at closely around the click, so far in the frame's diagonal,
_SMALLER = 0.05  # and what is found there need not be believed as much
_PAST = 4  # answers remembered
_PAINT_SCORE = 0.93  # mean IoU of paint on composites
_MOVES, _ALONG = 2.5, 0.3  # log odds of moving and share around that moves, of a painted part

NEIGHBOUR_OFFSETS: tuple[int, ...] = (-40, -20, -10, -5, -2, 2, 5, 10, 20, 40)
"""Where `embed` likes its neighbours, in frames from the frame itself."""


@dataclass(frozen=True, slots=True)
class Options:
    """Knobs of the built-in segmenter."""

    work_pixels: int = 120_000
    """Pixels of the reduced frame in which hypotheses are cut; the answer is at source size."""
    cell_px: int = 6
    """Side of a superpixel in the reduced frame."""
    crop_pixels: int = 60_000
    """Pixels of the crop in which the answer is refined."""
    grow_share: float = 0.0012
    """How far the answer to clicks leans outwards, as a share of the frame's diagonal: half-covered
    pixels of a soft edge count as the object."""

    def __post_init__(self) -> None:
        if not 1_000 <= self.work_pixels <= 4_000_000:
            raise OptionError("work_pixels must be within 1000..4000000")
        if not 3 <= self.cell_px <= 64:
            raise OptionError("cell_px must be within 3..64")
        if not 1_000 <= self.crop_pixels <= 4_000_000:
            raise OptionError("crop_pixels must be within 1000..4000000")
        if not 0 <= self.grow_share <= 0.05:
            raise OptionError("grow_share must be within 0..0.05")


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One frame, looked at; holds no reference to its neighbours."""

    image: Image
    """The source frame."""
    scale: tuple[float, float]
    """Reduced frame over source, (x, y)."""
    judge: Judge


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """What an answer remembers for the next click."""

    mask: Mask
    """(H, W) as it was cut, before it was grown."""
    points: npt.NDArray[np.float32]
    exact: bool
    """Its outline is known to the pixel, but for what is corrected."""
    past: tuple[tuple[Mask, tuple[float, float]], ...] = ()
    """Earlier answers as they were cut, each with the click that corrected it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A prompt, checked, and what was answered before."""

    points: npt.NDArray[np.float32]
    positive: npt.NDArray[np.bool_]
    box: npt.NDArray[np.float32] | None
    state: _State | None
    fresh: npt.NDArray[np.bool_]
    """Which points are new since."""


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """What was found in one look."""

    mask: Mask
    """(H, W) as it was cut."""
    score: float
    inside: npt.NDArray[np.bool_]
    """(n,) which regions it is made of."""
    judge: Judge
    hint: Hint
    close: Zoom | None
    """What was looked at; None: the whole frame."""


class BuiltinSegmenter:
    """The `Segmenter` that needs no download."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def embed(self, image: Image, neighbours: Sequence[Image] = ()) -> Embedding:
        """Look at a frame; about a second at any size with ten neighbours on two cores.

        Args:
            image: (H, W, 3) uint8 RGB, any size.
            neighbours: frames of the same shot and size, in order of time; best at
                `NEIGHBOUR_OFFSETS`.

        Raises:
            PromptError: there is no picture, or a neighbour has another size.
        """
        image = checked_image(image)
        if any(other.shape != image.shape for other in neighbours):
            raise PromptError("the frames around this one have another size")
        h, w = image.shape[:2]
        shrink = min(1.0, (self.options.work_pixels / (h * w)) ** 0.5)
        size = max(1, round(w * shrink)), max(1, round(h * shrink))
        work = _resized(image, size)
        seen = moving.observe(work, [_resized(other, size) for other in neighbours])
        lab = regions.lab_of(cv2.bilateralFilter(work, 5, 25, 3) if min(size) > 2 else work)
        labels = regions.superpixels(lab, self.options.cell_px)
        graph = regions.build(lab, labels, regions.grain_of(image, size))
        return Embedding(image, (size[0] / w, size[1] / h), Judge.of(graph, seen))

    def segment(
        self, embedding: Embedding, prompt: Prompt, previous: Segmentation | None = None
    ) -> Segmentation:
        """Answer one object's prompt.

        Every positive click lies inside the answer and every negative one outside, unless both
        kinds hit the same pixel: then the later one counts.

        Args:
            embedding: from `embed`.
            prompt: all clicks so far, the latest last within its kind, and perhaps a box.
            previous: the last answer for this object in this frame.

        Raises:
            PromptError: nothing positive, a point outside the frame, or a box without area.
        """
        height, width = embedding.image.shape[:2]
        points, positive, box = checked(prompt, height, width)
        state = previous.state if previous is not None else None
        known: set[tuple[float, float]] = set()
        if not isinstance(state, _State) or state.mask.shape != (height, width):
            state = None
        else:
            known = {(x, y) for x, y in state.points.tolist()}
        fresh = np.asarray([(x, y) not in known for x, y in points.tolist()], np.bool_)
        if len(known) > len(points) - fresh.sum():  # one was taken back
            state = None
        if state is None:
            fresh[:] = True
        painted = _painted(embedding, points, positive, box)
        if painted is not None:
            return Segmentation(painted, _PAINT_SCORE, _State(painted, points.copy(), True))
        asked = _Asked(points, positive, box, state, fresh)
        close = self._close(embedding, points, box, state)
        answer = self._answer(embedding, asked, close)
        if close is None and answer.score < _UNSURE and answer.mask.mean() > _LARGE:
            around = self._around(embedding, points)
            near = self._answer(embedding, asked, around)
            if near.score > answer.score - _SMALLER and not _at_end(near.mask, around):
                answer = near
        mask, hint, inside, judge = answer.mask, answer.hint, answer.inside, answer.judge
        close = answer.close
        parts = attached(embedding.image, mask, embedding.judge.map)
        if not positive.all():
            parts = _not_off(parts, points[~positive], None if state is None else state.mask)
        mask |= parts
        exact = state is not None and state.exact and bool(fresh.any())
        if state is not None and hint.previous is not None and exact:
            last = points[np.flatnonzero(fresh)[-1]]
            kept = _kept(mask, state.mask, judge, inside ^ hint.previous, close, last)
            mask, exact = (mask, False) if kept is None else (kept, True)
        past = () if state is None else state.past
        core = mask.copy()
        if box is not None:  # which tells how far the edge of the object goes
            mask = refine.fit_box(mask, box)
        elif not exact:
            mask = grow(mask, round(self.options.grow_share * float(np.hypot(height, width))))
        refine.keep_clicks(mask, points, positive)
        if state is not None and fresh.any():
            last = points[np.flatnonzero(fresh)[-1]]
            past = (*state.past, (state.mask, (float(last[0]), float(last[1]))))[-_PAST:]
        return Segmentation(mask, answer.score, _State(core, points.copy(), exact, past))

    def _answer(self, embedding: Embedding, asked: _Asked, close: Zoom | None) -> _Answer:
        """The best answer in a closer look at a part of the frame, or in the whole of it."""
        height, width = embedding.image.shape[:2]
        judge = embedding.judge if close is None else close.judge
        scale = np.asarray(embedding.scale, np.float32)
        at = asked.points * scale if close is None else close.points(asked.points)
        corners = None
        if asked.box is not None:
            corners = asked.box * np.tile(scale, 2) if close is None else close.box(asked.box)
        h, w = judge.regions.labels.shape
        past = () if asked.state is None else asked.state.past
        hint = Hint(
            points=np.clip(np.floor(at), 0, (w - 1, h - 1)).astype(np.float32),
            positive=asked.positive,
            box=corners,
            previous=None if asked.state is None else _covered(judge, asked.state.mask, close),
            fresh=asked.fresh,
            past=tuple(
                (_covered(judge, mask, close), _moved(click, scale, close)) for mask, click in past
            ),
        )
        belief = None if corners is None else boxed.believe(judge, corners)
        window = np.s_[:, :] if close is None else close.window
        inside, score = self.choose(Pool(judge, hint, belief), window)
        mask = np.zeros((height, width), np.bool_)
        mask[window] = refine.refine(
            embedding.image[window], judge, inside, self.options.crop_pixels
        )
        return _Answer(mask, score, inside, judge, hint, close)

    def choose(
        self, pool: Pool, window: tuple[slice, slice]
    ) -> tuple[npt.NDArray[np.bool_], float]:
        """(n,) the regions of the hypothesis to refine, and how good it is believed to be, 0..1.

        Args:
            pool: the hypotheses.
            window: rows and columns of the source that its regions cover.
        """
        return pool.best()

    def _close(
        self,
        embedding: Embedding,
        points: npt.NDArray[np.float32],
        box: npt.NDArray[np.float32] | None,
        state: _State | None,
    ) -> Zoom | None:
        """A closer look at a box, or at the last answer and the clicks; None: the whole frame."""
        if state is not None and state.mask.any():
            x, y, w, h = cv2.boundingRect(state.mask.astype(np.uint8))
            low, high = np.asarray([x, y]), np.asarray([x + w, y + h])
        elif box is not None:
            low, high = box[:2], box[2:]
        else:
            return None
        if len(points):
            low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0) + 1)
        if state is not None:  # the object may be larger than the answer
            room = 0.3 * float((high - low).max()) + 0.03 * float(
                np.hypot(*embedding.image.shape[:2])
            )
            low, high = low - room, high + room
        return self._zoomed(embedding, low, high)

    def _around(self, embedding: Embedding, points: npt.NDArray[np.float32]) -> Zoom:
        """A closer look at what is around clicks."""
        room = _NEAR * float(np.hypot(*embedding.image.shape[:2]))
        limit = np.asarray(embedding.image.shape[1::-1], np.float32)
        low, high = np.maximum(points.min(0) - room, 0), np.minimum(points.max(0) + room, limit)
        return self._zoomed(embedding, low, high)

    def _zoomed(
        self,
        embedding: Embedding,
        low: npt.NDArray[np.floating[Any]],
        high: npt.NDArray[np.floating[Any]],
    ) -> Zoom:
        area = np.concatenate([low, high]).astype(np.float32)
        return zoom(
            embedding.image,
            embedding.judge,
            embedding.scale,
            area,
            pixels=self.options.crop_pixels,
            cell=self.options.cell_px,
        )


def _painted(
    embedding: Embedding,
    points: npt.NDArray[np.float32],
    positive: npt.NDArray[np.bool_],
    box: npt.NDArray[np.float32] | None,
) -> Mask | None:
    """(H, W) flat paint that the prompt shows, unless it moves along with what is around it."""
    image = embedding.image
    if len(points):
        mask = paint.under(image, points, positive)
    else:
        mask = None if box is None else paint.within(image, box)
    if mask is not None and box is not None:
        mask = refine.in_box(mask, box)
    moving = embedding.judge.map
    if mask is None or moving is None:
        return mask
    h, w = moving.shape
    part = cv2.resize(mask.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST)
    reach = max(2, round(0.25 * float(part.sum()) ** 0.5))
    ring = cv2.dilate(part, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > part
    along = float((moving[ring] > 1).mean()) if ring.any() else 0.0
    return None if along > _ALONG and float(moving[part > 0].mean()) > _MOVES else mask


def _at_end(mask: Mask, close: Zoom) -> bool:
    """Whether a mask (H, W) reaches a side of what was looked at that is none of the frame's."""
    height, width = mask.shape
    beyond = mask.copy()
    beyond[
        (close.top + 2) * (close.top > 0) : height if close.bottom == height else close.bottom - 2,
        (close.left + 2) * (close.left > 0) : width if close.right == width else close.right - 2,
    ] = False
    return bool(beyond.any())


def _not_off(parts: Mask, off: npt.NDArray[np.float32], earlier: Mask | None) -> Mask:
    """Attached parts (H, W) without those that clicks (x, y) hit or are as near as they are large.

    None that the last answer had not: a click that takes away should not add.
    """
    total, pieces = cv2.connectedComponents(parts.astype(np.uint8))
    size = np.bincount(pieces.ravel(), minlength=total)
    good = np.ones(total, np.bool_)
    if earlier is not None:
        good = np.bincount(pieces[earlier], minlength=total) > 0.5 * size
    for part in range(1, total):
        away = np.argwhere(pieces == part)[:, None, ::-1] - off
        good[part] &= bool((away**2).sum(-1).min() > size[part])
    good[0] = False
    return np.asarray(good[pieces])


def _moved(
    click: tuple[float, float], scale: npt.NDArray[np.float32], close: Zoom | None
) -> tuple[float, float]:
    point = np.asarray([click], np.float32)
    x, y = (point * scale if close is None else close.points(point))[0]
    return float(x), float(y)


def _kept(
    mask: Mask,
    previous: Mask,
    judge: Judge,
    changed: npt.NDArray[np.bool_],
    close: Zoom | None,
    click: npt.NDArray[np.float32],
) -> Mask | None:
    """The new mask (H, W) where regions (n,) changed about the click (x, y), else the last one.

    None if the click lies far from the old outline: then more is meant than to mend it.
    """
    x, y = (int(v) for v in click)
    side = (previous if previous[y, x] else ~previous).astype(np.uint8)
    depth = float(cv2.distanceTransform(side, cv2.DIST_L2, 3)[y, x])
    if depth > _FAR * float(np.sqrt(previous.sum())):
        return None
    part = np.s_[:, :] if close is None else close.window
    there = changed[judge.regions.labels].astype(np.uint8)
    reach = round(_ABOUT * float(np.sqrt(judge.regions.area.mean())))
    there = cv2.dilate(there, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    height, width = mask[part].shape
    zone = np.zeros(mask.shape, np.uint8)
    zone[part] = cv2.resize(there, (width, height), interpolation=cv2.INTER_NEAREST)
    disc = np.zeros(mask.shape, np.uint8)
    cv2.circle(disc, (x, y), round(_WIDE * depth) + 4, 1, -1)
    return np.where((zone & disc) > 0, mask, previous)


def _covered(judge: Judge, mask: Mask, close: Zoom | None) -> npt.NDArray[np.bool_]:
    """(n,) which regions a mask (H, W) at source size covers."""
    part = mask if close is None else mask[close.window]
    h, w = judge.regions.labels.shape
    shares = cv2.resize(part.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
    return np.asarray(judge.regions.mean(np.asarray(shares, np.float32)) > 0.5)


def create(options: Options, device: str = "auto") -> BuiltinSegmenter:
    """The engine; it runs on the CPU whatever `device` says."""
    return BuiltinSegmenter(options)


def _resized(image: Image, size: tuple[int, int]) -> Image:
    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


__all__ = [
    "NEIGHBOUR_OFFSETS",
    "BuiltinSegmenter",
    "Embedding",
    "Mask",
    "Options",
    "create",
]
