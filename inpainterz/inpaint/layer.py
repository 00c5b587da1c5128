"""One layer of the picture behind the hole, the scene or what moves before it, from frame to frame.

Each layer remembers what it showed in the frame before. A pixel that no frame shows is invented
once and then carried along the layer's own motion, so that it stays where it is. It is invented
anew where what is known around it has changed, or where it is far from a smooth continuation of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inpainterz.inpaint.background import Box, look
from inpainterz.inpaint.blend import Floats, diffuse, level_gap
from inpainterz.inpaint.choose import Choice
from inpainterz.inpaint.patches import complete
from inpainterz.types import Image, Mask

REACH = 40
"""How far around what no frame shows patches are looked for, pixels."""

ENOUGH = 1000
"""Known pixels that should be found there."""

DAMPING = 0.5
"""How much of a small difference to the frame before is taken for noise of the choice."""

CHANGED = 25.0
"""What was invented is made anew where the picture around it changed by so many levels."""

MOST_CHANGE = 60.0
"""A larger change says no more than this."""

ODD_SPREAD = 2.5
"""It is made anew, too, where it is so many times as far from a smooth continuation of its
surroundings as they vary,"""

ODD_LEVELS = 12.0
"""and so many levels."""


@dataclass(eq=False)
class Layer:
    """A layer as one frame knows it."""

    index: int
    """Of the frame."""
    image: Image
    """(H, W, 3), what stands where nothing is known does not matter."""
    known: Mask
    """(H, W) bool."""
    share: Floats
    """(H, W) float32 0..1, how far the layer hides what is behind it."""

    def keep(self, box: Box, fill: Floats, known: Mask) -> None:
        """Note what was found in a box: pixels (h, w, 3) and where they are known."""
        crop = box.slices
        new = known & ~self.known[crop]
        self.image[crop][new] = levels(fill[new])
        self.known[crop] = known


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A layer of the frame before, moved onto a box of this one."""

    pixels: Floats
    """(h, w, 3) float32."""
    valid: Mask
    """(h, w) bool, where the layer was known."""
    share: Floats
    """(h, w) float32, see `Layer`."""


def carry(layer: Layer | None, at: Floats | None, shape: tuple[int, int]) -> Carried:
    """A layer seen at positions (h, w, 2) of its frame; nothing, if either is missing."""
    if layer is None or at is None:
        share = np.zeros(shape, np.float32)
        return Carried(np.zeros((*shape, 3), np.float32), np.zeros(shape, np.bool_), share)
    known = cv2.remap(
        layer.known.astype(np.uint8) * 255,
        at[..., 0],
        at[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    pixels = look(layer.image, at, cv2.INTER_CUBIC)
    return Carried(pixels, np.asarray(known > 250), look(layer.share, at))


def refill(
    layer: Layer, box: Box, hole: Mask, wanted: Mask, choice: Choice, before: Carried
) -> Floats:
    """Fill a layer in a box, and note in the layer what was found.

    Args:
        layer: of this frame; its image is right where it is known.
        box: where.
        hole: (h, w) bool.
        wanted: (h, w) bool, the part of the hole where something must stand in the end.
        choice: what other frames show there.
        before: the layer of the frame before.

    Returns:
        (h, w, 3) float32.
    """
    target = layer.image[box.slices].astype(np.float32)
    known = layer.known[box.slices].copy()
    trust = choice.trust[..., None]
    invented = _invent(target, hole & wanted, known, choice, before)
    fill = np.asarray(choice.pixels * trust + invented * (1 - trust), np.float32)
    # the noise of the choice, not the picture's motion: only small steps are damped
    step = cv2.blur(level_gap(before.pixels, fill), (3, 3))
    damp = np.where(before.valid & hole, DAMPING * np.exp(-((step / 10) ** 2)), 0)
    fill = fill + damp[..., None] * (before.pixels - fill)
    fill = np.asarray(np.where(hole[..., None], fill, target), np.float32)
    layer.keep(box, fill, np.asarray((hole & (wanted | (choice.trust > 0.5))) | known))
    return fill


def _invent(target: Floats, wanted: Mask, outside: Mask, choice: Choice, before: Carried) -> Floats:
    """What stands where no sample can be believed: what stood there before, else new."""
    seen = wanted & (choice.trust > 0.5)
    known = outside | seen
    pixels = np.where(seen[..., None], choice.pixels, target).astype(np.float32)
    keep = before.valid & wanted & ~known
    if keep.any():
        keep &= _change(pixels, before, np.asarray(known & before.valid)) < CHANGED
        keep &= ~_odd(pixels, before.pixels, known)
    if keep.any():
        # its texture stays, its level follows what is around it now
        step = np.clip(pixels - before.pixels, -40, 40).astype(np.float32)
        step = diffuse(step, np.asarray(known & before.valid))
        pixels = np.where(keep[..., None], before.pixels + step, pixels).astype(np.float32)
        known = known | keep
    left = wanted & ~known
    if not left.any():
        return pixels
    if not known.any():
        return np.full_like(target, 128)
    x, y, w, h = cv2.boundingRect(left.astype(np.uint8))
    crop = np.s_[max(0, y - REACH) : y + h + REACH, max(0, x - REACH) : x + w + REACH]
    if known[crop].sum() < ENOUGH:
        crop = np.s_[:, :]
    pixels[crop] = complete(pixels[crop], np.asarray(left[crop]), np.asarray(known[crop]))
    return pixels


def _change(pixels: Floats, before: Carried, both: Mask) -> Floats:
    """(h, w) levels by which what is known has changed around each pixel since the frame before.

    What was invented beside something that has gone away was made of it, and goes with it.
    """
    weight = cv2.blur(both.astype(np.float32), (5, 5))
    gap = np.where(both[..., None], pixels - before.pixels, 0).astype(np.float32)
    mean = np.abs(cv2.blur(gap, (5, 5))).max(-1) / np.maximum(weight, 1e-3)
    return diffuse(np.minimum(mean, MOST_CHANGE).astype(np.float32), both)


def _odd(pixels: Floats, invented: Floats, known: Mask) -> Mask:
    """(h, w) where what was invented is far from what is known around now, by its own measure.

    It may be far from a smooth continuation of its surroundings as they themselves vary: a tuft
    belongs on a meadow, not in the sky.
    """
    side = (9, 9)
    weight = np.maximum(cv2.blur(known.astype(np.float32), side), 1e-3)[..., None]
    around = np.where(known[..., None], pixels, 0).astype(np.float32)
    mean = cv2.blur(around, side) / weight
    variance = np.maximum(cv2.blur(around * around, side) / weight - mean**2, 0)
    spread = np.sqrt(variance.max(-1))
    smooth = diffuse(np.dstack([around, spread]).astype(np.float32), known)
    gap = np.abs(cv2.blur(invented, (3, 3)) - smooth[..., :3]).max(-1)
    odd = (gap > ODD_SPREAD * smooth[..., 3] + ODD_LEVELS) & ~known
    return np.asarray(cv2.dilate(odd.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)


def levels(values: Floats) -> Image:
    """Rounded to (..., 3) uint8."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
