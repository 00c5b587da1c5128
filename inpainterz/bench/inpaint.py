"""What the E2FGVI engine costs beside the published procedure, and over time.

The other side is the published window loop, on our own network or on the authors' code: which
frames are shown, what is computed anew, what is decoded for nothing. On our own network the
comparison favours the other side, whose own code also spells out the attention's scores. Weights
are random and the same on both sides: they change nothing of the cost.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from inpainterz.bench.measure import (
    Clock,
    Size,
    balanced,
    framed,
    in_new_process,
    machine,
    memory_mib,
    pictures,
)
from inpainterz.bench.track import importing_from, load_adapter
from inpainterz.device import compute_dtype, pick
from inpainterz.errors import EngineUnavailable, OptionError
from inpainterz.inpaint.e2fgvi import published
from inpainterz.inpaint.e2fgvi.engine import Counts, E2FGVIInpainter, Options
from inpainterz.inpaint.e2fgvi.network import BASE_SIZE, HQ, Generator
from inpainterz.types import JSON, Frame, Mask

PUBLISHED_REPOSITORY = "github.com/MCG-NKU/E2FGVI"
LONG = 70
"""Frames of the clip in whose middle the published procedure is timed; it costs more on longer."""

Part = Literal["counts", "time", "crop", "memory"]
PARTS: tuple[Part, ...] = ("counts", "time", "crop", "memory")


@dataclass(frozen=True, slots=True)
class InpaintBench:
    """What is measured."""

    size: Size = BASE_SIZE
    """Of the frames in the part `time`; the published procedure wants 60n x 108m."""
    hole: float = 0.1
    """Share of the frame, in the parts `time` and `crop`."""
    memory_frames: tuple[int, int] = (LONG, 10 * LONG)
    """Lengths of the two clips of the part `memory`."""
    threads: int = 0
    """0 = as torch chooses."""
    device: str = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    clip: Path | None = None
    """Frames to work on; None = synthetic ones."""
    against: Path | None = None
    """A folder with the published code, or a file with the functions `build` and `forward` of
    tests/parity/e2fgvi_adapter.py; None = our own network."""

    def __post_init__(self) -> None:
        h, w = self.size
        if not (60 <= h <= 4320 and 108 <= w <= 8192) or h % 60 or w % 108:
            raise OptionError(
                f"{w}x{h} is no size that the published procedure takes as it is",
                "Choose a width that is a multiple of 108 and a height that is one of 60",
            )
        if not 0.001 <= self.hole <= 1:
            raise OptionError("the hole's share must be 0.001 to 1")
        if not all(2 <= n <= 1_000_000 for n in self.memory_frames):
            raise OptionError("the number of frames must be 2 to 1000000")
        if not 0 <= self.threads <= 1024:
            raise OptionError("the number of threads must be 0 (as torch chooses) to 1024")


@dataclass(frozen=True, slots=True)
class CountRow:
    """How often a clip's frames go through the parts of the network."""

    side: str
    frames: int
    encoded: int
    flows: int
    decoded: int
    windows: int

    def as_json(self) -> JSON:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TimeRow:
    """Seconds for each frame that comes out."""

    side: str
    size: Size
    hole: float
    """Share of the frame that is hole; what is shown to the network follows from it."""
    precision: str
    seconds_per_frame: float
    ratio: float
    """How many times less than the first row, of the part `crop` the share of it."""

    def as_json(self) -> JSON:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """A clip of so many frames in a process of its own."""

    frames: int
    peak_mib: float

    def as_json(self) -> JSON:
        """Plain data."""
        return asdict(self)


def facts(bench: InpaintBench) -> JSON:
    """Where and on what `bench` is measured."""
    device = _set_up(bench)
    dtype = compute_dtype(bench.precision, device, HQ.kind, half="fp16")
    return machine(device) | {
        "network": HQ.kind,
        "height": bench.size[0],
        "width": bench.size[1],
        "precision": str(dtype).removeprefix("torch."),
        "against": "published procedure" if bench.against is None else str(bench.against),
        "clip": None if bench.clip is None else str(bench.clip),
    }


def holed(
    bench: InpaintBench, size: Size, count: int, share: float
) -> Iterator[tuple[Frame, Mask]]:
    """Frames with one square hole in the middle."""
    h, w = size
    tall = min(h, max(1, round((share * h * w) ** 0.5)))
    wide = min(w, max(1, round(share * h * w / tall)))
    hole = np.zeros(size, np.bool_)
    top, left = (h - tall) // 2, (w - wide) // 2
    hole[top : top + tall, left : left + wide] = True
    for frame in framed(pictures(size, bench.clip), count):
        yield frame, hole


# ---------------------------------------------------------------- the parts


def count_rows(bench: InpaintBench) -> Iterator[CountRow]:
    """Encodes, flows and decodes for a clip of `LONG` frames; small ones, which count alike."""
    device = _set_up(bench)
    schedule = published.schedule(LONG)
    used = sum(len(w.neighbours) + len(w.references) for w in schedule)
    flows = sum(2 * (len(w.neighbours) - 1) for w in schedule)
    yield CountRow("published", LONG, used, flows, used, len(schedule))
    options = Options(hybrid=False, max_side_px=108, margin_px=0, precision=bench.precision)
    counts = Counts()
    engine = E2FGVIInpainter(_network(), options, device)
    for _ in engine.counted(holed(bench, (52, 100), LONG, 0.1), counts):
        pass
    yield CountRow("ours", LONG, counts.encoded, counts.flows, counts.decoded, counts.windows)


