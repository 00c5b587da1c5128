"""DeAOT as a tracker: the published procedure, and around it what a clip of a user needs.

Source: Yang and Yang, Decoupling Features in Hierarchical Propagation for Video Object
Segmentation, NeurIPS 2022. The order of encoding, propagating and remembering is that of the
published code; with `memory_frames=0` and the other options at their defaults the numbers are too.

What differs, or goes beyond it:
    Memory has a ceiling that never forgets a prompt frame, see `memory`.
    A label map in mid-clip is laid over the prediction: an object that it shows is exactly as
        shown, the others stay as predicted. Every group then remembers the frame as a prompt frame,
        so a correction reaches the long-term memory (as in the benchmark code).
    At a cut (`Frame.shot`) the frame before is no guide to where things are; the youngest prompt
        frame stands in for it. Long-term memory stays, so objects are found again across cuts.
    Object ids may have gaps; inside they are numbered without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from inpainterz import weights as weights_files
from inpainterz.device import compile_guard, compute_dtype, memory_guard, pick
from inpainterz.errors import InputError, OptionError, PromptError
from inpainterz.track.deaot.attention import Correlate, attend_locally
from inpainterz.track.deaot.memory import Forget, Memory, MemoryRule
from inpainterz.track.deaot.network import (
    GROUP,
    VARIANTS,
    DeAOT,
    Features,
    Propagated,
    Variant,
)
from inpainterz.types import Frame, Image, LabelMap, Tracked

NAME = "deaot"

PUBLISHED: Mapping[str, str] = {
    "DeAOTT_PRE_YTB_DAV.pth": "deaott",
    "DeAOTS_PRE_YTB_DAV.pth": "deaots",
    "DeAOTB_PRE_YTB_DAV.pth": "deaotb",
    "DeAOTL_PRE_YTB_DAV.pth": "deaotl",
    "R50_DeAOTL_PRE_YTB_DAV.pth": "r50_deaotl",
    "SwinB_DeAOTL_PRE_YTB_DAV.pth": "swinb_deaotl",
}
"""File name as published -> variant; two variants have the same keys, so the name decides."""

MAY_LACK = ("*.attn.relative_position_index",)
"""Follows from the window's size; some files leave it out."""
MAY_HAVE = ("*.num_batches_tracked", "*.attn_mask")
"""Counters and masks that training code registers and no published network reads."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet, RGB."""

BATCH = 4
"""Groups that are computed together; more would multiply the largest intermediate arrays."""

HINT = "Lower max_side_px or memory_frames"


@dataclass(frozen=True, slots=True)
class Options:
    """What may be set about the tracker."""

    max_side_px: int = 1040
    """The long side that the network looks at; larger frames are shrunk for it. 0 = no limit."""
    memory_gap_frames: int = 0
    """Every how many frames one is added to the long-term memory; 0 = as published for the
    variant, 5 for the L networks."""
    memory_frames: int = 8
    """Most frames in long-term memory; 0 = no ceiling, then memory grows with the clip. Prompt
    frames are kept above it, and one more."""
    forget: Forget = "least-used"
    """Which frame leaves at the ceiling; "oldest" is the published rule, which may drop the
    prompt."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Of convolutions, products and memory; auto is fp16 on CUDA and fp32 on a CPU."""
    compile: bool = False
    """Compile encoder and decoder on the first frame; pays on long clips."""

    def __post_init__(self) -> None:
        if self.max_side_px and not 32 <= self.max_side_px <= 8192:
            raise OptionError("max_side_px must be 0 (no limit) or 32 to 8192")
        if not 0 <= self.memory_gap_frames <= 100_000:
            raise OptionError("memory_gap_frames must be 0 (as published) to 100000")
        if not 0 <= self.memory_frames <= 10_000:
            raise OptionError("memory_frames must be 0 (no ceiling) to 10000")
        if self.forget not in ("least-used", "oldest"):
            raise OptionError(f"forget cannot be {self.forget!r}", "Choose least-used or oldest")
        if self.precision not in ("auto", "fp32", "fp16", "bf16"):
            raise OptionError(
                f"precision cannot be {self.precision!r}", "Choose auto, fp32, fp16 or bf16"
            )


# ---------------------------------------------------------------- the procedure


