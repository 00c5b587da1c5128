"""What comes out from under a hole goes as it does from there; nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest

from inpainterz.inpaint.blend import Floats
from inpainterz.inpaint.emerging import emerging, scene_motion
from inpainterz.types import Flow, Mask

H, W = 80, 120


def _zoom(at: float) -> Flow:
    """A camera that pans and zooms: (h, w, 2)."""
    y, x = np.indices((H, W), np.float32)
    return np.dstack([at + 0.02 * (x - 60), -1 + 0.02 * (y - 40)]).astype(np.float32)


def _hole(x0: int = 40, x1: int = 60) -> Mask:
    hole = np.zeros((H, W), np.bool_)
    hole[20:60, x0:x1] = True
    return hole


def _thing(x0: int, x1: int) -> Mask:
    thing = np.zeros((H, W), np.bool_)
    thing[30:50, x0:x1] = True
    return thing


def _put(flow: Flow, thing: Mask, motion: tuple[float, float]) -> Flow:
    return np.where(thing[..., None], np.array(motion, np.float32), flow).astype(np.float32)


def _scene(flow: Flow, usable: Mask) -> Floats:
    found = scene_motion(flow, usable)
    assert found is not None
    return found


def test_the_scene_is_what_most_follows() -> None:
    flow = _put(_zoom(3.0), _thing(20, 60), (-9.0, 4.0))
    y, x = np.indices((H, W), np.float32) / 100
    found = np.dstack([np.ones_like(x), x, y]) @ _scene(flow, ~_hole())
    assert np.abs(found - _zoom(3.0)).max() < 0.3
    assert scene_motion(flow, np.zeros((H, W), np.bool_)) is None


@pytest.mark.parametrize("pan", [0.0, 3.0])
def test_what_comes_out_is_followed_back_under_the_hole(pan: float) -> None:
    """A thing of 30 px passes to the right at 12 px a frame, on a camera that may turn between."""
    zero = np.zeros((H, W, 2), np.float32)
    now = zero + np.array([pan, 0], np.float32)
    there = _thing(38, 68)  # in this frame; the hole covers up to 60
    # this frame's flow knows what is seen of it, and takes the hole for the scene
    flow = _put(now, np.asarray(there & ~_hole()), (12 + pan, 0))
    ahead = _put(zero, _thing(50 + int(pan), 80 + int(pan)), (12, 0))
    scenes = _scene(flow, ~_hole()), _scene(ahead, ~_hole())
    done, told = emerging(flow, _hole(), scenes[0], ahead, _hole(), scenes[1], _hole())
    out = _thing(52, 60)  # at 61 or later in the next frame
    assert np.abs(done[out] - [12 + pan, 0]).max() < 0.5
    assert told[out].mean() > 0.9
    assert np.array_equal(done[~_hole()], flow[~_hole()])
    assert not told[~_hole()].any()
    above = _hole() & (np.indices((H, W))[0] < 26)
    assert np.array_equal(done[above], flow[above])


def test_what_is_seen_of_a_thing_in_both_frames_mends_its_motion() -> None:
    """It moves on at 12 px, but came by 8: the part beside the hole says so."""
    zero = np.zeros((H, W, 2), np.float32)
    flow = _put(zero, _thing(60, 78), (8, 0))
    ahead = _put(zero, _thing(56, 86), (12, 0))
    scenes = _scene(flow, ~_hole()), _scene(ahead, ~_hole())
    done, _ = emerging(flow, _hole(), scenes[0], ahead, _hole(), scenes[1], _hole())
    assert np.abs(np.median(done[_thing(55, 59)], axis=0) - [8, 0]).max() < 2
    blind, _ = emerging(zero, _hole(), scenes[0], ahead, _hole(), scenes[1], _hole())
    assert np.abs(np.median(blind[_thing(55, 59)], axis=0) - [8, 0]).max() > 2


def test_nothing_is_told_by_what_hides_again_or_stands_still() -> None:
    zero = np.zeros((H, W, 2), np.float32)
    hidden = _hole(60, 120)
    moving = _put(zero, _thing(50, 80), (12, 0))
    scenes = _scene(zero, ~_hole()), _scene(moving, ~_hole())
    for ahead, after in ((moving, hidden), (zero, _hole())):
        done, told = emerging(zero, _hole(), scenes[0], ahead, _hole(), scenes[1], after)
        assert np.array_equal(done, zero)
        assert not told.any()
