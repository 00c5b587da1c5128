"""Device and precision, and the sentence for a full memory."""

from __future__ import annotations

import pytest

from inpainterz import device
from inpainterz.errors import EngineUnavailable, OutOfMemory

torch = pytest.importorskip("torch")


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_pick_without_cuda(no_cuda: None) -> None:
    assert device.pick("auto", "sam-b") == torch.device("cpu")
    assert device.pick("cpu", "sam-b") == torch.device("cpu")
    with pytest.raises(EngineUnavailable, match=r"sam-b.*no CUDA device.*--device cpu"):
        device.pick("cuda", "sam-b")


def test_pick_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.pick("auto", "sam-b").type == "cuda"
    assert device.pick("cpu", "sam-b").type == "cpu"


@pytest.mark.parametrize("bf16", [True, False])
def test_precision(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert device.compute_dtype("auto", cpu, "e") == torch.float32
    half = torch.bfloat16 if bf16 else torch.float16
    assert device.compute_dtype("auto", cuda, "e") == half
    assert device.compute_dtype("auto", cuda, "e", half="fp16") == torch.float16
    assert device.compute_dtype("auto", cpu, "e", half="fp16") == torch.float32
    assert device.compute_dtype("fp16", cuda, "e") == torch.float16
    assert device.compute_dtype("fp32", cuda, "e") == torch.float32
    assert device.compute_dtype("bf16", cpu, "e") == torch.bfloat16
    with pytest.raises(EngineUnavailable, match="fp16 needs a CUDA device"):
        device.compute_dtype("fp16", cpu, "e")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_full_memory_names_the_option(error: Exception) -> None:
    with (
        pytest.raises(OutOfMemory, match="Lower max_side_px") as caught,
        device.memory_guard("Lower max_side_px"),
    ):
        raise error
    assert caught.value.__cause__ is error


def test_real_exhaustion_of_the_allocator() -> None:
    with pytest.raises(OutOfMemory), device.memory_guard("Lower it"):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_pass() -> None:
    inner = OutOfMemory("memory ran out", "the inner hint")
    with pytest.raises(OutOfMemory, match="inner hint"), device.memory_guard("outer"):
        raise inner
    with pytest.raises(RuntimeError, match="shapes"), device.memory_guard("x"):
        raise RuntimeError("shapes do not fit")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    device.require_torch("sam-b")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="package torch is not installed"):
        device.require_torch("sam-b")
