"""The built-in inpainter against scenes whose background is known, and the rooms beside it.

That it keeps what every engine promises is held in test_engines.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction

import cv2
import numpy as np
import pytest

from inpainterz import motion
from inpainterz.errors import InputError, OptionError
from inpainterz.inpaint import apart, background, blend, builtin, movers, pairs, patches, seen
from inpainterz.inpaint.blend import Floats
from inpainterz.inpaint.builtin import BuiltinInpainter, Options, create
from inpainterz.types import Frame, Image, Inpainted, Mask, Origin

H, W = 72, 112


def _world(seed: int = 3) -> Image:
    """A plate larger than the frame, textured at every scale."""
    rng = np.random.default_rng(seed)
    world = np.zeros((H + 40, W + 80, 3), np.float32)
    for cell, weight in ((24, 0.5), (9, 0.3), (4, 0.2)):
        coarse = rng.random((world.shape[0] // cell + 2, world.shape[1] // cell + 2, 3), np.float32)
        size = (world.shape[1], world.shape[0])
        world += weight * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(255 * world, 0, 255).astype(np.uint8)


def _plate(i: int, pan: float) -> Image:
    """What frame i shows without the object: the world seen by a camera that pans."""
    shift = np.array([[1, 0, 10 + pan * i], [0, 1, 10]], np.float64)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(_world(), shift, (W, H), flags=flags), np.uint8)


def _clip(
    count: int,
    pan: float = 0.0,
    hole: Callable[[int], tuple[int, int]] = lambda i: (6 + 4 * i, 24),
    gain: Callable[[int], float] = lambda i: 1.0,
) -> tuple[list[tuple[Frame, Mask]], list[Image]]:
    """Frames with a grey 20 px square at `hole(i)` (x, y), their masks, and the truth."""
    frames, truth = [], []
    for i in range(count):
        plate = np.clip(_plate(i, pan) * gain(i), 0, 255).astype(np.uint8)
        mask = np.zeros((H, W), np.bool_)
        x, y = hole(i)
        mask[y : y + 20, x : x + 20] = True
        image = plate.copy()
        image[mask] = 128
        frames.append((Frame(image, i, i, Fraction(1, 25)), mask))
        truth.append(plate)
    return frames, truth


def _psnr(done: list[Inpainted], clip: list[tuple[Frame, Mask]], truth: list[Image]) -> float:
    values = []
    for result, (_, mask), plate in zip(done, clip, truth, strict=True):
        error = (result.frame.image[mask].astype(np.float64) - plate[mask]) ** 2
        values.append(10 * np.log10(255**2 / max(error.mean(), 0.01)))
    return float(np.mean(values))


def _telea(clip: list[tuple[Frame, Mask]]) -> list[Inpainted]:
    return [
        Inpainted(
            Frame(
                cv2.inpaint(f.image, m.astype(np.uint8), 5, cv2.INPAINT_TELEA),
                f.index,
                f.pts,
                f.time_base,
            )
        )
        for f, m in clip
    ]


@pytest.fixture(scope="module")
def engine() -> BuiltinInpainter:
    return create(Options())


def test_a_locked_camera_gives_the_plate_back(engine: BuiltinInpainter) -> None:
    clip, truth = _clip(18)
    done = list(engine.inpaint(clip))
    assert _psnr(done, clip, truth) > 40
    origins = [r.origin[m] for r, (_, m) in zip(done, clip, strict=True) if r.origin is not None]
    assert np.concatenate(origins).tolist().count(Origin.SEEN) > 0.95 * sum(map(len, origins))


def test_a_pan_is_followed_to_where_the_spot_is_free(engine: BuiltinInpainter) -> None:
    clip, truth = _clip(20, pan=2.5, hole=lambda i: (46, 26))
    done = list(engine.inpaint(clip))
    assert _psnr(done, clip, truth) > 26
    assert _psnr(done, clip, truth) > _psnr(_telea(clip), clip, truth) + 6


def test_a_change_of_exposure_is_made_up_for(engine: BuiltinInpainter) -> None:
    clip, truth = _clip(16, hole=lambda i: (6 + 5 * i, 24), gain=lambda i: 1.0 - 0.012 * i)
    assert _psnr(list(engine.inpaint(clip)), clip, truth) > 34


def test_another_passer_by_is_not_taken_for_background(engine: BuiltinInpainter) -> None:
    clip, truth = _clip(24, hole=lambda i: (4 + 3 * i, 24))
    passing = []
    for i, (frame, mask) in enumerate(clip):
        image = frame.image.copy()
        x = 70 - 3 * i  # crosses the hole's way in the other direction
        there = np.zeros_like(mask)
        there[28:40, max(0, x) : max(0, x + 10)] = True
        image[there & ~mask] = (250, 240, 30)
        truth[i][there] = (250, 240, 30)
        passing.append((Frame(image, i, i, Fraction(1, 25)), mask))
    done = list(engine.inpaint(passing))
    for i, (result, (_, mask)) in enumerate(zip(done, passing, strict=True)):
        image = result.frame.image.astype(int)
        yellow = mask & (image[..., 0] > 225) & (image[..., 1] > 215) & (image[..., 2] < 70)
        alien = yellow & ~(truth[i] == (250, 240, 30)).all(-1)
        assert alien.sum() < 0.12 * mask.sum(), f"frame {i}: the passer-by was smeared"


def test_what_no_frame_shows_is_said_and_stays_still(engine: BuiltinInpainter) -> None:
    clip, _ = _clip(8, hole=lambda i: (50, 30))
    done = list(engine.inpaint(clip))
    mask = clip[0][1]
    for result in done:
        assert result.origin is not None and result.confidence is not None
        assert (result.origin[mask] == Origin.INVENTED).all()
        assert result.confidence[mask].max() < 128
        assert (result.origin[~mask] == Origin.KEPT).all()
    fills = np.stack([r.frame.image[mask] for r in done]).astype(int)
    assert np.abs(np.diff(fills, axis=0)).mean() < 1.0
    assert fills.std() > 0


def test_a_hole_that_is_the_whole_picture_gives_something(engine: BuiltinInpainter) -> None:
    frames = [
        (Frame(np.full((20, 30, 3), 90, np.uint8), i, i, Fraction(1, 25)), np.ones((20, 30), bool))
        for i in range(3)
    ]
    done = list(engine.inpaint(frames))
    assert [r.frame.image.shape for r in done] == [(20, 30, 3)] * 3
    assert all(r.frame.image.std() == 0 for r in done)


def test_one_frame_is_filled_from_around() -> None:
    clip, truth = _clip(1, hole=lambda i: (40, 20))
    (done,) = create(Options()).inpaint(clip)
    assert 0 < np.abs(done.frame.image[clip[0][1]].astype(int) - truth[0][clip[0][1]]).mean() < 60


def test_memory_bounds_the_window() -> None:
    engine = create(Options(memory_mb=16, lookahead_frames=500, reach_frames=500))
    big = np.zeros((600, 800, 3), np.uint8)
    taken = 0

    def frames() -> list[tuple[Frame, Mask]]:
        return []

    assert list(engine.inpaint(frames())) == []

    def counted():  # type: ignore[no-untyped-def]
        nonlocal taken
        hole = np.zeros((600, 800), np.bool_)
        hole[100:110, 100:110] = True
        for i in range(12):
            taken += 1
            yield Frame(big, i, i, Fraction(1, 25)), hole

    first = next(iter(engine.inpaint(counted())))
    assert first.frame.index == 0
    assert taken < 12, "16 MiB hold only a few frames of this size"


@pytest.mark.parametrize("ahead", [0, 1, 2, 30])
def test_every_frame_comes_out_whatever_the_lookahead(ahead: int) -> None:
    engine = create(Options(lookahead_frames=ahead, reach_frames=30))
    frames, truth = _clip(12)
    taken = 0

    def source() -> Iterator[tuple[Frame, Mask]]:
        nonlocal taken
        for pair in frames:
            taken += 1
            yield pair

    results = []
    for i, result in enumerate(engine.inpaint(source())):
        assert taken <= i + engine.lookahead + 1
        results.append(result)
    assert [r.frame.index for r in results] == list(range(12))
    assert _psnr(results[-4:], frames[-4:], truth[-4:]) > 25


def test_a_fill_that_is_given_up_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    results = create(Options()).inpaint(iter(_clip(12)[0]))
    next(results)
    assert isinstance(results, Generator)
    results.close()
    assert set(threading.enumerate()) <= before


def test_a_strip_between_known_pixels_goes_on_as_they_do() -> None:
    stripes = np.zeros((60, 80, 3), np.float32)
    stripes[:, (np.arange(80) // 4) % 2 == 0] = 200
    hole = np.zeros((60, 80), np.bool_)
    hole[30:32, 10:70] = True
    given = np.where(hole[..., None], 90, stripes).astype(np.float32)
    filled = patches.complete(given, hole, ~hole)
    assert np.abs(filled - stripes)[hole].mean() < 20
    assert (filled[~hole] == stripes[~hole]).all()


def test_frames_and_masks_of_another_size_are_refused(engine: BuiltinInpainter) -> None:
    frame = Frame(np.zeros((8, 9, 3), np.uint8), 0, 0, Fraction(1, 25))
    with pytest.raises(InputError, match="9x8"):
        list(engine.inpaint([(frame, np.zeros((8, 8), np.bool_))]))


@pytest.mark.parametrize(
    "wrong",
    [{"lookahead_frames": -1}, {"motion_side_px": 3}, {"margin_px": 0}, {"memory_mb": 1}],
)
def test_options_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Options(**wrong)


def test_diffuse_keeps_what_is_known_and_spreads_a_ramp() -> None:
    x = np.tile(np.arange(64, dtype=np.float32), (48, 1))
    known = np.ones((48, 64), np.bool_)
    known[14:34, 20:44] = False
    spread = blend.diffuse(np.where(known, x, -99).astype(np.float32), known)
    assert np.array_equal(spread[known], x[known])
    assert np.abs(spread - x).max() < 3
    assert not blend.diffuse(x, np.zeros_like(known)).any()


def test_boxes_merge_near_holes_and_part_far_ones() -> None:
    hole = np.zeros((100, 300), np.bool_)
    hole[10:20, 10:20] = hole[15:25, 30:40] = hole[70:80, 250:260] = True
    found = background.boxes(hole, 12)
    assert len(found) == 2
    assert found[0].slices == (slice(0, 37), slice(0, 52))


def _texture(height: int, width: int, cell: int, seed: int) -> Image:
    rng = np.random.default_rng(seed)
    size = (height // cell + 2, width // cell + 2, 3)
    coarse = rng.integers(20, 235, size).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _cart() -> tuple[list[tuple[Frame, Mask]], list[Image], Image]:
    """A cart that passes behind a hole that stands still; the truth, and the empty street."""
    h, w = 100, 180
    street, cart = _texture(h, w, 5, 3), _texture(60, 80, 7, 5)
    clip, truth = [], []
    for i in range(12):
        plate = street.copy()
        x = 30 + 4 * i
        plate[20:80, x : x + 80] = cart
        mask = np.zeros((h, w), np.bool_)
        mask[40:56, 96:112] = True
        image = plate.copy()
        image[mask] = 128
        clip.append((Frame(image, i, i, Fraction(1, 25)), mask))
        truth.append(plate)
    return clip, truth, street


def test_what_moves_behind_the_hole_is_followed_and_put_back(engine: BuiltinInpainter) -> None:
    clip, truth, street = _cart()
    done = list(engine.inpaint(clip))
    with_cart, without = [], []
    for i in range(6, 10):
        found, mask = done[i].frame.image, clip[i][1]
        with_cart.append(np.abs(found[mask].astype(int) - truth[i][mask]).mean())
        without.append(np.abs(found[mask].astype(int) - street[mask]).mean())
    assert np.mean(with_cart) < 0.5 * np.mean(without), "the street shows where the cart passes"


def test_what_is_wholly_hidden_for_a_moment_goes_on_as_it_went() -> None:
    h, w = 120, 260
    neighbours = pairs.Neighbours((h, w), 480)
    window = background.Window((h, w), 480)
    street, cart = _texture(h, w, 9, 3), _texture(40, 44, 14, 5)
    for i in range(14):
        image, mask = street.copy(), np.zeros((h, w), np.bool_)
        x = 60 + 6 * i
        image[40:80, x : x + 44] = cart
        mask[4:20, 110:126] = True  # a hole beside, always
        if i in (6, 7, 8):
            mask[26:94, x - 18 : x + 62] = True
        image[mask] = 128
        window.take(neighbours.record(Frame(image, i, i, Fraction(1, 25)), mask, 3))
    assert [i for i, record in enumerate(window.records) if record.hidden] == [7, 8, 9]
    box = background.Box(110, 50, 126, 70)
    way = {j: at - box.grid() for j, at in window.follow(6, 1, box, 1, others=True)}
    assert abs(way[8][..., 0].mean() - 12) < 3
    box = background.Box(122, 50, 138, 70)
    way = {j: at - box.grid() for j, at in window.follow(8, -1, box, 1, others=True)}
    assert abs(way[6][..., 0].mean() + 12) < 3


def _played(
    engine: BuiltinInpainter, monkeypatch: pytest.MonkeyPatch, worth_px: int
) -> list[Image]:
    """The cart's frames filled, the other process used from so many pixels on."""
    clip, _, _ = _cart()
    monkeypatch.setattr(seen, "WORTH_PX", worth_px)
    return [done.frame.image for done in engine.inpaint(clip)]