def time_rows(bench: InpaintBench) -> Iterator[TimeRow]:
    """The published procedure, then ours with the whole frame shown, then with a smaller hole.

    Raises:
        EngineUnavailable: no such device, or the other side cannot be imported.
        InputError: the other side is neither a folder nor a file with `build`.
        VideoError: the clip cannot be read.
    """
    device = _set_up(bench)
    half = compute_dtype(bench.precision, device, HQ.kind, half="fp16")
    precision = str(half).removeprefix("torch.")
    theirs = _seconds_published(bench, device, half)
    yield TimeRow("published", bench.size, 0.8, precision, theirs, 1.0)
    options = Options(hybrid=False, max_side_px=max(bench.size), precision=bench.precision)
    for share in (0.8, bench.hole):
        ours = _seconds_ours(bench, device, bench.size, share, options)
        yield TimeRow("ours", bench.size, share, precision, ours, theirs / ours)


def crop_rows(bench: InpaintBench) -> Iterator[TimeRow]:
    """1280x720: a hole that needs the whole frame, then a small one; short windows."""
    device = _set_up(bench)
    half = compute_dtype(bench.precision, device, HQ.kind, half="fp16")
    precision = str(half).removeprefix("torch.")
    size = (720, 1280)
    options = Options(
        hybrid=False, max_side_px=1280, window_frames=3, stride_frames=2, references=0,
        precision=bench.precision,
    )  # fmt: skip
    whole = _seconds_ours(bench, device, size, 0.8, options)
    yield TimeRow("ours", size, 0.8, precision, whole, 1.0)
    part = _seconds_ours(bench, device, size, bench.hole, options)
    yield TimeRow("ours", size, bench.hole, precision, part, part / whole)


def memory_rows(bench: InpaintBench) -> Iterator[MemoryRow]:
    """Peak of a process that inpaints a short clip, and of one that inpaints a long one.

    Raises: as `time_rows`.
    """
    for count in bench.memory_frames:
        yield from in_new_process(_memory_row, bench, count)


def _memory_row(bench: InpaintBench, count: int) -> Iterator[MemoryRow]:
    device = _set_up(bench)
    options = Options(
        hybrid=False, window_frames=3, stride_frames=2, references=1, margin_px=8,
        precision=bench.precision,
    )  # fmt: skip
    engine = E2FGVIInpainter(_network(), options, device)
    for _ in engine.inpaint(holed(bench, (90, 160), count, 0.02)):
        pass
    yield MemoryRow(count, memory_mib(device)[1])


ROWS: dict[Part, Callable[[InpaintBench], Iterator[CountRow | TimeRow | MemoryRow]]] = {
    "counts": count_rows,
    "time": time_rows,
    "crop": crop_rows,
    "memory": memory_rows,
}


# ---------------------------------------------------------------- measuring


def _set_up(bench: InpaintBench) -> torch.device:
    if bench.threads:
        torch.set_num_threads(bench.threads)
    return pick(bench.device, HQ.kind)


def _network() -> Generator:
    return balanced(partial(Generator, HQ), {})


def _seconds_published(bench: InpaintBench, device: torch.device, dtype: torch.dtype) -> float:
    """Per frame that comes out, from one window in the middle of a clip of `LONG` frames."""
    call, clock = _published(bench, device), Clock(device)
    window = published.schedule(LONG)[LONG // 2 // published.NEIGHBOUR_STRIDE]
    images = pictures(bench.size, bench.clip)
    used = len(window.neighbours) + len(window.references)
    shown = np.stack([next(images) for _ in range(used)]).transpose(0, 3, 1, 2)
    x = torch.from_numpy(shown / np.float32(127.5) - 1)[None].to(device)  # (1, T, 3, H, W)
    h, w = bench.size
    x[..., h // 20 : h - h // 20, w // 20 : w - w // 20] = 0
    low = dtype != torch.float32

    def work() -> Any:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=low):
            return call(x, len(window.neighbours))

    runs = 1 if device.type == "cpu" else 3  # the first one on CUDA chooses kernels
    return min(clock.time(work)[0] for _ in range(runs)) / published.NEIGHBOUR_STRIDE


def _published(bench: InpaintBench, device: torch.device) -> Callable[[Tensor, int], object]:
    """(1, T, 3, H, W) in [-1, 1] and the number of neighbours, to what that side makes of it."""
    network = _network()
    if bench.against is None:
        return network.to(device)
    state = network.state_dict()
    if not bench.against.is_dir():
        adapter = load_adapter(bench.against)
        theirs = adapter.build("e2fgvi_hq", state)
        return lambda x, local: adapter.forward(theirs, x, local)
    with importing_from(bench.against):
        try:
            model: torch.nn.Module = importlib.import_module("model.e2fgvi_hq").InpaintGenerator()
        except (ImportError, OSError) as error:
            raise EngineUnavailable(
                "published E2FGVI",
                f"{bench.against} cannot be imported ({error})",
                f"Give a copy of {PUBLISHED_REPOSITORY}, with mmcv and what else it needs",
            ) from error
    model.load_state_dict(state, strict=True)
    return model.eval().to(device)


def _seconds_ours(
    bench: InpaintBench, device: torch.device, size: Size, share: float, options: Options
) -> float:
    """Per frame, from the third window of a clip, when caches and references are full."""
    engine, clock = E2FGVIInpainter(_network(), options, device), Clock(device)
    stride = options.stride_frames
    count = 2 * stride + options.window_frames + options.reference_ahead_frames
    marks: list[float] = []
    for item in engine.inpaint(holed(bench, size, count, share)):
        if item.frame.index in (2 * stride - 1, 2 * stride):  # last of window 2, first of window 3
            marks.append(clock.now())
            if len(marks) == 2:
                break
    return (marks[1] - marks[0]) / stride
