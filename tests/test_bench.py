"""The benchmark commands: that they run, compare like with like, and say what they need."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import Coding, Scene, make

from inpainterz.bench import inpaint as bench_inpaint
from inpainterz.bench import measure
from inpainterz.bench.inpaint import InpaintBench
from inpainterz.bench.track import TrackBench, variant_of
from inpainterz.cli import main
from inpainterz.errors import EngineError, EngineUnavailable, OptionError
from inpainterz.inpaint.e2fgvi.engine import Options

PARITY = Path(__file__).parent / "parity"
TINY = ("--tracker", "deaot-t", "--size", "64x48", "--frames", "2", "--threads", "1")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inpainterz", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(ended.value.code or 0), out, err

    return call


# ---------------------------------------------------------------- track


def test_track_beside_the_plain_way(run: Run) -> None:
    code, out, err = run(
        "track", *TINY, "--objects", 1, "--objects", 11, "--device", "cpu", "--json"
    )
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["network"], facts["precision"], facts["against"]) == (
        "deaott",
        "float32",
        "plain",
    )
    assert {"processor", "cores", "memory_gib", "torch", "threads", "device"} <= set(facts)
    assert [row["objects"] for row in facts["rows"]] == [1, 11]
    for row in facts["rows"]:
        assert row["labels_differ"] <= 0.001  # the same numbers from both sides
        assert row["iou"] >= 0.995
        assert row["ratio"] == pytest.approx(row["ours_fps"] / row["theirs_fps"])
    code, out, _ = run("track", *TINY, "--objects", 2, "--device", "cpu")
    assert code == 0
    assert out.splitlines()[0].startswith("| objects | ours, frames/s |")
    assert len(out.splitlines()) == 3


def test_track_on_a_clip_and_beside_an_adapter(run: Run, tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mkv", Scene(width=70, height=50, frames=2), Coding("ffv1"))
    code, out, err = run(
        "track", clip.path, *TINY, "--against", PARITY / "deaot_adapter.py",
        "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    facts = json.loads(out)
    assert facts["clip"] == str(clip.path)
    assert all(row["iou"] >= 0.995 for row in facts["rows"])


DEAOT = {
    "configs/default.py": """
        class DefaultEngineConfig:
            def __init__(self, exp_name="default", model="aott"):
                self.MODEL_VOS, self.MODEL_ENGINE, self.name = "deaot", "deaotengine", model
    """,
    "networks/models/__init__.py": """
        from inpainterz.track.deaot.network import VARIANTS, DeAOT

        def build_vos_model(name, cfg):
            assert name == "deaot"
            return DeAOT(VARIANTS[cfg.name])
    """,
    "networks/engines/__init__.py": """
        import torch
        from inpainterz.track.deaot.engine import Procedure
        from inpainterz.track.deaot.memory import MemoryRule

        class Engine:
            def __init__(self, model, gap):
                self.inner = Procedure(model, MemoryRule(gap, 0), max_side_px=0)

            def add_reference_frame(self, img, mask, frame_step, obj_nums):
                assert (img.ndim, mask.ndim, frame_step, len(obj_nums)) == (4, 4, 0, 1)
                assert img.shape[2:] == mask.shape[2:] == (49, 65)
                self.input_size_2d = tuple(img.shape[2:])
                self._look(img)
                self.inner.prompt(None, mask[0, 0].to(torch.uint8), obj_nums[0])

            def _look(self, img):
                self.inner._encode = lambda _: self.inner.network.encode(img)

            def match_propogate_one_frame(self, img):
                self._look(img)
                self.quarters = self.inner.step(None)

            def decode_current_logits(self, output_size):
                return self.inner.logits(self.quarters, output_size)[None]

            def update_memory(self, mask):
                self.inner.remember(mask[0, 0].to(torch.uint8))

        def build_engine(name, phase, aot_model, gpu_id, long_term_mem_gap):
            assert (name, phase, gpu_id) == ("deaotengine", "eval", -1)
            return Engine(aot_model, long_term_mem_gap)
    """,
}
"""A folder laid out and called like the authors' code."""

E2FGVI = {
    "model/e2fgvi_hq.py": """
        from inpainterz.inpaint.e2fgvi.network import HQ, Generator

        def InpaintGenerator():
            return Generator(HQ)
    """,
}


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    import textwrap

    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), "utf-8")
    return folder


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is imported from such a folder does not outlive the test."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("configs", "networks", "model"):
            del sys.modules[name]


@pytest.mark.usefixtures("forgotten")
def test_track_beside_the_published_code(run: Run, tmp_path: Path) -> None:
    path = list(sys.path)
    folder = lay_out(tmp_path, DEAOT)
    code, out, err = run("track", *TINY, "--against", folder, "--device", "cpu", "--json")
    assert code == 0, err
    assert all(row["iou"] >= 0.995 for row in json.loads(out)["rows"])
    assert sys.path == path


