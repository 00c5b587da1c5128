"""The two attentions of a gated propagation module: over all memory, and within a window.

Source: Yang and Yang, Decoupling Features in Hierarchical Propagation for Video Object
Segmentation, NeurIPS 2022, section 4.2. One head, keys of 128 and values of 512 or more channels;
fused attention kernels want keys and values of one small width, so the products are written out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 7
SPAN = 2 * RADIUS + 1
TILE = 8
SIDE = TILE + 2 * RADIUS
SCORE_LIMIT = 2**22
"""Numbers in one block of scores; queries are taken in blocks above it. 16 MiB in fp32: as fast as
larger ones, and blocks about as large as what the allocator hands back to the system (32 MiB with
glibc) leave gaps in its heap that make a process grow."""

Correlate = Callable[..., Tensor]
"""`spatial_correlation_sampler.spatial_correlation_sample`, or what has its signature."""
LocalAttention = Callable[[Tensor, Tensor, Tensor, Tensor, tuple[int, int]], Tensor]
"""`attend_locally`, or what computes the same from the same: q, k, values, relative, size."""


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


def outside(h: int, w: int, device: torch.device) -> Tensor:
    """Which keys of a query's window fall off the map: (h, w, 15, 15) bool."""
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=device)
    y = torch.arange(h, device=device)[:, None] + offsets  # (h, 15)
    x = torch.arange(w, device=device)[:, None] + offsets  # (w, 15)
    off_y, off_x = (y < 0) | (y >= h), (x < 0) | (x >= w)
    return off_y[:, None, :, None] | off_x[None, :, None, :]


def to_tiles(x: Tensor, h: int, w: int) -> Tensor:
    """(B, h w, C) to (B, ty, tx, 64, C): 8x8 tiles, the map padded with zeros to whole tiles."""
    b, _, c = x.shape
    x = F.pad(x.view(b, h, w, c), (0, 0, 0, -w % TILE, 0, -h % TILE))
    ty, tx = -(-h // TILE), -(-w // TILE)
    return x.view(b, ty, TILE, tx, TILE, c).transpose(2, 3).reshape(b, ty, tx, TILE * TILE, c)


def from_tiles(x: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `to_tiles`: (B, ty, tx, 64, C) to (B, h w, C)."""
    b, ty, tx, _, c = x.shape
    x = x.view(b, ty, tx, TILE, TILE, c).transpose(2, 3).reshape(b, ty * TILE, tx * TILE, c)
    return x[:, :h, :w].reshape(b, h * w, c)


def surroundings(padded: Tensor, row: int) -> Tensor:
    """Of a map with a rim of zeros (B, H, W, C) those of one row of tiles: (B tx, 22 * 22, C)."""
    x = padded[:, row * TILE : row * TILE + SIDE]
    x = x.unfold(2, SIDE, TILE).permute(0, 2, 1, 4, 3)  # (B, tx, 22, 22, C), a view
    return x.reshape(-1, SIDE * SIDE, x.shape[-1])


def window_view(x: Tensor) -> Tensor:
    """Of scores (T, 64, 22 * 22) those within each query's window: (T, 8, 8, 15, 15), a view.

    Query (i, j) of a tile sees keys (i + a, j + b), 0 <= a, b < 15, of its surroundings.
    """
    query = SIDE * SIDE  # numbers from one query to the next
    strides = (TILE * TILE * query, TILE * query + SIDE, query + 1, SIDE, 1)
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
    bias = relative.view(b, h, w, SPAN, SPAN).masked_fill(outside(h, w, q.device), -torch.inf)
    # Padding queries have a bias of zero everywhere: no NaN, and they are cut off in the end.
    bias = to_tiles(bias.view(b, n, SPAN * SPAN), h, w)  # (B, ty, tx, 64, 225)
    q = q * c**-0.5
    rim = (0, 0, RADIUS, RADIUS + -w % TILE, RADIUS, RADIUS + -h % TILE)
    padded_values = F.pad(values.view(b, h, w, -1), rim)
    if correlate is None:
        queries = to_tiles(q, h, w)  # (B, ty, tx, 64, C)
        padded_keys = F.pad(k.view(b, h, w, c), rim)
    else:
        # In float32: not every build of it takes half precision, and some end the process then.
        maps = (x.float().transpose(1, 2).reshape(b, c, h, w).contiguous() for x in (q, k))
        scores = correlate(*maps, kernel_size=1, patch_size=SPAN)  # (B, 15, 15, h, w)
        correlated = to_tiles(scores.view(b, SPAN * SPAN, n).transpose(1, 2), h, w)
    found = []
    for row in range(bias.shape[1]):  # one row of tiles at a time stays in the processor's cache
        around = surroundings(padded_values, row)  # (B tx, 484, D)
        if correlate is None:
            keys = surroundings(padded_keys, row).transpose(1, 2)
            weights = torch.bmm(queries[:, row].flatten(0, 1), keys)  # (B tx, 64, 484)
            inside = window_view(weights).flatten(3).flatten(1, 2)  # a copy, (B tx, 64, 225)
            weights.zero_()
        else:
            inside = correlated[:, row].flatten(0, 1)
            weights = around.new_zeros(len(inside), TILE * TILE, SIDE * SIDE)
        inside = (inside + bias[:, row].flatten(0, 1)).softmax(-1)
        window_view(weights).copy_(inside.view(-1, TILE, TILE, SPAN, SPAN))
        y = torch.bmm(weights.to(around.dtype), around)
        found.append(y.view(b, -1, TILE * TILE, y.shape[-1]))
    return from_tiles(torch.stack(found, 1), h, w)
