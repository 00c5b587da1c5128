"""What SAM 2.1, EdgeTAM and SAM-HQ share: they are networks of the package transformers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from inpainterz import hub
from inpainterz.device import compute_dtype, memory_guard, pick
from inpainterz.errors import OptionError
from inpainterz.segment.promptable import Embedding, PromptableSegmenter
from inpainterz.segment.prompts import checked_image
from inpainterz.types import Image

MEMORY_HINT = "Choose a smaller network (sam2.1-t), or --device cpu"
MOST_LOGIT = 32.0
"""Beyond this a logit says nothing more to the next click, as in the authors' predictor."""


@dataclass(frozen=True, slots=True)
class Options:
    """Knobs of SAM 2.1, EdgeTAM and SAM-HQ."""

    model: str = ""
    """A folder, or the name of a model on the hub, in place of the card's."""
    precision: str = "auto"
    """Of the image encoder: "fp32", "fp16", "bf16", or "auto": half on CUDA, fp32 on the CPU.
    With "fp32" the embedding is kept in float32 as well, else in float16."""

    def __post_init__(self) -> None:
        if not isinstance(self.model, str):
            raise OptionError("model is not a folder or a name")
        if self.precision not in ("auto", "fp32", "fp16", "bf16"):
            raise OptionError("precision must be auto, fp32, fp16 or bf16")


class TransformersSegmenter(PromptableSegmenter):
    """A `Segmenter` with one of them inside; the network's own ways are in subclasses."""

    def __init__(
        self,
        network: Any,
        processor: Any,
        options: Options,
        *,
        name: str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take a network and its image processor of transformers, on its device, in eval mode.

        Args:
            network: `Sam2Model`, `EdgeTamModel` or `SamHQModel`.
            processor: prepares a picture for the image encoder.
            options: see `Options`.
            name: tells embeddings and answers of one network from those of another.
            dtype: the image encoder computes in it.
        """
        side: int = network.config.prompt_encoder_config.image_size
        super().__init__(name=name, side_px=side, memory_hint=MEMORY_HINT)
        self.options = options
        self._network, self._processor = network, processor
        self._dtype = dtype

    @abstractmethod
    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The maps that the decoder needs of one prepared picture (1, 3, S, S)."""

    @abstractmethod
    def handed(self, maps: tuple[torch.Tensor, ...]) -> dict[str, Any]:
        """The maps as arguments of the network."""

    def embed(self, image: Image, neighbours: Sequence[Image] = ()) -> Embedding:
        """Run the image encoder; the slow part, once a frame.

        Args:
            image: (H, W, 3) uint8 RGB, any size.
            neighbours: not used; the network looks at one frame.

        Raises:
            PromptError: there is no picture.
            OutOfMemory: a smaller network would fit.
        """
        image = checked_image(image)
        height, width = image.shape[:2]
        # a frame like a thread would shrink to nothing on its thin side
        thin = math.ceil(max(height, width) / (2 * self._side_px * min(height, width)))
        shown = image.repeat(thin, 0 if height < width else 1)
        device = self._network.device
        half = self._dtype != torch.float32
        kept = torch.float32 if self.options.precision == "fp32" else torch.float16
        with memory_guard(MEMORY_HINT), torch.inference_mode():
            pixels = self._processor(
                images=shown.copy(), return_tensors="pt", input_data_format="channels_last"
            )["pixel_values"].to(device)
            with torch.autocast(device.type, dtype=self._dtype, enabled=half):
                found = self.encode(pixels)
            maps = tuple(one.to("cpu", kept) for one in found)
        return Embedding(maps, (height, width), self._name)

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
        device = self._network.device
        given: dict[str, Any] = {}  # each (1, B, ...): B prompts of one picture
        if points is not None:
            given["input_points"] = points[0][None].to(device)
            given["input_labels"] = points[1][None].to(device)
        if boxes is not None:
            given["input_boxes"] = boxes[None].to(device)
        if masks is not None:
            given["input_masks"] = masks.clamp(-MOST_LOGIT, MOST_LOGIT).to(device)
        found = self._network(
            **self.handed(tuple(one.to(device, torch.float32) for one in maps)),
            **given,
            multimask_output=several,
        )
        return found.pred_masks[0], found.iou_scores[0]


Kind = TypeVar("Kind", bound=TransformersSegmenter)


def load(
    segmenter: type[Kind],
    network: Any,
    processor: Callable[[int], Any],
    options: Options,
    *,
    name: str,
    device: str,
    weights: Path,
    also: Sequence[str] = (),
) -> Kind:
    """Build one of these segmenters.

    Args:
        segmenter: which.
        network: its class of transformers.
        processor: makes what prepares pictures for a square input of so many pixels.
        options: see `Options`.
        name: of the engine, for messages.
        device: "auto", "cpu" or "cuda".
        weights: a folder with config.json and model.safetensors, or the name of a model on the
            hub.
        also: see `hub.load`.

    Raises:
        EngineUnavailable: the device is missing.
        WeightsError, WeightsCorrupt, WeightsMismatch: see `hub.load`.
    """
    where = pick(device, name)
    dtype = compute_dtype(options.precision, where, name)
    loaded = hub.load(network, weights, name=name, also=also)
    prepare = processor(loaded.config.prompt_encoder_config.image_size)
    with memory_guard(MEMORY_HINT):
        loaded = loaded.to(where)
    return segmenter(loaded, prepare, options, name=f"{name} {weights}", dtype=dtype)
