"""Decoding, computing and encoding at the same time: bounded queues with a thread each.

`prefetch` takes items from an iterator ahead of whoever asks for them; `Behind` does the work on
items after whoever handed them over has gone on. Both keep the order, hand errors on, and leave no
thread behind when they are abandoned.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")

DEPTH = 3
"""Items that wait in a queue: enough to even out frames that take longer, few to hold in memory."""

_POLL_SECONDS = 0.5  # a thread that waits looks this often whether its other end is alive


class _Queue(Generic[Item]):
    """A bounded queue with an end; either side may leave."""

    def __init__(self, depth: int) -> None:
        self._items: deque[Item] = deque()
        self._depth = max(1, depth)
        self._changed = threading.Condition()
        self._ended = False  # nothing more is put
        self._left = False  # nothing more is taken

    def put(self, item: Item) -> bool:
        """Wait for room; False: nobody takes any more."""
        with self._changed:
            while len(self._items) >= self._depth and not self._left:
                self._changed.wait(_POLL_SECONDS)
            if self._left:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self) -> Iterator[Item]:
        """The items until the end."""
        while True:
            with self._changed:
                while not self._items and not self._ended and not self._left:
                    self._changed.wait(_POLL_SECONDS)
                if self._left or not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # a frame is large: do not hold the last one while waiting for the next

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def leave(self) -> None:
        with self._changed:
            self._left = True
            self._items.clear()
            self._changed.notify_all()


def prefetch(items: Iterable[Item], depth: int = DEPTH) -> Generator[Item]:
    """Yield `items`, taken ahead in a thread of their own, at most `depth` + 1 of them.

    An error of `items` is raised where its item would have come. When this generator is closed, or
    ends in any other way, `items` is closed too if it is a generator, and the thread has ended.
    """
    queue: _Queue[Item] = _Queue(depth)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for item in items:
                if not queue.put(item):
                    break
                del item
        except BaseException as error:
            failed.append(error)
        finally:
            if isinstance(items, Generator):
                items.close()
            queue.end()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        yield from queue.take()
        if failed:
            raise failed[0]
    finally:
        queue.leave()
        thread.join()
        failed.clear()  # its traceback holds this frame


class Behind(Generic[Item]):
    """Does `work` on items in a thread, in order, while more are handed over. A context manager.

    At most `depth` items wait; then `put` does. What `work` raises is raised by the next `put`, or
    on leaving the context. Leaving it with an exception drops what waits.
    """

    def __init__(self, work: Callable[[Item], None], depth: int = DEPTH) -> None:
        self._work = work
        self._queue: _Queue[Item] = _Queue(depth)
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="behind", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._queue.take():
                self._work(item)
                del item
        except BaseException as error:
            self._failed.append(error)
            self._queue.leave()

    def put(self, item: Item) -> None:
        """Hand an item over."""
        if not self._queue.put(item):
            self._raise()

    def _raise(self) -> None:
        if self._failed:
            raise self._failed.pop()

    def __enter__(self) -> Behind[Item]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._queue.end()
        else:
            self._queue.leave()
        self._thread.join()
        if kind is None:
            self._raise()
