"""What other frames show behind the hole: a window of frames, the motion between them, samples.

Two motions lead from a frame to another. The *camera* is a chain of homographies between
neighbours, fitted outside the holes; the *flow* is a chain of dense flows whose unknown part,
under the holes, is spread from its surroundings (the idea of Huang et al., Temporally Coherent
Completion of Dynamic Video, SIGGRAPH Asia 2016, and of Gao et al., Flow-edge Guided Video
Completion, ECCV 2020). Both are chained as positions, so a sample is interpolated once however
far it was fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint import movers, passing
from inpainterz.inpaint.blend import Floats, diffuse, level_gap
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
                    ignore_a=np.asarray(record.blocked | (self._by_flow(index) > 0)),
                    ignore_b=np.asarray(before.blocked | (self._by_flow(index - LEAP) > 0)),
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
        """Work out all motion not known yet."""
        for low in range(len(self.records) - 1):
            self.residual(low, 1)
        if len(self.records) > 1:
            self.stray(len(self.records) - 1)
        for index in range(LEAP, len(self.records)):
            self.leap(index)

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
        """(h, w) 255 where pixels of record `index` belong to what moves on its own."""
        if not self.records[index].settled and len(self.records) > index + max(passing.LAGS):
            self.settle(index)
        return self._by_flow(index)

    def _by_flow(self, index: int) -> npt.NDArray[np.uint8]:
        """The same as far as it is known by now."""
        found = self.records[index].moving
        if found is None:
            self.measure()
            found = self.records[index].moving
        return np.zeros_like(self.records[index].small) if found is None else found

    def settle(self, index: int) -> None:
        """Tell what moves in record `index` from all that the window shows, once."""
        record = self.records[index]
        if record.settled:
            return
        record.settled = True
        self.measure()
        if record.moving is None:
            return
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


@dataclass(eq=False)
class Layers:
    """What other frames show at the pixels of a box, several samples deep."""

    pixels: Floats
    """(n, h, w, 3) float32, in the exposure of the frame to be filled."""
    there: Mask
    """(n, h, w) bool, where the layer has a sample."""
    lag: npt.NDArray[np.float32]
    """(n, h, w) frames between the sample and the frame to be filled."""
    mismatch: Floats
    """(n, h, w) levels by which the sample's frame misses the surroundings of the hole there."""
    stray: Floats
    """(n, h, w) motion against the camera at the sample, as a share of what parallax explains."""
    flow: Mask
    """(n,) bool, followed along the flow rather than the camera."""

    def part(self, crop: tuple[slice, slice]) -> Layers:
        """The same of a part of the box."""
        at = slice(None), *crop
        samples = self.pixels[at], self.there[at], self.lag[at]
        return Layers(*samples, self.mismatch[at], self.stray[at], self.flow)

    def only(self, layers: slice) -> Layers:
        """Some of the layers, in the same memory."""
        samples = self.pixels[layers], self.there[layers], self.lag[layers]
        return Layers(*samples, self.mismatch[layers], self.stray[layers], self.flow[layers])

    def filled(self) -> Layers:
        """Those that have any sample; the others' memory is used anew."""
        kept = np.flatnonzero(self.there.any((1, 2)))
        for new, old in enumerate(kept):
            if new != old:
                for each in (self.pixels, self.there, self.lag, self.mismatch, self.stray):
                    each[new] = each[old]
                self.flow[new] = self.flow[old]
        return self.only(slice(0, len(kept)))


STEPS = (1, 2, 4, 6, 9, 13, 18, 25, 34, 46, 60, 80, 100)
"""Distances in frames at which samples are looked for: nearer frames match better."""
WAIT = (0, 0)
"""Frames between a pixel's consecutive samples of one direction: the second is there to vote."""

FLOW_REACH = 25
"""How far, in frames, the flow is followed: a longer chain of it drifts too much."""

OTHERS_STEPS = (1, 3, 6, 10)
"""Distances at which things that move on their own are looked for: they are soon lost."""

COARSE = 128
"""Pixels of the longer side of a hole's surroundings at which frames are compared with them."""

ASTRAY = 1.0
"""Motion against the camera, in units of what parallax explains, from which a sample is suspect."""


