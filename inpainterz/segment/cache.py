"""A bounded place for what segmenters found in frames, so that going back to one costs nothing.

An embedding belongs to one clip of one user: whoever keeps several users' embeddings in one cache
gives each clip a name of its own, such as the id of the session. The network is shared, never this.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

from inpainterz.errors import OptionError

Key: TypeAlias = tuple[str, int, str]
"""Clip, frame, engine."""

LIMIT_BYTES = 256 << 20
"""About 100 frames of SAM, 30 of SAM 2.1, 20 of the built-in segmenter at 1920x1080."""


class EmbeddingCache:
    """Embeddings by clip, frame and engine; the one not asked for longest goes first.

    All methods may be called from any thread.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        """Begin with nothing.

        Args:
            limit_bytes: what all embeddings together may take, as `size_bytes` counts. A single
                one that takes more is kept alone, else every click would look at its frame anew.

        Raises:
            OptionError: the limit is below 1.
        """
        if limit_bytes < 1:
            raise OptionError("the cache of embeddings has no room")
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[Key, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """What is kept now, in bytes."""
        return self._bytes

    def get(self, clip: str, frame: int, engine: str) -> Any | None:
        """The embedding of a frame of a clip by an engine; None: it has to be looked at."""
        with self._lock:
            found = self._kept.get((clip, frame, engine))
            if found is None:
                return None
            self._kept.move_to_end((clip, frame, engine))
            return found[0]

    def put(self, clip: str, frame: int, engine: str, embedding: Any) -> None:
        """Keep an embedding, at the cost of those not asked for longest."""
        size = size_bytes(embedding)
        with self._lock:
            self._remove((clip, frame, engine))
            self._kept[clip, frame, engine] = embedding, size
            self._bytes += size
            while self._bytes > self.limit_bytes and len(self._kept) > 1:
                self._remove(next(iter(self._kept)))

    def forget(self, clip: str) -> None:
        """Drop all embeddings of a clip."""
        with self._lock:
            for key in [k for k in self._kept if k[0] == clip]:
                self._remove(key)

    def _remove(self, key: Key) -> None:
        _, size = self._kept.pop(key, (None, 0))
        self._bytes -= size


def size_bytes(thing: Any) -> int:
    """Bytes of all arrays and tensors in an embedding, whatever engine it is of."""
    seen: set[int] = set()

    def count(one: Any) -> int:
        if id(one) in seen:  # an array that is named twice is held once
            return 0
        seen.add(id(one))
        if is_dataclass(one) and not isinstance(one, type):
            return sum(count(getattr(one, f.name)) for f in fields(one))
        if isinstance(one, Mapping):
            return sum(count(value) for value in one.values())
        if isinstance(one, (tuple, list)):
            return sum(count(value) for value in one)
        return int(getattr(one, "nbytes", 0))  # of numpy and torch

    return count(thing)
