"""What every measurement needs: a clock, peaks of memory, facts of the machine, frames to work on.

Seconds on the CPU are those of all cores together divided by the number of threads, so that
another program running beside does not count; on CUDA they are those of the clock, with the device
drained.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from fractions import Fraction
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from inpainterz.errors import EngineError, InpainterzError
from inpainterz.types import JSON, Frame, Image, LabelMap
from inpainterz.video.reader import VideoReader

T = TypeVar("T")
P = ParamSpec("P")
N = TypeVar("N", bound=nn.Module)

Size = tuple[int, int]
"""Height and width in pixels."""


class Clock:
    """Seconds of computing, see the top of this file."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        """Seconds since some moment."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time() / torch.get_num_threads()

    def time(self, work: Callable[[], T]) -> tuple[float, T]:
        """Run `work`: seconds and its result."""
        start = self.now()
        result = work()
        return self.now() - start, result


def machine(device: torch.device) -> JSON:
    """What a figure is worth nothing without: processor, cores, memory, device, versions."""
    return {
        "processor": _processor(),
        "cores": _cores(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # no Linux
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no POSIX
        return 0


def memory_mib(device: torch.device) -> tuple[float, float]:
    """MiB: of live tensors, and the most that this process has held so far.

    The latter is the resident set on the CPU, what torch has allocated on CUDA.
    """
    gc.collect()
    stores = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in gc.get_objects()
        if type(t) is Tensor
    }
    if device.type == "cuda":
        peak = float(torch.cuda.max_memory_allocated(device))
    else:
        peak = float(peak_bytes())
    return sum(stores.values()) / 2**20, peak / 2**20


def peak_bytes() -> int:
    """The largest resident set of this process.

    Raises:
        EngineError: a system that does not tell.
    """
    try:  # ru_maxrss would begin with what the starting process held
        status = Path("/proc/self/status").read_text("utf-8")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError, ValueError):
        pass
    if sys.platform == "win32":
        raise EngineError("this system does not tell how much memory a process held")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_new_process(
    work: Callable[P, Iterator[T]], *given: P.args, **named: P.kwargs
) -> Iterator[T]:
    """Iterate over `work(...)` in a process of its own, whose peak of memory is nobody else's.

    Args:
        work: a function at the top of a module; it yields plain data.

    Raises:
        EngineError: says what `work` raised of our errors, or that its process died.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(there, work, given, named), daemon=True)
    process.start()
    there.close()
    try:
        with closing(here):
            while True:
                try:
                    kind, value = here.recv()
                except EOFError:
                    process.join()
                    raise EngineError(
                        f"the measuring process ended with code {process.exitcode}",
                        "Memory may have run out: choose smaller frames",
                    ) from None
                if kind == "end":
                    return
                if kind == "error":
                    failed = EngineError(*value[:2])
                    failed.exit_code = value[2]
                    raise failed
                yield value
    finally:
        if process.is_alive():
            process.terminate()
        process.join()


def _tell(
    there: Connection, work: Callable[..., Iterator[Any]], given: tuple[Any, ...], named: JSON
) -> None:
    with closing(there):
        try:
            for row in work(*given, **named):
                there.send(("row", row))
        except InpainterzError as error:
            there.send(("error", (error.message, error.hint, error.exit_code)))
        else:
            there.send(("end", None))


# ---------------------------------------------------------------- what is worked on


def balanced(build: Callable[[], N], gains: Mapping[str, float]) -> N:
    """A network with the same random weights every time, such that activations stay in bounds.

    They change nothing of the cost, and rounding stays rounding.

    Args:
        build: makes the network; its parameters of two or more axes are drawn anew.
        gains: start of a parameter's name -> factor on top, the first that fits.

    Returns:
        the network in eval mode, without gradients.
    """
    torch.manual_seed(0)
    network = build().eval().requires_grad_(False)
    for name, p in network.named_parameters():
        if p.ndim >= 2:
            gain = next((g for start, g in gains.items() if name.startswith(start)), 1.0)
            p.copy_(gain * torch.randn(p.shape) / p[0].numel() ** 0.5)
    return network


def pictures(size: Size, clip: Path | None = None) -> Iterator[Image]:
    """Endless frames of one size, (H, W, 3) uint8.

    Args:
        size: of the frames.
        clip: a video, which is scaled and begins anew at its end; None = smooth noise that pans.

    Raises:
        VideoError: the video cannot be read.
    """
    h, w = size
    if clip is None:
        plate = np.random.default_rng(1).integers(0, 256, (h // 8 + 1, (w + 256) // 8 + 1, 3))
        smooth = cv2.resize(plate.astype(np.uint8), (w + 256, h), interpolation=cv2.INTER_CUBIC)
        for shift in cycle(range(0, 256, 4)):
            yield np.ascontiguousarray(smooth[:, shift : shift + w])
    while clip is not None:
        with VideoReader(clip) as video, closing(video.frames()) as frames:
            for frame in frames:
                yield np.asarray(cv2.resize(frame.image, (w, h), interpolation=cv2.INTER_AREA))


def framed(images: Iterator[Image], count: int) -> Iterator[Frame]:
    """The first `count` images as frames at 25 a second."""
    for i in range(count):
        yield Frame(next(images), i, i, Fraction(1, 25))


def bars(size: Size, objects: int, index: int = 0) -> LabelMap:
    """A label map with one upright bar for each object; they move with the frame's index."""
    h, w = size
    labels = np.zeros(size, np.uint8)
    for k in range(objects):
        x = (k * w // objects + 2 * index) % w
        labels[h // 4 : h // 4 * 3, x : x + max(1, w // (2 * objects))] = k + 1
    return labels
