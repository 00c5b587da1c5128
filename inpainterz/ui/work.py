"""Long work on a clip: how far it is, its newest picture, and how it is told to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Work: TypeAlias = Literal[
    "queue", "example", "cuts", "follow", "study", "fill", "compare", "weights", "things", "preview"
]
"""What a job is at; the page says it in the reader's language."""

LIVE_EVERY = 0.4
"""Seconds between two pictures of a running job."""


class Stopped(Exception):
    """The user pressed Cancel; raised between two frames, caught where the job began."""


@dataclass(slots=True, eq=False)
class Job:
    """Long work that waits or is under way; `stop` is set by the user and read between frames."""

    work: Work
    done: int = 0
    total: int | None = None
    started: float = 0.0
    """Of `time.monotonic`, when this part of the work began."""
    live: bytes = b""
    """A JPEG of the newest picture."""
    frame: int | None = None
    """Which frame it shows."""
    pictures: int = 0
    """Counts the pictures, so that the page knows a new one."""
    trust: list[int] = field(default_factory=list)
    """While following: what `Session.trust` will be."""
    stop: bool = False
    more: bool = False
    """Another part follows the one that ends."""

    def begin(self, work: Work, total: int | None) -> None:
        """The next part of the work."""
        self.work, self.done, self.total, self.started = work, 0, total, time.monotonic()

    def note(self, done: int, total: int | None) -> None:
        """How far this part is."""
        self.done, self.total = done, total

    def all_read(self) -> None:
        """An engine has taken in the whole clip: who knows how long its study still takes."""
        if self.work == "study":
            self.total = None

    def show(self, picture: bytes, frame: int) -> None:
        """The newest picture, a JPEG of a frame."""
        self.live, self.frame = picture, frame
        self.pictures += 1

    def go_on(self) -> None:
        """Raises Stopped when the user wants no more of it."""
        if self.stop:
            raise Stopped


@dataclass(slots=True)
class Pace:
    """Says when the page should hear of a running job again."""

    last: float = 0.0

    def due(self) -> bool:
        """Whether it should now."""
        now = time.monotonic()
        if now - self.last < LIVE_EVERY:
            return False
        self.last = now
        return True
