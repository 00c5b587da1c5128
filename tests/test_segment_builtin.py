"""The built-in segmenter: clicks are kept, objects are found, with and without motion."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpainterz.errors import OptionError, PromptError
from inpainterz.segment import boxed, builtin, moving, paint, refine, regions
from inpainterz.segment.attached import attached
from inpainterz.segment.builtin import BuiltinSegmenter, Options
from inpainterz.segment.hypotheses import TRAITS, Hint, Pool
from inpainterz.segment.zoom import zoom
from inpainterz.types import Image, Mask, Prompt

H, W = 120, 180


def plate(seed: int = 0, contrast: float = 60) -> Image:
    """A soft random texture."""
    noise = np.random.default_rng(seed).normal(0, 1, (H, W + 80, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 3) * 5 + cv2.GaussianBlur(noise, (0, 0), 1)
    return np.clip(128 + contrast * soft / 2, 0, 255).astype(np.uint8)


def ellipse(x: float, y: float, rx: int = 22, ry: int = 32) -> Mask:
    mask = np.zeros((H, W), np.uint8)
    cv2.ellipse(mask, (round(x), round(y)), (rx, ry), 0, 0, 360, 1, -1)
    return mask > 0


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.fixture(scope="module")
def engine() -> BuiltinSegmenter:
    return builtin.create(Options(), "cpu")


@pytest.fixture(scope="module")
def two_coloured() -> tuple[Image, Mask]:
    """A figure in a red shirt and blue trousers before a green meadow."""
    image = plate(1, 25)
    image = (image[:, :W] * np.array([0.5, 1.1, 0.5])).clip(0, 255).astype(np.uint8)
    mask = ellipse(80, 60)
    rows = np.arange(H)[:, None] < 60
    image[mask & rows] = (200, 40, 40)
    image[mask & ~rows] = (40, 50, 190)
    return image, mask


def test_a_box_gives_the_whole_figure(
    engine: BuiltinSegmenter, two_coloured: tuple[Image, Mask]
) -> None:
    image, truth = two_coloured
    answer = engine.segment(engine.embed(image), Prompt.of(box=(57, 27, 104, 94)))
    assert iou(answer.mask, truth) > 0.85


@pytest.fixture(scope="module")
def small_figure() -> tuple[Image, Mask]:
    """A figure of 20 by 36 pixels with two legs, in a frame of 640 by 480."""
    noise = np.random.default_rng(5).normal(0, 1, (480, 640, 3)).astype(np.float32)
    image = np.clip(120 + 40 * cv2.GaussianBlur(noise, (0, 0), 4) * 5, 0, 255).astype(np.uint8)
    mask = np.zeros((480, 640), np.uint8)
    cv2.ellipse(mask, (320, 240), (10, 12), 0, 0, 360, 1, -1)
    cv2.line(mask, (316, 248), (313, 264), 1, 4)
    cv2.line(mask, (324, 248), (327, 264), 1, 4)
    image[mask > 0] = (220, 60, 40)
    return image, mask > 0


def test_a_small_figure_in_a_box_is_looked_at_closely(
    engine: BuiltinSegmenter, small_figure: tuple[Image, Mask]
) -> None:
    image, truth = small_figure
    answer = engine.segment(engine.embed(image), Prompt.of(box=(308, 226, 332, 268)))
    assert iou(answer.mask, truth) > 0.8
    assert answer.mask[261, 314] and answer.mask[261, 326] and not answer.mask[261, 320]


@pytest.mark.parametrize(("believed", "looked_closely"), [(0.4, True), (0.2, False), (0.6, True)])
def test_an_unsure_answer_of_much_of_the_frame_gives_way_to_a_small_thing_at_the_click(
    small_figure: tuple[Image, Mask], believed: float, looked_closely: bool
) -> None:
    image, truth = small_figure
    noise = np.random.default_rng(6).normal(0, 4, image.shape)  # else it is paint
    image = np.clip(image + noise, 0, 255).astype(np.uint8)

    class Unsure(BuiltinSegmenter):
        def choose(
            self, pool: Pool, window: tuple[slice, slice]
        ) -> tuple[npt.NDArray[np.bool_], float]:
            if image[window].shape == image.shape:
                return np.ones(pool.judge.regions.count, np.bool_), 0.42
            return pool.best()[0], believed

    engine = Unsure(Options())
    rows, columns = np.nonzero(truth)
    click = Prompt.of((float(columns.mean()), float(rows.mean())))
    answer = engine.segment(engine.embed(image), click)
    assert (iou(answer.mask, truth) > 0.5) == looked_closely
    assert answer.mask.all() != looked_closely


def test_a_correction_is_looked_at_closely(
    engine: BuiltinSegmenter, small_figure: tuple[Image, Mask]
) -> None:
    """A leg painted in another colour is added without losing the rest."""
    image, truth = small_figure
    image = image.copy()
    leg = truth & (np.arange(480)[:, None] > 252) & (np.arange(640) > 320)
    image[leg] = (40, 60, 220)
    embedding = engine.embed(image)
    first = engine.segment(embedding, Prompt.of((320, 240)))
    second = engine.segment(embedding, Prompt.of((320, 240), (326, 260)), first)
    assert iou(second.mask, truth) > 0.75
    assert second.mask[leg].mean() > 0.7


def test_a_zoom_maps_points_and_motion_of_the_frame() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (90, 160, 3)).astype(np.uint8)
    whole = BuiltinSegmenter(Options()).embed(image, [np.roll(image, 2, 1), image])
    box = np.asarray([100, 20, 140, 60], np.float32)
    close = zoom(image, whole.judge, whole.scale, box, pixels=20_000, cell=6)
    assert close.window == (slice(5, 75), slice(85, 155))
    assert np.allclose(close.box(box), (box - (85, 5, 85, 5)) * np.tile(close.scale, 2))
    h, w = close.judge.regions.labels.shape
    assert (w, h) == (round(70 * close.scale[0]), round(70 * close.scale[1]))
    assert (close.judge.motion is None) == (whole.judge.motion is None)


def test_a_box_says_how_likely_each_region_is(two_coloured: tuple[Image, Mask]) -> None:
    image, truth = two_coloured
    judge = BuiltinSegmenter(Options()).embed(image).judge
    chance = boxed.believe(judge, np.asarray([57, 27, 104, 94], np.float32))
    by_pixel = chance[judge.regions.labels]
    assert by_pixel[:, :50].max() == 0
    inside = np.zeros_like(truth)
    inside[27:94, 57:104] = True
    assert by_pixel[truth].mean() > by_pixel[inside & ~truth].mean() + 0.4


def test_a_box_tells_how_far_the_edge_goes() -> None:
    truth = np.zeros((240, 432), np.bool_)
    truth[80:160, 150:250] = True
    tight = np.asarray([150, 80, 250, 160], np.float32)
    assert (refine.fit_box(truth, tight) == truth).all()
    wider = tight + np.asarray([-2, -2, 2, 2], np.float32)
    assert refine.fit_box(truth, wider)[79, 149:251].all()
    missed = tight + np.asarray([-60, 0, 60, 0], np.float32)  # arms that the mask lacks
    assert (refine.fit_box(truth, missed) == truth).all()
    far = tight + np.asarray([-40, -40, 40, 40], np.float32)
    assert refine.fit_box(truth, far).sum() < 1.2 * truth.sum()


def test_clicks_on_both_halves_give_the_whole_figure(
    engine: BuiltinSegmenter, two_coloured: tuple[Image, Mask]
) -> None:
    image, truth = two_coloured
    embedding = engine.embed(image)
    first = engine.segment(embedding, Prompt.of((80, 45)))
    second = engine.segment(embedding, Prompt.of((80, 45), (80, 78)), first)
    assert first.mask[45, 80] and iou(second.mask, truth) > 0.85


def test_a_negative_click_takes_a_part_away(
    engine: BuiltinSegmenter, two_coloured: tuple[Image, Mask]
) -> None:
    image, truth = two_coloured
    embedding = engine.embed(image)
    whole = engine.segment(embedding, Prompt.of((80, 45), (80, 78)))
    prompt = Prompt.of((80, 45), (80, 78), off=((82, 88),))
    less = engine.segment(embedding, prompt, whole)
    assert less.mask[45, 80] and less.mask[78, 80] and not less.mask[88, 82]
    assert less.mask.sum() < whole.mask.sum()
    half = engine.segment(embedding, Prompt.of((80, 42), off=((80, 80),)))
    upper = truth & (np.arange(H)[:, None] < 60)
    assert iou(half.mask, upper) > 0.75


def test_a_negative_click_far_out_takes_the_background_away(engine: BuiltinSegmenter) -> None:
    """An answer that took in the whole frame is not only pierced where the click lies."""
    image = plate(9, 30)[:, :W].copy()
    truth = ellipse(60, 60, 16, 24)
    image[truth] = np.clip(image[truth] + np.asarray([20.0, 0, -14]), 0, 255)
    embedding = engine.embed(image)
    first = engine.segment(embedding, Prompt.of((60, 60)))
    wide = np.broadcast_to(np.arange(W) < 160, (H, W)).copy()
    first = replace(first, mask=wide, state=replace(first.state, mask=wide))
    answer = engine.segment(embedding, Prompt.of((60, 60), off=((110, 100),)), first)
    assert iou(answer.mask, truth) > 0.6


@pytest.fixture(scope="module")
def capped() -> tuple[Image, Mask, Mask]:
    """A figure before a wall and a floor, the figure alone, and the cap that it wears."""
    rng = np.random.default_rng(5)
    image = np.full((240, 320, 3), (150, 145, 140), np.uint8)
    image[150:] = (90, 70, 50)
    body, cap = np.zeros((2, 240, 320), np.bool_)
    body[80:180, 140:180], cap[62:80, 148:172] = True, True
    image[body], image[cap] = (60, 120, 70), (40, 40, 190)
    noisy = image.astype(np.float32) + rng.normal(0, 3, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), body, cap


def test_a_part_in_colours_of_its_own_goes_with_the_object(
    engine: BuiltinSegmenter, capped: tuple[Image, Mask, Mask]
) -> None:
    image, body, cap = capped
    embedding = engine.embed(image)
    click = np.asarray([[160, 130]], np.float32)
    answer = engine.segment(embedding, Prompt(click, np.asarray([True])))
    assert (answer.mask & cap).sum() > 0.9 * cap.sum()
    assert iou(answer.mask, body | cap) > 0.85
    both = np.concatenate([click, np.asarray([[160, 70]], np.float32)])
    without = engine.segment(embedding, Prompt(both, np.asarray([True, False])), answer)
    assert (without.mask & cap).sum() < 0.2 * cap.sum()
    both[1] = 190, 170  # beside it
    still = engine.segment(embedding, Prompt(both, np.asarray([True, False])), answer)
    assert (still.mask & cap).sum() > 0.8 * cap.sum()


def test_only_what_ends_near_the_object_and_is_not_seen_around_is_a_part(
    capped: tuple[Image, Mask, Mask],
) -> None:
    image, body, cap = capped
    alone = attached(image, body, None)
    assert (alone & cap).sum() > 0.9 * cap.sum()
    assert (alone & ~cap).sum() < 0.5 * cap.sum()  # neither wall nor floor
    pole = image.copy()
    pole[:80, 156:164] = (40, 40, 190)  # it comes from the side of the frame, behind the cap
    assert not (attached(pole, body, None) & cap).any()
    cut = np.s_[64:]  # the cap goes on outside the frame, as far as one can see
    assert not (attached(image[cut], body[cut], None) & cap[cut]).any()
    for rows, columns, near in ((slice(60, 80), slice(208, 230), True),
                                (slice(210, 230), slice(200, 225), False)):  # fmt: skip
        again = image.copy()
        again[rows, columns] = (40, 40, 190)
        taken = (attached(again, body, None) & cap).sum() / cap.sum()
        assert taken < 0.1 if near else taken > 0.9
    moving = np.where(body, 4.0, -4.0).astype(np.float32)
    assert not attached(image, body, moving).any()  # it stays where it is


def test_motion_finds_what_colour_cannot(engine: BuiltinSegmenter) -> None:
    """A patch of the background's own texture, seen only by its motion under a moving camera."""
    background, cloth = plate(2), plate(3)
    frames, truths = [], []
    for i in range(7):
        truth = ellipse(50 + 9 * i, 60)
        image = background[:, 2 * i : 2 * i + W].copy()
        inside = np.roll(cloth[:, :W], 9 * i, 1)
        image[truth] = inside[truth]
        frames.append(image)
        truths.append(truth)
    at = 3
    centre = Prompt.of((50 + 9 * at, 60))
    around = [frame for i, frame in enumerate(frames) if i != at]
    moved = engine.segment(engine.embed(frames[at], around), centre)
    still = engine.segment(engine.embed(frames[at]), centre)
    assert iou(moved.mask, truths[at]) > 0.75
    assert iou(moved.mask, truths[at]) > iou(still.mask, truths[at]) + 0.2


