"""DeAOT as a tracker: what it promises beside agreement with the golden files.

The weights are deterministic noise in a file like the published one: the masks mean nothing, the
procedure around them is the real one.
"""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import deaot_adapter as adapter
from parity import deaot_fixtures as fixtures
from torch import Tensor

from inpainterz import engines, pipeline, weights
from inpainterz.errors import (
    EngineUnavailable,
    InputError,
    OptionError,
    OutOfMemory,
    PromptError,
    WeightsCorrupt,
    WeightsMismatch,
    WeightsMissing,
)
from inpainterz.track.deaot import engine
from inpainterz.track.deaot.engine import DeAOTTracker, Options, Procedure, create
from inpainterz.track.deaot.memory import LongTermMemory, Memory, MemoryRule
from inpainterz.track.deaot.network import VARIANTS, DeAOT, LayerMemory
from inpainterz.types import Frame, LabelMap, Tracked

TINY = "DeAOTT_PRE_YTB_DAV.pth"
PARITY = Path(__file__).parent / "parity"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def golden() -> Any:
    return fixtures.Golden(PARITY / "deaot_deaott_golden.npz")


@pytest.fixture(scope="module")
def tensors(golden: Any) -> dict[str, Tensor]:
    return dict(golden.state_dict("deaott"))


@pytest.fixture(scope="module")
def file(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / TINY
    wrapped = {f"module.{name}": value for name, value in tensors.items()}
    optimizer = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]}
    torch.save({"state_dict": wrapped, "optimizer": optimizer}, path)
    return path


@pytest.fixture(scope="module")
def tracker(file: Path) -> DeAOTTracker:
    return create(Options(), device="cpu", weights=file)


def with_options(tracker: DeAOTTracker, **changes: Any) -> DeAOTTracker:
    """The same network under other options."""
    return DeAOTTracker(tracker.network, Options(**changes), torch.float32)


def frames_of(images: Iterable[np.ndarray], *, shots: tuple[int, ...] = ()) -> list[Frame]:
    return [
        Frame(image, i, 40 * i, Fraction(1, 1000), sum(i >= cut for cut in shots))
        for i, image in enumerate(images)
    ]


