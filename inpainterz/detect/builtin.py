"""Detection of moving things with nothing to download.

Every sampled frame is compared with frames before and after it, aligned by the camera's motion
(homographies between neighbouring samples, chained). What differs from the past and from the future
and also flows otherwise than the background is a moving thing; what differs from one side only is a
place that something left or will come to, and what flows otherwise without differing is a surface
without texture. Regions of one motion are grouped, parts that move against each other are told
apart. The comparison follows double background subtraction (three-frame differencing, Collins et
al., "A System for Video Surveillance and Monitoring", CMU-RI-TR-00-12, section 2), the flow the
usual motion segmentation against a dominant motion (Irani, Rousso and Peleg, IJCV 1994).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.errors import OptionError
from inpainterz.types import Detected, Detection, Flow, Frame, Image, Mask

Map = npt.NDArray[np.float32]
"""(h, w), or (h, w, 2)."""

OFFSETS = (2, 4, 7, 11)
"""Which samples before and after a sample it is compared with."""

REACH = max(OFFSETS)

NAME = "moving"

_OVERLAP = 0.2  # share of the frame that a neighbour must show to be of use
_MIDDLE = 0.36  # half axes of the ellipse where a large object may stand, in sides of the frame
_LIMB = 0.4  # how far a limb at rest reaches from what moves, in square roots of the area
_KERNEL3 = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Options:
    """Knobs of the built-in detector."""

    max_side_px: int = 448
    """Longer side of the picture in which motion is looked for; more finds smaller things."""
    gap_s: float = 0.08
    """Seconds between the frames that are looked at."""
    least_share: float = 0.0007
    """The smallest thing that is told, as a share of the frame."""

    def __post_init__(self) -> None:
        if not 64 <= self.max_side_px <= 2048:
            raise OptionError("max_side_px is outside 64..2048")
        if not 0.01 <= self.gap_s <= 2:
            raise OptionError("gap_s is outside 0.01..2")
        if not 0 < self.least_share <= 0.5:
            raise OptionError("least_share is outside 0..0.5")


@dataclass(slots=True, eq=False)
class _View:
    """One sampled frame at working size, with how it lies to the sample before."""

    index: int
    shot: int
    size: tuple[int, int]  # (H, W) of the source
    image: Image
    grey: npt.NDArray[np.uint8]
    lab: Map  # (h, w, 3)
    from_last: motion.Homography | None  # the last sample's places -> this one's
    back: Flow | None  # to the last sample
    forth: Flow | None = None  # to the next one, once it is there


class MovingDetector:
    """The `Detector` of moving things."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def gap_s(self) -> float:
        """Short enough to follow what moves from one sample to the next."""
        return self.options.gap_s

    def detect(self, frames: Iterable[Frame], *, every: int) -> Iterator[Detected]:
        """Yield the moving things of every sampled frame, `REACH` samples late at most.

        Args:
            frames: of one size, forwards in time.
            every: the first frame of each shot and every `every`-th after it is looked at.

        Raises:
            OptionError: `every` is not 1 or more.
        """
        if every < 1:
            raise OptionError("every is below 1")
        window: list[_View] = []  # REACH samples before the next one that comes out, and after
        at = 0  # of the next one that comes out
        shot_start = 0
        for frame in frames:
            if window and frame.shot != window[-1].shot:
                for k in range(at, len(window)):
                    yield self._found(window, k)
                window, at = [], 0
            if not window:
                shot_start = frame.index
            if (frame.index - shot_start) % every:
                continue
            window.append(self._look(frame, window[-1] if window else None))
            if len(window) - at > REACH:
                yield self._found(window, at)
                at += 1
            if at > REACH:
                window.pop(0)
                at -= 1
        for k in range(at, len(window)):
            yield self._found(window, k)

    def _look(self, frame: Frame, last: _View | None) -> _View:
        height, width = frame.image.shape[:2]
        scale = min(1.0, self.options.max_side_px / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = frame.image
        if scale < 1:
            small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), np.uint8)
        grey = motion.grey(small)
        lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
        lab = np.asarray(cv2.GaussianBlur(lab, (0, 0), 0.8), np.float32)
        view = _View(frame.index, frame.shot, (height, width), small, grey, lab, None, None)
        if last is not None:
            view.from_last = camera_motion(last.grey, grey)
            view.back = motion.dense_flow(grey, last.grey)
            last.forth = motion.dense_flow(last.grey, grey)
        return view

    def _found(self, window: list[_View], at: int) -> Detected:
        """What moves in one sample of the window."""
        view = window[at]
        height, width = view.grey.shape
        if min(height, width) < 16 or len(window) < 2:
            return Detected(view.index, view.shot, view.image, ())
        compared = _change(window, at)
        residual = _residual(window, at)
        if compared is None or residual is None:
            return Detected(view.index, view.shot, view.image, ())
        change, twice = compared
        speed = np.hypot(residual[..., 0], residual[..., 1])
        drift = np.asarray(speed / (0.3 + 2 * float(np.median(speed))), np.float32)
        least = max(12.0, self.options.least_share * height * width)
        scale = np.divide(view.size[::-1], (width, height)).astype(np.float32)
        found = []
        for mask in _regions(change, twice, drift, residual, least):
            score = _score(mask, change, drift)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            corners = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], np.float32)
            found.append(Detection(mask, (corners * scale).reshape(4), score, NAME))
        return Detected(view.index, view.shot, view.image, tuple(found))


