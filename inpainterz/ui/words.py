"""All that the page says, in four languages, from assets/words.json.

Each word stands there with its translations beside it; `{0}`, `{1}` are filled in. English is what
is missing elsewhere. The page's own scripts read the same table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
