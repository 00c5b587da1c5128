"""The fill's last step: neighbouring fills agree, true pixels stay, frames keep their order."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from inpainterz.inpaint import steady
from inpainterz.types import Frame, Image, Inpainted, Mask

H, W = 64, 96


def _plate(shift: int = 0) -> Image:
    rng = np.random.default_rng(5)
    coarse = rng.random((16, 40, 3), np.float32) * 200 + 20
    wide = cv2.resize(coarse, (W + 64, H), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(wide[:, shift : shift + W], 0, 255), np.uint8)


def _hole() -> Mask:
    hole = np.zeros((H, W), np.bool_)
    hole[20:44, 36:60] = True
    return hole


def _flickering(seed: int, shift: int = 0) -> Image:
    """A plate whose hole was filled 12 levels too bright or too dark in blotches."""
    blotches = np.random.default_rng(seed).normal(0, 12, (8, 12)).astype(np.float32)
    wrong = cv2.resize(blotches, (W, H), interpolation=cv2.INTER_LINEAR)[..., None]
    image = _plate(shift).astype(np.float32)
    image = np.where(_hole()[..., None], image + wrong, image)
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def _error(image: Image, shift: int = 0) -> float:
    return float(np.abs(image[_hole()].astype(np.float32) - _plate(shift)[_hole()]).mean())


def _run(
    images: list[Image],
    holes: list[Mask],
    delay: int = steady.DELAY,
    sure: int | None = None,
) -> list[Image]:
    passing = steady.Steadier(delay, flow_side_px=480)
    done: list[Inpainted] = []
    for i, (image, hole) in enumerate(zip(images, holes, strict=True)):
        confidence = None if sure is None else np.full((H, W), sure, np.uint8)
        given = Inpainted(Frame(image, i, i, Fraction(1, 25)), None, confidence)
        done += passing.take(given, hole)
    done += passing.finish()
    assert [d.frame.index for d in done] == list(range(len(images)))
    return [d.frame.image for d in done]


@pytest.mark.parametrize("delay", [0, 1, steady.DELAY])
@pytest.mark.parametrize("pan", [0, 2])
def test_flicker_is_averaged_along_the_motion(pan: int, delay: int) -> None:
    made = [_flickering(seed, 10 + pan * seed) for seed in range(9)]
    done = _run(made, [_hole()] * 9, delay)
    before, after = (
        np.mean([_error(image, 10 + pan * i) for i, image in enumerate(images)])
        for images in (made, done)
    )
    assert after < (0.75 if delay > 1 else 0.9) * before
    for old, new in zip(made, done, strict=True):
        assert np.array_equal(new[~_hole()], old[~_hole()])


@pytest.mark.parametrize("true", [0, 2])
def test_true_pixels_of_either_side_count_most(true: int) -> None:
    holes = [_hole()] * 3
    filled = [_plate() if i == true else _flickering(i) for i in range(3)]
    by_filled = _error(_run(filled, holes)[1])
    holes[true] = np.zeros((H, W), np.bool_)
    assert _error(_run(filled, holes)[1]) < 0.7 * by_filled < _error(filled[1])


def test_what_is_sure_gives_way_less() -> None:
    filled = [_plate(), _flickering(1), _plate()]
    assert _error(_run(filled, [_hole()] * 3, sure=255)[1]) > 1.1 * _error(
        _run(filled, [_hole()] * 3, sure=0)[1]
    )


def test_a_fill_that_is_wrong_for_one_frame_is_hardly_heard() -> None:
    wrong = _plate().astype(np.int16)
    wrong[_hole()] += 60
    filled = [_plate() for _ in range(7)]
    filled[3] = np.asarray(np.clip(wrong, 0, 255), np.uint8)
    done = _run(filled, [_hole()] * 7, sure=255)
    # a plain mean of it with past and future would leave a quarter
    assert _error(done[3]) < 0.05 * _error(filled[3])


def test_a_fill_that_past_and_future_differ_about_is_heard() -> None:
    filled = [_plate() for _ in range(7)]
    for later in range(4, 7):
        light = filled[later].astype(np.int16)
        light[_hole()] += 40
        filled[later] = np.asarray(np.clip(light, 0, 255), np.uint8)
    step = _run(filled, [_hole()] * 7, sure=255)
    assert _error(step[2]) < 0.3 * 40 < 0.55 * 40 < _error(step[4])


def test_what_stands_beside_a_mask_is_not_smeared_into_the_next_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mask is seldom exact: the edge of what is removed stays and moves with it."""
    images, holes = [], []
    for i in range(4):
        hole = np.zeros((H, W), np.bool_)
        hole[20:44, 30 + 4 * i : 54 + 4 * i] = True
        image = _plate()
        image[20:44, 54 + 4 * i : 56 + 4 * i] = 255
        images.append(image)
        holes.append(hole)

    def left() -> float:
        done = _run(images, holes)[2][holes[2]]
        return float(np.abs(done.astype(np.float32) - _plate()[holes[2]]).mean())

    careful = left()
    monkeypatch.setattr(steady, "BESIDE", steady.TRUE)
    assert careful < 0.8 * left()


