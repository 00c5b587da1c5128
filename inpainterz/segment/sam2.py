"""SAM 2.1 as a segmenter of single frames: Hiera-T, -S, -B+ and -L.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", ICLR 2025 (arXiv 2408.00714), through
the package transformers. A frame is stretched to the square that the network takes (appendix D).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from inpainterz import hub
from inpainterz.device import compute_dtype, memory_guard, pick
from inpainterz.segment.transformed import MEMORY_HINT, Options, TransformersSegmenter

__all__ = ["Options", "Sam2Segmenter", "create"]


class Sam2Segmenter(TransformersSegmenter):
    """The `Segmenter` with SAM 2.1, or EdgeTAM, inside."""

    stretched = True

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Three maps, the finest first: a quarter, an eighth and a sixteenth of the input."""
        return tuple(self._network.get_image_embeddings(pixels))

    def handed(self, maps: tuple[torch.Tensor, ...]) -> dict[str, Any]:
        """The maps as arguments of the network."""
        return {"image_embeddings": list(maps)}


def create(options: Options, *, device: str, weights: Path) -> Sam2Segmenter:
    """Build the engine.

    Args:
        options: see `Options`.
        device: "auto", "cpu" or "cuda".
        weights: a folder with config.json and model.safetensors, or the name of a model on the
            hub; one that holds SAM 2.1 for whole clips is read too, without its memory.

    Raises:
        EngineUnavailable: the package transformers or the device is missing.
        WeightsError, WeightsCorrupt, WeightsMismatch: see `hub.load`.
    """
    hub.require("sam2.1")
    from transformers import Sam2ImageProcessor, Sam2Model

    where = pick(device, "sam2.1")
    dtype = compute_dtype(options.precision, where, "sam2.1")
    network = hub.load(Sam2Model, weights, name="sam2.1", also=("sam2_video",))
    side = network.config.prompt_encoder_config.image_size
    prepare = Sam2ImageProcessor(size={"height": side, "width": side})
    with memory_guard(MEMORY_HINT):
        network = network.to(where)
    return Sam2Segmenter(network, prepare, options, name=f"sam2.1 {weights}", dtype=dtype)
