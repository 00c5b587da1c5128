"""The built-in tracker on small clips whose masks are known."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
import pytest

from inpainterz.engines import load
from inpainterz.errors import OptionError, PromptError
from inpainterz.track.appearance import DESCRIPTOR, Memory, Place, describe, middles, reduced
from inpainterz.track.background import Background
from inpainterz.track.builtin import BuiltinTracker, Options, _Object, create
from inpainterz.track.cues import Cues, enlarged
from inpainterz.track.refine import cut, edge_weights, guided
from inpainterz.types import Frame, Image, LabelMap, Tracked

HEIGHT, WIDTH = 96, 128


def texture(
    seed: int, height: int, width: int, low: tuple[int, ...], high: tuple[int, ...]
) -> Image:
    """Smooth coloured noise between two colours."""
    random = np.random.default_rng(seed)
    coarse = random.random((max(2, height // 4), max(2, width // 4), 1)).astype(np.float32)
    noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = np.clip(noise, 0, 1).reshape(height, width, 1)
    return (np.asarray(low) * (1 - noise) + np.asarray(high) * noise).astype(np.uint8)


PLATE = texture(0, HEIGHT, WIDTH, (40, 70, 40), (150, 170, 120))
RED = texture(1, 24, 24, (150, 20, 20), (250, 90, 70))
BLUE = texture(2, 20, 20, (20, 20, 130), (90, 80, 250))


def paste(image: Image, labels: LabelMap, patch: Image, x: int, y: int, label: int) -> None:
    """Put a patch with its top left corner at (x, y), cut off at the picture's edges."""
    height, width = patch.shape[:2]
    y0, y1 = max(0, y), min(HEIGHT, y + height)
    x0, x1 = max(0, x), min(WIDTH, x + width)
    if y0 < y1 and x0 < x1:
        image[y0:y1, x0:x1] = patch[y0 - y : y1 - y, x0 - x : x1 - x]
        labels[y0:y1, x0:x1] = label


def clip(
    places: list[list[tuple[Image, int, int]]], bar: tuple[int, int] | None = None
) -> tuple[list[Frame], list[LabelMap]]:
    """Frames and true label maps; `places` says for each frame what lies where.

    Args:
        places: for each frame (patch, x, y) of objects 1, 2, ...
        bar: columns of a grey bar in front of everything.
    """
    frames, truth = [], []
    for index, things in enumerate(places):
        image, labels = PLATE.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        for label, (patch, x, y) in enumerate(things, 1):
            paste(image, labels, patch, x, y, label)
        if bar is not None:
            image[:, bar[0] : bar[1]] = (190, 190, 185)
            labels[:, bar[0] : bar[1]] = 0
        frames.append(Frame(image, index, index, Fraction(1, 25)))
        truth.append(labels)
    return frames, truth


def iou(a: LabelMap, b: LabelMap, label: int = 1) -> float:
    p, q = a == label, b == label
    return float((p & q).sum() / max(1, (p | q).sum()))


def follow(frames: list[Frame], labels: dict[int, LabelMap]) -> list[Tracked]:
    return list(create(Options(), device="cpu").track(iter(frames), labels))


@pytest.fixture(scope="module")
def crossing() -> tuple[list[Frame], list[LabelMap]]:
    """A red square that moves to the right in front of the plate."""
    return clip([[(RED, 10 + 4 * t, 30 + t)] for t in range(14)])


def test_moving_square(crossing: tuple[list[Frame], list[LabelMap]]) -> None:
    frames, truth = crossing
    out = follow(frames, {0: truth[0]})
    assert [o.frame for o in out] == frames
    assert np.array_equal(out[0].labels, truth[0])
    assert out[0].confidence == {1: 1.0}
    scores = [iou(o.labels, m) for o, m in zip(out, truth, strict=True)]
    assert min(scores) > 0.8 and np.mean(scores) > 0.88
    assert all(o.confidence[1] > 0.5 for o in out)


def test_backwards_in_time(crossing: tuple[list[Frame], list[LabelMap]]) -> None:
    frames, truth = crossing
    out = follow(frames[::-1], {len(frames) - 1: truth[-1]})
    assert [o.frame.index for o in out] == list(range(len(frames)))[::-1]
    assert min(iou(o.labels, truth[o.frame.index]) for o in out) > 0.8