def create(options: Options, device: str = "auto") -> MovingDetector:
    """The engine; it runs on the CPU whatever `device` says."""
    return MovingDetector(options)


def camera_motion(
    a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], *, features: int = 500
) -> motion.Homography | None:
    """The homography from a to b that the background follows, None where there is none to be seen.

    Something large in the middle may have more corners than all the background. So a second one is
    fitted to the corners outside the middle, and what aligns the rim best is taken.

    Args:
        a, b: (h, w) uint8 luma.
        features: how many corners are followed.
    """
    h, w = a.shape
    start = cv2.goodFeaturesToTrack(a, features, 0.005, max(4.0, min(h, w) / 60))
    if start is None or len(start) < 12:
        return None
    end, good, _ = cv2.calcOpticalFlowPyrLK(a, b, start, None, winSize=(21, 21), maxLevel=4)
    home, back, _ = cv2.calcOpticalFlowPyrLK(b, a, end, None, winSize=(21, 21), maxLevel=4)
    start, end, home = (np.asarray(p, np.float32).reshape(-1, 2) for p in (start, end, home))
    keep = (good.ravel() > 0) & (back.ravel() > 0) & (np.abs(start - home).max(-1) < 0.7)
    start, end = start[keep], end[keep]
    rim_of = np.hypot(*((motion.grid(h, w) - (w / 2, h / 2)) / (_MIDDLE * w, _MIDDLE * h)).T).T > 1
    outside = np.hypot(*((start - (w / 2, h / 2)) / (_MIDDLE * w, _MIDDLE * h)).T) > 1
    # a camera that stands still comes first: a smooth wall has few corners to say so
    candidates = [np.eye(3)]
    for chosen in (np.ones(len(start), np.bool_), outside):
        if chosen.sum() >= 12:
            matrix, _ = cv2.findHomography(start[chosen], end[chosen], cv2.USAC_MAGSAC, 1.5)
            if matrix is not None:
                candidates.append(np.asarray(matrix, np.float64))
    if len(candidates) == 1:
        return None
    best: motion.Homography | None = None
    least = np.inf
    for matrix in candidates:
        moved, seen = _brought(b, matrix)
        counted = seen & rim_of
        if counted.sum() < 0.1 * rim_of.sum():
            continue
        error = float(np.minimum(cv2.absdiff(a, np.asarray(moved, np.uint8))[counted], 40).mean())
        if error < (least if best is None else 0.93 * least):
            best, least = matrix, error
    return best


