"""The engines of this process: which there are, and each loaded once, when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from inpainterz import who
from inpainterz.engines import ENGINES, Detector, Entry, Stage
from inpainterz.engines import load as load_engine
from inpainterz.errors import OptionError
from inpainterz.pipeline import Engines

STAGES: tuple[Stage, ...] = ("segment", "track", "inpaint")


@dataclass(frozen=True, slots=True)
class Choice:
    """One engine as the settings list it."""

    stage: Stage
    name: str
    title: str
    here: bool
    """Whether its weights, if it needs any, are on this machine."""
    weights: str
    """Name of the weights, "" where none are needed."""
    size: str
    licence: str
    commercial: bool


class Shelf:
    """The engines of this process. May be used from any thread; the engines may not."""

    def __init__(self, engines: Engines | None = None) -> None:
        """Begin with engines that were chosen at the start; None: the built-in ones."""
        self._given = engines
        self._more: dict[tuple[Stage, str], Any] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> dict[Stage, str]:
        """The name of each stage's engine that is used where nobody chose another."""
        given = {} if self._given is None else self._given.names
        return {stage: given.get(stage, "builtin") for stage in STAGES}

    def choices(self) -> list[Choice]:
        """Every engine of the three stages, in the order of the list."""
        return [_choice(entry) for entry in ENGINES if entry.stage in STAGES]

    def check(self, picked: Mapping[Stage, object]) -> None:
        """Raises OptionError when one is unknown, or when its weights are not here."""
        known = {(c.stage, c.name): c for c in self.choices()}
        for stage, name in picked.items():
            found = known.get((stage, name)) if isinstance(name, str) else None
            if found is None:
                raise OptionError(f"there is no such {stage} engine", "Choose one of the list")
            if not found.here and name != self.names[stage]:
                raise OptionError(
                    f"the weights of {name} are not on this machine",
                    "Fetch them, or choose another engine",
                )

    def detector(self, what: str) -> Detector:
        """A detector for what a user asks to see; see `inpainterz.who.engine_for`.

        Raises:
            InpainterzError: nobody can look for that, or the weights are not here.
        """
        name, options = who.engine_for(what)
        return load_engine("detect", name, options=options)

    def get(self, picked: Mapping[Stage, str]) -> Engines:
        """The engines, those that were picked in the place of those that were given.

        Raises:
            InpainterzError: one cannot be loaded.
        """
        with self._lock:
            if self._given is None:
                self._given = Engines.load()
            made = self._given
            for stage, name in picked.items():
                if name == self.names[stage]:
                    continue
                if (stage, name) not in self._more:
                    self._more[stage, name] = load_engine(stage, name)
                engine, names = self._more[stage, name], {**made.names, stage: name}
                if stage == "segment":
                    made = replace(made, segmenter=engine, names=names)
                elif stage == "track":
                    made = replace(made, tracker=engine, names=names)
                else:
                    made = replace(made, inpainter=engine, names=names)
            return made


def _choice(entry: Entry) -> Choice:
    from inpainterz import weights

    if entry.weights is None:
        return Choice(entry.stage, entry.name, entry.title, True, "", "", "Apache-2.0", True)
    card = weights.card(entry.weights)
    return Choice(
        entry.stage,
        entry.name,
        entry.title,
        weights.find(entry.weights) is not None,
        entry.weights,
        weights.size_text(card),
        card.licence,
        card.commercial,
    )
