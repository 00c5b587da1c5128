"""EdgeTAM as a segmenter of single frames: SAM 2 with an image encoder made for telephones.

Zhou et al., "EdgeTAM: On-Device Track Anything Model", CVPR 2025 (arXiv 2501.07256), through the
packages transformers and timm, which has the image encoder (RepViT). A frame is looked at, and
clicks are answered, as by SAM 2.1.
"""

from __future__ import annotations

from pathlib import Path

from inpainterz import hub
from inpainterz.segment.sam2 import Sam2Segmenter, square
from inpainterz.segment.transformed import Options, load

__all__ = ["Options", "create"]


def create(options: Options, *, device: str, weights: Path) -> Sam2Segmenter:
    """Build the engine.

    Args:
        options: see `Options`.
        device: "auto", "cpu" or "cuda".
        weights: a folder with config.json and model.safetensors, or the name of a model on the
            hub; one that holds EdgeTAM for whole clips is read too, without its memory.

    Raises:
        EngineUnavailable: the package transformers or timm or the device is missing.
        WeightsError, WeightsCorrupt, WeightsMismatch: see `hub.load`.
    """
    hub.require("edgetam", "timm")
    from transformers import EdgeTamModel

    return load(
        Sam2Segmenter,
        EdgeTamModel,
        square,
        options,
        name="edgetam",
        device=device,
        weights=weights,
        also=("edgetam_video",),
    )
