"""Runs golden files of E2FGVI over the project's own classes.

A golden file holds inputs, intermediate results and outputs of the published network on weights
that a rule makes (`e2fgvi_fixtures.py`); any other of that format can be run through these four.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inpainterz.inpaint.e2fgvi import published
from inpainterz.inpaint.e2fgvi.network import BASE, HQ, Flows, Generator

KINDS = {"e2fgvi": BASE, "e2fgvi_hq": HQ}


def build(kind: str, state_dict: Mapping[str, Tensor]) -> Generator:
    """The network of `kind` ("e2fgvi" or "e2fgvi_hq") with these weights; fp32, CPU, eval mode."""
    network = Generator(KINDS[kind])
    network.load_state_dict(dict(state_dict), strict=True)
    return network.float().cpu().eval()


def forward(net: Generator, x: Tensor, L: int) -> tuple[Tensor, Flows]:
    """Inpaint a window.

    Args:
        net: of `build`.
        x: (b, T, 3, H, W) float32 in [-1, 1], 0 in the hole.
        L: how many of the first frames are consecutive.

    Returns:
        (b*T, 3, H, W), and the flows forward and backward, each (b, L-1, 2, H/4, W/4).
    """
    with torch.inference_mode():
        out: tuple[Tensor, Flows] = net(x, L)
    return out


def spynet(net: Generator, a: Tensor, b: Tensor) -> Tensor:
    """Flow (1, 2, h, w) from `a` to `b`, both (1, 3, h, w) in [0, 1]."""
    with torch.inference_mode():
        return net.flow(a, b)


def inpaint(
    net: Generator, frames: npt.NDArray[np.uint8], holes: npt.NDArray[np.generic]
) -> npt.NDArray[np.uint8]:
    """The published sliding window, with its growing of the holes.

    Args:
        net: of `build`.
        frames: (n, h, w, 3) uint8 RGB.
        holes: (n, h, w), non-zero = hole, not yet grown.

    Returns:
        (n, h, w, 3) uint8.
    """
    return published.inpaint(net, frames, published.dilate(np.asarray(holes)))