def test_track_memory_is_that_of_a_process_of_its_own(run: Run) -> None:
    code, out, err = run(
        "track", *TINY[:4], "--part", "memory", "--frames", 20, "--memory-gap", 1,
        "--threads", 1, "--objects", 2, "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert rows[-1]["frame"] == 19
    assert max(row["remembered_frames"] for row in rows) == 8
    full = [row for row in rows if row["frame"] >= 7]
    assert len({row["tensors_mib"] for row in full}) == 1
    assert [row["peak_mib"] for row in rows] == sorted(row["peak_mib"] for row in rows)


# ---------------------------------------------------------------- inpaint


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of a few frames stand in for long ones."""
    monkeypatch.setattr(bench_inpaint, "LONG", 6)
    monkeypatch.setattr(
        bench_inpaint,
        "Options",
        lambda **given: Options(
            **{
                "references": 0,
                "reference_ahead_frames": 0,
                "window_frames": 2,
                "stride_frames": 1,
                **given,
            }
        ),
    )


@pytest.mark.usefixtures("short", "forgotten")
def test_inpaint_counts_and_time(run: Run, tmp_path: Path) -> None:
    code, out, err = run(
        "inpaint", "--part", "counts", "--part", "time", "--size", "108x60", "--threads", 1,
        "--against", lay_out(tmp_path, E2FGVI), "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    parts = json.loads(out)["parts"]
    assert set(parts) == {"counts", "time"}
    published, ours = parts["counts"]
    assert (published["encoded"], ours["encoded"]) == (12, 6)
    assert (published["flows"], ours["flows"]) == (20, 10)
    whole, half = parts["time"][1:]
    assert parts["time"][0]["ratio"] == 1
    assert whole["seconds_per_frame"] > 0
    assert half["hole"] == 0.1
    assert "| part | side |" not in out


@pytest.mark.usefixtures("short")
def test_inpaint_beside_an_adapter(run: Run) -> None:
    code, out, err = run(
        "inpaint", "--part", "time", "--size", "108x60", "--threads", 1,
        "--against", PARITY / "e2fgvi_adapter.py", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert len(out.splitlines()) == 5


def test_the_published_procedure_costs_what_is_told_of_it() -> None:
    row = next(bench_inpaint.count_rows(InpaintBench(device="cpu")))
    assert (row.encoded, row.flows, row.decoded, row.windows) == (226, 268, 226, 14)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("track", "--tracker", "builtin"), "builtin is no network"),
        (("track", "--tracker", "nobody"), "no track engine"),
        (("track", "--part", "space"), "--part cannot be 'space'"),
        (("track", "--size", "big"), "--size 'big' cannot be read"),
        (("track", "--size", "4x4"), "no size to measure at"),
        (("track", "--objects", "300"), "1 to 255"),
        (("track", "--frames", "1"), "2 to"),
        (("track", "--memory-gap", "0"), "memory gap"),
        (("track", "--threads", "-1"), "threads"),
        (("track", "--precision", "fp8"), "--precision cannot be"),
        (("track", "nothing.mp4", *TINY), "nothing.mp4"),
        (("track", *TINY, "--against", "nowhere.py"), "neither a folder nor a Python file"),
        (("track", *TINY, "--against", "."), "cannot be imported"),
        (("inpaint", "--part", "space"), "--part cannot be 'space'"),
        (("inpaint", "--size", "100x100"), "multiple of 108"),
        (("inpaint", "--hole", "0"), "hole's share"),
        (("inpaint", "--frames", "0"), "number of frames"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_bad_input_is_one_sentence(
    run: Run, arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert code in (1, 2)
    assert words in err
    assert out == ""


@pytest.mark.parametrize("text", ["1 / 0", "pass"])
def test_an_adapter_that_is_none(run: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "adapter.py"
    path.write_text(text, "utf-8")
    code, _, err = run("track", *TINY, "--against", path)
    assert code == 2
    assert ("ZeroDivisionError" in err) or ("no function build" in err)


def fails() -> Iterator[int]:
    yield 1
    raise OptionError("this is refused", "Choose that")


def test_what_goes_wrong_in_the_other_process_is_told() -> None:
    rows = measure.in_new_process(fails)
    assert next(rows) == 1
    with pytest.raises(EngineError, match="this is refused") as caught:
        next(rows)
    assert caught.value.exit_code == 2


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(EngineError, match="ended with code 3"):
        list(measure.in_new_process(os._exit, 3))


def test_every_network_of_the_list_can_be_measured() -> None:
    from inpainterz.engines import ENGINES

    names = [e.name for e in ENGINES if e.stage == "track" and e.weights]
    assert len({variant_of(name).name for name in names}) == len(names) == 6


def test_half_precision_where_there_is_none() -> None:
    from inpainterz.bench.track import facts

    with pytest.raises(EngineUnavailable, match="fp16"):
        facts(TrackBench(device="cpu", precision="fp16"))
