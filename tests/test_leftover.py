"""A mask that lacks a part of a moving object is completed; nothing else is added to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from clips import texture

from inpainterz.leftover import LOOKAHEAD, Completed, Ghost, Place, boxed, complete, lasting
from inpainterz.leftover.around import Judged, agreed
from inpainterz.leftover.compared import Camera, reduced
from inpainterz.leftover.shade import AROUND, Shadows
from inpainterz.types import Frame, Image, Mask

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
    plate = texture(SIZE[0], SIZE[1] + round(max(1.0, pan) * COUNT), 3, 30, 220)
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
    for done in complete(items):
        frame, mask = done.frame, done.mask
        whole, body = _walker(frame.index)
        assert mask[body].all()
        missed += (whole & ~mask).sum() / (whole & ~body).sum() / COUNT
        spilled += (mask & ~whole).sum() / whole.sum() / COUNT
    assert missed < 0.3  # its rim, which growing covers
    assert spilled < 0.05


def test_the_foot_is_added_where_the_camera_pans_fast() -> None:
    nothing = np.zeros(SIZE, bool)
    missed = []
    for done in complete((f, _walker(f.index)[1], nothing) for f in _frames(pan=4.0)):
        whole, body = _walker(done.frame.index)
        missed.append((whole & ~done.mask).sum() / (whole & ~body).sum())
    # near the ends of the clip hardly any other frame shows the spot
    assert max(missed[10:-10]) < 0.4


def test_the_camera_is_followed_from_frame_to_frame_and_over_gaps() -> None:
    nothing = np.zeros(SIZE, np.uint8)
    shown = [f for f in _frames(pan=4.0) if f.index not in (11, 12)]
    small = [reduced(frame, nothing) for frame in shown]
    for one, other in ((0, 22), (22, 0), (5, 5)):
        camera = Camera()
        camera.go_on(small)
        off = np.zeros(SIZE, bool)
        matrix = camera.between(small[one], small[other], (off, off))
        assert matrix is not None
        moved = cv2.perspectiveTransform(np.array([[[100.0, 60.0]]]), matrix)[0, 0]
        passed = shown[other].index - shown[one].index
        assert np.allclose(moved, (100 - 4 * passed, 60), atol=0.5)


@pytest.mark.parametrize("pan", [0.0, 0.8])
def test_a_foot_of_a_colour_that_the_ground_has_is_added(pan: float) -> None:
    """The ground is as dark two pixels further; only where the picture is aligned well it shows."""
    nothing = np.zeros(SIZE, bool)
    items = []
    for frame in _frames(pan=pan):
        whole, body = _walker(frame.index)
        foot = whole & ~body
        frame.image[foot] = (125, 125, 125)
        items.append((frame, body, nothing))
    missed, spilled = [], []
    for done in complete(items):
        whole, body = _walker(done.frame.index)
        missed.append((whole & ~done.mask).sum() / (whole & ~body).sum())
        spilled.append((done.mask & ~whole).sum() / whole.sum())
    assert np.mean(missed) < 0.45
    assert np.mean(spilled) < 0.05


def test_another_one_of_the_same_colour_that_passed_there_does_not_hide_the_foot() -> None:
    """It came the other way: in one of the frames compared it stands where the foot is now."""
    nothing = np.zeros(SIZE, bool)
    items = []
    for frame in _frames():
        x = 190 - 3 * frame.index
        if x > 0:
            frame.image[74:96, x : x + 16] = (200, 30, 120)
        items.append((frame, _walker(frame.index)[1], nothing))
    missed = []
    for done in complete(items):
        whole, body = _walker(done.frame.index)
        if 10 <= abs(60 - 2 * done.frame.index) <= 24:
            missed.append((whole & ~done.mask).sum() / (whole & ~body).sum())
    assert len(missed) > 10
    assert np.mean(missed) < 0.5


def test_another_one_that_passes_behind_is_left_alone() -> None:
    nothing = np.zeros(SIZE, bool)
    plate = texture(*SIZE, 3, 30, 220)
    items, others = [], []
    for i in range(COUNT):
        image, other, body = plate.copy(), np.zeros(SIZE, bool), _walker(i)[1]
        x = 200 - 4 * i
        other[16:86, max(0, x) : max(0, x + 24)] = True
        image[other] = (20, 160, 60)
        image[body] = (200, 30, 120)
        items.append((Frame(image, i, i, Fraction(1, 25)), body, nothing))
        others.append(other & ~body)
    touched = 0
    for done in complete(items):
        body, other = items[done.frame.index][1], others[done.frame.index]
        assert done.mask[body].all()
        if other.sum() > 0.25 * body.sum():  # less may be a limb
            assert (done.mask & other).sum() < 0.15 * other.sum()
            rim = cv2.dilate(body.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            touched += int((rim & other).any())
    assert touched > 5


def _painted(image: Image, at: tuple[int, int], patch: Image) -> Mask:
    """Put a patch into a picture at (x, y); where it is."""
    x, y = at
    where = np.zeros(SIZE, bool)
    x0, x1 = max(0, x), max(0, min(SIZE[1], x + patch.shape[1]))
    where[y : y + patch.shape[0], x0:x1] = True
    image[where] = patch[:, x0 - x : max(0, x1 - x)].reshape(-1, 3)
    return where


@pytest.mark.parametrize("row", [82, 106])
def test_a_shoe_seen_apart_from_the_body_is_added_where_one_frame_lacks_it(row: int) -> None:
    """Frames before and after show whose it is: it touches the mask in none, and may be far off."""
    nothing = np.zeros(SIZE, bool)
    plate, coat, shoe = texture(*SIZE, 3, 30, 220), texture(56, 24, 5, 0, 90), texture(12, 22, 6)
    items, shoes = [], []
    for i in range(COUNT):
        image = plate.copy()
        body = _painted(image, (10 + 3 * i, 20), coat)
        shoes.append(_painted(image, (12 + 3 * i, row), shoe))
        mask = body if i == 24 or (i == 25 and row == 82) else body | shoes[i]
        items.append((Frame(image, i, i, Fraction(1, 25)), mask, nothing))
    for done in complete(items):
        i = done.frame.index
        assert (done.mask & shoes[i]).sum() > 0.7 * shoes[i].sum()
        assert (done.mask & ~items[i][1] & ~shoes[i]).sum() < 0.2 * shoes[i].sum()


def test_another_one_that_touches_it_at_the_very_start_is_left_alone() -> None:
    """Nothing is remembered yet that would tell him from a part of the object."""
    nothing = np.zeros(SIZE, bool)
    plate, coat, jumper = texture(*SIZE, 3, 30, 220), texture(60, 24, 5), texture(66, 24, 6)
    items, others = [], []
    for i in range(COUNT):
        image = plate.copy()
        other = _painted(image, (44 - 4 * i, 30), jumper)
        body = _painted(image, (20 + 3 * i, 20), coat)
        items.append((Frame(image, i, i, Fraction(1, 25)), body, nothing))
        others.append(other & ~body)
    touched = 0
    for done in complete(items):
        i = done.frame.index
        body, other = items[i][1], others[i]
        assert done.mask[body].all()
        if other.sum() > 0.25 * body.sum():
            assert (done.mask & other).sum() < 0.2 * other.sum()
            rim = cv2.dilate(body.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            touched += int((rim & other).any())
    assert touched > 3


def test_what_one_frame_took_in_of_another_one_is_left_out_again() -> None:
    """The frames around show him apart from the body."""
    plate, coat, jumper = texture(*SIZE, 3, 30, 220), texture(60, 24, 5), texture(66, 24, 6)
    nothing = np.zeros(SIZE, bool)
    judged, others = [], []
    for i in range(20):
        image = plate.copy()
        other = _painted(image, (146 - 5 * i, 30), jumper)
        body = _painted(image, (20 + 3 * i, 20), coat)
        small = reduced(Frame(image, i, i, Fraction(1, 25)), body.astype(np.uint8))
        known = body | other if i == 13 else body  # they touch
        near = cv2.dilate(known.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0
        judged.append(Judged(small, known, body | other, nothing, near, 8, False))
        others.append(other & ~body)
    for (done, i), before in zip(agreed(zip(judged, range(20), strict=True)), judged, strict=True):
        assert done is not None
        assert done.known[before.small.mask].all()
        assert (done.known & others[i]).sum() < 0.1 * others[i].sum()


def test_a_mask_of_the_head_alone_has_a_ghost_and_its_box_holds_all() -> None:
    items = []
    for frame in _frames(pan=0.8):
        head = _walker(frame.index)[0]
        head[34:] = False
        stays = np.zeros(SIZE, bool)
        stays[:, :14] = True
        items.append((frame, head, stays))
    told: set[int] = set()
    covered = 0
    for done in boxed(_noted(complete(items), told)):
        whole = _walker(done.frame.index)[0] & ~items[done.frame.index][2]
        covered += (done.mask & whole).sum() > 0.97 * whole.sum()
        assert done.mask.sum() < 2.5 * whole.sum()
        assert not (done.mask & ~items[done.frame.index][1])[:, :14].any()
    assert len(told) > 0.8 * COUNT
    assert covered > 0.95 * COUNT  # also where the ghost was not seen


def _noted(items: Iterable[Completed], told: set[int]) -> Iterator[Completed]:
    for item in items:
        if item.ghosts:
            told.add(item.frame.index)
        yield item


def test_a_box_is_what_most_frames_around_say() -> None:
    image, mask = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), bool)
    mask[10:20, 10:20] = True
    far, near = (30.0, 0.0, 0.0, 0.0), (2.0, 0.0, 0.0, 5.0)
    place = Place(1, (10.0, 10.0, 20.0, 20.0))
    ghosts = {5: far, 40: near, 42: near, 44: far, 60: near, 61: near, 62: near}
    items = [
        Completed(
            Frame(image, i, i, Fraction(1), int(i >= 61)),
            mask,
            ~mask & (np.arange(60) < 9),
            (place, Place(1, (50.0, 10.0, 58.0, 20.0))),
            (Ghost(place, ghosts[i]),) if i in ghosts else (),
        )
        for i in range(80)
    ]
    done = list(boxed(items))
    assert [d.frame.index for d in done] == list(range(80))
    larger = [i for i, d in enumerate(done) if not np.array_equal(d.mask, mask)]
    # neither around one alone, nor over the cut, nor where another part of the object is
    assert larger == list(range(36, 49))
    box = np.zeros_like(mask)
    box[10:25, 9:20] = True  # what must stay is not in it
    assert np.array_equal(done[41].mask, box)
    assert lasting(ghosts) == (40, 42, 44, 60, 61, 62)
    assert lasting(()) == ()


def test_a_walker_that_was_lost_for_some_frames_is_found() -> None:
    nothing = np.zeros(SIZE, bool)
    lost = range(20, 29)
    items = [(f, nothing if f.index in lost else _walker(f.index)[0], nothing) for f in _frames()]
    for done in complete((f, m.astype(np.uint8), keep) for f, m, keep in items):
        frame, mask = done.frame, done.mask
        whole = _walker(frame.index)[0]
        if frame.index in lost:
            assert (mask & whole).sum() / (mask | whole).sum() > 0.6
        else:
            assert not done.ghosts  # a whole mask has none


def test_what_one_frame_lacks_is_taken_from_those_beside_it() -> None:
    """So much of it lies around the mask that the surroundings tell nothing."""
    nothing = np.zeros(SIZE, bool)
    plate = texture(*SIZE, 3, 30, 220)
    items, truth = [], []
    for i in range(COUNT):
        image, body = plate.copy(), np.zeros(SIZE, bool)
        x = 10 + 2 * i
        body[10:80, x + 8 : x + 32] = True
        whole = body.copy()
        whole[80:96, x : x + 40] = True
        image[whole] = (200, 30, 120)
        truth.append(whole)
        items.append((Frame(image, i, i, Fraction(1, 25)), body if i == 25 else whole, nothing))
    done = list(complete(items))[25].mask
    assert (done & truth[25]).sum() > 0.95 * truth[25].sum()
    assert (done & ~truth[25]).sum() < 0.05 * truth[25].sum()


def test_a_walker_that_left_is_not_looked_for() -> None:
    nothing = np.zeros(SIZE, bool)
    items = [
        (f, (_walker(f.index)[0] if f.index < 25 else nothing).astype(np.uint8), nothing)
        for f in _frames()
    ]
    assert not any(done.mask.any() for done in complete(items) if done.frame.index >= 25)


def test_what_stands_still_gets_nothing() -> None:
    nothing = np.zeros(SIZE, bool)
    items = [(f, _walker(0)[1], nothing) for f in _frames(speed=0)]
    for done in complete(items):
        assert np.array_equal(done.mask, _walker(0)[1])
        assert not done.ghosts


def test_what_must_stay_stays() -> None:
    items = []
    for frame in _frames():
        whole, body = _walker(frame.index)
        items.append((frame, body, whole & ~body))
    for done in complete(items):
        frame, mask = done.frame, done.mask
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

    for i, done in enumerate(complete(items())):
        assert done.frame.index == i
        assert taken <= min(COUNT, i + LOOKAHEAD + 1)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 47)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    mask = np.zeros(size, bool)
    mask[0, 0] = True
    items = [(Frame(image, i, i, Fraction(1)), mask, ~mask) for i in range(3)]
    assert [done.frame.index for done in complete(items)] == [0, 1, 2]


def _in_its_shadow(depth: float, *, flicker: float = 0.0) -> list[Frame]:
    """A walker under whom the ground is darker by up to `depth` levels, less further away."""
    plate = texture(SIZE[0], SIZE[1], 3, 90, 160).astype(np.float32)
    noise = np.random.default_rng(5)
    frames = []
    for i in range(COUNT):
        image = plate + noise.normal(0, 2, plate.shape) + flicker * np.sin(i)
        image -= _darker(i, depth)[..., None]
        image[_walker(i)[0]] = (200, 30, 120)
        levels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        frames.append(Frame(levels, i, i, Fraction(1, 25)))
    return frames


def _darker(i: int, depth: float) -> npt.NDArray[np.float32]:
    """(h, w) levels, none above the knees."""
    away = cv2.distanceTransform(1 - _walker(i)[0].astype(np.uint8), cv2.DIST_L2, 3)
    below = np.clip((np.arange(SIZE[0], dtype=np.float32) - 60) / 10, 0, 1)[:, None]
    return np.asarray(depth * np.clip(1 - away / 20, 0, 1) * below, np.float32)


def _shade(frames: list[Frame]) -> Iterator[tuple[int, Mask]]:
    nothing = np.zeros(SIZE, bool)
    for done in complete((f, _walker(f.index)[0].astype(np.uint8), nothing) for f in frames):
        yield done.frame.index, nothing if done.shade is None else done.shade


@pytest.mark.parametrize("flicker", [0.0, 4.0])
def test_the_soft_shadow_around_a_walker_is_found(flicker: float) -> None:
    found = spilled = 0.0
    for i, shade in _shade(_in_its_shadow(12.0, flicker=flicker)):
        darker = _darker(i, 12.0)
        # growing covers what is closer
        beside = (darker > 4) & (cv2.dilate(_walker(i)[0].astype(np.uint8), np.ones((9, 9))) == 0)
        found += (shade & beside).sum() / beside.sum() / COUNT
        spilled += (shade & (darker < 0.5)).sum() / beside.sum() / COUNT
    assert found > 0.75
    assert spilled < 0.1


def test_grain_and_flicker_are_no_shadow() -> None:
    taken = [shade.mean() for _, shade in _shade(_in_its_shadow(0.0, flicker=4.0))]
    assert float(np.mean(taken)) < 0.002


def test_the_shadow_of_a_walker_that_goes_spares_what_must_stay() -> None:
    stays = np.zeros(SIZE, bool)
    stays[70:] = True
    items = ((f, _walker(f.index)[0].astype(np.uint8), stays) for f in _in_its_shadow(12.0))
    taken = [done.shade for done in complete(items) if done.shade is not None]
    assert taken
    assert not any((shade & stays).any() for shade in taken)


def test_a_passer_by_who_stands_in_the_shadow_is_no_part_of_it() -> None:
    frames, others = [], []
    for frame in _in_its_shadow(12.0):
        other = np.zeros(SIZE, bool)
        x = 170 - 3 * frame.index
        other[94:112, max(0, x) : max(0, x + 14)] = True
        image = frame.image.copy()
        image[other] = (20, 60, 160)
        frames.append(Frame(image, frame.index, frame.pts, frame.time_base))
        others.append(other)
    near = 0
    for i, shade in _shade(frames):
        near += int((_darker(i, 12.0)[others[i]] > 4).any())
        assert not (shade & others[i]).any()
    assert near > 5


def test_a_shadow_that_is_there_for_a_moment_is_none() -> None:
    sizes = (
        [0.0] * 8 + [2.0] + [0.0] * 4 + [1.0, 1.2, 0.9, 1.4, 1.1, 1.0, 1.3, 4.0] + [1.0, 1.2] * 3
    )
    shadows, lasting = Shadows(), []
    blank = reduced(Frame(np.zeros((40, 40, 3), np.uint8), 0, 0, Fraction(1)), np.zeros((40, 40)))
    for i, size in enumerate(sizes):
        shadows.note(replace(blank, index=i, shot=i // 13), size)
        if i >= AROUND:
            lasting.append(shadows.lasts(i - AROUND))
    moments = [i for i, size in enumerate(sizes[: len(lasting)]) if size in (2.0, 4.0)]
    assert moments == [8, 20]
    assert [i for i, lasts in enumerate(lasting) if not lasts] == moments


def test_one_other_frame_that_shows_the_spot_is_enough() -> None:
    nothing = np.zeros(SIZE, bool)
    items = [(f, _walker(f.index, speed=1.2)[1], nothing) for f in _frames(speed=1.2)]
    first = next(complete(items))
    whole, body = _walker(0, speed=1.2)
    # of the frames to come the near ones hide most of the foot
    assert (whole & ~first.mask).sum() < 0.4 * (whole & ~body).sum()