def test_partly_hidden_by_a_bar() -> None:
    frames, truth = clip([[(RED, 10 + 4 * t, 36)] for t in range(20)], bar=(60, 70))
    out = follow(frames, {0: truth[0]})
    scores = [iou(o.labels, m) for o, m in zip(out, truth, strict=True)]
    assert np.mean(scores) > 0.75
    assert scores[-1] > 0.75
    assert all(not o.labels[:, 62:68].any() for o in out[:5])


def test_found_again_after_being_hidden_wholly() -> None:
    frames, truth = clip([[(BLUE, 6 + 5 * t, 36)] for t in range(19)], bar=(45, 72))
    assert any(not m.any() for m in truth)
    out = follow(frames, {0: truth[0]})
    for o, m in zip(out, truth, strict=True):
        if not m.any():
            assert o.confidence[1] < 0.5
            assert (o.labels > 0).sum() < 120
    assert iou(out[-1].labels, truth[-1]) > 0.7


@pytest.mark.parametrize(("crossing", "at"), [(8, 40.0), (0, 90.0)])
def test_one_lost_among_others_is_looked_for_where_it_was_due(crossing: int, at: float) -> None:
    shape = np.zeros((60, 120), np.float32)
    shape[20:40, 30:50] = 1
    seen, due = Place(90.0, 30.0, 20.0), Place(40.0, 30.0, 20.0)
    thing = _Object(1, shape, Memory(), seen, (shape, due), 1, shape, crossing=crossing, due=due)
    BuiltinTracker._lose(thing)
    assert thing.lost == 1
    assert thing.place.x == at  # beside another, where it seemed to be may be the other's place
    thing.place = seen
    BuiltinTracker._lose(thing)
    assert thing.place is seen  # it is being looked for


def test_two_objects_keep_their_names() -> None:
    frames, truth = clip([[(RED, 8 + 3 * t, 10), (BLUE, 100 - 4 * t, 60)] for t in range(14)])
    out = follow(frames, {0: truth[0]})
    for o, m in zip(out, truth, strict=True):
        assert set(np.unique(o.labels)) <= {0, 1, 2}
        assert set(o.confidence) == {1, 2}
        assert iou(o.labels, m, 1) > 0.75
        assert iou(o.labels, m, 2) > 0.75


@pytest.mark.parametrize("passer", [BLUE, texture(7, 24, 24, (20, 120, 120), (90, 220, 220))])
def test_one_that_crosses_in_front_is_not_taken_for_it(passer: Image) -> None:
    frames, truth = clip([[(RED, 6 + 4 * t, 36), (passer, 100 - 5 * t, 34)] for t in range(20)])
    shown = np.where(truth[0] == 1, 1, 0).astype(np.uint8)
    out = follow(frames, {0: shown})
    assert np.mean([iou(o.labels, m) for o, m in zip(out[-5:], truth[-5:], strict=True)]) > 0.7
    for o, m in zip(out, truth, strict=True):
        assert ((o.labels == 1) & (m == 2)).sum() < 0.3 * (m == 2).sum()


@pytest.mark.parametrize("gap", [0, 14])
def test_several_in_one_mask_may_go_different_ways(gap: int) -> None:
    """One stands, the other walks away; shown side by side or apart."""
    frames, truth = clip([[(BLUE, 6, 40), (RED, 26 + gap + 3 * t, 38)] for t in range(22)])
    joint = [np.asarray(m > 0, np.uint8) for m in truth]
    out = follow(frames, {0: joint[0]})
    assert all(set(o.confidence) == {1} for o in out)
    for o, m in zip(out, truth, strict=True):
        for label in (1, 2):
            there = m == label
            assert o.labels[there].mean() > 0.7, (o.frame.index, label)
    assert np.mean([iou(o.labels, m) for o, m in zip(out, joint, strict=True)]) > 0.75


def test_an_object_that_leaves_is_gone_and_doubtful() -> None:
    frames, truth = clip([[(RED, 80 + 6 * t, 36)] for t in range(14)])
    out = follow(frames, {0: truth[0]})
    assert iou(out[3].labels, truth[3]) > 0.75
    assert not truth[-1].any()
    assert not out[-1].labels.any()
    assert out[-1].confidence[1] == 0.0