def _brought(image: npt.NDArray[Any], matrix: motion.Homography) -> tuple[npt.NDArray[Any], Mask]:
    """An image as the frame sees it whose places `matrix` maps to the image's, and where it does.

    Args:
        image: (h, w) or (h, w, C).
        matrix: (3, 3).
    """
    h, w = image.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(image, matrix, (w, h), flags=flags)
    seen = cv2.warpPerspective(np.full((h, w), 255, np.uint8), matrix, (w, h), flags=flags)
    return np.asarray(moved), np.asarray(seen == 255)


def _change(window: list[_View], at: int) -> tuple[Map, Mask] | None:
    """How far each pixel differs from the past and from the future alike.

    Returns:
        (h, w), about 0.5 in still background, above 1 where something else is seen; and (h, w)
        where both the past and the future are known. None where no neighbour could be aligned.
    """
    own = window[at].lab
    sides = []
    for step in (-1, 1):
        seen_there = []
        matrix: motion.Homography = np.eye(3)
        for distance in range(1, REACH + 1):
            other = at + step * distance
            if not 0 <= other < len(window):
                break
            link = window[other + 1].from_last if step < 0 else window[other].from_last
            if link is None:
                break
            matrix = np.asarray((np.linalg.inv(link) if step < 0 else link) @ matrix, np.float64)
            if distance not in OFFSETS:
                continue
            moved, seen = _brought(window[other].lab, matrix)
            if seen.mean() < _OVERLAP:
                break
            moved = moved + np.median((own - moved)[seen], axis=0)  # exposure
            # alignment is never exact, and the background is not flat: a pixel of play
            above = own - cv2.dilate(moved, _KERNEL3)
            below = cv2.erode(moved, _KERNEL3) - own
            beyond = np.sqrt((np.maximum(0, np.maximum(above, below)) ** 2).sum(-1))
            noise = float(np.median(beyond[seen]))
            seen_there.append(np.where(seen, beyond / (1.5 + 2 * noise), np.nan))
        if seen_there:
            sides.append(_middle(np.stack(seen_there)))
    if not sides:
        return None
    twice = np.isfinite(np.stack(sides)).sum(0) == 2
    return np.nan_to_num(np.fmin.reduce(sides)).astype(np.float32), np.asarray(twice)