def test_a_click_on_the_head_gives_all_that_moves_with_it(engine: BuiltinSegmenter) -> None:
    background = plate(2)
    frames, truths = [], []
    for i in range(7):
        x = 50 + 9 * i
        head, truth = ellipse(x, 34, 8, 8), ellipse(x, 34, 8, 8) | ellipse(x, 68, 14, 30)
        image = background[:, 2 * i : 2 * i + W].copy()
        image[truth] = np.roll(plate(3)[:, :W], 9 * i, 1)[truth] // 2 + (20, 40, 90)
        image[head] = (230, 190, 160)
        frames.append(image)
        truths.append(truth)
    at = 3
    around = [frame for i, frame in enumerate(frames) if i != at]
    answer = engine.segment(engine.embed(frames[at], around), Prompt.of((50 + 9 * at, 33)))
    assert iou(answer.mask, truths[at]) > 0.7


def test_what_hardly_moves_is_no_part_of_what_passes_before_it(engine: BuiltinSegmenter) -> None:
    background, cloth = plate(5, 25), plate(6, 90)
    standing = ellipse(100, 60, 20, 34)

    def scene(step: int) -> tuple[Image, Mask]:
        image = background[:, :W].copy()
        sways = np.roll(standing, round(0.5 * step), 1)
        image[sways] = np.roll(cloth, round(0.5 * step), 1)[:, :W][sways]
        passing = ellipse(60 + 3 * step, 62, 20, 34)
        image[passing] = np.roll(cloth[::-1], 3 * step, 1)[:, :W][passing]
        return image, passing

    image, passing = scene(0)
    embedding = engine.embed(image, [scene(step)[0] for step in (1, 2, 3, 4)])
    answer = engine.segment(embedding, Prompt.of((52, 60))).mask
    assert iou(answer, passing) > 0.65
    assert (answer & standing & ~passing).sum() < 0.1 * standing.sum()


