"""The engines of a run: loaded when needed, let go, made smaller where memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from inpainterz.engines import Stage
from inpainterz.errors import OutOfMemory
from inpainterz.jobs.folder import add_step, log, read_steps
from inpainterz.jobs.memory import lower, release, resident_mb
from inpainterz.jobs.order import STAGES, EngineChoice, Order, options_of
from inpainterz.pipeline import Engines

Answer = TypeVar("Answer")


class RunEngines:
    """Those of an order, or those that were given in their place, and what became of them.

    Attributes:
        choices: the engines of the order, then each set that memory forced the job down to.
        notes: why, and what did not help, a sentence each.
    """

    def __init__(self, job: Path, order: Order, given: Engines | None) -> None:
        """Load nothing yet.

        Args:
            job: the folder, which keeps what a job was forced down to.
            order: names the engines and the limit of memory.
            given: use these instead of loading those of the order.
        """
        self._job, self._given = job, given
        self._limit_mb = order.memory_limit_mb
        self._loaded: dict[Stage, Any] = {}
        steps = read_steps(job)
        first = order.engines if given is None else EngineChoice.of(given)
        self.choices = [first, *(engines for engines, _ in steps)]
        self.notes = [note for _, note in steps]

    def engine(self, stage: Stage) -> Any:
        """The engine of a stage, loaded when first asked for."""
        if stage not in self._loaded:
            if self._given is not None and len(self.choices) == 1:
                given = (self._given.segmenter, self._given.tracker, self._given.inpainter)
                self._loaded[stage] = given[STAGES.index(stage)]
            else:
                self._loaded[stage] = self.choices[-1].load(stage)
        return self._loaded[stage]

    def drop(self, stage: Stage) -> None:
        """Let an engine go, and its memory with it."""
        self._loaded.pop(stage, None)

    def within_memory(self, stage: Stage, work: Callable[[], Answer]) -> Answer:
        """Do `work`; where memory runs out, again with an engine that takes less.

        Raises:
            OutOfMemory: nothing takes less any more.
        """
        while True:
            try:
                return work()
            except MemoryError as error:  # OutOfMemory is one
                sentence = str(error) or "memory ran out"
                note = self._step_down(stage, sentence)
                if note is None:
                    if isinstance(error, OutOfMemory):
                        raise
                    raise OutOfMemory("memory ran out", "Use a smaller clip") from error
            release()

    def _step_down(self, stage: Stage, reason: str) -> str | None:
        """Take the next smaller options for a stage; what was changed, or None."""
        changed = self._lower(stage)
        if changed is None:
            return None
        options, device, what = changed
        choice = self.choices[-1]
        self.drop(stage)
        smaller = choice.with_options(stage, options, device)
        note = f"{stage}: {reason.rstrip('.')}; went on with {what}"
        self.choices.append(smaller)
        self.notes.append(note)
        log(self._job, note)
        add_step(self._job, smaller, note)
        return note

    def _lower(self, stage: Stage) -> tuple[dict[str, Any], str, str] | None:
        choice = self.choices[-1]
        engine = self._loaded.get(stage)  # not there where memory ran out while it was loaded
        options = getattr(engine, "options", None)
        if options is None and choice.names[stage] != "given":
            options = options_of(choice, stage)
        device = str(getattr(engine, "device", choice.device))
        return lower(stage, choice.names[stage], options, device)

    def watch(self, stage: Stage) -> None:
        """Raises OutOfMemory where the process is larger than it may be and could be smaller."""
        if self._limit_mb is None:
            return
        now = resident_mb()
        if now is None or now <= self._limit_mb:
            return
        if self._lower(stage) is None:
            note = f"{stage}: {now} MiB are in use, more than the limit of {self._limit_mb} MiB"
            self.notes.append(note)
            log(self._job, note)
            self._limit_mb = None  # said once; there is nothing more to do about it
            return
        raise OutOfMemory(f"{now} MiB are in use, the limit is {self._limit_mb} MiB")
