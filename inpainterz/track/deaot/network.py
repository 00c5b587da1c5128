"""DeAOT: decoupled propagation of what things look like and of which object they are.

Source: Yang and Yang, Decoupling Features in Hierarchical Propagation for Video Object
Segmentation, NeurIPS 2022, sections 4.1 to 4.3. Where the paper's figures and the published
checkpoints differ, this follows the checkpoints: parameter names and shapes are theirs.

Objects go through the network in groups of at most ten; G is the number of groups that are
computed together. N = h16 * w16 tokens, row-major. What does not depend on the objects (the image,
and queries, keys and visual values of the first layer) is computed once for all groups: batch 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpainterz.track.deaot.attention import SPAN, LocalAttention, attend, attend_locally
from inpainterz.track.deaot.encoders import Maps, MobileNetV2, ResNet, Swin

GROUP = 10
"""Objects that one run of the propagation can tell apart."""
IDENTITIES = GROUP + 1
"""With the background."""
EMBED = 256
KEY = 128
VALUE = 512
"""Of one branch; the two together are twice as wide."""
STRIDE = 16


@dataclass(frozen=True, slots=True)
class Variant:
    """What tells the published networks apart."""

    name: str
    encoder: Literal["mobilenet", "resnet", "swin"]
    layers: int
    memory_gap_frames: int
    """Every how many frames one is added to the long-term memory, as published."""
    align_corners: bool
    """Input sides are 16 k + 1 and maps are resized corner to corner; else 16 k."""


VARIANTS: Mapping[str, Variant] = {
    v.name: v
    for v in (
        Variant("deaott", "mobilenet", 1, 9999, align_corners=True),
        Variant("deaots", "mobilenet", 2, 9999, align_corners=True),
        Variant("deaotb", "mobilenet", 3, 9999, align_corners=True),
        Variant("deaotl", "mobilenet", 3, 5, align_corners=True),
        Variant("r50_deaotl", "resnet", 3, 5, align_corners=True),
        Variant("swinb_deaotl", "swin", 3, 5, align_corners=False),
    )
}


class Features(NamedTuple):
    """What the network keeps of one image."""

    maps: Maps
    tokens: Tensor
    """(1, N, 256)"""
    size: tuple[int, int]
    """h16, w16"""


class LayerMemory(NamedTuple):
    """What one layer remembers of one frame, or of several: M frames side by side, M N tokens.

    The values are the visual ones, then the identities of each group in the batch: in the first
    layer, where keys and visual values are the same for all groups, B is 1 and D is 512 + 512 G;
    in the others B is G and D is 1024.
    """

    keys: Tensor
    """(B, M N, 128)"""
    values: Tensor
    """(B, M N, D)"""


class Seen(NamedTuple):
    """What one layer saw in a frame; a memory as soon as its identities are known."""

    keys: Tensor
    """(B, N, 128)"""
    visual: Tensor
    """(B, N, 512)"""
    state: Tensor | None
    """(G, N, 256), the normed identity state before the layer; None in the first."""


class Propagated(NamedTuple):
    """The result of all layers for one frame."""

    out: Tensor
    """(G, 512, h16, w16), for the decoder."""
    seen: list[Seen]
    share: Tensor | None
    """(G, N, M): how much of each token's attention went to each frame of the long-term memory,
    in the last layer; None unless asked for."""


Gates: TypeAlias = tuple[Tensor, Tensor | None]
"""Of the visual and the identity half, (B, N, 512) each; None for one that is open."""


def both(visual: Tensor, identity: Tensor) -> Tensor:
    """(B, N, V) and (G, N, I) with B = 1 or G to (G, N, V + I)."""
    return torch.cat([visual.expand(len(identity), -1, -1), identity], -1)


class DepthwiseConv(nn.Module):
    """5x5 convolution of each channel over the token map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 5, 1, 2, groups=width, bias=False)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(G, N, C) to the same; tokens of a map are a map whose channels come last in memory."""
        y: Tensor = self.conv(torch.unflatten(x, 1, size).permute(0, 3, 1, 2))  # (G, C, h16, w16)
        return y.permute(0, 2, 3, 1).flatten(1, 2)


class Output(nn.Module):
    """What follows each attention: the gate, a depth-wise convolution, a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.dw_conv = DepthwiseConv(2 * VALUE)
        self.projection = nn.Linear(2 * VALUE, 2 * EMBED)

    def forward(self, y: Tensor, gates: Gates, size: tuple[int, int]) -> Tensor:
        """(G, N, 1024), which is gated in place, to (G, N, 512): visual half, identity half."""
        y[..., :VALUE].mul_(gates[0])
        if gates[1] is not None:
            y[..., VALUE:].mul_(gates[1])
        z: Tensor = self.projection(self.dw_conv(y, size))
        return z


