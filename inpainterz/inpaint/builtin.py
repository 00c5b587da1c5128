"""The built-in inpainter: what other frames show behind the hole, then patches.

For each frame, candidates for its hole are fetched from other frames of the shot along two motions
(see `inpaint.background`), brought to its exposure (`inpaint.samples`), and compared with one
another: the background is what most candidates agree on and what continues the surroundings. What
no frame shows is completed once and then carried along the background's motion, so that it stays
still, until what is known around it changes or it no longer fits in (see `inpaint.layer`).
Another thing that moves and is partly hidden by the hole is a layer of its own before the scene
(see `inpaint.movers`): it is followed along its own motion and put back over the background.
In the end each fill is averaged with past and future along the motion (`inpaint.steady`), and given
the grain that it lost by that (`inpaint.grain`).

What other frames show hangs on the window alone, so it is fetched for one frame while the frame
before it is put together: two cores are kept busy, and the result is the same. More threads than
these two wait for one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.errors import InputError, OptionError
from inpainterz.inpaint import background, grain, samples, steady
from inpainterz.inpaint.background import Box, Record, Window
from inpainterz.inpaint.blend import Floats, diffuse
from inpainterz.inpaint.choose import choose
from inpainterz.inpaint.layer import Carried, Layer, carry, levels, refill
from inpainterz.inpaint.samples import Layers
from inpainterz.types import Frame, Inpainted, Mask, Origin

STEADY = 0.5
"""How much of the outline of a moving thing is kept from the frame before."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the built-in inpainter may use."""

    lookahead_frames: int = 60
    """How far ahead the background is looked for, frames."""
    reach_frames: int = 60
    """How far back, frames."""
    motion_side_px: int = 480
    """Motion is estimated with the longer side reduced to this, pixels."""
    guard_px: int = 3
    """Nothing is taken this close to another frame's hole, pixels: it rings there."""
    margin_px: int = 32
    """How much of the surroundings is compared around a hole, pixels."""
    memory_mb: int = 800
    """Frames kept for borrowing take at most about this, MiB; large frames shorten the reach."""

    def __post_init__(self) -> None:
        limits = {
            "lookahead_frames": (0, 1000),
            "reach_frames": (0, 1000),
            "motion_side_px": (64, 4096),
            "guard_px": (0, 64),
            "margin_px": (8, 512),
            "memory_mb": (16, 1 << 20),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise OptionError(f"{name} is {value}", f"Choose a number from {low} to {high}")


def create(options: Options, device: str = "auto") -> BuiltinInpainter:
    """Build the engine; it runs on the CPU whatever `device` says."""
    del device
    return BuiltinInpainter(options)


class BuiltinInpainter:
    """See the module; an `inpainterz.engines.Inpainter`."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def lookahead(self) -> int:
        return max(1, self.options.lookahead_frames)  # grain is told from a neighbour

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        """See `inpainterz.engines.Inpainter.inpaint`.

        Raises:
            InputError: a frame or a mask has another size than the first frame.
        """
        yield from grain.restored(self._filled(frames), self.options.margin_px)

    def _filled(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        shot: _Shot | None = None
        with ThreadPoolExecutor(1) as worker:
            for frame, hole in of_one_size(frames):
                if shot is not None and shot.number != frame.shot:
                    yield from shot.finish()
                    shot = None
                if shot is None:
                    shot = _Shot(frame.shot, hole.shape, self.options, worker)
                yield from shot.take(frame, hole)
            if shot is not None:
                yield from shot.finish()


def of_one_size(frames: Iterable[tuple[Frame, Mask]]) -> Iterator[tuple[Frame, Mask]]:
    """The same frames and holes, (H, W) bool, as any inpainter takes them.

    Raises:
        InputError: a frame or a mask has another size than the first frame.
    """
    size: tuple[int, ...] | None = None
    for frame, hole in frames:
        size = size or frame.image.shape[:2]
        if frame.image.shape[:2] != size or hole.shape != size:
            raise InputError(
                f"frame {frame.index} or its mask is not {size[1]}x{size[0]}",
                "All frames and masks of a clip have one size",
            )
        yield frame, np.asarray(hole, np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class _Others:
    """What other frames show of things that move before a box's hole."""

    samples: Layers
    share: Floats
    """(h, w) 0..1, how surely such a thing covers the pixel."""
    voted: Mask
    """(h, w) where that could be said."""
    before: Floats | None
    """(h, w, 2) where each pixel was in the frame before, along their motion."""
    rim: Mask
    """(h, w) beside the hole, where it could not be told what moves."""


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What other frames show at a box of the frame to be filled."""

    box: Box
    samples: Layers
    before: Floats | None
    """(h, w, 2) where each pixel was in the frame before, along the background."""
    others: _Others | None


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A frame with all that its window tells."""

    record: Record
    follows: int | None
    """Number of the frame before, if it is in the window."""
    moving: npt.NDArray[np.uint8]
    """(h, w) 255 where it shows what moves on its own, at the size motion is estimated at."""
    boxes: list[_Seen]
    """The parts that hold its hole."""


class _Shot:
    """The state of one shot: the window, and which of its frames is to come out next."""

    def __init__(
        self, number: int, size: tuple[int, int], options: Options, worker: Executor
    ) -> None:
        self.number = number
        self.options = options
        self.worker = worker
        self.window = Window(size, motion_side_px=options.motion_side_px, guard_px=options.guard_px)
        # image, hole and guard at source size; masks, pictures and four flows of the small size
        w, h = self.window.small_size
        frame_bytes = size[0] * size[1] * 5 + w * h * 28
        held_bytes = size[0] * size[1] * (6 * (steady.DELAY + 1) + 20)
        affordable = max(2, ((options.memory_mb << 20) - held_bytes) // frame_bytes - 1)
        total = options.lookahead_frames + options.reach_frames
        share = min(1.0, affordable / max(1, total))
        ahead = max(0, int(options.lookahead_frames * share) - 1)  # the last one is for the grain
        # a fill waits for those that it is averaged with, and for the samples of the next one
        delay = min(steady.DELAY, ahead // 2)
        self.steadier = steady.Steadier(delay, flow_side_px=options.motion_side_px)
        self.at_once = ahead == delay
        self.ahead = ahead - delay - (not self.at_once)
        self.back = int(options.reach_frames * share)
        self.fetched: Future[_Known] | None = None
        """What the window tells of the frame that is put together next."""
        self.scene: Layer | None = None
        """What was behind the hole and behind other things in the frame that was filled last."""
        self.others: Layer | None = None
        """And the other things that move."""
        self.next = 0
        """Number in the window of the frame that is looked at next."""

    def take(self, frame: Frame, hole: Mask) -> Iterator[Inpainted]:
        if self.fetched is not None:
            wait([self.fetched])  # it reads the window
        self.window.record(frame, hole)
        while self.next < len(self.window.records) and (
            not self.window.records[self.next].hole.any()
            or len(self.window.records) - 1 - self.next >= self.ahead
        ):
            yield from self._advance()

    def finish(self) -> Iterator[Inpainted]:
        while self.next < len(self.window.records):
            yield from self._advance()
        if self.fetched is not None:
            yield from self._put_together(self.fetched.result())
        yield from self.steadier.finish()

    def _advance(self) -> Iterator[Inpainted]:
        """Fetch what is known of the next frame while the one before it is put together."""
        earlier = None if self.fetched is None else self.fetched.result()
        excess = self.next - self.back
        if excess > 0:
            self.window.forget(excess)
            self.next -= excess
        self.fetched = self.worker.submit(_look, self.window, self.next, self.options.margin_px)
        self.next += 1
        if earlier is not None:
            yield from self._put_together(earlier)
        if self.at_once:
            done, self.fetched = self.fetched, None
            yield from self._put_together(done.result())

    def _put_together(self, known: _Known) -> Iterator[Inpainted]:
        record = known.record
        scene, others = self._layers(known)
        result = Inpainted(record.frame)
        if known.boxes:
            image = record.frame.image.copy()
            origin = np.zeros(record.hole.shape, np.uint8)
            confidence = np.zeros(record.hole.shape, np.uint8)
            for seen in known.boxes:
                crop = seen.box.slices
                hole = record.hole[crop]
                fill, trust = self._complete(known, seen, scene, others)
                image[crop][hole] = levels(fill[hole])
                origin[crop][hole] = np.where(trust[hole] > 0.5, Origin.SEEN, Origin.INVENTED)
                confidence[crop][hole] = np.rint(255 * trust[hole]).astype(np.uint8)
            old = record.frame
            done = Frame(image, old.index, old.pts, old.time_base, old.shot)
            result = Inpainted(done, origin, confidence)
        self.scene, self.others = scene, others
        yield from self.steadier.take(result, record.hole)

    def _layers(self, known: _Known) -> tuple[Layer, Layer]:
        """What a frame shows outside its hole: the scene, and what moves before it."""
        record = known.record
        h, w = self.window.size
        moving = cv2.resize(known.moving, (w, h), interpolation=cv2.INTER_LINEAR)
        rim = np.ones((5, 5), np.uint8)
        away = cv2.dilate((moving > 76).astype(np.uint8), rim) > 0
        theirs = np.asarray(away & ~record.hole)
        number, image = record.frame.index, record.frame.image
        share = theirs.astype(np.float32)
        scene = Layer(number, image.copy(), np.asarray(~record.hole & ~away), 1 - share)
        return scene, Layer(number, image.copy(), theirs, share)

    def _complete(
        self, known: _Known, seen: _Seen, scene: Layer, others: Layer
    ) -> tuple[Floats, Floats]:
        """Fill one box: the pixels (h, w, 3), and how far they are another frame's (h, w) 0..1.

        What was found is noted in the two layers.
        """
        crop = seen.box.slices
        hole = known.record.hole[crop]
        alpha = np.zeros(hole.shape, np.float32)
        found = seen.others
        if found is not None:
            earlier = self._carried(known, self.others, found.before, hole.shape)
            chosen = choose(found.samples, earlier.pixels, earlier.valid)
            # beside the hole it could not be told what moves
            rim = found.rim
            clear = (scene.known | others.known)[crop] & ~rim
            told = np.asarray(np.where(hole, found.voted, clear))
            share = np.where(hole, found.share, others.share[crop]).astype(np.float32)
            share = diffuse(share, told)
            # where no frame shows it, a thing goes on as it is around
            firm = np.where(hole, np.minimum(3 * chosen.trust, 1), 1).astype(np.float32)
            firm = diffuse(firm, np.asarray(~hole | found.samples.there.any(0)))
            share = np.minimum(share, firm)
            if earlier.valid.any():
                share = (1 - STEADY) * share + STEADY * earlier.share
            share = cv2.GaussianBlur(share.astype(np.float32), (0, 0), 1.0)
            alpha = np.where(hole, np.clip(4 * share - 1.5, 0, 1), 0).astype(np.float32)
            others.share[crop][rim] = share[rim]
            others.known[crop][rim] = share[rim] > 0.5
            scene.known[crop][rim] = share[rim] <= 0.5
        before = self._carried(known, self.scene, seen.before, hole.shape)
        choice = choose(seen.samples, before.pixels, before.valid)
        fill = refill(scene, seen.box, hole, alpha < 0.98, choice, before)
        trust = choice.trust
        if alpha.max() > 0.02:
            others.share[crop] = np.where(hole, alpha, others.share[crop])
            theirs = refill(others, seen.box, hole, alpha > 0.02, chosen, earlier)
            fill = fill + alpha[..., None] * (theirs - fill)
            trust = trust * (1 - alpha) + alpha * chosen.trust
        return np.asarray(fill, np.float32), np.where(hole, trust, 0).astype(np.float32)

    def _carried(
        self, known: _Known, layer: Layer | None, before: Floats | None, shape: tuple[int, int]
    ) -> Carried:
        """A layer as the frame before knew it, seen at the positions `before`."""
        follows = layer is not None and layer.index == known.follows
        return carry(layer, before if follows else None, shape)


def _look(window: Window, index: int, margin_px: int) -> _Known:
    """What a window tells of one of its records."""
    record = window.records[index]
    window.settle(index)
    moving = window.moving(index)
    follows = window.records[index - 1].frame.index if index > 0 else None
    boxes = background.boxes(record.hole, margin_px) if record.hole.any() else []
    return _Known(record, follows, moving, [_seen(window, index, box) for box in boxes])


def _seen(window: Window, index: int, box: Box) -> _Seen:
    others: _Others | None = None
    found = samples.gather_others(window, index, box)
    if found is not None:
        before = window.onto_previous(index, box, others=True)
        others = _Others(*found, before, window.rim(index, box))
    return _Seen(box, samples.gather(window, index, box), window.onto_previous(index, box), others)