def test_parts_move_along_with_most_or_as_the_background() -> None:
    places = np.asarray([(x, y) for x in range(8) for y in range(5)], np.float32)
    turned = 0.2 * np.stack([-places[:, 1], places[:, 0]], -1)
    flow = np.asarray([6, 1], np.float32) + turned
    flow[:9] = 0  # with the background
    flow[9] = (-5, 4)  # with neither
    flows = np.stack([flow, 2 * flow], 1)
    along = moving.along_with(flows, places, np.ones(len(places), np.float32))
    assert along[:9].max() < -0.8 and along[9] < -0.2 and along[10:].min() > 0.8


@pytest.mark.parametrize("size", [8, 12])
def test_somebody_who_stands_is_not_the_ground_on_which_others_walk(
    engine: BuiltinSegmenter, size: int
) -> None:
    truth = ellipse(110, 75, size, 2 * size + 2)

    def scene(step: int) -> Image:
        image = plate(1, 40)[:, :W] * np.array([0.5, 1, 0.4])
        image[42:96] = 150
        for k in range(5):
            x = (20 + 37 * k + step * (4 if k % 2 else -4)) % W
            image[ellipse(x, 55 + 6 * (k % 3), size, 2 * size + 2)] = (30, 30, 60)
        image[truth] = 2
        grain = np.random.default_rng(step + 50).normal(0, 1.5, image.shape)
        return (image + grain).clip(0, 255).astype(np.uint8)

    embedding = engine.embed(scene(0), [scene(k) for k in (-10, -5, -2, 2, 5, 10)])
    assert iou(engine.segment(embedding, Prompt.of((110, 75))).mask, truth) > 0.8