class ShortTerm(Output):
    """The output stage of the local attention, with its bias for each offset."""

    def __init__(self) -> None:
        super().__init__()
        self.relative_emb_k = nn.Conv2d(KEY, SPAN * SPAN, 1)

    def relative(self, q: Tensor) -> Tensor:
        """From the unscaled queries (B, N, 128) to (B, N, 225)."""
        return F.linear(q, self.relative_emb_k.weight.flatten(1), self.relative_emb_k.bias)


class SelfAttention(Output):
    """Attention of a frame to itself, both branches scored together."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_QK = nn.Linear(2 * EMBED, KEY)
        self.linear_V1 = nn.Linear(EMBED, VALUE)
        self.linear_V2 = nn.Linear(EMBED, VALUE)
        self.linear_U1 = nn.Linear(EMBED, VALUE)
        self.linear_U2 = nn.Linear(EMBED, VALUE)

    def attend(self, visual: Tensor, identity: Tensor, size: tuple[int, int]) -> Tensor:
        """Two normed states (G, N, 256) to (G, N, 512)."""
        qk = self.linear_QK(torch.cat([visual, identity], -1))
        v = F.silu(torch.cat([self.linear_V1(visual), self.linear_V2(identity)], -1))
        gates = F.silu(self.linear_U1(visual)), F.silu(self.linear_U2(identity))
        z: Tensor = self(attend(qk, qk, v)[0], gates, size)
        return z


class GatedPropagation(nn.Module):
    """One gated propagation module (section 4.2)."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.norm1 = nn.LayerNorm(EMBED)
        self.linear_QV = nn.Linear(EMBED, KEY + VALUE)
        self.linear_U = nn.Linear(EMBED, VALUE)
        if first:
            self.linear_ID_V = nn.Linear(EMBED, VALUE)
        else:
            self.id_norm1 = nn.LayerNorm(EMBED)
            self.linear_ID_V = nn.Linear(2 * EMBED, VALUE)
            self.linear_ID_U = nn.Linear(EMBED, VALUE)
        self.long_term_attn = Output()
        self.short_term_attn = ShortTerm()
        self.norm2 = nn.LayerNorm(EMBED)
        self.id_norm2 = nn.LayerNorm(EMBED)
        self.self_attn = SelfAttention()

    def remember(self, seen: Seen, identity: Tensor) -> LayerMemory:
        """Complete what was seen with the identity embedding (G, N, 256)."""
        given = identity if seen.state is None else torch.cat([seen.state, identity], -1)
        value = F.silu(self.linear_ID_V(given))  # (G, N, 512)
        if self.first:  # the groups side by side
            value = value.transpose(0, 1).flatten(1)[None]  # (1, N, 512 G)
        return LayerMemory(seen.keys, torch.cat([seen.visual, value], -1))

    def _groups(self, y: Tensor, groups: int) -> Tensor:
        """Attention's result in the layout of the memory, to (G, N, 1024)."""
        if not self.first or groups == 1:
            return y
        visual, identity = y[..., :VALUE], y[0, :, VALUE:]
        return both(visual, torch.unflatten(identity, 1, (groups, VALUE)).transpose(0, 1))

    def forward(
        self,
        visual: Tensor,
        state: Tensor | None,
        memory: tuple[LayerMemory, LayerMemory] | Tensor,
        groups: int,
        size: tuple[int, int],
        frames: int = 0,
        local: LocalAttention = attend_locally,
    ) -> tuple[Tensor, Tensor, Seen, Tensor | None]:
        """One layer.

        Args:
            visual: (1, N, 256) in the first layer, (G, N, 256) in the others.
            state: (G, N, 256), None in the first layer (zero).
            memory: long-term and short-term; or the identity embedding (G, N, 256) of the frame
                itself, which then is its own memory.
            groups: G
            size: h16, w16
            frames: of the long-term memory, when the shares of the attention are asked for.
            local: how the short-term memory is attended to.

        Returns:
            visual and identity state after the layer, (G, N, 256) each, what the layer saw, and
            the shares (B, N, frames).
        """
        a = self.norm1(visual)
        q, v = self.linear_QV(a).split((KEY, VALUE), -1)
        v = F.silu(v)
        u = F.silu(self.linear_U(a))
        if self.first:
            b = None
            gates: Gates = (u, None)
        else:
            b = self.id_norm1(state)
            gates = (u, F.silu(self.linear_ID_U(b)))
        seen = Seen(q, v, b)
        if isinstance(memory, Tensor):
            own = self.remember(seen, memory)
            long, short = own, own
        else:
            long, short = memory

        y, share = attend(q, long.keys, long.values, frames)
        z = self.long_term_attn(self._groups(y, groups), gates, size)
        relative = self.short_term_attn.relative(q)
        y = local(q, short.keys, short.values, relative, size)
        z = z + self.short_term_attn(self._groups(y, groups), gates, size)
        visual = visual + z[..., :EMBED]
        state = z[..., EMBED:] if state is None else state + z[..., EMBED:]

        z = self.self_attn.attend(self.norm2(visual), self.id_norm2(state), size)
        return visual + z[..., :EMBED], state + z[..., EMBED:], seen, share


