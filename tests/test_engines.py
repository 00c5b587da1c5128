"""What every engine promises (inpainterz/engines.py), held by every engine of the list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import pytest
from segmenting import check_hostile_clicks

from inpainterz import engines
from inpainterz.engines import Inpainter, Segmenter, Tracker
from inpainterz.errors import EngineUnavailable, OptionError, PromptError, WeightsMissing
from inpainterz.example import synthetic_images
from inpainterz.types import Frame, Inpainted, Mask, Origin, Prompt, Tracked

SIZES = [(49, 75), (17, 10), (5, 7), (1, 1)]


def _names(stage: engines.Stage) -> list[str]:
    return [e.name for e in engines.ENGINES if e.stage == stage and e.weights is None]


@pytest.fixture(scope="module", params=_names("segment"))
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    return engines.load("segment", request.param)


@pytest.fixture(scope="module", params=_names("track"))
def tracker(request: pytest.FixtureRequest) -> Tracker:
    return engines.load("track", request.param)


@pytest.fixture(scope="module", params=_names("inpaint"))
def inpainter(request: pytest.FixtureRequest) -> Inpainter:
    return engines.load("inpaint", request.param)


def frames_of(images: Iterable[np.ndarray], *, shots: tuple[int, ...] = ()) -> list[Frame]:
    return [
        Frame(image, i, 40 * i + 3, Fraction(1, 1000), sum(i >= cut for cut in shots))
        for i, image in enumerate(images)
    ]


def square(size: tuple[int, int], i: int, count: int = 12) -> Mask:
    """Where the square of `synthetic_images` is; at least one pixel in tiny frames."""
    h, w = size
    side = h // 3
    mask = np.zeros(size, bool)
    x, y = 20 + (w - side - 40) * i // max(1, count - 1), (h - side) // 2
    x = min(max(x, 0), w - 1)
    mask[y : y + max(1, side), x : x + max(1, side)] = True
    return mask


def clip(size: tuple[int, int], count: int = 12) -> tuple[list[Frame], list[Mask]]:
    h, w = size
    if min(size) >= 40:
        images = synthetic_images(count, h, w)
    else:
        random = np.random.default_rng(1)
        plate = random.integers(0, 255, (h, w, 3)).astype(np.uint8)
        images = [plate.copy() for _ in range(count)]
    return frames_of(images), [square(size, i, count) for i in range(count)]


class Counted:
    """Counts what an engine has taken in."""

    def __init__(self, items: Iterable[object]) -> None:
        self.items, self.taken = items, 0

    def __iter__(self) -> Iterator[object]:
        for item in self.items:
            self.taken += 1
            yield item


def identity(frame: Frame) -> tuple[object, ...]:
    return frame.index, frame.pts, frame.time_base, frame.shot, frame.image.shape


# ---------------------------------------------------------------- inpaint


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_inpaint_one_out_for_each_in_and_nothing_outside_the_hole(
    inpainter: Inpainter, size: tuple[int, int]
) -> None:
    frames, holes = clip(size)
    out = list(inpainter.inpaint(zip(frames, holes, strict=True)))
    assert [identity(o.frame) for o in out] == [identity(f) for f in frames]
    for item, frame, hole in zip(out, frames, holes, strict=True):
        assert item.frame.image.dtype == np.uint8
        assert np.array_equal(item.frame.image[~hole], frame.image[~hole])
        assert item.origin is not None
        assert item.confidence is not None
        assert np.array_equal(item.origin != Origin.KEPT, hole)


def test_inpaint_returns_the_very_frame_where_the_hole_is_empty(inpainter: Inpainter) -> None:
    frames, holes = clip((49, 75))
    holes[3] = np.zeros_like(holes[3])
    out = list(inpainter.inpaint(zip(frames, holes, strict=True)))
    assert out[3].frame is frames[3]
    assert out[3].origin is None
    nothing = [np.zeros((49, 75), bool)] * 4
    out = list(inpainter.inpaint(zip(frames[:4], nothing, strict=True)))
    assert all(o.frame is f for o, f in zip(out, frames[:4], strict=True))


def test_inpaint_looks_no_further_ahead_than_it_says(inpainter: Inpainter) -> None:
    frames, holes = clip((48, 72), inpainter.lookahead + 6)
    source = Counted(zip(frames, holes, strict=True))
    for i, _ in enumerate(inpainter.inpaint(source)):  # type: ignore[arg-type]
        assert source.taken <= min(len(frames), i + inpainter.lookahead + 1)


def test_inpaint_keeps_two_clips_apart(inpainter: Inpainter) -> None:
    one = clip((49, 75), 8)
    frames, holes = clip((49, 75), 8)
    two = (frames_of([255 - f.image for f in frames]), holes)
    alone = [list(inpainter.inpaint(zip(*c, strict=True))) for c in (one, two)]
    runs = [inpainter.inpaint(zip(*c, strict=True)) for c in (one, two)]
    woven: list[list[Inpainted]] = [[], []]
    for pair in zip(*runs, strict=True):
        for kept, item in zip(woven, pair, strict=True):
            kept.append(item)
    for a, b in zip(alone, woven, strict=True):
        for x, y in zip(a, b, strict=True):
            assert np.array_equal(x.frame.image, y.frame.image)


def test_inpaint_borrows_nothing_across_a_cut(inpainter: Inpainter) -> None:
    random = np.random.default_rng(3)
    grain = random.integers(0, 30, (40, 60, 3)).astype(np.uint8)
    red, blue = grain.copy(), grain.copy()
    red[..., 0] += 200
    blue[..., 2] += 200
    frames = frames_of([red] * 6 + [blue] * 6, shots=(6,))
    hole = np.zeros((40, 60), bool)
    hole[12:28, 20:40] = True
    empty = np.zeros_like(hole)
    out = list(inpainter.inpaint(zip(frames, [empty] * 6 + [hole] * 6, strict=True)))
    for item in out[6:]:
        filled = item.frame.image[hole].astype(int)
        assert filled[:, 0].max() < 100
        assert filled[:, 2].min() > 130


def test_inpaint_finds_what_other_frames_show(inpainter: Inpainter) -> None:
    """The square walks off its place: behind it is the plate, which the frames show."""
    count = 24
    frames, holes = clip((96, 160), count)
    plate = synthetic_images(count, 96, 160)  # same seed: the plate lies under the square
    clean = [plate_behind(i, count) for i in range(count)]
    assert plate[0].shape == clean[0].shape
    out = list(inpainter.inpaint(zip(frames, holes, strict=True)))
    errors = [
        np.square(o.frame.image[h].astype(float) - c[h]).mean()
        for o, h, c in zip(out, holes, clean, strict=True)
    ]
    assert 10 * np.log10(255**2 / np.mean(errors)) > 24


def plate_behind(i: int, count: int) -> np.ndarray:
    """Frame i of `synthetic_images(count, 96, 160)` without the square."""
    import cv2

    random = np.random.default_rng(7)
    noise = random.integers(60, 190, (96 // 6 + 2, (160 + count) // 6 + 2, 3)).astype(np.uint8)
    plate = cv2.resize(noise, (160 + count, 96), interpolation=cv2.INTER_CUBIC)
    return np.asarray(plate[:, i // 2 : i // 2 + 160], np.uint8)


@pytest.mark.parametrize("hole_in", ["one frame", "every frame"])
def test_inpaint_survives_a_hole_as_large_as_the_frame(inpainter: Inpainter, hole_in: str) -> None:
    frames, holes = clip((48, 64), 5)
    full = np.ones((48, 64), bool)
    holes = [full] * 5 if hole_in == "every frame" else [full, *holes[1:]]
    out = list(inpainter.inpaint(zip(frames, holes, strict=True)))
    assert len(out) == 5


def test_inpaint_takes_a_single_picture(inpainter: Inpainter) -> None:
    frames, holes = clip((64, 96), 1)
    (out,) = inpainter.inpaint([(frames[0], holes[0])])
    assert out.origin is not None
    assert (out.origin[holes[0]] == Origin.INVENTED).all()


# ---------------------------------------------------------------- track


def labels_of(mask: Mask, label: int = 1) -> np.ndarray:
    return mask.astype(np.uint8) * label


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_track_one_out_for_each_in(tracker: Tracker, size: tuple[int, int]) -> None:
    frames, masks = clip(size)
    out = list(tracker.track(frames, {0: labels_of(masks[0], 7)}))
    assert [identity(o.frame) for o in out] == [identity(f) for f in frames]
    assert np.array_equal(out[0].labels, labels_of(masks[0], 7))
    for item in out:
        assert item.labels.shape == size
        assert item.labels.dtype == np.uint8
        assert set(np.unique(item.labels)) <= {0, 7}
        assert set(item.confidence) == {7}
        assert all(0 <= c <= 1 for c in item.confidence.values())


def test_track_answers_before_it_takes_the_next_frame(tracker: Tracker) -> None:
    frames, masks = clip((49, 75))
    source = Counted(frames)
    for i, _ in enumerate(tracker.track(source, {0: labels_of(masks[0])})):  # type: ignore[arg-type]
        assert source.taken == i + 1


def test_track_keeps_two_clips_apart(tracker: Tracker) -> None:
    frames, masks = clip((48, 72), 8)
    other = frames_of([f.image[:, ::-1].copy() for f in frames])
    jobs = [(frames, labels_of(masks[0])), (other, labels_of(masks[0])[:, ::-1].copy())]
    alone = [list(tracker.track(f, {0: m})) for f, m in jobs]
    runs = [tracker.track(f, {0: m}) for f, m in jobs]
    woven: list[list[Tracked]] = [[], []]
    for pair in zip(*runs, strict=True):
        for kept, item in zip(woven, pair, strict=True):
            kept.append(item)
    for a, b in zip(alone, woven, strict=True):
        for x, y in zip(a, b, strict=True):
            assert np.array_equal(x.labels, y.labels)


@pytest.mark.parametrize("backwards", [False, True])
def test_track_follows_the_square_either_way_in_time(tracker: Tracker, backwards: bool) -> None:
    frames, masks = clip((96, 160), 20)
    if backwards:
        frames = frames[::-1]
    out = list(tracker.track(frames, {frames[0].index: labels_of(masks[frames[0].index])}))
    overlaps = []
    for item in out:
        mask, found = masks[item.frame.index], item.labels > 0
        overlaps.append((mask & found).sum() / max(1, (mask | found).sum()))
    assert np.mean(overlaps) > 0.8


def test_track_takes_corrections_and_new_objects(tracker: Tracker) -> None:
    frames, masks = clip((96, 160), 10)
    corner = np.zeros((96, 160), np.uint8)
    corner[70:90, 5:25] = 2
    later = labels_of(masks[5]) + corner
    out = list(tracker.track(frames, {0: labels_of(masks[0]), 5: later}))
    assert np.array_equal(out[5].labels, later)
    assert all(2 not in o.labels for o in out[:5])
    assert all(2 in o.labels for o in out[5:8])


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {3: np.ones((49, 75), np.uint8)},
        {0: np.ones((48, 75), np.uint8)},
        {0: np.zeros((49, 75), np.uint8)},
    ],
    ids=["none", "not the first frame", "another size", "empty"],
)
def test_track_refuses_label_maps_that_do_not_fit(
    tracker: Tracker, labels: dict[int, np.ndarray]
) -> None:
    frames, _ = clip((49, 75))
    with pytest.raises(PromptError):
        list(tracker.track(frames, labels))


# ---------------------------------------------------------------- segment


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_segment_answers_at_the_frames_own_size(
    segmenter: Segmenter, size: tuple[int, int]
) -> None:
    frames, masks = clip(size, 3)
    ys, xs = np.nonzero(masks[0])
    embedding = segmenter.embed(frames[0].image)
    prompt = Prompt.of((float(xs[len(xs) // 2]), float(ys[len(ys) // 2])))
    answer = segmenter.segment(embedding, prompt)
    assert answer.mask.shape == size
    assert answer.mask.dtype == np.bool_
    assert 0 <= answer.score <= 1
    assert answer.mask[ys[len(ys) // 2], xs[len(xs) // 2]]


def test_segment_finds_the_square_and_obeys_further_clicks(segmenter: Segmenter) -> None:
    frames, masks = clip((96, 160), 12)
    embedding = segmenter.embed(frames[4].image, [f.image for f in (*frames[:4], *frames[5:])])
    ys, xs = np.nonzero(masks[4])
    middle = (float(xs.mean()), float(ys.mean()))
    first = segmenter.segment(embedding, Prompt.of(middle))
    overlap = (first.mask & masks[4]).sum() / (first.mask | masks[4]).sum()
    assert overlap > 0.6
    off = (float(xs.max() + 12), float(ys.mean()))
    second = segmenter.segment(embedding, Prompt.of(middle, off=(off,)), first)
    assert not second.mask[int(off[1]), int(off[0])]
    box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    boxed = segmenter.segment(embedding, Prompt.of(box=box))
    assert (boxed.mask & masks[4]).sum() / (boxed.mask | masks[4]).sum() > 0.75


def test_segment_embeddings_are_independent(segmenter: Segmenter) -> None:
    frames, masks = clip((49, 75), 12)
    ys, xs = np.nonzero(masks[0])
    prompt = Prompt.of((float(xs.mean()), float(ys.mean())))
    first = segmenter.embed(frames[0].image)
    before = segmenter.segment(first, prompt)
    segmenter.embed(255 - frames[6].image)
    assert np.array_equal(segmenter.segment(first, prompt).mask, before.mask)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt.of(),
        Prompt.of(off=((3.0, 3.0),)),
        Prompt.of((75.0, 3.0)),
        Prompt.of((-1.0, 3.0)),
        Prompt.of((float("nan"), 3.0)),
        Prompt.of(box=(10.0, 10.0, 10.0, 20.0)),
    ],
    ids=["nothing", "only off", "right of it", "left of it", "nan", "flat box"],
)
def test_segment_refuses_prompts_that_do_not_fit(segmenter: Segmenter, prompt: Prompt) -> None:
    frames, _ = clip((49, 75), 1)
    embedding = segmenter.embed(frames[0].image)
    with pytest.raises(PromptError):
        segmenter.segment(embedding, prompt)


def test_segment_takes_a_hundred_clicks_and_refuses_what_is_no_picture(
    segmenter: Segmenter,
) -> None:
    check_hostile_clicks(segmenter)


# ---------------------------------------------------------------- load


def test_load_names_the_engines_there_are() -> None:
    with pytest.raises(OptionError, match="no inpaint engine called 'magic'") as caught:
        engines.load("inpaint", "magic")
    assert "builtin" in caught.value.hint
    with pytest.raises(OptionError, match="device"):
        engines.load("inpaint", "builtin", device="tpu")


def test_load_takes_options_by_name_and_refuses_others() -> None:
    with pytest.raises(OptionError, match="unknown option 'colour'"):
        engines.load("inpaint", "builtin", options={"colour": 1})
    with pytest.raises(OptionError, match="not options of this engine"):
        engines.load("inpaint", "builtin", options=engines.ENGINES[0])


@pytest.mark.parametrize("entry", [e for e in engines.ENGINES if e.weights], ids=lambda e: e.name)
def test_load_without_weights_names_the_command(
    entry: engines.Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    from inpainterz import weights

    monkeypatch.setattr(weights, "folders", lambda *_: [])
    with pytest.raises((WeightsMissing, EngineUnavailable)) as caught:
        engines.load(entry.stage, entry.name)
    assert "inpainterz weights fetch" in str(caught.value)
