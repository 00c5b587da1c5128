"""What speaks for and against a pixel being part of an object, and how it is weighed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.track.appearance import DESCRIPTOR, Memory, Place, describe
from inpainterz.track.background import Background
from inpainterz.types import Flow, Mask

Map = npt.NDArray[np.floating[Any]]
"""(H, W), float32."""

Crop = tuple[slice, slice]
"""Rows and columns of a window in the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """What is known of the motion from the last frame to this one."""

    back: Flow
    """From this frame to the last."""
    trusted: Mask
    """Where the flow agrees with the flow the other way."""
    camera: Flow
    """As `back`, were all of it background."""
    mismatch: Map
    """Colour difference to where `back` points, L*a*b*."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnMotion:
    """How an object moves: the flow back to the last frame is terms @ model over its pixels."""

    model: npt.NDArray[np.floating[Any]]
    """(3, 2): what to multiply (x, y, 1) with, pixels of the whole picture."""
    error: Map
    """(h, w) squared distance of the flow from the model, in the window it was fitted in."""
    usual: float
    """Median of `error` over the object."""

    def carry(self, place: Place) -> Place:
        """Where a place of the last frame is in this one."""
        linear = np.eye(2) + self.model[:2].T
        growth = 1 / np.sqrt(max(0.5, abs(float(np.linalg.det(linear)))))
        at = np.linalg.solve(linear, np.asarray([place.x, place.y]) - self.model[2])
        return Place(float(at[0]), float(at[1]), place.size * float(np.clip(growth, 0.93, 1.07)))


def own_motion(moved: Moved, crop: Crop, near: Map) -> OwnMotion | None:
    """Fit an affine motion to an object, leaving out what does not follow it.

    Args:
        moved: the motion of the whole picture.
        crop: the window.
        near: (h, w) 0..1 in the window, where the object should be.

    Returns:
        None where too little of the object is seen.
    """
    own = near > 0.9
    good = own & moved.trusted[crop]
    if good.sum() < 20:
        return None
    flow = moved.back[crop]
    height, width = near.shape
    at = motion.grid(height, width) + np.asarray([crop[1].start, crop[0].start], np.float32)
    terms = np.concatenate([at, np.ones((height, width, 1), np.float32)], -1)
    use = good
    for _ in range(2):  # the second time without what moves otherwise
        model = np.linalg.lstsq(terms[use], flow[use], rcond=None)[0]
        error = motion.squared(flow - terms @ model)
        use = good & (error <= np.quantile(error[good], 0.7))
    if np.linalg.det(np.eye(2) + model[:2].T) < 0.3:
        return None
    return OwnMotion(model, error, float(np.median(error[own])))


@dataclass(frozen=True, slots=True, eq=False)
class Cues:
    """What speaks for and against the object, (h, w) each, in a window of the picture."""

    prior: Map
    """-4..4, the log odds of the last frame's mask, carried along the flow."""
    trust: Map
    """0 or 1, where the flow agrees both ways."""
    shown: Map
    """-5..5, log ratio of likeness to what the user showed."""
    seen: Map
    """-5..5, log ratio of likeness to what was seen since."""
    new: Map
    """0..1, how little it resembles anything in what the user showed."""
    differs: Map
    """0..4, difference from the background that was seen there."""
    known: Map
    """0..1, how well the background is known there."""
    moves: Map
    """-4..4, log ratio of moving as the object rather than as the background."""
    depth: Map
    """-1..1, distance to the outline of the prior, inside positive, 1 = a fifth of its size."""
    mismatch: Map
    """0..4, how far the colour differs from where the flow says it comes from."""

    def fresh(self) -> Map:
        """The log odds of the object by this frame alone, whatever the last mask was.

        The weights here and in `evidence` are, rounded, a logistic regression on clips with true
        masks; leaving any one clip out changes them by a tenth or so. Only the constant is lower:
        errors feed on themselves, and a mask that spills costs more than one that lacks a bit.
        What was seen since counts where a pixel is new to what was shown: elsewhere the truth is
        at hand.
        """
        return np.asarray(
            -1.1
            + 0.55 * self.shown
            + 0.3 * self.seen * self.new
            + 0.45 * self.known * (self.differs - 1.3)
            - 0.6 * self.known * np.clip(1.2 - self.differs, 0, 1.2)
            + 0.25 * self.moves
        )

    def evidence(self) -> Map:
        """The log odds of the object, all taken together.

        Having been the object speaks for a pixel only as far as it moves with the object: what
        an object uncovers would otherwise stay behind as a part of it.
        """
        sure = self.trust * np.clip(1 - 0.5 * self.mismatch, 0, 1)
        past = 0.25 * self.prior * sure + 1.3 * self.depth
        along = 1 / (1 + np.exp(-1.5 * (self.moves + 1.5)))
        return np.asarray(self.fresh() + past * np.where(past > 0, along, 1))

    def strange(self) -> Map:
        """What `fresh` says for pixels only because they are not the background."""
        return np.asarray(0.45 * self.known * self.new * np.maximum(self.differs - 1.3, 0))

    def left_behind(self, still: Map, stood: Mask, speed: float, size: float) -> Map:
        """What speaks against pixels that stand still in the scene while the object walks on.

        A planted foot stands still too, but does not look like the background that was seen there;
        only what stands still for long is left behind where no background was seen. What stands
        still until the object has gone by is no part of it, whatever it looks like: smoke and
        shadows change the looks of a background.

        Args:
            still: (h, w) for how many frames each pixel has stood still.
            stood: (h, w) what was a part of the object from the start, such as somebody who stands
                while others that were shown with them walk.
            speed: of the object beside the camera's motion, px a frame.
            size: of the object, px.
        """
        walks = float(np.clip(speed - 1, 0, 1))
        same = np.clip(2 - self.differs, 0, 1) * self.known
        sure = np.clip((still - 2) / 2, 0, 1) * same
        sure += np.clip((still - 6) / 6, 0, 1) * (1 - self.known) * ~stood
        sure = np.maximum(sure, np.clip(2 * (still * speed / size - 1), 0, 1) * ~stood)
        return np.asarray(7 * walks * sure)


