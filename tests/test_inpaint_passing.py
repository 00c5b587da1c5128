"""What passes before the scene, and what was invented beside it, in the built-in inpainter."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np

from inpainterz.inpaint import background, pairs, passing
from inpainterz.inpaint.choose import Choice
from inpainterz.inpaint.layer import Carried, Layer, refill
from inpainterz.types import Frame, Image, Mask

H, W = 96, 128
LEAPER = np.s_[30:60, 40:90]


def _scene(seed: int = 5) -> Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 200, (H // 8, W // 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (W, H), interpolation=cv2.INTER_CUBIC), np.uint8)


def _fur(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    return np.asarray(cv2.resize(rng.choice([0, 255], (10, 16, 3)).astype(np.uint8), (50, 30)))


def _free(shape: tuple[int, int] = (H, W)) -> Image:
    return np.ones(shape, np.uint8)


def test_what_only_one_frame_shows_passes() -> None:
    here = _scene()
    here[LEAPER] = _fur(1)
    others = [(_scene(), _free()) for _ in range(4)]
    found = passing.passing(here, _free(), others)
    assert found[LEAPER].mean() > 0.8
    found[25:65, 35:95] = False
    assert not found.any()


def test_brighter_light_does_not_pass() -> None:
    here = np.asarray(cv2.add(_scene(), (30, 30, 30, 0)), np.uint8)
    others = [(_scene(), _free()) for _ in range(4)]
    assert not passing.passing(here, _free(), others).any()


def test_what_agrees_with_nothing_does_not_pass() -> None:
    """Leaves and water: the others do not agree either."""
    here = _scene()
    here[LEAPER] = _fur(1)
    others = []
    for seed in range(2, 6):
        picture = _scene()
        picture[LEAPER] = _fur(seed)
        others.append((picture, _free()))
    assert passing.passing(here, _free(), others)[LEAPER].mean() < 0.1


def test_what_half_of_the_others_show_does_not_pass() -> None:
    """Somebody who stands for a while hides the scene as he is uncovered by those who walk on."""
    here = _scene()
    here[LEAPER] = _fur(1)
    others = [(picture, _free()) for picture in (here, here, _scene(), _scene())]
    assert not passing.passing(here, _free(), others).any()


def test_holes_are_not_compared() -> None:
    here = _scene()
    here[LEAPER] = 128
    free = _free()
    free[LEAPER] = 0
    others = [(_scene(), _free()) for _ in range(4)]
    assert not passing.passing(here, free, others).any()
    assert not passing.passing(here, _free(), [(_scene(), free)] * 4).any()


def test_a_piece_is_whole_where_part_of_it_moves() -> None:
    found = np.zeros((H, W), np.bool_)
    found[10:30, 10:30] = found[10:30, 60:80] = found[70, 70] = True
    found[20, 10:30] = False  # a gap
    moves = np.zeros_like(found)
    moves[10:18, 10:30] = moves[70, 70] = True
    whole = passing.whole(found, moves)
    assert whole[10:30, 10:30].all()
    assert not whole[:, 40:].any()


def test_what_leaps_is_seen_as_a_whole_though_no_flow_follows_it() -> None:
    neighbours = pairs.Neighbours((H, W), 480)
    window = background.Window((H, W), 480)
    lag = max(passing.LAGS)

    def show(i: int) -> tuple[int, int]:
        image = _scene()
        # it leaps farther than any flow can tell and turns meanwhile
        y, x = (10 + 37 * i) % 60, (8 + 53 * i) % 72
        image[y : y + 30, x : x + 50] = _fur(i)
        window.take(
            neighbours.record(Frame(image, i, i, Fraction(1, 25)), np.zeros((H, W), np.bool_), 3)
        )
        return y, x

    y, x = [show(i) for i in range(2 * lag)][lag]
    body = np.zeros((H, W), np.bool_)
    body[y : y + 30, x : x + 50] = True
    by_flow = window.moving(lag) > 0
    show(2 * lag)
    seen = window.moving(lag) > 0
    assert seen[body].mean() > 0.9
    assert seen[body].mean() > by_flow[body].mean() + 0.1
    assert seen[~body].mean() < 0.15


def _choice(pixels: Image) -> Choice:
    return Choice(pixels.astype(np.float32), np.zeros(pixels.shape[:2], np.float32))


def _refilled(now: Image, hole: Mask, before: Image) -> Image:
    """Refill a hole of a layer that showed `before`, where no other frame shows it."""
    layer = Layer(1, now.copy(), np.asarray(~hole), np.zeros(hole.shape, np.float32))
    carried = Carried(
        before.astype(np.float32), np.ones(hole.shape, np.bool_), np.zeros(hole.shape, np.float32)
    )
    box = background.Box(0, 0, hole.shape[1], hole.shape[0])
    return np.clip(refill(layer, box, hole, hole, _choice(now), carried), 0, 255).astype(np.uint8)


def _hole() -> Mask:
    hole = np.zeros((H, W), np.bool_)
    hole[30:60, 40:70] = True
    return hole


def _sky(level: int = 180) -> Image:
    rng = np.random.default_rng(2)
    return np.asarray(np.clip(level + rng.normal(0, 3, (H, W, 3)), 0, 255), np.uint8)


def test_what_was_invented_stays() -> None:
    before = _sky()
    before[_hole()] = np.clip(before[_hole()].astype(np.int16) + 8, 0, 255)
    done = _refilled(_sky(), _hole(), before)
    assert np.abs(done[_hole()].astype(np.int16) - before[_hole()]).mean() < 2


def test_what_was_invented_of_something_goes_when_that_goes() -> None:
    """A dark wall beside the hole is gone: what was made of it may not stay."""
    before = _sky()
    before[:, :64] = 40
    done = _refilled(_sky(), _hole(), before)
    assert np.abs(done[_hole()].astype(np.int16) - 180).mean() < 6


def test_a_dark_tuft_does_not_stay_in_the_sky() -> None:
    before = _sky()
    before[40:50, 50:60] = 30
    done = _refilled(_sky(), _hole(), before)
    assert np.abs(done[_hole()].astype(np.int16) - 180).max() < 40


def test_what_varies_as_its_surroundings_do_stays() -> None:
    rng = np.random.default_rng(3)
    meadow = np.asarray(rng.integers(20, 140, (H, W, 3)), np.uint8)
    before = meadow.copy()
    before[40:50, 50:60] = np.clip(before[40:50, 50:60].astype(np.int16) + 25, 0, 255)
    done = _refilled(meadow, _hole(), before)
    assert np.abs(done[_hole()].astype(np.int16) - before[_hole()]).mean() < 2