def noise(size: tuple[int, int], count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def clip(golden: Any) -> tuple[list[Frame], LabelMap]:
    """Six frames with two objects."""
    arrays = golden.z
    return frames_of(arrays["two_objects/frames"]), arrays["two_objects/feed_labels"][0]


def run(
    tracker: DeAOTTracker, frames: Iterable[Frame], labels: dict[int, LabelMap]
) -> list[Tracked]:
    return list(tracker.track(frames, labels))


def same(one: list[Tracked], two: list[Tracked]) -> bool:
    return all(
        np.array_equal(a.labels, b.labels) and a.confidence == b.confidence
        for a, b in zip(one, two, strict=True)
    )


# ---------------------------------------------------------------- the promises


@pytest.mark.parametrize("size", [(49, 75), (17, 10), (5, 7), (1, 1), (1, 40), (70, 3)], ids=str)
def test_one_out_for_each_in_at_any_size(tracker: DeAOTTracker, size: tuple[int, int]) -> None:
    frames = frames_of(noise(size, 7))
    first = np.zeros(size, np.uint8)
    first[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = 9
    out = run(tracker, frames, {0: first})
    assert [o.frame for o in out] == frames
    assert np.array_equal(out[0].labels, first)
    assert out[0].confidence == {9: 1.0}
    for item in out:
        assert item.labels.shape == size
        assert item.labels.dtype == np.uint8
        assert set(np.unique(item.labels)) <= {0, 9}
        assert set(item.confidence) == {9}
        assert 0 <= item.confidence[9] <= 1


def test_nothing_is_read_ahead(tracker: DeAOTTracker, clip: tuple[list[Frame], LabelMap]) -> None:
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in clip[0]:
            taken += 1
            yield frame

    for i, _ in enumerate(tracker.track(counted(), {0: clip[1]})):
        assert taken == i + 1


def test_two_clips_on_one_engine_and_a_closed_one(
    tracker: DeAOTTracker, clip: tuple[list[Frame], LabelMap]
) -> None:
    frames, first = clip
    mirrored = frames_of([f.image[:, ::-1] for f in frames])
    jobs = [(frames, first), (mirrored, first[:, ::-1])]
    alone = [run(tracker, f, {0: m}) for f, m in jobs]
    runs = [tracker.track(f, {0: m}) for f, m in jobs]
    closed = tracker.track(frames, {0: first})
    next(closed)
    woven = list(zip(*runs, strict=True))
    closed.close()  # type: ignore[attr-defined]
    for i, expected in enumerate(alone):
        assert same(expected, [pair[i] for pair in woven])


def test_time_may_run_backwards(tracker: DeAOTTracker, clip: tuple[list[Frame], LabelMap]) -> None:
    frames, first = clip
    backwards = [
        Frame(f.image, 5 - f.index, 40 * (5 - f.index), f.time_base) for f in frames
    ]  # the same pictures with falling indices
    assert same(run(tracker, frames, {0: first}), run(tracker, backwards, {5: first}))


def test_state_is_not_kept_in_inference_mode_between_frames(
    tracker: DeAOTTracker, clip: tuple[list[Frame], LabelMap]
) -> None:
    for _ in tracker.track(clip[0], {0: clip[1]}):
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")


# ---------------------------------------------------------------- the reference procedure


@pytest.mark.parametrize("case", ["two_objects", "add_object"])
def test_without_a_ceiling_it_is_the_published_procedure(
    golden: Any, tensors: dict[str, Tensor], case: str
) -> None:
    """Reference, then step, labels, memorise; new objects laid over the prediction."""
    arrays = golden.z
    frames, feed = arrays[f"{case}/frames"], arrays[f"{case}/feed_labels"]
    reference = adapter.build("deaott", tensors, 2, 9999, 1040)
    reference.reference(frames[0], feed[0], 2)
    labels = {0: feed[0]}
    expected = [feed[0]]
    for i in range(1, len(frames)):
        _, _, found = reference.step(frames[i])
        if case == "add_object" and i == 3:
            labels[3] = np.where(feed[3] == 3, feed[3], 0)
            found = np.where(feed[3] == 3, 3, found).astype(np.uint8)
            reference.reference(frames[i], found, 3)
        else:
            reference.memorise(found)
        expected.append(found)
    options = Options(memory_gap_frames=2, memory_frames=0)
    ours = DeAOTTracker(reference.procedure.network, options, torch.float32)
    out = run(ours, frames_of(frames), labels)
    for item, wanted in zip(out, expected, strict=True):
        assert np.array_equal(item.labels, wanted)


def test_the_ceiling_changes_nothing_until_it_is_reached(
    tracker: DeAOTTracker, clip: tuple[list[Frame], LabelMap]
) -> None:
    frames, first = clip
    runs = [
        run(with_options(tracker, memory_gap_frames=1, **o), frames, {0: first})
        for o in (
            {"memory_frames": 0},
            {"memory_frames": 6},
            {"memory_frames": 6, "forget": "oldest"},
            {"memory_frames": 2},
        )
    ]
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])
    assert not same(runs[0], runs[3])


def test_the_published_gap_is_the_default(tracker: DeAOTTracker) -> None:
    assert tracker.rule == MemoryRule(9999, 8, "least-used")
    assert with_options(tracker, memory_gap_frames=3).rule.gap_frames == 3


# ---------------------------------------------------------------- objects and prompts


