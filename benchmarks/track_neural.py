"""What the DeAOT tracker costs beside another implementation of the same network.

    python benchmarks/track_neural.py                        beside a plain one, some ten minutes
    python benchmarks/track_neural.py --against ADAPTER.py   beside any other, e.g. the published
    python benchmarks/track_neural.py --part memory --frames 2000
    python benchmarks/track_neural.py --device cuda

ADAPTER.py has the function `build` that tests/parity/deaot_fixtures.py describes. The plain side is
our own network as one would write it down: norms not folded, and 225 shifted copies of keys and
values in the local attention.

Both sides take turns frame by frame, with the same random weights (they change nothing of the cost)
and the same long-term memory: one frame in five, without a ceiling. What our ceiling saves on a
longer clip comes on top and is in the table's last column. Their memory is fed the same labels, so
the share of labels that differ is that of single frames. Seconds are those of all cores together
(`process_time`) divided by the number of threads on the CPU, so that another program running beside
does not count, and those of the clock on CUDA.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from inpainterz.track.deaot import network as deaot
from inpainterz.track.deaot.attention import RADIUS, SPAN, Correlate
from inpainterz.track.deaot.engine import DeAOTTracker, Options, Procedure
from inpainterz.track.deaot.memory import MemoryRule
from inpainterz.track.deaot.network import VARIANTS, DeAOT
from inpainterz.types import Frame, Image, LabelMap


def random_network(variant: str) -> DeAOT:
    """Weights that keep activations in bounds, so that rounding stays rounding."""
    torch.manual_seed(0)
    network = DeAOT(VARIANTS[variant]).eval().requires_grad_(False)
    for p in network.parameters():
        if p.ndim >= 2:
            p.copy_(torch.randn(p.shape) / p[0].numel() ** 0.5)
    return network


def image(size: tuple[int, int], index: int) -> Image:
    """Smooth noise that pans."""
    h, w = size
    random = np.random.default_rng(1)
    plate = random.integers(0, 256, (h, w + 256, 3)).astype(np.uint8)
    shift = 4 * (index % 64)
    return np.ascontiguousarray(plate[:, shift : shift + w])


def label_map(size: tuple[int, int], objects: int, index: int = 0) -> LabelMap:
    """Upright bars that move."""
    h, w = size
    labels = np.zeros(size, np.uint8)
    for k in range(objects):
        x = (k * w // objects + 2 * index) % w
        labels[h // 4 : h // 4 * 3, x : x + w // (2 * objects)] = k + 1
    return labels


# ---------------------------------------------------------------- the two sides


class Ours:
    """The engine's procedure as it runs."""

    def __init__(
        self, network: DeAOT, rule: MemoryRule, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.procedure = Procedure(
            network.to(device).to(memory_format=torch.channels_last),
            rule,
            max_side_px=1040,
            dtype=dtype,
        )

    def reference(self, frame: Image, labels: LabelMap, n_objects: int) -> None:
        self.procedure.prompt(frame, self.procedure.tensor(labels), n_objects)

    def step(self, frame: Image) -> tuple[list[Any], Any, npt.NDArray[np.uint8]]:
        quarters = self.procedure.step(frame)
        labels = self.procedure.labels(quarters, frame.shape[:2])
        found = labels.cpu().numpy()
        self.procedure.confidence(quarters, frozenset(np.unique(found).tolist()))
        return quarters, None, found

    def memorise(self, labels: LabelMap) -> None:
        self.procedure.remember(self.procedure.tensor(labels))


def shifted_copies(
    q: Tensor,
    k: Tensor,
    values: Tensor,
    relative: Tensor,
    size: tuple[int, int],
    correlate: Correlate | None = None,
) -> Tensor:
    """The local attention with the keys and values of each window spelled out."""
    h, w = size

    def windows(x: Tensor) -> Tensor:  # (B, N, C) to (B, C, 225, N)
        maps = x.transpose(1, 2).reshape(len(x), -1, h, w)
        return F.unfold(maps, SPAN, padding=RADIUS).view(len(x), -1, SPAN * SPAN, h * w)

    inside = F.unfold(q.new_ones(1, 1, h, w), SPAN, padding=RADIUS)  # (1, 225, N)
    scores = (q.transpose(1, 2)[:, :, None] * windows(k)).sum(1) * q.shape[-1] ** -0.5
    scores = (scores + relative.transpose(1, 2)).masked_fill(inside == 0, -torch.inf)
    weights = scores.softmax(1)  # (B, 225, N)
    parts = [(windows(v) * weights[:, None]).sum(2) for v in torch.split(values, 128, -1)]
    return torch.cat(parts, 1).transpose(1, 2)


class Plain(Ours):
    """The same network, written down plainly."""

    def step(self, frame: Image) -> tuple[list[Any], Any, npt.NDArray[np.uint8]]:
        with patch.object(deaot, "attend_locally", shifted_copies):
            return super().step(frame)


# ---------------------------------------------------------------- measuring


class Clock:
    """Seconds of computing, see the top of this file."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, work: Callable[[], Any]) -> tuple[float, Any]:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            start = time.perf_counter()
            result = work()
            torch.cuda.synchronize()
            return time.perf_counter() - start, result
        start = time.process_time()
        result = work()
        return (time.process_time() - start) / torch.get_num_threads(), result


def turns(
    ours: Any, theirs: Any, size: tuple[int, int], objects: int, frames: int, clock: Clock
) -> tuple[float, float, float]:
    """Seconds a frame of each side, and the share of labels that differ."""
    first = label_map(size, objects)
    spent = [0.0, 0.0]
    differing = 0.0
    for side in (ours, theirs):
        side.reference(image(size, 0), first, objects)
        side.step(image(size, 0))  # warms up, and is not counted
        side.memorise(first)
    for i in range(1, frames + 1):
        frame, fed = image(size, i), label_map(size, objects, i)
        found = []
        for at, side in enumerate((ours, theirs)):

            def work(side: Any = side, frame: Image = frame, fed: LabelMap = fed) -> Any:
                labels = side.step(frame)[2]
                side.memorise(fed)
                return labels

            seconds, labels = clock(work)
            spent[at] += seconds
            found.append(labels)
        differing += float((found[0] != found[1]).mean())
    return spent[0] / frames, spent[1] / frames, differing / frames


def time_part(options: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> None:
    clock = Clock(device)
    other = options.against.stem if options.against else "plain"
    print(f"| objects | ours, frames/s | {other}, frames/s | ratio | labels that differ |")
    print("|---|---|---|---|---|")
    for objects in options.objects:
        rule = MemoryRule(5, 0)
        theirs: Any
        if options.against:
            spec = importlib.util.spec_from_file_location("adapter", options.against)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            state = random_network(options.variant).state_dict()
            theirs = module.build(options.variant, state, 5, 10**6, 1040)
        else:
            theirs = Plain(random_network(options.variant), rule, device, torch.float32)
        network = random_network(options.variant)
        network.fold_norms()
        ours = Ours(network, rule, device, dtype)
        a, b, differ = turns(ours, theirs, options.size, objects, options.frames, clock)
        print(
            f"| {objects} | {1 / a:.3f} | {1 / b:.3f} | {b / a:.2f} | {100 * differ:.4f} % |",
            flush=True,
        )


def held(device: torch.device) -> tuple[float, float]:
    """MiB: of live tensors, and the peak of the process (of the device's allocator on CUDA)."""
    gc.collect()
    stores = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in gc.get_objects()
        if type(t) is Tensor
    }
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        scale = 2**20 if sys.platform == "darwin" else 2**10
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    return sum(stores.values()) / 2**20, peak


def memory_part(options: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> None:
    """The engine itself, from stream to stream, with its default options."""
    network = random_network(options.variant)
    network.fold_norms()
    network = network.to(device).to(memory_format=torch.channels_last)
    tracker = DeAOTTracker(network, Options(), dtype)
    gap, ceiling = tracker.rule.gap_frames, tracker.rule.ceiling_frames
    print(f"memory gap {gap} frames, ceiling {ceiling} frames\n")
    objects = options.objects[-1]
    frames: Iterator[Frame] = (
        Frame(image(options.size, i), i, i, Fraction(1, 25)) for i in range(options.frames)
    )
    marks = {1, gap * ceiling // 2, gap * ceiling, options.frames // 2, options.frames - 1}
    clock = Clock(device)
    running = tracker.track(frames, {0: label_map(options.size, objects)})
    print("| frame | tensors alive, MiB | peak of the process, MiB | seconds a frame since |")
    print("|---|---|---|---|")
    spent, since = 0.0, -1
    for i in range(options.frames):
        seconds, _ = clock(lambda: next(running))
        spent += seconds
        if i in marks:
            alive, peak = held(device)
            print(f"| {i} | {alive:.0f} | {peak:.0f} | {spent / (i - since):.2f} |", flush=True)
            spent, since = 0.0, i


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("time", "memory"), default="time")
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="r50_deaotl")
    parser.add_argument("--size", default="480x864", help="HxW")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--against", type=Path, help="an adapter file; see above")
    options = parser.parse_args()
    height, width = options.size.split("x")
    options.size = (int(height), int(width))
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(
        f"{options.variant} at {height}x{width}, {options.frames} frames, {name}, "
        f"{options.threads} threads, {str(dtype).removeprefix('torch.')}, torch {torch.__version__}"
    )
    {"time": time_part, "memory": memory_part}[options.part](options, device, dtype)


if __name__ == "__main__":
    main()
