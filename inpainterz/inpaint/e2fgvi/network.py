"""The generators of E2FGVI and E2FGVI-HQ, one network.

Sources: Li et al., "Towards An End-to-End Framework for Flow-Guided Video Inpainting", CVPR 2022
(the whole); Chan et al., "BasicVSR++", CVPR 2022 (second-order propagation, section 5 of its
paper); Yang et al., "Focal Self-attention", NeurIPS 2021 (attention); Liu et al., "FuseFormer",
ICCV 2021 (overlapping patches as tokens, and their mixing between the two linear layers).

Written from a description of the published checkpoints; parameter names are theirs, and so are
the deviations from the papers that their weights were trained with: each is marked "as trained".

Shapes: B clips, T frames of which the first L are consecutive ("local"), H x W pixels,
h x w = H/4 x W/4 features, n x m tokens, window 5 x 9 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from .flow import SPyNet, warp

CHANNELS = 128
HIDDEN = 512
HEADS = 4
BLOCKS = 8
MIXED = 40
"""Channels of the feed-forward's own overlapping patches."""
KERNEL, STRIDE, PADDING = 7, 3, 3
"""Of the patches that become tokens."""
WINDOW = (5, 9)
REACH = (2, 4)
"""How far attention looks beyond its window, in tokens; and in pooled windows."""
KEYS_AT_ONCE = 1 << 16
"""Keys and values gathered at a time, 8 KiB each in float32: bounds memory on large frames."""
OFFSET_GROUPS = 16
MAX_OFFSET = 10.0
"""Feature pixels that a deformable sample may move away from the flow."""
BASE_SIZE = (240, 432)
"""Pixels; the only size of the base model, its composition holds a map of that size."""

Flows = tuple[Tensor, Tensor]
"""Forward i to i+1 and backward i+1 to i, each (B, L-1, 2, h, w) in pixels of the h x w grid."""


@dataclass(frozen=True, slots=True)
class Config:
    """What differs between the two published models."""

    kind: str
    fixed_size: tuple[int, int] | None
    """(H, W) in pixels of the only size it takes; None: every size of the grid."""


BASE = Config("e2fgvi", BASE_SIZE)
HQ = Config("e2fgvi-hq", None)


