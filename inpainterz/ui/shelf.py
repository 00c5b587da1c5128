"""The engines of this process: which there are, and each loaded once, when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inpainterz import who
from inpainterz.engines import ENGINES, Detector, Entry, Stage
from inpainterz.engines import load as load_engine
from inpainterz.errors import OptionError
from inpainterz.jobs.order import STAGES, EngineChoice, Order
from inpainterz.jobs.plan import make_plan
from inpainterz.pipeline import Engines


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

    def detectors(self) -> list[Choice]:
        """The engines that look for people and things and need weights; nobody picks among them,
        see `detector`."""
        from inpainterz import weights

        return [
            replace(_choice(entry), title=weights.card(entry.weights).title)
            for entry in ENGINES
            if entry.stage == "detect" and entry.weights is not None
        ]

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
                made = _with(made, stage, name, self._more[stage, name])
            return made

    def fitted(
        self,
        picked: Mapping[Stage, str],
        clip: Path,
        limit_mb: int | None,
        stages: tuple[Stage, ...],
    ) -> Engines:
        """The engines of `get`, with options that fit a memory limit as a job's do.

        An engine that has to be lowered is made anew and kept by nobody but the caller.

        Args:
            picked: as for `get`.
            clip: what they will work on.
            limit_mb: MiB of the work; None = no limit.
            stages: those that are to be fitted, "track" and "inpaint" or one of them.

        Raises:
            OptionError: it is too little for this clip, or what an engine takes was not measured.
            InpainterzError: an engine cannot be loaded, or the clip cannot be read.
        """
        made = self.get(picked)
        if limit_mb is None:
            return made
        before = EngineChoice.of(made)
        order = Order(clip, str(clip), engines=before, memory_limit_mb=limit_mb)
        plan = make_plan(order)
        kept = {_WORK[stage] for stage in stages} | ({"write"} if "inpaint" in stages else set())
        for stage in plan.stages:
            if stage.name not in kept:
                continue
            if stage.memory_mb is None:
                raise OptionError(
                    f"what {stage.engine} takes was not measured, so no limit can be kept",
                    "Choose the built-in engine, or no memory limit",
                )
            if stage.memory_mb > limit_mb:
                raise OptionError(
                    f"{limit_mb} MiB are too little for this clip: it takes {stage.memory_mb}",
                    "Raise the memory limit in the settings",
                )
        for each in stages:
            if plan.engines.options.get(each) != before.options.get(each):
                made = _with(made, each, before.names[each], plan.engines.load(each))
        return made


_WORK: Mapping[Stage, str] = {"track": "follow", "inpaint": "fill"}
"""What a plan calls the work of an engine."""


def _with(made: Engines, stage: Stage, name: str, engine: Any) -> Engines:
    """The engines with another one for a stage."""
    names = {**made.names, stage: name}
    if stage == "segment":
        return replace(made, segmenter=engine, names=names)
    if stage == "track":
        return replace(made, tracker=engine, names=names)
    return replace(made, inpainter=engine, names=names)


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
