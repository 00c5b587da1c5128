"""The bounded place for embeddings: what goes first, what is counted, what is never mixed."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pytest

from inpainterz import engines
from inpainterz.errors import OptionError
from inpainterz.segment.cache import EmbeddingCache, size_bytes


def block(count: int) -> np.ndarray:
    return np.zeros(count, np.uint8)


def test_the_one_not_asked_for_longest_goes_first() -> None:
    cache = EmbeddingCache(100)
    for frame in range(3):
        cache.put("a", frame, "e", block(33))
    assert cache.get("a", 0, "e") is not None  # now the newest
    cache.put("a", 3, "e", block(33))
    assert cache.get("a", 1, "e") is None
    assert [f for f in range(4) if cache.get("a", f, "e") is not None] == [0, 2, 3]
    assert cache.nbytes == 99
    cache.put("a", 9, "e", block(90))
    assert len(cache) == 1 and cache.nbytes == 90


def test_clips_frames_and_engines_are_kept_apart() -> None:
    cache = EmbeddingCache(1000)
    keys = [(c, f, e) for c in "ab" for f in (0, 1) for e in ("sam-b", "sam-l")]
    put = {key: block(10) for key in keys}
    for key, value in put.items():
        cache.put(*key, value)
    assert all(cache.get(*key) is value for key, value in put.items())
    assert cache.get("c", 0, "sam-b") is None
    cache.forget("a")
    assert len(cache) == 4 and cache.nbytes == 40
    assert all((cache.get(*key) is None) == (key[0] == "a") for key in keys)


def test_putting_again_replaces() -> None:
    cache = EmbeddingCache(100)
    cache.put("a", 0, "e", block(60))
    newer = block(50)
    cache.put("a", 0, "e", newer)
    assert cache.get("a", 0, "e") is newer
    assert len(cache) == 1 and cache.nbytes == 50


def test_one_that_is_too_large_is_kept_alone() -> None:
    cache = EmbeddingCache(100)
    cache.put("a", 0, "e", block(50))
    cache.put("a", 1, "e", block(500))
    assert cache.get("a", 1, "e") is not None and len(cache) == 1
    cache.put("a", 2, "e", block(50))
    assert len(cache) == 1 and cache.nbytes == 50


def test_size_counts_every_array_once() -> None:
    @dataclass
    class Found:
        image: np.ndarray
        maps: tuple[object, ...]
        name: str = "n"

    image = block(100)
    found = Found(image, (block(10), [block(5), image], {"k": block(2)}))
    assert size_bytes(found) == 117
    assert size_bytes(None) == 0
    seen = engines.load("segment").embed(np.zeros((64, 96, 3), np.uint8))
    assert size_bytes(seen) >= 64 * 96 * 3


def test_tensors_are_counted() -> None:
    torch = pytest.importorskip("torch")
    assert size_bytes((torch.zeros(4, dtype=torch.float16), torch.zeros(4))) == 24


def test_there_must_be_room() -> None:
    with pytest.raises(OptionError):
        EmbeddingCache(0)


def test_from_many_threads() -> None:
    cache = EmbeddingCache(500)
    failed: list[BaseException] = []

    def work(clip: str) -> None:
        try:
            for k in range(200):
                cache.put(clip, k % 7, "e", block(40))
                cache.get(clip, (k + 3) % 7, "e")
                if k % 50 == 0:
                    cache.forget(clip)
        except BaseException as error:  # a thread's error is seen by nobody else
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert cache.nbytes == 40 * len(cache) <= 500
