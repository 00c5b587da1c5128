"""What SAM 2.1 and SAM-HQ share as segmenters: networks of the package transformers.

Kirillov et al., "Segment Anything", ICCV 2023 (arXiv 2304.02643), section 3 and appendix A tell how
clicks are answered; both later networks keep to it. The image encoder runs once a frame; what it
found belongs to the caller, so several users share one network and never each other's frames.
EdgeTAM is not among them: its port needs the package timm besides.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from inpainterz.device import memory_guard
from inpainterz.errors import OptionError, PromptError
from inpainterz.segment.answers import Proposals, State, usable
from inpainterz.segment.prompts import checked, checked_image
from inpainterz.types import Image, Prompt, Segmentation

MEMORY_HINT = "Choose a smaller network (sam2.1-t), or --device cpu"
MOST_LOGIT = 32.0
"""Beyond this a logit says nothing more to the next click, as in the authors' predictor."""


@dataclass(frozen=True, slots=True)
class Options:
    """Knobs of SAM 2.1 and SAM-HQ."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What the image encoder found in one frame; about 8 MB in float16, on the CPU."""

    maps: tuple[torch.Tensor, ...]
    """float16 or float32, as the network's own decoder takes them."""
    size: tuple[int, int]
    """(H, W) of the frame."""
    network: str
    """Which network made it: no other can read it."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return sum(one.nbytes for one in self.maps)


class TransformersSegmenter(ABC):
    """A `Segmenter` with one of the networks inside; the network's own ways are in subclasses."""

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
            network: `Sam2Model` or `SamHQModel`.
            processor: prepares a picture for the image encoder.
            options: see `Options`.
            name: tells embeddings and answers of one network from those of another.
            dtype: the image encoder computes in it.
        """
        self.options = options
        self._network, self._processor = network, processor
        self._name, self._dtype = name, dtype
        self._side_px: int = network.config.prompt_encoder_config.image_size

    @abstractmethod
    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The maps that the decoder needs of one prepared picture (1, 3, S, S)."""

    @abstractmethod
    def handed(self, maps: tuple[torch.Tensor, ...]) -> dict[str, Any]:
        """The maps as arguments of the network."""

    @abstractmethod
    def inner_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) that a frame of `size` has within the network's square input, top left."""

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

    def segment(
        self, embedding: Embedding, prompt: Prompt, previous: Segmentation | None = None
    ) -> Segmentation:
        """Answer one object's prompt.

        The first click is ambiguous, so the best of three proposals counts by the network's own
        score; after it the logits of the last answer go in with all clicks and one answer comes
        out.

        Args:
            embedding: from `embed` of this engine.
            prompt: all clicks so far on this object.
            previous: the last answer for this object in this frame. It counts while every click
                that led to it is still there; after an undo the clicks are answered afresh.

        Raises:
            PromptError: nothing positive, a point outside the frame, a box without area, or an
                embedding of another engine.
        """
        answer = self.propose(embedding, prompt, previous)
        best = int(np.argmax(answer.scores))
        logits = answer.logits[best]
        with memory_guard(MEMORY_HINT), torch.inference_mode():
            mask = self.upscale(logits[None], embedding)[0] > 0
        points, positive, box = checked(prompt, *embedding.size)
        state = State.of(logits, points, positive, box, size=embedding.size, network=self._name)
        return Segmentation(mask.numpy(), float(np.clip(answer.scores[best], 0, 1)), state)

    def propose(
        self, embedding: Embedding, prompt: Prompt, previous: Segmentation | None = None
    ) -> Proposals:
        """The decoder's answers to one prompt, before any choice; arguments as `segment`."""
        if not isinstance(embedding, Embedding) or embedding.network != self._name:
            raise PromptError(
                "this frame was looked at by another engine", "Look at it again with this one"
            )
        size = embedding.size
        points, positive, box = checked(prompt, *size)
        last = usable(previous, points, positive, box, size=size, network=self._name)
        device = self._network.device
        given: dict[str, Any] = {}
        if len(points):
            given["input_points"] = self._inner(points, size)[None, None].to(device)
            signs = torch.from_numpy(positive.astype(np.int64))
            given["input_labels"] = signs[None, None].to(device)
        if box is not None:
            corners = self._inner(box.reshape(2, 2), size)
            given["input_boxes"] = corners.reshape(1, 1, 4).to(device)
        if last is not None:
            given["input_masks"] = last.logits.clamp(-MOST_LOGIT, MOST_LOGIT)[None, None].to(device)
        with memory_guard(MEMORY_HINT), torch.inference_mode():
            maps = tuple(one.to(device, torch.float32) for one in embedding.maps)
            found = self._network(
                **self.handed(maps),
                **given,
                multimask_output=len(points) == 1 and box is None and last is None,
            )
            logits, scores = found.pred_masks[0, 0], found.iou_scores[0, 0]  # (K, h, w), (K,)
            return Proposals(logits.float().cpu(), scores.float().cpu().numpy())

    def upscale(self, logits: torch.Tensor, embedding: Embedding) -> torch.Tensor:
        """Logits (K, h, w) at the size of the frame, (K, H, W) float32; > 0 is the object."""
        square = (self._side_px, self._side_px)
        inner = self.inner_size(embedding.size)
        whole = logits[None]
        if inner != square:  # the frame fills only a part of the square
            whole = F.interpolate(whole, square, mode="bilinear", align_corners=False)
            whole = whole[..., : inner[0], : inner[1]]
        return F.interpolate(whole, embedding.size, mode="bilinear", align_corners=False)[0]

    def _inner(self, places: npt.NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
        """(N, 2) places in the frame as (N, 2) float32 places in the network's input."""
        scale = np.divide(self.inner_size(size)[::-1], size[::-1])  # (x, y), float64
        return torch.from_numpy((places * scale).astype(np.float32))
