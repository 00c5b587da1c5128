"""SAM, the Segment Anything Model, as a segmenter: ViT-B, ViT-L and ViT-H.

Kirillov et al., "Segment Anything", ICCV 2023 (arXiv 2304.02643), through the authors' package
segment-anything.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import nn

from inpainterz import weights as files
from inpainterz.device import compute_dtype, memory_guard, pick
from inpainterz.errors import EngineUnavailable, OptionError
from inpainterz.segment.promptable import Embedding, PromptableSegmenter
from inpainterz.segment.prompts import checked_image
from inpainterz.types import Image

KINDS = {"sam-vit-b": "vit_b", "sam-vit-l": "vit_l", "sam-vit-h": "vit_h"}
"""Card -> the package's name for the network."""
WIDTHS = {768: "sam-vit-b", 1024: "sam-vit-l", 1280: "sam-vit-h"}
"""Width of the image encoder -> card (paper, appendix A)."""

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
MEMORY_HINT = "Choose a smaller SAM (sam-b), or --device cpu"


@dataclass(frozen=True, slots=True)
class Options:
    """Knobs of the SAM engines."""

    precision: str = "auto"
    """Of the image encoder: "fp32", "fp16", "bf16", or "auto": half on CUDA, fp32 on the CPU,
    where "bf16" is faster if the processor has it. With "fp32" the embedding is kept in float32
    as well, else in float16."""
    compile: bool = False
    """Compile the image encoder: the first frame takes a minute, later ones less than before."""

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "fp32", "fp16", "bf16"):
            raise OptionError("precision must be auto, fp32, fp16 or bf16")