def test_a_click_means_half_of_the_picture_only_if_no_smaller_thing_is_as_likely(
    engine: BuiltinSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = engine.embed(plate()).judge
    xs = judge.regions.centre[:, 0]
    width = judge.regions.labels.shape[1]
    at = np.array([[width / 20, 20]], np.float32)
    hint = Hint(at, np.array([True]), None, None, np.array([True]))
    pool = Pool(judge, hint)
    candidates = [xs < width * share for share in (0.2, 0.5, 0.9)]
    marks = {0.2: 0.9, 0.5: 1.0, 0.9: 1.1}

    def traits(x: Mask) -> np.ndarray:
        share = min(marks, key=lambda s: abs(s - float(x.mean())))
        return np.where(np.array(TRAITS) == "border", marks[share], 0).astype(np.float32)

    monkeypatch.setattr(pool, "hypotheses", lambda: candidates)
    monkeypatch.setattr(pool, "traits", traits)
    assert np.array_equal(pool.best()[0], candidates[0])
    marks[0.9] = 4.0  # and if it is much likelier it is meant
    assert np.array_equal(pool.best()[0], candidates[2])


def test_what_stands_still_in_a_box_is_not_the_thing_that_moves(engine: BuiltinSegmenter) -> None:
    """A wall fills more of the box and touches all its sides, but a figure walks before it."""
    background = plate(2)
    background[30:96, 40:150] = (70, 70, 80) + background[30:96, 40:150] // 16
    frames, truths = [], []
    for i in range(7):
        truth = ellipse(50 + 9 * i, 62, 12, 26)
        image = background[:, 2 * i : 2 * i + W].copy()
        image[truth] = plate(3)[:, :W][truth] // 2 + (90, 40, 20)
        frames.append(image)
        truths.append(truth)
    at = 3
    around = [frame for i, frame in enumerate(frames) if i != at]
    box = Prompt.of(box=(30, 30, 148, 96))
    moved = engine.segment(engine.embed(frames[at], around), box)
    assert iou(moved.mask, truths[at]) > 0.5
    assert iou(engine.segment(engine.embed(frames[at]), box).mask, truths[at]) < 0.5


def test_embeddings_are_independent(
    engine: BuiltinSegmenter, two_coloured: tuple[Image, Mask]
) -> None:
    image, _ = two_coloured
    prompt = Prompt.of((80, 45))
    alone = engine.segment(engine.embed(image), prompt)
    a, b = engine.embed(image), engine.embed(np.ascontiguousarray(image[::-1]))
    engine.segment(b, prompt)
    again = engine.segment(a, prompt)
    assert (again.mask == alone.mask).all() and again.score == alone.score


def test_a_click_taken_back_is_forgotten(
    engine: BuiltinSegmenter, two_coloured: tuple[Image, Mask]
) -> None:
    image, _ = two_coloured
    embedding = engine.embed(image)
    fresh = engine.segment(embedding, Prompt.of((80, 45)))
    both = engine.segment(embedding, Prompt.of((80, 45), (20, 20)), fresh)
    undone = engine.segment(embedding, Prompt.of((80, 45)), both)
    assert (undone.mask == fresh.mask).all()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_clicks_are_kept_at_any_size(data: st.DataObject) -> None:
    engine = BuiltinSegmenter(Options())
    h, w = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    image = np.random.default_rng(h * 71 + w).integers(0, 256, (h, w, 3)).astype(np.uint8)
    place = st.tuples(st.integers(0, w - 1), st.integers(0, h - 1))
    spots = data.draw(st.lists(place, min_size=1, max_size=6, unique=True))
    on, off = spots[: (len(spots) + 1) // 2], tuple(spots[(len(spots) + 1) // 2 :])
    around = [image, image] if data.draw(st.booleans()) else []
    embedding = engine.embed(image, around)
    first = engine.segment(embedding, Prompt.of(*on))
    answer = engine.segment(embedding, Prompt.of(*on, off=off), first)
    assert answer.mask.shape == (h, w) and answer.mask.dtype == np.bool_
    assert 0 <= answer.score <= 1
    assert all(answer.mask[y, x] for x, y in on)
    assert not any(answer.mask[y, x] for x, y in off)


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        (Prompt.of(), "nothing shows"),
        (Prompt.of(off=((3, 3),)), "nothing shows"),
        (Prompt.of((10, 20)), "outside"),
        (Prompt.of((-1, 0)), "outside"),
        (Prompt.of((float("nan"), 1)), "not numbers"),
        (Prompt.of(box=(3, 3, 3, 9)), "no area"),
        (Prompt.of(box=(9, 9, 3, 3)), "no area"),
        (Prompt.of(box=(50, 50, 60, 60)), "no area"),
        (Prompt.of(box=(0, 0, float("inf"), 3)), "four numbers"),
        (Prompt(np.zeros((2, 2), np.float32), np.ones(1, np.bool_)), "signs"),
    ],
)
def test_a_prompt_that_fits_nothing_is_refused(
    engine: BuiltinSegmenter, prompt: Prompt, word: str
) -> None:
    embedding = engine.embed(np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(PromptError, match=word):
        engine.segment(embedding, prompt)


def test_neighbours_of_another_size_are_refused(engine: BuiltinSegmenter) -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(PromptError, match="another size"):
        engine.embed(image, [image[:9]])


def test_options_are_checked() -> None:
    for wrong in ({"work_pixels": 1}, {"cell_px": 0}, {"crop_pixels": 5}, {"grow_share": -1.0}):
        with pytest.raises(OptionError):
            Options(**wrong)  # type: ignore[arg-type]


def test_superpixels_cover_the_frame_in_connected_pieces() -> None:
    image = np.ascontiguousarray(plate(4)[:, :W])
    lab = regions.lab_of(image)
    labels = regions.superpixels(lab, 6)
    count = int(labels.max()) + 1
    assert np.unique(labels).size == count and 0.4 < count / (H * W / 36) < 1.6
    for label in range(0, count, 37):
        pieces, _ = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=4)
        assert pieces == 2
    graph = regions.build(lab, labels, regions.grain_of(image, (W, H)))
    assert graph.area.sum() == H * W and (graph.pairs[:, 0] < graph.pairs[:, 1]).all()


