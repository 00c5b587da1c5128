"""The E2FGVI engine: windows, crops, caches and references, on deterministic weights.

With such weights the fill looks like nothing; what is held here is everything around it.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import e2fgvi_fixtures as fixtures

from inpainterz import engines
from inpainterz.errors import (
    EngineUnavailable,
    InputError,
    OptionError,
    OutOfMemory,
    WeightsCorrupt,
    WeightsMismatch,
)
from inpainterz.inpaint import windows
from inpainterz.inpaint.e2fgvi import engine as e2fgvi
from inpainterz.inpaint.e2fgvi import published
from inpainterz.inpaint.e2fgvi.engine import Counts, E2FGVIInpainter, Options
from inpainterz.inpaint.e2fgvi.network import BASE, HQ, Generator, fits, grid_sizes
from inpainterz.inpaint.windows import Box, Crop, Fill
from inpainterz.types import Frame, Inpainted, Mask, Origin

SMALL = Options(
    window_frames=4,
    stride_frames=3,
    references=1,
    reference_gap_frames=4,
    reference_reach_frames=8,
    reference_ahead_frames=2,
    margin_px=8,
    hybrid=False,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small frames: threads cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network() -> Generator:
    made = Generator(HQ)
    made.load_state_dict(fixtures.state_dict("e2fgvi_hq"))
    return made


@pytest.fixture
def small(network: Generator) -> E2FGVIInpainter:
    return E2FGVIInpainter(network, SMALL, CPU)


def frames_of(images: Iterable[np.ndarray], cut: int | None = None) -> list[Frame]:
    return [
        Frame(image, i, i, Fraction(1, 25), int(cut is not None and i >= cut))
        for i, image in enumerate(images)
    ]


def clip(count: int, height: int = 60, width: int = 108) -> tuple[list[Frame], list[Mask]]:
    images, holes = fixtures.clip(count, height, width, 6)
    return frames_of(images), list(holes.astype(bool))


class Counted:
    def __init__(self, items: Iterable[tuple[Frame, Mask]]) -> None:
        self.items, self.taken = items, 0

    def __iter__(self) -> Iterator[tuple[Frame, Mask]]:
        for item in self.items:
            self.taken += 1
            yield item


def hold_the_promises(out: list[Inpainted], frames: list[Frame], holes: list[Mask]) -> None:
    assert [o.frame.index for o in out] == [f.index for f in frames]
    for item, frame, hole in zip(out, frames, holes, strict=True):
        assert item.frame.image.shape == frame.image.shape
        assert item.frame.image.dtype == np.uint8
        assert np.array_equal(item.frame.image[~hole], frame.image[~hole])
        assert (item.frame.shot, item.frame.pts) == (frame.shot, frame.pts)
        if hole.any():
            assert item.origin is not None
            assert np.array_equal(item.origin != Origin.KEPT, hole)
        else:
            assert item.frame is frame


# The engine ---------------------------------------------------------------------------------------


def test_every_frame_is_encoded_once_and_every_flow_computed_once(small: E2FGVIInpainter) -> None:
    frames, holes = clip(14)
    counts = Counts()
    source = Counted(zip(frames, holes, strict=True))
    out = []
    for i, item in enumerate(small.counted(source, counts)):
        assert source.taken <= min(len(frames), i + small.lookahead + 1)
        out.append(item)
    hold_the_promises(out, frames, holes)
    assert small.lookahead == 5
    assert counts.frames == counts.encoded == 14
    assert counts.flows == 2 * 13
    assert counts.crops == 1
    assert counts.windows == 5  # 0..3, 3..6, 6..9, 9..12, 12..13
    assert counts.decoded == 14 + 4  # each overlap of one frame twice
    assert counts.invented_px == sum(int(h.sum()) for h in holes)
    assert counts.seen_px == 0
    for item, hole in zip(out, holes, strict=True):
        assert item.origin is not None
        assert (item.origin[hole] == Origin.INVENTED).all()


def test_the_cache_changes_nothing(network: Generator) -> None:
    """One window that holds all frames is one plain call of the network."""
    frames, holes = clip(4)
    whole = E2FGVIInpainter(network, replace(SMALL, margin_px=108), CPU)
    out = list(whole.inpaint(zip(frames, holes, strict=True)))
    x = fixtures.masked_input(np.stack([f.image for f in frames]), np.stack(holes))
    with torch.inference_mode():
        made, _ = network(torch.from_numpy(x), 4)
    for item, frame, hole, picture in zip(out, frames, holes, made, strict=True):
        levels = ((picture.permute(1, 2, 0) + 1) * 127.5).numpy()
        box = windows.around(hole)
        assert box is not None
        here = box.grown(windows.RIM_PX, hole.shape).slices
        target = frame.image[here].astype(np.float32)
        plain = levels[here] + windows.seam_correction(levels[here], target, ~hole[here])
        wanted = np.clip(np.rint(plain), 0, 255)[hole[here]]
        got = item.frame.image[hole].astype(int)
        assert np.abs(got - wanted).max() <= 1


def test_the_network_never_sees_the_object(small: E2FGVIInpainter) -> None:
    frames, holes = clip(4, 70, 120)
    painted = []
    for frame, hole in zip(frames, holes, strict=True):
        image = frame.image.copy()
        image[hole] = 255 - image[hole]
        painted.append(replace(frame, image=image))
    # Scaling must not let it through either.
    for options in (SMALL, replace(SMALL, max_side_px=64)):
        small.options = options
        one = list(small.inpaint(zip(frames, holes, strict=True)))
        two = list(small.inpaint(zip(painted, holes, strict=True)))
        for a, b in zip(one, two, strict=True):
            assert np.array_equal(a.frame.image, b.frame.image)


def test_frames_without_a_hole_cost_nothing(small: E2FGVIInpainter) -> None:
    frames, holes = clip(30)
    empty = np.zeros_like(holes[0])
    holes = [hole if 14 <= i < 16 else empty for i, hole in enumerate(holes)]
    counts = Counts()
    out = list(small.counted(zip(frames, holes, strict=True), counts))
    hold_the_promises(out, frames, holes)
    assert counts.windows == 2  # 12..15, 15..18
    assert counts.encoded <= 7 + 2  # their frames, and a reference for each
    counts = Counts()
    nothing = [empty] * 30
    source = Counted(zip(frames, nothing, strict=True))
    for i, item in enumerate(small.counted(source, counts)):
        assert item.frame is frames[i]
        assert source.taken == i + 1  # nothing to wait for
    assert counts.encoded == counts.windows == 0


def test_a_cut_is_a_wall(small: E2FGVIInpainter) -> None:
    images, holes = fixtures.clip(5, 60, 108, 6)
    masks = list(holes.astype(bool))
    one = list(small.inpaint(zip(frames_of(images, cut=3), masks, strict=True)))
    other = images.copy()
    other[3:] = 255 - other[3:]
    two = list(small.inpaint(zip(frames_of(other, cut=3), masks, strict=True)))
    hold_the_promises(one, frames_of(images, cut=3), masks)
    for a, b in zip(one[:3], two[:3], strict=True):
        assert np.array_equal(a.frame.image, b.frame.image)
    alone = list(small.inpaint(zip(frames_of(images[3:]), masks[3:], strict=True)))
    for a, b in zip(one[3:], alone, strict=True):
        assert np.array_equal(a.frame.image, b.frame.image)


def test_two_clips_at_once_are_kept_apart(small: E2FGVIInpainter) -> None:
    one, two = clip(4), clip(4, 64, 100)
    alone = [list(small.inpaint(zip(*c, strict=True))) for c in (one, two)]
    runs = [small.inpaint(zip(*c, strict=True)) for c in (one, two)]
    for number, pair in enumerate(zip(*runs, strict=True)):
        for kept, item in zip(alone, pair, strict=True):
            assert np.array_equal(kept[number].frame.image, item.frame.image)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 47), (61, 111)], ids=str)
def test_any_size_and_a_photo(small: E2FGVIInpainter, size: tuple[int, int]) -> None:
    random = np.random.default_rng(4)
    frames = frames_of(random.integers(0, 255, (2, *size, 3)).astype(np.uint8))
    hole = np.zeros(size, bool)
    hole[size[0] // 3 : size[0] // 3 + 1 + size[0] // 4, size[1] // 3 : size[1] // 2 + 1] = True
    for count in (1, 2):
        given = [(f, hole) for f in frames[:count]]
        hold_the_promises(list(small.inpaint(given)), frames[:count], [hole] * count)


def test_what_is_kept_does_not_grow_with_the_clip(small: E2FGVIInpainter) -> None:
    frames, holes = clip(1)
    counts = Counts()
    most = [0, 0, 0]
    size: tuple[int, ...] = ()
    shot = e2fgvi._Shot(small, frames[0], counts)
    for i in range(18):
        frame = replace(frames[0], index=i)
        for _ in shot.take(e2fgvi._Item(frame, holes[0], holes[0])):
            size = (len(shot.items), len(shot.features), len(shot.flows))
            most = [max(a, b) for a, b in zip(most, size, strict=True)]
    assert most[0] <= SMALL.window_frames + SMALL.reference_ahead_frames + 3
    assert most[1] <= most[0]
    assert most[2] <= SMALL.window_frames
    assert counts.encoded <= 18


def test_windows_together_are_windows_one_by_one(
    network: Generator, small: E2FGVIInpainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, holes = clip(13)
    plain, both = (Counts(), Counts())
    one = list(small.counted(zip(frames, holes, strict=True), plain))
    pairs = E2FGVIInpainter(network, replace(SMALL, batch_windows=2), CPU)
    assert pairs.lookahead == small.lookahead + SMALL.stride_frames
    sizes: list[int] = []
    generate = Generator.generate

    def counted(self: Generator, local: torch.Tensor, *more: Any) -> torch.Tensor:
        sizes.append(len(local))
        return generate(self, local, *more)

    monkeypatch.setattr(Generator, "generate", counted)
    source = Counted(zip(frames, holes, strict=True))
    two = []
    for i, item in enumerate(pairs.counted(source, both)):
        assert source.taken <= min(len(frames), i + pairs.lookahead + 1)
        two.append(item)
    assert sizes == [2, 1, 1]  # the first two have no reference, the others come at the end
    assert plain == both
    for a, b in zip(one, two, strict=True):
        assert np.abs(a.frame.image.astype(int) - b.frame.image).max() <= 1

    def full(self: Generator, local: torch.Tensor, *more: Any) -> torch.Tensor:
        if len(local) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return counted(self, local, *more)

    monkeypatch.setattr(Generator, "generate", full)
    sizes.clear()
    again = list(pairs.inpaint(zip(frames, holes, strict=True)))
    assert sizes == [1] * 4
    for a, b in zip(one, again, strict=True):
        assert np.array_equal(a.frame.image, b.frame.image)


def test_references_are_taken_from_within_reach(
    network: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[int], tuple[int, ...]]] = []

    def look(self: e2fgvi._Shot, group: list[e2fgvi._Window]) -> list[list[windows.Floats]]:
        (window,) = group
        seen.append((list(window.local), window.references))
        assert self.crop is not None
        return [[np.zeros((*self.crop.padded, 3), np.float32)] * len(window.wanted)]

    monkeypatch.setattr(e2fgvi._Shot, "_generate", look)
    options = replace(SMALL, references=2)
    frames, holes = clip(30)
    list(E2FGVIInpainter(network, options, CPU).inpaint(zip(frames, holes, strict=True)))
    assert len(seen) == 10
    for local, references in seen:
        assert len(references) <= 2
        for i in references:
            assert i % 4 == 0
            assert i not in local
            assert local[0] - 8 <= i <= local[-1] + 2
    assert any(i > local[-1] for local, references in seen for i in references)
    assert all(len(references) == 2 for _, references in seen[4:])


def test_a_large_crop_is_scaled_down_and_fills_the_whole_hole(network: Generator) -> None:
    images, _ = fixtures.clip(2, 150, 260, 2)
    hole = np.zeros((150, 260), bool)
    hole[30:120, 40:220] = True
    frames = frames_of(images)
    options = replace(SMALL, max_side_px=108)
    out = list(E2FGVIInpainter(network, options, CPU).inpaint([(f, hole) for f in frames]))
    hold_the_promises(out, frames, [hole, hole])


def test_a_hole_as_large_as_the_frame_is_told(
    small: E2FGVIInpainter, caplog: pytest.LogCaptureFixture
) -> None:
    frames, _ = clip(4)
    full = np.ones((60, 108), bool)
    with caplog.at_level(logging.WARNING):
        out = list(small.inpaint([(f, full) for f in frames]))
    hold_the_promises(out, frames, [full] * 4)
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "nothing to borrow from" in record.getMessage()


def test_half_precision_agrees(network: Generator) -> None:
    frames, holes = clip(4)
    pictures = []
    for precision in ("fp32", "bf16"):
        options = replace(SMALL, precision=precision)  # type: ignore[arg-type]
        made = E2FGVIInpainter(network, options, CPU).inpaint(zip(frames, holes, strict=True))
        pictures.append(np.stack([m.frame.image for m in made]).astype(float))
    error = np.square(pictures[0] - pictures[1])[np.stack(holes)].mean()
    assert 10 * np.log10(255**2 / error) >= 45


def test_sizes_that_change_are_refused(small: E2FGVIInpainter) -> None:
    frames, holes = clip(2)
    with pytest.raises(InputError, match="frame 1 or its mask is not 108x60"):
        list(small.inpaint([(frames[0], holes[0]), (frames[1], holes[1][:-1])]))


def test_a_full_memory_names_the_options_that_lower_it(
    small: E2FGVIInpainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(small.network.encoder, "forward", fail)
    frames, holes = clip(1)
    with pytest.raises(OutOfMemory, match="max_side_px"):
        list(small.inpaint([(frames[0], holes[0])]))


# Hybrid -------------------------------------------------------------------------------------------


def test_what_other_frames_show_is_kept(network: Generator) -> None:
    """A square slides over a plate that stands still: all is shown but a corner never uncovered."""
    random = np.random.default_rng(5)
    coarse = random.integers(40, 215, (8, 14, 3)).astype(np.uint8)
    plate = np.asarray(np.kron(coarse, np.ones((8, 8, 1))), np.uint8)[:60, :108]
    frames, holes = [], []
    for i in range(12):
        hole = np.zeros((60, 108), bool)
        hole[20:40, 4 + 6 * i : 24 + 6 * i] = True
        hole[46:58, 2:20] = True  # always hidden
        image = plate.copy()
        image[hole] = (255, 0, 255)
        frames.append(image)
        holes.append(hole)
    engine = E2FGVIInpainter(network, replace(SMALL, hybrid=True), CPU)
    counts = Counts()
    out = list(engine.counted(zip(frames_of(frames), holes, strict=True), counts))
    hold_the_promises(out, frames_of(frames), holes)
    total = sum(int(h.sum()) for h in holes)
    assert counts.seen_px + counts.invented_px == total
    assert 0.4 * total < counts.seen_px
    hidden = 12 * 12 * 18
    assert counts.invented_px >= 0.9 * hidden
    for item in out:
        assert item.origin is not None
        seen = item.origin == Origin.SEEN
        error = np.abs(item.frame.image[seen].astype(int) - plate[seen])
        assert np.mean(error) < 8
        assert (item.origin[46:58, 2:20] == Origin.INVENTED).mean() > 0.9
    alone = E2FGVIInpainter(network, SMALL, CPU)
    assert alone.lookahead < engine.lookahead


def test_specks_are_not_worth_a_network() -> None:
    hole = np.zeros((60, 80), bool)
    hole[5:55, 5:75] = True
    unsure = np.zeros_like(hole)
    unsure[10:12, 10:70] = True  # thin
    unsure[20:26, 20:26] = True  # small
    assert not e2fgvi._worthwhile(unsure, hole).any()
    unsure[30:50, 40:74] = True
    todo = e2fgvi._worthwhile(unsure, hole)
    assert todo[30:50, 40:74].all()
    assert not todo[~hole].any()
    assert windows.around(todo) == Box(26, 36, 54, 75)


# Compat -------------------------------------------------------------------------------------------


def test_compat_is_the_published_procedure(network: Generator) -> None:
    frames, holes = clip(4)
    engine = E2FGVIInpainter(network, Options(compat=True), CPU)
    out = list(engine.inpaint(zip(frames, holes, strict=True)))
    hold_the_promises(out, frames, holes)
    wanted = published.inpaint(network, np.stack([f.image for f in frames]), np.stack(holes))
    assert np.array_equal(np.stack([o.frame.image for o in out]), wanted)


# Building -----------------------------------------------------------------------------------------


def test_load_takes_the_published_files_and_refuses_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(folder: str) -> None:
        monkeypatch.setenv("INPAINTERZ_WEIGHTS", str(tmp_path / folder))
        (tmp_path / folder).mkdir()
        torch.save(state, tmp_path / folder / "E2FGVI-HQ-CVPR22.pth")

    state = fixtures.state_dict("e2fgvi_hq")
    place("right")
    engine = engines.load("inpaint", "e2fgvi-hq", device="cpu", options={"hybrid": False})
    assert isinstance(engine, E2FGVIInpainter)
    assert engine.config is HQ
    loaded = engine.network.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())

    with pytest.raises(EngineUnavailable, match="fp16"):
        engines.load("inpaint", "e2fgvi-hq", device="cpu", options={"precision": "fp16"})

    state["decoder.6.bias"][0] = float("nan")
    place("broken")
    with pytest.raises(WeightsCorrupt, match=r"decoder\.6\.bias"):
        engines.load("inpaint", "e2fgvi-hq", device="cpu")

    del state["sc.bias_conv.weight"], state["sc.bias_conv.bias"]
    state["sc.bias"] = torch.zeros(128, 60, 108)  # as the base model has it
    place("base")
    with pytest.raises(WeightsMismatch, match=r"missing: sc\.bias_conv.*unexpected: sc\.bias"):
        engines.load("inpaint", "e2fgvi-hq", device="cpu")


def test_compiling_is_asked_for_and_its_failure_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    asked: list[str] = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, *_: asked.append(type(self).__name__)
    )  # without arguments: a CPU has no CUDA graphs
    torch.save(fixtures.state_dict("e2fgvi_hq"), tmp_path / "E2FGVI-HQ-CVPR22.pth")
    engine = e2fgvi.create(
        replace(SMALL, compile=True), "cpu", weights=tmp_path / "E2FGVI-HQ-CVPR22.pth"
    )
    assert asked == ["Encoder", "Sequential"]

    def fails(_: torch.Tensor) -> torch.Tensor:
        raise TorchDynamoException("no C++ compiler\nand much more")

    monkeypatch.setattr(engine.network.encoder, "forward", fails)
    frames, holes = clip(1)
    with pytest.raises(EngineUnavailable, match=r"cannot be compiled \(no C\+\+ compiler\)"):
        list(engine.inpaint([(frames[0], holes[0])]))


def test_features_outlive_the_next_run_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CUDA graph does, on a CPU: every run writes its result into the same memory."""
    asked: list[object] = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, *, mode: asked.append((type(self).__name__, mode))
    )
    network = Generator(HQ)
    network.compile_parts(graphs=True)
    assert asked == [("Encoder", "reduce-overhead"), ("Sequential", "reduce-overhead")]
    result = torch.zeros(1, 128, 15, 27)
    monkeypatch.setattr(network.encoder, "forward", lambda x: result.fill_(float(x.mean())))
    one = network.encode(torch.ones(1, 3, 60, 108))
    network.encode(torch.zeros(1, 3, 60, 108))
    assert float(one.min()) == 1


