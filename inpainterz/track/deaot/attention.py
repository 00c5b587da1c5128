"""The two attentions of a gated propagation module: over all memory, and within a window.

Source: Yang and Yang, Decoupling Features in Hierarchical Propagation for Video Object
Segmentation, NeurIPS 2022, section 4.2. One head, keys of 128 and values of 512 or more channels;
fused attention kernels want keys and values of one small width, so the products are written out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 7
SPAN = 2 * RADIUS + 1
TILE = 8
SCORE_LIMIT = 2**23
"""Numbers in one block of scores (32 MiB in fp32); queries are taken in blocks above it."""

Correlate = Callable[..., Tensor]
"""`spatial_correlation_sampler.spatial_correlation_sample`, or what has its signature."""


def attend(q: Tensor, k: Tensor, values: Tensor, frames: int = 0) -> tuple[Tensor, Tensor | None]:
    """Full attention, softmax(q k' / sqrt(C)) values, in blocks of queries.

    Args:
        q: (B, N, C)
        k: (B, M, C)
        values: (B, M, D)
        frames: in how many equal parts the keys fall; 0 = nobody asks.

    Returns:
        (B, N, D), and where `frames` is given (B, N, frames): how much of each query's attention
        went to each part, summing to 1.
    """
    q = q * q.shape[-1] ** -0.5
    keys = k.transpose(1, 2)
    step = max(1, SCORE_LIMIT // (k.shape[0] * k.shape[1]))
    found, shares = [], []
    for block in torch.split(q, step, 1):
        weights = torch.bmm(block, keys).softmax(-1)  # (B, step, M)
        if frames:
            shares.append(torch.unflatten(weights, -1, (frames, -1)).sum(-1))
        found.append(torch.bmm(weights.to(values.dtype), values))
    share = torch.cat(shares, 1) if frames else None
    return (found[0] if len(found) == 1 else torch.cat(found, 1)), share


@lru_cache(maxsize=16)
def outside(h: int, w: int, device: torch.device) -> Tensor:
    """Which keys of a query's window fall off the map: (h, w, 15, 15) bool."""
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=device)
    y = torch.arange(h, device=device)[:, None] + offsets  # (h, 15)
    x = torch.arange(w, device=device)[:, None] + offsets  # (w, 15)
    off_y, off_x = (y < 0) | (y >= h), (x < 0) | (x >= w)
    return off_y[:, None, :, None] | off_x[None, :, None, :]


def to_tiles(x: Tensor, h: int, w: int) -> Tensor:
    """(B, h w, C) to (B ty tx, 64, C): 8x8 tiles, the map padded with zeros to whole tiles."""
    b, _, c = x.shape
    x = F.pad(x.view(b, h, w, c), (0, 0, 0, -w % TILE, 0, -h % TILE))
    ty, tx = -(-h // TILE), -(-w // TILE)
    x = x.view(b, ty, TILE, tx, TILE, c).transpose(2, 3)
    return x.reshape(-1, TILE * TILE, c)


def from_tiles(x: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `to_tiles`: (B ty tx, 64, C) to (B, h w, C)."""
    ty, tx = -(-h // TILE), -(-w // TILE)
    x = x.view(-1, ty, tx, TILE, TILE, x.shape[-1]).transpose(2, 3)
    x = x.reshape(-1, ty * TILE, tx * TILE, x.shape[-1])[:, :h, :w]
    return x.reshape(len(x), h * w, -1)


def to_surroundings(x: Tensor, h: int, w: int) -> Tensor:
    """(B, h w, C) to (B ty tx, 22 * 22, C): each tile with a rim of 7, zeros off the map."""
    b, _, c = x.shape
    x = x.view(b, h, w, c)
    x = F.pad(x, (0, 0, RADIUS, RADIUS + -w % TILE, RADIUS, RADIUS + -h % TILE))
    side = TILE + 2 * RADIUS
    x = x.unfold(1, side, TILE).unfold(2, side, TILE)  # (B, ty, tx, C, 22, 22), a view
    return x.permute(0, 1, 2, 4, 5, 3).reshape(-1, side * side, c)


def window_view(x: Tensor) -> Tensor:
    """Of scores (T, 64, 22 * 22) those within each query's window: (T, 8, 8, 15, 15), a view.

    Query (i, j) of a tile sees keys (i + a, j + b), 0 <= a, b < 15, of its surroundings.
    """
    side = TILE + 2 * RADIUS
    key, query = 1, side * side
    strides = (TILE * TILE * query, TILE * query + side * key, query + key, side * key, key)
    return x.as_strided((len(x), TILE, TILE, SPAN, SPAN), strides)


def attend_locally(
    q: Tensor,
    k: Tensor,
    values: Tensor,
    relative: Tensor,
    size: tuple[int, int],
    correlate: Correlate | None = None,
) -> Tensor:
    """Attention of each token to the 15x15 tokens around it, with a bias for each offset.

    The map is cut into tiles of 8x8 queries, each with the 22x22 keys that its windows cover: a
    quarter of the products of a dense masked attention at 31x55 tokens, and no 225 shifted copies.
    The softmax runs over the window alone, through a strided view of the tile's scores.

    Args:
        q: (B, h w, C), row-major.
        k: (B, h w, C)
        values: (B, h w, D)
        relative: (B, h w, 225), the bias for key - query = (dy, dx) at (dy + 7) * 15 + dx + 7.
        size: (h, w)
        correlate: the compiled correlation, which then computes the scores; the weighted sum,
            eight ninths of the work, has no counterpart there.

    Returns:
        (B, h w, D)
    """
    h, w = size
    b, n, c = q.shape
    side = TILE + 2 * RADIUS
    bias = relative.view(b, h, w, SPAN, SPAN).masked_fill(outside(h, w, q.device), -torch.inf)
    # Padding queries have a bias of zero everywhere: no NaN, and they are cut off in the end.
    bias = to_tiles(bias.view(b, n, SPAN * SPAN), h, w)  # (T, 64, 225)
    q = q * c**-0.5
    around = to_surroundings(values, h, w)  # (T, 484, D)
    if correlate is None:
        scores = torch.bmm(to_tiles(q, h, w), to_surroundings(k, h, w).transpose(1, 2))
        inside = window_view(scores).flatten(3).flatten(1, 2)  # (T, 64, 225)
        weights = torch.zeros_like(scores)
    else:
        maps = (x.transpose(1, 2).reshape(b, c, h, w).contiguous() for x in (q, k))
        inside = correlate(*maps, kernel_size=1, patch_size=SPAN)  # (B, 15, 15, h, w)
        inside = to_tiles(inside.reshape(b, SPAN * SPAN, n).transpose(1, 2), h, w)
        weights = inside.new_zeros(len(inside), TILE * TILE, side * side)
    inside = (inside + bias).softmax(-1).to(weights.dtype)
    window_view(weights).copy_(inside.view(-1, TILE, TILE, SPAN, SPAN))
    return from_tiles(torch.bmm(weights.to(around.dtype), around), h, w)
