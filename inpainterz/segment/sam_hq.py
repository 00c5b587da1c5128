"""SAM-HQ as a segmenter: SAM with a second, finer mask of the same decoder.

Ke et al., "Segment Anything in High Quality", NeurIPS 2023 (arXiv 2306.01567), through the package
transformers. What is answered is the sum of SAM's logits and the finer ones (section 3.2).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from inpainterz import hub
from inpainterz.segment.transformed import Options, TransformersSegmenter, load

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

    def fitted(side_px: int) -> Any:
        square = {"height": side_px, "width": side_px}
        return SamImageProcessor(size={"longest_edge": side_px}, pad_size=square)

    return load(
        SamHQSegmenter, SamHQModel, fitted, options, name="sam-hq", device=device, weights=weights
    )
