"""Smooth interpolation into a hole: of flow, of a step in exposure, of colour.

Sources: pull-push interpolation (Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4); the
membrane of seamless cloning (Perez et al., Poisson Image Editing, SIGGRAPH 2003, section 3).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.types import Mask

Floats = npt.NDArray[np.float32]


def diffuse(values: Floats, known: Mask, *, sweeps: int = 6) -> Floats:
    """Spread known values over unknown pixels, as smoothly as a stretched membrane.

    Coarse to fine: each level starts from the next coarser one and is relaxed towards the mean of
    its neighbours, so the cost does not grow with the size of the hole.

    Args:
        values: (H, W) or (H, W, C) float32; what stands at unknown pixels does not matter.
        known: (H, W) bool.
        sweeps: relaxations at each level.

    Returns:
        An array like `values`, equal to it where known; zero everywhere if nothing is known.
    """
    weight = known.astype(np.float32)
    flat = values.ndim == 2
    field = (values[..., None] if flat else values) * weight[..., None]
    levels: list[tuple[Floats, Floats]] = [(field, weight)]
    while min(weight.shape) > 1 or max(weight.shape) > 1:
        h, w = weight.shape
        half = ((w + 1) // 2, (h + 1) // 2)
        pad = (0, 2 * half[1] - h, 0, 2 * half[0] - w, cv2.BORDER_CONSTANT)
        field = _resize(cv2.copyMakeBorder(field, *pad), half)
        weight = cv2.resize(cv2.copyMakeBorder(weight, *pad), half, interpolation=cv2.INTER_AREA)
        levels.append((field, weight))
        if weight.min() > 0:
            break
    result: Floats | None = None
    for field, weight in reversed(levels):
        there = weight > 0
        mean = field / np.maximum(weight, 1e-6)[..., None]
        if result is None:
            result = np.asarray(mean, np.float32)
            continue
        h, w = weight.shape
        fixed = there.astype(np.uint8)
        result = cv2.resize(result, (w, h), interpolation=cv2.INTER_LINEAR).reshape(h, w, -1)
        result = cv2.copyTo(mean, fixed, result).reshape(h, w, -1)
        if there.all():
            continue
        for _ in range(sweeps):
            smooth = cv2.blur(result, (3, 3), borderType=cv2.BORDER_REPLICATE).reshape(h, w, -1)
            result = cv2.copyTo(mean, fixed, smooth).reshape(h, w, -1)
    assert result is not None
    return np.asarray(result[..., 0] if flat else result, np.float32)


def _resize(field: Floats, size: tuple[int, int]) -> Floats:
    resized = cv2.resize(field, size, interpolation=cv2.INTER_AREA)
    return np.asarray(resized.reshape(size[1], size[0], -1), np.float32)


def level_gap(a: Floats, b: Floats) -> Floats:
    """Mean absolute difference of two (H, W, 3) pictures over their channels, (H, W) float32."""
    gap = cv2.transform(cv2.absdiff(a, b), np.full((1, 3), 1 / 3, np.float32))
    return np.asarray(gap, np.float32)
