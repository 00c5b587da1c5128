"""The three image encoders of DeAOT, cut at a sixteenth of the image's size.

Each returns four maps: at 1/4, 1/8 and 1/16 for the decoder, and the last one at 1/16 for the
propagation. Parameter names are those of the published files.

Sources:
    ResNet: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, table 1; the stride
        of a stage sits on the 3x3 convolution. Stages 1 to 3.
    MobileNet-V2: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018,
        table 2; output stride 16, the last stages dilated (Chen et al., arXiv 1706.05587).
    Swin: Liu et al., Swin Transformer, ICCV 2021, section 3. Stages 1 to 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Maps(NamedTuple):
    """What an encoder makes of an image (B, 3, h, w); h16 is ceil(h / 16) and so on."""

    quarter: Tensor
    """(B, C4, h4, w4)"""
    eighth: Tensor
    """(B, C8, h8, w8)"""
    sixteenth: Tensor
    """(B, C16, h16, w16)"""
    last: Tensor
    """(B, C, h16, w16); the same tensor as `sixteenth` but for MobileNet-V2."""


class FrozenNorm(nn.Module):
    """A batch norm whose statistics and affine part are constants (four buffers)."""

    eps = 1e-5

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            self.register_buffer(name, torch.full((channels,), value))
        for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift, each (C,)."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        scale, shift = self.affine()
        return x * scale[:, None, None] + shift[:, None, None]


def fold(conv: nn.Conv2d, norm: nn.Module) -> nn.Identity:
    """Move a frozen norm into the convolution before it, in place; changes rounding only.

    Returns:
        What stands in the norm's place from now on.
    """
    if not isinstance(norm, FrozenNorm):
        raise TypeError(f"expected a FrozenNorm, got {type(norm).__name__}")
    scale, shift = norm.affine()
    with torch.no_grad():
        conv.weight.mul_(scale[:, None, None, None])
        conv.bias = nn.Parameter(shift.clone(), requires_grad=False)
    return nn.Identity()


# ---------------------------------------------------------------- ResNet


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1: nn.Module = FrozenNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2: nn.Module = FrozenNorm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3: nn.Module = FrozenNorm(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), FrozenNorm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, 4 width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return F.relu(self.bn3(self.conv3(x)).add_(shortcut), inplace=True)

    def fold_norms(self) -> None:
        """Fold the three or four norms."""
        self.bn1 = fold(self.conv1, self.bn1)
        self.bn2 = fold(self.conv2, self.bn2)
        self.bn3 = fold(self.conv3, self.bn3)
        if self.downsample is not None:
            conv = self.downsample[0]
            assert isinstance(conv, nn.Conv2d)
            self.downsample[1] = fold(conv, self.downsample[1])


class ResNet(nn.Module):
    """ResNet-50 without its fourth stage."""

    channels = (256, 512, 1024, 1024)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1: nn.Module = FrozenNorm(64)
        self.layer1 = self._stage(64, 64, 3, 1)
        self.layer2 = self._stage(256, 128, 4, 2)
        self.layer3 = self._stage(512, 256, 6, 2)

    @staticmethod
    def _stage(inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
        first = Bottleneck(inputs, width, stride)
        return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(depth - 1)))

    def forward(self, x: Tensor) -> Maps:
        """(B, 3, h, w) normalised to the four maps."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (B, 64, h/2, w/2)
        quarter = self.layer1(F.max_pool2d(x, 3, 2, 1))
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        return Maps(quarter, eighth, sixteenth, sixteenth)

    def fold_norms(self) -> None:
        """Fold all norms into their convolutions."""
        self.bn1 = fold(self.conv1, self.bn1)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                module.fold_norms()


# ---------------------------------------------------------------- MobileNet-V2


