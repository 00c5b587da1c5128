"""Mask2Former as a detector: masks of the 80 things of COCO, people first.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022 (arXiv
2112.01527), through the package transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from inpainterz import hub
from inpainterz.detect.transformed import MEMORY_HINT, SharedOptions, TransformersDetector, load
from inpainterz.device import memory_guard
from inpainterz.errors import OptionError
from inpainterz.types import Detection, Image, Mask


@dataclass(frozen=True, slots=True)
class Options(SharedOptions):
    """Knobs of the Mask2Former engine; with no `names` all things that it knows are told."""

    threshold: float = 0.5
    """Things below this score are not told."""

    def __post_init__(self) -> None:
        SharedOptions.__post_init__(self)
        if not 0 <= self.threshold < 1:
            raise OptionError("threshold is outside 0..1")


class Mask2FormerDetector(TransformersDetector[Options]):
    """The `Detector` with Mask2Former inside."""

    def __init__(
        self, network: Any, processor: Any, options: Options, *, dtype: torch.dtype = torch.float32
    ) -> None:
        """Take a network and its image processor of transformers, on its device, in eval mode.

        Raises:
            OptionError: the network does not know one of `options.names`.
        """
        super().__init__(network, processor, options, dtype=dtype)
        self._names = {int(k): str(v).lower() for k, v in network.config.id2label.items()}
        for name in options.names:
            if name not in self._names.values():
                known = ", ".join(sorted(set(self._names.values()))[:80])
                raise OptionError(
                    f"this network does not know what {name!r} is",
                    f"It knows {known}; the detector grounding-dino takes any words",
                )

    def look(self, image: Image, size: tuple[int, int]) -> list[Detection]:
        """What is in one frame, masks at `size` (h, w)."""
        device = self._network.device
        half = self._dtype != torch.float32
        with memory_guard(MEMORY_HINT), torch.inference_mode():
            inputs = self._processor(
                images=image.copy(), return_tensors="pt", input_data_format="channels_last"
            ).to(device)
            with torch.autocast(device.type, dtype=self._dtype, enabled=half):
                answer = self._network(
                    pixel_values=inputs["pixel_values"], pixel_mask=inputs["pixel_mask"]
                )
            classes = answer.class_queries_logits[0].float().softmax(-1)[:, :-1]  # (Q, C)
            scores, labels = classes.max(-1)
            keep = scores > self.options.threshold
            if self.options.names:
                wanted = [k for k, v in self._names.items() if v in self.options.names]
                keep &= torch.isin(labels, torch.tensor(wanted, device=labels.device))
            if not keep.any():
                return []
            logits = answer.masks_queries_logits[0][keep].float()[None]  # (1, K, h/4, w/4)
            whole = F.interpolate(
                logits, inputs["pixel_values"].shape[-2:], mode="bilinear", align_corners=False
            )
            filled = inputs["pixel_mask"][0]  # the picture lies top left in its padding
            rows, columns = int(filled.any(1).sum()), int(filled.any(0).sum())
            inner = whole[..., :rows, :columns]
            soft = F.interpolate(inner, size, mode="bilinear", align_corners=False)[0].sigmoid()
            masks = soft > 0.5  # (K, h, w)
            # as the paper's inference: how sure of the kind, and how sure of the pixels
            sure = (soft * masks).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)
            total = (scores[keep] * sure).cpu().numpy()
            names = [self._names[int(k)] for k in labels[keep]]
            told = masks.cpu().numpy()
        scale = (image.shape[1] / size[1], image.shape[0] / size[0])
        return _distinct(told, total, names, self.options.threshold, scale)


def _distinct(
    masks: np.ndarray[Any, np.dtype[np.bool_]],
    scores: np.ndarray[Any, np.dtype[np.float32]],
    names: list[str],
    threshold: float,
    scale: tuple[float, float],
) -> list[Detection]:
    """Detections, the surest first, without those that are nearly the same as a surer one."""
    found: list[Detection] = []
    for k in np.argsort(-scores, kind="stable"):
        mask: Mask = np.asarray(masks[k], np.bool_)
        if scores[k] < threshold or not mask.any():
            continue
        if any((mask & d.mask).sum() > 0.7 * (mask | d.mask).sum() for d in found):
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        corners = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], np.float32)
        box = (corners * np.asarray(scale, np.float32)).reshape(4)
        found.append(Detection(mask, box, float(np.clip(scores[k], 0, 1)), names[k]))
    return found


def create(options: Options, *, device: str, weights: Path) -> Mask2FormerDetector:
    """Build the engine.

    Args:
        options, device, weights: see `transformed.load`.

    Raises:
        EngineUnavailable: the package transformers or the device is missing.
        WeightsError, WeightsCorrupt, WeightsMismatch: see `hub.load`.
        OptionError: the network does not know one of `options.names`.
    """
    hub.require("mask2former")
    from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

    return load(
        Mask2FormerDetector,
        Mask2FormerForUniversalSegmentation,
        AutoImageProcessor,
        options,
        name="mask2former",
        device=device,
        weights=weights,
        may_lack=("criterion.",),
    )
