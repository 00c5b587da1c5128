"""Grounding DINO as a detector: boxes of whatever words name.

Liu et al., "Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object
Detection", ECCV 2024 (arXiv 2303.05499), through the package transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inpainterz import hub
from inpainterz.detect.mask2former import names_of
from inpainterz.detect.sampling import reduced, sampled
from inpainterz.device import compute_dtype, memory_guard, pick
from inpainterz.errors import OptionError
from inpainterz.types import Detected, Detection, Frame, Image

MEMORY_HINT = "Choose --device cpu, or a smaller model with --option detect.model=FOLDER"


@dataclass(frozen=True, slots=True)
class Options:
    """Knobs of the Grounding DINO engine."""

    names: tuple[str, ...] = ("person",)
    """Words, each for one kind of thing."""
    threshold: float = 0.35
    """Boxes below this score are not told."""
    text_threshold: float = 0.25
    """Words below this score do not name a box."""
    overlap: float = 0.6
    """Of two boxes that overlap by more (intersection over union), the surer one is told."""
    gap_s: float = 0.4
    """Seconds between the frames that are looked at."""
    max_side_px: int = 512
    """Longer side of the pictures and masks that are told."""
    model: str = ""
    """A folder, or the name of a model on the hub, in place of the card's."""
    precision: str = "auto"
    """"fp32", "fp16", "bf16", or "auto": half on CUDA, fp32 on the CPU."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", names_of(self.names))
        if not self.names or sum(len(n) for n in self.names) > 400:
            raise OptionError("there must be some words, and 400 letters at most")
        for name in ("threshold", "text_threshold", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is outside 0..1")
        if not 0.01 <= self.gap_s <= 60:
            raise OptionError("gap_s is outside 0.01..60")
        if not 64 <= self.max_side_px <= 2048:
            raise OptionError("max_side_px is outside 64..2048")
        if self.precision not in ("auto", "fp32", "fp16", "bf16"):
            raise OptionError("precision must be auto, fp32, fp16 or bf16")

    @property
    def text(self) -> str:
        """As the network was trained to read: lower case, a full stop after each."""
        return " ".join(f"{name}." for name in self.names)


class GroundingDinoDetector:
    """The `Detector` with Grounding DINO inside. Its masks are boxes filled in."""

    def __init__(
        self, network: Any, processor: Any, options: Options, *, dtype: torch.dtype = torch.float32
    ) -> None:
        """Take a network and its processor of transformers, on its device, in eval mode."""
        self.options = options
        self._network, self._processor, self._dtype = network, processor, dtype

    @property
    def gap_s(self) -> float:
        """People go about a step in this time."""
        return self.options.gap_s

    def detect(self, frames: Iterable[Frame], *, every: int) -> Iterator[Detected]:
        """Yield what is in every sampled frame, at once; see `engines.Detector.detect`.

        Raises:
            OutOfMemory: a smaller network would fit.
            OptionError: `every` is not 1 or more.
        """
        for frame in sampled(frames, every):
            small = reduced(frame.image, self.options.max_side_px)
            found = self._look(frame.image, (small.shape[0], small.shape[1]))
            yield Detected(frame.index, frame.shot, small, tuple(found))

    def _look(self, image: Image, size: tuple[int, int]) -> list[Detection]:
        device = self._network.device
        half = self._dtype != torch.float32
        height, width = image.shape[:2]
        with memory_guard(MEMORY_HINT), torch.inference_mode():
            inputs = self._processor(
                images=image.copy(),
                text=self.options.text,
                return_tensors="pt",
                input_data_format="channels_last",
            )
            inputs = inputs.to(device)
            with torch.autocast(device.type, dtype=self._dtype, enabled=half):
                answer = self._network(**inputs)
            (said,) = self._processor.post_process_grounded_object_detection(
                answer,
                inputs["input_ids"],
                threshold=self.options.threshold,
                text_threshold=self.options.text_threshold,
                target_sizes=[(height, width)],
            )
            scores = said["scores"].float().cpu().numpy()
            boxes = said["boxes"].float().cpu().numpy()
        words = said["text_labels"]
        limits = np.array([width, height, width, height], np.float32)
        found: list[Detection] = []
        for k in np.argsort(-scores, kind="stable"):
            box = np.clip(boxes[k], 0, limits).astype(np.float32)
            if not np.isfinite(box).all() or (box[2:] - box[:2] < 1).any():
                continue
            if any(_overlap(box, other.box) > self.options.overlap for other in found):
                continue
            mask = np.zeros(size, np.bool_)
            x0, y0, x1, y1 = box / limits * np.array([size[1], size[0]] * 2)
            mask[int(y0) : max(int(y0) + 1, round(y1)), int(x0) : max(int(x0) + 1, round(x1))] = (
                True
            )
            name = self._named(str(words[k]))
            found.append(Detection(mask, box, float(np.clip(scores[k], 0, 1)), name, exact=False))
        return found

    def _named(self, said: str) -> str:
        """The user's word for what the network read out of the text."""
        read = set(re.findall(r"\w+", said.lower()))

        def common(name: str) -> int:
            return len(read & set(re.findall(r"\w+", name)))

        return max(self.options.names, key=common)  # the first one where none is read


def _overlap(a: np.ndarray[Any, np.dtype[np.float32]], b: Any) -> float:
    """Intersection over union of two boxes."""
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner
    return float(inner / max(union, 1e-6))


def create(options: Options, *, device: str, weights: Path) -> GroundingDinoDetector:
    """Build the engine.

    Args:
        options: see `Options`.
        device: "auto", "cpu" or "cuda".
        weights: a folder with config.json, preprocessor_config.json, model.safetensors and the
            tokenizer's files, or the name of a model on the hub.

    Raises:
        EngineUnavailable: the package transformers or the device is missing.
        WeightsError, WeightsCorrupt, WeightsMismatch: see `hub.load`.
    """
    hub.require("grounding-dino")
    from transformers import AutoProcessor, GroundingDinoForObjectDetection

    where = pick(device, "grounding-dino")
    dtype = compute_dtype(options.precision, where, "grounding-dino")
    network = hub.load(GroundingDinoForObjectDetection, weights, name="grounding-dino")
    prepare = hub.processor(AutoProcessor, weights, name="grounding-dino")
    with memory_guard(MEMORY_HINT):
        network = network.to(where)
    return GroundingDinoDetector(network, prepare, options, dtype=dtype)
