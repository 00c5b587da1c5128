"""What the frames around say of what one frame alone takes for a part of an object, or does not.

A spot that differs from the scene is followed by optical flow, a few frames back and ahead. What
is in the completed masks there belongs to the object: a shoe seen apart from it beside a post, a
leg that swings too fast to be told in one frame. What is seen outside of them goes its own way: a
passer-by who touched the object. Spots that cannot be followed go with those beside them, as the
edges of the picture divide them (marker-controlled watershed: Meyer and Beucher, Journal of Visual
Communication and Image Representation 1990).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.leftover.compared import Small, disc
from inpainterz.types import Flow, Mask

FOLLOWED = 4
"""Over so many frames either way spots are followed."""

SAME_COLOUR = 30.0
"""A spot whose colour changes by more grey levels on its way has been lost."""

BELONGS = 0.6
"""In masks in this share of the frames in which it is seen, a spot belongs to an object..."""

PARTS = 0.3
"""... in no more than this share, it does not..."""

LEAST_PARTED = 2
"""... if it was seen apart from the object in so many frames."""

SEEDED = 0.3
"""A piece is added where so much of it is known to belong; the rest is what was not followed."""

WITHIN = 0.5
"""So much of a part that is seen apart from the masks is near them."""

COVERED = 0.75
"""What does not differ from the scene belongs to an object too where in this share of all frames in
which it is seen it is in the masks..."""

LEAST_COVERED = 3
"""... and in at least so many."""

MATTERS = 0.05
"""Less beside a mask than this share of it is nothing that passes it."""

LEAST = 12
"""So many pixels at least are worth a look."""


Rest = TypeVar("Rest")


@dataclass(frozen=True, eq=False)
class Judged:
    """What one frame told by itself; masks are (h, w), at the size of the comparison."""

    small: Small
    known: Mask
    """Its masks, completed."""
    differs: Mask
    """What is not as in the other frames."""
    stays: Mask
    """What must stay."""
    near: Mask
    """Where parts may be that are seen apart from the masks."""
    reach: int
    """How far around the masks is looked, px."""
    doubted: bool
    """The frame could not tell what around the masks belongs to them."""

    @cached_property
    def loose(self) -> Mask:
        """What differs near the masks, but is not in them."""
        return _opened(self.differs & ~self.small.mask & self.near & ~self.stays) & ~self.known

    @cached_property
    def apart(self) -> int:
        """How many pixels of that growing will not cover."""
        return int((self.loose & ~disc(self.known, max(2, self.reach // 3))).sum())

    @property
    def passed(self) -> bool:
        """Whether so much is loose that something else may be there."""
        return self.apart >= max(LEAST, MATTERS * float(self.known.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """The motion between two frames that follow each other, where it matters."""

    x: int
    y: int
    flow: Flow
    trusted: npt.NDArray[np.float32]
    """(h, w) 1 where flow and flow back agree."""


class Ways:
    """Flow between frames, made when it is asked for and kept while their frames are near."""

    def __init__(self) -> None:
        self._ways: dict[tuple[int, int], _Way | None] = {}

    def between(self, a: Judged, b: Judged) -> _Way | None:
        """From a to b; None: there is nothing to follow."""
        key = (a.small.index, b.small.index)
        if key not in self._ways:
            self._make(a, b)
        return self._ways[key]

    def forget(self, before: int) -> None:
        """Drop what concerns frames before an index."""
        self._ways = {k: way for k, way in self._ways.items() if min(k) >= before}

    def _make(self, a: Judged, b: Judged) -> None:
        keys = (a.small.index, b.small.index), (b.small.index, a.small.index)
        rows, columns = np.nonzero(a.known | b.known)
        if not len(rows):
            self._ways.update(dict.fromkeys(keys))
            return
        pad = 4 * max(a.reach, b.reach)
        y, x = max(0, int(rows.min()) - pad), max(0, int(columns.min()) - pad)
        cut = np.s_[y : int(rows.max()) + 1 + pad, x : int(columns.max()) + 1 + pad]
        one, two = a.small.grey[cut], b.small.grey[cut]
        ahead, back = motion.dense_flow(one, two), motion.dense_flow(two, one)
        for key, flow, other in zip(keys, (ahead, back), (back, ahead), strict=True):
            trusted = motion.agrees(flow, other).astype(np.float32)
            self._ways[key] = _Way(x, y, flow, trusted)


def agreed(items: Iterable[tuple[Judged | None, Rest]]) -> Iterator[tuple[Judged | None, Rest]]:
    """Take out of masks what parts from the objects, then add what belongs to them.

    Args:
        items: frames in order of time, each with something that is handed through; None: a frame
            about which nothing is known.

    Yields:
        The same with other `known`, twice `FOLLOWED` frames late.
    """
    ways = Ways()
    without = _windowed(items, lambda here, near: _without_passers(here, near, ways))
    return _windowed(without, lambda here, near: _with_parts(here, near, ways))


def _windowed(
    items: Iterable[tuple[Judged | None, Rest]],
    change: Callable[[Judged, Sequence[Judged]], Judged],
) -> Iterator[tuple[Judged | None, Rest]]:
    """Each frame changed by what those within `FOLLOWED` of it in its shot show."""
    window: deque[Judged | None] = deque()
    waiting: deque[tuple[Judged | None, Rest]] = deque()
    for item in items:
        window.append(item[0])
        waiting.append(item)
        if len(waiting) > FOLLOWED:
            yield _changed(*waiting.popleft(), window, change)
        while len(window) > 2 * FOLLOWED + 1:
            window.popleft()
    while waiting:
        yield _changed(*waiting.popleft(), window, change)


def _changed(
    here: Judged | None,
    rest: Rest,
    window: Iterable[Judged | None],
    change: Callable[[Judged, Sequence[Judged]], Judged],
) -> tuple[Judged | None, Rest]:
    if here is None:
        return None, rest
    index, shot = here.small.index, here.small.shot
    same = [o for o in window if o is not None and o.small.shot == shot]
    return change(here, [o for o in same if abs(o.small.index - index) <= FOLLOWED]), rest


def _without_passers(here: Judged, near: Sequence[Judged], ways: Ways) -> Judged:
    added = here.known & ~here.small.mask
    if not added.any() or not any(o.passed for o in near):
        return here
    passers = _opened(_divided(here, near, ways).parts & added)
    return replace(here, known=here.known & ~passers) if passers.any() else here


def _with_parts(here: Judged, near: Sequence[Judged], ways: Ways) -> Judged:
    ways.forget(here.small.index - FOLLOWED)
    # where it was a moment ago a part may be left behind something that hides the rest
    there = here.near.copy()
    for other in near:
        if abs(other.small.index - here.small.index) == 1:
            there |= other.known
    here = replace(here, near=there)
    if here.apart < LEAST:
        return here
    found = _divided(here, near, ways)
    # where a frame could tell nothing, what touches a known part is no piece of its own
    asked = found.belongs if here.doubted else found.belongs & here.loose
    total, pieces = cv2.connectedComponents(_opened(asked).astype(np.uint8))
    size = np.bincount(pieces.ravel(), minlength=total)
    chosen = np.bincount(pieces[found.followed], minlength=total) >= SEEDED * size
    chosen[0] = False
    elsewhere = _elsewhere(here, found)
    known = here.known | (chosen[pieces] & ~elsewhere)
    beside = disc(known, max(2, here.reach // 3))
    return replace(here, known=known | (found.covered & beside & ~elsewhere))


def _elsewhere(here: Judged, found: _Divided) -> Mask:
    """(h, w) what is a thing of its own, away from the masks, and more not theirs than theirs."""
    free = _opened(here.differs & ~here.small.mask & ~here.stays) & ~here.known
    total, things = cv2.connectedComponents(free.astype(np.uint8))

    def within(part: Mask) -> npt.NDArray[np.int64]:
        return np.bincount(things[part], minlength=total)

    away = within(disc(here.known, 2)) == 0
    others = (within(found.parts) >= within(found.followed)) | (
        within(here.near) < WITHIN * within(free)
    )
    return np.asarray((away & others)[things])


@dataclass(frozen=True, slots=True, eq=False)
class _Divided:
    """What lies around the objects, masks (h, w)."""

    belongs: Mask
    """Of what differs: what belongs to them."""
    followed: Mask
    """Of that, what is known to by following it."""
    parts: Mask
    """Of what differs: what does not belong to them."""
    covered: Mask
    """What does not seem to differ but belongs to them."""


def _divided(here: Judged, near: Sequence[Judged], ways: Ways) -> _Divided:
    asked = (here.known & ~here.small.mask) | here.loose
    belongs, followed, parts, covered = (np.zeros_like(asked) for _ in range(4))
    found = _Divided(belongs, followed, parts, covered)
    rows, columns = np.nonzero(asked)
    if not len(rows):
        return found
    rim = here.reach  # some of the masks and of the scene around, which bound what spreads
    cut = (
        slice(max(0, int(rows.min()) - rim), int(rows.max()) + 1 + rim),
        slice(max(0, int(columns.min()) - rim), int(columns.max()) + 1 + rim),
    )
    inside, outside, watched = _seen(here, near, ways, cut)
    asked, mask = asked[cut], here.small.mask[cut]
    seen = inside + outside
    own = asked & (inside > 0) & (inside >= BELONGS * seen) & (outside < LEAST_PARTED)
    others = _opened(asked & (outside >= LEAST_PARTED) & (inside <= PARTS * seen))
    markers = np.where(asked, 0, 1).astype(np.int32)
    markers[mask | own] = 2
    markers[others] = 3
    divided = cv2.watershed(np.ascontiguousarray(here.small.image[cut]), markers)
    # what lies on the line between two goes with what may have to be left alone
    others = asked & ((divided == 3) | ((divided < 0) & disc(divided == 3, 1)))
    belongs[cut], followed[cut], parts[cut] = asked & ~others & (divided != 1), own, others
    often = (inside >= LEAST_COVERED) & (inside >= COVERED * watched)
    covered[cut] = _opened(often & ~here.stays[cut] & ~parts[cut])
    return found


def _seen(
    here: Judged, near: Sequence[Judged], ways: Ways, cut: tuple[slice, slice]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """In how many frames around each spot of a part of the picture is seen in the masks there, in
    how many outside of them as something that is not the scene, and in how many at all.
    """
    colour = _soft(here.small)[cut]
    start = motion.grid(*colour.shape[:2]) + np.asarray([cut[1].start, cut[0].start], np.float32)
    inside = np.zeros(colour.shape[:2], np.float32)
    outside, watched = np.zeros_like(inside), np.zeros_like(inside)
    index = here.small.index
    for side in (-1, 1):
        at, seen, last = start, np.ones(inside.shape, np.bool_), here
        for other in sorted(near, key=lambda o: side * o.small.index):
            if side * (other.small.index - index) <= 0:
                continue
            way = (
                ways.between(last, other)
                if abs(other.small.index - last.small.index) == 1
                else None
            )
            if way is None:
                break
            local = at - np.asarray([way.x, way.y], np.float32)
            seen = seen & (_at(way.trusted, local) > 0.5)
            at = at + _at(way.flow, local)
            seen &= cv2.absdiff(_at(_soft(other.small), at), colour).max(-1) < SAME_COLOUR
            if not seen.any():
                break
            there = _at(other.known.astype(np.float32), at) > 0.5
            differs = _at(disc(other.differs, 1).astype(np.float32), at) > 0.5
            if other.doubted:  # beside its masks it says nothing
                differs &= _at(disc(other.known, other.reach).astype(np.float32), at) < 0.5
            inside += seen & there
            watched += seen
            outside += seen & ~there & differs
            last = other
    return inside, outside, watched


def _soft(small: Small) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(small.image, (3, 3), 0), np.float32)


def _at(image: npt.NDArray[np.float32], places: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """An image at places (x, y); 0 outside of it."""
    return np.asarray(
        cv2.remap(image, places[..., 0], places[..., 1], cv2.INTER_LINEAR), np.float32
    )


def _opened(mask: Mask) -> Mask:
    square = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, square) > 0)
