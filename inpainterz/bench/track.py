"""What the DeAOT tracker costs: beside another implementation of the same network, and over time.

Both sides take turns frame by frame, with the same weights and the same long-term memory: one frame
in five, without a ceiling. What the ceiling saves on a longer clip comes on top. Their memories are
fed the same labels, so what differs is that of single frames. The other side computes in fp32, as
the published code does unless told otherwise; so on CUDA the agreement is that of half precision.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from inpainterz import weights
from inpainterz.bench.measure import (
    Clock,
    Size,
    balanced,
    bars,
    framed,
    in_new_process,
    machine,
    memory_mib,
    pictures,
)
from inpainterz.device import compute_dtype, pick
from inpainterz.engines import find
from inpainterz.errors import EngineUnavailable, InputError, OptionError
from inpainterz.track.deaot.attention import RADIUS, SPAN
from inpainterz.track.deaot.engine import MEAN, PUBLISHED, STD, DeAOTTracker, Options, Procedure
from inpainterz.track.deaot.memory import MemoryRule
from inpainterz.track.deaot.network import VARIANTS, DeAOT, Variant
from inpainterz.types import JSON, Image, LabelMap

PUBLISHED_REPOSITORY = "github.com/yoxu515/aot-benchmark"
NO_LIMIT = 10**6
"""Frames in a memory without a ceiling, pixels of a side without a limit: for those who want a
number."""
GAINS = {"encoder.features.": 2**0.5, "decoder.adapter_": 0.1, "decoder.conv_out": 8.0}
"""MobileNet's activations would die out, and labels would hang on ties."""


