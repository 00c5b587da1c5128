"""What every inpainter with a sliding window needs: which frames, which pixels, and joining them.

Nothing here knows a network. Frames are numbered within their shot, from 0; boxes and sizes are in
pixels, rows before columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.inpaint.blend import diffuse
from inpainterz.inpaint.detail import missing_detail
from inpainterz.types import Image, Mask

Floats: TypeAlias = npt.NDArray[np.float32]

SEAM_LIMIT = 24.0
"""Levels; a fill that differs from its surroundings by this is not corrected at all."""
RIM_PX = 8
"""How much of the surroundings is kept with a fill, to join the two without a seam."""
COARSE = 0.9
"""Pixels of the network per pixel of the source below which a fill lacks visible detail."""


# Which frames -------------------------------------------------------------------------------------


def overlap_weights(length: int, overlap: int) -> Floats:
    """How much each frame of a window counts where windows overlap, (length,) float32, above 0.

    A plateau with a ramp of `overlap` frames at each end: a frame near the end of its window has
    seen its surroundings in time from one side only. The sum over windows is normalised later.
    """
    place = np.arange(length)
    edge = np.minimum(place + 1, length - place)
    return (np.minimum(edge, overlap + 1) / (overlap + 1)).astype(np.float32)


def choose_references(
    shown: Mapping[int, float], first: int, last: int, count: int
) -> tuple[int, ...]:
    """Which frames outside a window it looks at.

    Frames that show more of what the window hides come first; among those that show equally much,
    the one farthest in time from the window and from those already chosen: near ones repeat what
    the window shows itself.

    Args:
        shown: candidate -> share (0..1) of the window's hole that it shows.
        first, last: the window's first and last frame.
        count: at most so many.

    Returns:
        ascending numbers.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        left = [i for i in shown if i not in chosen]
        if not left:
            break
        taken = [first, last, *chosen]
        chosen.append(
            max(left, key=lambda i: (round(shown[i], 1), min(abs(i - j) for j in taken), -i))
        )
    return tuple(sorted(chosen))


# Which pixels -------------------------------------------------------------------------------------


def mirrored(size: int, padded: int) -> npt.NDArray[np.intp]:
    """Indices (padded,) that extend an axis of `size` by its mirror image, as often as it takes.

    The edge is repeated: 0 1 2 becomes 0 1 2 2 1 0 0 1 ...
    """
    index = np.arange(padded) % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of a frame."""

    top: int
    left: int
    bottom: int
    """One past the last row."""
    right: int
    """One past the last column."""

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def contains(self, other: Box) -> bool:
        return (
            self.top <= other.top
            and self.left <= other.left
            and self.bottom >= other.bottom
            and self.right >= other.right
        )

    def grown(self, px: int, size: tuple[int, int]) -> Box:
        """Wider by `px` on each side, within a frame of `size`."""
        return Box(
            max(0, self.top - px),
            max(0, self.left - px),
            min(size[0], self.bottom + px),
            min(size[1], self.right + px),
        )


def around(mask: Mask) -> Box | None:
    """The smallest box that holds the mask, None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def union(boxes: Iterable[Box | None]) -> Box | None:
    """The smallest box that holds all of these, None if there is none."""
    there = [b for b in boxes if b is not None]
    if not there:
        return None
    return Box(
        min(b.top for b in there),
        min(b.left for b in there),
        max(b.bottom for b in there),
        max(b.right for b in there),
    )


@dataclass(frozen=True, slots=True)
class Crop:
    """The part of a frame that a network sees, and how it is brought to a size that it takes."""

    box: Box
    scaled: tuple[int, int]
    """Height and width of the box's picture as the network sees it; at most the box's."""
    padded: tuple[int, int]
    """Height and width that the network takes; beyond `scaled` lies the mirror image."""

    @property
    def scale(self) -> float:
        """Network pixels per source pixel, 1 or less."""
        return min(self.scaled[0] / self.box.height, self.scaled[1] / self.box.width)

    def take(self, image: Image, hole: Mask) -> tuple[Floats, Mask]:
        """What the network may see of a frame, (H, W, 3) float32 0..255, and the hole in it.

        A pixel that the hole touches at all is hole. What lies under it is not blanked here.
        """
        inside = image[self.box.slices].astype(np.float32)
        hidden = hole[self.box.slices]
        if self.scaled != (self.box.height, self.box.width):
            size = (self.scaled[1], self.scaled[0])
            inside = cv2.resize(inside, size, interpolation=cv2.INTER_AREA)
            cover = cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            hidden = cover > 1e-4
        rows = mirrored(self.scaled[0], self.padded[0])
        columns = mirrored(self.scaled[1], self.padded[1])
        return inside[rows][:, columns], hidden[rows][:, columns]

    def restore(self, picture: Floats) -> Floats:
        """A picture as the network makes it, (H, W, 3), at the box's own size in the source."""
        picture = picture[: self.scaled[0], : self.scaled[1]]
        if self.scaled != (self.box.height, self.box.width):
            size = (self.box.width, self.box.height)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_LANCZOS4)
        return np.asarray(picture, np.float32)


