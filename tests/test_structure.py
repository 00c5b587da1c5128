"""The plan of the house, held against the imports: one way, and nothing heavy at the door."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "inpainterz"

# From the ground up; a room may use the floors below its own, and its own floor only where it
# is the same room.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"types", "errors", "download", "overlap", "__init__"}),
    frozenset({"device", "weights", "masks", "motion", "video", "hub"}),
    frozenset({"segment", "track", "inpaint", "detect"}),
    frozenset({"engines", "preview", "example", "leftover"}),
    frozenset({"outputs"}),
    frozenset({"pipeline"}),
    frozenset({"who"}),
    frozenset({"jobs"}),
    frozenset({"bench"}),
    frozenset({"ui"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def _floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(p for p in parts if p != "__init__"), path


def _imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports; lazy imports and those for types count too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "inpainterz")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "inpainterz":
            assert node.level == 0, f"{path}: relative import"
            yield from (
                f"{node.module}.{a.name}" if node.module == "inpainterz" else str(node.module)
                for a in node.names
            )


def _outside_of_type_checks(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _outside_of_type_checks(child)


def test_every_room_has_a_floor() -> None:
    assert {_room(m) for m, _ in _modules()} == frozenset().union(*FLOORS)


@pytest.mark.parametrize(("module", "path"), list(_modules()), ids=lambda v: str(v))
def test_arrows_run_one_way(module: str, path: Path) -> None:
    room = _room(module)
    if room == "__init__":
        return  # the public names, loaded on first use
    for target in _imports(path):
        other = _room(target)
        if target == "inpainterz.__version__" or other == room:
            continue
        if room in FLOORS[1] and other in FLOORS[1]:
            # masks and motion are used by nobody on their own floor, device and weights pair up
            assert (room, other) in {("weights", "device")}, f"{module} imports {target}"
            continue
        assert _floor(other) < _floor(room), f"{module} imports {target}"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("network.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_a_network_file_knows_torch_alone(path: Path) -> None:
    # its own parts (encoders, flow) may lie in files of the same folder
    own = "inpainterz." + ".".join(path.relative_to(PACKAGE).parts[:-1])
    assert [m for m in _imports(path) if not m.startswith(own)] == []


@pytest.mark.parametrize("module", ["inpainterz", "inpainterz.cli", "inpainterz.engines"])
def test_nothing_heavy_at_the_door(module: str) -> None:
    code = (
        f"import sys, {module}; heavy = {{'torch', 'gradio', 'cv2', 'av', 'scipy', 'numpy'}} & "
        "set(sys.modules); print(sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    light = {"inpainterz.engines": "['numpy']"}
    assert out.stdout.strip() == light.get(module, "[]")


def test_public_names_are_there_and_documented() -> None:
    import inpainterz

    for name in inpainterz.__all__:
        assert getattr(inpainterz, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute"):
        inpainterz.nothing  # noqa: B018


def test_no_file_is_named_for_nothing() -> None:
    names = {p.stem for _, p in _modules()}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_requirements_say_what_the_package_says() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = (ROOT / "requirements.txt").read_text("utf-8")
    required = {line.split("  #")[0] for line in listed.splitlines() if line and line[0] != "#"}
    declared = set()
    for name in ("dependencies", "ui", "neural"):
        block = re.search(rf"^{name} = \[\n(.*?)^\]", project, re.M | re.S)
        assert block is not None
        declared |= set(re.findall(r'^    "([^"]+)"', block.group(1), re.M))
    assert required == declared
    for requirement in required:
        assert re.search(r">=[\d.]+,<[\d.]+", requirement), f"{requirement}: pin a range"


def test_no_circle() -> None:
    """Inside a room the arrows run one way too; imports for types alone may point back."""
    known = dict(_modules())
    arrows: dict[str, set[str]] = {}
    for module, path in known.items():
        arrows[module] = set()
        for node in _outside_of_type_checks(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = {f"{node.module}.{a.name}" for a in node.names}
                arrows[module] |= names & set(known) or {node.module} & set(known)
    gone: set[str] = set()
    while free := {m for m in known if m not in gone and arrows[m] <= gone | {"inpainterz"}}:
        gone |= free
    assert sorted(set(known) - gone - {"inpainterz"}) == []
