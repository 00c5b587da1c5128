"""Grounding DINO as a detector: boxes of whatever words name.

Liu et al., "Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object
Detection", ECCV 2024 (arXiv 2303.05499), through the package transformers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inpainterz import hub
from inpainterz.detect.transformed import MEMORY_HINT, SharedOptions, TransformersDetector, load
from inpainterz.device import memory_guard
from inpainterz.errors import OptionError
from inpainterz.types import Detection, Image


@dataclass(frozen=True, slots=True)
class Options(SharedOptions):
    """Knobs of the Grounding DINO engine."""

    threshold: float = 0.35
    """Boxes below this score are not told."""
    text_threshold: float = 0.25
    """Words below this score do not name a box."""
    overlap: float = 0.6
    """Of two boxes that overlap by more (intersection over union), the surer one is told."""

    def __post_init__(self) -> None:
        SharedOptions.__post_init__(self)
        if not self.names or sum(len(n) for n in self.names) > 400:
            raise OptionError("there must be some words, and 400 letters at most")
        for name in ("threshold", "text_threshold", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is outside 0..1")

    @property
    def text(self) -> str:
        """As the network was trained to read: lower case, a full stop after each."""
        return " ".join(f"{name}." for name in self.names)


class GroundingDinoDetector(TransformersDetector[Options]):
    """The `Detector` with Grounding DINO inside. Its masks are boxes filled in."""

    def look(self, image: Image, size: tuple[int, int]) -> list[Detection]:
        """What is in one frame, the surest first, masks at `size` (h, w)."""
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
        options, device, weights: see `transformed.load`.

    Raises:
        EngineUnavailable: the package transformers or the device is missing.
        WeightsError, WeightsCorrupt, WeightsMismatch: see `hub.load`.
    """
    hub.require("grounding-dino")
    from transformers import AutoProcessor, GroundingDinoForObjectDetection

    return load(
        GroundingDinoDetector,
        GroundingDinoForObjectDetection,
        AutoProcessor,
        options,
        name="grounding-dino",
        device=device,
        weights=weights,
    )
