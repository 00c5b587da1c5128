"""The frames that may be borrowed from, and the motion of the background between them.

Two motions lead from a frame to another. The *camera* is a chain of homographies between
neighbours, fitted outside the holes; the *flow* is a chain of dense flows whose unknown part,
under the holes, is spread from its surroundings (the idea of Huang et al., Temporally Coherent
Completion of Dynamic Video, SIGGRAPH Asia 2016, and of Gao et al., Flow-edge Guided Video
Completion, ECCV 2020). Both are chained as positions, so a sample is interpolated once however
far it was fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint import movers, passing
from inpainterz.inpaint.blend import Floats
from inpainterz.inpaint.pairs import (
    FINE,
    PATCH,
    STRAY,
    Neighbours,
    Pair,
    Record,
    Steps,
    furthest,
    residual_flow,
    steps,
    still,
)
from inpainterz.motion import Homography
from inpainterz.types import Flow, Image, Mask

LEAP = 4
"""Frames between which the camera's motion is measured anew, so that a chain drifts less."""

UNSEEN = 5
"""Frames for which what moves on its own may be hidden, and is believed to go on as it went."""

KNOWN = 150
"""Small pixels of it that must be seen to be sure of how it went."""

CLEAR = 6
"""So far from a hole, in small pixels, the flow does not go with what the hole is filled with."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the frame, half open."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def shape(self) -> tuple[int, int]:
        return self.y1 - self.y0, self.x1 - self.x0

    def grid(self) -> Floats:
        """(h, w, 2) absolute (x, y) of each pixel."""
        return motion.grid(*self.shape, self.x0, self.y0)


def boxes(hole: Mask, margin: int) -> list[Box]:
    """Rectangles that hold the hole with a margin around; holes far apart get their own."""
    h, w = hole.shape
    _, labels, stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    del labels
    found = [
        Box(
            max(0, int(x) - margin),
            max(0, int(y) - margin),
            min(w, int(x + bw) + margin),
            min(h, int(y + bh) + margin),
        )
        for x, y, bw, bh, _ in stats[1:]
    ]
    merged: list[Box] = []
    while found:
        box = found.pop()
        for other in found:
            if box.x0 < other.x1 and other.x0 < box.x1 and box.y0 < other.y1 and other.y0 < box.y1:
                found.remove(other)
                found.append(
                    Box(
                        min(box.x0, other.x0),
                        min(box.y0, other.y0),
                        max(box.x1, other.x1),
                        max(box.y1, other.y1),
                    )
                )
                break
        else:
            merged.append(box)
    return sorted(merged, key=lambda b: (b.y0, b.x0))


class Window:
    """The frames of one shot that may be borrowed from, oldest first, and the motion between them.

    Args:
        size: (height, width) of the frames.
        motion_side_px: motion is estimated with the longer side at most this.
    """

    def __init__(self, size: tuple[int, int], motion_side_px: int) -> None:
        self.size = size
        self.neighbours = Neighbours(size, motion_side_px)
        self.small_size, self.scale = self.neighbours.small_size, self.neighbours.scale
        self.records: list[Record] = []

    def take(self, record: Record, pair: Pair | None = None) -> None:
        """Take a frame in at the end, and work out what can be told by now of motion.

        Args:
            record: of the frame.
            pair: its motion from the frame before, if that is known already.
        """
        self.records.append(record)
        count = len(self.records)
        if count > 1:
            self._join(pair)
        if count > LEAP:
            self.leap(count - 1)
        if count > max(passing.LAGS):
            self.settle(count - 1 - max(passing.LAGS))

    def _join(self, pair: Pair | None) -> None:
        """Note the motion between the last two records, and what moves on its own in them."""
        record = self.records[-1]
        pair = pair or self.neighbours.pair(self.records[-2], record)
        a, b, there, back = self.records[-2], record, pair.there, pair.back
        b.link = pair.link
        a.forward, a.stray = there.extra, there.stray
        b.backward, b.stray = back.extra, back.stray
        total = there.evidence
        if a.evidence is not None:
            total = np.clip(a.evidence.astype(np.float32) + total, -3, 3)
        else:
            a.evidence = total.astype(np.float16)
        old = movers.remembered(back.evidence, total, back.flow, back.reliable)
        b.evidence = old.astype(np.float16)
        moving = movers.moving(total, a.small, a.blocked)
        a.moving = moving.astype(np.uint8) * 255
        moving_back = movers.moving(b.evidence.astype(np.float32), b.small, b.blocked)
        b.moving = moving_back.astype(np.uint8) * 255
        ahead, behind = _motion_of_others(a, b, pair)
        a.others_forward = None if ahead is None else steps(ahead)
        b.others_backward = None if behind is None else steps(behind)
        b.course, b.unseen = a.course, a.unseen + 1
        if a.others_forward is None and b.others_backward is None:
            b.hidden = b.course is not None and b.unseen <= UNSEEN
            if b.course is not None and b.hidden:
                a.others_forward, b.others_backward = b.course
        elif a.others_forward is not None and b.others_backward is not None:
            enough = np.count_nonzero((a.moving > 0) & a.near) >= KNOWN
            b.course = (a.others_forward, b.others_backward) if enough else a.course
            b.unseen = 0 if enough else b.unseen
        a.told = a.told if a.told is not None else _told(a.evidence)
        b.told = _told(b.evidence)

    def forget(self, count: int) -> None:
        """Drop the oldest `count` records."""
        del self.records[:count]

    def link(self, index: int) -> Homography:
        """The homography from record `index` to the one before it, at source size."""
        link = self.records[index].link
        assert link is not None
        return link

    def leap(self, index: int) -> Homography:
        """The homography from record `index` to the one `LEAP` before it, at source size.

        Started from the chain of neighbours, measured outside holes and what moves on its own.
        """
        record = self.records[index]
        if record.leap is None:
            chain = np.eye(3)
            for at in range(index, index - LEAP, -1):
                chain = self.link(at) @ chain
            guess, measured = self._small_matrix(chain), chain
            if not still(guess, self.small_size):
                before = self.records[index - LEAP]
                found, trust = motion.global_motion(
                    record.small,
                    before.small,
                    ignore_a=np.asarray(record.blocked | (self.moving(index) > 0)),
                    ignore_b=np.asarray(before.blocked | (self.moving(index - LEAP) > 0)),
                    guess=guess,
                    patch_px=PATCH,
                )
                w, h = self.small_size
                change = np.asarray(np.linalg.inv(guess) @ found, np.float64)
                if trust > 0.5 and furthest(change, self.small_size) < 0.05 * max(w, h):
                    up = np.diag([*self.scale, 1.0])
                    measured = up @ found @ np.linalg.inv(up)
            record.leap = np.asarray(measured, np.float64)
        return record.leap

    def neighbour(self, index: int, step: int) -> Homography:
        """The homography from record `index` to the next one in the direction `step`."""
        if step < 0:
            return self.link(index)
        return np.asarray(np.linalg.inv(self.link(index + 1)), np.float64)

    def camera(self, start: int, step: int) -> Iterator[tuple[int, Homography]]:
        """The homographies from record `start` to each further one in the direction `step`."""
        base = total = np.eye(3)
        at = start
        while 0 <= at + step < len(self.records):
            total = self.neighbour(at, step) @ total
            at += step
            if abs(at - start) % LEAP == 0:
                far = self.leap(at + LEAP) if step < 0 else np.linalg.inv(self.leap(at))
                total = base = far @ base
            total = total / total[2, 2]
            yield at, total

    def stray(self, index: int) -> npt.NDArray[np.uint8]:
        """(h, w) how far pixels of record `index` move against the camera; `STRAY` = may be."""
        stray = self.records[index].stray
        assert stray is not None
        return stray

    def onto_previous(self, index: int, box: Box, *, others: bool = False) -> Floats | None:
        """Positions (h, w, 2) in the record before of the box's pixels, along the background.

        With `others`, along what moves on its own; None if nothing of that kind is seen.
        """
        for _, at in self.follow(index, -1, box, 1, others=others):
            return at
        return None

    def shrunk(self, at: Floats) -> Floats:
        """Positions (h, w, 2) at the size that motion is estimated at."""
        return at if (self.scale == 1).all() else motion.scaled(at, *(1 / self.scale))

    def _small_matrix(self, matrix: Homography) -> Homography:
        up = np.diag([*self.scale, 1.0])
        return np.asarray(np.linalg.inv(up) @ matrix @ up)

    def moving(self, index: int) -> npt.NDArray[np.uint8]:
        """(h, w) 255 where record `index` shows what moves on its own, as far as is known."""
        found = self.records[index].moving
        return np.zeros_like(self.records[index].small) if found is None else found

    def settle(self, index: int) -> None:
        """Tell what moves in record `index` from all that the window shows by now."""
        record = self.records[index]
        if record.settled or record.moving is None:
            return
        record.settled = True
        w, h = self.small_size
        size = ((w + 1) // 2, (h + 1) // 2)
        found = passing.passing(*_halved(record, size), self._aligned(index, size))
        if not found.any():
            return
        found = cv2.resize(found.astype(np.uint8), self.small_size) > 0
        moves = (record.moving > 0) | (self.stray(index) >= STRAY)
        new = passing.whole(np.asarray(found), np.asarray(moves)).astype(np.uint8) * 255
        record.moving = np.maximum(record.moving, new)
        assert record.told is not None
        record.told = np.maximum(record.told, new)

    def _aligned(self, index: int, size: tuple[int, int]) -> Iterator[tuple[Image, Image]]:
        """The pictures (h, w, 3) of records around, brought onto `index`, and what they show."""
        shrink = np.diag([size[0] / self.size[1], size[1] / self.size[0], 1.0])
        ways: dict[int, Homography] = {}
        for step in (-1, 1):
            for j, matrix in self.camera(index, step):
                if abs(j - index) > max(passing.LAGS):
                    break
                ways[j] = shrink @ matrix @ np.linalg.inv(shrink)
        linear, nearest = (
            kind | cv2.WARP_INVERSE_MAP for kind in (cv2.INTER_LINEAR, cv2.INTER_NEAREST)
        )
        for lag in passing.LAGS:
            if index + lag not in ways:
                continue
            matrix = ways[index + lag]
            picture, free = _halved(self.records[index + lag], size)
            picture = np.asarray(
                cv2.warpPerspective(
                    picture, matrix, size, flags=linear, borderMode=cv2.BORDER_REPLICATE
                )
            )
            yield picture, np.asarray(cv2.warpPerspective(free, matrix, size, flags=nearest))

    def rim(self, index: int, box: Box) -> Mask:
        """(h, w) the pixels of a box beside the hole, where no motion was measured."""
        record = self.records[index]
        size = (self.size[1], self.size[0])
        shut = cv2.resize(record.blocked.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return np.asarray((shut[box.slices] > 0) & ~record.hole[box.slices])

    def _flow(self, index: int, step: int, others: bool) -> Steps | None:
        """Motion from record `index` to its neighbour, less the camera's; with `others` that of
        what moves on its own, None if none is seen.
        """
        record = self.records[index]
        if others:
            return record.others_forward if step > 0 else record.others_backward
        extra = record.forward if step > 0 else record.backward
        assert extra is not None
        return extra

    def follow(
        self, start: int, step: int, box: Box, spacing: int, *, others: bool = False
    ) -> Iterator[tuple[int, Floats]]:
        """Positions in each further record of a grid of the box's pixels, along the flow.

        Yields:
            The record's number and (h, w, 2) float32 positions, source pixels; the grid takes
            every `spacing`-th pixel.
        """
        full = box.grid()[::spacing, ::spacing]
        at = np.ascontiguousarray(full)
        index = start
        scale = self.scale / FINE
        while 0 <= index + step < len(self.records):
            link = self.neighbour(index, step)
            extra = self._flow(index, step, others)
            if extra is None:
                return
            moved = motion.scaled(look(extra, self.shrunk(at)), *scale)
            at = np.asarray(project(link, at) + moved, np.float32)
            index += step
            yield index, at


def _halved(record: Record, size: tuple[int, int]) -> tuple[Image, npt.NDArray[np.uint8]]:
    """A record's picture (h, w, 3) at a smaller size, and 1 where it shows no hole."""
    picture = cv2.resize(record.colours, size, interpolation=cv2.INTER_AREA)
    blocked = cv2.resize(record.blocked.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(picture, np.uint8), np.asarray(1 - blocked, np.uint8)


def _motion_of_others(a: Record, b: Record, pair: Pair) -> tuple[Flow | None, Flow | None]:
    """Motion of what moves on its own, there and back, less the camera's, small pixels.

    Beside a hole the flow goes with what the hole was filled with, and that was the scene. So the
    affine motion of such things is taken from further away, and the flow measured again along it.
    None where too little is seen.
    """
    near = a.near | b.near
    own = []
    for record, way in ((a, pair.there), (b, pair.back)):
        assert record.moving is not None
        seen = np.asarray((record.moving > 0) & near & way.reliable)
        away = cv2.distanceTransform((~record.blocked).astype(np.uint8), cv2.DIST_L2, 3) > CLEAR
        clear = np.asarray(seen & away)
        enough = clear.sum() >= 4 * movers.ENOUGH
        own.append(movers.rigid(way.flow - way.camera, clear if enough else seen))
    first, second = own
    if first is None and second is None:
        return None, None
    first = -second if first is None and second is not None else first
    second = -first if second is None and first is not None else second
    assert first is not None and second is not None
    cameras = pair.there.camera, pair.back.camera
    there, back = cameras[0] + first, cameras[1] + second
    onto = there + residual_flow(a, b, there, fast=True)
    home = back + residual_flow(b, a, back, fast=True)
    agree = motion.agrees(onto, home), motion.agrees(home, onto)
    done: list[Flow | None] = []
    for record, flow, base, camera, good in zip(
        (a, b), (onto, home), (first, second), cameras, agree, strict=True
    ):
        assert record.moving is not None
        known = np.asarray((record.moving > 0) & near & ~record.blocked & good)
        enough = known.sum() >= movers.ENOUGH
        done.append(movers.carry_on(flow - camera, base, known) if enough else None)
    return done[0], done[1]


def _told(evidence: npt.NDArray[np.float16]) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(255 * movers.told(evidence.astype(np.float32))), np.uint8)


def project(matrix: npt.NDArray[np.floating], at: Floats) -> Floats:
    """Positions (h, w, 2) through a homography."""
    matrix = np.asarray(matrix / matrix[2, 2], np.float64)
    if not matrix[2, :2].any():
        return np.asarray(cv2.transform(at, matrix[:2]), np.float32)
    return np.asarray(cv2.perspectiveTransform(at, matrix), np.float32)


def visible(record: Record, at: Floats) -> Mask:
    """Where positions (h, w, 2) fall inside the picture and away from the record's hole."""
    # one bilinear look-up: any touch of the guarded zone or of the outside counts as hidden
    border = cv2.BORDER_CONSTANT
    seen = cv2.remap(record.guard, at, None, cv2.INTER_LINEAR, borderMode=border, borderValue=255)
    return np.asarray(seen == 0)


def look(
    image: npt.NDArray[np.generic], at: Floats, interpolation: int = cv2.INTER_LINEAR
) -> Floats:
    """Sample an image at positions (h, w, 2), float32 out."""
    found = cv2.remap(image, at, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)
