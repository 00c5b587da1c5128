"""What every segmenter must take, or refuse with one sentence, whatever network is inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clips import texture

from inpainterz.engines import Segmenter
from inpainterz.errors import PromptError
from inpainterz.types import Prompt

SIZE = (60, 90)
NO_PICTURES: tuple[object, ...] = (
    None,
    np.zeros((0, 0, 3), np.uint8),
    np.zeros((0, 90, 3), np.uint8),
    np.zeros((60, 90), np.uint8),
    np.zeros((60, 90, 4), np.uint8),
    np.zeros((1, 60, 90, 3), np.uint8),
    np.zeros((60, 90, 3), np.float32),
    "clip.mp4",
    [[[0, 0, 0]]],
)
NAN, INF = float("nan"), float("inf")
NO_PLACES = (
    Prompt.of((NAN, 3.0)),
    Prompt.of((3.0, NAN)),
    Prompt.of((INF, 3.0)),
    Prompt.of((3.0, 3.0), off=((5.0, -INF),)),
    Prompt.of((3.0, 3.0), off=((NAN, NAN),)),
    Prompt.of(box=(NAN, 0.0, 20.0, 20.0)),
    Prompt.of(box=(0.0, 0.0, INF, 20.0)),
    Prompt.of((3.0, 3.0), box=(0.0, 0.0, 20.0, NAN)),
)


def picture(height: int = 90, width: int = 150, seed: int = 0) -> np.ndarray:
    """Blobs on a slope, so that masks differ from place to place."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 / width, y * 255 / height, np.full((height, width), 90.0)], -1)
    for _ in range(6):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(6, 25)
        image[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = rng.uniform(0, 255, 3)
    return image.astype(np.uint8)


def check_hostile_clicks(segmenter: Segmenter) -> None:
    """No picture, coordinates that are not numbers, a hundred clicks, and it still answers."""
    for nothing in NO_PICTURES:
        with pytest.raises(PromptError) as told:
            segmenter.embed(nothing)  # type: ignore[arg-type]
        assert "\n" not in str(told.value) and len(str(told.value)) < 200
    embedding = segmenter.embed(texture(200, 200, 4)[: SIZE[0], : SIZE[1]])
    for prompt in NO_PLACES:
        with pytest.raises(PromptError) as told:
            segmenter.segment(embedding, prompt)
        assert "\n" not in str(told.value) and len(str(told.value)) < 200
    rng = np.random.default_rng(0)
    points = rng.uniform(0, SIZE[::-1], (100, 2)).astype(np.float32)
    positive = rng.random(100) < 0.5
    positive[0] = True
    together = segmenter.segment(embedding, Prompt(points, positive))
    answer = None
    for count in range(1, 101, 20):  # a few at a time, each on top of the last answer
        answer = segmenter.segment(embedding, Prompt(points[:count], positive[:count]), answer)
    for one in (together, answer):
        assert one is not None
        assert one.mask.shape == SIZE and one.mask.dtype == np.bool_ and 0 <= one.score <= 1


def check_many_boxes(segmenter: Any, worst: float) -> None:
    """Several boxes of a frame get the answers that each gets alone, up to `worst` in the score."""
    embedding = segmenter.embed(picture())
    boxes = np.asarray([(5, 5, 60, 60), (20, 10, 100, 70), (90, 30, 149, 89)], np.float32)
    answers = segmenter.segment_boxes(embedding, boxes)
    assert len(answers) == 3
    for box, answer in zip(boxes, answers, strict=True):
        alone = segmenter.segment(embedding, Prompt.of(box=tuple(box.tolist())))
        assert (alone.mask ^ answer.mask).mean() < 1e-3
        assert answer.score == pytest.approx(alone.score, abs=worst)
        again = Prompt.of((float(box[[0, 2]].mean()), 50.0), box=tuple(box.tolist()))
        segmenter.segment(embedding, again, answer)  # its state serves a click that follows
    assert any((a.mask != answers[0].mask).any() for a in answers)
    assert segmenter.segment_boxes(embedding, np.zeros((0, 4), np.float32)) == []
    with pytest.raises(PromptError):
        segmenter.segment_boxes(embedding, np.asarray([(5, 5, 60, 60), (9, 9, 9, 9)], np.float32))
