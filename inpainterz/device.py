"""Picks device and precision; turns a missing package or a full memory into a sentence."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from inpainterz.errors import EngineUnavailable, OutOfMemory

if TYPE_CHECKING:
    import torch


def require_torch(engine: str) -> None:
    """Check that torch can be imported, without importing it.

    Raises:
        EngineUnavailable: torch or torchvision is not installed.
    """
    for package in ("torch", "torchvision"):
        if importlib.util.find_spec(package) is None:
            raise EngineUnavailable(
                engine,
                f"the package {package} is not installed",
                "Install it: pip install -r requirements.txt",
            )


def pick(device: str, engine: str) -> torch.device:
    """The torch device for "auto", "cpu" or "cuda"; auto takes CUDA where there is one.

    Raises:
        EngineUnavailable: cuda was asked for and there is none.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineUnavailable(engine, "there is no CUDA device", "Use --device cpu")
    return torch.device(device)


def compute_dtype(
    precision: str, device: torch.device, engine: str, *, half: Literal["bf16", "fp16"] = "bf16"
) -> torch.dtype:
    """The dtype of an engine's `precision` option.

    Args:
        precision: "fp32", "fp16", "bf16", or "auto": `half` on CUDA and fp32 on the CPU.
        device: from `pick`.
        engine: for the message.
        half: what suits the engine on CUDA: fp16 has the finer steps, bf16 the wider range; a
            card that does not compute in bf16 takes fp16.

    Raises:
        EngineUnavailable: the device cannot compute in it.
    """
    import torch

    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        wide = half == "bf16" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if wide else torch.float16
    if precision == "fp16" and device.type == "cpu":
        raise EngineUnavailable(engine, "fp16 needs a CUDA device", "Use precision fp32")
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


@contextmanager
def memory_guard(hint: str) -> Iterator[None]:
    """Turn an out-of-memory of torch or numpy into `OutOfMemory` with the option that lowers it."""
    try:
        yield
    except OutOfMemory:
        raise
    except MemoryError as error:
        raise OutOfMemory("memory ran out", hint) from error
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU allocator raises it bare
        text = str(error)
        if "out of memory" in text or "not enough memory" in text or "can't allocate" in text:
            raise OutOfMemory("memory ran out", hint) from error
        raise


@contextmanager
def compile_guard(compiling: bool, engine: str) -> Iterator[None]:
    """Turn a compiler that is missing or fails, which the first frame shows, into a sentence.

    Args:
        compiling: whether the engine asked for `torch.compile`; nothing is imported if not.
        engine: for the message.

    Raises:
        EngineUnavailable: the network cannot be compiled here.
    """
    if not compiling:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        raise EngineUnavailable(
            engine, f"it cannot be compiled ({reason})", "Leave the option compile off"
        ) from error
