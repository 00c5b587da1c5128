"""An object in a process of its own: it answers, fails and ends as one here would."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from inpainterz.errors import OutOfMemory
from inpainterz.inpaint.apart import Apart


@pytest.fixture
def far() -> Iterator[Apart]:
    with Apart() as made:
        yield made
    assert made._process is None


def _process(far: Apart) -> subprocess.Popen[bytes]:
    assert far._process is not None
    return far._process


def test_methods_are_called_in_order_and_answer(far: Apart) -> None:
    far.put(deque([1]))
    for number in (2, 3):
        far.tell("append", number)
    far.ask("copy")
    assert far.answer() == deque([1, 2, 3])
    far.put(np.zeros((300, 400)))
    far.ask("__add__", 1.0)
    assert far.answer().sum() == 120_000  # larger than any pipe


def test_what_a_method_raises_is_raised_here(far: Apart) -> None:
    far.put(deque())
    far.ask("pop")
    with pytest.raises(IndexError, match="empty"):
        far.answer()
    far.put(deque([4]))
    far.tell("remove", 5)  # nobody waits for it: told with the next answer
    far.ask("pop")
    with pytest.raises(ValueError, match="5"):
        far.answer()
    far.put(deque([4]))
    far.ask("pop")
    assert far.answer() == 4


def test_what_is_printed_there_is_no_answer(far: Apart) -> None:
    far.put(print)
    far.ask("__call__", "hello")
    assert far.answer() is None


def test_a_process_that_is_killed_is_one_sentence(far: Apart) -> None:
    far.put(deque([1]))
    far.ask("copy")
    assert far.answer() == deque([1])
    _process(far).kill()
    _process(far).wait()
    with pytest.raises(OutOfMemory, match="was ended"):
        for _ in range(100):  # until the pipe is known to be broken
            far.ask("copy")
            far.answer()


def test_it_is_gone_although_nobody_took_its_answer() -> None:
    with Apart() as far:
        far.put(bytearray(1 << 24))
        process = _process(far)
        far.ask("copy")
    assert process.poll() is not None


def test_it_ends_with_the_process_that_started_it() -> None:
    far = Apart()
    far.put(deque())
    process = _process(far)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()  # as if this process were gone
    assert process.wait(10) == 0
    process.stdout.close()


def test_what_lies_in_the_users_folder_is_not_imported(
    far: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "pickle", "inpainterz"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in sys.path if p])
    far.put(deque([1]))
    far.ask("copy")
    assert far.answer() == deque([1])


@pytest.mark.parametrize("error", [cv2.error("empty"), OutOfMemory("none", "Less")])
def test_errors_of_ours_and_opencv_can_be_handed_on(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again)[:4] == str(error)[:4]
