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
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint import movers, passing
from inpainterz.inpaint.blend import Floats, diffuse
from inpainterz.motion import Homography
from inpainterz.types import Flow, Frame, Image, Mask

Steps: TypeAlias = npt.NDArray[np.int16]
"""A flow (h, w, 2) in steps of 1 / `FINE` small pixels."""


@dataclass(eq=False)
class Record:
    """A frame of the window with what is known of it; motion is worked out when first asked for."""

    frame: Frame
    hole: Mask
    small: npt.NDArray[np.uint8]
    """(h, w) luma at the size motion is estimated at."""
    colours: Image
    """(h, w, 3) at that size."""
    blocked: Mask
    """(h, w) at that size: the hole and its rim, where neither motion nor pixels are taken."""
    near: Mask
    """(h, w) at that size: the hole and its neighbourhood."""
    guard: npt.NDArray[np.uint8]
    """(H, W) uint8, 255 = the hole and its rim at source size."""
    link: Homography | None = None
    """From this frame to the previous record, at source size; None = not worked out yet."""
    trust: float = 0.0
    leap: Homography | None = None
    """From this frame to the record `LEAP` before it, measured between the two."""
    forward: Steps | None = None
    """(h, w, 2) completed flow to the next record less the camera's."""
    backward: Steps | None = None
    stray: npt.NDArray[np.uint8] | None = None
    """(h, w) motion against the camera; `STRAY` = as much as parallax may explain."""
    moving: npt.NDArray[np.uint8] | None = None
    """(h, w) 255 = belongs to something that moves on its own."""
    settled: bool = False
    """Whether that was told from frames further away too."""
    evidence: npt.NDArray[np.float16] | None = None
    """(h, w) evidence for that, see `movers`, negative = against."""
    told: npt.NDArray[np.uint8] | None = None
    """(h, w) how much that evidence says, 255 = all."""
    others_forward: Steps | None = None
    """(h, w, 2) motion of such things to the next record, less the camera's; None = none seen."""
    others_backward: Steps | None = None


LEAP = 4
"""Frames between which the camera's motion is measured anew, so that a chain drifts less."""

PATCH = 15
"""Side of the patches by which the camera's motion is measured, small pixels."""

FINE = 64
"""Steps of one small pixel in a flow that is kept."""

CLEAR = 6
"""So far from a hole, in small pixels, the flow does not go with what the hole is filled with."""

STRAY = 31
"""Steps of one unit of stray motion in `Record.stray`."""

