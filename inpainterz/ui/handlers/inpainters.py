"""Inpainters around an engine: one tells what it takes in, one keeps what it fills, one takes that
over."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from inpainterz.engines import Inpainter
from inpainterz.jobs.pieces import PieceReader, PieceWriter, patch_of
from inpainterz.types import Frame, Inpainted, Mask, Origin

MOST_INVENTED = 0.01
"""A frame of a preview is taken over where at most this share of its hole was invented."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An inpainter that tells what it takes in.

    An inpainter may read far ahead before the first frame comes out: without this, neither the
    bar nor Cancel would move until then.
    """

    inner: Inpainter
    taken: Callable[[Frame], None]
    all_taken: Callable[[], None]

    @property
    def lookahead(self) -> int:
        return self.inner.lookahead

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        def told() -> Iterator[tuple[Frame, Mask]]:
            for item in frames:
                self.taken(item[0])
                yield item
            self.all_taken()

        return self.inner.inpaint(told())


@dataclass(frozen=True, slots=True)
class Keeping:
    """An inpainter that keeps what it fills; frames before `start` are not its to fill."""

    inner: Inpainter
    start: int
    pieces: PieceWriter

    @property
    def lookahead(self) -> int:
        return self.inner.lookahead

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        stream = iter(frames)
        for frame, hole in stream:
            if frame.index >= self.start:
                stream = itertools.chain([(frame, hole)], stream)
                break
            yield Inpainted(frame)
        for item in self.inner.inpaint(stream):
            patch = patch_of(item)
            if patch is not None:
                self.pieces.add(item.frame.index, patch)
            yield item


@dataclass(frozen=True, slots=True)
class Reusing:
    """An inpainter that takes over what previews filled, where it would have the same to fill.

    A frame counts where its hole is the same to the pixel and next to nothing of it was invented:
    what was, is filled again, with the whole clip to borrow from. The engine is given such a frame
    as it was filled, with nothing but what was invented for a hole, so that it does not take that
    for something seen.
    """

    inner: Inpainter
    previews: tuple[PieceReader, ...]
    taken: Callable[[], None]
    """Told of each frame that was taken over."""

    @property
    def lookahead(self) -> int:
        return self.inner.lookahead

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        ready: deque[Inpainted | None] = deque()  # one for each frame inside the engine

        def told() -> Iterator[tuple[Frame, Mask]]:
            for frame, hole in frames:
                known = self._known(frame, hole) if hole.any() else None
                ready.append(known)
                if known is None or known.origin is None:
                    yield frame, hole
                else:
                    self.taken()
                    yield known.frame, np.asarray(known.origin == Origin.INVENTED)

        for item in self.inner.inpaint(told()):
            known = ready.popleft()
            yield item if known is None else known

    def _known(self, frame: Frame, hole: Mask) -> Inpainted | None:
        for preview in reversed(self.previews):
            patch = preview.get(frame.index)
            if patch is None:
                continue
            origin = np.zeros(hole.shape, np.uint8)
            h, w = patch.origin.shape
            origin[patch.top : patch.top + h, patch.left : patch.left + w] = patch.origin
            invented = int((origin == Origin.INVENTED).sum())
            if invented > MOST_INVENTED * hole.sum() or ((origin > 0) != hole).any():
                continue
            image = frame.image.copy()
            patch.paste(image)
            return Inpainted(replace(frame, image=image), origin)
        return None
