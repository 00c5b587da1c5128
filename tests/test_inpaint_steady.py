"""The fill's last step: neighbouring fills agree, true pixels stay, frames keep their order."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from inpainterz.inpaint import steady
from inpainterz.inpaint.background import Box
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


@pytest.mark.parametrize("pan", [0, 2])
def test_flicker_is_averaged_along_the_motion(pan: int) -> None:
    made = [_flickering(seed, 10 + pan * seed) for seed in range(5)]
    around = [(made[i], _hole()) for i in (0, 1, 3, 4)]
    done = steady.steadied(made[2], _hole(), around, [Box(16, 4, 80, 60)], flow_side_px=480)
    shift = 10 + 2 * pan
    assert _error(done, shift) < 0.65 * _error(made[2], shift)
    assert np.array_equal(done[~_hole()], made[2][~_hole()])


def test_true_pixels_count_more_than_filled_ones() -> None:
    wrong, free = _flickering(1), np.zeros((H, W), np.bool_)
    box = [Box(16, 4, 80, 60)]
    by_filled = steady.steadied(wrong, _hole(), [(_plate(), _hole())], box, flow_side_px=480)
    by_true = steady.steadied(wrong, _hole(), [(_plate(), free)], box, flow_side_px=480)
    assert _error(by_true) < 0.8 * _error(by_filled) < _error(wrong)


def test_what_is_sure_stays() -> None:
    wrong, strength = _flickering(1), np.zeros((H, W), np.float32)
    done = steady.steadied(
        wrong,
        _hole(),
        [(_plate(), _hole())],
        [Box(16, 4, 80, 60)],
        flow_side_px=480,
        strength=strength,
    )
    assert np.array_equal(done, wrong)


def _result(i: int, hole: Mask) -> tuple[Inpainted, Mask]:
    return Inpainted(Frame(_flickering(i), i, i, Fraction(1, 25))), hole


def test_frames_come_out_in_order_and_wait_no_longer_than_told() -> None:
    none = np.zeros((H, W), np.bool_)
    holes = [none, _hole(), _hole(), none, _hole(), _hole()]
    passing = steady.Steadier(2, margin_px=16, flow_side_px=480)
    came: list[int] = []
    for i, hole in enumerate(holes):
        given = _result(i, hole)
        for result, its in passing.take(*given):
            came.append(result.frame.index)
            assert its is holes[result.frame.index]
            if not its.any():
                assert np.array_equal(result.frame.image, _flickering(result.frame.index))
        assert i - len(came) + 1 <= 2
        assert len(passing.held) <= 2 * steady.REACH + 1
    came += [result.frame.index for result, _ in passing.finish()]
    assert came == list(range(6))
    assert next(iter(steady.Steadier(2, margin_px=16, flow_side_px=480).take(*_result(0, none))))


def test_a_frame_without_a_hole_is_handed_on_as_it_is() -> None:
    given = _result(0, np.zeros((H, W), np.bool_))
    ((result, _),) = steady.Steadier(2, margin_px=16, flow_side_px=480).take(*given)
    assert result is given[0]
