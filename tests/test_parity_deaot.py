"""DeAOT: keys, shapes, and agreement with golden results of the published network.

The limits are those of the golden files: fp32 noise with room, and below every real mistake.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from parity import deaot_adapter as adapter
from parity import deaot_fixtures as fixtures
from torch import Tensor, nn

from inpainterz.track.deaot.attention import SPAN, attend, attend_locally
from inpainterz.track.deaot.encoders import Maps
from inpainterz.track.deaot.engine import find_correlation
from inpainterz.track.deaot.network import VALUE, VARIANTS, DeAOT, GatedPropagation

PARITY = Path(__file__).parent / "parity"
PARAMETERS = {
    "deaott": 7_238_188,
    "deaots": 10_202_765,
    "deaotb": 13_167_342,
    "deaotl": 13_167_342,
    "r50_deaotl": 19_814_894,
    "swinb_deaotl": 70_303_654,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small maps: threads cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def golden(variant: str) -> Any:
    return fixtures.Golden(PARITY / f"deaot_{variant}_golden.npz")


@cache
def state_dict(variant: str) -> dict[str, Tensor]:
    return dict(golden(variant).state_dict(variant))


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_keys_and_shapes_are_the_published_ones(variant: str) -> None:
    with torch.device("meta"):
        network = DeAOT(VARIANTS[variant])
    wanted = json.loads((PARITY / f"deaot_{variant}.keys.json").read_text())
    own = {
        name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in network.state_dict().items()
    }
    assert own == wanted
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[variant]


@pytest.mark.parametrize(
    ("variant", "case"),
    [
        ("deaott", "two_objects"),
        ("deaott", "add_object"),
        ("deaott", "max_len"),
        ("r50_deaotl", "two_objects"),
        ("r50_deaotl", "add_object"),
        ("r50_deaotl", "twelve_objects"),
        ("r50_deaotl", "resize"),
        ("swinb_deaotl", "resize"),
        ("swinb_deaotl", "two_objects"),
    ],
)
def test_golden_case(variant: str, case: str) -> None:
    file = golden(variant)
    quarter, logits, share = fixtures.run_case(file, case, adapter.build)
    assert quarter <= fixtures.QUARTER_TOL
    assert logits <= fixtures.LOGITS_TOL[fixtures.groups(file, case)]
    assert share <= fixtures.LABEL_SHARE


@pytest.mark.parametrize("case", ["two_objects", "add_object", "max_len"])
def test_long_term_memory_grows_as_the_published_one(case: str) -> None:
    file = golden("deaott")
    settings, arrays = file.cases[case], file.z
    tracker = adapter.build(
        "deaott",
        state_dict("deaott"),
        settings["long_term_mem_gap"],
        settings["max_len_long_term"],
        settings["max_long_edge"],
    )
    frames, feed = arrays[f"{case}/frames"], arrays[f"{case}/feed_labels"]
    tracker.reference(frames[0], feed[0], settings["n_objects"])
    for i in range(1, len(frames)):
        tracker.step(frames[i])
        if str(i) in settings["add_reference_at"]:
            tracker.reference(frames[i], feed[i], settings["add_reference_at"][str(i)])
        else:
            tracker.memorise(feed[i])
        (memory,) = tracker.procedure.memories
        tokens = memory.long.layers()[0].keys.shape[1]
        assert tokens == arrays[f"{case}/long_term_tokens"][i - 1][0]


@pytest.mark.parametrize("variant", ["deaott", "r50_deaotl"])
def test_the_stages_agree_one_by_one(variant: str) -> None:
    """The first one that is off shows where to look."""
    file, case = golden(variant), "two_objects"
    settings = file.cases[case]
    tracker = adapter.build(variant, state_dict(variant), 2, 9999, settings["max_long_edge"])
    network: DeAOT = tracker.procedure.network
    taken: dict[str, Any] = {}

    def listen(module: nn.Module, name: str) -> None:
        module.register_forward_hook(lambda _m, _i, out: taken.__setitem__(name, out))

    listen(network.encoder, "encoder")
    listen(network.encoder_projector, "projector")
    listen(network.id_norm, "identity")
    layers = [m for m in network.modules() if isinstance(m, GatedPropagation)]
    for i, layer in enumerate(layers):
        listen(layer, f"layer{i}")
    arrays = file.under(case, "inter/")

    def compare(name: str, got: Tensor, channels: int) -> None:
        """`channels`: the axis of which every n-th entry is stored."""
        (key,) = [k for k in arrays if k.startswith(f"{name}_every")]
        step = int(key.removeprefix(f"{name}_every").removesuffix("ch"))
        index = [slice(None)] * got.ndim
        index[channels] = slice(None, None, step)
        assert np.abs(got[tuple(index)].numpy() - arrays[key]).max() < 2e-4, name

    def compare_layers(prefix: str) -> None:
        for i in range(len(layers)):
            visual, state, _, _ = taken[f"layer{i}"]
            out = torch.cat([visual, state], -1)
            if i == len(layers) - 1:
                out = network.LSTT.norm(out, (1, out.shape[1]))[:, :, 0].transpose(1, 2)
            compare(f"{prefix}_gpm_out_layer{i}", out[0], 1)

    frames, feed = file.z[f"{case}/frames"], file.z[f"{case}/feed_labels"]
    with torch.inference_mode():
        tracker.reference(frames[0], feed[0], settings["n_objects"])
        maps: Maps = taken["encoder"]
        compare("enc_4x", maps.quarter[0], 0)
        compare("enc_8x", maps.eighth[0], 0)
        compare("enc_16x", maps.sixteenth[0], 0)
        if maps.last is not maps.sixteenth:
            compare("enc_16x_last", maps.last[0], 0)
        compare("proj", taken["projector"][0], 0)
        compare("id_emb", taken["identity"][0], 1)
        compare_layers("ref")
        (memory,) = tracker.procedure.memories
        for i, kept in enumerate(memory.long.layers()):
            compare(f"ref_mem_layer{i}_K", kept.keys[0], 1)
            compare(f"ref_mem_layer{i}_V", kept.values[0, :, :VALUE], 1)
            compare(f"ref_mem_layer{i}_IDV", kept.values[0, :, VALUE:], 1)
        tracker.step(frames[1])
        compare_layers("t1")


@pytest.mark.parametrize("variant", ["deaott", "r50_deaotl"])
def test_folding_the_norms_changes_rounding_only(variant: str) -> None:
    def build(*args: Any) -> adapter.Adapter:
        tracker = adapter.build(*args)
        network = tracker.procedure.network
        network.fold_norms()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        assert not any("running_var" in name for name in network.state_dict())
        return tracker

    quarter, _, share = fixtures.run_case(golden(variant), "two_objects", build)
    assert quarter <= fixtures.QUARTER_TOL
    assert share <= fixtures.LABEL_SHARE


# ---------------------------------------------------------------- local attention


def reference_local(q: Tensor, k: Tensor, v: Tensor, relative: Tensor, h: int, w: int) -> Tensor:
    """Every query with every key, and all outside the window forbidden; straight from the paper."""
    y, x = torch.arange(h * w) // w, torch.arange(h * w) % w
    dy, dx = y[None] - y[:, None], x[None] - x[:, None]  # key - query
    allowed = (dy.abs() <= 7) & (dx.abs() <= 7)
    at = ((dy + 7) * SPAN + dx + 7).clamp(0, SPAN * SPAN - 1)
    bias = relative.gather(2, at.expand(len(q), -1, -1))
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + bias
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v


def case_of(h: int, w: int, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    make = torch.Generator().manual_seed(h * 100 + w)
    q, k = torch.randn(2, batch, h * w, 128, generator=make).unbind(0)
    v = torch.randn(batch, h * w, 96, generator=make)
    return q, k, v, torch.randn(batch, h * w, SPAN * SPAN, generator=make)


MAPS = [(1, 1), (1, 16), (3, 5), (8, 8), (9, 12), (17, 8), (31, 55)]


@pytest.mark.parametrize("size", MAPS, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_local_attention_equals_the_dense_masked_one(size: tuple[int, int], batch: int) -> None:
    q, k, v, relative = case_of(*size, batch)
    got = attend_locally(q, k, v, relative, size)
    assert (got - reference_local(q, k, v, relative, *size)).abs().max() <= 1e-5


def stand_in(
    input1: Tensor,
    input2: Tensor,
    kernel_size: int = 1,
    patch_size: int = 1,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    dilation_patch: int = 1,
) -> Tensor:
    """What spatial_correlation_sample of the package, whose signature this is, gives:

    (B, patch, patch, H, W), entry (i, j) the product of a at (y, x) and b at (y + i - 7,
    x + j - 7) summed over channels, zero off the map. On a CPU it takes float32 and float64, and
    in anything else it ends the process.
    """
    assert (kernel_size, patch_size, stride, padding) == (1, SPAN, 1, 0)
    assert (dilation, dilation_patch) == (1, 1)
    for given in (input1, input2):
        assert given.is_contiguous()
        assert given.dtype in (torch.float32, torch.float64)
    h, w = input1.shape[2:]
    padded = nn.functional.pad(input2, (7, 7, 7, 7))
    rows = [
        torch.stack([(input1 * padded[:, :, i : i + h, j : j + w]).sum(1) for j in range(SPAN)], 1)
        for i in range(SPAN)
    ]
    return torch.stack(rows, 1)


@pytest.mark.parametrize("size", MAPS[:-1], ids=str)
def test_local_attention_with_a_correlation_is_the_same(size: tuple[int, int]) -> None:
    q, k, v, relative = case_of(*size, 2)
    plain = attend_locally(q, k, v, relative, size)
    assert (attend_locally(q, k, v, relative, size, stand_in) - plain).abs().max() <= 1e-5


def test_the_package_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the engine's own loading, in fp32 and in half precision."""
    calls: list[int] = []

    def counted(*given: Tensor, **more: int) -> Tensor:
        calls.append(1)
        return stand_in(*given, **more)

    def case(*, build: Any = adapter.build) -> tuple[float, float, float]:
        result: tuple[float, float, float] = fixtures.run_case(
            golden("deaott"), "two_objects", build
        )
        return result

    package = ModuleType("spatial_correlation_sampler")
    package.spatial_correlation_sample = counted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)

    def build(*given: Any) -> adapter.Adapter:
        tracker = adapter.build(*given)
        network = tracker.procedure.network
        network.local = partial(attend_locally, correlate=find_correlation())
        return tracker

    quarter, logits, share = case(build=build)
    assert calls
    assert quarter <= fixtures.QUARTER_TOL
    assert logits <= fixtures.LOGITS_TOL[1]
    assert share <= fixtures.LABEL_SHARE
    half = [x.bfloat16() for x in case_of(9, 12, 1)]
    plain = attend_locally(*half, (9, 12))
    got = attend_locally(*half, (9, 12), counted)
    assert got.dtype == torch.bfloat16
    assert (got.float() - plain.float()).abs().max() < 0.05