COMPILED = """
import sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from inpainterz.inpaint.e2fgvi.engine import Options, create
from inpainterz.types import Frame

images = np.random.default_rng(0).integers(0, 256, (3, 60, 108, 3)).astype(np.uint8)
hole = np.zeros((60, 108), bool)
hole[20:40, 30:70] = True
found = []
for compile in (False, True):
    made = create(Options(compile=compile, hybrid=False), "cpu", weights=Path(sys.argv[1]))
    frames = [Frame(image, i, i, Fraction(1, 25)) for i, image in enumerate(images)]
    found.append(np.stack([f.frame.image for f in made.inpaint([(f, hole) for f in frames])]))
print(int(np.abs(found[0].astype(int) - found[1]).max()))
"""


@pytest.mark.slow
@pytest.mark.compiles
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_it_fills_alike(tmp_path: Path) -> None:
    """In a process of its own: the compiler leaves threads behind."""
    file = tmp_path / "E2FGVI-HQ-CVPR22.pth"
    torch.save(fixtures.state_dict("e2fgvi_hq"), file)
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, str(file)],
        capture_output=True,
        text=True,
        env=dict(os.environ) | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        cwd=Path(__file__).parent.parent,
        check=True,
    )
    assert int(done.stdout) <= 1  # levels of 255