def test_still_object_under_a_still_camera() -> None:
    frames, truth = clip([[(BLUE, 50, 40)] for _ in range(10)])
    out = follow(frames, {0: truth[0]})
    assert min(iou(o.labels, truth[0]) for o in out) > 0.88


def test_correction_at_a_later_frame(crossing: tuple[list[Frame], list[LabelMap]]) -> None:
    frames, truth = crossing
    wrong = np.zeros_like(truth[0])
    wrong[70:90, 5:25] = 1  # a piece of the plate
    out = follow(frames, {0: wrong, 6: truth[6]})
    assert np.array_equal(out[6].labels == 1, truth[6] == 1)
    assert out[6].confidence[1] == 1.0
    assert min(iou(o.labels, m) for o, m in zip(out[6:], truth[6:], strict=True)) > 0.7


def test_an_object_added_later_leaves_the_others_alone() -> None:
    frames, truth = clip([[(RED, 8 + 3 * t, 10), (BLUE, 100 - 4 * t, 60)] for t in range(10)])
    first, later = np.where(truth[0] == 1, 1, 0), np.where(truth[4] == 2, 2, 0)
    out = follow(frames, {0: first.astype(np.uint8), 4: later.astype(np.uint8)})
    assert all(set(o.confidence) == {1} for o in out[:4])
    assert all(set(o.confidence) == {1, 2} for o in out[4:])
    assert not any((o.labels == 2).any() for o in out[:4])
    assert min(iou(o.labels, m, 1) for o, m in zip(out, truth, strict=True)) > 0.75
    assert min(iou(o.labels, m, 2) for o, m in zip(out[4:], truth[4:], strict=True)) > 0.75


def test_objects_end_at_a_cut(crossing: tuple[list[Frame], list[LabelMap]]) -> None:
    frames, truth = crossing
    other = texture(9, HEIGHT, WIDTH, (90, 90, 200), (220, 220, 255))
    cut_to = [Frame(other, 5 + i, 5 + i, Fraction(1, 25), shot=1) for i in range(3)]
    out = follow([*frames[:5], *cut_to], {0: truth[0]})
    assert iou(out[4].labels, truth[4]) > 0.8
    for o in out[5:]:
        assert not o.labels.any()
        assert o.confidence == {1: 0.0}


def test_a_prompt_after_a_cut_starts_anew(crossing: tuple[list[Frame], list[LabelMap]]) -> None:
    frames, truth = crossing
    shots = [Frame(f.image, f.index, f.pts, f.time_base, int(f.index >= 6)) for f in frames]
    out = follow(shots, {0: truth[0], 6: truth[6]})
    assert min(iou(o.labels, m) for o, m in zip(out, truth, strict=True)) > 0.75


def test_no_frame_is_taken_in_before_the_last_came_out(
    crossing: tuple[list[Frame], list[LabelMap]],
) -> None:
    frames, truth = crossing
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in frames[:5]:
            taken += 1
            yield frame

    for count, _ in enumerate(create(Options(), device="cpu").track(counted(), {0: truth[0]}), 1):
        assert taken == count


def test_two_clips_on_one_engine_do_not_mix(crossing: tuple[list[Frame], list[LabelMap]]) -> None:
    frames, truth = crossing
    back = {len(frames) - 1: truth[-1]}
    alone = follow(frames, {0: truth[0]})[:6], follow(frames[::-1], back)[:6]
    engine = create(Options(), device="cpu")
    first = engine.track(iter(frames), {0: truth[0]})
    second = engine.track(iter(frames[::-1]), back)
    for one, two in zip(*alone, strict=True):
        assert np.array_equal(next(first).labels, one.labels)
        assert np.array_equal(next(second).labels, two.labels)
    first.close()  # type: ignore[attr-defined]
    second.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (33, 61), (64, 17)])