NEAR = 0.12
"""How far around a hole other things' motion is looked at, as a share of the longer side."""


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
        corner = np.array([self.x0, self.y0], np.float32)
        return np.asarray(motion.grid(*self.shape) + corner, np.float32)


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
        guard_px: nothing is taken this close to another frame's hole.
    """

    def __init__(self, size: tuple[int, int], *, motion_side_px: int, guard_px: int) -> None:
        self.size = size
        h, w = size
        shrink = min(1.0, motion_side_px / max(h, w))
        self.small_size = (max(1, round(w * shrink)), max(1, round(h * shrink)))
        self.scale = np.array([w / self.small_size[0], h / self.small_size[1]], np.float32)
        self.guard_px = guard_px
        self.records: list[Record] = []

    def record(self, frame: Frame, hole: Mask) -> Record:
        """Take a frame in at the end."""
        colours = np.asarray(
            cv2.resize(frame.image, self.small_size, interpolation=cv2.INTER_AREA), np.uint8
        )
        small = motion.grey(colours)
        reach = 2 * self.guard_px + 1
        guard = hole.astype(np.uint8) * 255
        if hole.any():
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
            guard = np.asarray(cv2.dilate(guard, kernel), np.uint8)
        blocked = np.asarray(cv2.resize(guard, self.small_size, interpolation=cv2.INTER_AREA) > 0)
        if hole.any():
            blocked = cv2.dilate(blocked.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        far = cv2.distanceTransform((~blocked).astype(np.uint8), cv2.DIST_L2, 3)
        near = np.asarray(far < NEAR * max(self.small_size))
        made = Record(frame, hole, small, colours, np.asarray(blocked), near, guard)
        self.records.append(made)
        return made

    def forget(self, count: int) -> None:
        """Drop the oldest `count` records."""
        del self.records[:count]

    def link(self, index: int) -> Homography:
        """The homography from record `index` to the one before it, at source size."""
        record = self.records[index]
        if record.link is None:
            before = self.records[index - 1]
            found, trust = motion.global_motion(
                record.small,
                before.small,
                ignore_a=record.blocked,
                ignore_b=before.blocked,
                patch_px=PATCH,
            )
            if not _plausible(found, self.small_size):
                found, trust = np.eye(3), 0.0
            up = np.diag([*self.scale, 1.0])
            if trust > 0.6 and _still(found, self.small_size):
                found = np.eye(3)  # a locked camera: the grid is the same, nothing to resample
            record.link = up @ found @ np.linalg.inv(up)
            record.trust = trust
        return record.link

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
            if not _still(guess, self.small_size):
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
                if trust > 0.5 and _furthest(change, self.small_size) < 0.05 * max(w, h):
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

    def residual(self, index: int, step: int) -> Steps:
        """Completed flow (h, w, 2) from record `index` to its neighbour, less the camera's."""
        record = self.records[index]
        ready = record.forward if step > 0 else record.backward
        if ready is None:
            low = index if step > 0 else index - 1
            self._measure(low)
            ready = record.forward if step > 0 else record.backward
        assert ready is not None
        return ready

    def _measure(self, low: int) -> None:
        a, b = self.records[low], self.records[low + 1]
        w, h = self.small_size
        to_a = self._small_matrix(self.link(low + 1))
        camera_back = motion.homography_flow(to_a, h, w)
        camera_there = motion.homography_flow(np.asarray(np.linalg.inv(to_a), np.float64), h, w)
        still = _still(to_a, self.small_size)

        def flow(one: Record, other: Record, camera: Flow) -> Flow:
            if still:
                return motion.dense_flow(one.small, other.small)
            return camera + _residual_flow(one, other, camera)

        def background(
            one: Record, other: Record, camera: Flow, way: Flow, home: Flow
        ) -> tuple[Steps, npt.NDArray[np.uint8], Mask, Floats]:
            extra, stray, reliable = _background_flow(way, home, camera, one.blocked)
            off = np.asarray(stray / STRAY, np.float32)
            found = movers.evidence(one.small, other.small, way, camera, off, reliable)
            return extra, stray, reliable, found

        there, back = flow(a, b, camera_there), flow(b, a, camera_back)
        a.forward, a.stray, reliable, now = background(a, b, camera_there, there, back)
        b.backward, stray, reliable_back, now_back = background(b, a, camera_back, back, there)
        if b.stray is None:
            b.stray = stray
        past = np.zeros_like(now) if a.evidence is None else a.evidence.astype(np.float32)
        total = np.clip(past + now, -3, 3)
        if a.evidence is None:
            a.evidence = total.astype(np.float16)
        b.evidence = movers.remembered(now_back, total, back, reliable_back).astype(np.float16)
        moving = movers.moving(total, a.small, a.blocked)
        a.moving = moving.astype(np.uint8) * 255
        moving_back = movers.moving(b.evidence.astype(np.float32), b.small, b.blocked)
        b.moving = moving_back.astype(np.uint8) * 255
        ahead, behind = _motion_of_others(
            (a, b), (there, back), (camera_there, camera_back), (reliable, reliable_back)
        )
        a.others_forward = None if ahead is None else _steps(ahead)
        b.others_backward = None if behind is None else _steps(behind)
        a.told = a.told if a.told is not None else _told(a.evidence)
        b.told = _told(b.evidence)

    def stray(self, index: int) -> npt.NDArray[np.uint8]:
        """(h, w) how far pixels of record `index` move against the camera; `STRAY` = may be."""
        record = self.records[index]
        if record.stray is None:
            self._measure(min(index, len(self.records) - 2))
        assert record.stray is not None
        return record.stray

    def measure(self) -> None:
        """Work out all motion not known yet, and what moves as far as the window can tell."""
        count = len(self.records)
        for low in range(count - 1):
            self.residual(low, 1)
        if count > 1:
            self.stray(count - 1)
        for index in range(LEAP, count):
            self.leap(index)
        for index in range(count - max(passing.LAGS)):
            self._settle(index)

    def onto_previous(self, index: int, box: Box, *, others: bool = False) -> Floats | None:
        """Positions (h, w, 2) in the record before of the box's pixels, along the background.

        With `others`, along what moves on its own; None if nothing of that kind is seen.
        """
        for _, at in self.follow(index, -1, box, 1, others=others):
            return at
        return None

    def shrunk(self, at: Floats) -> Floats:
        """Positions (h, w, 2) at the size that motion is estimated at."""
        return at if (self.scale == 1).all() else np.asarray(at / self.scale, np.float32)

    def _small_matrix(self, matrix: Homography) -> Homography:
        up = np.diag([*self.scale, 1.0])
        return np.asarray(np.linalg.inv(up) @ matrix @ up)

    def moving(self, index: int) -> npt.NDArray[np.uint8]:
        """(h, w) 255 where record `index` shows what moves on its own, as far as is known."""
        found = self.records[index].moving
        if found is None:
            self.measure()
            found = self.records[index].moving
        return np.zeros_like(self.records[index].small) if found is None else found

    def settle(self, index: int) -> None:
        """Tell what moves in record `index` from all that the window shows by now."""
        self.measure()
        self._settle(index)

    def _settle(self, index: int) -> None:
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

    def others(self, index: int, step: int) -> Steps | None:
        """Motion from record `index` to its neighbour of what moves on its own, if any is seen."""
        self.residual(index, step)
        record = self.records[index]
        return record.others_forward if step > 0 else record.others_backward

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
        scale = self.scale / np.float32(FINE)
        while 0 <= index + step < len(self.records):
            link = self.neighbour(index, step)
            extra = self.others(index, step) if others else self.residual(index, step)
            if extra is None:
                return
            moved = look(extra, self.shrunk(at)) * scale
            at = np.asarray(project(link, at) + moved, np.float32)
            index += step
            yield index, at


