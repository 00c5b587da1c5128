"""From the regions of an object to its pixels, in a crop around it.

A guided filter (He, Sun and Tang, PAMI 2013) gives each pixel the side that its colour has around
it; with the colours of the whole object and with motion this makes the odds of a cut through the
band of pixels around the coarse outline.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inpainterz.masks import grow
from inpainterz.segment import regions as rg
from inpainterz.segment.hypotheses import Judge
from inpainterz.segment.regions import Flags, Floats
from inpainterz.types import Image, Mask

_BINS = 24  # of each of L, a and b in the colour histograms
_LIMIT = 2.5  # log odds of a colour never exceed this


def refine(image: Image, judge: Judge, inside: Flags, crop_pixels: int) -> Mask:
    """The mask (H, W) at source size.

    Args:
        image: (H, W, 3) the source.
        judge, inside: the chosen regions of the reduced frame.
        crop_pixels: of the crop in which pixels are cut.
    """
    height, width = image.shape[:2]
    coarse = inside[judge.regions.labels].astype(np.float32)
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    mask = np.asarray(soft > 0.5)
    if not mask.any() or mask.all() or min(height, width) < 8:
        return mask
    x0, y0, w, h = cv2.boundingRect(mask.astype(np.uint8))
    pad = round(0.2 * max(w, h)) + 8
    top, left = max(0, y0 - pad), max(0, x0 - pad)
    bottom, right = min(height, y0 + h + pad), min(width, x0 + w + pad)
    zoom = min(1.0, (crop_pixels / ((bottom - top) * (right - left))) ** 0.5)
    size = max(1, round((right - left) * zoom)), max(1, round((bottom - top) * zoom))
    crop = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    prior = cv2.resize(soft[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    # as far as a superpixel may be wrong, in pixels of the crop
    cell = float(np.sqrt(judge.regions.area.mean())) * width / coarse.shape[1] * zoom
    core = np.asarray(prior > 0.5)
    moving = None
    if judge.map is not None:
        moving = odds_in(judge.map, np.s_[top:bottom, left:right], mask.shape, size)
    fine = cut_band(rg.lab_of(np.asarray(crop, np.uint8)), core, max(2.0, cell), moving)
    back = cv2.resize(
        fine.astype(np.float32), (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
    )
    out = np.zeros((height, width), np.bool_)
    out[top:bottom, left:right] = back > 0.5
    return out if out.any() else mask


def odds_in(
    odds: Floats, window: tuple[slice, slice], shape: tuple[int, ...], size: tuple[int, int]
) -> Floats:
    """A part of a map at another size.

    Args:
        odds: (h, w), the frame at any size.
        window: rows and columns of the frame.
        shape: (H, W) of the frame.
        size: (columns, rows) of the answer.
    """
    cut = []
    for part, whole, small in zip(window, shape, odds.shape, strict=True):
        first = int(part.start * small / whole)
        cut.append(slice(first, max(first + 1, round(part.stop * small / whole))))
    return np.asarray(
        cv2.resize(odds[tuple(cut)], size, interpolation=cv2.INTER_LINEAR), np.float32
    )


def cut_band(lab: Floats, core: Mask, reach_px: float, moving: Floats | None) -> Mask:
    """Cut anew where the coarse outline of an object may be wrong.

    Args:
        lab: (h, w, 3) CIE Lab.
        core: (h, w) bool, the coarse object.
        reach_px: how far its outline may be off.
        moving: (h, w) log odds of motion against the background, or None.

    Returns:
        (h, w) bool; equal to `core` beyond `reach_px` from its outline.
    """
    within = cv2.distanceTransform(core.astype(np.uint8), cv2.DIST_L2, 3)
    without = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, 3)
    signed = within - without + np.where(core, -0.5, 0.5)
    near = max(4.0, 4 * reach_px)
    fore, back = core, ~core & (without < 3 * near)
    if not fore.any() or not back.any():
        return core
    side = guided(lab, core.astype(np.float32), max(2, round(2.0 * reach_px)), 12.0)
    odds = 3.0 * np.clip(2 * side - 1, -1, 1) + 0.5 * colour_odds(lab, fore, back)
    odds += 1.2 * np.clip(signed / reach_px, -1, 1)
    if moving is not None and float(moving[core].mean()) > 0.3:
        odds += 0.4 * moving
    band = np.abs(signed) < 1.5 * reach_px
    index = np.full(core.shape, -1, np.int32)
    index[band] = np.arange(int(band.sum()))
    steps = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.7), (1, -1, 0.7))
    pairs, costs = [], []
    prefer = odds[band].astype(np.float32)
    typical = 0.0
    sets = []
    h, w = core.shape
    for dy, dx, weight in steps:
        a = np.s_[: h - dy, max(0, -dx) : w - max(0, dx)]
        b = np.s_[dy:, max(0, dx) : w - max(0, -dx)]
        squared = ((lab[a] - lab[b]) ** 2).sum(-1)
        sets.append((a, b, weight, squared))
        typical += float(squared.mean()) / len(steps)
    typical = max(typical, 4.0)
    for a, b, weight, squared in sets:
        cost = (weight * (2.5 * np.exp(-squared / (2 * typical)) + 0.1)).astype(np.float32)
        ia, ib = index[a], index[b]
        both = (ia >= 0) & (ib >= 0)
        pairs.append(np.stack([ia[both], ib[both]], -1))
        costs.append(cost[both])
        for i, other, m in (
            (ia, core[b], (ia >= 0) & (ib < 0)),
            (ib, core[a], (ib >= 0) & (ia < 0)),
        ):
            np.add.at(prefer, i[m], np.where(other[m], cost[m], -cost[m]))
    x = rg.cut(prefer, np.concatenate(pairs), np.concatenate(costs))
    out = core.copy()
    out[band] = x
    return out


def colour_odds(lab: Floats, fore: Mask, back: Mask) -> Floats:
    """(h, w) log odds of each pixel's colour, from smoothed histograms of two regions."""
    bins = np.stack(
        [
            lab[..., 0] * (_BINS / 100),
            (lab[..., 1] + 110) * (_BINS / 220),
            (lab[..., 2] + 110) * (_BINS / 220),
        ],
        -1,
    )
    # chroma fills only the middle of its range
    bins[..., 1:] = (bins[..., 1:] - _BINS / 2) * 2 + _BINS / 2
    cell = np.clip(bins, 0, _BINS - 1).astype(np.int32)
    flat = (cell[..., 0] * _BINS + cell[..., 1]) * _BINS + cell[..., 2]
    odds = []
    for region in (fore, back):
        cube = np.bincount(flat[region], minlength=_BINS**3).reshape(_BINS, _BINS, _BINS)
        share = ndimage.gaussian_filter(cube.astype(np.float32) / max(1, int(region.sum())), 1.0)
        odds.append(np.log(share.ravel()[flat] + 1e-4))
    return np.asarray(np.clip(odds[0] - odds[1], -_LIMIT, _LIMIT), np.float32)


