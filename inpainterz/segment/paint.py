"""Flat paint in a picture: a bar, a logo, a hole that someone painted over.

What a camera sees is never of one colour over hundreds of pixels, unless it is as dark or as
bright as the picture can be. Paint is, but for a few levels that a codec adds, and its outline is
known to the pixel, which colour models of superpixels blur.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.types import Image, Mask

Floats = npt.NDArray[np.float32]

_TOLERANCES = (6, 4, 2)  # levels around the paint's own colour: what a codec adds
_FRINGE, _FRINGE_PX = 9, 2  # levels and pixels at its edge
_CLOSE = 11  # pixels about the quite plain ones
_HOLE = 0.01  # of the area of paint: what a codec does within it
_PLAIN = 0.6  # share of paint within one level of its colour
_CRISP = 0.6  # share of its outline at which the picture changes
_STEP = 12  # by so many levels, two pixels beyond
_DARK, _BRIGHT = 24, 246  # beyond, a camera sees flat colour too
_FILLS = 0.8  # IoU of a box and that of the paint in it: nobody draws a box to the pixel
_LEAST_PX = 80
_LEAST_SHARE = 0.0005  # of the frame


def under(image: Image, points: Floats, positive: npt.NDArray[np.bool_]) -> Mask | None:
    """The paint of one colour that holds all positive clicks and no negative one.

    Args:
        image: (H, W, 3) RGB.
        points: (N, 2) x, y in pixels.
        positive: (N,) bool.

    Returns:
        (H, W) bool, or None where the clicks show no paint.
    """
    at = points.astype(np.intp)
    on = at[positive]
    if not len(on):
        return None
    x, y = (int(v) for v in on[0])
    colour = _common(image[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3])
    if colour is None:
        return None
    for tolerance in _TOLERANCES:
        near = _alike(image, colour, tolerance)
        pieces = _labels(near)
        chosen = {int(v) for v in pieces[on[:, 1], on[:, 0]]} - {0}
        mask = np.isin(pieces, sorted(chosen))
        if not mask[on[:, 1], on[:, 0]].all() or mask[at[~positive, 1], at[~positive, 0]].any():
            continue
        if _is_paint(image, mask, colour):
            return _to_the_edge(image, mask, colour, at[~positive])
    return None


def within(image: Image, box: Floats) -> Mask | None:
    """The paint of one colour that fills a box from side to side.

    Args:
        image: (H, W, 3) RGB.
        box: (4,) x0, y0, x1, y1 in pixels.

    Returns:
        (H, W) bool, or None where there is none.
    """
    x0, y0 = (int(v) for v in np.floor(box[:2]))
    x1, y1 = (int(v) for v in np.ceil(box[2:]))
    colour = _common(image[y0:y1, x0:x1])
    if colour is None:
        return None
    for tolerance in _TOLERANCES:
        near = _alike(image, colour, tolerance)
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=4)
        inside = np.bincount(pieces[y0:y1, x0:x1].ravel(), minlength=count)
        size = stats[:, cv2.CC_STAT_AREA]
        chosen = (inside > 0.97 * size) & (size >= 4)
        chosen[0] = False
        mask = chosen[pieces]
        if not mask.any():
            continue
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        shared = (min(x1, x + w) - max(x0, x)) * (min(y1, y + h) - max(y0, y))
        if shared / ((x1 - x0) * (y1 - y0) + w * h - shared) > _FILLS and _is_paint(
            image, mask, colour
        ):
            return _to_the_edge(image, mask, colour, np.zeros((0, 2), np.intp))
    return None


def _common(part: Image) -> npt.NDArray[np.int16] | None:
    """(3,) the most common colour, if it is common and neither dark nor bright."""
    if not part.size:
        return None
    r, g, b = (part[..., i].astype(np.int32) for i in range(3))
    codes, counts = np.unique((r << 16) | (g << 8) | b, return_counts=True)
    code, count = int(codes[counts.argmax()]), int(counts.max())
    colour = np.asarray([code >> 16, code >> 8 & 255, code & 255], np.int16)
    plain = count >= 0.08 * part.shape[0] * part.shape[1]
    return colour if plain and _DARK < colour.mean() < _BRIGHT else None


def _near(image: Image, colour: npt.NDArray[np.int16], levels: int) -> npt.NDArray[np.uint8]:
    low, high = (np.clip(colour + s * levels, 0, 255).astype(np.float64) for s in (-1, 1))
    return np.asarray(cv2.inRange(image, low, high), np.uint8)


def _alike(image: Image, colour: npt.NDArray[np.int16], levels: int) -> npt.NDArray[np.uint8]:
    """`_near`, close to what is quite plain: not what is only similar to paint."""
    plain = cv2.dilate(_near(image, colour, 1), np.ones((_CLOSE, _CLOSE), np.uint8))
    return np.asarray(_near(image, colour, levels) & plain, np.uint8)


def _labels(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    return np.asarray(cv2.connectedComponents(flags, connectivity=4)[1], np.int32)


def _to_the_edge(
    image: Image, mask: Mask, colour: npt.NDArray[np.int16], off: npt.NDArray[np.intp]
) -> Mask:
    """The mask (H, W) with what a codec left of the paint's colour at its edge.

    Small holes are closed but for those that a negative click (x, y) of `off` (N, 2) lies in.
    """
    kernel = np.ones((3, 3), np.uint8)
    near = _near(image, colour, _FRINGE) > 0
    for _ in range(_FRINGE_PX):
        mask = mask | (near & (cv2.dilate(mask.astype(np.uint8), kernel) > 0))
    mask = mask | (cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0)
    mask[off[:, 1], off[:, 0]] = False
    pieces = _labels((~mask).astype(np.uint8))
    small = np.bincount(pieces.ravel()) < _HOLE * mask.sum()
    small[pieces[off[:, 1], off[:, 0]]] = False
    return np.asarray(mask | (small[pieces] & (pieces > 0)))


def _is_paint(image: Image, mask: Mask, colour: npt.NDArray[np.int16]) -> bool:
    """Whether a mask (H, W) is large, of one colour, and ends where the picture changes."""
    area = int(mask.sum())
    if area < max(_LEAST_PX, _LEAST_SHARE * mask.size) or area > 0.8 * mask.size:
        return False
    if float((_near(image, colour, 1)[mask] > 0).mean()) < _PLAIN:
        return False
    kernel = np.ones((3, 3), np.uint8)
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    ring = cv2.dilate(closed, kernel, iterations=3) - cv2.dilate(closed, kernel, iterations=2)
    there = image[ring > 0].astype(np.int16)
    if not len(there):
        return False
    return bool((np.abs(there - colour).max(-1) >= _STEP).mean() > _CRISP)