def _halved(record: Record, size: tuple[int, int]) -> tuple[Image, npt.NDArray[np.uint8]]:
    """A record's picture (h, w, 3) at a smaller size, and 1 where it shows no hole."""
    picture = cv2.resize(record.colours, size, interpolation=cv2.INTER_AREA)
    blocked = cv2.resize(record.blocked.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(picture, np.uint8), np.asarray(1 - blocked, np.uint8)


def _residual_flow(a: Record, b: Record, camera: Flow, fast: bool = False) -> Flow:
    """Dense flow (h, w, 2) from a to b, less the camera's.

    The second picture is first brought onto the first along the camera's motion, and either's
    hole is filled with what the other shows there: an object that stands still in the picture,
    or a painted hole, would drag the flow around it along. Under a still camera the plain flow is
    better: what the object stirs up around it is then doubted, and rightly.
    """
    moved = np.asarray(motion.warp(b.small, camera), np.uint8)
    shut = motion.warp(b.blocked.astype(np.uint8) * 255, camera, border=cv2.BORDER_CONSTANT)
    hidden = np.asarray(shut) > 0
    first = np.where(a.blocked, moved, a.small)
    both = a.blocked & hidden
    if both.any():
        smooth = diffuse(first.astype(np.float32), ~both, sweeps=2)
        first = np.where(both, smooth, first).astype(np.uint8)
    second = np.where(hidden, first, moved)
    return motion.dense_flow(first, second, fast=fast)


def _motion_of_others(
    pair: tuple[Record, Record],
    flows: tuple[Flow, Flow],
    cameras: tuple[Flow, Flow],
    reliable: tuple[Mask, Mask],
) -> tuple[Flow | None, Flow | None]:
    """Motion of what moves on its own, there and back, less the camera's, small pixels.

    Beside a hole the flow goes with what the hole was filled with, and that was the scene. So the
    affine motion of such things is taken from further away, and the flow measured again along it.
    None where too little is seen.
    """
    a, b = pair
    near = a.near | b.near
    own = []
    for record, flow, camera, good in zip(pair, flows, cameras, reliable, strict=True):
        assert record.moving is not None
        seen = np.asarray((record.moving > 0) & near & good)
        away = cv2.distanceTransform((~record.blocked).astype(np.uint8), cv2.DIST_L2, 3) > CLEAR
        clear = np.asarray(seen & away)
        enough = clear.sum() >= 4 * movers.ENOUGH
        own.append(movers.rigid(flow - camera, clear if enough else seen))
    first, second = own
    if first is None and second is None:
        return None, None
    first = -second if first is None and second is not None else first
    second = -first if second is None and first is not None else second
    assert first is not None and second is not None
    there, back = cameras[0] + first, cameras[1] + second
    onto = there + _residual_flow(a, b, there, fast=True)
    home = back + _residual_flow(b, a, back, fast=True)
    agree = motion.agrees(onto, home), motion.agrees(home, onto)
    done: list[Flow | None] = []
    for record, flow, base, camera, good in zip(
        pair, (onto, home), (first, second), cameras, agree, strict=True
    ):
        assert record.moving is not None
        known = np.asarray((record.moving > 0) & near & ~record.blocked & good)
        enough = known.sum() >= movers.ENOUGH
        done.append(movers.carry_on(flow - camera, base, known) if enough else None)
    return done[0], done[1]


def _steps(flow: Flow) -> Steps:
    return np.asarray(np.rint(flow * FINE), np.int16)


def _told(evidence: npt.NDArray[np.float16]) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(255 * movers.told(evidence.astype(np.float32))), np.uint8)


