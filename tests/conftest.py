"""What tests get: a failure on an ERROR in the log and on a thread left behind; the command."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import walker
from command import Answer, Run

from inpainterz import VideoReader, example
from inpainterz.cli import main


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def no_error_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that makes our code log an ERROR fails, unless it is marked as expecting one."""
    handler = _Errors()
    logger = logging.getLogger("inpainterz")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    if not request.node.get_closest_marker("logs_errors"):
        assert not [r.getMessage() for r in handler.records]


@pytest.fixture(autouse=True)
def no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A thread that a test starts ends with it; the browser's driver and torch's compiler keep
    threads of their own for as long as the process lives."""
    if any(request.node.get_closest_marker(name) for name in ("browser", "compiles")):
        yield
        return
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while left := [t for t in threading.enumerate() if t not in before and not t.daemon]:
        if time.monotonic() > deadline:
            pytest.fail(f"threads left behind: {left}")
        time.sleep(0.01)


@pytest.fixture(scope="session")
def street() -> Path:
    """The real example clip: a walker crosses in front of a parked bicycle."""
    clip = example.prepare()
    if not clip.real:
        pytest.skip("the street clip cannot be fetched here")
    return clip.path


@pytest.fixture(scope="session")
def street_truth(street: Path) -> dict[int, walker.Reference]:
    """What lies behind the walker of that clip, and where he is."""
    with VideoReader(street) as video:
        return walker.references([frame.image for frame in video.frames()])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["inpainterz", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Answer(int(ended.value.code or 0), out, err)

    return call
