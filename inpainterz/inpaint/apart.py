"""An object in a process of its own, so that its methods run while this process does other work.

Threads would wait for one another: the methods in question are a great many short calls, between
which Python lets one thread at a time go on. The other process is started by its command line, as
`multiprocessing` would run the user's script again where it cannot fork; it ends with its input,
so it does not outlive this one.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from inpainterz.errors import OutOfMemory

START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from inpainterz.inpaint.apart import serve; serve(int(sys.argv[1]))"
)
"""Imports what this process would: not what lies in the folder that the user happens to be in."""


class Apart:
    """One object, and later perhaps another one, in a process of its own.

    A context manager: leaving it ends the process. Nothing is started before the first `put`.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting = False
        self.waited = 0.0
        """Seconds that the last answer kept us waiting."""

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, thing: object) -> None:
        """Send an object (pickled) there; it takes the place of the one before.

        Raises:
            OSError: the process cannot be started.
        """
        if self._process is None:
            self._process = _started()
        self._send((None, (thing,), False))

    def tell(self, method: str, *arguments: object) -> None:
        """Call a method of the object there and do not wait; what it raises comes with an answer.

        No answer may be outstanding.
        """
        self._send((method, arguments, False))

    def ask(self, method: str, *arguments: object) -> None:
        """Call a method whose result `answer` will give; nothing else may be sent before that."""
        self._send((method, arguments, True))
        self._waiting = True

    def answer(self) -> Any:
        """Wait for what the method asked for returns, or raise what it raised.

        Raises:
            OutOfMemory: the process was ended from outside, as happens where memory runs out.
        """
        assert self._waiting and self._process is not None
        assert isinstance(self._process.stdout, io.BufferedReader)
        self._waiting = False
        try:
            start = time.monotonic()
            self._process.stdout.peek(1)
            self.waited = time.monotonic() - start
            good, result = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as error:
            raise self._ended() from error
        if not good:
            raise result
        return result

    def close(self) -> None:
        """End the process, whatever it is doing: it holds nothing that anybody wants any more."""
        process, self._process, self._waiting = self._process, None, False
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # a message may be half written
                if pipe is not None:
                    pipe.close()

    def _send(self, message: object) -> None:
        assert not self._waiting and self._process is not None and self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def _ended(self) -> OutOfMemory:
        return OutOfMemory(
            "a process that helps to fill was ended, perhaps as memory ran out",
            "Close other programs, or lower inpaint.memory_mb",
        )


def _started() -> subprocess.Popen[bytes]:
    import cv2

    # optical flow hangs slightly on the number of threads that it is divided among
    command = [sys.executable, "-c", START, str(cv2.getNumThreads()), *sys.path]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def serve(threads: int) -> None:
    """What the other process does until its input ends."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other one's to answer
    cv2.setNumThreads(threads)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that is printed gets between the answers
    thing: object = None
    failed: Exception | None = None
    while True:
        try:
            message = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        method, arguments, wanted = message
        if method is None:
            (thing,), failed = arguments, None
            continue
        result: object = None
        if failed is None:
            try:
                result = getattr(thing, method)(*arguments)
            except Exception as error:  # handed on
                failed = error
        if wanted:
            try:
                pickle.dump((failed is None, failed or result), answers, pickle.HIGHEST_PROTOCOL)
                answers.flush()
            except BrokenPipeError:
                return
