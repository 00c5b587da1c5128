"""Threads that overlap decoding, computing and encoding: order, errors, bounds, no thread left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from inpainterz.overlap import Behind, prefetch


def _ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name in ("prefetch", "behind")]


def test_prefetch_keeps_the_order_and_takes_few_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            taken.append(i)
            yield i

    out = []
    for i in prefetch(items(), depth=3):
        out.append(i)
        time.sleep(0.001)
        assert len(taken) <= len(out) + 3 + 1
    assert out == list(range(50))
    assert not _ours()


def test_prefetch_works_while_the_consumer_does() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        second.set()
        yield 1

    with closing(prefetch(items())) as ahead:
        assert next(ahead) == 0
        assert second.wait(5)  # nobody asked for it yet


def test_prefetch_raises_the_producers_error_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the file is damaged")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(ahead)
    assert not _ours()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_an_abandoned_prefetch_ends_its_thread_and_closes_its_source(taken: int) -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            i = 0
            while True:
                yield i
                i += 1
        finally:
            closed.set()

    ahead = prefetch(items())
    for i in range(taken):
        assert next(ahead) == i
    ahead.close()
    assert not _ours()
    assert closed.is_set() or taken == 0  # a generator that never began has nothing to close


def test_behind_works_in_order_in_its_own_thread() -> None:
    done: list[tuple[int, str]] = []
    with Behind(lambda i: done.append((i, threading.current_thread().name))) as behind:
        for i in range(30):
            behind.put(i)
    assert done == [(i, "behind") for i in range(30)]
    assert not _ours()


def test_behind_holds_no_more_than_it_may() -> None:
    go = threading.Event()
    put: list[int] = []

    def hand_over() -> None:
        with Behind(lambda i: go.wait(5) and None, depth=2) as behind:
            for i in range(10):
                behind.put(i)
                put.append(i)

    thread = threading.Thread(target=hand_over)
    thread.start()
    time.sleep(0.1)
    assert len(put) <= 3
    go.set()
    thread.join(5)
    assert len(put) == 10


def test_what_fails_behind_is_raised_in_front() -> None:
    def work(i: int) -> None:
        if i == 2:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"), Behind(work, depth=1) as behind:
        for i in range(1000):
            behind.put(i)
            time.sleep(0.001)
    with pytest.raises(OSError, match="disk"), Behind(work) as behind:
        behind.put(2)
    assert not _ours()


def test_an_error_in_front_drops_what_waits() -> None:
    done: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def work(i: int) -> None:
        begun.set()
        go.wait(0.2)
        done.append(i)

    with pytest.raises(KeyboardInterrupt), Behind(work, depth=5) as behind:
        for i in range(5):
            behind.put(i)
        assert begun.wait(5)
        raise KeyboardInterrupt
    assert done == [0]
    assert not _ours()
