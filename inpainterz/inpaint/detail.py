"""Gives a fill that was made at a lower resolution the fine detail of its surroundings.

A network that saw a picture scaled down answers with one that has no detail finer than its own
pixels. What is too fine is known wherever the picture is: the difference between it and itself
scaled down and up again. For each block of the fill the block of the surroundings that looks most
alike at the low resolution is found, and its fine detail is added.

Source: Yi et al., Contextual Residual Aggregation for Ultra High-Resolution Image Inpainting,
CVPR 2020, section 3.3; here matched on the pictures themselves instead of a network's attention.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.types import Image, Mask

Floats: TypeAlias = npt.NDArray[np.float32]
Index: TypeAlias = npt.NDArray[np.intp]

BLOCK = 8
"""Side of a block in pixels of the low resolution; blocks of the fill overlap by half."""
CELLS = 4
"""A block is compared by its means over so many cells each way."""
REACH = 1.0
"""How far around a fill is looked for blocks, as a multiple of its longer side."""
LEAST_REACH = 6 * BLOCK
"""At least so far, pixels of the low resolution."""
MOST_SOURCES = 20_000
"""Blocks of the surroundings that are compared; of more, every second and so on."""
DISTANCE = 12.0
"""Levels, root mean square; blocks that differ by this lend a third of their detail."""
AT_ONCE = 1 << 22
"""Distances held at a time."""


def missing_detail(
    image: Image, hole: Mask, made: Floats, at: tuple[int, int], scale: float
) -> Floats:
    """What to add to a fill that was scaled up.

    Args:
        image: (H, W, 3) the frame; what lies in the hole is not looked at.
        hole: (H, W) bool, all that is not known.
        made: (h, w, 3) float32, 0..255, the fill scaled up, and what is around it.
        at: row and column of its corner in the frame.
        scale: pixels of the low resolution per pixel of the frame, below 1.

    Returns:
        (h, w, 3) float32, zero outside the hole and where nothing looks alike.
    """
    h, w = made.shape[:2]
    reach = math.ceil(max(REACH * max(h, w), LEAST_REACH / scale))
    top, left = max(0, at[0] - reach), max(0, at[1] - reach)
    bottom, right = min(hole.shape[0], at[0] + h + reach), min(hole.shape[1], at[1] + w + reach)
    around = np.s_[top:bottom, left:right]
    inside = np.s_[at[0] - top : at[0] - top + h, at[1] - left : at[1] - left + w]
    unknown = hole[around]
    known = image[around].astype(np.float32)
    whole = known.copy()
    whole[inside] = np.where(unknown[inside][..., None], made, known[inside])

    rows, columns = unknown.shape
    small = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    low = cv2.resize(whole, small, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(low, (columns, rows), interpolation=cv2.INTER_LANCZOS4)
    fine = np.asarray(known - coarse, np.float32)

    added = np.zeros_like(known)
    weight = np.zeros((rows, columns), np.float32)
    hidden = cv2.resize(unknown.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 1e-4
    pairs = _matches(np.asarray(low, np.float32), np.asarray(hidden, np.bool_))
    if pairs is not None:
        queries, sources, trust = pairs
        side = math.ceil(BLOCK / scale)
        ramp = np.sin(np.pi * (np.arange(side, dtype=np.float32) + 0.5) / side) ** 2
        window = np.asarray(np.outer(ramp, ramp), np.float32)
        steps = np.array([columns / small[0], rows / small[1]])[::-1]
        limit = np.array([rows - side, columns - side])
        asked = np.clip(np.rint(queries * steps).astype(int), 0, limit)
        found = np.clip(np.rint(sources * steps).astype(int), 0, limit)
        found = _refined(np.asarray(coarse, np.float32), asked, found, side, scale, unknown)
        for (y, x), (v, u), sure in zip(asked.tolist(), found.tolist(), trust, strict=True):
            added[y : y + side, x : x + side] += (sure * window)[..., None] * fine[
                v : v + side, u : u + side
            ]
            weight[y : y + side, x : x + side] += window
    result = added[inside] / np.maximum(weight[inside], 1e-6)[..., None]
    return np.asarray(result * unknown[inside][..., None], np.float32)


def _matches(low: Floats, hidden: Mask) -> tuple[Index, Index, Floats] | None:
    """For each block of the fill the block of the surroundings that looks most alike.

    Returns:
        corners (N, 2) of both in rows and columns of `low`, and how far to trust each, 0..1; None
        where there is nothing to lend or nobody to lend it to.
    """
    rows, columns = hidden.shape
    if rows < BLOCK or columns < BLOCK:
        return None
    touched = cv2.boxFilter(
        hidden.astype(np.float32), -1, (BLOCK, BLOCK), anchor=(0, 0), normalize=False,
        borderType=cv2.BORDER_CONSTANT,
    )[: rows - BLOCK + 1, : columns - BLOCK + 1] > 0.5  # fmt: skip
    sources = np.argwhere(~touched)
    starts = (np.arange(0, n - BLOCK + BLOCK // 2, BLOCK // 2) for n in (rows, columns))
    ys, xs = (np.minimum(s, n - BLOCK) for s, n in zip(starts, (rows, columns), strict=True))
    grid = np.stack(np.meshgrid(ys, xs, indexing="ij"), -1).reshape(-1, 2)
    queries = np.unique(grid[touched[grid[:, 0], grid[:, 1]]], axis=0)
    if not len(sources) or not len(queries):
        return None
    sources = sources[:: 1 + len(sources) // MOST_SOURCES]

    cell = BLOCK // CELLS
    means = cv2.boxFilter(
        low, -1, (cell, cell), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE
    )  # of the cell whose corner is here
    steps = np.arange(0, BLOCK, cell)

    def described(corners: Index) -> Floats:
        y = corners[:, 0, None, None] + steps[:, None]
        x = corners[:, 1, None, None] + steps
        return np.asarray(means[y, x].reshape(len(corners), -1), np.float32)

    there, wanted = described(sources), described(queries)
    square = (there**2).sum(1)
    best = np.empty(len(queries), np.intp)
    at_once = max(1, AT_ONCE // len(sources))
    for first in range(0, len(queries), at_once):
        part = slice(first, first + at_once)
        best[part] = (square - 2 * wanted[part] @ there.T).argmin(1)
    distance = ((wanted - there[best]) ** 2).mean(1)
    return queries, sources[best], np.asarray(np.exp(-distance / DISTANCE**2), np.float32)


def _refined(
    coarse: Floats, asked: Index, found: Index, side: int, scale: float, unknown: Mask
) -> Index:
    """The corners `found`, moved by less than a pixel of the low resolution to fit better."""
    grey = coarse.mean(-1)
    integral = cv2.integral(unknown.astype(np.uint8))
    span = np.arange(side)
    limit = np.array(unknown.shape) - side

    def blocks(corners: Index) -> Floats:
        y, x = corners[:, 0, None] + span, corners[:, 1, None] + span
        return np.asarray(grey[y[:, :, None], x[:, None]], np.float32)

    result = found.copy()
    lowest = np.full(len(asked), np.inf)
    radius = math.ceil(0.5 / scale)
    some = max(1, AT_ONCE // side**2)
    for first in range(0, len(asked), some):
        part = slice(first, first + some)
        wanted = blocks(asked[part])
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                moved = np.clip(found[part] + (dy, dx), 0, limit)
                y, x = moved[:, 0], moved[:, 1]
                lies_in = (
                    integral[y + side, x + side] - integral[y, x + side]
                    - integral[y + side, x] + integral[y, x]
                )  # fmt: skip
                error = ((blocks(moved) - wanted) ** 2).mean((1, 2))
                error[lies_in > 0] = np.inf
                better = error < lowest[part]
                lowest[part][better] = error[better]
                result[part][better] = moved[better]
    return result
