"""What the frames around one tell of what is behind its hole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inpainterz.inpaint import background, samples
from inpainterz.inpaint.background import Box, Window
from inpainterz.inpaint.blend import Floats
from inpainterz.inpaint.pairs import Pair, Record
from inpainterz.inpaint.samples import Layers
from inpainterz.types import Frame, Mask


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


class Lookout:
    """A window of frames, and what it tells of each of them.

    Args:
        window: with the frames known so far.
        margin_px: how much of the surroundings of a hole is looked at, pixels.
    """

    def __init__(self, window: Window, margin_px: int) -> None:
        self.window = window
        self.margin_px = margin_px

    def take(self, record: Record, pair: Pair | None = None) -> None:
        """See `Window.take`."""
        self.window.take(record, pair)

    def forget(self, count: int) -> None:
        """Drop the oldest `count` frames."""
        self.window.forget(count)

    def look(self, index: int) -> Known:
        """What the window tells of the frame that is its number `index`."""
        window = self.window
        record = window.records[index]
        window.settle(index)
        follows = window.records[index - 1].frame.index if index > 0 else None
        moving = window.moving(index)
        if not record.hole.any():
            return Known(None, record.hole, follows, moving, [])
        seen = [_seen(window, index, box) for box in background.boxes(record.hole, self.margin_px)]
        return Known(record.frame, record.hole, follows, moving, seen)


def _seen(window: Window, index: int, box: Box) -> Seen:
    others: Others | None = None
    found = samples.gather_others(window, index, box)
    if found is not None:
        before = window.onto_previous(index, box, others=True)
        others = Others(*found, before, window.rim(index, box))
    return Seen(box, samples.gather(window, index, box), window.onto_previous(index, box), others)