def _background_flow(
    there: Flow, back: Flow, camera: Flow, blocked: Mask
) -> tuple[Steps, npt.NDArray[np.uint8], Mask]:
    """Flow less the camera's, spread under the hole, and the motion that is nobody's parallax."""
    extra = there - camera
    speed = cv2.magnitude(camera[..., 0], camera[..., 1])
    stray = cv2.magnitude(extra[..., 0], extra[..., 1]) / (0.7 + 0.3 * speed)
    reliable = motion.agrees(there, back) & ~blocked
    # what moves on its own next to the hole says nothing of the background under it
    completed = diffuse(extra, np.asarray(reliable & (stray < 1)))
    flow = np.where((reliable & (stray >= 1))[..., None], extra, completed)
    seen = diffuse(np.minimum(stray, 8).astype(np.float32), ~blocked, sweeps=1)
    steps = np.asarray(np.rint(np.minimum(seen * STRAY, 255)), np.uint8)
    return _steps(flow), steps, np.asarray(reliable)


def _furthest(matrix: Homography, size: tuple[int, int]) -> float:
    """How far a homography moves a corner of the picture, pixels."""
    w, h = size
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32).reshape(-1, 1, 2)
    return float(np.abs(cv2.perspectiveTransform(corners, matrix) - corners).max())


def _still(matrix: Homography, size: tuple[int, int]) -> bool:
    """Whether a homography moves nothing by more than can be measured."""
    return _furthest(matrix, size) < 0.12


def _plausible(matrix: Homography, size: tuple[int, int]) -> bool:
    """Whether a homography between neighbours keeps the picture's shape roughly as it is."""
    w, h = size
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32).reshape(-1, 1, 2)
    moved = cv2.perspectiveTransform(corners, matrix).reshape(-1, 2)
    if not np.isfinite(moved).all():
        return False
    sides = np.linalg.norm(moved - np.roll(moved, 1, 0), axis=1)
    want = np.array([h, w, h, w])
    return bool((sides > 0.7 * want).all() and (sides < 1.4 * want).all())


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
