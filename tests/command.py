"""What the command says when it runs in a test's own process: see the fixture `run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, object]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Run = Callable[..., Answer]