def test_frames_come_out_in_order_and_wait_no_longer_than_told() -> None:
    none = np.zeros((H, W), np.bool_)
    holes = [none, _hole(), _hole(), none, _hole(), _hole(), _hole(), none]
    passing = steady.Steadier(2, flow_side_px=480)
    came: list[int] = []
    for i, hole in enumerate(holes):
        given = Inpainted(Frame(_flickering(i), i, i, Fraction(1, 25)))
        for result in passing.take(given, hole):
            came.append(result.frame.index)
            if not holes[result.frame.index].any():
                assert np.array_equal(result.frame.image, _flickering(result.frame.index))
        assert i - len(came) + 1 <= 2
        assert len(passing.held) <= 2
    came += [result.frame.index for result in passing.finish()]
    assert came == list(range(8))


def test_a_frame_without_a_hole_is_handed_on_as_it_is() -> None:
    given = Inpainted(Frame(_flickering(0), 0, 0, Fraction(1, 25)))
    (result,) = steady.Steadier(2, flow_side_px=480).take(given, np.zeros((H, W), np.bool_))
    assert result is given


@pytest.mark.parametrize("size", [(7, 9), (1, 40)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    passing = steady.Steadier(2, flow_side_px=64)
    hole = np.zeros(size, np.bool_)
    hole[0, 2:5] = True
    done: list[Inpainted] = []
    for i in range(4):
        image = np.full((*size, 3), 100 + i, np.uint8)
        done += passing.take(Inpainted(Frame(image, i, i, Fraction(1, 25))), hole)
    done += passing.finish()
    assert len(done) == 4
    assert np.abs(np.stack([d.frame.image for d in done]).astype(int) - 101.5).max() < 3


def test_a_thing_that_comes_out_of_a_hole_is_put_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled with what is behind it, a hole would show the thing only where it has come out."""
    h, w = 96, 160
    rng = np.random.default_rng(4)

    def texture(low: int, high: int) -> Image:
        coarse = rng.integers(low, high, (h // 8, w // 8, 3), np.uint8)
        return np.asarray(cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC), np.uint8)

    plate, thing = texture(20, 110), texture(130, 250)
    hole = np.zeros((h, w), np.bool_)
    hole[24:72, 60:84] = True
    truths: list[Image] = []
    for i in range(8):
        left = 8 * i
        image = plate.copy()
        image[30:66, left : left + 52] = thing[30:66, :52]
        truths.append(image)
    filled = [np.where(hole[..., None], plate, truth) for truth in truths]
    out = np.zeros((h, w), np.bool_)
    out[34:62, 77:83] = True  # under the hole in one frame, beside it in the next

    def error() -> float:
        passing = steady.Steadier(steady.DELAY, flow_side_px=480)
        unsure = np.zeros((h, w), np.uint8)
        done: list[Inpainted] = []
        for i, image in enumerate(filled):
            given = Inpainted(Frame(image, i, i, Fraction(1, 25)), None, unsure)
            done += passing.take(given, hole)
        done += passing.finish()
        gaps = [
            np.abs(done[i].frame.image[out].astype(float) - truths[i][out]).mean() for i in (4, 5)
        ]
        return float(np.mean(gaps))

    followed = error()
    monkeypatch.setattr("inpainterz.inpaint.emerging.SLOW", 1e3)
    assert followed < 0.97 * error()


def test_the_way_back_is_kept_for_two_frames() -> None:
    """By it what goes under a hole is followed there."""
    passing = steady.Steadier(steady.DELAY, flow_side_px=480)
    for i in range(5):
        given = Inpainted(Frame(_flickering(i, 10 + 2 * i), i, i, Fraction(1, 25)))
        list(passing.take(given, _hole()))
        assert len(passing.ways) == min(i + 1, 2)
    way = passing.ways[-1]
    assert way.flow is not None and way.scene is not None
    # a pan to the right: what is here was 2 px further right in the frame before
    assert np.abs(np.median(way.flow[_hole()], axis=0) - [2, 0]).max() < 0.3
    assert np.abs(way.scene[0] - [2, 0]).max() < 0.3


@pytest.mark.parametrize(
    ("leads_back", "measured", "dark", "heard"),
    [
        (True, True, True, True),
        (False, True, True, False),
        (False, False, True, True),
        (False, True, False, True),
    ],
)
def test_what_comes_from_another_place_and_looks_unlike_the_fill_is_not_heard(
    leads_back: bool, measured: bool, dark: bool, heard: bool
) -> None:
    """A neighbour's word of a hole, to which no motion leads; there it moved by 8 pixels or not."""
    image, hole, zero = _plate(), _hole(), np.zeros((H, W, 2), np.float32)
    passing = steady.Steadier(0, flow_side_px=480)
    held = passing._prepared(Inpainted(Frame(image, 0, 0, Fraction(1, 25))), hole)
    neighbour = np.full_like(image, 10) if dark else np.roll(image, 1, 1)
    state = steady._State(neighbour, np.full((H, W), steady.TRUE, np.float32))
    home = zero if leads_back else zero + np.float32([8, 0])
    sure = np.full((H, W), measured)
    (word,) = steady._heard(state, held, steady._Way(zero, home, sure, held.covered, None))
    assert word is not None
    weight = word.weight[word.weight.shape[0] // 2, word.weight.shape[1] // 2]
    assert weight > 2 if heard else weight < 0.1
