"""Reads the cards of third_party/, finds weights files, and loads a state dict strictly."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from inpainterz.errors import OptionError, WeightsMissing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Card:
    """One weights file that somebody else trained: what third_party/<name>.toml says."""

    name: str
    stage: str
    title: str
    file: str
    """File name as published; the name under which it is kept."""
    url: str
    """https address, or gdrive:<id>."""
    size: int
    """Bytes; 0 where it is not published."""
    sha256: str
    """Hex digest, a prefix of it, or "" where none is published."""
    licence: str
    commercial: bool
    paper: str
    authors: str
    member: str = ""
    """Path of the file inside the archive at `url`, "" where the address is the file itself."""


def card_folder() -> Path:
    """Where the cards are: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / "cards"
    return inside if inside.is_dir() else PACKAGE.parent / "third_party"


def cards() -> dict[str, Card]:
    """All cards by name."""
    found = {}
    for path in sorted(card_folder().glob("*.toml")):
        found[path.stem] = Card(name=path.stem, **tomllib.loads(path.read_text("utf-8")))
    return found


def card(name: str) -> Card:
    """One card.

    Raises:
        OptionError: there is none of that name; the hint lists those there are.
    """
    known = cards()
    if name not in known:
        raise OptionError(
            f"there are no weights called {name!r}", f"Known are: {', '.join(sorted(known))}"
        )
    return known[name]


def folders() -> list[Path]:
    """Where weights are looked for, first match wins."""
    from platformdirs import user_cache_path

    found = []
    if os.environ.get("INPAINTERZ_WEIGHTS"):
        found.append(Path(os.environ["INPAINTERZ_WEIGHTS"]))
    if (PACKAGE.parent / "ckpt").is_dir():
        found.append(PACKAGE.parent / "ckpt")
    found.append(user_cache_path("inpainterz") / "ckpt")
    return found


def locate(name: str) -> Path:
    """The path of a weights file on this machine.

    Raises:
        WeightsMissing: names the command that fetches it.
    """
    wanted = card(name)
    for folder in folders():
        if (folder / wanted.file).is_file():
            return folder / wanted.file
    raise WeightsMissing(name, f"inpainterz weights fetch {name}")