class ConvNorm(nn.Sequential):
    """Convolution, frozen norm, ReLU6; the names are "0" and "1"."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1,
        groups: int = 1,
    ) -> None:  # fmt: skip
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
            FrozenNorm(outputs),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel, narrow linearly."""

    def __init__(self, inputs: int, outputs: int, expand: int, stride: int, dilation: int) -> None:
        super().__init__()
        width = inputs * expand
        parts: list[nn.Module] = [] if expand == 1 else [ConvNorm(inputs, width, 1)]
        parts.append(ConvNorm(width, width, 3, stride=stride, dilation=dilation, groups=width))
        parts += [nn.Conv2d(width, outputs, 1, bias=False), FrozenNorm(outputs)]
        self.conv = nn.Sequential(*parts)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y: Tensor = self.conv(x)
        return y.add_(x) if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNet-V2 at output stride 16."""

    channels = (24, 32, 96, 1280)

    # output channels, expansion, stride, dilation of features.1 to features.17
    blocks = (
        (16, 1, 1, 1),
        (24, 6, 2, 1), (24, 6, 1, 1),
        (32, 6, 2, 1), (32, 6, 1, 1), (32, 6, 1, 1),
        (64, 6, 2, 1), (64, 6, 1, 1), (64, 6, 1, 1), (64, 6, 1, 1),
        (96, 6, 1, 1), (96, 6, 1, 1), (96, 6, 1, 1),
        (160, 6, 1, 1), (160, 6, 1, 2), (160, 6, 1, 2),
        (320, 6, 1, 2),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [ConvNorm(3, 32, 3, stride=2)]
        inputs = 32
        for outputs, expand, stride, dilation in self.blocks:
            features.append(InvertedResidual(inputs, outputs, expand, stride, dilation))
            inputs = outputs
        features.append(ConvNorm(inputs, 1280, 1))
        self.features = nn.Sequential(*features)

    def forward(self, x: Tensor) -> Maps:
        """(B, 3, h, w) normalised to the four maps."""
        quarter = self.features[:4](x)
        eighth = self.features[4:7](quarter)
        sixteenth = self.features[7:14](eighth)
        return Maps(quarter, eighth, sixteenth, self.features[14:](sixteenth))

    def fold_norms(self) -> None:
        """Fold all norms into their convolutions."""
        for module in list(self.modules()):
            if isinstance(module, nn.Sequential):
                for at in range(len(module) - 1):
                    conv = module[at]
                    if isinstance(conv, nn.Conv2d):
                        module[at + 1] = fold(conv, module[at + 1])


# ---------------------------------------------------------------- Swin


WINDOW = 7
SHIFT = 3


def relative_position_index() -> Tensor:
    """Row of the bias table for each (query, key) of a window, (49, 49) int64."""
    y, x = torch.arange(WINDOW).repeat_interleave(WINDOW), torch.arange(WINDOW).repeat(WINDOW)
    dy, dx = y[:, None] - y + WINDOW - 1, x[:, None] - x + WINDOW - 1
    return dy * (2 * WINDOW - 1) + dx


def to_windows(x: Tensor) -> Tensor:
    """(B, H, W, C), sides multiples of 7, to (B n, 49, C), windows in row-major order."""
    b, h, w, c = x.shape
    x = x.view(b, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c).transpose(2, 3)
    return x.reshape(-1, WINDOW * WINDOW, c)


def from_windows(x: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `to_windows`: (B n, 49, C) to (B, h, w, C)."""
    x = x.view(-1, h // WINDOW, w // WINDOW, WINDOW, WINDOW, x.shape[-1])
    return x.transpose(2, 3).reshape(x.shape[0], h, w, x.shape[-1])


def region_bias(h: int, w: int, device: torch.device) -> Tensor:
    """What is added between tokens of a shifted map that are no neighbours: (n, 1, 49, 49).

    Each side of length P is cut at P - 7 and P - 3; tokens of different regions get -100.
    """
    rows, columns = (
        torch.bucketize(
            torch.arange(side, device=device),
            torch.tensor([side - WINDOW, side - SHIFT], device=device),
            right=True,
        )
        for side in (h, w)
    )
    regions = to_windows((3 * rows[:, None] + columns)[None, :, :, None])[..., 0]  # (n, 49)
    apart = regions[:, :, None] != regions[:, None, :]
    return torch.where(apart, -100.0, 0.0)[:, None]


class WindowAttention(nn.Module):
    """Attention within 7x7 windows with a learned bias for each offset."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index())
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, regions: Tensor | None) -> Tensor:
        """Windows (B n, 49, C) to the same; `regions` (n, 1, 49, 49) is added to the scores."""
        tokens = WINDOW * WINDOW
        q, k, v = self.qkv(x).view(len(x), tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index]  # (49, 49, heads)
        bias = bias.permute(2, 0, 1)[None]
        if regions is not None:
            bias = (bias + regions).repeat(len(x) // len(regions), 1, 1, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        z: Tensor = self.proj(y.transpose(1, 2).reshape(len(x), tokens, -1))
        return z


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class SwinBlock(nn.Module):
    """Window attention and MLP, each with a norm before and a sum after."""

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """(B, H, W, C) to the same; `regions` is that of the padded map."""
        _, h, w, _ = x.shape
        # Padded after the norm: padding tokens are zeros here, their q, k, v are the biases.
        y = F.pad(self.norm1(x), (0, 0, 0, -w % WINDOW, 0, -h % WINDOW))
        ph, pw = y.shape[1:3]
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self.attn(to_windows(y), regions if self.shift else None)
        y = from_windows(y, ph, pw)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y[:, :h, :w]
        z: Tensor = x + self.mlp(self.norm2(x))
        return z


class PatchMerging(nn.Module):
    """Half the size, twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        y: Tensor = self.reduction(self.norm(x))
        return y


class SwinStage(nn.Module):
    """Blocks that alternate between plain and shifted windows, then perhaps a merging."""

    def __init__(self, width: int, depth: int, heads: int, merge: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, SHIFT if i % 2 else 0) for i in range(depth)
        )
        self.downsample = PatchMerging(width) if merge else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) to the stage's output before and after merging."""
        h, w = (side + -side % WINDOW for side in x.shape[1:3])
        regions = region_bias(h, w, x.device)
        for block in self.blocks:
            x = block(x, regions)
        return x, x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Non-overlapping 4x4 patches to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, h / 4, w / 4, C)."""
        y: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return y


class Swin(nn.Module):
    """Swin-B without its fourth stage."""

    channels = (128, 256, 512, 512)

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(128)
        self.layers = nn.ModuleList(
            (
                SwinStage(128, 2, 4, merge=True),
                SwinStage(256, 2, 8, merge=True),
                SwinStage(512, 18, 16, merge=False),
            )
        )
        self.norm0 = nn.LayerNorm(128)
        self.norm1 = nn.LayerNorm(256)
        self.norm2 = nn.LayerNorm(512)

    def forward(self, x: Tensor) -> Maps:
        """(B, 3, h, w) normalised, sides multiples of 16, to the four maps."""
        x = self.patch_embed(x)
        maps = []
        for stage, norm in zip(self.layers, (self.norm0, self.norm1, self.norm2), strict=True):
            before, x = stage(x)
            maps.append(norm(before).permute(0, 3, 1, 2))  # (B, C, H, W), channels last in memory
        return Maps(maps[0], maps[1], maps[2], maps[2])

    def fold_norms(self) -> None:
        """Nothing to fold: layer norms depend on their input."""