@pytest.fixture(scope="module")
def painted() -> tuple[Image, Mask]:
    """A figure painted over in grey, as a codec leaves it."""
    image = plate(8, 90)[:, :W].copy()
    truth = ellipse(80, 60, 14, 30) | ellipse(110, 40, 30, 4)
    rng = np.random.default_rng(8)
    grey = np.asarray([124, 126, 123])
    image[truth] = grey + rng.choice([0, 0, 0, 1, -1, 3], (int(truth.sum()), 1))
    return image, truth


def test_flat_paint_is_found_to_the_pixel(
    engine: BuiltinSegmenter, painted: tuple[Image, Mask]
) -> None:
    image, truth = painted
    embedding = engine.embed(image)
    clicked = engine.segment(embedding, Prompt.of((80, 60)))
    assert iou(clicked.mask, truth) > 0.93
    boxed_in = engine.segment(embedding, Prompt.of(box=(65, 29, 142, 92)))
    assert iou(boxed_in.mask, truth) > 0.93


def test_small_gaps_in_paint_are_closed_unless_clicked_off(
    engine: BuiltinSegmenter, painted: tuple[Image, Mask]
) -> None:
    image, truth = painted
    image = image.copy()
    image[70:73, 80:83] = (200, 20, 20)
    embedding = engine.embed(image)
    first = engine.segment(embedding, Prompt.of((80, 50)))
    assert first.mask[70:73, 80:83].all()
    second = engine.segment(embedding, Prompt.of((80, 50), off=((81, 71),)), first)
    assert not second.mask[70:73, 80:83].any() and iou(second.mask, truth) > 0.93


