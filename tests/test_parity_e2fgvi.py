"""E2FGVI and E2FGVI-HQ: keys, shapes, and agreement with golden results of the published network.

The limits are fp32 noise with room: the smallest real mistake (another GELU) makes 1.8e-4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import e2fgvi_adapter as adapter
from parity import e2fgvi_fixtures as fixtures
from torch import Tensor, nn

from inpainterz.inpaint.e2fgvi import network as e2fgvi_network
from inpainterz.inpaint.e2fgvi import published
from inpainterz.inpaint.e2fgvi.network import BASE, HQ, Generator, fits, grid_sizes

PARITY = Path(__file__).parent / "parity"
OUTPUT_LIMIT = 1e-4
FLOW_LIMIT_PX = 1e-3
STATISTICS_LIMIT = 1e-5


@pytest.fixture(scope="module")
def hq() -> Generator:
    return adapter.build("e2fgvi_hq", fixtures.state_dict("e2fgvi_hq"))


@pytest.mark.parametrize("kind", ["e2fgvi", "e2fgvi_hq"])
def test_keys_and_shapes_are_the_published_ones(kind: str) -> None:
    with torch.device("meta"):
        network = Generator(adapter.KINDS[kind])
    wanted = json.loads((PARITY / f"{kind}.keys.json").read_text())
    own = {
        name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in network.state_dict().items()
    }
    assert own == wanted
    assert list(own) == list(wanted)


def test_the_constants_are_computed_not_loaded() -> None:
    for name, value in Generator(HQ).state_dict().items():
        constant = fixtures.computed_buffer(name)
        if constant is not None:
            assert np.array_equal(value.numpy(), constant), name


def test_the_weights_rule_is_intact() -> None:
    meta = fixtures.Golden(PARITY / "e2fgvi_hq_golden.npz").meta
    assert fixtures.digest(fixtures.state_arrays("e2fgvi_hq")) == meta["weights_sha256"]


def _taps(network: Generator) -> tuple[dict[str, list[Tensor]], Callable[[], None]]:
    """What passes through the named places, frames first; and how to stop listening."""
    taken: dict[str, list[Tensor]] = {}
    handles = []

    def listen(module: nn.Module, name: str, pick: Callable[[tuple[Tensor, ...], Tensor], Tensor]):
        def hook(_: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
            taken.setdefault(name, []).append(pick(given, result))

        handles.append(module.register_forward_hook(hook))

    propagation, first = network.feat_prop_module, network.transformer[0]
    listen(network.encoder, "encoder", lambda _, out: out)
    for way in ("backward", "forward"):
        align = propagation.deform_align[f"{way}_"]
        listen(align.conv_offset, f"prop_{way}_offsets", lambda _, out: out)
        listen(align, f"prop_{way}_aligned", lambda _, out: out)
    listen(propagation.fusion, "prop_backward", lambda given, _: given[0][:, :128])
    listen(propagation.fusion, "prop_forward", lambda given, _: given[0][:, 128:])
    listen(propagation, "propagated", lambda _, out: out[0])
    listen(network.ss, "tokens_in", lambda _, out: out)
    listen(first.pool_layers[0], "block0_pooled", lambda _, out: out[0, ..., 0])
    listen(first.attn, "block0_attention", lambda _, out: out[0])
    listen(first.mlp, "block0_mlp", lambda _, out: out)
    for index, block in enumerate(network.transformer):
        listen(block, f"block{index}", lambda _, out: out[0])
    listen(network.sc, "composed", lambda _, out: out)
    listen(network.decoder, "before_tanh", lambda _, out: out)

    def stop() -> None:
        for handle in handles:
            handle.remove()

    return taken, stop


@pytest.mark.parametrize("kind", ["e2fgvi_hq", pytest.param("e2fgvi", marks=pytest.mark.slow)])
def test_every_stage_agrees(kind: str, request: pytest.FixtureRequest) -> None:
    network = (
        request.getfixturevalue("hq")
        if kind == "e2fgvi_hq"
        else adapter.build(kind, fixtures.state_dict(kind))
    )
    golden = fixtures.Golden(PARITY / f"{kind}_golden.npz")
    meta = golden.meta
    frames, holes = fixtures.clip(meta["frames"], meta["height"], meta["width"], meta["clip_seed"])
    x = torch.from_numpy(fixtures.masked_input(frames, holes))
    listened, stop = _taps(network)
    out, (forward, backward) = adapter.forward(network, x, meta["local"])
    stop()
    got = {name: torch.cat(parts).numpy() for name, parts in listened.items()}
    got["frames_quarter"] = network.quarter(x[0, : meta["local"]]).numpy()
    got["flow_forward"], got["flow_backward"] = forward[0].numpy(), backward[0].numpy()
    got["output"] = out.numpy()
    assert {"output", "flow_forward", "block0_attention", "composed"} <= set(golden.names)
    for name in golden.names:
        worst, relative = golden.check(name, got[name])
        assert worst <= (FLOW_LIMIT_PX if name.startswith("flow") else OUTPUT_LIMIT), name
        assert relative <= STATISTICS_LIMIT, name


def test_spynet_agrees(hq: Generator) -> None:
    cases = list(fixtures.spynet_cases(PARITY / "e2fgvi_spynet_golden.npz"))
    assert len(cases) == 3
    for name, a, b, wanted in cases:
        got = adapter.spynet(hq, torch.from_numpy(a), torch.from_numpy(b))
        assert np.abs(got[0].numpy() - wanted).max() <= FLOW_LIMIT_PX, name


def test_the_published_sliding_window_agrees(hq: Generator) -> None:
    with np.load(PARITY / "e2fgvi_window_golden.npz") as stored:
        meta, composite = json.loads(str(stored["meta"])), stored["composite"]
        grown = np.unpackbits(stored["dilated_packed"])
    frames, holes = fixtures.clip(meta["frames"], meta["height"], meta["width"], meta["clip_seed"])
    grown = grown[: holes.size].reshape(holes.shape).astype(bool)
    assert np.array_equal(published.dilate(holes), grown)
    for window, wanted in zip(published.schedule(meta["frames"]), meta["windows"], strict=True):
        assert list(window.neighbours) == wanted["neighbors"]
        assert list(window.references) == wanted["refs"]
    got = adapter.inpaint(hq, frames, holes)
    largest, share, outside = fixtures.composite_error(got, composite, grown)
    assert largest <= 1
    assert share <= 0.005
    assert outside


@pytest.fixture
def smallest(hq: Generator) -> Iterator[tuple[Generator, Tensor]]:
    frames, holes = fixtures.clip(4, 60, 108, 6)
    yield hq, torch.from_numpy(fixtures.masked_input(frames, holes))


def test_one_local_frame_has_no_flow(smallest: tuple[Generator, Tensor]) -> None:
    network, x = smallest
    out, (forward, backward) = adapter.forward(network, x[:, :1], 1)
    assert out.shape == (1, 3, 60, 108)
    assert forward.shape == backward.shape == (1, 0, 2, 15, 27)


def test_a_batch_equals_separate_calls(smallest: tuple[Generator, Tensor]) -> None:
    network, x = smallest
    both, (flow, _) = adapter.forward(network, torch.stack((x[0, :3], x[0, 1:])), 2)
    for row in range(2):
        alone, (flow_alone, _) = adapter.forward(network, x[:, row : row + 3], 2)
        assert torch.allclose(both[3 * row : 3 * row + 3], alone, atol=1e-5)
        assert torch.allclose(flow[row], flow_alone[0], atol=1e-4)


def test_asking_for_some_frames_gives_what_asking_for_all_gives(
    smallest: tuple[Generator, Tensor],
) -> None:
    network, x = smallest
    whole, flows = adapter.forward(network, x, 3)
    with torch.inference_mode():
        features = network.encode(x[0])[None]
        some = network.generate(features[:, :3], features[:, 3:], flows, [2, 0])
    assert torch.allclose(some[0], whole[[2, 0]], atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 1 << 16])
def test_attention_is_what_its_description_says(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the plain formula, key by key, on a grid where some pooled windows are missing."""
    monkeypatch.setattr(e2fgvi_network, "KEYS_AT_ONCE", at_once)
    torch.manual_seed(2)
    attention = e2fgvi_network.FocalAttention()
    t, n, m = 2, 20, 9  # four windows above each other
    x, pooled = torch.randn(1, t, n, m, 512), torch.randn(1, t, 4, 1, 512)
    keys = e2fgvi_network.Attended.of(n, m, x.device)
    assert keys.there is not None
    with torch.inference_mode():
        got = attention(x, pooled, t, keys)[0]
        q, k, v = attention.qkv(x[0]).chunk(3, -1)
        _, pooled_k, pooled_v = attention.qkv(pooled[0]).chunk(3, -1)
        wanted = torch.empty_like(got)
        for window in range(4):
            logits, values = [], []
            asked = q[:, 5 * window : 5 * window + 5].reshape(-1, 4, 128) * 128**-0.5
            for frame in range(t):
                at = [(r, c) for r in range(5) for c in range(9)]
                for down, right in ((2, 4), (2, -4), (-2, 4), (-2, -4)):
                    for r in range(5):
                        for c in range(9):
                            row, column = r + down, c + right
                            if not (0 <= row < 5 and 0 <= column < 9):
                                at.append((row, column))
                assert len(at) == 165
                for row, column in at:
                    place = frame, (5 * window + row) % n, column % m
                    logits.append((asked * k[place].view(4, 128)).sum(-1))
                    values.append(v[place].view(4, 128))
                for row in range(window - 2, window + 3):
                    if 0 <= row < 4:
                        logits.append((asked * pooled_k[frame, row, 0].view(4, 128)).sum(-1))
                        values.append(pooled_v[frame, row, 0].view(4, 128))
            weight = torch.stack(logits, -1).softmax(-1)  # (queries, heads, keys)
            mixed = torch.einsum("qhk,khd->qhd", weight, torch.stack(values))
            wanted[:, 5 * window : 5 * window + 5] = attention.proj(mixed.reshape(t, 5, 9, 512))
    assert torch.allclose(got, wanted, atol=1e-5)


def test_sizes_off_the_grid_are_refused(hq: Generator) -> None:
    with pytest.raises(ValueError, match="not 64x108"):
        hq.check_size(64, 108)
    with pytest.raises(ValueError, match="240 rows and 432 columns"), torch.device("meta"):
        Generator(BASE).check_size(60, 108)
    with pytest.raises(ValueError, match="5 local frames of 4"):
        hq(torch.zeros(1, 4, 3, 60, 108), 5)


def test_the_grid_lists_every_size_that_fits() -> None:
    assert grid_sizes(0, 130) == [h for h in range(1, 131) if fits(h, 108)]
    assert grid_sizes(1, 330) == [w for w in range(1, 331) if fits(60, w)]