@pytest.mark.parametrize("from_frame", [0, 1, 5])
def test_the_fill_is_the_same_in_one_process_or_two(
    engine: BuiltinInpainter, monkeypatch: pytest.MonkeyPatch, from_frame: int
) -> None:
    alone = _played(engine, monkeypatch, 1 << 60)
    two = _played(engine, monkeypatch, from_frame * H * W)
    assert all(np.array_equal(one, other) for one, other in zip(alone, two, strict=True))


def test_two_shots_use_one_other_process(
    engine: BuiltinInpainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = 0

    class Counted(apart.Apart):
        def put(self, thing: object) -> None:
            nonlocal started
            started += self._process is None
            super().put(thing)

    first, _ = _clip(4)
    later = [
        (Frame(f.image, 4 + f.index, 4 + f.pts, f.time_base, 1), mask) for f, mask in _clip(3)[0]
    ]
    monkeypatch.setattr(seen, "WORTH_PX", 1)
    monkeypatch.setattr(builtin, "Apart", Counted)
    done = list(engine.inpaint([*first, *later]))
    assert [d.frame.index for d in done] == list(range(7)) and started == 1
    alone = list(engine.inpaint(later))
    for one, other in zip(done[4:], alone, strict=True):
        assert np.array_equal(one.frame.image, other.frame.image)


def test_where_no_process_can_be_started_the_fill_is_the_same(
    engine: BuiltinInpainter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alone = _played(engine, monkeypatch, 1 << 60)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    told = _played(engine, monkeypatch, 0)
    assert all(np.array_equal(one, other) for one, other in zip(alone, told, strict=True))
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_a_hole_that_stands_still_does_not_hold_the_flow_back() -> None:
    neighbours = pairs.Neighbours((H, W), 480)
    window = background.Window((H, W), 480)
    for i in range(2):
        image = _plate(i, 4.0).copy()
        hole = np.zeros((H, W), np.bool_)
        hole[24:48, 40:70] = True
        image[hole] = 128
        window.take(neighbours.record(Frame(image, i, i, Fraction(1, 25)), hole, 3))
    stray = window.stray(0) / np.float32(background.STRAY)
    assert stray[4:-4, 6:-6].max() < 0.8


def test_only_what_can_be_told_speaks_of_motion() -> None:
    still = _texture(48, 64, 4, 1)
    a, b = motion.grey(still), motion.grey(still)
    a[8:24, 8:32] = motion.grey(_texture(16, 24, 4, 2))
    b = np.asarray(b).copy()
    b[8:24, 11:35] = a[8:24, 8:32]
    a[32:, :], b[32:, :] = 90, 90
    flow = np.zeros((48, 64, 2), np.float32)
    flow[8:24, 8:32, 0] = 3
    flow[36:, :, 0] = 3  # over a flat floor, any flow explains the picture
    stray = np.abs(flow[..., 0]) / 0.7
    found = movers.evidence(a, b, flow, np.zeros_like(flow), stray, np.ones((48, 64), np.bool_))
    assert (found[11:21, 11:29] == 1).all()
    assert (found[40:46] == 0).all()
    assert (found[10:28, 44:60] == -1).mean() > 0.9
    moving = movers.moving(found, a, np.zeros((48, 64), np.bool_))
    assert moving[11:21, 11:29].mean() > 0.95
    assert not moving[10:46, 44:60].any()


def test_motion_is_carried_on_under_the_hole() -> None:
    flow = np.zeros((40, 60, 2), np.float32)
    x = np.arange(60, dtype=np.float32)
    flow[..., 0] = 2 + 0.02 * x
    seen = np.zeros((40, 60), np.bool_)
    seen[10:30, 5:25] = True
    base = movers.rigid(flow, seen)
    assert base is not None
    spread = movers.carry_on(flow, base, seen)
    assert np.abs(spread[10:30, 25:45] - flow[10:30, 25:45]).max() < 0.3
    assert np.array_equal(spread[seen], flow[seen])
    assert movers.rigid(flow, np.zeros_like(seen)) is None


@pytest.mark.parametrize("first", [0, 3])
def test_a_thing_half_hidden_is_followed_as_it_moves_and_not_as_the_scene_does(first: int) -> None:
    """A box drives to the right, the camera too; from a frame on a hole covers its right half."""
    neighbours = pairs.Neighbours((120, 200), 480)
    window = background.Window((120, 200), 480)
    rng = np.random.default_rng(4)
    scene, cart = (
        cv2.resize(rng.integers(0, 255, size, np.uint8), None, fx=5, fy=5)
        for size in ((24, 60, 3), (12, 16, 3))
    )
    for i in range(4):
        image = scene[:, 4 * i : 200 + 4 * i].copy()
        image[30:90, 40 + 6 * i : 120 + 6 * i] = cart
        hole = np.zeros((120, 200), np.bool_)
        if i >= first:
            hole[50:80, 90 + 2 * i : 150 + 2 * i] = True
        image[hole] = 128
        window.take(neighbours.record(Frame(image, i, i, Fraction(1, 25)), hole, 3))
    box = background.Box(100, 54, 122, 76)
    at = window.onto_previous(3, box, others=True)
    assert at is not None
    assert np.abs(at - box.grid() - [-6, 0]).mean() < 0.6
    assert window.moving(3)[60, 70] == 255
    around = background.Box(80, 40, 170, 90)
    beside, hole = window.rim(3, around), window.records[3].hole[around.slices]
    assert beside.any() and not (beside & hole).any()
    assert np.asarray(cv2.dilate(hole.astype(np.uint8), np.ones((3, 3))))[beside].any()


def test_a_chain_of_homographies_is_measured_anew() -> None:
    neighbours = pairs.Neighbours((H, W), 480)
    window = background.Window((H, W), 480)
    pan = 2.0
    for i in range(9):
        window.take(
            neighbours.record(
                Frame(_plate(i, pan), i, i, Fraction(1, 25)), np.zeros((H, W), np.bool_), 3
            )
        )
    for record in window.records[1:]:
        assert record.link is not None
        record.link = np.array([[1, 0, 0.4], [0, 1, 0], [0, 0, 1]]) @ record.link  # drifts
        record.leap = None
    for step, start, sign in ((-1, 8, 1), (1, 0, -1)):
        found = {abs(j - start): m[0, 2] for j, m in window.camera(start, step)}
        assert found[3] == pytest.approx(sign * 3 * (pan + 0.4), abs=0.3)
        assert found[4] == pytest.approx(sign * 4 * pan, abs=0.4)
        assert found[8] == pytest.approx(sign * 8 * pan, abs=0.8)


def test_what_is_invented_has_the_colours_around_the_hole() -> None:
    rng = np.random.default_rng(2)
    image = rng.normal(180, 12, (60, 80, 3)).astype(np.float32)
    image[:, :24] = rng.normal(50, 12, (60, 24, 3))  # dark fur beside the sand
    hole = np.zeros((60, 80), np.bool_)
    hole[18:44, 30:58] = True
    done = patches.complete(image, hole, ~hole)
    assert cv2.blur(done, (5, 5))[hole].min() > 140
    assert done[hole].std() > 4  # and is no flat patch


def _grass(seed: int) -> Floats:
    noise = np.random.default_rng(seed).normal(0, 1, (120, 160)).astype(np.float32)
    blades = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.8, sigmaY=2.5)
    colour = np.array([60, 110, 50], np.float32)
    return np.clip(colour + 25 * (blades / blades.std())[..., None], 0, 255).astype(np.float32)


def test_a_meadow_goes_on_as_a_meadow() -> None:
    hole = np.zeros((120, 160), np.bool_)
    hole[30:90, 40:120] = True
    inner = np.s_[42:78, 55:105]

    def detail(image: Floats) -> float:
        return float(cv2.Laplacian(image.mean(-1), cv2.CV_32F)[inner].std())

    shares = []
    for seed in range(4):
        meadow = _grass(seed)
        done = patches.complete(meadow, hole, ~hole)
        shares.append(detail(done) / detail(meadow))
    assert np.mean(shares) > 0.65, "what is invented is blurred"


def test_where_nothing_can_be_told_there_is_no_vote_against() -> None:
    evidence = np.zeros((40, 60), np.float32)
    evidence[:, 30:] = -1
    told = movers.told(evidence)
    assert told[20, 10] < 0.05
    assert told[20, 50] == 1