def test_without_the_package_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spatial_correlation_sampler", None)
    assert find_correlation() is None


@pytest.mark.parametrize("size", MAPS, ids=str)
def test_local_attention_with_the_compiled_correlation_is_the_same(size: tuple[int, int]) -> None:
    correlate = find_correlation()
    if correlate is None:
        pytest.skip("spatial-correlation-sampler is not installed")
    q, k, v, relative = case_of(*size, 1)
    plain = attend_locally(q, k, v, relative, size)
    assert (attend_locally(q, k, v, relative, size, correlate) - plain).abs().max() <= 1e-5


def test_full_attention_in_blocks_and_its_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    make = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 20, 128, generator=make), torch.randn(2, 60, 128, generator=make)
    v = torch.randn(2, 60, 96, generator=make)
    weights = (q @ k.transpose(1, 2) / 128**0.5).softmax(-1)
    for limit in (2**23, 2 * 60 * 7, 1):
        monkeypatch.setattr("inpainterz.track.deaot.attention.SCORE_LIMIT", limit)
        got, share = attend(q, k, v, 3)
        assert (got - weights @ v).abs().max() <= 1e-5
        assert share is not None
        assert (share - weights.view(2, 20, 3, 20).sum(-1)).abs().max() <= 1e-5
        assert attend(q, k, v)[1] is None