def test_a_correction_of_paint_leaves_the_rest(
    engine: BuiltinSegmenter, painted: tuple[Image, Mask]
) -> None:
    image, truth = painted
    embedding = engine.embed(image)
    first = engine.segment(embedding, Prompt.of((80, 60)))
    second = engine.segment(embedding, Prompt.of((80, 60), (80, 96)), first)
    assert second.mask[96, 80]
    upper = np.arange(H)[:, None] < 60
    assert iou(second.mask & upper, truth & upper) > 0.93


def test_what_a_camera_sees_is_not_paint(two_coloured: tuple[Image, Mask]) -> None:
    image, truth = two_coloured
    noisy = image + np.random.default_rng(0).integers(0, 12, (H, W, 1)).astype(np.uint8)
    on, sign = np.asarray([[80, 45]], np.float32), np.ones(1, np.bool_)
    assert paint.under(noisy, on, sign) is None
    assert paint.within(noisy, np.asarray([57, 27, 104, 94], np.float32)) is None
    dark = np.where(truth[..., None], np.uint8(8), image)
    assert paint.under(dark, on, sign) is None


def test_flat_paint_has_no_grain() -> None:
    """Sums of a box filter fall below 0 beside patches of noise: no square root of these."""
    rng = np.random.default_rng(185)
    h, w = int(rng.integers(30, 120)), int(rng.integers(30, 120))
    image = np.full((h, w, 3), int(rng.integers(0, 255)), np.uint8)
    for _ in range(3):
        y, x = rng.integers(0, h - 8), rng.integers(0, w - 8)
        image[y : y + 8, x : x + 8] = rng.integers(0, 255, (8, 8, 3))
    factor = float(rng.uniform(1, 3))
    grain = regions.grain_of(image, (round(w * factor), round(h * factor)))
    assert grain.min() == 0 and grain.max() > 1


