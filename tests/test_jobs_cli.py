"""The command line's jobs: stopped and resumed, a part, a preview, a plan, a memory limit."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clips import Clip, Scene, make
from command import Run

from inpainterz.masks import encode_labels
from inpainterz.video.reader import VideoReader

SCENE = Scene(width=80, height=48, frames=9)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return make(tmp_path_factory.mktemp("jobs") / "clip.mp4", SCENE)


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    path.write_bytes(encode_labels(SCENE.mask(0).astype(np.uint8)))
    return path


def command(clip: Clip, mask: Path, target: Path) -> list[object]:
    return ["remove", clip.path, "--mask", mask, "--grow", "2", "-o", target]


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_kill_9_and_ctrl_c_then_resume_to_the_identical_file(
    run: Run, clip: Clip, mask: Path, tmp_path: Path
) -> None:
    whole, target = tmp_path / "whole.mp4", tmp_path / "clean.mp4"
    folder = tmp_path / "clean.mp4.job"
    line = [sys.executable, "-m", "inpainterz", *map(str, command(clip, mask, target))]
    for sign, after, code in (
        (signal.SIGKILL, "cuts.json", -signal.SIGKILL),
        (signal.SIGINT, "followed.json", 130),
    ):
        child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with child:
            while child.poll() is None and not (folder / "full" / after).is_file():
                time.sleep(0.005)
            os.kill(child.pid, sign)
            _, said = child.communicate()
        assert child.returncode == code, said
        assert "Traceback" not in said
        assert {p.name for p in tmp_path.iterdir()} == {"clean.mp4.job"}
        line = [*line, "--resume"] if "--resume" not in line else line
    assert "--resume" in said
    assert run(*command(clip, mask, target)).code == 2  # not begun again by mistake
    answer = run("remove", clip.path, "-o", target, "--resume")  # it knows the rest
    assert answer.code == 0, answer.err
    assert run(*command(clip, mask, whole)).code == 0
    assert sha(target) == sha(whole)
    assert {p.name for p in tmp_path.iterdir()} == {"clean.mp4", "whole.mp4"}
    answer = run("remove", clip.path, "-o", target, "--resume")
    assert (answer.code, "no job" in answer.err) == (2, True)


def test_a_part_in_frames_or_in_seconds(run: Run, clip: Clip, mask: Path, tmp_path: Path) -> None:
    found = []
    for text in ("4:8", "0.16s:0.32s"):
        target = tmp_path / f"{len(found)}.mkv"
        answer = run(*command(clip, mask, target), "--range", text, "--codec", "ffv1", "--json")
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)["part"] == [4, 8]
        found.append(sha(target))
    assert found[0] == found[1]
    with VideoReader(clip.path) as before, VideoReader(target) as after:
        changed = [
            a.index
            for a, b in zip(before.frames(), after.frames(), strict=True)
            if not np.array_equal(a.image, b.image)
        ]
    assert changed == [4, 5, 6, 7]


def test_a_preview_then_the_whole(run: Run, clip: Clip, mask: Path, tmp_path: Path) -> None:
    target = tmp_path / "clean.mp4"
    answer = run(*command(clip, mask, target), "--preview", "4@5", "--json")
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    assert Path(report["target"]).name == "clean-preview.mp4"
    with VideoReader(report["target"]) as shown:
        assert len(shown) == 4
    assert not target.exists()
    kept = list((tmp_path / "clean.mp4.job" / "fill").iterdir())
    answer = run(*command(clip, mask, target), "--job", tmp_path / "clean.mp4.job")
    assert answer.code == 0, answer.err
    assert set(kept) <= set((tmp_path / "clean.mp4.job" / "fill").iterdir())
    log = (tmp_path / "clean.mp4.job" / "log.txt").read_text()
    assert log.count("filled frames 3 to 6") == 1  # taken over


def test_a_plan_says_what_it_takes_and_does_nothing(
    run: Run, clip: Clip, mask: Path, tmp_path: Path
) -> None:
    target = tmp_path / "clean.mp4"
    answer = run(*command(clip, mask, target), "--plan", "--json")
    assert answer.code == 0, answer.err
    plan = json.loads(answer.out)
    assert {s["name"] for s in plan["stages"]} == {"follow", "fill", "write"}
    assert plan["measured"]
    assert 100 < plan["memory_mb"] < 2000
    assert plan["disk_mb"] >= 1
    assert plan["seconds"] > 0
    assert list(tmp_path.iterdir()) == []
    assert "MiB of memory" in run(*command(clip, mask, target), "--plan").out


def test_a_memory_limit_is_planned_for_and_told(
    run: Run, clip: Clip, mask: Path, tmp_path: Path
) -> None:
    target = tmp_path / "clean.mp4"
    answer = run(*command(clip, mask, target), "--memory-limit", "100M", "--plan")
    assert "more than the 100 allowed" in answer.out
    answer = run(*command(clip, mask, target), "--memory-limit", "8G", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["notes"] == []


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--range", "8:4"], "no frames"),
        (["--range", "a:b"], "cannot be read"),
        (["--range", "3:99"], "9 frames"),
        (["--range", "1.5:3"], "for seconds"),
        (["--preview", "0"], "cannot be read"),
        (["--preview", "4@9"], "no frame 9"),
        (["--memory-limit", "much"], "cannot be read"),
        (["--memory-limit", "1M"], "too little"),
        (["--tracker", "deaot", "--weights-dir", "."], "weights"),
        (["--option", "inpaint.colour=1"], "unknown option"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(
    run: Run,
    clip: Clip,
    mask: Path,
    tmp_path: Path,
    more: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from inpainterz import weights

    monkeypatch.setattr(weights, "folders", lambda *_: [])
    answer = run(*command(clip, mask, tmp_path / "clean.mp4"), *more)
    assert answer.code == 2
    assert sentence.lower() in answer.err.lower()
    assert list(tmp_path.iterdir()) == []
