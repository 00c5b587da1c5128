"""From the regions of an object to its pixels: GrabCut in a band of a crop around it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.segment.hypotheses import Judge
from inpainterz.segment.regions import Flags, Floats
from inpainterz.types import Image, Mask


def refine(image: Image, judge: Judge, inside: Flags, crop_pixels: int) -> Mask:
    """The mask (H, W) at source size.

    Args:
        image: (H, W, 3) the source.
        judge, inside: the chosen regions of the reduced frame.
        crop_pixels: pixels of the crop that GrabCut may take.
    """
    height, width = image.shape[:2]
    coarse = inside[judge.regions.labels].astype(np.float32)
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    mask = np.asarray(soft > 0.5)
    if not mask.any() or min(height, width) < 8:
        return mask
    x0, y0, w, h = cv2.boundingRect(mask.astype(np.uint8))
    pad = round(0.25 * max(w, h)) + 8
    top, left = max(0, y0 - pad), max(0, x0 - pad)
    bottom, right = min(height, y0 + h + pad), min(width, x0 + w + pad)
    shrink = min(1.0, (crop_pixels / ((bottom - top) * (right - left))) ** 0.5)
    size = max(1, round((right - left) * shrink)), max(1, round((bottom - top) * shrink))
    crop = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    prior = cv2.resize(soft[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    band = max(2, round(0.06 * float((prior > 0.5).sum()) ** 0.5))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    core = prior > 0.5
    sure = cv2.erode(core.astype(np.uint8), kernel) > 0
    may = cv2.dilate(core.astype(np.uint8), kernel) > 0
    if not sure.any() or may.all() or not core.any():
        return mask
    trimap = np.full(core.shape, cv2.GC_BGD, np.uint8)
    trimap[may] = cv2.GC_PR_BGD
    trimap[core] = cv2.GC_PR_FGD
    trimap[sure] = cv2.GC_FGD
    cv2.setRNGSeed(7)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(crop, trimap, None, models[0], models[1], 1, cv2.GC_INIT_WITH_MASK)
    fine = ((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)).astype(np.float32)
    back = cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((height, width), np.bool_)
    out[top:bottom, left:right] = back > 0.5
    return out


def keep_clicks(mask: npt.NDArray[np.bool_], points: Floats, positive: Flags) -> None:
    """Put every positive click inside and every negative one outside, in place."""
    radius = max(1, round(0.004 * max(mask.shape)))
    at = points.astype(np.intp)
    for (x, y), on in zip(at, positive, strict=True):
        mask[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = on
    for (x, y), on in zip(at, positive, strict=True):
        mask[y, x] = on
