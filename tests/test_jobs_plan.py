"""The planner: memory that fits a limit, what is said where it does not, steps down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import clips
import numpy as np
import pytest

from inpainterz.engines import Stage
from inpainterz.inpaint import builtin
from inpainterz.jobs import plan as planning
from inpainterz.jobs.memory import LADDERS, lower, resident_mb
from inpainterz.jobs.order import EngineChoice, Order, options_of
from inpainterz.jobs.plan import make_plan
from inpainterz.types import Prompt


@pytest.fixture(scope="module")
def hd(tmp_path_factory: pytest.TempPathFactory) -> Order:
    scene = clips.Scene(width=1920, height=1080, frames=3)
    clip = clips.make(tmp_path_factory.mktemp("hd") / "hd.mp4", scene)
    return Order(clip.path, str(clip.path.parent / "o.mp4"), {0: {1: Prompt.of((10, 500))}})


def test_a_plan_tells_the_stages_and_their_largest_memory(hd: Order) -> None:
    plan = make_plan(hd)
    assert [s.name for s in plan.stages] == ["outline", "follow", "fill", "write"]
    # measured: 1,132 MiB at 1080p with 600 MiB for the built-in inpainter (benchmarks/README.md)
    less = EngineChoice(options={"inpaint": {"memory_mb": 600}})
    assert 1100 < make_plan(replace(hd, engines=less)).memory_mb < 1300
    assert plan.memory_mb > 1200
    assert plan.engines == hd.engines
    assert plan.notes == ()
    assert not plan.measured
    assert "roughly" in plan.sentence()
    assert plan.as_json()["stages"][2]["engine"] == "builtin"


@pytest.mark.parametrize("limit", [800, 1000, 1200])
def test_options_are_chosen_to_fit_the_limit(hd: Order, limit: int) -> None:
    plan = make_plan(replace(hd, memory_limit_mb=limit))
    chosen = options_of(plan.engines, "inpaint")
    assert 64 <= chosen.memory_mb < builtin.Options().memory_mb
    assert plan.memory_mb <= limit
    assert any(f"to fit {limit} MiB: inpaint with memory_mb" in note for note in plan.notes)
    roomy = make_plan(replace(hd, memory_limit_mb=8000))
    assert roomy.engines == hd.engines


def test_what_does_not_fit_is_said(hd: Order) -> None:
    plan = make_plan(replace(hd, memory_limit_mb=400))
    assert any("write needs about" in note for note in plan.notes)
    assert any("fill needs about" in note for note in plan.notes)


def test_a_part_takes_less_and_given_masks_are_not_followed(hd: Order, tmp_path: Path) -> None:
    whole, part = make_plan(hd), make_plan(replace(hd, part=(0, 1)))
    assert part.frames == 1
    assert part.seconds is not None and whole.seconds is not None
    assert part.seconds < whole.seconds
    given = make_plan(replace(hd, prompts={}, masks=tmp_path / "masks.zip"))
    assert [s.name for s in given.stages] == ["fill", "write"]


def test_an_engine_that_was_not_measured_is_called_so(hd: Order) -> None:
    names = {**hd.engines.names, "track": "deaot-t"}
    pytest.importorskip("torch")
    plan = make_plan(replace(hd, engines=EngineChoice(names), memory_limit_mb=4000))
    assert plan.seconds is None
    assert "was not measured" in plan.sentence()
    assert any("watched" in note for note in plan.notes)


def test_a_network_is_planned_as_it_was_measured(tmp_path: Path) -> None:
    """1,115 MiB: R50-DeAOT-L, 864x480, its memory full (benchmarks/README.md)."""
    pytest.importorskip("torch")
    scene = clips.Scene(width=864, height=480, frames=2)
    clip = clips.make(tmp_path / "clip.mp4", scene)
    names: dict[Stage, str] = {"segment": "builtin", "track": "deaot", "inpaint": "builtin"}
    choice = EngineChoice(names, device="cpu")
    order = Order(clip.path, str(tmp_path / "o.mp4"), {0: {1: Prompt.of((9, 9))}}, engines=choice)
    follow = make_plan(order).stages[1]
    assert follow.memory_mb == pytest.approx(1115, rel=0.05)
    lower_limit = make_plan(replace(order, memory_limit_mb=1000))
    options = options_of(lower_limit.engines, "track")
    assert options.memory_frames < 8
    assert (lower_limit.stages[1].memory_mb or 0) <= 1000
    for changed in ({"memory_frames": 0}, {"precision": "bf16"}):
        other = EngineChoice(names, options={"track": changed}, device="cpu")
        assert make_plan(replace(order, engines=other)).stages[1].memory_mb is None


@pytest.mark.parametrize(
    ("size", "window", "mib"),
    [((432, 240), 5, 1216), ((432, 240), 10, 1534), ((864, 480), 12, 2888)],
)
def test_e2fgvi_is_planned_as_it_was_measured(
    tmp_path: Path, size: tuple[int, int], window: int, mib: int
) -> None:
    """One window of whole frames, no references, in fp32 (benchmarks/README.md)."""
    pytest.importorskip("torch")
    scene = clips.Scene(width=size[0], height=size[1], frames=2)
    clip = clips.make(tmp_path / "clip.mp4", scene)
    names: dict[Stage, str] = {"segment": "sam-b", "track": "builtin", "inpaint": "e2fgvi-hq"}
    options = {"window_frames": window, "stride_frames": 5, "references": 0, "hybrid": False}

    def planned(**changed: object) -> list[int | None]:
        choice = EngineChoice(names, options={"inpaint": options | changed}, device="cpu")
        prompts = {0: {1: Prompt.of((9, 9))}}
        order = Order(clip.path, str(tmp_path / "o.mp4"), prompts, engines=choice)
        return [stage.memory_mb for stage in make_plan(order).stages]

    outline, _, fill, _ = planned()
    assert outline == pytest.approx(1474, rel=0.02)
    assert fill == pytest.approx(mib, rel=0.05)
    assert (planned(hybrid=True)[2] or 0) > mib + 200
    assert planned(compat=True)[2] is None
    assert planned(precision="bf16")[2] is None
    assert planned(window_frames=200, stride_frames=9)[2] is None


def test_a_full_disk_is_foreseen(hd: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 0

    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: Usage)
    assert any("only 0 MiB are free" in note for note in make_plan(hd).notes)


def test_a_measured_plan_tries_the_clip_itself(tmp_path: Path) -> None:
    scene = clips.Scene(frames=6)
    clip = clips.make(tmp_path / "clip.mp4", scene)
    order = Order(clip.path, str(tmp_path / "o.mp4"), labels={0: scene.mask(0).astype(np.uint8)})
    plan = make_plan(order, measure=True)
    assert plan.measured
    assert plan.seconds is not None
    assert "roughly" not in plan.sentence()
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_every_ladder_ends() -> None:
    options: object = builtin.Options()
    seen = []
    while (step := lower("inpaint", "builtin", options, "cpu")) is not None:
        options = builtin.Options(**step[0])
        seen.append(step[2])
        assert len(seen) < 50
    assert seen[0] == "memory_mb 400 instead of 800"
    assert options.memory_mb == 64  # type: ignore[attr-defined]
    assert set(LADDERS) == {"segment", "track", "inpaint"}
    assert lower("inpaint", "given", None, "cpu") is None


def test_a_network_goes_down_window_by_window_and_then_to_the_cpu() -> None:
    pytest.importorskip("torch")
    from inpainterz.inpaint.e2fgvi import engine

    options = engine.Options()
    said, device = [], "cuda:0"
    while (step := lower("inpaint", "e2fgvi-hq", options, device)) is not None:
        options, device = engine.Options(**step[0]), step[1]
        said.append(step[2])
        assert len(said) < 50
    assert said[0] == "window_frames 7 instead of 11"
    assert said[-2:] == ["the CPU instead of the GPU", "precision bf16 instead of fp32"]
    exact = engine.Options(precision="fp32")
    assert lower("inpaint", "e2fgvi-hq", exact, "cuda")[2] == "precision fp16 instead of fp32"  # type: ignore[index]
    assert options.stride_frames <= options.window_frames


def test_resident_memory_is_known_here() -> None:
    found = resident_mb()
    assert found is None or 20 < found < 100_000
