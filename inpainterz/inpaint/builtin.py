"""The built-in inpainter: what other frames show behind the hole, then patches.

For each frame, candidates for its hole are fetched from other frames of the shot along two
motions (see `inpaint.background`), brought to its exposure, and compared with one another: the
background is what most candidates agree on and what continues the surroundings. What no frame
shows is completed once and then carried along the background's motion, so that it stays still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from inpainterz.errors import InputError, OptionError
from inpainterz.inpaint import background
from inpainterz.inpaint.background import Box, Window
from inpainterz.inpaint.blend import Floats, diffuse, level_gap
from inpainterz.inpaint.choose import Choice, choose
from inpainterz.inpaint.patches import complete
from inpainterz.types import Frame, Inpainted, Mask, Origin


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
    memory_mb: int = 600
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
        # image, hole and guard at source size, and two half-precision flows of the small size
        w, h = self.window.small_size
        frame_bytes = size[0] * size[1] * 5 + w * h * 10
        affordable = max(2, (options.memory_mb << 20) // frame_bytes - 1)
        total = options.lookahead_frames + options.reach_frames
        share = min(1.0, affordable / max(1, total))
        self.ahead = int(options.lookahead_frames * share)
        self.back = int(options.reach_frames * share)
        self.last: Frame | None = None
        """The frame that came out last, where its hole was filled."""
        self.next = 0
        """Number in the window of the frame that comes out next."""

    def take(self, frame: Frame, hole: Mask) -> Iterator[Inpainted]:
        self.window.record(frame, np.asarray(hole, np.bool_))
        while self.next < len(self.window.records) and (
            not self.window.records[self.next].hole.any()
            or len(self.window.records) - 1 - self.next >= self.ahead
        ):
            yield self._pop()

    def finish(self) -> Iterator[Inpainted]:
        while self.next < len(self.window.records):
            yield self._pop()

    def _pop(self) -> Inpainted:
        record = self.window.records[self.next]
        result = Inpainted(record.frame)
        if record.hole.any():
            result = self._fill(self.next)
        else:
            self.last = record.frame
        self.next += 1
        excess = self.next - self.back
        if excess > 0:
            self.window.forget(excess)
            self.next -= excess
        return result

    def _fill(self, index: int) -> Inpainted:
        record = self.window.records[index]
        image = record.frame.image.copy()
        origin = np.zeros(record.hole.shape, np.uint8)
        confidence = np.zeros(record.hole.shape, np.uint8)
        for box in background.boxes(record.hole, self.options.margin_px):
            crop = box.slices
            hole = record.hole[crop]
            fill, trust = self._complete(index, box)
            image[crop][hole] = np.clip(np.rint(fill[hole]), 0, 255).astype(np.uint8)
            origin[crop][hole] = np.where(trust[hole] > 0.5, Origin.SEEN, Origin.INVENTED)
            confidence[crop][hole] = np.rint(255 * trust[hole]).astype(np.uint8)
        old = record.frame
        self.last = Frame(image, old.index, old.pts, old.time_base, old.shot)
        return Inpainted(self.last, origin, confidence)

    def _complete(self, index: int, box: Box) -> tuple[Floats, Floats]:
        """Fill one box: the pixels (h, w, 3), and how far they are another frame's (h, w) 0..1."""
        record = self.window.records[index]
        hole = record.hole[box.slices]
        target = record.frame.image[box.slices].astype(np.float32)
        carried, valid = self._carried(index, box)
        choice = choose(background.gather(self.window, index, box), carried)
        trust = choice.trust
        invented = self._invent(target, hole, choice, carried, valid)
        fill = choice.pixels * trust[..., None] + invented * (1 - trust[..., None])
        if carried is not None:
            # the noise of the choice, not the picture's motion: only small steps are damped
            step = cv2.blur(level_gap(carried, np.asarray(fill, np.float32)), (3, 3))
            damp = np.where(valid, 0.5 * np.exp(-((step / 10) ** 2)), 0)
            fill = fill + damp[..., None] * (carried - fill)
        return np.asarray(fill, np.float32), np.where(hole, trust, 0).astype(np.float32)

    def _carried(self, index: int, box: Box) -> tuple[Floats | None, Mask]:
        """The last filled frame moved onto a box of this one, and where that is inside it."""
        if (
            self.last is None
            or index == 0
            or (self.last.index != self.window.records[index - 1].frame.index)
        ):
            return None, np.zeros(box.shape, np.bool_)
        at = self.window.onto_previous(index, box)
        h, w = self.last.image.shape[:2]
        x, y = at[..., 0], at[..., 1]
        inside = (x >= 0) & (y >= 0) & (x <= w - 1) & (y <= h - 1)
        return background.look(self.last.image, at, cv2.INTER_CUBIC), np.asarray(inside)

    def _invent(
        self, target: Floats, hole: Mask, choice: Choice, carried: Floats | None, valid: Mask
    ) -> Floats:
        """What stands where no sample can be believed: what stood there before, else new."""
        seen = hole & (choice.trust > 0.5)
        known = ~hole | seen
        pixels = np.where(seen[..., None], choice.pixels, target)
        if carried is not None:
            keep = valid & ~known
            if keep.any():
                # its texture stays, its level follows what is around it now
                step = np.clip(pixels - carried, -40, 40).astype(np.float32)
                step = diffuse(step, np.asarray(known & valid))
                pixels = np.where(keep[..., None], carried + step, pixels)
            known |= keep
        if known.all():
            return np.asarray(pixels, np.float32)
        if not known.any():
            return np.full_like(target, 128)
        return complete(np.asarray(pixels, np.float32), ~known, np.asarray(known))
