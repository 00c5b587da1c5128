"""Grain of the picture in a fill that was averaged out of many frames."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from inpainterz.inpaint.background import Box
from inpainterz.inpaint.grain import grained, restored
from inpainterz.types import Frame, Image, Inpainted, Origin

SHAPE = (120, 160)
HOLE = np.zeros(SHAPE, np.bool_)
HOLE[40:80, 60:110] = True
CLEAR = np.zeros(SHAPE, np.bool_)
PARTS = [Box(28, 8, 142, 112)]


def scene() -> np.ndarray:
    x, y = np.arange(SHAPE[1]), np.arange(SHAPE[0])[:, None]
    return np.asarray(120 + 40 * np.sin(x / 20) + 20 * np.cos(y / 15), np.float32)


def picture(luma: np.ndarray) -> Image:
    return np.repeat(np.clip(np.rint(luma), 0, 255).astype(np.uint8)[..., None], 3, 2)


def frames(noise: float, blur: float) -> tuple[Image, Image]:
    """A frame with grain whose hole was filled without any, and the one before it."""
    source = np.random.default_rng(5)
    made = []
    for _ in range(2):
        grain = source.standard_normal(SHAPE, np.float32)
        if blur:
            grain = cv2.GaussianBlur(grain, (0, 0), blur)
        made.append(picture(scene() + noise * grain / grain.std()))
    made[0][HOLE] = picture(scene())[HOLE]
    return made[0], made[1]


@pytest.mark.parametrize(("noise", "blur"), [(3, 0), (6, 0), (4, 0.7)])
def test_a_fill_gets_the_grain_of_its_surroundings(noise: float, blur: float) -> None:
    image, before = frames(noise, blur)
    done = grained(image, HOLE, before, CLEAR, PARTS, 7)
    assert np.array_equal(done[~HOLE], image[~HOLE])
    added = (done.astype(np.float32) - picture(scene()))[..., 0]
    assert added[HOLE].std() == pytest.approx(noise, rel=0.2)
    assert abs(added[HOLE].mean()) < 0.5
    around, inside = (
        np.corrcoef(added[rows, :-1][:, a:b].ravel(), added[rows, 1:][:, a:b].ravel())[0, 1]
        for rows, a, b in ((slice(0, 30), 0, 159), (slice(40, 80), 60, 109))
    )
    assert inside == pytest.approx(around, abs=0.1)  # it is as coarse
    assert np.array_equal(done, grained(image, HOLE, before, CLEAR, PARTS, 7))
    assert not np.array_equal(done, grained(image, HOLE, before, CLEAR, PARTS, 8))


def test_a_clean_picture_is_left_as_it_is() -> None:
    image, before = frames(0.5, 0)
    assert grained(image, HOLE, before, CLEAR, PARTS, 7) is image


@pytest.mark.parametrize("shift", [0, 3])
def test_texture_is_no_grain(shift: int) -> None:
    wide = np.random.default_rng(2).standard_normal((SHAPE[0], SHAPE[1] + 8)).astype(np.float32)
    wide = cv2.GaussianBlur(wide, (0, 0), 0.8)
    luma = 128 + 15 * wide / wide.std()
    image, before = (picture(luma[:, at : at + SHAPE[1]]) for at in (0, shift))
    image[HOLE] = 128
    assert grained(image, HOLE, before, CLEAR, PARTS, 7) is image


def test_a_hole_that_fills_the_picture_has_no_surroundings() -> None:
    image, before = frames(6, 0)
    hole = ~CLEAR
    assert grained(image, hole, before, hole, [Box(0, 0, 160, 120)], 7) is image


def test_each_frame_of_each_shot_comes_out_once_and_in_order() -> None:
    image, clear = frames(5, 0)
    shots = [0, 0, 0, 1, 1, 2]
    origin = np.where(HOLE, Origin.SEEN, Origin.KEPT).astype(np.uint8)
    given = [
        Inpainted(Frame(clear, n, n, Fraction(1, 25), shot))
        if n == 1
        else Inpainted(Frame(image, n, n, Fraction(1, 25), shot), origin, origin)
        for n, shot in enumerate(shots)
    ]
    done = list(restored(iter(given), 32))
    assert [d.frame.index for d in done] == list(range(6))
    assert [d.frame.shot for d in done] == shots
    rough = [bool((d.frame.image != g.frame.image).any()) for d, g in zip(done, given, strict=True)]
    # the last is alone in its shot; of two frames with the same noise nothing is known to be grain
    assert rough == [True, False, True, False, False, False]
