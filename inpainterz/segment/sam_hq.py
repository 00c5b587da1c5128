"""SAM-HQ as a segmenter: SAM with a second, finer mask of the same decoder.

Ke et al., "Segment Anything in High Quality", NeurIPS 2023 (arXiv 2306.01567), through the package
transformers. What is answered is the sum of SAM's logits and the finer ones (section 3.2).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from inpainterz import hub
from inpainterz.device import compute_dtype, memory_guard, pick
from inpainterz.segment.transformed import MEMORY_HINT, Options, TransformersSegmenter

__all__ = ["Options", "SamHQSegmenter", "create"]


class SamHQSegmenter(TransformersSegmenter):
    """The `Segmenter` with SAM-HQ inside."""

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The last map, and that of the first global block, which has the finer detail."""
        found = self._network.vision_encoder(pixels)
        return found.last_hidden_state, found.intermediate_embeddings[0]

    def handed(self, maps: tuple[torch.Tensor, ...]) -> dict[str, Any]:
        """The maps as arguments of the network."""
        return {"image_embeddings": maps[0], "intermediate_embeddings": [maps[1]]}


def create(options: Options, *, device: str, weights: Path) -> SamHQSegmenter:
    """Build the engine.

    Args:
        options: see `Options`.
        device: "auto", "cpu" or "cuda".
        weights: a folder with config.json and model.safetensors, or the name of a model on the
            hub.

    Raises:
        EngineUnavailable: the package transformers or the device is missing.
        WeightsError, WeightsCorrupt, WeightsMismatch: see `hub.load`.
    """
    hub.require("sam-hq")
    from transformers import SamHQModel, SamImageProcessor

    where = pick(device, "sam-hq")
    dtype = compute_dtype(options.precision, where, "sam-hq")
    network = hub.load(SamHQModel, weights, name="sam-hq")
    side = network.config.prompt_encoder_config.image_size
    prepare = SamImageProcessor(
        size={"longest_edge": side}, pad_size={"height": side, "width": side}
    )
    with memory_guard(MEMORY_HINT):
        network = network.to(where)
    return SamHQSegmenter(network, prepare, options, name=f"sam-hq {weights}", dtype=dtype)
