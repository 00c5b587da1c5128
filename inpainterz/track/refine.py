"""From an uncertain map of an object to a clean outline: minimal cut along the picture's edges."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.motion import squared

Map = npt.NDArray[np.floating[Any]]
"""(H, W), float32."""


def edge_weights(image: npt.NDArray[np.float32], *, floor: float = 0.05) -> tuple[Map, Map]:
    """What it costs an outline to pass between a pixel and its right and lower neighbour.

    Args:
        image: (H, W, C) float32, any colour space in which distance means contrast.
        floor: the cost along the strongest edges, 0..1.

    Returns:
        Two (H, W) maps, `floor`..1; the last column of the first and the last row of the second
        are 0 (there is no neighbour).
    """
    right = np.zeros(image.shape[:2], np.float32)
    down = np.zeros(image.shape[:2], np.float32)
    right[:, :-1] = squared(image[:, 1:] - image[:, :-1])
    down[:-1] = squared(image[1:] - image[:-1])
    beta = 1.0 / (right.mean() + down.mean() + 1e-6)  # as GrabCut: relative to the mean contrast
    right = floor + (1 - floor) * np.exp(-beta * right)
    down = floor + (1 - floor) * np.exp(-beta * down)
    right[:, -1] = 0
    down[-1] = 0
    return right, down


def cut(
    cost: Map, weights: tuple[Map, Map], start: Map, *, smoothness: float, iterations: int = 60
) -> Map:
    """The object whose outline and content together cost least, as a soft map.

    Minimises sum(cost * u) + smoothness * sum(weights * |grad u|) over 0 <= u <= 1, the convex
    form of the binary minimal cut (Chan, Esedoglu and Nikolova 2006), by the primal-dual method
    of Chambolle and Pock (2011, algorithm 1) with the anisotropic norm, so that thresholding u
    gives a minimal cut of the 4-connected grid.

    Args:
        cost: (H, W) float32, below 0 where a pixel looks like the object, above where not.
        weights: of `edge_weights`.
        start: (H, W) float32 0..1, a first guess, which saves iterations.
        smoothness: how much outline one unit of cost buys, in pixels.
        iterations: of the solver.

    Returns:
        (H, W) float32 0..1.
    """
    across, along = (smoothness * w for w in weights)
    around = across + along
    around[:, 1:] += across[:, :-1]
    around[1:] += along[:-1]
    out = np.zeros(cost.shape, np.float32)
    rows, columns = (np.flatnonzero((cost <= around).any(axis)) for axis in (1, 0))
    if not len(rows):
        return out
    # what costs more than all outline around it is surely not the object
    y0, y1 = max(0, rows[0] - 1), rows[-1] + 2
    x0, x1 = max(0, columns[0] - 1), columns[-1] + 2
    crop = np.s_[y0:y1, x0:x1]
    u = np.clip(start[crop], 0, 1).astype(np.float32)
    across, along = (np.ascontiguousarray(w[crop]) for w in (across, along))
    sigma = tau = np.float32(0.35)  # tau * sigma * |grad|^2 <= 1, |grad|^2 <= 8
    step = np.asarray(tau * cost[crop], np.float32)
    # flows are kept as tau times themselves, and everything is done in place
    across, along = tau * across[:, :-1], tau * along[:-1]
    less_x, less_y = -across, -along
    px, py = np.zeros_like(across), np.zeros_like(along)
    dx, dy = np.empty_like(px), np.empty_like(py)
    over, new = u.copy(), np.empty_like(u)
    for _ in range(iterations):
        for p, d, one, other, low, high in (
            (px, dx, over[:, 1:], over[:, :-1], less_x, across),
            (py, dy, over[1:], over[:-1], less_y, along),
        ):
            np.subtract(one, other, out=d)
            d *= sigma * tau
            p += d
            np.maximum(p, low, out=p)
            np.minimum(p, high, out=p)
        np.subtract(u, step, out=new)
        new[:, :-1] += px
        new[:, 1:] -= px
        new[:-1] += py
        new[1:] -= py
        np.maximum(new, 0, out=new)
        np.minimum(new, 1, out=new)
        np.multiply(new, 2, out=over)
        over -= u
        u, new = new, u
    out[crop] = u
    return out


def guided(guide: Map, values: Map, radius_px: int, epsilon: float) -> Map:
    """Smooth a map along the edges of a guide (guided filter, He, Sun and Tang 2010).

    Args:
        guide: (H, W) float32, 0..1.
        values: (H, W) float32.
        radius_px: half the window.
        epsilon: variance of the guide below which the map is plainly averaged.
    """
    size = (2 * radius_px + 1, 2 * radius_px + 1)

    def mean(x: Map) -> Map:
        return np.asarray(cv2.blur(x, size), np.float32)

    mean_guide, mean_values = mean(guide), mean(values)
    slope = (mean(guide * values) - mean_guide * mean_values) / (
        mean(guide * guide) - mean_guide * mean_guide + epsilon
    )
    offset = mean_values - slope * mean_guide
    return np.asarray(mean(slope) * guide + mean(offset), np.float32)
