"""A frame beside the one before it: the motion between the two, and what moves on its own.

This is all that two neighbouring frames tell by themselves. What longer stretches tell is worked
out of it in `inpaint.background`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint import movers
from inpainterz.inpaint.blend import Floats, diffuse
from inpainterz.motion import Homography
from inpainterz.types import Flow, Frame, Image, Mask

Steps: TypeAlias = npt.NDArray[np.int16]
"""A flow (h, w, 2) in steps of 1 / `FINE` small pixels."""

PATCH = 15
"""Side of the patches by which the camera's motion is measured, small pixels."""

FINE = 64
"""Steps of one small pixel in a flow that is kept."""

STRAY = 31
"""Steps of one unit of stray motion in `Record.stray`."""

NEAR = 0.12
"""How far around a hole other things' motion is looked at, as a share of the longer side."""


@dataclass(eq=False)
class Record:
    """A frame of the window with what is known of it; motion is there once its neighbour is."""

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
    """From this frame to the previous record, at source size; None = there is none."""
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
    course: tuple[Steps, Steps] | None = None
    """Their motion there and back when enough of them was last seen to be sure of it."""
    unseen: int = 0
    """How many frames ago that was."""
    hidden: bool = False
    """Whether that was taken for their motion since, as too little was seen to measure it."""


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """The motion from a frame to its neighbour."""

    camera: Flow
    """(h, w, 2) small pixels, of the background."""
    flow: Flow
    """(h, w, 2) small pixels, as measured."""
    extra: Steps
    """(h, w, 2) that less the camera's, with what is hidden spread from around."""
    stray: npt.NDArray[np.uint8]
    """(h, w) motion against the camera; `STRAY` = as much as parallax may explain."""
    reliable: Mask
    """(h, w) where there and back agree."""
    evidence: Floats
    """(h, w) how it speaks for moving on its own, see `movers.evidence`."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The motion between two neighbouring frames."""

    link: Homography
    """From the later frame to the earlier, at source size."""
    there: Way
    """From the earlier to the later."""
    back: Way


def reduction(size: tuple[int, int], side_px: int) -> tuple[tuple[int, int], Floats]:
    """The size at which motion is estimated.

    Args:
        size: (height, width) of the frames.
        side_px: their longer side is reduced to this.

    Returns:
        Width and height; (2,) float32, source pixels that one of its pixels is wide and high.
    """
    h, w = size
    shrink = min(1.0, side_px / max(h, w))
    small = max(1, round(w * shrink)), max(1, round(h * shrink))
    return small, np.array([w / small[0], h / small[1]], np.float32)


class Neighbours:
    """What frames show by themselves, and two of them beside each other.

    Args:
        size: (height, width) of the frames.
        motion_side_px: motion is estimated with the longer side at most this.
    """

    def __init__(self, size: tuple[int, int], motion_side_px: int) -> None:
        self.small_size, self.scale = reduction(size, motion_side_px)

    def record(self, frame: Frame, hole: Mask, guard_px: int) -> Record:
        """A frame with what it shows; nothing is to be taken so close to its hole."""
        colours = np.asarray(
            cv2.resize(frame.image, self.small_size, interpolation=cv2.INTER_AREA), np.uint8
        )
        small = motion.grey(colours)
        reach = 2 * guard_px + 1
        guard = hole.astype(np.uint8) * 255
        if hole.any():
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
            guard = np.asarray(cv2.dilate(guard, kernel), np.uint8)
        blocked = np.asarray(cv2.resize(guard, self.small_size, interpolation=cv2.INTER_AREA) > 0)
        if hole.any():
            blocked = cv2.dilate(blocked.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        far = cv2.distanceTransform((~blocked).astype(np.uint8), cv2.DIST_L2, 3)
        near = np.asarray(far < NEAR * max(self.small_size))
        return Record(frame, hole, small, colours, np.asarray(blocked), near, guard)

    def pair(self, a: Record, b: Record) -> Pair:
        """The motion between two frames that follow each other."""
        small, link = self._link(a, b)
        w, h = self.small_size
        camera_back = motion.homography_flow(small, h, w)
        camera_there = motion.homography_flow(np.asarray(np.linalg.inv(small), np.float64), h, w)
        unmoved = still(small, self.small_size)

        def flow(one: Record, other: Record, camera: Flow) -> Flow:
            if unmoved:
                return motion.dense_flow(one.small, other.small)
            return camera + residual_flow(one, other, camera)

        there, back = flow(a, b, camera_there), flow(b, a, camera_back)
        return Pair(
            link, _way(a, b, camera_there, there, back), _way(b, a, camera_back, back, there)
        )

    def _link(self, before: Record, record: Record) -> tuple[Homography, Homography]:
        """The homography from a record to the one before it, of small pixels and at source size."""
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
        if trust > 0.6 and still(found, self.small_size):
            found = np.eye(3)  # a locked camera: the grid is the same, nothing to resample
        return found, up @ found @ np.linalg.inv(up)


def _way(one: Record, other: Record, camera: Flow, flow: Flow, home: Flow) -> Way:
    extra, stray, reliable = _background_flow(flow, home, camera, one.blocked)
    off = np.asarray(stray / STRAY, np.float32)
    found = movers.evidence(one.small, other.small, flow, camera, off, reliable)
    return Way(camera, flow, extra, stray, reliable, found)


def residual_flow(a: Record, b: Record, camera: Flow, fast: bool = False) -> Flow:
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


def steps(flow: Flow) -> Steps:
    """A flow (h, w, 2) as it is kept."""
    return np.asarray(np.rint(flow * FINE), np.int16)


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
    against = np.asarray(np.rint(np.minimum(seen * STRAY, 255)), np.uint8)
    return steps(flow), against, np.asarray(reliable)


def furthest(matrix: Homography, size: tuple[int, int]) -> float:
    """How far a homography moves a corner of the picture, pixels."""
    w, h = size
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32).reshape(-1, 1, 2)
    return float(np.abs(cv2.perspectiveTransform(corners, matrix) - corners).max())


def still(matrix: Homography, size: tuple[int, int]) -> bool:
    """Whether a homography moves nothing by more than can be measured."""
    return furthest(matrix, size) < 0.12


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
