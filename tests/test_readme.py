"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from clips import Scene, make
from typer.testing import CliRunner

from inpainterz import engines, weights
from inpainterz.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_python_snippet_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.S)
    scene = Scene(width=96, height=64, frames=8)
    make(tmp_path / "clip.mp4", scene)
    monkeypatch.chdir(tmp_path)
    snippet = snippet.replace("(320, 180)", "(10, 32)")  # the test's clip is small
    exec(compile(snippet, "README.md", "exec"), {})
    assert (tmp_path / "clean.mp4").is_file()
    assert "8 frames of 96 x 64" in capsys.readouterr().out


def test_every_command_and_option_shown_exists() -> None:
    shown = re.findall(r"^inpainterz (\w+)([^\n#]*)", README, re.M)
    assert len(shown) > 8
    for command, rest in shown:
        helped = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
        assert "Usage" in helped, command
        for option in re.findall(r" (--[a-z-]+)", rest):
            assert option in helped, f"{command} {option}"


def test_every_engine_and_licence_is_listed() -> None:
    for entry in engines.ENGINES:
        assert f"`{entry.name}`" in README, entry.name
        if entry.weights:
            card = weights.card(entry.weights)
            (row,) = [
                line
                for line in README.splitlines()
                if line.startswith(f"| {entry.stage} |") and f"`{entry.name}`" in line
            ]
            assert ("**no**" in row) == (not card.commercial)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