def test_any_size(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    frames = [
        Frame(random.integers(0, 256, (*size, 3), dtype=np.uint8), i, i, Fraction(1, 25))
        for i in range(3)
    ]
    labels = np.zeros(size, np.uint8)
    labels[: max(1, size[0] // 2), : max(1, size[1] // 2)] = 7
    out = follow(frames, {0: labels})
    assert [o.labels.shape for o in out] == [size] * 3
    assert all(set(np.unique(o.labels)) <= {0, 7} for o in out)
    assert all(0 <= o.confidence[7] <= 1 for o in out)


def test_larger_than_the_working_size(crossing: tuple[list[Frame], list[LabelMap]]) -> None:
    frames, truth = crossing
    big = [
        Frame(cv2.resize(f.image, None, fx=3, fy=3), f.index, f.pts, f.time_base)
        for f in frames[:6]
    ]
    masks = [m.repeat(3, 0).repeat(3, 1) for m in truth]
    out = list(create(Options(max_side_px=128), device="cpu").track(big, {0: masks[0]}))
    assert np.array_equal(out[0].labels, masks[0])
    assert min(iou(o.labels, m) for o, m in zip(out, masks, strict=False)) > 0.8


def test_what_cannot_be_started(crossing: tuple[list[Frame], list[LabelMap]]) -> None:
    frames, truth = crossing
    with pytest.raises(PromptError, match="frame 0 has no mask"):
        follow(frames, {3: truth[3]})
    with pytest.raises(PromptError, match="the mask of frame 0 is empty"):
        follow(frames, {0: np.zeros_like(truth[0])})
    with pytest.raises(PromptError, match="60x40, the clip is 128x96"):
        follow(frames, {0: np.ones((40, 60), np.uint8)})
    assert follow([], {}) == []


def test_options() -> None:
    assert isinstance(load("track", options={"max_side_px": 320}), BuiltinTracker)
    with pytest.raises(OptionError, match="max_side_px"):
        Options(max_side_px=10)
    with pytest.raises(OptionError, match="smoothness_px"):
        Options(smoothness_px=-1)


def test_cut_is_the_minimal_one_and_lies_on_the_edge() -> None:
    image = np.zeros((30, 40, 3), np.float32)
    image[:, 20:] = 50
    cost = np.full((30, 40), -0.1, np.float32)
    cost[:, :8], cost[:, 30:] = -2.0, 2.0  # sure at both ends, a slight lean in between
    cost[3, 35] = -2.0  # a stray pixel that costs more outline than it is worth
    found = cut(cost, edge_weights(image), np.zeros_like(cost), smoothness=3.0, iterations=200)
    assert (found[:, :20] > 0.5).all()
    assert (found[:, 20:] < 0.5).all()


def test_guided_filter_keeps_edges_and_means() -> None:
    guide = np.zeros((20, 20), np.float32)
    guide[:, 10:] = 1
    assert np.allclose(guided(guide, np.full_like(guide, 0.3), 3, 1e-3), 0.3, atol=1e-5)
    assert np.allclose(guided(guide, guide, 3, 1e-4), guide, atol=0.01)


def test_what_stands_still_until_the_object_has_gone_by_is_left_behind() -> None:
    """Even where it differs from the background that was seen there, as under smoke."""
    flat = np.zeros((1, 2), np.float32)
    cues = Cues(flat, flat, flat, flat, flat, flat + 4, flat + 1, flat, flat, flat)
    still = np.asarray([[5, 20]], np.float32)  # a planted foot, and what was there all along
    never = np.zeros((1, 2), np.bool_)
    foot, wall = cues.left_behind(still, never, speed=3.0, size=20.0)[0]
    assert foot == 0
    assert wall > 5
    assert not cues.left_behind(still, never, speed=0.5, size=20.0).any()
    assert not cues.left_behind(
        still, ~never, speed=3.0, size=20.0
    ).any()  # was there from the start


def test_memory_tells_the_object_from_its_surroundings() -> None:
    lab = np.zeros((40, 40, 3), np.float32)
    lab[...] = (50, 0, 0)
    lab[10:30, 10:30] = (60, 50, 20)
    belief = np.zeros((40, 40), np.float32)
    belief[10:30, 10:30] = 1
    descriptors = describe(lab, Place(20, 20, 20))
    assert descriptors.shape == (40, 40, DESCRIPTOR)
    memory = Memory(seen_frames=2)
    random = np.random.default_rng(0)
    for shown in (True, False, False, False):
        memory.learn(descriptors, belief, shown=shown, count=50, random=random)
    assert len(memory.shown) == 1 and len(memory.seen) == 2  # has a ceiling
    shown_ratio, _, new = memory.likeness(descriptors[20, [2, 20]])
    assert shown_ratio[0] < -1 and shown_ratio[1] > 1
    assert (new < 0.5).all()
    strange = describe(np.full_like(lab, -90), Place(20, 20, 20))[20, 20:21]
    ratio, _, new = memory.likeness(strange)
    assert abs(float(ratio[0])) < 0.1 and new[0] > 0.9


def test_background_memory_follows_the_camera_and_sees_what_differs() -> None:
    random = np.random.default_rng(0)
    scene = (random.random((60, 80, 3)) * 60).astype(np.float32)
    scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), 2))
    background = Background(60, 70)
    free = np.ones((60, 70), np.bool_)
    for shift in range(4):
        if shift:
            background.move(np.array([[1, 0, -1], [0, 1, 0], [0, 0, 1.0]]), 1.0)
        background.learn(scene[:, shift : shift + 70], free)
    now = scene[:, 3:73].copy()
    now[20:30, 20:30] += 40
    differs, known = background.differs(now, np.s_[0:60, 0:70], free, 10)
    assert known[25, 25] == 1 and known[5, 5] == 1
    assert np.median(differs[22:28, 22:28]) > 2 * np.median(differs[40:, :60])