def _middle(stack: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """The median of (k, h, w) without the NaN, NaN where there is nothing else."""
    ordered = np.sort(stack, axis=0)  # NaN last
    known = np.isfinite(ordered).sum(0)
    low = np.take_along_axis(ordered, np.maximum(0, (known - 1) // 2)[None], 0)[0]
    high = np.take_along_axis(ordered, np.minimum(known // 2, len(stack) - 1)[None], 0)[0]
    return np.asarray((low + high) / 2)


def _residual(window: list[_View], at: int) -> Map | None:
    """The flow beyond the camera's motion in pixels a sample, the smaller of before and after.

    Returns:
        (h, w, 2), None where the camera's motion is not known.
    """
    view = window[at]
    h, w = view.grey.shape
    found = []
    if view.back is not None and view.from_last is not None:
        to_last = np.asarray(np.linalg.inv(view.from_last), np.float64)
        found.append(motion.homography_flow(to_last, h, w) - view.back)
    after = window[at + 1].from_last if at + 1 < len(window) else None
    if view.forth is not None and after is not None:
        found.append(view.forth - motion.homography_flow(after, h, w))
    if not found:
        return None
    if len(found) == 1:
        return np.asarray(found[0], np.float32)
    came, goes = found
    smaller = (came**2).sum(-1) <= (goes**2).sum(-1)
    return np.where(smaller[..., None], came, goes).astype(np.float32)


def _regions(change: Map, twice: Mask, drift: Map, residual: Map, least: float) -> list[Mask]:
    """Masks (h, w) of the things that move, the largest first.

    Args:
        change, drift: (h, w), above 1 = something moves.
        twice: (h, w) where `change` is a comparison with past and future.
        residual: (h, w, 2) flow beyond the camera's.
        least: pixels of the smallest thing.
    """
    height, width = change.shape
    gap = max(1, round(0.009 * max(height, width)))  # px that a thing may be without a sign
    soft = cv2.GaussianBlur(change, (0, 0), 0.8)
    sure = (soft > 1) & (drift > 1.2)
    # a foot on the ground stands still for a moment, as a shadow's rim does
    resting = cv2.morphologyEx(
        ((soft > 1.3) & twice).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    grown = cv2.morphologyEx(np.pad(sure.astype(np.uint8), gap), cv2.MORPH_CLOSE, _disc(gap))[
        gap:-gap, gap:-gap
    ]
    outer, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    whole = np.zeros_like(grown)
    cv2.drawContours(whole, outer, -1, 1, cv2.FILLED)  # holes of a thing belong to it
    whole[drift < 0.6] = 0
    whole = cv2.morphologyEx(whole, cv2.MORPH_OPEN, _disc(1))
    count, labels, facts, _ = cv2.connectedComponentsWithStats(whole)
    masks = []
    for k in range(1, count):
        if facts[k, cv2.CC_STAT_AREA] < least:
            continue
        mask = np.asarray(labels == k)
        if (mask & sure).sum() < 0.12 * mask.sum():
            continue
        # seen from one side in time only, the place that a thing comes from or goes to differs too
        typical = float(np.median(drift[mask & sure]))
        mask &= (drift > 0.35 * typical) | ((change > 1) & twice)
        mask = _reached(mask, resting, round(_LIMB * float(np.sqrt(mask.sum()))))
        masks += [part for part in _apart(mask, residual, least) if part.sum() >= least]
    return sorted(masks, key=lambda m: -int(m.sum()))


def _reached(mask: Mask, along: npt.NDArray[np.uint8], steps: int) -> Mask:
    """The mask with what is reached from it in some steps of a pixel along another one."""
    reached = mask.astype(np.uint8)
    way = reached | along
    for _ in range(steps):
        wider = cv2.dilate(reached, _KERNEL3) & way
        if (wider == reached).all():
            break
        reached = np.asarray(wider, np.uint8)
    return np.asarray(reached > 0)


def _apart(mask: Mask, residual: Map, least: float) -> list[Mask]:
    """A region split where its parts move in different directions.

    Args:
        mask: (h, w).
        residual: (h, w, 2).
        least: px; cores below it do not count.
    """
    speed = np.hypot(residual[..., 0], residual[..., 1])
    direction = residual / np.maximum(speed, 1e-3)[..., None]
    typical = float(np.median(speed[mask]))
    moving = mask & (speed > 0.4 * typical)
    if not moving.any():
        return [mask]
    angle = np.arctan2(direction[..., 1], direction[..., 0])
    main = np.arctan2(*direction[moving].sum(0)[::-1])
    off = np.abs(np.angle(np.exp(1j * (angle - main))))
    cores = []
    radius = max(1, round(0.1 * float(np.sqrt(mask.sum()))))
    for side in (off < np.pi / 3, off > 2 * np.pi / 3):
        core = cv2.morphologyEx((moving & side).astype(np.uint8), cv2.MORPH_OPEN, _disc(radius))
        if core.sum() < max(least, 0.15 * mask.sum()):
            return [mask]
        cores.append(core)
    distances = [cv2.distanceTransform(1 - core, cv2.DIST_L2, 3) for core in cores]
    first = mask & (distances[0] <= distances[1])
    return [np.asarray(first), np.asarray(mask & ~first)]


def _score(mask: Mask, change: Map, drift: Map) -> float:
    """0..1, how clearly a region moves: it differs, and flows otherwise than what is around."""
    radius = max(2, round(0.25 * float(np.sqrt(mask.sum()))))
    ring = (cv2.dilate(mask.astype(np.uint8), _disc(radius)) > 0) & ~mask
    around = float(np.median(drift[ring])) if ring.any() else 0.0
    differs = float(np.minimum(change[mask], 3).mean()) / 1.5
    stands_out = max(0.0, float(np.median(drift[mask])) - around) / 4
    return float(np.clip(1 - np.exp(-1.5 * np.sqrt(differs * stands_out)), 0, 1))


def _disc(radius: int) -> npt.NDArray[np.uint8]:
    size = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size), np.uint8)
