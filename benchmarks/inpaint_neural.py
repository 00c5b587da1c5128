"""What the E2FGVI engine costs beside the published procedure, on this machine.

    python benchmarks/inpaint_neural.py            all parts on the CPU, some twenty minutes
    python benchmarks/inpaint_neural.py --part time --device cuda

Both sides run the same network class (E2FGVI-HQ), so what is compared is the procedure: which
frames are shown to it, what is computed anew, what is decoded for nothing. That favours the
published side, whose own code also spells out the attention's logits. Weights are random: they
change nothing of the cost. Time is that of all cores together (`process_time`) divided by the
number of threads on the CPU, so that another program running beside does not count.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch

from inpainterz.inpaint.e2fgvi import published
from inpainterz.inpaint.e2fgvi.engine import Counts, E2FGVIInpainter, Options
from inpainterz.inpaint.e2fgvi.network import HQ, Generator
from inpainterz.types import Frame, Mask

PARTS = ("counts", "time", "crop", "memory")
LONG = 70
"""Frames of the clip that the published procedure is timed in the middle of."""


def network() -> Generator:
    torch.manual_seed(0)
    return Generator(HQ).eval()


def clip(count: int, height: int, width: int, share: float) -> Iterator[tuple[Frame, Mask]]:
    """Frames of smooth noise that pans, with one square hole of `share` of the frame."""
    random = np.random.default_rng(1)
    plate = random.integers(0, 255, (height, width + 4 * 64, 3)).astype(np.uint8)
    side = round((share * height * width) ** 0.5)
    tall, wide = min(height, side), min(width, round(share * height * width / min(height, side)))
    hole = np.zeros((height, width), bool)
    top, left = (height - tall) // 2, (width - wide) // 2
    hole[top : top + tall, left : left + wide] = True
    for i in range(count):
        shift = 4 * (i % 64)
        yield Frame(plate[:, shift : shift + width], i, i, Fraction(1, 25)), hole


class Clock:
    """Seconds of computing: of the CPU per thread, or of the clock with the GPU drained."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time() / torch.get_num_threads()


def seconds_published(device: torch.device, height: int, width: int, half: bool) -> float:
    """Per output frame, from one window in the middle of a clip of `LONG` frames."""
    made, clock = network().to(device), Clock(device)
    window = published.schedule(LONG)[LONG // 2 // published.NEIGHBOUR_STRIDE]
    used = len(window.neighbours) + len(window.references)
    print(f"  published window: {len(window.neighbours)} neighbours, {used} frames in all")
    x = torch.rand(1, used, 3, height, width, device=device) * 2 - 1
    taken = []
    for _ in range(1 if device.type == "cpu" else 3):
        start = clock.now()
        with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=half):
            made(x, len(window.neighbours))
        taken.append(clock.now() - start)
    return min(taken) / published.NEIGHBOUR_STRIDE


def seconds_ours(
    device: torch.device, height: int, width: int, share: float, options: Options
) -> float:
    """Per output frame, from the third window of a clip, when caches and references are full."""
    engine, clock = E2FGVIInpainter(network(), options, device), Clock(device)
    stride = options.stride_frames
    count = 2 * stride + options.window_frames + options.reference_ahead_frames
    marks = []
    for item in engine.inpaint(clip(count, height, width, share)):
        if item.frame.index in (2 * stride - 1, 2 * stride):  # last of window 2, first of window 3
            marks.append(clock.now())
            if len(marks) == 2:
                break
    return (marks[1] - marks[0]) / stride


def part_counts(_: torch.device) -> None:
    schedule = published.schedule(LONG)
    encodes = sum(len(w.neighbours) + len(w.references) for w in schedule)
    flows = sum(2 * (len(w.neighbours) - 1) for w in schedule)
    decoded = sum(len(w.neighbours) for w in schedule)
    print(f"{LONG} frames, published: {encodes} encoded, {flows} flows, {encodes} decoded", end=" ")
    print(f"({encodes - decoded} for nothing), {len(schedule)} windows")
    options = replace(Options(), hybrid=False, max_side_px=108, margin_px=0)
    counts = Counts()
    engine = E2FGVIInpainter(network(), options, torch.device("cpu"))
    for _item in engine.counted(clip(LONG, 52, 100, 0.1), counts):
        pass
    print(f"{LONG} frames, this engine: {counts.encoded} encoded, {counts.flows} flows,", end=" ")
    print(f"{counts.decoded} decoded, {counts.windows} windows")


def part_time(device: torch.device) -> None:
    """432x240, the hole so large that the whole frame is shown; then a hole of a tenth."""
    half = device.type == "cuda"
    theirs = seconds_published(device, 240, 432, half)
    print(f"432x240 published: {theirs:.2f} s per frame")
    for share, precision in ((0.8, "auto"), (0.1, "auto"), (0.8, "bf16")):
        options = Options(hybrid=False, precision=precision)  # type: ignore[arg-type]
        ours = seconds_ours(device, 240, 432, share, options)
        print(
            f"432x240 this engine, hole of {share:.0%}, {precision}: {ours:.2f} s per frame, "
            f"{theirs / ours:.2f}x"
        )


def part_crop(device: torch.device) -> None:
    """1280x720: a hole of a tenth against one that needs the whole frame; short windows."""
    options = Options(
        hybrid=False, max_side_px=1280, window_frames=3, stride_frames=2, references=0
    )
    whole, tenth = (seconds_ours(device, 720, 1280, s, options) for s in (0.8, 0.1))
    print(f"1280x720: {whole:.1f} s per frame whole, {tenth:.1f} s with a hole of 10 %", end=" ")
    print(f"({tenth / whole:.0%})")


def part_memory(_: torch.device) -> None:
    """Peak resident memory of a process that inpaints 70 frames, and 700."""
    for count in (70, 700):
        out = subprocess.run(
            [sys.executable, __file__, "--memory-of", str(count)],
            check=True,
            capture_output=True,
            text=True,
        )
        print(f"{count} frames of 160x90: {json.loads(out.stdout):.0f} MiB at most")


def memory_of(count: int) -> None:
    options = Options(hybrid=False, window_frames=3, stride_frames=2, references=1, margin_px=8)
    engine = E2FGVIInpainter(network(), options, torch.device("cpu"))
    for _ in engine.inpaint(clip(count, 90, 160, 0.02)):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.memory_of:
        memory_of(given.memory_of)
        return
    device = torch.device(given.device)
    print(f"torch {torch.__version__}, {device.type}, {torch.get_num_threads()} threads")
    for part in given.part or PARTS:
        {
            "counts": part_counts,
            "time": part_time,
            "crop": part_crop,
            "memory": part_memory,
        }[part](device)


if __name__ == "__main__":
    main()