def fit_crop(
    need: Box,
    frame: tuple[int, int],
    sizes: tuple[Sequence[int], Sequence[int]],
    max_side_px: int,
) -> Crop:
    """The cheapest crop that holds `need`, at the source's resolution if `max_side_px` allows.

    Args:
        need: what must be seen, within the frame.
        frame: height and width.
        sizes: the heights and the widths that the network takes, ascending; the last of each is at
            least as large as anything asked for, or else the picture is scaled down to it.
        max_side_px: the longer side of what the network sees is at most this.
    """
    scale = min(1.0, max_side_px / max(need.height, need.width))
    scale = min(scale, sizes[0][-1] / need.height, sizes[1][-1] / need.width)
    sides = []
    for axis, (start, stop) in enumerate(((need.top, need.bottom), (need.left, need.right))):
        wanted = max(1, round((stop - start) * scale))
        padded = next((s for s in sizes[axis] if s >= wanted), sizes[axis][-1])
        # More of the frame instead of a mirror image, where there is more of it.
        length = max(stop - start, min(frame[axis], int(padded / scale)))
        scaled = min(padded, max(1, round(length * scale)))
        first = start - (length - (stop - start)) // 2
        first = min(max(0, first), frame[axis] - length)
        sides.append((first, first + length, scaled, padded))
    (top, bottom, *rows), (left, right, *columns) = sides
    return Crop(Box(top, left, bottom, right), (rows[0], columns[0]), (rows[1], columns[1]))


# Joining ------------------------------------------------------------------------------------------


class Fill:
    """What several windows make of one frame's hole: a weighted mean, rounded once at the end."""

    def __init__(self, hole: Mask) -> None:
        """`hole` is (H, W) bool with at least one pixel."""
        box = around(hole)
        assert box is not None
        self.box = box.grown(RIM_PX, hole.shape)
        self._whole = hole
        self.hole = hole[self.box.slices]
        self._scale = 1.0
        self._sum = np.zeros((*self.hole.shape, 3), np.float32)
        self._weight = np.zeros(self.hole.shape, np.float32)

    def add(self, crop: Crop, picture: Floats, weight: float) -> None:
        """Add what one window made: `picture` (H, W, 3) float32 0..255, as the network gave it."""
        shared = Box(
            max(self.box.top, crop.box.top),
            max(self.box.left, crop.box.left),
            min(self.box.bottom, crop.box.bottom),
            min(self.box.right, crop.box.right),
        )
        self._scale = min(self._scale, crop.scale)
        here = _within(shared, self.box)
        self._sum[here] += weight * crop.restore(picture)[_within(shared, crop.box)]
        self._weight[here] += weight

    def composite(self, image: Image) -> Image:
        """A copy of `image` with the hole filled, every other pixel bit for bit as it was.

        What was made of a picture scaled down gets the fine detail of its surroundings.
        """
        known = self._weight > 0
        made = np.asarray(self._sum / np.maximum(self._weight, 1e-6)[..., None], np.float32)
        if self._scale < COARSE:
            corner = (self.box.top, self.box.left)
            made += missing_detail(image, self._whole, made, corner, self._scale)
        target = image[self.box.slices].astype(np.float32)
        made += seam_correction(made, target, known & ~self.hole)
        result = image.copy()
        levels = np.clip(np.rint(made), 0, 255).astype(np.uint8)
        result[self.box.slices][self.hole] = levels[self.hole]
        return result


def seam_correction(made: Floats, target: Floats, rim: Mask) -> Floats:
    """What to add to a fill so that it meets its surroundings without a seam.

    The difference at the rim, spread smoothly over the rest: the fill keeps its own gradients, as
    in seamless cloning (Perez et al., SIGGRAPH 2003, section 3).

    Args:
        made: (H, W, 3) float32, 0..255, the fill, also made on the rim.
        target: (H, W, 3) float32, the true picture, of which only the rim is used.
        rim: (H, W) bool, pixels around the hole.

    Returns:
        (H, W, 3) float32.
    """
    step = target - made
    # Where the two differ by much they show different things, which says nothing about exposure:
    # such pixels of the rim ask for no correction, and the less the more they differ.
    distance = np.abs(step).max(-1) / SEAM_LIMIT
    trust = np.asarray(np.square(np.clip(1 - np.square(distance), 0, 1)) * rim, np.float32)
    near = cv2.blur(np.dstack((step * trust[..., None], trust, rim.astype(np.float32))), (5, 5))
    mean = near[..., :3] / (near[..., 3:4] + 0.1 * near[..., 4:] + 1e-6)
    return diffuse(np.asarray(mean, np.float32), rim)


def _within(part: Box, whole: Box) -> tuple[slice, slice]:
    """`part` in coordinates of `whole`."""
    return (
        slice(part.top - whole.top, part.bottom - whole.top),
        slice(part.left - whole.left, part.right - whole.left),
    )
