"""The built-in inpainter: what other frames show behind the hole, then patches.

For each frame, candidates for its hole are fetched from other frames of the shot along two
motions (see `inpaint.background`), brought to its exposure, and compared with one another: the
background is what most candidates agree on and what continues the surroundings. What no frame
shows is completed once and then carried along the background's motion, so that it stays still.
Another thing that moves and is partly hidden by the hole is a layer of its own before the scene
(see `inpaint.movers`): it is followed along its own motion and put back over the background.
In the end each fill is averaged with past and future along the motion (`inpaint.steady`), and given
the grain that it lost by that (`inpaint.grain`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from inpainterz.errors import InputError, OptionError
from inpainterz.inpaint import background, grain, steady
from inpainterz.inpaint.background import Box, Window
from inpainterz.inpaint.blend import Floats, diffuse
from inpainterz.inpaint.choose import choose
from inpainterz.inpaint.layer import Carried, Layer, carry, levels, refill
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
        return self.options.lookahead_frames

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        """See `inpainterz.engines.Inpainter.inpaint`.

        Raises:
            InputError: a frame or a mask has another size than the first frame.
        """
        yield from grain.restored(self._filled(frames), self.options.margin_px)

    def _filled(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        shot: _Shot | None = None
        size: tuple[int, int] | None = None
        for frame, hole in frames:
            size = size or frame.image.shape[:2]
            if frame.image.shape[:2] != size or hole.shape != size:
                raise InputError(
                    f"frame {frame.index} or its mask is not {size[1]}x{size[0]}",
                    "All frames and masks of a clip have one size",
                )
            if shot is not None and shot.number != frame.shot:
                yield from shot.finish()
                shot = None
            if shot is None:
                shot = _Shot(frame.shot, size, self.options)
            yield from shot.take(frame, hole)
        if shot is not None:
            yield from shot.finish()


class _Shot:
    """The state of one shot: the window, and which of its frames is to come out next."""

    def __init__(self, number: int, size: tuple[int, int], options: Options) -> None:
        self.number = number
        self.options = options
        self.window = Window(size, motion_side_px=options.motion_side_px, guard_px=options.guard_px)
        # image, hole and guard at source size; masks, pictures and four flows of the small size
        w, h = self.window.small_size
        frame_bytes = size[0] * size[1] * 5 + w * h * 28
        held_bytes = size[0] * size[1] * (6 * (steady.DELAY + 1) + 20)
        affordable = max(2, ((options.memory_mb << 20) - held_bytes) // frame_bytes - 1)
        total = options.lookahead_frames + options.reach_frames
        share = min(1.0, affordable / max(1, total))
        ahead = int(options.lookahead_frames * share)
        # a fill waits for those that it is averaged with
        delay = min(steady.DELAY, ahead // 2)
        self.steadier = steady.Steadier(delay, flow_side_px=options.motion_side_px)
        self.ahead = ahead - delay
        self.back = int(options.reach_frames * share)
        self.scene: Layer | None = None
        """What was behind the hole and behind other things in the frame that was filled last."""
        self.others: Layer | None = None
        """And the other things that move."""
        self.next = 0
        """Number in the window of the frame that is filled next."""

    def take(self, frame: Frame, hole: Mask) -> Iterator[Inpainted]:
        self.window.record(frame, np.asarray(hole, np.bool_))
        while self.next < len(self.window.records) and (
            not self.window.records[self.next].hole.any()
            or len(self.window.records) - 1 - self.next >= self.ahead
        ):
            yield from self.steadier.take(*self._pop())

    def finish(self) -> Iterator[Inpainted]:
        while self.next < len(self.window.records):
            yield from self.steadier.take(*self._pop())
        yield from self.steadier.finish()

    def _pop(self) -> tuple[Inpainted, Mask]:
        """Fill the next frame."""
        record = self.window.records[self.next]
        result = Inpainted(record.frame)
        if record.hole.any():
            result = self._fill(self.next)
        else:
            self.scene, self.others = self._layers(self.next)
        self.next += 1
        excess = self.next - self.back
        if excess > 0:
            self.window.forget(excess)
            self.next -= excess
        return result, record.hole

    def _fill(self, index: int) -> Inpainted:
        record = self.window.records[index]
        image = record.frame.image.copy()
        origin = np.zeros(record.hole.shape, np.uint8)
        confidence = np.zeros(record.hole.shape, np.uint8)
        scene, others = self._layers(index)
        for box in background.boxes(record.hole, self.options.margin_px):
            crop = box.slices
            hole = record.hole[crop]
            fill, trust = self._complete(index, box, scene, others)
            image[crop][hole] = levels(fill[hole])
            origin[crop][hole] = np.where(trust[hole] > 0.5, Origin.SEEN, Origin.INVENTED)
            confidence[crop][hole] = np.rint(255 * trust[hole]).astype(np.uint8)
        self.scene, self.others = scene, others
        old = record.frame
        done = Frame(image, old.index, old.pts, old.time_base, old.shot)
        return Inpainted(done, origin, confidence)

    def _layers(self, index: int) -> tuple[Layer, Layer]:
        """What record `index` shows outside its hole: the scene, and what moves before it."""
        record = self.window.records[index]
        h, w = self.window.size
        moving = cv2.resize(self.window.moving(index), (w, h), interpolation=cv2.INTER_LINEAR)
        rim = np.ones((5, 5), np.uint8)
        away = cv2.dilate((moving > 76).astype(np.uint8), rim) > 0
        theirs = np.asarray(away & ~record.hole)
        number, image = record.frame.index, record.frame.image
        share = theirs.astype(np.float32)
        scene = Layer(number, image.copy(), np.asarray(~record.hole & ~away), 1 - share)
        return scene, Layer(number, image.copy(), theirs, share)

    def _complete(self, index: int, box: Box, scene: Layer, others: Layer) -> tuple[Floats, Floats]:
        """Fill one box: the pixels (h, w, 3), and how far they are another frame's (h, w) 0..1.

        What was found is noted in the two layers.
        """
        crop = box.slices
        hole = self.window.records[index].hole[crop]
        alpha = np.zeros(box.shape, np.float32)
        found = background.gather_others(self.window, index, box)
        if found is not None:
            samples, share, voted = found
            earlier = self._carried(index, box, self.others, others=True)
            chosen = choose(samples, earlier.pixels, earlier.valid)
            # beside the hole it could not be told what moves
            rim = self.window.rim(index, box)
            told = np.asarray(np.where(hole, voted, (scene.known | others.known)[crop] & ~rim))
            share = diffuse(np.where(hole, share, others.share[crop]).astype(np.float32), told)
            # where no frame shows it, a thing goes on as it is around
            firm = np.where(hole, np.minimum(3 * chosen.trust, 1), 1).astype(np.float32)
            firm = diffuse(firm, np.asarray(~hole | samples.there.any(0)))
            share = np.minimum(share, firm)
            if earlier.valid.any():
                share = (1 - STEADY) * share + STEADY * earlier.share
            share = cv2.GaussianBlur(share.astype(np.float32), (0, 0), 1.0)
            alpha = np.where(hole, np.clip(4 * share - 1.5, 0, 1), 0).astype(np.float32)
            others.share[crop][rim] = share[rim]
            others.known[crop][rim] = share[rim] > 0.5
            scene.known[crop][rim] = share[rim] <= 0.5
        before = self._carried(index, box, self.scene, others=False)
        choice = choose(background.gather(self.window, index, box), before.pixels, before.valid)
        fill = refill(scene, box, hole, alpha < 0.98, choice, before)
        trust = choice.trust
        if alpha.max() > 0.02:
            others.share[crop] = np.where(hole, alpha, others.share[crop])
            theirs = refill(others, box, hole, alpha > 0.02, chosen, earlier)
            fill = fill + alpha[..., None] * (theirs - fill)
            trust = trust * (1 - alpha) + alpha * chosen.trust
        return np.asarray(fill, np.float32), np.where(hole, trust, 0).astype(np.float32)

    def _carried(self, index: int, box: Box, layer: Layer | None, *, others: bool) -> Carried:
        """A layer as the frame before knew it, moved onto a box along its motion."""
        at = None
        if index > 0 and layer and layer.index == self.window.records[index - 1].frame.index:
            at = self.window.onto_previous(index, box, others=others)
        return carry(layer, at, box.shape)