def gather(window: Window, index: int, box: Box) -> Layers:
    """Sample what the window's other frames show at a box of record `index`.

    For each direction in time and each motion, a pixel gets its first visible sample and another
    one. Every frame is first brought onto the surroundings of the hole: an affine
    correction of place, and a membrane correction of exposure.
    """
    surroundings = _Surroundings(window, index, box)
    hole = window.records[index].hole[box.slices]

    def collect(stack: _Stack, flow: bool, step: int) -> None:
        last = 0 if step < 0 else len(window.records) - 1
        if flow:
            here, links = box.grid()[::2, ::2], np.eye(3)
            ways = zip(window.follow(index, step, box, 2), window.camera(index, step), strict=True)
            for (j, at), (_, matrix) in ways:
                links = window.neighbour(j - step, step) @ links
                if abs(j - index) in STEPS or j == last:
                    # the chain of neighbours drifts; what the flow adds to it does so less
                    drift = project(matrix, here) - project(links, here)
                    surroundings.add(stack, j, abs(j - index), None, at + drift - here)
                if stack.full() or abs(j - index) >= FLOW_REACH:
                    break
        else:
            for j, matrix in window.camera(index, step):
                if abs(j - index) in STEPS or j == last:
                    surroundings.add(stack, j, abs(j - index), matrix, None)
                if stack.full():
                    break

    window.measure()
    flows = (False, False, True, True)
    layers, stacks = _stacks(hole, flows)
    for stack, flow, step in zip(stacks, flows, (-1, 1, -1, 1), strict=True):
        collect(stack, flow, step)
    return layers.filled()


def _stacks(hole: Mask, flow: Sequence[bool]) -> tuple[Layers, list[_Stack]]:
    """Empty layers of a box, and stacks to fill them, for each whether it follows the flow."""
    h, w = hole.shape
    deep = len(WAIT)
    n = deep * len(flow)
    layers = Layers(
        np.zeros((n, h, w, 3), np.float32),
        np.zeros((n, h, w), np.bool_),
        np.zeros((n, h, w), np.float32),
        np.zeros((n, h, w), np.float32),
        np.zeros((n, h, w), np.float32),
        np.repeat(np.array(flow, np.bool_), deep),
    )
    parts = [slice(k, k + deep) for k in range(0, n, deep)]
    return layers, [_Stack(hole, layers.only(part)) for part in parts]


def gather_others(window: Window, index: int, box: Box) -> tuple[Layers, Floats, Mask] | None:
    """Sample what moves on its own and is partly hidden by a hole: see `gather`.

    Returns:
        The samples; (h, w) 0..1 how surely such a thing covers the pixel; and where that could
        be said. None if nothing moves near the hole.
    """
    record = window.records[index]
    hole = record.hole[box.slices]
    surroundings = _Surroundings(window, index, box)
    if (surroundings.moving & surroundings.free).sum() < 30:
        return None

    here = box.grid()[::2, ::2]

    def collect(stack: _Stack, step: int) -> None:
        for j, at in window.follow(index, step, box, 2, others=True):
            lag = abs(j - index)
            if lag > max(OTHERS_STEPS):
                break
            if lag in OTHERS_STEPS:
                surroundings.add(stack, j, lag, None, at - here, others=True)

    layers, (past, future) = _stacks(hole, (False, False))
    collect(past, -1)
    collect(future, 1)
    votes = past.votes + future.votes
    share = votes[..., 0] / (votes[..., 1] + 0.15)
    return layers.filled(), np.asarray(share, np.float32), np.asarray(votes[..., 1] > 0.05)


class _Stack:
    """The samples of one direction in time and one motion."""

    def __init__(self, hole: Mask, layers: Layers) -> None:
        h, w = hole.shape
        self.hole = hole
        self.layers = layers
        """Where samples are put, as many as `WAIT` says."""
        self.depth = np.zeros((h, w), np.int8)
        self.due = np.where(hole, 0, 10**6).astype(np.int32)
        """The least lag at which a pixel takes its next sample."""
        self.votes = np.zeros((h, w, 2), np.float32)
        """Weighted votes that something moving covers the pixel, and all votes."""

    def full(self) -> bool:
        return not (self.depth[self.hole] < len(WAIT)).any()

    def wants(self, lag: int) -> Mask:
        return np.asarray(self.due <= lag)

    def put(
        self, corner: tuple[int, int], where: Mask, lag: int, pixels: Floats, about: Floats
    ) -> None:
        """Take a sample in at some pixels of a part of the box.

        Args:
            corner: row and column of the part's first pixel.
            where: (h, w) bool, which pixels of the part.
            lag: frames to the sample.
            pixels: (h, w, 3), the sample.
            about: (h, w, 2) its mismatch and its motion against the camera.
        """
        found = np.nonzero(where)
        rows, columns = found[0] + corner[0], found[1] + corner[1]
        slot = self.depth[rows, columns].astype(np.intp)
        mismatch, stray = about[found].T
        at = slot, rows, columns
        self.layers.pixels[at] = pixels[found]
        self.layers.there[at] = True
        self.layers.lag[at] = lag
        self.layers.mismatch[at] = mismatch
        self.layers.stray[at] = stray
        # the first sample is the nearest, whatever it shows; a later one that moves on its own
        # only keeps the place for one that does not
        slot = slot + ((slot == 0) | (stray < ASTRAY))
        self.depth[rows, columns] = slot
        self.due[rows, columns] = lag + 1 + np.array([*WAIT, 10**6], np.int32)[slot]