@dataclass(frozen=True, slots=True)
class TrackBench:
    """What is measured."""

    tracker: str = "deaot"
    """Name of the engine."""
    size: Size = (480, 864)
    objects: tuple[int, ...] = (1, 5)
    """How many objects; the time is taken once for each, memory for the last."""
    frames: int = 12
    max_side_px: int = 1040
    """The long side that the network looks at, 0 = the frame's own."""
    gap_frames: int = 5
    """Every how many frames one is added to the long-term memory."""
    threads: int = 0
    """0 = as torch chooses."""
    device: str = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    clip: Path | None = None
    """Frames to work on; None = synthetic ones."""
    against: Path | None = None
    """A folder with the published code, or a file with the function `build` that
    tests/parity/deaot_fixtures.py describes; None = our own network, written down plainly."""

    def __post_init__(self) -> None:
        h, w = self.size
        if not (16 <= h <= 4320 and 16 <= w <= 8192):
            raise OptionError(f"{w}x{h} is no size to measure at", "Choose 16 to 8192 pixels")
        if not self.objects or not all(1 <= n <= min(255, w // 2) for n in self.objects):
            raise OptionError("the number of objects must be 1 to 255, and fit side by side")
        if not 2 <= self.frames <= 1_000_000:
            raise OptionError("the number of frames must be 2 to 1000000")
        if not 1 <= self.gap_frames <= 100_000:
            raise OptionError("the memory gap must be 1 to 100000 frames")
        if not 0 <= self.threads <= 1024:
            raise OptionError("the number of threads must be 0 (as torch chooses) to 1024")


@dataclass(frozen=True, slots=True)
class TimeRow:
    """Both sides with one number of objects."""

    objects: int
    ours_fps: float
    theirs_fps: float
    ratio: float
    labels_differ: float
    """Share of pixels, 0..1."""
    iou: float
    """Mean over objects and frames of our masks with theirs."""

    def as_json(self) -> JSON:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """The tracker at one moment."""

    frame: int
    remembered_frames: int
    tensors_mib: float
    peak_mib: float
    """The most that the process has held until here."""
    seconds_per_frame: float
    """Since the row before."""

    def as_json(self) -> JSON:
        """Plain data."""
        return asdict(self)


# ---------------------------------------------------------------- the two sides


class Side(Protocol):
    """One implementation; see tests/parity/deaot_fixtures.py."""

    def reference(self, frame: Image, labels: LabelMap, n_objects: int) -> None:
        """First frame."""

    def step(self, frame: Image) -> tuple[Any, Any, npt.NDArray[np.uint8]]:
        """Decoder output, joined logits (both may be None), labels (H, W)."""

    def memorise(self, labels: LabelMap) -> None:
        """Remember the frame just stepped under these labels."""


class Ours:
    """The engine's procedure as it runs, confidence included."""

    def __init__(self, procedure: Procedure) -> None:
        self.procedure = procedure

    def reference(self, frame: Image, labels: LabelMap, n_objects: int) -> None:
        """See `Side`."""
        self.procedure.prompt(frame, self.procedure.tensor(labels), n_objects)

    def step(self, frame: Image) -> tuple[None, None, npt.NDArray[np.uint8]]:
        """See `Side`."""
        quarters = self.procedure.step(frame)
        found = self.procedure.labels(quarters, frame.shape[:2]).cpu().numpy()
        self.procedure.confidence(quarters, frozenset(np.unique(found).tolist()))
        return None, None, found

    def memorise(self, labels: LabelMap) -> None:
        """See `Side`."""
        self.procedure.remember(self.procedure.tensor(labels))


def shifted_copies(
    q: Tensor, k: Tensor, values: Tensor, relative: Tensor, size: tuple[int, int]
) -> Tensor:
    """The local attention as one would write it down: keys and values of each window spelled out.

    Args and returns as `inpainterz.track.deaot.attention.attend_locally`.
    """
    h, w = size

    def windows(x: Tensor) -> Tensor:  # (B, N, C) to (B, C, 225, N)
        maps = x.transpose(1, 2).reshape(len(x), -1, h, w)
        return F.unfold(maps, SPAN, padding=RADIUS).view(len(x), -1, SPAN * SPAN, h * w)

    inside = F.unfold(q.new_ones(1, 1, h, w), SPAN, padding=RADIUS)  # (1, 225, N)
    scores = (q.transpose(1, 2)[:, :, None] * windows(k)).sum(1) * q.shape[-1] ** -0.5
    scores = (scores + relative.transpose(1, 2)).masked_fill(inside == 0, -torch.inf)
    shares = scores.softmax(1)  # (B, 225, N)
    parts = [(windows(v) * shares[:, None]).sum(2) for v in torch.split(values, 128, -1)]
    return torch.cat(parts, 1).transpose(1, 2)


class Published:
    """The authors' code, which lies in a folder and is called as its own demo calls it."""

    def __init__(
        self, folder: Path, variant: Variant, state: Mapping[str, Tensor], ours: Procedure,
        device: torch.device, gap_frames: int,
    ) -> None:  # fmt: skip
        self._prepare = ours.input_of
        self._device = device
        with importing_from(folder):
            try:
                config = importlib.import_module("configs.default").DefaultEngineConfig(
                    "bench", variant.name
                )
                model = importlib.import_module("networks.models").build_vos_model(
                    config.MODEL_VOS, config
                )
                build = importlib.import_module("networks.engines").build_engine
            except ImportError as error:
                raise EngineUnavailable(
                    "published DeAOT",
                    f"{folder} cannot be imported ({error})",
                    f"Give a copy of {PUBLISHED_REPOSITORY}, with what it needs installed",
                ) from error
        model.load_state_dict(state, strict=True)
        self._engine = build(
            config.MODEL_ENGINE,
            phase="eval",
            aot_model=model.eval().to(device),
            gpu_id=(device.index or 0) if device.type == "cuda" else -1,
            long_term_mem_gap=gap_frames,
        )

    def _input(self, frame: Image) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(self._prepare(frame))).to(self._device)
        mean, std = (torch.tensor(v, device=self._device) for v in (MEAN, STD))
        return ((x.float() / 255 - mean) / std).permute(2, 0, 1)[None].contiguous()

    def _labels(self, labels: LabelMap, size: tuple[int, int]) -> Tensor:
        x = torch.from_numpy(labels).to(self._device)[None, None].float()
        return F.interpolate(x, size, mode="nearest")

    @torch.no_grad()
    def reference(self, frame: Image, labels: LabelMap, n_objects: int) -> None:
        """See `Side`."""
        x = self._input(frame)
        given = self._labels(labels, (x.shape[2], x.shape[3]))
        self._engine.add_reference_frame(x, given, frame_step=0, obj_nums=[n_objects])

    @torch.no_grad()
    def step(self, frame: Image) -> tuple[None, None, npt.NDArray[np.uint8]]:
        """See `Side`."""
        self._engine.match_propogate_one_frame(self._input(frame))
        logits = self._engine.decode_current_logits(frame.shape[:2])
        found = torch.softmax(logits, 1).argmax(1)[0]
        return None, None, found.to(torch.uint8).cpu().numpy()

    @torch.no_grad()
    def memorise(self, labels: LabelMap) -> None:
        """See `Side`."""
        self._engine.update_memory(self._labels(labels, self._engine.input_size_2d))


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Modules are first looked for in a folder, for the length of the block."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


# ---------------------------------------------------------------- measuring


def variant_of(tracker: str) -> Variant:
    """The network behind an engine's name.

    Raises:
        OptionError: no such engine, or one without a network.
    """
    entry = find("track", tracker)
    if entry.weights is None:
        raise OptionError(f"{tracker} is no network", "Choose deaot or another DeAOT engine")
    return VARIANTS[PUBLISHED[weights.card(entry.weights).file]]


def facts(bench: TrackBench) -> JSON:
    """Where and on what `bench` is measured."""
    device = _set_up(bench)
    dtype = compute_dtype(bench.precision, device, bench.tracker, half="fp16")
    other = "plain" if bench.against is None else str(bench.against)
    return machine(device) | {
        "network": variant_of(bench.tracker).name,
        "height": bench.size[0],
        "width": bench.size[1],
        "frames": bench.frames,
        "max_side_px": bench.max_side_px,
        "precision": str(dtype).removeprefix("torch."),
        "against": other,
        "clip": None if bench.clip is None else str(bench.clip),
    }


def time_rows(bench: TrackBench) -> Iterator[TimeRow]:
    """Frames a second of both sides, for each number of objects.

    Raises:
        EngineUnavailable: no such device, or the other side cannot be imported.
        OptionError: no such network.
        InputError: the other side is neither a folder nor a file with `build`.
        VideoError: the clip cannot be read.
    """
    device = _set_up(bench)
    clock = Clock(device)
    for objects in bench.objects:
        ours, theirs = _sides(bench, device)
        spent = [0.0, 0.0]
        differing, overlaps = 0.0, []
        images = pictures(bench.size, bench.clip)
        first, labels = next(images), bars(bench.size, objects)
        for side in (ours, theirs):
            side.reference(first, labels, objects)
            side.step(first)  # warms up, and is not counted
            side.memorise(labels)
        for i in range(1, bench.frames + 1):
            image, fed = next(images), bars(bench.size, objects, i)
            found: list[npt.NDArray[np.uint8]] = []
            for at, side in enumerate((ours, theirs)):

                def work(side: Side = side, image: Image = image, fed: LabelMap = fed) -> LabelMap:
                    seen = side.step(image)[2]
                    side.memorise(fed)
                    return seen

                seconds, seen = clock.time(work)
                spent[at] += seconds
                found.append(seen)
            differing += float((found[0] != found[1]).mean())
            overlaps += _overlaps(found[0], found[1], objects)
        yield TimeRow(
            objects,
            bench.frames / spent[0],
            bench.frames / spent[1],
            spent[1] / spent[0],
            differing / bench.frames,
            float(np.mean(overlaps)),
        )


def memory_rows(bench: TrackBench) -> Iterator[MemoryRow]:
    """Memory of the engine, from stream to stream, in a process of its own.

    Raises: as `time_rows`.
    """
    return in_new_process(_memory_rows, bench)


def _memory_rows(bench: TrackBench) -> Iterator[MemoryRow]:
    device = _set_up(bench)
    clock = Clock(device)
    options = Options(
        memory_gap_frames=bench.gap_frames,
        max_side_px=bench.max_side_px,
        precision=bench.precision,
    )
    dtype = compute_dtype(bench.precision, device, bench.tracker, half="fp16")
    network = _network(bench).to(device)
    network.fold_norms()
    tracker = DeAOTTracker(network.to(memory_format=torch.channels_last), options, dtype)
    full = bench.gap_frames * (options.memory_frames - 1)
    marks = {1, full // 2, full} | {round(bench.frames * k / 20) - 1 for k in range(1, 21)}
    images = pictures(bench.size, bench.clip)
    labels = {0: bars(bench.size, bench.objects[-1])}
    since, before = clock.now(), -1
    for tracked in tracker.track(framed(images, bench.frames), labels):
        i = tracked.frame.index
        if i in marks:
            seconds = (clock.now() - since) / (i - before)
            remembered = min(1 + i // bench.gap_frames, options.memory_frames)
            yield MemoryRow(i, remembered, *memory_mib(device), seconds)
            since, before = clock.now(), i


def _set_up(bench: TrackBench) -> torch.device:
    if bench.threads:
        torch.set_num_threads(bench.threads)
    return pick(bench.device, bench.tracker)


def _network(bench: TrackBench) -> DeAOT:
    return balanced(partial(DeAOT, variant_of(bench.tracker)), GAINS)


def _sides(bench: TrackBench, device: torch.device) -> tuple[Side, Side]:
    rule = MemoryRule(bench.gap_frames, 0)
    limit = Options(max_side_px=bench.max_side_px).max_side_px
    dtype = compute_dtype(bench.precision, device, bench.tracker, half="fp16")
    network = _network(bench)
    network.fold_norms()
    network = network.to(device).to(memory_format=torch.channels_last)
    ours = Procedure(network, rule, max_side_px=limit, dtype=dtype)
    if bench.against is None:
        plain = _network(bench).to(device)
        plain.local = shifted_copies
        return Ours(ours), Ours(Procedure(plain, rule, max_side_px=limit))
    state, variant = _network(bench).state_dict(), network.variant
    if bench.against.is_dir():
        folder = bench.against
        return Ours(ours), Published(folder, variant, state, ours, device, bench.gap_frames)
    theirs: Side = load_adapter(bench.against).build(
        variant.name, state, bench.gap_frames, NO_LIMIT, limit or NO_LIMIT
    )
    return Ours(ours), theirs


def load_adapter(path: Path) -> Any:
    """A Python file of the caller's as a module, with the function `build`.

    Raises:
        InputError: there is no such file, it fails, or has no `build`.
    """
    spec = importlib.util.spec_from_file_location("adapter", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"{path} is neither a folder nor a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody else's code raises
        raise InputError(f"{path} fails: {type(error).__name__}: {error}") from error
    if not hasattr(module, "build"):
        raise InputError(f"{path} has no function build")
    return module


def _overlaps(one: LabelMap, other: LabelMap, objects: int) -> list[float]:
    """IoU of each object that either side sees."""
    result = []
    for k in range(1, objects + 1):
        either = int(((one == k) | (other == k)).sum())
        if either:
            result.append(int(((one == k) & (other == k)).sum()) / either)
    return result or [1.0]