def grid_sizes(axis: int, up_to: int) -> list[int]:
    """The sizes in pixels along `axis` (0 rows, 1 columns) that fill whole windows, ascending."""
    step = 4 * STRIDE * WINDOW[axis]
    return [
        n * step - less
        for n in range(1, up_to // step + 2)
        for less in (8, 4, 0)
        if n * step - less <= up_to
    ]


def fits(height: int, width: int) -> bool:
    """Whether a size in pixels divides into whole windows of tokens."""
    return (
        height % 4 == 0
        and width % 4 == 0
        and ((height // 4 + 2) // STRIDE) % WINDOW[0] == 0
        and ((width // 4 + 2) // STRIDE) % WINDOW[1] == 0
    )


class Encoder(nn.Module):
    """(N, 3, H, W) to (N, 128, h, w), each frame on its own."""

    def __init__(self) -> None:
        super().__init__()
        plan = (  # in, out, stride, groups
            (3, 64, 2, 1),
            (64, 64, 1, 1),
            (64, 128, 2, 1),
            (128, 256, 1, 1),
            (256, 384, 1, 1),
            (640, 512, 1, 2),
            (768, 384, 1, 4),
            (640, 256, 1, 8),
            (512, CHANNELS, 1, 1),
        )
        layers: list[nn.Module] = []
        for inputs, outputs, stride, groups in plan:
            layers.append(nn.Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        skip: Tensor | None = None
        for index in range(0, len(self.layers), 2):
            convolution, activation = self.layers[index], self.layers[index + 1]
            if index > 8:  # group i sees chunk i of the skip, then chunk i of the last output
                assert skip is not None and isinstance(convolution, nn.Conv2d)
                groups = convolution.groups
                joined = [torch.unflatten(y, 1, (groups, -1)) for y in (skip, x)]
                x = torch.cat(joined, 2).flatten(1, 2)
            x = activation(convolution(x))
            if index == 6:
                skip = x
        return x


class Upsample(nn.Module):
    """Twice the size, bilinear on corners, then a 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        out: Tensor = self.conv(x)
        return out


class Alignment(nn.Module):
    """Brings the features of the last two steps onto this one: deformable around the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(CHANNELS, 2 * CHANNELS, 3, 3))
        self.bias = nn.Parameter(torch.zeros(CHANNELS))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.conv_offset = nn.Sequential(
            nn.Conv2d(3 * CHANNELS + 4, CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, 27 * OFFSET_GROUPS, 3, padding=1),
        )

    def forward(self, value: Tensor, condition: Tensor, flow1: Tensor, flow2: Tensor) -> Tensor:
        """Sample `value` (B, 256, h, w) around two flows (B, 2, h, w) to (B, 128, h, w).

        Args:
            value: the features one step back and two steps back, neither warped.
            condition: (B, 384, h, w), both warped, with the encoder's features between.
            flow1: from here to one step back, (dx, dy).
            flow2: from here to two steps back.
        """
        raw = self.conv_offset(torch.cat((condition, flow1, flow2), 1))
        with torch.autocast(value.device.type, enabled=False):
            vertical, horizontal, modulation = raw.float().chunk(3, 1)
            offset = MAX_OFFSET * torch.tanh(torch.cat((vertical, horizontal), 1))
            # Each sample's offset is (dy, dx); the first half of the groups follows flow1.
            half = 9 * OFFSET_GROUPS // 2
            around = torch.cat(
                (
                    flow1.float().flip(1).repeat(1, half, 1, 1),
                    flow2.float().flip(1).repeat(1, half, 1, 1),
                ),
                1,
            )
            aligned: Tensor = deform_conv2d(
                value.float(),
                offset + around,
                self.weight.float(),
                self.bias.float(),
                padding=1,
                mask=torch.sigmoid(modulation),
            )
        return aligned.to(value.dtype)


class Propagation(nn.Module):
    """Carries features along the flow, backward in time first, then forward."""

    def __init__(self) -> None:
        super().__init__()
        directions = ("backward_", "forward_")
        self.deform_align = nn.ModuleDict({d: Alignment() for d in directions})
        self.backbone = nn.ModuleDict(
            {
                d: nn.Sequential(
                    nn.Conv2d((2 + i) * CHANNELS, CHANNELS, 3, padding=1),
                    nn.LeakyReLU(0.1, inplace=True),
                    nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
                )
                for i, d in enumerate(directions)
            }
        )
        self.fusion = nn.Conv2d(2 * CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor, flows: Flows) -> Tensor:
        """(B, L, 128, h, w) to the same, each frame having seen all others."""
        b, length = x.shape[:2]
        forward, backward = flows
        order = list(range(length))
        # As trained: time runs backward, yet its flows are taken first to last.
        results_back = self._pass("backward_", x, order[::-1], forward, None)
        back = torch.stack(results_back[::-1], 1)
        results = self._pass("forward_", x, order, backward, back)
        both = torch.cat((back, torch.stack(results, 1)), 2)  # (B, L, 256, h, w)
        return torch.unflatten(self.fusion(both.flatten(0, 1)), 0, (b, length)) + x

    def _pass(
        self, direction: str, x: Tensor, order: list[int], flows: Tensor, other: Tensor | None
    ) -> list[Tensor]:
        """Features after each step, in order of the steps, each (B, 128, h, w)."""
        align, backbone = self.deform_align[direction], self.backbone[direction]
        done: list[Tensor] = []
        nothing = x.new_zeros(x[:, 0].shape)
        for step, frame in enumerate(order):
            here = x[:, frame]
            aligned = nothing
            if step > 0:
                flow1 = flows[:, step - 1].float()
                last, before = done[-1], nothing
                flow2 = torch.zeros_like(flow1)
                warped_before = nothing
                if step > 1:
                    before = done[-2]
                    flow2 = flow1 + warp(flows[:, step - 2].float(), flow1)
                    warped_before = warp(before, flow2)
                condition = torch.cat((warp(last, flow1), here, warped_before), 1)
                aligned = align(torch.cat((last, before), 1), condition, flow1, flow2)
            parts = (here, aligned) if other is None else (here, other[:, frame], aligned)
            done.append(aligned + backbone(torch.cat(parts, 1)))
        return done


def token_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tokens of an h x w feature grid."""
    return (height + 2) // STRIDE, (width + 2) // STRIDE


def fold(columns: Tensor, size: tuple[int, int]) -> Tensor:
    """Add overlapping patches: (N, tokens, C*49) to (N, C, h, w)."""
    return F.fold(columns.transpose(1, 2), size, KERNEL, padding=PADDING, stride=STRIDE)


def unfold(features: Tensor) -> Tensor:
    """Take overlapping patches: (N, C, h, w) to (N, tokens, C*49)."""
    return F.unfold(features, KERNEL, padding=PADDING, stride=STRIDE).transpose(1, 2)


class SoftSplit(nn.Module):
    """Features to tokens: (N, 128, h, w) to (N, n, m, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(CHANNELS * KERNEL**2, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        # One frame at a time: patches of all frames at once are 49/9 times the features.
        tokens = torch.cat([self.embedding(unfold(frame[None])) for frame in x])
        return torch.unflatten(tokens, 1, token_grid(*x.shape[-2:]))


class SoftComposition(nn.Module):
    """Tokens to features: (N, n, m, 512) to (N, 128, h, w)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = nn.Linear(HIDDEN, CHANNELS * KERNEL**2)
        self.bias_conv: nn.Conv2d | None = None
        self.bias: nn.Parameter | None = None
        if config.fixed_size is None:
            self.bias_conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        else:
            h, w = (side // 4 for side in config.fixed_size)
            self.bias = nn.Parameter(torch.zeros(CHANNELS, h, w))

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        # As trained: the sum is not divided by how many patches cover a pixel.
        x = torch.cat([fold(self.embedding(frame[None]), size) for frame in tokens.flatten(1, 2)])
        if self.bias_conv is not None:
            out: Tensor = self.bias_conv(x)
            return out
        assert self.bias is not None
        return x + self.bias


def rolled_index() -> Tensor:
    """The 120 positions of the window's surroundings in its four copies shifted to a corner.

    45 * copy + 9 * row + column, int64, for copies shifted by (+-2, +-4); kept where they lie
    outside the window itself. Twelve tokens lie in two copies and count double, as trained.
    """
    kept = []
    for copy, (down, right) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        for row in range(WINDOW[0]):
            for column in range(WINDOW[1]):
                r, c = row + down * REACH[0], column + right * REACH[1]
                if not (0 <= r < WINDOW[0] and 0 <= c < WINDOW[1]):
                    kept.append(WINDOW[0] * WINDOW[1] * copy + WINDOW[1] * row + column)
    return torch.tensor(kept)


def neighbourhood(n: int, m: int) -> Tensor:
    """Which tokens each window attends to: (windows, 165) int64, row * m + column.

    First the window's own 45, row by row, then its 120 surroundings (`rolled_index`), which wrap
    around the n x m grid as trained.
    """
    window_rows, window_columns = WINDOW
    size = window_rows * window_columns
    shifts = torch.tensor([(r, c) for r in (REACH[0], -REACH[0]) for c in (REACH[1], -REACH[1])])
    index = rolled_index()
    copy, inside = index // size, index % size
    own = torch.arange(size)
    rows = torch.cat((own // window_columns, inside // window_columns + shifts[copy, 0]))
    columns = torch.cat((own % window_columns, inside % window_columns + shifts[copy, 1]))
    top = window_rows * torch.arange(n // window_rows)
    left = window_columns * torch.arange(m // window_columns)
    row = (top[:, None, None] + rows) % n
    column = (left[None, :, None] + columns) % m
    return (row * m + column).flatten(0, 1)


def pooled_neighbourhood(n_windows: int, m_windows: int) -> tuple[Tensor, Tensor]:
    """Which pooled windows each window attends to: (windows, K) int64 indices, and (windows, K)
    bool, True where there is one.

    As trained, cells outside the grid are zero keys with a logit of -100, whose weight is nothing
    beside any real key; so they are left out.
    """
    near: list[list[int]] = []
    for row in range(n_windows):
        for column in range(m_windows):
            near.append(
                [
                    r * m_windows + c
                    for r in range(max(0, row - REACH[0]), min(n_windows, row + REACH[0] + 1))
                    for c in range(max(0, column - REACH[1]), min(m_windows, column + REACH[1] + 1))
                ]
            )
    most = max(len(cells) for cells in near)
    index = torch.tensor([cells + [0] * (most - len(cells)) for cells in near])
    there = torch.tensor([[True] * len(cells) + [False] * (most - len(cells)) for cells in near])
    return index, there


@dataclass(frozen=True, slots=True, eq=False)
class Attended:
    """What each window attends to, the same in all blocks."""

    index: Tensor
    """(windows, K) int64 into the n * m tokens, row by row, with the pooled windows after them."""
    there: Tensor | None
    """(windows, K) bool, False where `index` only fills up; None if it nowhere does."""

    @staticmethod
    def of(n: int, m: int, device: torch.device) -> Attended:
        """For a grid of n x m tokens."""
        near = neighbourhood(n, m)
        far, far_there = pooled_neighbourhood(n // WINDOW[0], m // WINDOW[1])
        index = torch.cat((near, far + n * m), 1).to(device)
        if bool(far_there.all()):
            return Attended(index, None)
        there = torch.cat((torch.ones_like(near, dtype=torch.bool), far_there), 1)
        return Attended(index, there.to(device))


class FocalAttention(nn.Module):
    """Windows of tokens attend to their surroundings and to pooled windows, in all frames."""

    valid_ind_rolled: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("valid_ind_rolled", rolled_index())
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.proj = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x: Tensor, pooled: Tensor, queries: int, keys: Attended) -> Tensor:
        """(B, T, n, m, 512) and (B, T, n/5, m/9, 512) to (B, `queries`, n, m, 512).

        Only the first `queries` frames ask; all frames are seen.
        """
        b, t, n, m, _ = x.shape
        rows, columns = n // WINDOW[0], m // WINDOW[1]
        weight, bias = self.qkv.weight, self.qkv.bias

        q = F.linear(x[:, :queries], weight[:HIDDEN], bias[:HIDDEN])  # (B, Q, n, m, 512)
        q = q.view(b, queries, rows, WINDOW[0], columns, WINDOW[1], HEADS, -1)
        q = q.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(1, 2)  # (B, windows, heads, Q, 5, 9, 128)
        q = q.flatten(3, 5)  # (B, windows, heads, Q*45, 128)

        all_keys = torch.cat((x.flatten(2, 3), pooled.flatten(2, 3)), 2)
        kv = F.linear(all_keys, weight[HIDDEN:], bias[HIDDEN:])  # (B, T, n*m + windows, 1024)
        some = max(1, KEYS_AT_ONCE // (b * t * keys.index.shape[1]))
        done = []
        for first in range(0, rows * columns, some):
            part = slice(first, first + some)
            k, v = self._gather(kv, keys.index[part])
            mask = None
            if keys.there is not None:
                mask = keys.there[part, None].expand(-1, t, -1).flatten(1)  # (windows, T*K)
                mask = mask.repeat(b, 1)[:, None, None]
            asked = q[:, part].flatten(0, 1)
            found = F.scaled_dot_product_attention(asked, k, v, attn_mask=mask)
            done.append(torch.unflatten(found, 0, (b, -1)))
        out = torch.cat(done, 1).view(b, rows, columns, HEADS, queries, *WINDOW, -1)
        out = out.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(b, queries, n, m, HIDDEN)
        result: Tensor = self.proj(out)
        return result

    @staticmethod
    def _gather(kv: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of some windows, each (B*windows, heads, T*K, 128)."""
        gathered = kv[:, :, index]  # (B, T, windows, K, 1024)
        gathered = torch.unflatten(gathered, -1, (2, HEADS, -1))
        k, v = gathered.permute(4, 0, 2, 5, 1, 3, 6).flatten(1, 2).flatten(3, 4)
        return k, v


class MixingFeedForward(nn.Module):
    """Two linear layers; between them, overlapping patches are averaged where they meet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Linear(HIDDEN, MIXED * KERNEL**2))
        self.conv2 = nn.Sequential(nn.GELU(), nn.Linear(MIXED * KERNEL**2, HIDDEN))

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, n, m, 512) to the same; `size` is that of the features."""
        ones = x.new_ones((1, x.shape[1] * x.shape[2], KERNEL**2))
        cover = fold(ones, size)  # (1, 1, h, w)
        mixed = []
        for frame in x.flatten(1, 2):  # one at a time bounds memory
            patches = self.conv1(frame[None])
            mixed.append(self.conv2(unfold(fold(patches, size) / cover)))
        return torch.unflatten(torch.cat(mixed), 1, x.shape[1:3])


class Block(nn.Module):
    """One transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.pool_layers = nn.ModuleList([nn.Linear(WINDOW[0] * WINDOW[1], 1)])
        self.norm1 = nn.LayerNorm(HIDDEN)
        self.attn = FocalAttention()
        self.norm2 = nn.LayerNorm(HIDDEN)
        self.mlp = MixingFeedForward()

    def forward(self, x: Tensor, size: tuple[int, int], queries: int, keys: Attended) -> Tensor:
        """(B, T, n, m, 512) to (B, `queries`, n, m, 512)."""
        b, t, n, m, _ = x.shape
        y = self.norm1(x)
        windows = y.view(b, t, n // WINDOW[0], WINDOW[0], m // WINDOW[1], WINDOW[1], HIDDEN)
        windows = windows.permute(0, 1, 2, 4, 6, 3, 5).flatten(5)  # (B, T, rows, columns, 512, 45)
        pooled = self.pool_layers[0](windows).squeeze(-1)
        x = x[:, :queries] + self.attn(y, pooled, queries, keys)
        mixed = self.mlp(self.norm2(x).flatten(0, 1), size)
        out: Tensor = x + torch.unflatten(mixed, 0, (b, queries))
        return out


class Generator(nn.Module):
    """E2FGVI's generator; what depends on one frame or one pair alone can be asked for alone."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder()
        self.decoder = nn.Sequential(
            Upsample(CHANNELS, CHANNELS),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(CHANNELS, 64, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            Upsample(64, 64),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(64, 3, 3, padding=1),
        )
        self.feat_prop_module = Propagation()
        self.ss = SoftSplit()
        self.sc = SoftComposition(config)
        self.transformer = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.update_spynet = SPyNet()
        self._graphs = False

    def compile_parts(self, *, graphs: bool) -> None:
        """Compile encoder and decoder when they are first used.

        Args:
            graphs: CUDA graphs too, which save launching each kernel of the many small ones.
        """
        self._graphs = graphs
        for part in (self.encoder, self.decoder):
            if graphs:
                part.compile(mode="reduce-overhead")
            else:
                part.compile()

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError unless frames of this size can be taken."""
        if self.config.fixed_size not in (None, (height, width)) or not fits(height, width):
            wanted = (
                "60n, 60n-4 or 60n-8 rows and 108m, 108m-4 or 108m-8 columns"
                if self.config.fixed_size is None
                else "240 rows and 432 columns"
            )
            raise ValueError(f"{self.config.kind} takes {wanted}, not {height}x{width}")

    def encode(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1], 0 in the hole, to (N, 128, h, w)."""
        features: Tensor = self.encoder(frames)
        # The next run of a graph writes into the same memory, and features are kept.
        return features.clone() if self._graphs else features

    def quarter(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to what flow is computed from: (N, 3, h, w) in [0, 1]."""
        size = (frames.shape[-2] // 4, frames.shape[-1] // 4)
        return F.interpolate((frames.float() + 1) / 2, size, mode="bilinear", align_corners=True)

    def flow(self, a: Tensor, b: Tensor) -> Tensor:
        """Flow from `a` to `b`, both (N, 3, h, w) from `quarter`, to (N, 2, h, w) float32."""
        flow: Tensor = self.update_spynet(a, b)
        return flow

    def generate(
        self, local: Tensor, references: Tensor, flows: Flows, wanted: Sequence[int]
    ) -> Tensor:
        """The pictures of some frames of a window.

        Args:
            local: (B, L, 128, h, w), features of consecutive frames, L >= 1.
            references: (B, R, 128, h, w), features of other frames, R >= 0.
            flows: between the local frames.
            wanted: which of the L + R frames to make; the rest is only looked at.

        Returns:
            (B, len(wanted), 3, H, W) in [-1, 1].
        """
        b, size = local.shape[0], (local.shape[-2], local.shape[-1])
        features = torch.cat((self.feat_prop_module(local, flows), references), 1)
        t = features.shape[1]
        tokens = torch.unflatten(self.ss(features.flatten(0, 1)), 0, (b, t))  # (B, T, n, m, 512)
        keys = Attended.of(tokens.shape[2], tokens.shape[3], tokens.device)
        for block in self.transformer[:-1]:
            tokens = block(tokens, size, t, keys)
        # The order of frames means nothing to attention: put those that are asked for first, so
        # that the last block works for them alone.
        chosen = list(wanted)
        order = chosen + [i for i in range(t) if i not in set(chosen)]
        if order != list(range(t)):
            tokens, features = tokens[:, order], features[:, order]
        tokens = self.transformer[-1](tokens, size, len(chosen), keys)
        features = features[:, : len(chosen)].flatten(0, 1)
        features = features + self.sc(tokens.flatten(0, 1), size)
        out = torch.cat([torch.tanh(self.decoder(frame[None])) for frame in features])
        return torch.unflatten(out, 0, (b, len(chosen)))

    def forward(self, frames: Tensor, local: int) -> tuple[Tensor, Flows]:
        """Inpaint a window in one go, nothing taken from a cache.

        Args:
            frames: (B, T, 3, H, W) RGB in [-1, 1], 0 in the hole.
            local: L, how many of the first frames are consecutive, 1..T.

        Returns:
            (B*T, 3, H, W) in [-1, 1], and the flows between the local frames.

        Raises:
            ValueError: a size that does not divide into whole windows, or L outside 1..T.
        """
        b, t = frames.shape[:2]
        self.check_size(*frames.shape[-2:])
        if not 1 <= local <= t:
            raise ValueError(f"{local} local frames of {t}")
        features = torch.cat([self.encode(f[None]) for f in frames.flatten(0, 1)])
        features = torch.unflatten(features, 0, (b, t))
        small = torch.unflatten(self.quarter(frames[:, :local].flatten(0, 1)), 0, (b, local))
        a, z = small[:, :-1].flatten(0, 1), small[:, 1:].flatten(0, 1)
        if local > 1:
            forward, backward = self.flow(torch.cat((a, z)), torch.cat((z, a))).chunk(2)
        else:
            forward = backward = a[:, :2]
        pairs = (b, local - 1)
        flows = (torch.unflatten(forward, 0, pairs), torch.unflatten(backward, 0, pairs))
        out = self.generate(features[:, :local], features[:, local:], flows, range(t))
        return out.flatten(0, 1), flows
