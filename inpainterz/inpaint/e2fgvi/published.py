"""The sliding window as the authors of E2FGVI published it, for comparison with our own engine.

Source: Li et al., CVPR 2022, section 4 (windows of neighbours and references every 10 frames), and
a description of what their evaluation computes. It holds a whole clip, looks at references from
all of it, decodes them for nothing, and blends overlaps in a way that depends on their order: the
engine does better, this says by how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from inpainterz.inpaint.windows import mirrored

from .network import Generator

NEIGHBOUR_STRIDE = 5
REFERENCE_STRIDE = 10
PAD_TO = (60, 108)
"""Frames are mirrored up to multiples of these, rows and columns."""

Images = npt.NDArray[np.uint8]
"""(N, H, W, 3) uint8 RGB."""
Holes = npt.NDArray[np.bool_]
"""(N, H, W) bool."""


@dataclass(frozen=True, slots=True)
class PublishedWindow:
    """The frames of one call of the network, by their number in the clip."""

    neighbours: tuple[int, ...]
    references: tuple[int, ...]


def schedule(count: int) -> list[PublishedWindow]:
    """All windows of a clip of `count` frames, in order."""
    found = []
    for centre in range(0, count, NEIGHBOUR_STRIDE):
        first = max(0, centre - NEIGHBOUR_STRIDE)
        neighbours = range(first, min(count - 1, centre + NEIGHBOUR_STRIDE) + 1)
        references = [i for i in range(0, count, REFERENCE_STRIDE) if i not in neighbours]
        found.append(PublishedWindow(tuple(neighbours), tuple(references)))
    return found


def dilate(holes: npt.NDArray[np.generic]) -> Holes:
    """Grow masks (N, H, W), non-zero = hole, by a diamond of radius 4, as published."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    grown = [cv2.dilate((hole > 0).astype(np.uint8), cross, iterations=4) for hole in holes]
    return np.asarray(np.stack(grown) > 0)


def inpaint(network: Generator, frames: Images, holes: Holes) -> Images:
    """Fill the holes of a clip with the published procedure.

    Args:
        network: in eval mode; its own device is used.
        frames: (N, H, W, 3) uint8 RGB.
        holes: (N, H, W) bool, as they are to be filled (see `dilate`).

    Returns:
        (N, H, W, 3) uint8; outside the holes equal to `frames`.

    Raises:
        ValueError: a size that the network does not take (the base model's is fixed).
    """
    device = next(network.parameters()).device
    count, height, width = holes.shape
    padded = [-(-side // step) * step for side, step in zip((height, width), PAD_TO, strict=True)]
    network.check_size(*padded)
    rows, columns = mirrored(height, padded[0]), mirrored(width, padded[1])
    result: list[npt.NDArray[np.float32] | Images | None] = [None] * count
    for window in schedule(count):
        chosen = [*window.neighbours, *window.references]
        hidden = _masked(frames[chosen], holes[chosen])[:, :, rows][:, :, :, columns]
        with torch.inference_mode():
            out, _ = network(torch.from_numpy(hidden)[None].to(device), len(window.neighbours))
            levels = (out[: len(window.neighbours), :, :height, :width].float().cpu() + 1) / 2
        made = (levels.numpy() * np.float32(255)).astype(np.uint8).transpose(0, 2, 3, 1)
        for i, picture in zip(window.neighbours, made, strict=True):
            candidate = np.where(holes[i][..., None], picture, frames[i])
            old = result[i]
            if old is None:
                result[i] = candidate
            else:  # a running mean: the last window weighs most
                half = np.float32(0.5)
                result[i] = old.astype(np.float32) * half + candidate.astype(np.float32) * half
    return np.stack([np.asarray(r).astype(np.uint8) for r in result])


def _masked(frames: Images, holes: Holes) -> npt.NDArray[np.float32]:
    """(N, 3, H, W) float32 in [-1, 1], 0 in the hole."""
    x = frames.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    x *= ~holes[..., None]
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
