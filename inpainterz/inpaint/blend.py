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
            result = mean
            continue
        h, w = weight.shape
        finer = cv2.resize(result, (w, h), interpolation=cv2.INTER_LINEAR).reshape(h, w, -1)
        result = np.where(there[..., None], mean, finer)
        if there.all():
            continue
        for _ in range(sweeps):
            smooth = cv2.blur(result, (3, 3), borderType=cv2.BORDER_REPLICATE).reshape(h, w, -1)
            result = np.where(there[..., None], mean, smooth)
    assert result is not None
    result = np.where(known[..., None], values[..., None] if flat else values, result)
    return np.asarray(result[..., 0] if flat else result, np.float32)


def _resize(field: Floats, size: tuple[int, int]) -> Floats:
    resized = cv2.resize(field, size, interpolation=cv2.INTER_AREA)
    return np.asarray(resized.reshape(size[1], size[0], -1), np.float32)
