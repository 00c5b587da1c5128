"""SAM 2.1 as a segmenter of single frames: Hiera-T, -S, -B+ and -L.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", ICLR 2025 (arXiv 2408.00714), through
the package transformers. A frame is stretched to the square that the network takes (appendix D).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from inpainterz import hub
from inpainterz.segment.transformed import Options, TransformersSegmenter, load

__all__ = ["Options", "Sam2Segmenter", "create", "square"]


class Sam2Segmenter(TransformersSegmenter):
    """The `Segmenter` with SAM 2.1, or EdgeTAM, inside."""

    stretched = True

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Three maps, the finest first: a quarter, an eighth and a sixteenth of the input."""
        return tuple(self._network.get_image_embeddings(pixels))

    def handed(self, maps: tuple[torch.Tensor, ...]) -> dict[str, Any]:
        """The maps as arguments of the network."""
        return {"image_embeddings": list(maps)}


def square(side_px: int) -> Any:
    """What stretches a picture to a square of so many pixels and takes the mean off."""
    from transformers import Sam2ImageProcessor

    return Sam2ImageProcessor(size={"height": side_px, "width": side_px})


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
    from transformers import Sam2Model

    return load(
        Sam2Segmenter,
        Sam2Model,
        square,
        options,
        name="sam2.1",
        device=device,
        weights=weights,
        also=("sam2_video",),
    )