class SamSegmenter(PromptableSegmenter):
    """The `Segmenter` with SAM inside."""

    def __init__(
        self, network: Any, options: Options, *, name: str, dtype: torch.dtype = torch.float32
    ) -> None:
        """Take a network of the package, loaded and on its device, in eval mode.

        Args:
            network: `segment_anything.modeling.Sam`.
            options: see `Options`.
            name: of the card.
            dtype: the image encoder computes in it.
        """
        side: int = network.image_encoder.img_size
        super().__init__(name=name, side_px=side, memory_hint=MEMORY_HINT)
        self.options = options
        self._network = network
        self._dtype = dtype
        self._device: torch.device = network.device
        with torch.inference_mode():
            self._position = network.prompt_encoder.get_dense_pe()  # the same for every click

    def embed(self, image: Image, neighbours: Sequence[Image] = ()) -> Embedding:
        """Run the image encoder; the slow part, once a frame.

        Args:
            image: (H, W, 3) uint8 RGB, any size.
            neighbours: not used; SAM looks at one frame.

        Raises:
            PromptError: there is no picture.
            OutOfMemory: a smaller SAM would fit.
        """
        image = checked_image(image)
        height, width = image.shape[:2]
        inner = self.inner_size((height, width))
        resized = PIL.Image.fromarray(np.ascontiguousarray(image)).resize(
            (inner[1], inner[0]), PIL.Image.Resampling.BILINEAR
        )
        with memory_guard(MEMORY_HINT), torch.inference_mode():
            pixels = torch.from_numpy(np.array(resized)).to(self._device)
            batch = self._network.preprocess(pixels.permute(2, 0, 1).float()[None])  # (1, 3, S, S)
            half = self._dtype != torch.float32
            with torch.autocast(self._device.type, dtype=self._dtype, enabled=half):
                found = self._network.image_encoder(batch)  # (1, 256, S/16, S/16)
            kept = torch.float32 if self.options.precision == "fp32" else torch.float16
            return Embedding((found.to("cpu", kept),), (height, width), self._name)

    def decode(
        self,
        maps: tuple[torch.Tensor, ...],
        *,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
        several: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `PromptableSegmenter.decode`."""
        device = self._device
        sparse, dense = self._network.prompt_encoder(
            points=None if points is None else (points[0].to(device), points[1].to(device)),
            boxes=None if boxes is None else boxes.to(device),
            masks=None if masks is None else masks.to(device),
        )
        logits, scores = self._network.mask_decoder(
            image_embeddings=maps[0].to(device, torch.float32),
            image_pe=self._position,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
        )
        return logits, scores


def create(options: Options, *, device: str, weights: Path) -> SamSegmenter:
    """Build the engine.

    Args:
        options: see `Options`.
        device: "auto", "cpu" or "cuda".
        weights: one of the three published files; a file under another name is told by the width
            of its image encoder.

    Raises:
        EngineUnavailable: the package segment-anything or the device is missing.
        WeightsMissing, WeightsCorrupt, WeightsMismatch: see `weights.load_into`.
    """
    if importlib.util.find_spec("segment_anything") is None:
        raise EngineUnavailable(
            "sam",
            "the package segment-anything is not installed",
            "Install it: pip install segment-anything",
        )
    from segment_anything import sam_model_registry

    name = _card_of(weights)
    where = pick(device, name)
    dtype = compute_dtype(options.precision, where, name)
    with torch.device("meta"):  # random numbers for 600 million weights would take half a minute
        network = sam_model_registry[KINDS[name]]()
    files.load_into(network, weights, name=name)
    network.pixel_mean = torch.tensor(PIXEL_MEAN).view(3, 1, 1)  # not in the file
    network.pixel_std = torch.tensor(PIXEL_STD).view(3, 1, 1)
    lighten(network)
    layout = torch.channels_last if where.type == "cuda" else torch.preserve_format
    with memory_guard(MEMORY_HINT):
        network = network.to(where, memory_format=layout).eval()
    if options.compile:
        network.image_encoder = torch.compile(network.image_encoder)
    return SamSegmenter(network, options, name=name, dtype=dtype)


def _card_of(path: Path) -> str:
    for name in KINDS:
        if files.card(name).file == path.name:
            return name
    shapes = files.shapes_in(path, name="sam-vit-b")
    width = shapes.get("image_encoder.pos_embed", (0,))[-1]
    return WIDTHS.get(width, "sam-vit-b")  # any other width is a mismatch that loading explains


def lighten(network: Any) -> None:
    """Let the four global attention blocks of the image encoder take one head at a time.

    The package holds the scores of all heads at once, several times over: 3 GB in ViT-B.
    """
    for block in network.image_encoder.blocks:
        if block.window_size == 0 and block.attn.use_rel_pos:
            block.attn = _HeadwiseAttention(block.attn)


class _HeadwiseAttention(nn.Module):
    """Attention over a grid with decomposed relative positions, with the weights of the package's.

    Li et al., "MViTv2", CVPR 2022, section 4.1: the score of query q and key k is q.k / sqrt(c)
    plus q.R_rows[row of q - row of k] plus q.R_columns[column of q - column of k].
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.num_heads: int = source.num_heads
        self.qkv, self.proj = source.qkv, source.proj
        self.rel_pos_h, self.rel_pos_w = source.rel_pos_h, source.rel_pos_w

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, h, w, c = x.shape
        packed = self.qkv(x).reshape(b, h * w, 3, self.num_heads, c // self.num_heads)
        query, key, value = packed.permute(2, 3, 0, 1, 4)  # (heads, B, h*w, c/heads) each
        rows = self.rel_pos_h[_steps(h, x.device)]  # (h, h, c/heads)
        columns = self.rel_pos_w[_steps(w, x.device)]  # (w, w, c/heads)
        heads = []
        for q, k, v in zip(query, key, value, strict=True):
            grid = q.reshape(b, h, w, -1)
            scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(1, 2)).view(b, h, w, h, w)
            scores += torch.einsum("bhwc,hkc->bhwk", grid, rows)[..., :, None]
            scores += torch.einsum("bhwc,wkc->bhwk", grid, columns)[..., None, :]
            heads.append(scores.view(b, h * w, h * w).softmax(-1) @ v)  # (B, h*w, c/heads)
        out: torch.Tensor = self.proj(torch.cat(heads, -1).view(b, h, w, c))
        return out


def _steps(n: int, device: torch.device) -> torch.Tensor:
    """(n, n) index of the relative position of query i to key j, i - j + n - 1."""
    place = torch.arange(n, device=device)
    return place[:, None] - place[None, :] + n - 1
