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
    shape = values.shape
    if shape[2:] == (1,):  # OpenCV drops a single channel
        values = values[..., 0]
    weight = known.astype(np.float32)
    field = np.asarray(_spread(weight, values) * values, np.float32)
    levels: list[tuple[Floats, Floats]] = [(field, weight)]
    while weight.size > 1 and not weight.all():
        h, w = weight.shape
        half = ((w + 1) // 2, (h + 1) // 2)
        pad = (0, 2 * half[1] - h, 0, 2 * half[0] - w, cv2.BORDER_CONSTANT)
        field, weight = (
            np.asarray(
                cv2.resize(cv2.copyMakeBorder(x, *pad), half, interpolation=cv2.INTER_AREA),
                np.float32,
            )
            for x in (field, weight)
        )
        levels.append((field, weight))
    result: Floats | None = None
    for field, weight in reversed(levels):
        mean = np.asarray(field / _spread(np.maximum(weight, 1e-6), field), np.float32)
        if result is None:
            result = mean
            continue
        fixed = (weight > 0).astype(np.uint8)
        result = cv2.resize(result, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        cv2.copyTo(mean, fixed, result)
        spare = np.empty_like(mean)
        for _ in range(sweeps):
            cv2.blur(result, (3, 3), spare, borderType=cv2.BORDER_REPLICATE)
            cv2.copyTo(mean, fixed, spare)
            result, spare = spare, result
    assert result is not None
    return np.asarray(result.reshape(shape), np.float32)


def _spread(weight: Floats, field: Floats) -> Floats:
    """A weight (h, w) in the shape that multiplies a field (h, w) or (h, w, c)."""
    return weight if field.ndim == 2 else weight[..., None]


def level_gap(a: Floats, b: Floats) -> Floats:
    """Mean absolute difference of two (H, W, 3) pictures over their channels, (H, W) float32."""
    gap = cv2.transform(cv2.absdiff(a, b), np.full((1, 3), 1 / 3, np.float32))
    return np.asarray(gap, np.float32)
