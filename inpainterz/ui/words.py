"""All that the page says, in four languages, from assets/words.json.

Each word stands there with its translations beside it; `{0}`, `{1}` are filled in. English is what
is missing elsewhere. The page's own scripts read the same table. Errors become sentences here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inpainterz.errors import InpainterzError, WeightsMissing
from inpainterz.ui.session import Session

SORRY = "Something went wrong on our side. Try again; if it stays so, the log says more."

_SOURCE = (Path(__file__).parent / "assets" / "words.json").read_text("utf-8")
_TABLE: Mapping[str, Any] = json.loads(_SOURCE)

LANGUAGES: tuple[str, ...] = tuple(_TABLE["languages"])
"""Their codes, English first."""


def script() -> str:
    """The table as a constant of the page's scripts."""
    return f"const TABLE = {json.dumps(_TABLE, ensure_ascii=False)};"


def say(language: str, key: str, *values: object) -> str:
    """A word in a language, filled in."""
    told = _TABLE["words"][key]
    text = str(told[LANGUAGES.index(language)] or told[0])
    return re.sub(r"\{(\d)\}", lambda found: str(values[int(found[1])]), text)


def translate(language: str, notice: str) -> str:
    """A sentence of the server's in a language, where it is one of those that are met most."""
    rank = LANGUAGES.index(language) - 1
    for begin, told in _TABLE["notices"].items():
        if rank >= 0 and notice.lower().startswith(begin.lower()):
            return str(told[rank])
    return notice


def wished(accept: str) -> str:
    """The first language of an Accept-Language header that is spoken here."""
    for wish in accept.split(","):
        short = wish.strip().split(";")[0].split("-")[0].lower()
        if short in LANGUAGES:
            return short
    return LANGUAGES[0]


def sentence(error: Exception, session: Session | None) -> str:
    """An error as the page tells it, without the folders of this machine.

    Args:
        error: what was raised.
        session: whose; None: nobody's.
    """
    if not isinstance(error, InpainterzError):
        if isinstance(error, MemoryError):
            return "Memory ran out. Take a shorter or smaller clip, or set a memory limit."
        return SORRY
    text = str(error)
    if session is None:
        return text
    if isinstance(error, WeightsMissing):  # its hint is a command
        text = f"The weights of {error.name} are not on this machine. Fetch them in the settings."
    if session.clip is not None:
        text = text.replace(str(session.clip.path), f"“{session.clip.name}”")
    text = text.replace(f"{session.folder}{os.sep}", "")
    return text[:1].upper() + text[1:]
