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

What other frames show hangs on the window alone, so for all but short clips it is looked up in a
process of its own for one frame while the frame before it is put together here: two cores are kept
busy, and the result is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from inpainterz.errors import InputError, OptionError
from inpainterz.inpaint import grain, steady
from inpainterz.inpaint.apart import Apart
from inpainterz.inpaint.blend import Floats, diffuse
from inpainterz.inpaint.choose import choose
from inpainterz.inpaint.layer import Carried, Layer, carry, levels, refill
from inpainterz.inpaint.pairs import reduction
from inpainterz.inpaint.seen import Known, Seen, View
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
        with Apart() as apart:
            for frame, hole in of_one_size(frames):
                if shot is not None and shot.number != frame.shot:
                    yield from shot.finish()
                    shot = None
                if shot is None:
                    shot = _Shot(frame.shot, hole.shape, self.options, apart)
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


class _Shot:
    """The state of one shot: the window, and which of its frames is to come out next."""

    def __init__(self, number: int, size: tuple[int, int], options: Options, apart: Apart) -> None:
        self.number = number
        self.size = size
        self.options = options
        self.view = View(
            size,
            apart,
            motion_side_px=options.motion_side_px,
            guard_px=options.guard_px,
            margin_px=options.margin_px,
        )
        # image, hole and guard at source size; masks, pictures and four flows of the small size
        (w, h), _ = reduction(size, options.motion_side_px)
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
        self.waiting: deque[Frame | None] = deque()
        """Frames that were not looked at yet; None: it has a hole, and is in the window alone."""
        self.looked: Frame | None = None
        """The same of the frame that is looked at, and is put together next."""
        self.scene: Layer | None = None
        """What was behind the hole and behind other things in the frame that was filled last."""
        self.others: Layer | None = None
        """And the other things that move."""
        self.next = 0
        """Number in the window of the frame that is looked at next."""

    def take(self, frame: Frame, hole: Mask) -> Iterator[Inpainted]:
        self.view.take(frame, hole)
        self.waiting.append(None if hole.any() else frame)
        while self.waiting and (self.waiting[0] is not None or len(self.waiting) - 1 >= self.ahead):
            yield from self._advance()

    def finish(self) -> Iterator[Inpainted]:
        while self.waiting:
            yield from self._advance()
        yield from self._rest()
        yield from self.steadier.finish()

    def _advance(self) -> Iterator[Inpainted]:
        """Have the next frame looked at while the one before it is put together."""
        known, looked = self.view.known(), self.looked
        excess = self.next - self.back
        if excess > 0:
            self.view.forget(excess)
            self.next -= excess
        self.view.look(self.next)
        self.next += 1
        self.looked = self.waiting.popleft()
        if known is not None:
            yield from self._put_together(known, looked)
        if self.at_once:
            yield from self._rest()

    def _rest(self) -> Iterator[Inpainted]:
        """Put the frame together that is looked at."""
        known = self.view.known()
        if known is not None:
            yield from self._put_together(known, self.looked)

    def _put_together(self, known: Known, whole: Frame | None) -> Iterator[Inpainted]:
        """Fill a frame; `whole` is the frame itself where it has no hole."""
        frame, hole = known.frame or whole, known.hole
        assert frame is not None
        scene, others = self._layers(frame, hole, known)
        result = Inpainted(frame)
        if known.boxes:
            image = frame.image.copy()
            origin = np.zeros(hole.shape, np.uint8)
            confidence = np.zeros(hole.shape, np.uint8)
            for seen in known.boxes:
                crop = seen.box.slices
                inside = hole[crop]
                fill, trust = self._complete(inside, known, seen, scene, others)
                image[crop][inside] = levels(fill[inside])
                origin[crop][inside] = np.where(trust[inside] > 0.5, Origin.SEEN, Origin.INVENTED)
                confidence[crop][inside] = np.rint(255 * trust[inside]).astype(np.uint8)
            done = Frame(image, frame.index, frame.pts, frame.time_base, frame.shot)
            result = Inpainted(done, origin, confidence)
        self.scene, self.others = scene, others
        yield from self.steadier.take(result, hole)

    def _layers(self, frame: Frame, hole: Mask, known: Known) -> tuple[Layer, Layer]:
        """What a frame shows outside its hole: the scene, and what moves before it."""
        h, w = self.size
        moving = cv2.resize(known.moving, (w, h), interpolation=cv2.INTER_LINEAR)
        rim = np.ones((5, 5), np.uint8)
        away = cv2.dilate((moving > 76).astype(np.uint8), rim) > 0
        theirs = np.asarray(away & ~hole)
        share = theirs.astype(np.float32)
        clear = np.asarray(~hole & ~away)
        scene = Layer(frame.index, frame.image.copy(), clear, 1 - share)
        return scene, Layer(frame.index, frame.image.copy(), theirs, share)

    def _complete(
        self, hole: Mask, known: Known, seen: Seen, scene: Layer, others: Layer
    ) -> tuple[Floats, Floats]:
        """Fill one box: the pixels (h, w, 3), and how far they are another frame's (h, w) 0..1.

        What was found is noted in the two layers.
        """
        crop = seen.box.slices
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
        self, known: Known, layer: Layer | None, before: Floats | None, shape: tuple[int, int]
    ) -> Carried:
        """A layer as the frame before knew it, seen at the positions `before`."""
        follows = layer is not None and layer.index == known.follows
        return carry(layer, before if follows else None, shape)
