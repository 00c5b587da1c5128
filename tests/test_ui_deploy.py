"""The containers, the Space and the notebook name only what is there, and commands that parse."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer

from inpainterz.cli import app
from inpainterz.weights import card

pytest.importorskip("gradio", reason="gradio is not installed")

from inpainterz.ui.guard import _OPEN

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILES = (ROOT / "Dockerfile", ROOT / "deploy" / "space" / "Dockerfile")
NOTEBOOK = ROOT / "deploy" / "colab.ipynb"

pytestmark = pytest.mark.skipif(
    not (ROOT / "deploy").is_dir(), reason="the package alone is tested"
)


def instructions(path: Path) -> list[tuple[str, str]]:
    """(name, rest) of each line of a Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", path.read_text("utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def parse(words: list[str]) -> dict[str, object]:
    """What `inpainterz` makes of arguments, without running them."""
    command = typer.main.get_command(app)
    assert words[0] == "inpainterz"
    parent = command.make_context("inpainterz", words[1:], resilient_parsing=True)
    at = command
    while hasattr(at, "commands"):
        name, words = words[1], words[1:]
        at = at.commands[name]
    return at.make_context(words[0], words[1:], parent=parent).params


def check_extras(requirement: str) -> None:
    """The extras that are installed are declared."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = requirement.partition("[")[2].partition("]")[0].split(",")
    assert named and set(named) <= set(declared["optional-dependencies"])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.parent.name)
def test_a_container_is_made_of_what_is_there(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    port, entry, commands = "", [], []
    for name, rest in instructions(path):
        if name == "COPY" and path.parent == ROOT:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists() and any(fnmatch(source, k) for k in kept), source
        for requirement in re.findall(r'pip install "(\S+)"', rest):
            check_extras(requirement)
        if name == "EXPOSE":
            port = rest
        if name == "HEALTHCHECK":
            asked = re.findall(r"http://127\.0\.0\.1:(\d+)(/[^']*)", rest)
            assert asked and all(p == port and _OPEN.fullmatch(where) for p, where in asked)
        if name == "ENTRYPOINT":
            entry = json.loads(rest)
        if name == "CMD":
            commands.append(json.loads(rest))
    assert commands
    for command in commands:
        told = parse([*entry, *command])
        assert told["host"] == "0.0.0.0" and str(told["port"]) == port


def test_the_space_says_where_it_listens() -> None:
    _, head, text = (ROOT / "deploy/space/README.md").read_text("utf-8").split("---\n", 2)
    told = dict(line.split(": ", 1) for line in head.splitlines())
    assert told["sdk"] == "docker" and ("EXPOSE", told["app_port"]) in instructions(DOCKERFILES[1])
    for name in ("inpainterz/", "third_party/", "pyproject.toml", "LICENSE"):
        assert f"`{name}`" in text and (ROOT / name).exists()


def test_the_notebook_runs_what_there_is() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in cells)
    for source in code:
        ast.parse(re.sub(r"^(\s*)!.*$", r"\1pass", source, flags=re.MULTILINE))
        for line in re.findall(r"^\s*!(inpainterz .*)$", source, re.MULTILINE):
            for name in parse(shlex.split(line))["names"]:
                assert card(name).file
        for extras in re.findall(r'extras = "([\w,]+)"', source):
            check_extras(f".[{extras}]")
    (served,) = re.findall(r"Popen\((\[.*?\])\)", "\n".join(code))
    (more,) = re.findall(r"engines = (\[.*?\]) if", "\n".join(code))
    words = [*ast.literal_eval(served.replace(", *engines", "")), *ast.literal_eval(more)]
    port = parse(words)["port"]
    assert f"serve_kernel_port_as_window({port})" in code[-1] and f":{port}/" in code[-1]