def test_a_cut_is_the_cheapest_labelling() -> None:
    rng = np.random.default_rng(5)
    n = 9
    pairs = np.array([(i, j) for i in range(n) for j in range(i + 1, n) if j - i in (1, 3)])
    for _ in range(20):
        prefer = rng.normal(0, 1, n).astype(np.float32)
        cost = rng.uniform(0, 1, len(pairs)).astype(np.float32)
        best = min(
            (_energy(np.array([k >> i & 1 for i in range(n)], bool), prefer, pairs, cost))
            for k in range(2**n)
        )
        found = _energy(regions.cut(prefer, pairs.astype(np.int32), cost), prefer, pairs, cost)
        assert found == pytest.approx(best, abs=0.02)


def _energy(x: Mask, prefer: np.ndarray, pairs: np.ndarray, cost: np.ndarray) -> float:
    return float(-prefer[x].sum() + cost[x[pairs[:, 0]] != x[pairs[:, 1]]].sum())


def test_background_motion_follows_the_rim() -> None:
    """A large textured object in the middle moves one way, the background another."""
    background, cloth = plate(6), plate(7, 120)
    truth = ellipse(90, 60, 60, 42)
    a, b = background[:, 10 : 10 + W].copy(), background[:, 16 : 16 + W].copy()
    a[truth], b[truth] = cloth[:, 10 : 10 + W][truth], cloth[:, 10 : 10 + W][truth]
    grey_a, grey_b = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (a, b))
    matrix = moving.background_motion(grey_a, grey_b)
    assert matrix is not None
    assert matrix[0, 2] == pytest.approx(-6, abs=0.7)