class BranchNorm(nn.Module):
    """Group norm over both branches, each normed as a whole: channels and tokens together."""

    def __init__(self) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(2, 2 * EMBED)


class Propagation(nn.Module):
    """The stack of gated propagation modules."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GatedPropagation(i == 0) for i in range(layers))
        self.decoder_norms = nn.ModuleList((BranchNorm(),))

    def modules_in_order(self) -> list[GatedPropagation]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, GatedPropagation)]

    def norm(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """(G, N, 512) to the normed map (G, 512, h16, w16)."""
        norm = self.decoder_norms[0]
        assert isinstance(norm, BranchNorm)
        y: Tensor = norm.gn(tokens.transpose(1, 2))
        return torch.unflatten(y, 2, size)


class ConvGroupNorm(nn.Module):
    """Convolution, group norm of eight groups, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.gn = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(G, inputs, H, W) to (G, outputs, H, W)."""
        return F.relu(self.gn(self.conv(x)), inplace=True)


class Decoder(nn.Module):
    """Feature pyramid from 1/16 to 1/4 (section 4.3)."""

    def __init__(self, channels: Sequence[int], align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.conv_in = ConvGroupNorm(2 * EMBED, EMBED, 1)
        self.conv_16x = ConvGroupNorm(EMBED, EMBED, 3)
        self.conv_8x = ConvGroupNorm(EMBED, EMBED // 2, 3)
        self.conv_4x = ConvGroupNorm(EMBED // 2, EMBED // 2, 3)
        self.adapter_16x = nn.Conv2d(channels[2], EMBED, 1)
        self.adapter_8x = nn.Conv2d(channels[1], EMBED, 1)
        self.adapter_4x = nn.Conv2d(channels[0], EMBED // 2, 1)
        self.conv_out = nn.Conv2d(EMBED // 2, IDENTITIES, 1)

    def forward(self, x: Tensor, maps: Maps) -> Tensor:
        """(G, 512, h16, w16) and the maps of batch 1 to logits (G, 11, h4, w4)."""
        x = self.conv_16x(self.conv_in(x) + self.adapter_16x(maps.sixteenth))
        x = self.conv_8x(self._resize(x, maps.eighth) + self.adapter_8x(maps.eighth))
        x = self.conv_4x(self._resize(x, maps.quarter) + self.adapter_4x(maps.quarter))
        y: Tensor = self.conv_out(x)
        return y

    def _resize(self, x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=self.align_corners)


class DeAOT(nn.Module):
    """The whole network; what is remembered between its calls is the caller's."""

    def __init__(self, variant: Variant, *, local: LocalAttention = attend_locally) -> None:
        super().__init__()
        self.variant = variant
        self.local = local
        self.encoder: ResNet | MobileNetV2 | Swin
        if variant.encoder == "resnet":
            self.encoder = ResNet()
        elif variant.encoder == "mobilenet":
            self.encoder = MobileNetV2()
        else:
            self.encoder = Swin()
        channels = self.encoder.channels
        self.encoder_projector = nn.Conv2d(channels[3], EMBED, 1)
        self.LSTT = Propagation(variant.layers)
        self.decoder = Decoder(channels, variant.align_corners)
        kernel, padding = (17, 8) if variant.align_corners else (16, 0)
        self.patch_wise_id_bank = nn.Conv2d(IDENTITIES, EMBED, kernel, STRIDE, padding)
        self.id_norm = nn.LayerNorm(EMBED)

    def input_size(self, height: int, width: int, max_side_px: float) -> tuple[int, int]:
        """The size at which the network looks at a frame: at most `max_side_px` (0 = no limit),
        then each side to the nearest 16 k + 1, or 16 k without aligned corners; ties to even k.
        """
        longest = max(height, width)
        if max_side_px and longest > max_side_px:
            height, width = (int(side * (max_side_px / longest)) for side in (height, width))
        if self.variant.align_corners:
            return tuple(  # type: ignore[return-value]
                round((max(side, 1) - 1) / STRIDE) * STRIDE + 1 for side in (height, width)
            )
        return tuple(  # type: ignore[return-value]
            max(1, round(side / STRIDE)) * STRIDE for side in (height, width)
        )

    def encode(self, image: Tensor) -> Features:
        """Normalised image (1, 3, h, w), sides as `input_size` says, to its features."""
        maps: Maps = self.encoder(image)
        tokens = self.encoder_projector(maps.last)  # (1, 256, h16, w16)
        h, w = tokens.shape[2:]
        return Features(maps, tokens.flatten(2).transpose(1, 2), (h, w))

    def identify(self, one_hot: Tensor) -> Tensor:
        """One-hot labels (G, C, h, w), C <= 11, to the identity embedding (G, N, 256).

        Channels above C are taken as empty, which saves their part of the convolution.
        """
        bank = self.patch_wise_id_bank
        weight = bank.weight[:, : one_hot.shape[1]]
        e = F.conv2d(one_hot, weight, bank.bias, bank.stride, bank.padding)
        y: Tensor = self.id_norm(e.flatten(2).transpose(1, 2))
        return y

    def propagate(
        self,
        features: Features,
        memory: tuple[Sequence[LayerMemory], Sequence[LayerMemory]] | Tensor,
        groups: int,
        *,
        frames: int = 0,
    ) -> Propagated:
        """Run all layers.

        Args:
            features: of the frame.
            memory: long-term and short-term memory, one entry a layer; or the frame's own
                identity embedding (G, N, 256) for a prompt frame, which attends to itself.
            groups: G
            frames: how many frames the long-term memory holds, when the shares are asked for.
        """
        visual, state = features.tokens, None
        seen, share = [], None
        last = self.variant.layers - 1
        for i, layer in enumerate(self.LSTT.modules_in_order()):
            own = memory if isinstance(memory, Tensor) else (memory[0][i], memory[1][i])
            visual, state, saw, share = layer(
                visual, state, own, groups, features.size, frames if i == last else 0,
                self.local,
            )  # fmt: skip
            seen.append(saw)
        assert state is not None  # there is at least one layer
        out = self.LSTT.norm(torch.cat([visual, state], -1), features.size)
        if share is not None:
            share = share.expand(groups, -1, -1)
        return Propagated(out, seen, share)

    def remember(self, seen: Sequence[Seen], identity: Tensor) -> list[LayerMemory]:
        """What was seen of a frame and its identity embedding (G, N, 256), as a memory."""
        return [
            layer.remember(saw, identity)
            for layer, saw in zip(self.LSTT.modules_in_order(), seen, strict=True)
        ]

    def decode(self, out: Tensor, features: Features) -> Tensor:
        """(G, 512, h16, w16) to logits (G, 11, h4, w4)."""
        y: Tensor = self.decoder(out, features.maps)
        return y

    def fold_norms(self) -> None:
        """Move the encoder's frozen norms into its convolutions; after loading, for speed.

        The state dict then no longer has the published keys.
        """
        self.encoder.fold_norms()
