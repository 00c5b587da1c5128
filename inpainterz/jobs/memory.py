"""Memory of a job: how much the process holds, and which options of an engine take less."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

from inpainterz.engines import Stage
from inpainterz.errors import OptionError

LADDERS: Mapping[Stage, tuple[tuple[str, float, int], ...]] = {
    "segment": (("max_side_px", 0.75, 320),),
    "track": (("memory_frames", 0.5, 2), ("max_side_px", 0.75, 240)),
    "inpaint": (
        ("memory_mb", 0.5, 64),
        ("window_frames", 0.7, 5),
        ("references", 0.5, 0),
        ("max_side_px", 0.75, 240),
        ("motion_side_px", 0.75, 160),
    ),
}
"""Options that take less memory when they are lowered: the field, the factor of a step, and the
least value; the first that can go lower does."""


def lower(
    stage: Stage, name: str, options: object, device: str
) -> tuple[dict[str, Any], str, str] | None:
    """The next step down from an engine's options.

    Args:
        stage, name: the engine.
        options: its `Options`.
        device: where it runs, or "auto".

    Returns:
        the options' fields, the device, and in words what changed; None: it takes no less.
    """
    del name
    if is_dataclass(options) and not isinstance(options, type):
        kept = device.split(":")[0]
        if kept == "auto":
            kept = "cuda" if _cuda() else "cpu"
        precision = getattr(options, "precision", None)
        if kept == "cuda" and precision == "fp32":  # half of it, and hardly to be seen
            return _changed(options, kept, "precision", "fp16", "fp32")
        for field, factor, least in LADDERS.get(stage, ()):
            value = getattr(options, field, None)
            if not isinstance(value, int) or value <= least:
                continue
            changes: dict[str, Any] = {field: max(least, int(value * factor))}
            if field == "window_frames":  # a step is never longer than its window
                stride = getattr(options, "stride_frames", None)
                if isinstance(stride, int):
                    changes["stride_frames"] = min(stride, max(1, changes[field] - 2))
            with suppress(OptionError):
                smaller = replace(options, **changes)
                return asdict(smaller), kept, f"{field} {changes[field]} instead of {value}"
        if kept == "cuda":
            return asdict(options), "cpu", "the CPU instead of the GPU"
        if kept == "cpu" and precision in ("auto", "fp32"):  # slow where it is emulated
            return _changed(options, kept, "precision", "bf16", "fp32")
    return None


def _cuda() -> bool:
    torch = sys.modules.get("torch")  # without it, nothing of a job is on a GPU
    return torch is not None and bool(torch.cuda.is_available())


def _changed(
    options: Any, device: str, field: str, value: object, before: object
) -> tuple[dict[str, Any], str, str]:
    smaller = replace(options, **{field: value})
    return asdict(smaller), device, f"{field} {value} instead of {before}"


def resident_mb() -> int | None:
    """MiB of memory that the process holds now; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize() >> 20


def share_arenas() -> None:
    """Have the C library's threads take memory from two pools instead of one for each thread.

    A long job starts many short threads, and what each leaves unused in a pool of its own adds up.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


_M_ARENA_MAX = -8  # of glibc's malloc.h


def release() -> None:
    """Give memory that nothing uses back to the system and to the GPU."""
    gc.collect()
    if _cuda():
        sys.modules["torch"].cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
