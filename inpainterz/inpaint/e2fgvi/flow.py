"""Flow between two images with holes: SPyNet, and backward warping.

Sources: Ranjan and Black, "Optical Flow Estimation using a Spatial Pyramid Network", CVPR 2017
(the network); Li et al., "Towards An End-to-End Framework for Flow-Guided Video Inpainting",
CVPR 2022, section 3.1 (fine-tuned on images with holes, it completes flow inside them).

Written from a description of the published checkpoints; parameter names are theirs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 6
"""Pyramid levels; the coarsest is 1/32 of the padded image."""
MULTIPLE = 2 ** (LEVELS - 1)


def warp(x: Tensor, flow: Tensor, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Sample `x` bilinearly at p + flow[p], in float32: a half-precision grid is too coarse.

    Args:
        x: (B, C, h, w).
        flow: (B, 2, h, w), (dx, dy) in pixels.
        padding: what lies outside `x`.

    Returns:
        (B, C, h, w) in the dtype of `x`.
    """
    h, w = x.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):
        flow = flow.float()
        columns = torch.arange(w, device=x.device, dtype=torch.float32)
        rows = torch.arange(h, device=x.device, dtype=torch.float32)[:, None]
        grid = torch.stack(  # (B, h, w, 2), -1 and 1 are the centres of the outermost pixels
            (
                2 * (columns + flow[:, 0]) / max(w - 1, 1) - 1,
                2 * (rows + flow[:, 1]) / max(h - 1, 1) - 1,
            ),
            -1,
        )
        out = F.grid_sample(x.float(), grid, "bilinear", padding, align_corners=True)
    return out.to(x.dtype)


class ConvLayer(nn.Module):
    """One 7x7 convolution; the level around it is where the ReLU is."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Level(nn.Module):
    """Residual flow of one pyramid level: (B, 8, h, w) to (B, 2, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        channels = (8, 32, 64, 32, 16, 2)
        self.basic_module = nn.ModuleList(ConvLayer(a, b) for a, b in pairwise(channels))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.basic_module[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.basic_module[-1](x)
        return out


class SPyNet(nn.Module):
    """Coarse-to-fine flow; always computed in float32."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(Level() for _ in range(LEVELS))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Flow from `a` to `b`: b(p + flow[p]) looks like a(p).

        Args:
            a, b: (B, 3, h, w) RGB in [0, 1], any size.

        Returns:
            (B, 2, h, w) float32, (dx, dy) in pixels.
        """
        with torch.autocast(a.device.type, enabled=False):
            return self._pyramid(a.float(), b.float())

    def _pyramid(self, a: Tensor, b: Tensor) -> Tensor:
        h, w = a.shape[-2:]
        full = (-(-h // MULTIPLE) * MULTIPLE, -(-w // MULTIPLE) * MULTIPLE)
        if full != (h, w):
            a, b = (F.interpolate(x, full, mode="bilinear", align_corners=False) for x in (a, b))
        pyramid = [((a - self.mean) / self.std, (b - self.mean) / self.std)]
        for _ in range(LEVELS - 1):
            pyramid.append((F.avg_pool2d(pyramid[-1][0], 2), F.avg_pool2d(pyramid[-1][1], 2)))

        coarse_a, coarse_b = pyramid.pop()
        flow = coarse_a.new_zeros((a.shape[0], 2, *coarse_a.shape[-2:]))
        # Warping by zero flow is the identity, so the first level takes b as it is.
        flow = self.basic_module[0](torch.cat((coarse_a, coarse_b, flow), 1))
        for level in self.basic_module[1:]:
            fine_a, fine_b = pyramid.pop()
            up = 2 * F.interpolate(flow, fine_a.shape[-2:], mode="bilinear", align_corners=True)
            flow = up + level(torch.cat((fine_a, warp(fine_b, up, "border"), up), 1))

        if full != (h, w):
            flow = F.interpolate(flow, (h, w), mode="bilinear", align_corners=False)
            flow = flow * flow.new_tensor((w / full[1], h / full[0])).view(1, 2, 1, 1)
        return flow
