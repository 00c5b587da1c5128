"""What Mask2Former and Grounding DINO share: they are networks of the package transformers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from inpainterz import hub
from inpainterz.detect.sampling import reduced, sampled
from inpainterz.device import compute_dtype, memory_guard, pick
from inpainterz.errors import OptionError
from inpainterz.types import Detected, Detection, Frame, Image

MEMORY_HINT = "Choose --device cpu, or a smaller model with --option detect.model=FOLDER"


@dataclass(frozen=True, slots=True)
class SharedOptions:
    """Knobs of both engines."""

    names: tuple[str, ...] = ("person",)
    """What is looked for, each a word or a few for one kind of thing."""
    gap_s: float = 0.4
    """Seconds between the frames that are looked at."""
    max_side_px: int = 512
    """Longer side of the pictures and masks that are told."""
    model: str = ""
    """A folder, or the name of a model on the hub, in place of the card's."""
    precision: str = "auto"
    """"fp32", "fp16", "bf16", or "auto": half on CUDA, fp32 on the CPU."""

    def __post_init__(self) -> None:
        given: object = self.names  # one word will do
        several = (given,) if isinstance(given, str) else given
        if not isinstance(several, (tuple, list)) or not all(isinstance(n, str) for n in several):
            raise OptionError("names are not words")
        kept = tuple(n.strip().lower() for n in several if n.strip())
        object.__setattr__(self, "names", kept)
        if not 0.01 <= self.gap_s <= 60:
            raise OptionError("gap_s is outside 0.01..60")
        if not 64 <= self.max_side_px <= 2048:
            raise OptionError("max_side_px is outside 64..2048")
        if self.precision not in ("auto", "fp32", "fp16", "bf16"):
            raise OptionError("precision must be auto, fp32, fp16 or bf16")


Knobs = TypeVar("Knobs", bound=SharedOptions)


class TransformersDetector(ABC, Generic[Knobs]):
    """A `Detector` with one of them inside; the network's own ways are in subclasses."""

    def __init__(
        self, network: Any, processor: Any, options: Knobs, *, dtype: torch.dtype = torch.float32
    ) -> None:
        """Take a network and its processor of transformers, on its device, in eval mode."""
        self.options = options
        self._network, self._processor, self._dtype = network, processor, dtype

    @property
    def gap_s(self) -> float:
        """People go about a step in this time."""
        return self.options.gap_s

    @abstractmethod
    def look(self, image: Image, size: tuple[int, int]) -> list[Detection]:
        """What is in one frame, the surest first, masks at `size` (h, w)."""

    def detect(self, frames: Iterable[Frame], *, every: int) -> Iterator[Detected]:
        """Yield what is in every sampled frame, at once; see `engines.Detector.detect`.

        Raises:
            OutOfMemory: a smaller network would fit.
            OptionError: `every` is not 1 or more.
        """
        for frame in sampled(frames, every):
            small = reduced(frame.image, self.options.max_side_px)
            found = self.look(frame.image, (small.shape[0], small.shape[1]))
            yield Detected(frame.index, frame.shot, small, tuple(found))


Kind = TypeVar("Kind", bound=TransformersDetector[Any])


def load(
    detector: type[Kind],
    network: Any,
    processor: Any,
    options: SharedOptions,
    *,
    name: str,
    device: str,
    weights: Path,
    may_lack: Sequence[str] = (),
) -> Kind:
    """Build one of these detectors.

    Args:
        detector: which.
        network, processor: classes of transformers.
        options: of the detector.
        name: of the engine, for messages.
        device: "auto", "cpu" or "cuda".
        weights: a folder with config.json, preprocessor_config.json, model.safetensors and, where
            words are read, the tokenizer's files; or the name of a model on the hub.
        may_lack: see `hub.load`.

    Raises:
        EngineUnavailable: the device is missing.
        WeightsError, WeightsCorrupt, WeightsMismatch: see `hub.load`.
        OptionError: the network does not know one of `options.names`.
    """
    where = pick(device, name)
    dtype = compute_dtype(options.precision, where, name)
    loaded = hub.load(network, weights, name=name, may_lack=may_lack)
    prepare = hub.processor(processor, weights, name=name)
    with memory_guard(MEMORY_HINT):
        loaded = loaded.to(where)
    return detector(loaded, prepare, options, dtype=dtype)