def test_the_base_model_takes_any_size() -> None:
    network = Generator(BASE)
    network.load_state_dict(fixtures.state_dict("e2fgvi"))
    images, holes = fixtures.clip(1, 300, 200, 3)
    (frame,), mask = frames_of(images), holes[0].astype(bool)
    engine = E2FGVIInpainter(network, SMALL, CPU)
    hold_the_promises(list(engine.inpaint([(frame, mask)])), [frame], [mask])
    compat = E2FGVIInpainter(network, Options(compat=True), CPU)
    with pytest.raises(InputError, match="240 rows and 432 columns"):
        list(compat.inpaint([(frame, mask)]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_frames": 0},
        {"stride_frames": 12},
        {"references": -1},
        {"max_side_px": 10},
        {"keep_confidence": 1.5},
        {"precision": "fp8"},
        {"batch_windows": 99},
    ],
    ids=str,
)
def test_options_outside_their_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(OptionError):
        Options(**wrong)  # type: ignore[arg-type]


# Windows ------------------------------------------------------------------------------------------


def test_overlapping_weights_are_positive_and_symmetric() -> None:
    weights = windows.overlap_weights(7, 2)
    assert np.allclose(weights, [1 / 3, 2 / 3, 1, 1, 1, 2 / 3, 1 / 3])
    assert windows.overlap_weights(1, 4)[0] > 0
    assert np.allclose(windows.overlap_weights(3, 0), 1)


