"""The built-in inpainter: what other frames show behind the hole, then patches.

For each frame, candidates for its hole are fetched from other frames of the shot along two
motions (see `inpaint.background`), brought to its exposure, and compared with one another: the
background is what most candidates agree on and what continues the surroundings. What no frame
shows is completed once and then carried along the background's motion, so that it stays still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.errors import InputError, OptionError
from inpainterz.inpaint import background
from inpainterz.inpaint.background import Box, Record, Window
from inpainterz.inpaint.blend import Floats, diffuse, membrane
from inpainterz.types import Frame, Inpainted, Mask, Origin


@dataclass(frozen=True, slots=True)
class Options:
    """What the built-in inpainter may use."""

    lookahead_frames: int = 60
    """How far ahead the background is looked for, frames."""
    reach_frames: int = 60
    """How far back, frames."""
    candidates: int = 10
    """At most so many frames are borrowed from for one hole along each motion."""
    motion_side_px: int = 480
    """Motion is estimated with the longer side reduced to this, pixels."""
    guard_px: int = 3
    """Nothing is taken this close to another frame's hole, pixels: it rings there."""
    margin_px: int = 32
    """How much of the surroundings is compared around a hole, pixels."""
    memory_mb: int = 600
    """Frames kept for borrowing take at most about this, MiB; large frames shorten the reach."""

    def __post_init__(self) -> None:
        limits = {
            "lookahead_frames": (0, 1000),
            "reach_frames": (0, 1000),
            "candidates": (1, 64),
            "motion_side_px": (64, 4096),
            "guard_px": (0, 64),
            "margin_px": (8, 512),
            "memory_mb": (16, 1 << 20),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise OptionError(f"{name} is {value}", f"Choose a number from {low} to {high}")


def create(options: Options, device: str = "auto") -> BuiltinInpainter:
    """Build the engine; it runs on the CPU whatever `device` says."""
    del device
    return BuiltinInpainter(options)


class BuiltinInpainter:
    """See the module; an `inpainterz.engines.Inpainter`."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def lookahead(self) -> int:
        return self.options.lookahead_frames

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        """See `inpainterz.engines.Inpainter.inpaint`.

        Raises:
            InputError: a frame or a mask has another size than the first frame.
        """
        shot: _Shot | None = None
        size: tuple[int, int] | None = None
        for frame, hole in frames:
            size = size or frame.image.shape[:2]
            if frame.image.shape[:2] != size or hole.shape != size:
                raise InputError(
                    f"frame {frame.index} or its mask is not {size[1]}x{size[0]}",
                    "All frames and masks of a clip have one size",
                )
            if shot is not None and shot.number != frame.shot:
                yield from shot.finish()
                shot = None
            if shot is None:
                shot = _Shot(frame.shot, size, self.options)
            yield from shot.take(frame, hole)
        if shot is not None:
            yield from shot.finish()


class _Shot:
    """The state of one shot: the window, and which of its frames is to come out next."""

    def __init__(self, number: int, size: tuple[int, int], options: Options) -> None:
        self.number = number
        self.options = options
        self.window = Window(size, motion_side_px=options.motion_side_px, guard_px=options.guard_px)
        # image, hole and guard at source size, and two half-precision flows of the small size
        w, h = self.window.small_size
        frame_bytes = size[0] * size[1] * 5 + w * h * 10
        affordable = max(2, (options.memory_mb << 20) // frame_bytes - 1)
        total = options.lookahead_frames + options.reach_frames
        share = min(1.0, affordable / max(1, total))
        self.ahead = int(options.lookahead_frames * share)
        self.back = int(options.reach_frames * share)
        self.next = 0
        """Number in the window of the frame that comes out next."""

    def take(self, frame: Frame, hole: Mask) -> Iterator[Inpainted]:
        self.window.record(frame, np.asarray(hole, np.bool_))
        while self.next < len(self.window.records) and (
            not self.window.records[self.next].hole.any()
            or len(self.window.records) - 1 - self.next >= self.ahead
        ):
            yield self._pop()

    def finish(self) -> Iterator[Inpainted]:
        while self.next < len(self.window.records):
            yield self._pop()

    def _pop(self) -> Inpainted:
        record = self.window.records[self.next]
        result = Inpainted(record.frame)
        if record.hole.any():
            result = self._fill(self.next)
        self.next += 1
        excess = self.next - self.back
        if excess > 0:
            self.window.forget(excess)
            self.next -= excess
        return result

    def _fill(self, index: int) -> Inpainted:
        record = self.window.records[index]
        image = record.frame.image.copy()
        origin = np.zeros(record.hole.shape, np.uint8)
        confidence = np.zeros(record.hole.shape, np.uint8)
        for box in background.boxes(record.hole, self.options.margin_px):
            crop = box.slices
            hole = record.hole[crop]
            fill, seen, sure = self._complete(index, box)
            image[crop][hole] = np.clip(np.rint(fill[hole]), 0, 255).astype(np.uint8)
            origin[crop][hole] = np.where(seen[hole], Origin.SEEN, Origin.INVENTED)
            confidence[crop][hole] = np.clip(np.rint(255 * sure[hole]), 0, 255).astype(np.uint8)
        old = record.frame
        filled = Frame(image, old.index, old.pts, old.time_base, old.shot)
        return Inpainted(filled, origin, confidence)

    def _complete(self, index: int, box: Box) -> tuple[Floats, Mask, Floats]:
        """Fill one box: the pixels (h, w, 3), where another frame shows them, how sure (0..1)."""
        record = self.window.records[index]
        hole = record.hole[box.slices]
        target = record.frame.image[box.slices].astype(np.float32)
        found = self._candidates(index, box, target, hole)
        fill, seen, sure = _fuse(found, hole)
        unknown = hole & ~seen
        if unknown.any():
            known = ~hole | seen
            if known.any():
                fill = np.where(hole[..., None], fill, target)
                fill = diffuse(fill, known)
            else:
                fill = np.full_like(target, 128)
        return fill, seen & hole, np.where(seen, sure, 0).astype(np.float32)

    def _candidates(self, index: int, box: Box, target: Floats, hole: Mask) -> list[_Candidate]:
        records = self.window.records
        spacing = max(1, int(np.sqrt(hole.sum() / 1500)))
        coarse_hole = hole[spacing // 2 :: spacing, spacing // 2 :: spacing]
        grid = box.grid()
        coarse = np.ascontiguousarray(grid[spacing // 2 :: spacing, spacing // 2 :: spacing])
        if not coarse_hole.any():
            coarse_hole, coarse, spacing = hole, grid, 1
        found: list[_Candidate] = []
        cameras, flows = {}, {}
        for step in (-1, 1):
            for j, matrix in self.window.camera(index, step):
                cameras[j] = matrix
        shown = {
            j: background.visible(records[j], background.project(m, coarse)) & coarse_hole
            for j, m in cameras.items()
        }
        for j in _choose(shown, coarse_hole, index, self.options.candidates):
            made = _fetch_camera(records[j], cameras[j], grid, target, hole)
            if made is not None:
                made.distance = abs(j - index)
                found.append(made)
        for step in (-1, 1):
            for j, at in self.window.follow(index, step, box, spacing):
                flows[j] = at
        shown = {
            j: background.visible(records[j], at) & coarse_hole
            for j, at in flows.items()
            if at.shape[:2] == coarse_hole.shape
        }
        for j in _choose(shown, coarse_hole, index, self.options.candidates):
            made = _fetch_flow(records[j], flows[j], spacing, grid, target, hole)
            if made is not None:
                made.distance = abs(j - index)
                made.flow = True
                found.append(made)
        return found


@dataclass(eq=False)
class _Candidate:
    """What one frame shows at the pixels of a crop."""

    pixels: Floats
    """(h, w, 3) float32, in the target's exposure."""
    visible: Mask
    mismatch: Floats
    """(h, w) levels by which it misses the surroundings, spread into the hole."""
    distance: int = 0
    flow: bool = False


def _choose(shown: dict[int, Mask], hole: Mask, index: int, limit: int) -> list[int]:
    """Greedily pick frames that show what is still shown least, near ones first."""
    count = np.zeros(hole.shape, np.float32)
    left = {j: m.astype(np.float32) for j, m in shown.items() if m.any()}
    total = float(hole.sum())
    chosen: list[int] = []
    while left and len(chosen) < limit:
        worth = 0.6**count
        gain = {j: float((m * worth).sum()) / (1 + 0.01 * abs(j - index)) for j, m in left.items()}
        best = max(gain, key=lambda j: gain[j])
        if gain[best] < 0.004 * total:
            break
        chosen.append(best)
        count += left.pop(best)
        # neighbours show the same with the same errors: leave some time between two choices
        for j in [j for j in left if abs(j - best) < 2]:
            left[j] = left[j] * np.float32(0.5)
    return chosen


def _fetch_camera(
    record: Record, matrix: npt.NDArray[np.float64], grid: Floats, target: Floats, hole: Mask
) -> _Candidate | None:
    return _refined(record, lambda flow: background.project(matrix, grid + flow), target, hole, 6.0)


def _fetch_flow(
    record: Record, at: Floats, spacing: int, grid: Floats, target: Floats, hole: Mask
) -> _Candidate | None:
    h, w = hole.shape
    if spacing > 1:
        rows = (np.arange(h, dtype=np.float32) - spacing // 2) / spacing
        columns = (np.arange(w, dtype=np.float32) - spacing // 2) / spacing
        x, y = np.meshgrid(columns, rows)
        own = np.ascontiguousarray(grid[spacing // 2 :: spacing, spacing // 2 :: spacing])
        moved = cv2.remap(at - own, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    else:
        moved = at - grid

    def place(flow: Floats) -> Floats:
        if not flow.any():
            return np.asarray(grid + moved, np.float32)
        from inpainterz.motion import warp

        return np.asarray(grid + flow + warp(moved, flow), np.float32)

    return _refined(record, place, target, hole, 4.0)


def _refined(record, place, target, hole, limit_px):  # type: ignore[no-untyped-def]
    h, w = hole.shape
    zero = np.zeros((h, w, 2), np.float32)
    at = place(zero)
    seen = background.visible(record, at)
    if not (seen & hole).any():
        return None
    sample = _sample(record, at)
    usable = seen & ~hole
    flow, mismatch = background.residual_alignment(target, sample, usable, limit_px=limit_px)
    at = place(flow)
    seen = background.visible(record, at)
    sample = _sample(record, at, cv2.INTER_CUBIC)
    sample = sample + membrane(sample, target, hole, seen)
    return _Candidate(sample, seen, mismatch)


def _sample(record: Record, at: Floats, interpolation: int = cv2.INTER_LINEAR) -> Floats:
    return np.asarray(
        cv2.remap(
            record.frame.image,
            at[..., 0],
            at[..., 1],
            interpolation,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.float32,
    )


def _fuse(found: list[_Candidate], hole: Mask) -> tuple[Floats, Mask, Floats]:
    """What most candidates agree on, pixel by pixel: colours, where there are any, how sure."""
    h, w = hole.shape
    if not found:
        return (
            np.zeros((h, w, 3), np.float32),
            np.zeros((h, w), np.bool_),
            np.zeros((h, w), np.float32),
        )
    n = len(found)
    pixels = np.stack([c.pixels for c in found])
    there = np.stack([c.visible for c in found])
    cap = np.float32(40.0**2)
    apart = np.zeros((n, n, h, w), np.float32)
    both = np.zeros((n, n, h, w), np.float32)
    for a in range(n):
        for b in range(a + 1, n):
            shared = (there[a] & there[b]).astype(np.float32)
            d = np.minimum(((pixels[a] - pixels[b]) ** 2).sum(-1), cap) * shared
            d = cv2.blur(d, (5, 5))
            k = cv2.blur(shared, (5, 5))
            d = d / np.maximum(k, 1e-3)
            apart[a, b] = apart[b, a] = d
            both[a, b] = both[b, a] = shared
    votes = both.sum(1)
    cost = (apart * both).sum(1) / np.maximum(votes, 1)
    cost = np.where(votes > 0, cost, cap / 2)
    for k, c in enumerate(found):
        cost[k] += 4.0 * np.minimum(c.mismatch, 24.0) + 1.0 * c.distance
    cost = np.where(there, cost, np.inf)
    best = cost.argmin(0)
    seen = there.any(0)
    rows, columns = np.indices((h, w))
    near = apart[best, :, rows, columns].transpose(2, 0, 1)
    weight = np.where(
        there & (both[best, :, rows, columns].transpose(2, 0, 1) > 0),
        np.exp(-near / (2 * 12.0**2)),
        0,
    ).astype(np.float32)
    np.put_along_axis(weight, best[None], 1.0, 0)
    total = weight.sum(0)
    fill = (pixels * weight[..., None]).sum(0) / np.maximum(total, 1e-6)[..., None]
    spread = np.take_along_axis(cost, best[None], 0)[0]
    sure = np.where(seen, np.exp(-np.where(seen, spread, 0) / 800.0), 0)
    return np.asarray(fill, np.float32), seen & hole, np.asarray(sure, np.float32)