def first_largest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of C planes (C, H, W), and which it is as uint8, the first on a tie.

    A few planes one after the other: several times faster than `max` over the outer axis.
    """
    best, at = x[0], torch.zeros(x.shape[1:], dtype=torch.uint8, device=x.device)
    for i in range(1, len(x)):
        at.masked_fill_(x[i] > best, i)
        best = torch.maximum(best, x[i])
    return best, at


@dataclass(slots=True)
class _Stepped:
    """The frame at hand, until its labels are known."""

    features: Features
    propagated: list[Propagated]
    """One for each memory."""


class Procedure:
    """One clip's way through the network: prompt, step, remember.

    Object ids are 1..n without gaps; group g holds 10 g + 1 .. 10 g + 10. Not an engine: labels
    come and go as tensors, and nothing is checked.
    """

    def __init__(
        self,
        network: DeAOT,
        rule: MemoryRule,
        *,
        max_side_px: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.network = network
        self.rule = rule
        self.max_side_px = max_side_px
        self.objects = 0
        self._dtype = dtype
        self._device = next(network.parameters()).device
        self._memories: list[Memory] = []
        self._groups: list[int] = []  # of each memory
        self._stepped: _Stepped | None = None

    @property
    def memories(self) -> Sequence[Memory]:
        """The memories of the groups, for those who want to look."""
        return self._memories

    def input_of(self, image: Image) -> npt.NDArray[np.uint8]:
        """The frame (H, W, 3) at the size at which the network looks at it.

        Bicubic in floats, then rounded: what OpenCV does with bytes depends on the processor, by
        one level in up to a hundredth of the pixels.
        """
        height, width = image.shape[:2]
        h, w = self.network.input_size(height, width, self.max_side_px)
        if (h, w) == (height, width):
            return image
        exact = cv2.resize(image.astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
        return np.asarray(np.clip(np.rint(exact), 0, 255), np.uint8)

    def prompt(self, image: Image, labels: Tensor, objects: int) -> None:
        """Remember a frame whose labels a user gave.

        Args:
            image: (H, W, 3); when it was just stepped to, its features are used again.
            labels: (H, W) uint8, 0..objects.
            objects: number of objects from here on.
        """
        with self._running():
            features = self._stepped.features if self._stepped else self._encode(image)
            self._stepped = None
            self.objects = objects
            total = max(1, -(-objects // GROUP))
            while (known := sum(self._groups)) < total:
                self._groups.append(min(BATCH, total - known))
                self._memories.append(Memory(self.rule))
            for memory, (first, groups) in zip(self._memories, self._spans(), strict=True):
                identity = self._identify(labels, features, first, groups)
                result = self.network.propagate(features, identity, groups)
                memory.prompt(self.network.remember(result.seen, identity))

    def step(self, image: Image) -> list[Tensor]:
        """Propagate to the next frame.

        Returns:
            for each group the decoder's logits (11, h4, w4), fp32; those above its number of
            objects mean nothing.
        """
        quarters: list[Tensor] = []
        with self._running():
            features = self._encode(image)
            propagated = []
            for memory, groups in zip(self._memories, self._groups, strict=True):
                memory.advance()
                result = self.network.propagate(
                    features,
                    (memory.long.layers(), memory.short),
                    groups,
                    frames=len(memory.long) if memory.wants_share else 0,
                )
                logits = self.network.decode(result.out, features).float()
                quarters += logits.unbind()
                propagated.append(result)
            self._stepped = _Stepped(features, propagated)
        return quarters

    def remember(self, labels: Tensor) -> None:
        """Give the frame just stepped to its labels (H, W) uint8; once a step."""
        if self._stepped is None:
            raise RuntimeError("remember() without a step before it")
        stepped, self._stepped = self._stepped, None
        features = stepped.features
        with self._running():
            for memory, (first, groups), result in zip(
                self._memories, self._spans(), stepped.propagated, strict=True
            ):
                one_hot = self._one_hot(labels, features, first, groups)
                if result.share is not None:
                    shown = F.adaptive_avg_pool2d(1 - one_hot[:, :1], features.size)
                    memory.long.credit(result.share, shown.flatten(1).float())
                identity = self.network.identify(one_hot)
                memory.remember(self.network.remember(result.seen, identity))

    def tensor(self, labels: LabelMap) -> Tensor:
        """A label map (H, W) uint8 on the network's device."""
        return torch.from_numpy(np.ascontiguousarray(labels)).to(self._device)

    def cut(self) -> None:
        """The next frame begins a new shot."""
        with self._running():
            for memory in self._memories:
                memory.cut()

    def logits(self, quarters: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits at frame size: (1 + objects, H, W) for one group, (1 + 10 G, H, W) for several.

        Several groups are joined by probability: the background is the product of theirs, an
        object keeps its own; back to logits, not normed.
        """
        with self._running():
            if len(quarters) == 1:
                return self._upsample(quarters[0], 0, size)
            background, objects = torch.ones((), device=self._device), []
            for g, quarter in enumerate(quarters):
                p = self._upsample(quarter, g, size).softmax(0)
                background = background * p[0]
                unused = p.new_zeros(GROUP + 1 - len(p), *size)
                objects += [p[1:], unused]
            p = torch.cat([background[None], *objects]).clamp_(1e-5, 1 - 1e-5)
            return torch.log(p / (1 - p))

    def labels(self, quarters: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Arg-max of `logits`, (H, W) uint8, the lower id on a tie; one group in memory at once."""
        with self._running():
            if len(quarters) == 1:
                return first_largest(self._upsample(quarters[0], 0, size))[1]
            background = torch.ones((), device=self._device)
            best = torch.zeros(size, device=self._device)
            ids = torch.zeros(size, dtype=torch.uint8, device=self._device)
            for g, quarter in enumerate(quarters):
                p = self._upsample(quarter, g, size).softmax(0)
                background = background * p[0]
                top, at = first_largest(p[1:])
                better = top > best
                best = torch.where(better, top, best)
                ids = torch.where(better, at + (1 + GROUP * g), ids)
            return torch.where(best > background.clamp(1e-5, 1 - 1e-5), ids, 0)

    def confidence(self, quarters: Sequence[Tensor], present: frozenset[int]) -> dict[int, float]:
        """How clear each decision is, by the margin between the best probability and the next.

        A present object has the mean margin over the pixels that it won within its group; an
        absent one the margin by which it lost where it came closest. Measured at 1/4 of the
        network's size.

        Args:
            quarters: of `step`.
            present: objects in the frame's label map.

        Returns:
            object 1..n -> 0..1
        """
        result: dict[int, float] = {}
        with self._running():
            for g, quarter in enumerate(quarters):
                p = self._used(quarter, g).softmax(0).flatten(1)  # (1 + n, h4 w4)
                top, at = p.topk(2, 0)  # (2, h4 w4)
                margin = top[0] - top[1]
                for k in range(1, len(p)):
                    won = at[0] == k
                    if GROUP * g + k not in present:
                        near = int(p[k].argmax())
                        value = 0.0 if bool(won[near]) else float(top[0, near] - p[k, near])
                    elif bool(won.any()):
                        value = float(margin[won].mean())
                    else:  # smaller than a pixel of the decoder
                        value = float(p[k].max())
                    result[GROUP * g + k] = min(max(value, 0.0), 1.0)
        return result

    # ------------------------------------------------------------

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Inference mode and, below fp32, autocast: within one step, never between two."""
        with torch.inference_mode():
            if self._dtype == torch.float32:
                yield
            else:
                with torch.autocast(self._device.type, self._dtype):
                    yield

    def _spans(self) -> list[tuple[int, int]]:
        """First group and number of groups of each memory."""
        firsts = [sum(self._groups[:i]) for i in range(len(self._groups))]
        return list(zip(firsts, self._groups, strict=True))

    def _in_group(self, group: int) -> int:
        return min(GROUP, max(0, self.objects - GROUP * group))

    def _encode(self, image: Image) -> Features:
        x = torch.from_numpy(np.ascontiguousarray(self.input_of(image))).to(self._device)
        mean, std = (torch.tensor(v, dtype=torch.float64, device=x.device) for v in (MEAN, STD))
        x = ((x.double() / 255 - mean) / std).float()  # (h, w, 3)
        return self.network.encode(x.permute(2, 0, 1)[None])  # channels last in memory

    def _one_hot(self, labels: Tensor, features: Features, first: int, groups: int) -> Tensor:
        """Labels (H, W) to (G, C, h, w) float, C = 1 + the most objects in one of the groups."""
        size = self._input_size(features)
        small = F.interpolate(labels[None, None], size, mode="nearest")[0, 0]
        channels = 1 + max(self._in_group(first + g) for g in range(groups))
        starts = GROUP * torch.arange(first, first + groups, device=labels.device)
        local = small.to(torch.int16) - starts[:, None, None].to(torch.int16)  # (G, h, w)
        local = torch.where((local >= 1) & (local <= GROUP), local, 0)
        ids = torch.arange(channels, device=labels.device, dtype=torch.int16)
        return (local[:, None] == ids[:, None, None]).float()

    def _identify(self, labels: Tensor, features: Features, first: int, groups: int) -> Tensor:
        return self.network.identify(self._one_hot(labels, features, first, groups))

    def _input_size(self, features: Features) -> tuple[int, int]:
        h, w = features.size
        if self.network.variant.align_corners:
            return (h - 1) * 16 + 1, (w - 1) * 16 + 1
        return h * 16, w * 16

    def _used(self, quarter: Tensor, group: int) -> Tensor:
        return quarter[: 1 + self._in_group(group)]

    def _upsample(self, quarter: Tensor, group: int, size: tuple[int, int]) -> Tensor:
        """Logits (11, h4, w4) to (1 + objects of the group, H, W)."""
        corners = self.network.variant.align_corners
        used = self._used(quarter, group)[None]
        return F.interpolate(used, size, mode="bilinear", align_corners=corners)[0]


# ---------------------------------------------------------------- the engine


class DeAOTTracker:
    """DeAOT behind the `Tracker` interface; holds the network, never a clip."""

    def __init__(self, network: DeAOT, options: Options, dtype: torch.dtype) -> None:
        """Take a network in eval mode on its device.

        Args:
            network: with its weights.
            options: of the tracker.
            dtype: of convolutions, products and memory.
        """
        self.network = network
        self.options = options
        self.dtype = dtype
        self.rule = MemoryRule(
            options.memory_gap_frames or network.variant.memory_gap_frames,
            options.memory_frames,
            options.forget,
        )

    def track(self, frames: Iterable[Frame], labels: Mapping[int, LabelMap]) -> Iterator[Tracked]:
        """Yield every frame with its objects and their confidence; see `engines.Tracker`.

        An object shown by a label map has confidence 1 there. Lookahead is 0.

        Raises:
            PromptError: at once, when a label map is empty, not (H, W), or has ids outside
                0..255; at the first frame, when it has none or one is of another size.
            InputError: a frame is of another size than the first.
            OutOfMemory: the hint names the options that lower memory.
        """
        if not labels:
            raise PromptError("there is nothing to follow", "Give a label map for the first frame")
        prompts = {index: _checked(index, given) for index, given in labels.items()}
        return self._track(frames, prompts)

    def _track(self, frames: Iterable[Frame], prompts: Mapping[int, LabelMap]) -> Iterator[Tracked]:
        clip: _Clip | None = None
        for frame in frames:
            if clip is None:
                clip = _Clip(self._procedure(), frame, prompts)
            with memory_guard(HINT), compile_guard(self.options.compile, NAME):
                tracked = clip.take(frame)
            yield tracked

    def _procedure(self) -> Procedure:
        return Procedure(
            self.network, self.rule, max_side_px=self.options.max_side_px, dtype=self.dtype
        )


class _Clip:
    """The state of one clip: what lives in the generator."""

    def __init__(self, procedure: Procedure, first: Frame, prompts: Mapping[int, LabelMap]) -> None:
        self._procedure = procedure
        self._prompts = prompts
        self._size = first.image.shape[:2]
        self._shot = first.shot
        self._ids = np.zeros(1, np.uint8)  # number inside -> object id; 0 is the background
        if first.index not in prompts:
            raise PromptError(
                f"frame {first.index}, the first to be tracked, has no label map",
                "Mark the object in it",
            )
        for index, given in prompts.items():
            if given.shape != self._size:
                raise PromptError(
                    f"the label map of frame {index} is {given.shape[1]}x{given.shape[0]}, "
                    f"the clip is {self._size[1]}x{self._size[0]}",
                    "Give label maps at the clip's own size",
                )

    def take(self, frame: Frame) -> Tracked:
        """The next frame."""
        if frame.image.shape[:2] != self._size:
            h, w = frame.image.shape[:2]
            raise InputError(
                f"frame {frame.index} is {w}x{h}, the clip is {self._size[1]}x{self._size[0]}"
            )
        given = self._prompts.get(frame.index)
        if frame.shot != self._shot:
            self._shot = frame.shot
            self._procedure.cut()
        confidence: dict[int, float] = {}
        inside = np.zeros(self._size, np.uint8)
        if len(self._ids) > 1:
            quarters = self._procedure.step(frame.image)
            found = self._procedure.labels(quarters, self._size)
            inside = found.cpu().numpy()
            present = frozenset(np.unique(inside).tolist())
            certain = self._procedure.confidence(quarters, present)
            confidence = {int(self._ids[k]): c for k, c in certain.items()}
            if given is None:
                self._procedure.remember(found)
        if given is not None:
            inside = self._lay_over(inside, given)
            objects = len(self._ids) - 1
            self._procedure.prompt(frame.image, self._procedure.tensor(inside), objects)
            confidence |= {int(k): 1.0 for k in np.unique(given[given > 0])}
        return Tracked(frame, self._ids[inside], confidence)

    def _lay_over(self, inside: LabelMap, given: LabelMap) -> LabelMap:
        """The prediction with the objects of a label map exactly as that shows them."""
        shown = np.unique(given[given > 0])
        self._ids = np.concatenate([self._ids, np.setdiff1d(shown, self._ids[1:])])
        number = np.zeros(256, np.uint8)  # object id -> number inside
        number[self._ids[1:]] = np.arange(1, len(self._ids))
        numbers = number[given]
        kept = np.where(np.isin(inside, number[shown]), 0, inside)
        return np.where(numbers > 0, numbers, kept).astype(np.uint8)


def _checked(index: int, given: LabelMap) -> LabelMap:
    """A label map as uint8."""
    array = np.asarray(given)
    if array.ndim != 2 or array.dtype.kind not in "uib":
        raise PromptError(
            f"the label map of frame {index} is {array.dtype} with {array.ndim} axes",
            "Give whole numbers, one for each pixel: 0 background, k object k",
        )
    if not array.any():
        raise PromptError(f"the label map of frame {index} shows no object", "Mark at least one")
    if int(array.min()) < 0 or int(array.max()) > 255:
        raise PromptError(
            f"the label map of frame {index} has object {int(array.max())}",
            "At most 255 objects can be followed, with ids 1 to 255",
        )
    return array.astype(np.uint8)


# ---------------------------------------------------------------- loading


def find_correlation() -> Correlate | None:
    """The compiled correlation of the package spatial-correlation-sampler, where there is one."""
    try:
        from spatial_correlation_sampler import spatial_correlation_sample
    except ImportError:
        return None
    return spatial_correlation_sample  # type: ignore[no-any-return]


def variant_of(path: Path) -> Variant:
    """The network that a weights file is for, by its published name.

    Raises:
        OptionError: it has another name.
    """
    if path.name not in PUBLISHED:
        raise OptionError(
            f"{path.name} is not the name of a DeAOT weights file",
            f"Keep the published names: {', '.join(PUBLISHED)}",
        )
    return VARIANTS[PUBLISHED[path.name]]


def load_network(path: Path) -> DeAOT:
    """A network with the weights of a file, in eval mode on the CPU, under the published keys.

    Raises:
        WeightsMissing, WeightsCorrupt, WeightsMismatch: see `weights.load_into`.
    """
    network = DeAOT(variant_of(path), local=partial(attend_locally, correlate=find_correlation()))
    name = network.variant.name.replace("_", "-")
    weights_files.load_into(network, path, name=name, may_lack=MAY_LACK, may_have=MAY_HAVE)
    return network.eval().requires_grad_(False)


def create(options: Options, *, device: str, weights: Path) -> DeAOTTracker:
    """Build the tracker.

    Args:
        options: see `Options`.
        device: "auto", "cpu" or "cuda".
        weights: the published file, under its published name.

    Raises:
        EngineUnavailable: no such device, or one that cannot compute in this precision.
        WeightsMissing, WeightsCorrupt, WeightsMismatch: see `weights.load_into`.
    """
    where = pick(device, NAME)
    dtype = compute_dtype(options.precision, where, NAME, half="fp16")
    network = load_network(weights)
    network.fold_norms()
    network = network.to(where).to(memory_format=torch.channels_last)
    if options.compile:
        network.encoder.compile()
        network.decoder.compile()
    return DeAOTTracker(network, options, dtype)
