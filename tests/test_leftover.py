"""A mask that lacks a part of a moving object is completed; nothing else is added to it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
import pytest
from clips import texture

from inpainterz.leftover import LOOKAHEAD, complete
from inpainterz.types import Frame, Mask

SIZE = (120, 200)
COUNT = 50


def _walker(i: int, *, speed: float = 3.0) -> tuple[Mask, Mask]:
    """A body with a foot: all of it, and the body alone."""
    whole, body = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    x = int(10 + speed * i)
    body[20:80, x : x + 24] = True
    whole |= body
    whole[80:90, x + 4 : x + 20] = True
    return whole, body


def _frames(*, pan: float = 0.0, speed: float = 3.0) -> list[Frame]:
    plate = texture(SIZE[0], SIZE[1] + COUNT, 3, 30, 220)
    coat = np.array([200, 30, 120], np.uint8)
    frames = []
    for i in range(COUNT):
        matrix = np.array([[1, 0, -pan * i], [0, 1, 0]], np.float64)
        image = np.asarray(cv2.warpAffine(plate, matrix, SIZE[::-1]), np.uint8)
        image[_walker(i, speed=speed)[0]] = coat
        frames.append(Frame(image, i, i, Fraction(1, 25)))
    return frames


@pytest.mark.parametrize("pan", [0.0, 0.8])
def test_the_foot_is_added(pan: float) -> None:
    nothing = np.zeros(SIZE, bool)
    items = [(f, _walker(f.index)[1], nothing) for f in _frames(pan=pan)]
    missed = spilled = 0.0
    for frame, mask in complete(items):
        whole, body = _walker(frame.index)
        assert mask[body].all()
        missed += (whole & ~mask).sum() / (whole & ~body).sum() / COUNT
        spilled += (mask & ~whole).sum() / whole.sum() / COUNT
    assert missed < 0.3  # its rim, which growing covers
    assert spilled < 0.05


def test_a_walker_that_was_lost_for_some_frames_is_found() -> None:
    nothing = np.zeros(SIZE, bool)
    lost = range(20, 29)
    items = [(f, nothing if f.index in lost else _walker(f.index)[0], nothing) for f in _frames()]
    for frame, mask in complete((f, m.astype(np.uint8), keep) for f, m, keep in items):
        whole = _walker(frame.index)[0]
        if frame.index in lost:
            assert (mask & whole).sum() / (mask | whole).sum() > 0.6


def test_a_walker_that_left_is_not_looked_for() -> None:
    nothing = np.zeros(SIZE, bool)
    items = [
        (f, (_walker(f.index)[0] if f.index < 25 else nothing).astype(np.uint8), nothing)
        for f in _frames()
    ]
    assert not any(mask.any() for frame, mask in complete(items) if frame.index >= 25)


def test_what_stands_still_gets_nothing() -> None:
    nothing = np.zeros(SIZE, bool)
    items = [(f, _walker(0)[1], nothing) for f in _frames(speed=0)]
    assert all(np.array_equal(mask, _walker(0)[1]) for _, mask in complete(items))


def test_what_must_stay_stays() -> None:
    items = []
    for frame in _frames():
        whole, body = _walker(frame.index)
        items.append((frame, body, whole & ~body))
    for frame, mask in complete(items):
        whole, body = _walker(frame.index)
        assert mask[body].all()
        assert not (mask & whole & ~body).any()


def test_it_runs_no_further_ahead_than_it_says() -> None:
    taken = 0

    def items() -> Iterator[tuple[Frame, Mask, Mask]]:
        nonlocal taken
        for frame in _frames():
            taken += 1
            yield frame, _walker(frame.index)[1], np.zeros(SIZE, bool)

    for i, (frame, _) in enumerate(complete(items())):
        assert frame.index == i
        assert taken <= min(COUNT, i + LOOKAHEAD + 1)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 47)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    mask = np.zeros(size, bool)
    mask[0, 0] = True
    items = [(Frame(image, i, i, Fraction(1)), mask, ~mask) for i in range(3)]
    assert [f.index for f, _ in complete(items)] == [0, 1, 2]