@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 7), (8, 9), (10, 12), (11, 5)])
def test_blocks_lie_where_their_pixels_do(step: int, shape: tuple[int, int]) -> None:
    columns = np.tile(np.arange(shape[1], dtype=np.float32), (shape[0], 1))
    blocks = reduced(columns, step)
    assert blocks.shape == middles(columns, step).shape == tuple(-(-n // step) for n in shape)
    assert np.abs(middles(columns, step) - blocks).max() <= step / 2
    back = enlarged(blocks, step, shape)
    assert back.shape == shape
    assert np.abs(back - columns).max() <= step / 2


def test_descriptors_of_blocks_are_those_of_their_middles() -> None:
    lab = cv2.GaussianBlur(np.random.default_rng(0).random((60, 60, 3)), (0, 0), 4) * 100
    lab = lab.astype(np.float32)
    fine, coarse = (describe(lab, Place(33, 24, 90), (3, 2), step) for step in (1, 3))
    assert np.abs(middles(fine, 3) - coarse)[2:-2, 2:-2].max() < 0.05 * fine.std()


def test_one_in_the_same_trousers_is_not_found_for_a_lost_one() -> None:
    black, trousers = (5, 5, 5), ((20, 20, 130), (90, 80, 250))
    hair, jacket = (
        texture(5, 6, 12, black, (30, 30, 30)),
        texture(4, 12, 12, (150, 20, 20), (250, 90, 70)),
    )
    lost = np.vstack([hair, jacket, texture(3, 10, 12, *trousers)])
    other = np.vstack([texture(5, 14, 12, black, (30, 30, 30)), texture(3, 14, 12, *trousers)])
    walks = [[(lost, min(56, 10 + 3 * t), 34), (other, max(56, 5 + 3 * t), 34)] for t in range(26)]
    frames, truth = clip(walks, bar=(52, 72))  # one stays behind the bar, the other comes out
    out = follow(frames, {0: truth[0]})
    assert iou(out[10].labels, truth[10]) > 0.9
    assert (truth[-1] == 2).sum() == other.size // 3
    assert not any(o.labels.any() for o in out[18:])
    assert all(o.confidence[1] == 0.0 for o in out[18:])


def test_more_of_a_colour_than_the_object_has_is_not_its_own() -> None:
    random = np.random.default_rng(0)
    half = np.zeros((40, 20, 3), np.float32)
    half[:, :] = (60, 0, 0)
    inside = half.copy()
    inside[:20] = (40, 70, 40)  # a red jacket over grey trousers
    place = Place(10, 20, float(np.sqrt(800)))
    memory = Memory()
    belief = np.ones((40, 20), np.float32)
    belief[:, :2] = 0  # there must be surroundings to learn
    memory.learn(describe(inside, place), belief, shown=True, count=500, random=random)
    whole = describe(inside, place).reshape(-1, DESCRIPTOR)
    grey = describe(half, place).reshape(-1, DESCRIPTOR)
    assert memory.colours_in_common(whole, 1.0) > 0.85
    assert memory.colours_in_common(grey, 1.0) < 0.6  # twice as much grey
    assert memory.colours_in_common(grey[:400], 0.5) > 0.85  # the lower half of it alone
    assert memory.colours_in_common(grey[:0], 0.5) == 1.0
    assert Memory().colours_in_common(whole, 1.0) == 1.0
