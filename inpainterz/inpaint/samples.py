"""What other frames show behind a hole: samples fetched from a window of frames.

A frame is first brought onto the surroundings of the hole, in place and exposure; what then still
differs there says how far its sample can be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint.background import Box, Window, look, project, visible
from inpainterz.inpaint.blend import Floats, diffuse, level_gap
from inpainterz.inpaint.pairs import STRAY, Record
from inpainterz.motion import Homography
from inpainterz.types import Mask


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

FEW = 0.1
"""Share of the pixels wanted that a frame must show: the next one shows them mostly, too."""

UNTOLD = 32.0
"""Levels by which a frame is taken to miss the surroundings where it shows too little of them."""

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
    ways = ((-1, False), (1, False), (-1, True), (1, True))
    layers, stacks = _stacks(hole, [flow for _, flow in ways])

    for stack, (step, flow) in zip(stacks, ways, strict=True):
        (_along_flow if flow else _along_camera)(surroundings, index, stack, step)
    return layers.filled()


def _along_camera(surroundings: _Surroundings, index: int, stack: _Stack, step: int) -> None:
    """Fill a stack from frames further and further away, along the camera's motion."""
    window = surroundings.window
    last = 0 if step < 0 else len(window.records) - 1
    for j, matrix in window.camera(index, step):
        if abs(j - index) in STEPS or j == last:
            surroundings.add(stack, j, abs(j - index), matrix, None, last=j == last)
        if stack.full():
            return


def _along_flow(surroundings: _Surroundings, index: int, stack: _Stack, step: int) -> None:
    """The same along the flow."""
    window, box = surroundings.window, surroundings.box
    last = 0 if step < 0 else len(window.records) - 1
    here, links = box.grid()[::2, ::2], np.eye(3)
    ways = zip(window.follow(index, step, box, 2), window.camera(index, step), strict=True)
    for (j, at), (_, matrix) in ways:
        links = window.neighbour(j - step, step) @ links
        end = j == last or abs(j - index) >= FLOW_REACH
        if abs(j - index) in STEPS or j == last:
            # the chain of neighbours drifts; what the flow adds to it does so less
            drift = project(matrix, here) - project(links, here)
            surroundings.add(stack, j, abs(j - index), None, at + drift - here, last=end)
        if end or stack.full():
            return


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
    around = window.records[max(0, index - 1) : index + 2]
    hidden = any(each.hidden for each in around)
    if (surroundings.moving & surroundings.free).sum() < 30 and not hidden:
        return None
    if hidden:  # nearly all that could be compared is under the hole: that is no sign of a miss
        surroundings.untold = UNTOLD / 2

    here = box.grid()[::2, ::2]

    def collect(stack: _Stack, step: int) -> None:
        for j, at in window.follow(index, step, box, 2, others=True):
            lag = abs(j - index)
            if lag > max(OTHERS_STEPS):
                break
            if lag in OTHERS_STEPS:
                end = lag == max(OTHERS_STEPS)
                surroundings.add(stack, j, lag, None, at - here, others=True, last=end)

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
        self.untold = UNTOLD
        """Mismatch of a frame that shows too little beside the hole to tell."""
        self.grid = box.grid()
        h, w = box.shape
        self.step = max(1, round(max(h, w) / COARSE), round(float(window.scale[0])))
        self.coarse = np.ascontiguousarray(self.grid[:: self.step, :: self.step])
        self.inside = motion.grid(h, w)
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
        last: bool,
        others: bool = False,
    ) -> None:
        """Sample record j where the stack wants it, along a homography or displacements.

        The displacements (h, w, 2) are those of every second pixel of the box. A frame that shows
        little is left out unless it is the last one.
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
        shown = np.count_nonzero(visible(record, place(here, inside)) & want[part])
        if shown <= (0 if last else FEW * np.count_nonzero(want)):
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
            flat[..., 3] = self.untold
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