class _Surroundings:
    """What is around a hole, coarsely: other frames are brought onto it before they are sampled."""

    def __init__(self, window: Window, index: int, box: Box) -> None:
        self.window, self.box = window, box
        record = window.records[index]
        self.hole = record.hole[box.slices]
        self.grid = box.grid()
        h, w = box.shape
        self.step = max(1, round(max(h, w) / COARSE), round(float(window.scale[0])))
        self.coarse = np.ascontiguousarray(self.grid[:: self.step, :: self.step])
        corner = np.array([box.x0, box.y0], np.float32)
        self.inside = self.grid - corner
        """(h, w, 2) each pixel's position in the box."""
        self.thin = 2 if max(h, w) / self.step > 64 else 1
        """The corrections are spread on a grid this much coarser."""
        self.centre = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2], np.float32)
        self.radius = max(h, w) / 2
        self.target = self._colours(record, self.coarse)
        self.free = visible(record, self.coarse)
        self.smooth = np.asarray(cv2.GaussianBlur(_luma(self.target), (0, 0), 1.0), np.float32)
        slopes = [
            cv2.Sobel(self.smooth, cv2.CV_32F, *way, scale=0.125 / self.step)
            for way in ((1, 0), (0, 1))
        ]
        self.moving = look(window.moving(index), window.shrunk(self.coarse)) > 127
        local = (self.coarse - self.centre) / self.radius
        self.affine = np.dstack([np.ones(local.shape[:2], np.float32), local])
        """(h, w, 3) what an affine motion's three rows are multiplied by."""
        self.jacobian = np.dstack([self.affine * slope[..., None] for slope in slopes])
        """(h, w, 6) how the smooth target changes with an affine motion."""

    def _colours(self, record: Record, at: Floats) -> Floats:
        return look(record.colours, self.window.shrunk(at))

    def _nudged(self, at: Floats, nudge: Floats) -> Floats:
        """Positions (h, w, 2) of the box after a small affine motion (3, 2)."""
        x, y = nudge[1:] / self.radius
        offset = nudge[0] - x * self.centre[0] - y * self.centre[1]
        matrix = np.column_stack([x, y, offset]) + np.eye(2, 3)
        return np.asarray(cv2.transform(at, matrix), np.float32)

    def add(
        self,
        stack: _Stack,
        j: int,
        lag: int,
        matrix: Homography | None,
        shift: Floats | None,
        *,
        others: bool = False,
    ) -> None:
        """Sample record j where the stack wants it, along a homography or displacements.

        The displacements (h, w, 2) are those of every second pixel of the box.
        """
        want = stack.hole if others else stack.wants(lag)
        part = _bounds(want)
        if part is None:
            return
        record = self.window.records[j]

        def place(at: Floats, inside: Floats) -> Floats:
            if matrix is not None:
                return project(matrix, at)
            assert shift is not None
            return np.asarray(at + look(shift, inside * np.float32(0.5)), np.float32)

        here, inside = self.grid[part], self.inside[part]
        if not (visible(record, place(here, inside)) & want[part]).any():
            return
        nudge, correction = self._match(record, place, others, j)
        moved = self._nudged(here, nudge)
        at = place(moved, moved - here + inside)
        seen = visible(record, at) & want[part]
        if not seen.any():
            return
        wide = look(correction, inside / np.float32(self.step * self.thin))
        pixels = look(record.frame.image, at, cv2.INTER_CUBIC) + wide[..., :3]
        small = self.window.shrunk(at)
        moving = look(self.window.moving(j), small)
        if others:
            there = moving / np.float32(255)
            assert record.told is not None
            told = look(record.told, small) / np.float32(255)
            weight = np.exp(-lag / 10 - (wide[..., 3] / 24) ** 2) * seen * told
            stack.votes[part] += np.dstack([weight * there, weight])
            seen &= (there > 0.5) & stack.wants(lag)[part]
            stray = np.zeros_like(there)
        else:
            stray = look(self.window.stray(j), small) / np.float32(STRAY)
            stray = np.maximum(stray, moving * np.float32(2 / 255))
        corner = (part[0].start, part[1].start)
        stack.put(corner, seen, lag, pixels, np.dstack([wide[..., 3], stray]))

    def _affine(self, sample: Floats, usable: Mask) -> Floats:
        """The small affine motion (3, 2) from the target to a sample, by robust Gauss-Newton steps.

        The slopes are those of the target, which stays (Baker and Matthews, Lucas-Kanade 20 Years
        On, IJCV 2004, section 3.2); the sample is smoothed as the target is.
        """
        solid = cv2.erode(usable.astype(np.uint8), np.ones((5, 5), np.uint8))
        nothing = np.zeros((3, 2), np.float32)
        found = cv2.findNonZero(solid)
        if found is None or len(found) < 60:
            return nothing
        here = found.reshape(-1, 2)[:: max(1, len(found) // 1200)]
        at = here[:, 1], here[:, 0]
        inside, jacobian, wanted = self.affine[at], self.jacobian[at], self.smooth[at]
        start, middle = here.astype(np.float32), len(here) // 2
        total, best, least = nothing.copy(), nothing, np.inf
        for _ in range(5):
            spots = start + (inside @ total) / np.float32(self.step)
            rest = wanted - look(sample, spots[:, None])[:, 0]
            rest -= np.partition(rest, middle)[middle]
            error = float(np.minimum(np.abs(rest), 20).mean())
            if error >= least - 0.02:
                break
            best, least = total.copy(), error
            weighted = jacobian / (1 + (rest / 8) ** 2)[:, None]
            normal = weighted.T @ jacobian
            # a weak pull to zero: a flat surrounding must not send the sample away
            normal.flat[::7] += 0.02 * normal.trace() / 6 + 1e-3
            _, change = cv2.solve(normal, weighted.T @ rest[:, None], flags=cv2.DECOMP_CHOLESKY)
            total += change.reshape(2, 3).T
            if np.abs(total).max() > 8 * self.step:
                break
        return best

    def _match(
        self, record: Record, place: Callable[[Floats, Floats], Floats], others: bool, j: int
    ) -> tuple[Floats, Floats]:
        """How record's picture is best moved onto the surroundings, and what then still differs.

        Returns:
            (3, 2) float32 affine correction: offset, change along x and along y in source pixels;
            (h, w, 4) float32 on every `thin`-th pixel of the coarse grid: colour to be added, and
            the mismatch in levels.
        """

        def moves(at: Floats) -> Mask:
            found = look(self.window.moving(j), self.window.shrunk(at))
            return np.asarray(found > (127 if others else 76))

        def comparable(at: Floats) -> Mask:
            both = np.asarray(visible(record, at) & self.free)
            return np.asarray(both & self.moving & moves(at)) if others else both

        inside = self.inside[:: self.step, :: self.step]
        at = place(self.coarse, inside)
        usable = comparable(at)
        sample = self._colours(record, at)
        nudge = np.zeros((3, 2), np.float32)
        thin = np.s_[:: self.thin, :: self.thin]
        if usable.sum() < 40:
            flat = np.zeros((*usable[thin].shape, 4), np.float32)
            flat[..., 3] = 32
            return nudge, flat
        # what moves on its own would turn the scene, but tells which frames are alike
        fixed = usable if others else np.asarray(usable & ~self.moving & ~moves(at))
        nudge = self._affine(cv2.GaussianBlur(_luma(sample), (0, 0), 1.0), fixed)
        if nudge.any():
            moved = self._nudged(self.coarse, nudge)
            at = place(moved, moved - self.coarse + inside)
            usable = comparable(at)
            sample = self._colours(record, at)
        difference = cv2.subtract(self.target, sample)
        red, green, blue = cv2.split(cv2.absdiff(self.target, sample))
        size = cv2.max(cv2.max(red, green), blue)
        same = usable & (size < 24)
        weight = cv2.merge([same.astype(np.float32)] * 3)
        near = np.maximum(cv2.blur(weight, (3, 3)), np.float32(1e-3))
        mean = cv2.divide(cv2.blur(cv2.multiply(difference, weight), (3, 3)), near)
        rest = np.minimum(level_gap(difference, mean), 48)
        rest = np.where(same, rest, np.minimum(size, 48)).astype(np.float32)
        # both fields are smooth in the hole
        mean, same, rest, usable = mean[thin], same[thin], rest[thin], usable[thin]
        colour = diffuse(mean, same, sweeps=2) if same.sum() >= 8 else np.zeros_like(mean)
        return nudge, np.dstack([colour, diffuse(np.ascontiguousarray(rest), usable, sweeps=2)])


def _bounds(mask: Mask) -> tuple[slice, slice] | None:
    """The rectangle around what is set."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return (slice(y, y + h), slice(x, x + w)) if w else None


def _luma(colours: Floats) -> Floats:
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), np.float32)


def look(
    image: npt.NDArray[np.generic], at: Floats, interpolation: int = cv2.INTER_LINEAR
) -> Floats:
    """Sample an image at positions (h, w, 2), float32 out."""
    found = cv2.remap(image, at, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)
