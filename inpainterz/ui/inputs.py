"""What a browser or a program sent, made into values; what cannot be one is refused."""

from __future__ import annotations

import math
from typing import cast, get_args

from inpainterz.engines import Stage
from inpainterz.errors import InputError, OptionError, PromptError
from inpainterz.jobs.order import STAGES
from inpainterz.pipeline import FillOptions
from inpainterz.ui.session import Kind, Session

QUALITIES: tuple[int | None, ...] = (12, None, 23)
"""Constant rate factors that the settings offer; None = the codec's default."""

MOST_WORDS_LETTERS = 80
"""How long a text may be that says what to look for."""

LEAST_MEMORY_MB, MOST_MEMORY_MB = 300, 1_000_000
"""Of the memory limit, in MiB."""


def number(told: object) -> float | None:
    """A finite number; None: it is something else."""
    if isinstance(told, bool) or not isinstance(told, (int, float)):
        return None
    try:
        found = float(told)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return found if math.isfinite(found) else None


def whole(told: object) -> int | None:
    """A whole number; None: it is something else."""
    found = number(told)
    return None if found is None or found != int(found) else int(found)


def shown(told: object) -> str:
    """How a sentence repeats what was sent."""
    return str(told)[:20] if isinstance(told, (int, float, str)) else "like that"


def place(told: object, count: int) -> tuple[float, ...]:
    """So many coordinates.

    Raises:
        PromptError: they are not that many, or no numbers.
    """
    numbers: list[float] = []
    if isinstance(told, (list, tuple)) and len(told) == count:
        for value in told:
            found = number(value)
            if found is None:
                break
            numbers.append(found)
    if len(numbers) != count:
        raise PromptError("the click has no place in the frame", "Try again")
    return tuple(numbers)


def tool(told: object) -> Kind:
    """What a mark is made with.

    Raises:
        PromptError: there is no such tool.
    """
    for known in get_args(Kind):
        if told == known and known != "mask":  # that comes as a file
            return cast(Kind, known)
    raise PromptError("there is no such tool")


def label(session: Session, told: object) -> int:
    """The number of an object of the session.

    Raises:
        PromptError: there is no such object.
    """
    found = whole(told)
    if found is None or found not in session.labels:
        raise PromptError("there is no such object")
    return found


def words(session: Session, told: object) -> str:
    """What to look for in the clip.

    Raises:
        InputError: there is no clip, or it is no text.
    """
    session.need_clip()
    if not isinstance(told, str) or not told.strip() or len(told) > MOST_WORDS_LETTERS:
        raise InputError("there is nothing to look for", "Write what it is, such as: dog")
    return told.strip()


# ---------------------------------------------------------------- settings


def fill_options(grow_px: object, feather_px: object, second_pass: object = "none") -> FillOptions:
    """What becomes of the masks; a growth of None is for us to choose.

    Raises:
        OptionError: they are not whole numbers, or outside their range; no such second pass, or
            one with a growth.
    """
    grown, soft = whole(grow_px), whole(feather_px)
    if soft is None or (grown is None and grow_px is not None):
        raise OptionError("the settings must be whole numbers")
    return FillOptions(grow_px=grown, feather_px=soft, second_pass=str(second_pass))


def quality(told: object) -> int | None:
    """One of `QUALITIES`.

    Raises:
        OptionError: there is no such quality.
    """
    if told not in QUALITIES:
        raise OptionError("there is no such quality")
    return told if isinstance(told, int) else None


def engines(told: object) -> dict[Stage, str]:
    """Stage -> name of an engine, where one was picked; whether it is known is not asked here.

    Raises:
        OptionError: they are not named by stage.
    """
    if not isinstance(told, dict):
        raise OptionError("the engines must be named by stage")
    picked: dict[Stage, str] = {}
    for stage in STAGES:
        name = told.get(stage)
        if name is None:
            continue
        if not isinstance(name, str):
            raise OptionError("the engines must be named by stage")
        picked[stage] = name
    return picked


def part(session: Session, told: object) -> tuple[int, int] | None:
    """First and last frame that may change; None = all.

    Raises:
        OptionError: they are no frames of the clip.
    """
    clip = session.need_clip()
    if told is None:
        return None
    pair = [whole(one) for one in told] if isinstance(told, list) else []
    if len(pair) == 2 and pair[0] is not None and pair[1] is not None:
        first, last = pair[0], pair[1]
        if 0 <= first <= last < clip.frames:
            return None if (first, last) == (0, clip.frames - 1) else (first, last)
    raise OptionError("there are no such frames", f"The last is {clip.frames - 1}")


def memory_limit(told: object) -> int | None:
    """MiB that the work may take; None = no limit.

    Raises:
        OptionError: it is no whole number, or out of range.
    """
    if told is None:
        return None
    limit = whole(told)
    if limit is None or not LEAST_MEMORY_MB <= limit <= MOST_MEMORY_MB:
        raise OptionError("there is no such memory limit", f"Give {LEAST_MEMORY_MB} MB or more")
    return limit
