"""What other frames show behind the hole: a window of frames, the motion between them, samples.

Two motions lead from a frame to another. The *camera* is a chain of homographies between
neighbours, fitted outside the holes; the *flow* is a chain of dense flows whose unknown part,
under the holes, is spread from its surroundings (the idea of Huang et al., Temporally Coherent
Completion of Dynamic Video, SIGGRAPH Asia 2016, and of Gao et al., Flow-edge Guided Video
Completion, ECCV 2020). Both are chained as positions, so a sample is interpolated once however
far it was fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint.blend import Floats, diffuse
from inpainterz.motion import Homography
from inpainterz.types import Flow, Frame, Mask


@dataclass(eq=False)
class Record:
    """A frame of the window with what is known of it; motion is worked out when first asked for."""

    frame: Frame
    hole: Mask
    small: npt.NDArray[np.uint8]
    """(h, w) luma at the size motion is estimated at."""
    blocked: Mask
    """(h, w) at that size: the hole and its rim, where neither motion nor pixels are taken."""
    guard: npt.NDArray[np.uint8]
    """(H, W) uint8, 255 = the hole and its rim at source size."""
    link: Homography | None = None
    """From this frame to the previous record, at source size; None = not worked out yet."""
    trust: float = 0.0
    forward: npt.NDArray[np.float16] | None = None
    """(h, w, 2) completed flow to the next record less the camera's, in small pixels."""
    backward: npt.NDArray[np.float16] | None = None
    filled: Floats | None = field(default=None, repr=False)


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
        return motion.grid(*self.shape) + np.float32([self.x0, self.y0])


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
        self.scale = np.array([w / self.small_size[0], h / self.small_size[1]])
        self.guard_px = guard_px
        self.records: list[Record] = []

    def record(self, frame: Frame, hole: Mask) -> Record:
        """Take a frame in at the end."""
        small = cv2.resize(motion.grey(frame.image), self.small_size, interpolation=cv2.INTER_AREA)
        reach = 2 * self.guard_px + 1
        guard = hole.astype(np.uint8) * 255
        if hole.any():
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
            guard = np.asarray(cv2.dilate(guard, kernel), np.uint8)
        blocked = cv2.resize(guard, self.small_size, interpolation=cv2.INTER_AREA) > 0
        if hole.any():
            blocked = cv2.dilate(blocked.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        made = Record(frame, hole, np.asarray(small, np.uint8), np.asarray(blocked), guard)
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
                record.small, before.small, ignore_a=record.blocked, ignore_b=before.blocked
            )
            if not _plausible(found, self.small_size):
                found, trust = np.eye(3), 0.0
            up = np.diag([*self.scale, 1.0])
            record.link = up @ found @ np.linalg.inv(up)
            record.trust = trust
        return record.link

    def camera(self, start: int, step: int) -> Iterator[tuple[int, Homography]]:
        """The homographies from record `start` to each further one in the direction `step`."""
        total = np.eye(3)
        at = start
        while 0 <= at + step < len(self.records):
            one = self.link(at) if step < 0 else np.linalg.inv(self.link(at + 1))
            total = one @ total
            total = total / total[2, 2]
            at += step
            yield at, total

    def residual(self, index: int, step: int) -> npt.NDArray[np.float16]:
        """Completed flow from record `index` to its neighbour, less the camera's, small pixels."""
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
        there, back = motion.dense_flow(a.small, b.small), motion.dense_flow(b.small, a.small)
        to_a = self._shrunk(self.link(low + 1))
        camera_back = motion.homography_flow(to_a, h, w)
        camera_there = motion.homography_flow(np.linalg.inv(to_a), h, w)
        known = motion.agrees(there, back) & ~a.blocked
        a.forward = diffuse(there - camera_there, known).astype(np.float16)
        known = motion.agrees(back, there) & ~b.blocked
        b.backward = diffuse(back - camera_back, known).astype(np.float16)

    def _shrunk(self, matrix: Homography) -> Homography:
        up = np.diag([*self.scale, 1.0])
        return np.asarray(np.linalg.inv(up) @ matrix @ up)

    def follow(self, start: int, step: int, box: Box, spacing: int) -> Iterator[tuple[int, Floats]]:
        """Positions in each further record of a grid of the box's pixels, along the flow.

        Yields:
            The record's number and (h, w, 2) float32 positions, source pixels; the grid takes
            every `spacing`-th pixel.
        """
        full = box.grid()[spacing // 2 :: spacing, spacing // 2 :: spacing]
        at = np.ascontiguousarray(full)
        index = start
        scale = self.scale.astype(np.float32)
        while 0 <= index + step < len(self.records):
            link = self.link(index) if step < 0 else np.linalg.inv(self.link(index + 1))
            extra = self.residual(index, step)
            small = at / scale
            low = np.floor(small.min((0, 1))).astype(int) - 1
            high = np.ceil(small.max((0, 1))).astype(int) + 2
            h, w = extra.shape[:2]
            x0, y0 = int(np.clip(low[0], 0, w - 1)), int(np.clip(low[1], 0, h - 1))
            x1, y1 = int(np.clip(high[0], x0 + 1, w)), int(np.clip(high[1], y0 + 1, h))
            part = extra[y0:y1, x0:x1].astype(np.float32)
            moved = cv2.remap(
                part,
                small[..., 0] - x0,
                small[..., 1] - y0,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            at = project(link, at) + moved * scale
            index += step
            yield index, at


def _plausible(matrix: Homography, size: tuple[int, int]) -> bool:
    """Whether a homography between neighbours keeps the picture's shape roughly as it is."""
    w, h = size
    corners = np.float32([[0, 0], [w, 0], [w, h], [0, h]]).reshape(-1, 1, 2)
    moved = cv2.perspectiveTransform(corners, matrix).reshape(-1, 2)
    if not np.isfinite(moved).all():
        return False
    sides = np.linalg.norm(moved - np.roll(moved, 1, 0), axis=1)
    want = np.array([h, w, h, w])
    return bool((sides > 0.7 * want).all() and (sides < 1.4 * want).all())


def project(matrix: Homography, at: Floats) -> Floats:
    """Positions (h, w, 2) through a homography."""
    m = matrix.astype(np.float32)
    x, y = at[..., 0], at[..., 1]
    z = m[2, 0] * x + m[2, 1] * y + m[2, 2]
    z = np.where(np.abs(z) < 1e-6, np.float32(1e-6), z)
    out = np.empty_like(at)
    out[..., 0] = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / z
    out[..., 1] = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / z
    return out


def visible(record: Record, at: Floats) -> Mask:
    """Where positions (h, w, 2) fall inside the picture and away from the record's hole."""
    h, w = record.guard.shape
    # one bilinear look-up: any touch of the guarded zone or of the outside counts as hidden
    seen = cv2.remap(
        record.guard,
        at[..., 0],
        at[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=255,
    )
    inside = (at[..., 0] >= 0) & (at[..., 0] <= w - 1) & (at[..., 1] >= 0) & (at[..., 1] <= h - 1)
    return np.asarray((seen == 0) & inside)


def residual_alignment(
    target: Floats, sample: Floats, usable: Mask, *, limit_px: float
) -> tuple[Flow, Floats]:
    """The small motion still left between a crop and a sample warped onto it, hole included.

    Args:
        target, sample: (h, w, 3) float32 RGB.
        usable: (h, w) bool, where both show the scene.
        limit_px: a larger remaining motion is another object's, and is not followed.

    Returns:
        The flow from target to sample (h, w, 2) float32 px, spread over the rest of the crop,
        and the mismatch (h, w) float32 in levels after it, spread likewise.
    """
    h, w = usable.shape
    a = cv2.cvtColor(target, cv2.COLOR_RGB2GRAY)
    b = cv2.cvtColor(sample, cv2.COLOR_RGB2GRAY)
    # one exposure for both, or brightness change reads as motion
    gain = float(np.median(a[usable]) - np.median(b[usable])) if usable.any() else 0.0
    b = np.clip(b + gain, 0, 255)
    joined = np.where(usable, a, b)  # no edge where there is no evidence
    flow = motion.dense_flow(joined.astype(np.uint8), b.astype(np.uint8))
    moved = np.asarray(motion.warp(b, flow), np.float32)
    error_before, error_after = cv2.blur(np.abs(a - b), (5, 5)), cv2.blur(np.abs(a - moved), (5, 5))
    solid = cv2.erode(usable.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    good = solid & (error_after <= error_before + 0.5) & (error_after < 16)
    good &= (flow**2).sum(-1) < limit_px**2
    if good.sum() < 24:
        flow = np.zeros((h, w, 2), np.float32)
        error = error_before
    else:
        flow = diffuse(flow, np.asarray(good))
        moved = np.asarray(motion.warp(b, flow), np.float32)
        error = np.abs(a - moved)
    error = cv2.blur(np.asarray(error, np.float32), (3, 3))
    if not solid.any():
        return flow, np.full((h, w), 32, np.float32)
    return flow, diffuse(np.minimum(error, 48), solid)