def gather(
    lab: Map,
    near: Map,
    crop: Crop,
    place: Place,
    moved: Moved,
    own: OwnMotion | None,
    memory: Memory,
    background: Background,
    step: int,
) -> Cues:
    """All cues in one window.

    Args:
        lab: (h, w, 3) float32 CIE L*a*b* of the window.
        near: (h, w) 0..1, the last mask carried along the flow.
        crop: where the window lies.
        place: of the object in this frame.
        moved: the motion of the whole picture.
        own: the motion of the object.
        memory: what it looks like.
        background: what is behind it.
        step: px, side of the blocks in which looks are compared.
    """
    clipped = np.clip(near, 0.02, 0.98)
    ratios = [enlarged(r, step, near.shape) for r in likeness(lab, crop, place, memory, step)]
    differs, known = background.differs(lab, crop, near < 0.02, max(4, int(0.3 * place.size)))
    moves = np.zeros_like(near)
    if own is not None:
        other = motion.squared(moved.back[crop] - moved.camera[crop])
        moves = np.clip((other - own.error) / (1 + 2 * own.usual), -4, 4)
    return Cues(
        prior=np.log(clipped / (1 - clipped)),
        trust=moved.trusted[crop].astype(np.float32),
        shown=np.clip(ratios[0], -5, 5),
        seen=np.clip(ratios[1], -5, 5),
        new=ratios[2],
        differs=np.clip(differs, 0, 4),
        known=known,
        moves=moves,
        depth=_depth(near, place),
        mismatch=np.clip(moved.mismatch[crop] / 8, 0, 4),
    )


def likeness(lab: Map, crop: Crop, place: Place, memory: Memory, step: int) -> tuple[Map, Map, Map]:
    """`Memory.likeness` of blocks of step x step pixels of a window."""
    descriptors = describe(lab, place, (crop[1].start, crop[0].start), step)
    rows, columns = descriptors.shape[:2]
    shown, seen, new = memory.likeness(descriptors.reshape(-1, DESCRIPTOR))
    return (
        shown.reshape(rows, columns),
        seen.reshape(rows, columns),
        new.reshape(rows, columns),
    )


def enlarged(blocks: Map, step: int, shape: tuple[int, ...]) -> Map:
    """Back to the pixels of a window of this shape (h, w), smoothly."""
    rows, columns = blocks.shape
    whole = cv2.resize(blocks, (columns * step, rows * step))
    return np.asarray(whole, np.float32)[: shape[0], : shape[1]]


def _depth(near: Map, place: Place) -> Map:
    solid = (near > 0.5).astype(np.uint8)
    inside = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 3)
    depth = np.clip((inside - outside) / max(2.0, 0.2 * place.size), -1, 1)
    return np.asarray(depth, np.float32)
