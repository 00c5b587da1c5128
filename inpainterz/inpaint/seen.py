"""What the frames around one tell of what is behind its hole."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inpainterz.inpaint import background, samples
from inpainterz.inpaint.apart import Apart
from inpainterz.inpaint.background import Box, Window
from inpainterz.inpaint.blend import Floats
from inpainterz.inpaint.pairs import Neighbours, Record
from inpainterz.inpaint.samples import Layers
from inpainterz.types import Frame, Mask

log = logging.getLogger(__name__)

WORTH_PX = 1_500_000
"""Pixels of frames with a hole from which it pays to start another process, as that takes half a
second."""

IDLE_S = 0.01
"""Seconds of waiting for the other process from which some of its work is done here."""


@dataclass(frozen=True, slots=True, eq=False)
class Others:
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
class Seen:
    """What other frames show at a box of the frame to be filled."""

    box: Box
    samples: Layers
    before: Floats | None
    """(h, w, 2) where each pixel was in the frame before, along the background."""
    others: Others | None


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """All that a window tells of a frame."""

    frame: Frame | None
    """The frame; None: it has no hole."""
    hole: Mask
    """(H, W)."""
    follows: int | None
    """Number of the frame before, if it is in the window."""
    moving: npt.NDArray[np.uint8]
    """(h, w) 255 where it shows what moves on its own, at the size motion is estimated at."""
    boxes: list[Seen]
    """The parts that hold its hole."""


class Lookout(Window):
    """A window that tells what it shows behind the holes of its frames.

    Args:
        size, motion_side_px: see `Window`.
        margin_px: how much of the surroundings of a hole is looked at, pixels.
    """

    def __init__(self, size: tuple[int, int], motion_side_px: int, margin_px: int) -> None:
        super().__init__(size, motion_side_px)
        self.margin_px = margin_px

    def look(self, index: int) -> Known:
        """What the window tells of the frame that is its number `index`."""
        record = self.records[index]
        self.settle(index)
        follows = self.records[index - 1].frame.index if index > 0 else None
        moving = self.moving(index)
        if not record.hole.any():
            return Known(None, record.hole, follows, moving, [])
        boxes = background.boxes(record.hole, self.margin_px)
        seen = [_seen(self, index, box) for box in boxes]
        return Known(record.frame, record.hole, follows, moving, seen)


def _seen(window: Window, index: int, box: Box) -> Seen:
    others: Others | None = None
    found = samples.gather_others(window, index, box)
    if found is not None:
        before = window.onto_previous(index, box, others=True)
        others = Others(*found, before, window.rim(index, box))
    return Seen(box, samples.gather(window, index, box), window.onto_previous(index, box), others)


class View:
    """What the window of a shot tells, here or, once there is enough to look at, in a process of
    its own; either gives the same.

    Args:
        size: (height, width) of the frames.
        apart: where the window may be.
        motion_side_px: motion is estimated with the longer side at most this.
        guard_px: nothing is taken this close to another frame's hole.
        margin_px: how much of the surroundings of a hole is looked at, pixels.
    """

    def __init__(
        self,
        size: tuple[int, int],
        apart: Apart,
        *,
        motion_side_px: int,
        guard_px: int,
        margin_px: int,
    ) -> None:
        self.apart = apart
        self.guard_px = guard_px
        self.neighbours = Neighbours(size, motion_side_px)
        self.last: Record | None = None
        self.here: Lookout | None = Lookout(size, motion_side_px, margin_px)
        """None: it is in the other process."""
        self.may_move = (os.cpu_count() or 1) > 1
        self.work_px = 0
        self.idle = True
        """Whether this process waits for the other one rather than the other way round."""
        self.asked = False
        self.answer: Known | None = None

    def take(self, frame: Frame, hole: Mask) -> None:
        """Take a frame in at the end."""
        last, new = self.last, self.neighbours.record(frame, hole, self.guard_px)
        self.last = new
        if self.here is not None:
            self.here.take(new)
            self.work_px += hole.size if hole.any() else 0
            if self.may_move and self.work_px >= WORTH_PX:
                self._move()
            return
        pair = self.neighbours.pair(last, new) if self.idle and last is not None else None
        self._settle()
        self.apart.tell("take", new, pair)

    def forget(self, count: int) -> None:
        """Drop the oldest `count` frames."""
        self._settle()
        if self.here is None:
            self.apart.tell("forget", count)
        else:
            self.here.forget(count)

    def look(self, index: int) -> None:
        """Have the frame looked at that is number `index`; `known` gives what comes of it."""
        if self.here is None:
            self.apart.ask("look", index)
            self.asked = True
        else:
            self.answer = self.here.look(index)

    def known(self) -> Known | None:
        """What is known of the frame that was looked at; None after that."""
        self._settle()
        known, self.answer = self.answer, None
        return known

    def _settle(self) -> None:
        if self.asked:
            self.asked = False
            self.answer = self.apart.answer()
            self.idle = self.apart.waited > IDLE_S

    def _move(self) -> None:
        self.may_move = False
        try:
            self.apart.put(self.here)
        except OSError as error:
            log.warning("no process to help with the fill, so it takes longer: %s", error)
        else:
            self.here = None