def test_references_show_what_is_hidden_and_lie_apart() -> None:
    equal = {i: 0.0 for i in (0, 10, 20, 30, 60)}
    assert windows.choose_references(equal, 40, 50, 2) == (0, 20)
    assert windows.choose_references({**equal, 30: 0.9}, 40, 50, 2) == (0, 30)
    assert windows.choose_references({}, 0, 5, 3) == ()


@pytest.mark.parametrize("seed", range(8))
def test_a_crop_holds_what_is_asked_for(seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = (int(random.integers(1, 800)), int(random.integers(1, 1300)))
    top, left = int(random.integers(0, frame[0])), int(random.integers(0, frame[1]))
    need = Box(
        top,
        left,
        int(random.integers(top + 1, frame[0] + 1)),
        int(random.integers(left + 1, frame[1] + 1)),
    )
    limit = int(random.integers(64, 1400))
    crop = windows.fit_crop(
        need, frame, (grid_sizes(0, limit + 60), grid_sizes(1, limit + 108)), limit
    )
    assert crop.box.contains(need)
    assert Box(0, 0, *frame).contains(crop.box)
    assert fits(*crop.padded)
    assert crop.scaled[0] <= crop.padded[0]
    assert crop.scaled[1] <= crop.padded[1]
    if max(need.height, need.width) <= limit:
        assert crop.scaled == (crop.box.height, crop.box.width)
    else:
        assert max(crop.scaled) <= limit + 108
    ratio = (crop.scaled[0] / crop.box.height) / (crop.scaled[1] / crop.box.width)
    assert abs(ratio - 1) < 0.02 or min(crop.scaled) < 60
    image = random.integers(0, 255, (*frame, 3)).astype(np.uint8)
    hole = np.zeros(frame, bool)
    hole[need.slices] = True
    picture, hidden = crop.take(image, hole)
    assert picture.shape == (*crop.padded, 3)
    assert hidden.shape == crop.padded
    assert hidden.any()
    assert crop.restore(picture).shape == (crop.box.height, crop.box.width, 3)


def test_a_tenth_of_a_720p_frame_costs_at_most_a_quarter() -> None:
    side = int(np.sqrt(0.1 * 720 * 1280))
    need = Box(200, 400, 200 + side, 400 + side).grown(Options().margin_px, (720, 1280))
    sizes = (grid_sizes(0, 1400), grid_sizes(1, 1400))
    crop = windows.fit_crop(need, (720, 1280), sizes, 1400)
    assert crop.padded[0] * crop.padded[1] <= 0.25 * 720 * 1280


def test_the_mirror_repeats_as_often_as_it_takes() -> None:
    assert list(windows.mirrored(3, 8)) == [0, 1, 2, 2, 1, 0, 0, 1]
    assert list(windows.mirrored(1, 3)) == [0, 0, 0]


def test_a_fill_is_a_weighted_mean_rounded_once() -> None:
    hole = np.zeros((20, 20), bool)
    hole[8:12, 8:12] = True
    image = np.full((20, 20, 3), 100, np.uint8)
    crop = Crop(Box(0, 0, 20, 20), (20, 20), (20, 20))
    fill = Fill(hole)
    inside = np.where(hole[..., None], np.float32(110), np.float32(100)) * np.ones((1, 1, 3))
    fill.add(crop, (inside - 4 * hole[..., None]).astype(np.float32), 1.0)
    fill.add(crop, (inside + 4 * hole[..., None]).astype(np.float32), 3.0)
    out = fill.composite(image)
    assert (out[hole] == 112).all()
    assert (out[~hole] == 100).all()


def test_a_fill_is_brought_to_its_surroundings() -> None:
    hole = np.zeros((40, 40), bool)
    hole[10:30, 10:30] = True
    image = np.full((40, 40, 3), 100, np.uint8)
    fill = Fill(hole)
    darker = np.full((40, 40, 3), 90, np.float32)
    fill.add(Crop(Box(0, 0, 40, 40), (40, 40), (40, 40)), darker, 1.0)
    assert np.abs(fill.composite(image).astype(int) - 100).max() <= 1