def guided(lab: Floats, values: Floats, radius: int, softness: float) -> Floats:
    """`values` (h, w) as local linear functions of colour within windows of `radius`.

    Args:
        lab: (h, w, 3) the guide.
        softness: variance of a Lab channel that counts as flat.
    """
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(x: Floats) -> Floats:
        return np.asarray(cv2.blur(x, window, borderType=cv2.BORDER_REFLECT), np.float32)

    m = mean(lab)
    p = mean(values)
    covariance = mean(lab * values[..., None]) - m * p[..., None]
    products = np.stack([lab[..., i] * lab[..., j] for i in range(3) for j in range(i, 3)], -1)
    second = np.concatenate([mean(products[..., :3]), mean(products[..., 3:])], -1)
    k = 0
    sigma = np.empty((*values.shape, 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            sigma[..., i, j] = sigma[..., j, i] = second[..., k] - m[..., i] * m[..., j]
            k += 1
    sigma += softness * np.eye(3, dtype=np.float32)
    a = np.linalg.solve(sigma, covariance[..., None])[..., 0].astype(np.float32)
    b = p - (a * m).sum(-1)
    return np.asarray((mean(a) * lab).sum(-1) + mean(b), np.float32)


def fit_box(mask: Mask, box: Floats) -> Mask:
    """Grow a mask a little towards a box that is wider on all sides, and keep it inside.

    The growth is the mean of the two smallest gaps between mask and box: where a part is missed,
    the gap is larger. A box is drawn with some margin whether its object has soft edges or not, so
    the growth is at most 0.6 % of the frame's diagonal and 6 % of the object's size.

    Args:
        mask: (H, W) bool.
        box: (4,) x0, y0, x1, y1 in pixels.
    """
    height, width = mask.shape
    x0, y0, x1, y1 = (float(v) for v in box)
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    free = (x0 > 0, y0 > 0, x1 < width, y1 < height)  # a frame's own side says nothing
    gaps = sorted(
        gap for gap, f in zip((x - x0, y - y0, x1 - x - w, y1 - y - h), free, strict=True) if f
    )
    if gaps and w:
        most = min(0.006 * float(np.hypot(height, width)), 0.06 * float(mask.sum()) ** 0.5)
        gap = sum(max(0.0, gap) for gap in gaps[:2]) / len(gaps[:2])
        mask = grow(mask, round(min(gap, most)))
    return in_box(mask, box)


def in_box(mask: Mask, box: Floats) -> Mask:
    """What of a mask (H, W) lies in a box, the whole box if nothing does."""
    x0, y0, x1, y1 = (float(v) for v in box)
    inside = np.zeros_like(mask)
    left, top = int(np.floor(x0)), int(np.floor(y0))
    inside[top : int(np.ceil(y1)), left : int(np.ceil(x1))] = True
    kept = mask & inside
    return kept if kept.any() else inside


def keep_clicks(mask: npt.NDArray[np.bool_], points: Floats, positive: Flags) -> None:
    """Put every positive click inside and every negative one outside, in place."""
    radius = max(1, round(0.004 * max(mask.shape)))
    at = points.astype(np.intp)
    for (x, y), on in zip(at, positive, strict=True):
        mask[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = on
    for (x, y), on in zip(at, positive, strict=True):
        mask[y, x] = on