def patches(size: tuple[int, int], ids: Iterable[int]) -> LabelMap:
    """One square for each id, in rows of six."""
    labels = np.zeros(size, np.uint8)
    for i, k in enumerate(ids):
        y, x = 16 * (i // 6), 16 * (i % 6)
        labels[y + 2 : y + 14, x + 2 : x + 14] = k
    return labels


def test_ids_may_have_gaps(tracker: DeAOTTracker) -> None:
    frames = frames_of(noise((49, 97), 4))
    dense = run(tracker, frames, {0: patches((49, 97), [1, 2, 3])})
    gaps = run(tracker, frames, {0: patches((49, 97), [4, 90, 255])})
    for a, b in zip(dense, gaps, strict=True):
        assert np.array_equal(np.array([0, 4, 90, 255], np.uint8)[a.labels], b.labels)
        assert list(b.confidence) == [4, 90, 255]


def test_more_than_ten_objects_are_joined_as_the_logits_say(tracker: DeAOTTracker) -> None:
    size = (65, 97)
    images = noise(size, 3)
    labels = patches(size, range(1, 24))
    procedure = Procedure(tracker.network, MemoryRule(1, 0), max_side_px=1040)
    procedure.prompt(images[0], procedure.tensor(labels), 23)
    for image in images[1:]:
        quarters = procedure.step(image)
        assert len(quarters) == 3
        logits = procedure.logits(quarters, size)
        assert logits.shape == (31, *size)
        found = procedure.labels(quarters, size)
        assert torch.equal(found, logits.argmax(0).to(torch.uint8))
        confidence = procedure.confidence(quarters, frozenset(found.unique().tolist()))
        assert sorted(confidence) == list(range(1, 24))
        procedure.remember(found)
    (memory,) = procedure.memories  # three groups in one pass
    assert memory.long.layers()[0].values.shape[2] == 512 * 4


def test_groups_in_one_pass_are_groups_one_by_one(
    tracker: DeAOTTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (49, 97)
    frames, first = frames_of(noise(size, 4)), patches(size, range(1, 17))
    together = run(tracker, frames, {0: first})
    monkeypatch.setattr(engine, "BATCH", 1)
    apart = run(tracker, frames, {0: first})
    for a, b in zip(together, apart, strict=True):
        assert (a.labels != b.labels).mean() < 0.01


def test_as_many_objects_as_labels_can_name(tracker: DeAOTTracker) -> None:
    random = np.random.default_rng(0)
    first = random.permutation(np.arange(17 * 16) % 256).reshape(17, 16).astype(np.uint8)
    out = run(tracker, frames_of(noise((17, 16), 2)), {0: first})
    assert sorted(out[1].confidence) == list(range(1, 256))


def test_a_later_label_map_is_laid_over_the_prediction(tracker: DeAOTTracker) -> None:
    size = (49, 97)
    frames = frames_of(noise(size, 6))
    first = patches(size, [1, 2])
    plain = run(tracker, frames, {0: first})
    later = np.zeros(size, np.uint8)
    later[30:45, 60:90] = 2  # object 2 corrected
    later[0:9, 80:97] = 7  # a new one
    out = run(tracker, frames, {0: first, 3: later, 99: first})
    assert same(plain[:3], out[:3])
    at = out[3].labels
    assert np.array_equal(at == 2, later == 2)  # also where it was predicted and is not shown
    assert np.array_equal(at == 7, later == 7)
    assert np.array_equal(at == 1, (plain[3].labels == 1) & (later == 0))
    assert out[3].confidence[2] == out[3].confidence[7] == 1.0
    assert out[3].confidence[1] == plain[3].confidence[1]
    assert all(set(o.confidence) == {1, 2, 7} for o in out[3:])
    assert not same(plain[4:], out[4:])


def test_new_objects_beyond_a_group_open_another(
    tracker: DeAOTTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (49, 97)
    seen: list[Procedure] = []
    make = DeAOTTracker._procedure

    def kept(self: DeAOTTracker) -> Procedure:
        seen.append(make(self))
        return seen[-1]

    monkeypatch.setattr(DeAOTTracker, "_procedure", kept)
    labels = {0: patches(size, range(1, 10)), 2: patches(size, range(1, 13))}
    out = run(tracker, frames_of(noise(size, 4)), labels)
    shown = labels[2] > 0
    assert np.array_equal(out[2].labels[shown], labels[2][shown])
    assert set(out[3].confidence) == set(range(1, 13))
    first, second = seen[0].memories
    assert (len(first.long), len(second.long)) == (2, 1)


def test_an_absent_object_has_an_empty_mask_and_a_confidence(tracker: DeAOTTracker) -> None:
    procedure = Procedure(tracker.network, MemoryRule(1, 0), max_side_px=1040)
    procedure.objects = 2
    quarter = torch.full((11, 4, 4), -50.0)
    quarter[0] = 8.0  # background everywhere
    quarter[1, :2] = 20.0  # object 1 in the upper half, beyond doubt
    quarter[2, 3, 3] = 7.0  # object 2 nearly in one place
    labels = procedure.labels([quarter], (16, 16))
    assert set(labels.unique().tolist()) == {0, 1}
    confidence = procedure.confidence([quarter], frozenset({0, 1}))
    assert confidence[1] > 0.99
    assert confidence[2] == pytest.approx(math.tanh(0.5), abs=1e-3)  # p(0) - p(2), logits 8 and 7
    quarter[2, 3, 3] = -50.0
    assert procedure.confidence([quarter], frozenset({0, 1}))[2] > 0.99


def test_both_directions_must_agree_to_be_trusted() -> None:
    """Prompts in frames 0 and 9; what each pass says of frame 4."""
    same, other = patches((48, 96), [1, 2, 3]), patches((48, 96), [1, 2, 3])
    other[other == 2] = 0
    other[20:32, 20:32] = 2  # elsewhere
    other[2:14, 34:37] = 0  # object 3, a quarter less
    other[40:44, 2:6] = 5
    back = Tracked(
        Frame(np.zeros((48, 96, 3), np.uint8), 4, 4, Fraction(1, 25)),
        other,
        {1: 0.8, 2: 0.8, 3: 0.8, 4: 0.9, 5: 0.6},
    )
    ahead = {1: 0.9, 2: 0.9, 3: 0.9, 4: 0.7}
    shown = {1: [0, 9], 2: [0, 9], 3: [0, 9], 4: [0, 9], 5: [9]}
    merged = pipeline.merge(back, same, ahead, shown)
    assert np.array_equal(merged.labels % 5, same)
    assert merged.confidence[1] == 0.9  # as both say
    assert merged.confidence[2] == 0.0  # nothing in common: for the user to look at
    assert merged.confidence[3] == pytest.approx(0.9 * 0.75**0.5)
    assert merged.confidence[4] == 0.9  # both say that it is not there
    assert merged.confidence[5] == 0.6  # the other pass has never seen it


# ---------------------------------------------------------------- memory


def one(value: float, tokens: int = 2) -> list[LayerMemory]:
    """A frame's memory in a network of two layers, recognisable by its value."""
    return [
        LayerMemory(torch.full((1, tokens, 3), value), torch.full((1, tokens, 5), value))
        for _ in range(2)
    ]


def values(memory: LongTermMemory) -> list[float]:
    """Which frames are remembered, in the order of the slots."""
    for layer in memory.layers():
        assert layer.keys.shape[1] == layer.values.shape[1] == 2 * len(memory)
    return [float(v) for v in memory.layers()[1].values[0, ::2, 0]]


def test_least_used_leaves_and_prompts_stay() -> None:
    memory = LongTermMemory(MemoryRule(5, 4, "least-used"))
    memory.write(one(0), prompt=True)
    for value in (1, 2, 3):
        memory.write(one(value), prompt=False)
    shown = torch.tensor([[1.0, 0.0]])  # only the first token shows an object
    memory.credit(torch.tensor([[[0.1, 0.4, 0.2, 0.3], [0.0, 0.0, 1.0, 0.0]]]), shown)
    memory.write(one(4), prompt=False)
    assert values(memory) == [0, 1, 4, 3]  # 2 had the least, and its slot is used again
    memory.credit(torch.tensor([[[0.0, 0.1, 0.5, 0.4], [0.0, 0.0, 0.0, 0.0]]]), shown)
    memory.write(one(5), prompt=False)
    assert values(memory) == [0, 5, 4, 3]  # mean of 1: 1.0, of 3: 1.4, of 4: 2.0
    memory.write(one(6), prompt=True)
    assert values(memory) == [0, 6, 4, 3]  # 5 was never credited
    memory.write(one(7), prompt=True)
    memory.write(one(8), prompt=True)
    memory.write(one(9), prompt=True)
    assert values(memory) == [0, 6, 8, 7, 9]  # only prompts are left: above the ceiling
    memory.write(one(10), prompt=False)
    memory.write(one(11), prompt=False)
    assert values(memory) == [0, 6, 8, 7, 9, 11]  # and one more


def test_frames_without_an_object_do_not_wash_out_those_with_one() -> None:
    memory = LongTermMemory(MemoryRule(5, 4, "least-used"))
    memory.write(one(0), prompt=True)
    for value in (1, 2):
        memory.write(one(value), prompt=False)
    memory.credit(torch.full((1, 2, 3), 1 / 3), torch.ones(1, 2))
    for value in range(3, 30):  # the object is away
        memory.credit(torch.full((1, 2, len(memory)), 0.25), torch.zeros(1, 2))
        memory.write(one(value), prompt=False)
    assert values(memory) == [0, 1, 2, 29]


def test_the_published_rule_forgets_the_oldest_even_the_prompt() -> None:
    memory = LongTermMemory(MemoryRule(5, 3, "oldest"))
    memory.write(one(0), prompt=True)
    for value in (1, 2, 3, 4):
        memory.write(one(value), prompt=False)
    assert sorted(values(memory)) == [2, 3, 4]
    assert memory.latest_prompt() is None


def test_without_a_ceiling_nothing_is_forgotten() -> None:
    memory = LongTermMemory(MemoryRule(1, 0, "least-used"))
    for value in range(37):
        memory.write(one(value), prompt=value == 0)
    assert values(memory) == list(range(37))


def test_the_gap_counts_from_the_last_write() -> None:
    memory = Memory(MemoryRule(3, 0))
    memory.prompt(one(0))
    for value in range(1, 9):
        memory.advance()
        if value == 5:
            memory.prompt(one(value))
        else:
            memory.remember(one(value))
        assert float(memory.short[0].keys[0, 0, 0]) == value
    assert values(memory.long) == [0, 3, 5, 8]


def test_at_a_cut_the_youngest_prompt_stands_in_for_the_frame_before() -> None:
    memory = Memory(MemoryRule(1, 0))
    memory.prompt(one(0))
    for value in range(1, 4):
        memory.advance()
        (memory.prompt if value == 2 else memory.remember)(one(value))
    memory.cut()
    assert [float(layer.values[0, 0, 0]) for layer in memory.short] == [2, 2]


def test_a_cut_is_noticed(tracker: DeAOTTracker) -> None:
    images, first = noise((49, 97), 6), patches((49, 97), [1, 2])
    plain = run(tracker, frames_of(images), {0: first})
    cut = run(tracker, frames_of(images, shots=(3,)), {0: first})
    assert same(plain[:3], cut[:3])
    assert not same(plain[3:], cut[3:])


def live_bytes() -> int:
    """What all tensors of this process hold."""
    gc.collect()
    stores = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in gc.get_objects()
        if type(t) is Tensor
    }
    return sum(stores.values())


@pytest.mark.parametrize(
    "count", [160, pytest.param(2000, marks=pytest.mark.slow)], ids=["short", "long"]
)
@pytest.mark.parametrize("forget", ["least-used", "oldest"])
def test_memory_is_flat_from_the_ceiling_on(tracker: DeAOTTracker, count: int, forget: str) -> None:
    bounded = with_options(tracker, memory_gap_frames=2, memory_frames=6, forget=forget)
    images = noise((33, 49), 8)
    frames = (
        Frame(images[i % 8], i, i, Fraction(1, 25), shot=i // 50) for i in range(count)
    )  # a stream: nothing but the tracker holds a frame
    labels = {0: patches((33, 49), [1, 2]), 70: patches((33, 49), [2])}
    held = {}
    for item in bounded.track(frames, labels):
        if item.frame.index in (90, 120, count - 1):
            held[item.frame.index] = live_bytes()
    assert len(set(held.values())) == 1


# ---------------------------------------------------------------- options, loading, bad input


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_side_px": 3},
        {"max_side_px": -1},
        {"memory_gap_frames": -1},
        {"memory_frames": -1},
        {"forget": "best"},
        {"precision": "fp8"},
    ],
    ids=str,
)
def test_options_outside_their_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Options(**wrong)


def test_a_large_frame_is_looked_at_smaller(tracker: DeAOTTracker) -> None:
    small = with_options(tracker, max_side_px=64)
    frames = frames_of(noise((120, 200), 3))
    out = run(small, frames, {0: patches((120, 200), [1, 2, 3])})
    assert all(o.labels.shape == (120, 200) for o in out)
    procedure = small._procedure()
    assert procedure.input_of(frames[0].image).shape == (33, 65, 3)
    assert with_options(tracker, max_side_px=0)._procedure().input_of(
        np.zeros((17, 2001, 3), np.uint8)
    ).shape == (17, 2001, 3)


@pytest.fixture(scope="module")
def shapes_only() -> tuple[DeAOT, DeAOT]:
    """One network that aligns corners and one that does not."""
    with torch.device("meta"):
        return DeAOT(VARIANTS["deaott"]), DeAOT(VARIANTS["swinb_deaotl"])


@pytest.mark.parametrize(
    ("height", "width", "corners", "swin"),
    [
        (480, 854, (481, 849), (480, 848)),
        (480, 864, (481, 865), (480, 864)),
        (720, 1280, (577, 1041), (592, 1040)),
        (1080, 1920, (577, 1041), (592, 1040)),
        (2160, 3840, (577, 1041), (592, 1040)),
        (360, 640, (353, 641), (352, 640)),
        (1, 1, (1, 1), (16, 16)),
    ],
)
def test_input_sizes(
    shapes_only: tuple[DeAOT, DeAOT],
    height: int,
    width: int,
    corners: tuple[int, int],
    swin: tuple[int, int],
) -> None:
    tiny, large = shapes_only
    assert tiny.input_size(height, width, 1040) == corners
    assert large.input_size(height, width, 1040) == swin


SIZE = (49, 97)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, "nothing to follow"),
        ({3: patches(SIZE, [1])}, "no label map"),
        ({0: patches((48, 97), [1])}, "97x48"),
        ({0: patches(SIZE, [1]), 4: patches((97, 49), [1])}, "frame 4"),
        ({0: np.zeros(SIZE, np.uint8)}, "no object"),
        ({0: patches(SIZE, [1]), 4: np.zeros(SIZE, np.uint8)}, "frame 4"),
        ({0: patches(SIZE, [1]).astype(np.int32) * 300}, "255"),
        ({0: -patches(SIZE, [1]).astype(np.int32)}, "255"),
        ({0: np.ones((*SIZE, 3), np.uint8)}, "3 axes"),
        ({0: np.full(SIZE, 0.5)}, "float64"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_label_maps_that_do_not_fit(
    tracker: DeAOTTracker, labels: dict[int, LabelMap], words: str
) -> None:
    out: list[Tracked] = []
    with pytest.raises(PromptError, match=words):
        out.extend(tracker.track(frames_of(noise(SIZE, 6)), labels))
    assert out == []  # before the first frame


def test_a_mask_of_booleans_is_one_object(tracker: DeAOTTracker) -> None:
    first = patches(SIZE, [1]) > 0
    out = run(tracker, frames_of(noise(SIZE, 2)), {0: first})  # type: ignore[dict-item]
    assert np.array_equal(out[0].labels, first.astype(np.uint8))


def test_a_clip_that_changes_its_size(tracker: DeAOTTracker) -> None:
    frames = frames_of([*noise(SIZE, 2), *noise((48, 97), 1)])
    with pytest.raises(InputError, match="97x48"):
        run(tracker, frames, {0: patches(SIZE, [1])})


def test_running_out_of_memory_names_the_options(
    tracker: DeAOTTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Procedure, "step", full)
    with pytest.raises(OutOfMemory) as error:
        run(tracker, frames_of(noise(SIZE, 2)), {0: patches(SIZE, [1])})
    assert "max_side_px" in str(error.value)


def test_weights_of_another_variant(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "R50_DeAOTL_PRE_YTB_DAV.pth"
    torch.save({"state_dict": tensors}, path)
    with pytest.raises(WeightsMismatch, match="r50-deaotl"):
        create(Options(), device="cpu", weights=path)


def test_weights_that_are_no_numbers(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    broken = dict(tensors)
    broken["id_norm.weight"] = torch.full_like(tensors["id_norm.weight"], torch.nan)
    torch.save(broken, tmp_path / TINY)
    with pytest.raises(WeightsCorrupt, match="NaN"):
        create(Options(), device="cpu", weights=tmp_path / TINY)


def test_weights_with_one_key_more_or_less(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    more = dict(tensors) | {"decoder.extra.weight": torch.zeros(3)}
    less = {k: v for k, v in tensors.items() if k != "id_norm.bias"}
    counted = dict(tensors) | {
        "encoder.features.0.1.num_batches_tracked": torch.zeros((), dtype=torch.int64)
    }
    for state, key in ((more, "decoder.extra.weight"), (less, "id_norm.bias")):
        torch.save({"model": state}, tmp_path / TINY)
        with pytest.raises(WeightsMismatch, match=key):
            create(Options(), device="cpu", weights=tmp_path / TINY)
    torch.save({"model": counted}, tmp_path / TINY)
    create(Options(), device="cpu", weights=tmp_path / TINY)


def test_weights_under_another_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"mine\.pth"):
        create(Options(), device="cpu", weights=tmp_path / "mine.pth")


def test_devices_and_precisions_that_are_not_there(file: Path) -> None:
    with pytest.raises(EngineUnavailable, match="fp16"):
        create(Options(precision="fp16"), device="cpu", weights=file)
    if not torch.cuda.is_available():
        with pytest.raises(EngineUnavailable, match="CUDA"):
            create(Options(), device="cuda", weights=file)


def test_the_engine_is_listed_and_says_how_to_fetch_its_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = engines.find("track", "deaot")
    assert entry.weights is not None
    assert engine.PUBLISHED[weights.card(entry.weights).file] == "r50_deaotl"
    monkeypatch.setattr(weights, "folders", lambda first=None: [tmp_path])
    with pytest.raises(WeightsMissing, match="r50-deaotl"):
        engines.load("track", "deaot")


def test_bfloat16_on_a_cpu(file: Path, clip: tuple[list[Frame], LabelMap]) -> None:
    half = create(Options(precision="bf16", memory_gap_frames=1), device="cpu", weights=file)
    out = run(half, clip[0], {0: clip[1]})
    full = create(Options(memory_gap_frames=1), device="cpu", weights=file)
    assert (out[1].labels != run(full, clip[0], {0: clip[1]})[1].labels).mean() < 0.1
    procedure = half._procedure()
    procedure.prompt(clip[0][0].image, procedure.tensor(clip[1]), 2)
    (memory,) = procedure.memories
    assert {t.dtype for layer in memory.long.layers() for t in layer} == {torch.bfloat16}


@pytest.mark.gpu
def test_half_precision_on_cuda(file: Path, golden: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    frames, feed = golden.z["two_objects/frames"], golden.z["two_objects/feed_labels"]
    found: list[list[Tensor]] = []
    for precision in ("fp32", "fp16"):
        made = create(
            Options(precision=precision, memory_gap_frames=2), device="cuda", weights=file
        )
        procedure = made._procedure()
        procedure.prompt(frames[0], procedure.tensor(feed[0]), 2)
        found.append([])
        for i in range(1, len(frames)):  # fed with the same labels, so differences do not grow
            quarters = procedure.step(frames[i])
            found[-1].append(procedure.labels(quarters, frames[i].shape[:2]))
            procedure.remember(procedure.tensor(feed[i]))
        (memory,) = procedure.memories
        wanted = torch.float16 if precision == "fp16" else torch.float32
        assert {t.dtype for layer in memory.long.layers() for t in layer} == {wanted}
    for a, b in zip(*found, strict=True):
        assert float((a != b).float().mean()) < 0.01


COMPILED = """
import sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from inpainterz.errors import EngineUnavailable
from inpainterz.track.deaot.engine import Options, create
from inpainterz.types import Frame

images = np.random.default_rng(0).integers(0, 256, (2, 49, 97, 3)).astype(np.uint8)
first = np.zeros((49, 97), np.uint8)
first[10:30, 20:60] = 1
found = []
for compile in (False, True):
    made = create(Options(compile=compile), device="cpu", weights=Path(sys.argv[1]))
    frames = [Frame(image, i, i, Fraction(1, 25)) for i, image in enumerate(images)]
    try:
        found.append(list(made.track(frames, {0: first}))[1].labels)
    except EngineUnavailable as error:
        print("refused:", error)
        sys.exit()
print("differ:", (found[0] != found[1]).mean() > 0.001)
"""


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["", "no-such-compiler"])
@pytest.mark.compiles
def test_compiled_or_a_sentence(file: Path, tmp_path: Path, compiler: str) -> None:
    """In a process of its own: the compiler leaves threads behind."""
    environment = dict(os.environ) | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    if compiler:
        environment["CXX"] = compiler
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, str(file)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parent.parent,
        check=True,
    )
    if compiler:
        assert "refused: the engine deaot cannot run here: it cannot be compiled" in done.stdout
    else:
        assert "differ: False" in done.stdout
