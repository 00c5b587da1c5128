"""Who is in the clip: things found with nobody pointing, linked over time, listed and removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import walker
from clips import Coding, Scene, make, texture
from command import Run
from PIL import Image as Picture

from inpainterz import VideoReader, VideoWriter, WriteOptions, engines, who
from inpainterz.detect.builtin import REACH, MovingDetector, Options
from inpainterz.errors import InputError, OptionError, PromptError
from inpainterz.masks import MaskStore
from inpainterz.types import Detected, Detection, Frame, Image, Mask, Prompt, Segmentation
from inpainterz.video.shots import find_cuts

H, W = 120, 200
SHORT = 16
TWO = [((10.0, 14.0), (4.0, 0.0), 36), ((160.0, 74.0), (-4.0, 0.0), 28)]


def frames_of(images: list[Image], *, cuts: tuple[int, ...] = ()) -> list[Frame]:
    return [
        Frame(image, i, i, Fraction(1, 25), sum(i >= cut for cut in cuts))
        for i, image in enumerate(images)
    ]


def scene(
    count: int,
    things: list[tuple[tuple[float, float], tuple[float, float], int]],
    *,
    pan: float = 0.0,
    seed: int = 0,
) -> tuple[list[Image], list[list[Mask]]]:
    """Textured squares over a textured plate; things are (start x, y), (dx, dy a frame), side."""
    plate = texture(H, W + round(abs(pan) * count) + 1, seed, 30, 160)
    images, masks = [], []
    for i in range(count):
        image = plate[:, round(pan * i) :][:, :W].copy()
        shown = []
        for k, ((x, y), (dx, dy), side) in enumerate(things):
            left, top = round(x + dx * i), round(y + dy * i)
            mask = np.zeros((H, W), bool)
            mask[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = True
            look = texture(H, W, 50 + k, 120, 255)
            rows, columns = np.nonzero(mask)
            image[rows, columns] = look[(rows - top) % H, (columns - left) % W]
            shown.append(mask)
        images.append(image)
        masks.append(shown)
    return images, masks


def overlap(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def detected(images: list[Image], **options: object) -> list[Detected]:
    return list(MovingDetector(Options(**options)).detect(frames_of(images), every=1))


@pytest.mark.parametrize("pan", [0.0, 1.6])
def test_what_moves_is_found_and_nothing_else(pan: float) -> None:
    images, masks = scene(26, [((10, 20), (4, 0), 34), ((150, 70), (-3, 0.4), 30)], pan=pan)
    seen = detected(images)
    assert [d.index for d in seen] == list(range(26))
    for index in (4, 6, 8, 20):
        for truth in masks[index]:
            best = max(seen[index].found, key=lambda d: overlap(d.mask, truth))
            assert overlap(best.mask, truth) > 0.7 and best.score > 0.6
        for found in seen[index].found:
            x0, y0, x1, y1 = found.box
            assert 0 <= x0 < x1 <= W and 0 <= y0 < y1 <= H
            assert found.mask.shape == (H, W) and 0 <= found.score <= 1


@pytest.mark.parametrize("pan", [0.0, 1.6])
def test_nothing_moves_nothing_is_found(pan: float) -> None:
    images, _ = scene(20, [], pan=pan)
    noise = np.random.default_rng(1)
    noisy = [np.clip(i + noise.normal(0, 3, i.shape), 0, 255).astype(np.uint8) for i in images]
    assert sum(len(d.found) for d in detected(noisy)) == 0


@pytest.mark.parametrize("size", [(49, 75), (17, 10), (5, 7), (1, 1)])
def test_any_size_and_a_single_frame(size: tuple[int, int]) -> None:
    image = texture(200, 200, 3)[: size[0], : size[1]]
    for count in (1, 3):
        seen = detected([image] * count)
        assert [d.index for d in seen] == list(range(count))
        assert all(d.image.shape[:2] == size for d in seen)


def test_it_looks_a_bounded_number_ahead_and_never_over_a_cut() -> None:
    images, _ = scene(40, [((10, 20), (4, 0), 34)])
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in frames_of(images, cuts=(25,)):
            taken += 1
            yield frame

    at = []
    for one in MovingDetector(Options()).detect(counted(), every=2):
        assert taken - 1 - one.index <= 2 * (REACH + 1)
        at.append(one.index)
    assert at == [*range(0, 25, 2), *range(25, 40, 2)]
    alone = list(MovingDetector(Options()).detect(frames_of(images[:25]), every=2))
    both = list(MovingDetector(Options()).detect(frames_of(images, cuts=(25,)), every=2))
    for a, b in zip(alone, both, strict=False):
        assert [d.score for d in a.found] == [d.score for d in b.found]


def test_a_large_frame_is_looked_at_small() -> None:
    image = cv2.resize(texture(100, 160, 1), (1600, 1000))
    (one,) = detected([image], max_side_px=320)
    assert one.image.shape == (200, 320, 3)


@pytest.mark.parametrize(
    "options", [{"max_side_px": 3}, {"gap_s": 0}, {"gap_s": float("nan")}, {"least_share": 0}]
)
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        Options(**options)  # type: ignore[arg-type]
    with pytest.raises(OptionError):
        list(MovingDetector(Options()).detect([], every=0))


class Told:
    """A detector that says what a test tells it."""

    gap_s = 0.04

    def __init__(self, masks: list[list[tuple[Mask, str]]], *, exact: bool = True) -> None:
        self.masks, self.exact = masks, exact

    def detect(self, frames: Iterator[Frame], *, every: int) -> Iterator[Detected]:
        for frame in frames:
            found = []
            for mask, name in self.masks[frame.index]:
                if mask.any():
                    ys, xs = np.nonzero(mask)
                    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
                    found.append(Detection(mask, box, 0.9, name, exact=self.exact))
            yield Detected(frame.index, frame.shot, frame.image, tuple(found))


def listed(video: VideoReader, detector: object, **options: object) -> tuple[who.Item, ...]:
    listings = list(
        who.search(
            video,
            detector,  # type: ignore[arg-type]
            cuts=find_cuts(video),
            options=who.Options(**options),  # type: ignore[arg-type]
        )
    )
    assert all(not one.items for one in listings[:-1])
    assert [one.done for one in listings] == sorted(one.done for one in listings)
    assert listings[-1].done == listings[-1].total == len(video)
    return listings[-1].items


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose frames look alike: what is seen in it is told by the test."""
    made = Scene(width=W, height=H, frames=40)
    return make(tmp_path_factory.mktemp("who") / "plain.mp4", made, Coding(sound=None)).path


def test_things_keep_their_number_through_a_meeting_and_a_gap(plain: Path) -> None:
    _, masks = scene(40, [((5, 20), (4, 0), 30), ((165, 24), (-4, 0), 30)])
    told: list[list[tuple[Mask, str]]] = []
    for index, (a, b) in enumerate(masks):
        if index in (9, 10, 11):
            told.append([])  # nothing is seen for a while
        elif (a & b).any():
            told.append([(a | b, "moving")])  # they are one region where they meet
        else:
            told.append([(a, "moving"), (b, "moving")])
    with VideoReader(plain) as video:
        items = listed(video, Told(told))
        assert len(items) == 2
        assert [i.id for i in items] == [1, 2]
        for item in items:
            assert (item.first, item.last, item.shot) == (0, 39, 0)
            assert item.thumbnail is not None and max(item.thumbnail.shape) == 160
            best = who.mask_of(item.moments[0], video.size)
            assert max(overlap(best, truth) for truth in masks[item.best]) == 1
        sides = {round(float(np.nonzero(who.mask_of(m, video.size))[1].mean() - 4 * m.frame))
                 for m in items[0].moments if m.quality > 0.5}  # fmt: skip
        assert len(sides) == 1  # always the same one of the two


def test_late_arrivals_other_names_and_short_ones(plain: Path) -> None:
    _, masks = scene(40, [((5, 20), (3, 0), 30), ((20, 80), (3, 0), 20), ((150, 70), (0, 0), 20)])
    told = [
        [(a, "person"), *([(b, "dog")] if i >= 25 else []), *([(c, "cat")] if i == 7 else [])]
        for i, (a, b, c) in enumerate(masks)
    ]
    with VideoReader(plain) as video:
        items = listed(video, Told(told))
        assert [(i.name, i.first, i.last) for i in items] == [("person", 0, 39), ("dog", 25, 39)]
        assert items[1].best >= 25
        assert items[0].confidence >= items[1].confidence
        segmenter = engines.load("segment")
        labels = who.labels(video, items, [2], segmenter)
        assert min(labels) >= 25 and items[1].best in labels
        assert set(np.unique(labels[items[1].best])) == {0, 2}
        assert overlap(labels[items[1].best] == 2, masks[items[1].best][1]) > 0.95
        both = who.labels(video, items, [1, 2], segmenter)
        assert set(both) > set(labels)
        for bad, match in (([3], "no number 3"), ([], "nothing in the list is chosen")):
            with pytest.raises(PromptError, match=match):
                who.labels(video, items, bad, segmenter)
        with pytest.raises(PromptError, match="nothing was found"):
            who.labels(video, (), [1], segmenter)


class OneByOne:
    """A segmenter that takes the ellipse in each box for the object, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, image: Image, neighbours: object = ()) -> tuple[int, int]:
        return image.shape[0], image.shape[1]

    def segment(self, size: tuple[int, int], prompt: Prompt, _: object = None) -> Segmentation:
        self.calls += 1
        assert prompt.box is not None and not len(prompt.points)
        x0, y0, x1, y1 = prompt.box
        y, x = np.mgrid[: size[0], : size[1]]
        inside = ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 < 1
        return Segmentation(inside, 0.9)


class AtOnce(OneByOne):
    def segment_boxes(self, size: tuple[int, int], boxes: np.ndarray) -> list[Segmentation]:
        found = [self.segment(size, Prompt.of(box=tuple(box.tolist()))) for box in boxes]
        self.calls = self.calls - len(boxes) + 1
        return found


def test_boxes_of_one_frame_are_answered_in_one_go_where_the_segmenter_can(plain: Path) -> None:
    still = np.zeros((2, H, W), bool)
    still[0, 20:60, 10:70] = still[1, 50:110, 120:180] = True
    told = [[(still[0], "person"), (still[1], "dog")]] * 40
    with VideoReader(plain) as video:
        items = listed(video, Told(told, exact=False))
        single, many = OneByOne(), AtOnce()
        one = who.labels(video, items, [1, 2], single)
        other = who.labels(video, items, [1, 2], many)
        assert list(one) == list(other) and many.calls == len(one) < single.calls
        for index in one:
            assert np.array_equal(one[index], other[index])
            for item in items:
                found, box = one[index] == item.id, still[("person", "dog").index(item.name)]
                assert 0.7 < found.sum() / box.sum() < 0.85 and not (found & ~box).any()


def test_a_thing_ends_at_a_cut(tmp_path: Path) -> None:
    made = make(tmp_path / "a.mp4", Scene(width=W, height=H, frames=40, cuts=(20,)))
    still = np.zeros((H, W), bool)
    still[40:80, 60:120] = True
    with VideoReader(made.path) as video:
        items = listed(video, Told([[(still, "person")]] * 40))
        assert sorted((i.shot, i.first, i.last) for i in items) == [(0, 0, 19), (1, 20, 39)]


def test_what_is_kept_of_a_thing_does_not_grow(plain: Path) -> None:
    still = np.zeros((H, W), bool)
    still[40:80, 60:120] = True
    with VideoReader(plain) as video:
        seen = list(Told([[(still, "person")]] * 40).detect(video.frames(), every=1))
        linker = who._Linker(video.size, 1, 25.0, who.Options(), 40)
        for turn in range(8):
            for one in seen:
                linker.take(Detected(40 * turn + one.index, 0, one.image, one.found))
        (item,) = linker.items()
        assert (item.first, item.last) == (0, 319)
        assert len(item.moments) <= 24


def test_the_list_is_written_and_read_again(plain: Path, tmp_path: Path) -> None:
    _, masks = scene(40, [((5, 20), (3, 0), 30)])
    with VideoReader(plain) as video:
        items = listed(video, Told([[(m, "person")] for (m,) in masks]))
        data = json.loads(json.dumps(who.as_json(video, items, "people")))
        again = who.from_json(video, data)
        assert [(i.id, i.name, i.best, i.box) for i in again] == [
            (i.id, i.name, i.best, i.box) for i in items
        ]
        assert (
            who.mask_of(again[0].moments[0], video.size)
            == who.mask_of(items[0].moments[0], video.size)
        ).all()
        assert who.sheet(items).shape[2] == 3
        assert who.sheet(()).shape[2] == 3
        other = {**data, "frames": 41}
        with pytest.raises(InputError, match="another clip"):
            who.from_json(video, other)
        moment = data["items"][0]["moments"][0]
        for wrong in (
            [],
            {},
            {**data, "items": 3},
            {**data, "items": [{}]},
            {**data, "items": data["items"] * 2},
            {**data, "items": [{**data["items"][0], "id": 300}]},
            {**data, "items": [{**data["items"][0], "moments": []}]},
            {**data, "items": [{**data["items"][0], "moments": [{**moment, "mask": "AAAA"}]}]},
            {**data, "items": [{**data["items"][0], "moments": [{**moment, "frame": 99}]}]},
            {**data, "items": [{**data["items"][0], "moments": [{**moment, "shape": [9**9, 9]}]}]},
            {
                **data,
                "items": [{**data["items"][0], "moments": [{**moment, "box": [0, 0, 0, "a"]}]}],
            },
        ):
            with pytest.raises(InputError):
                who.from_json(video, wrong)


def test_which_detector_looks_for_what() -> None:
    assert who.engine_for("moving") == ("builtin", {})
    assert who.engine_for("people") == ("mask2former", {"names": ("person",)})
    words = ("person", "dog", "skateboard")
    assert who.engine_for("person. dog. skateboard.") == ("grounding-dino", {"names": words})
    assert who.engine_for("dog", "mask2former") == ("mask2former", {"names": ("dog",)})
    for what, detector in (("", None), (" . ", None), ("dog", "builtin"), ("moving", "nobody")):
        with pytest.raises(OptionError):
            who.engine_for(what, detector)


# With no click and no list ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two squares that move, as a clip."""
    images, _ = scene(SHORT, TWO)
    target = tmp_path_factory.mktemp("crowd") / "crowd.mkv"
    with (
        VideoReader(plain) as video,
        VideoWriter(
            target, like=video, options=WriteOptions(codec="ffv1"), start=0, stop=SHORT
        ) as writer,
    ):
        everything = np.ones(video.size, np.bool_)
        for frame, image in zip(video.frames(0, SHORT), images, strict=True):
            writer.write(replace(frame, image=image), everything)
    return target


@pytest.fixture(scope="module")
def two(crowd: Path) -> tuple[who.Item, ...]:
    """The list of that clip."""
    with VideoReader(crowd) as video:
        return listed(video, engines.load("detect"))


@pytest.mark.parametrize("option", ["--who", "--everyone-but"])
def test_numbers_go_or_stay_without_a_list(
    crowd: Path,
    two: tuple[who.Item, ...],
    option: str,
    tmp_path: Path,
    run: Run,
) -> None:
    clean = tmp_path / "clean.mkv"
    answer = run("remove", crowd, option, "1", "-o", clean, "--codec", "ffv1", "--json")
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    assert report["options"]["fill"]["objects"] == [1 if option == "--who" else 2]
    assert report["objects"] == ([1] if option == "--who" else [1, 2])
    images, masks = scene(SHORT, TWO)
    plate, _ = scene(SHORT, [])
    first = two[0]
    best = who.mask_of(first.moments[0], (H, W))
    one = int(np.argmax([overlap(best, truth) for truth in masks[first.best]]))
    gone = one if option == "--who" else 1 - one
    with VideoReader(clean) as video:
        for index in range(2, SHORT - 2):
            image = video.frame(index).image.astype(int)
            there, away = masks[index][1 - gone], masks[index][gone]
            error = np.abs(image - plate[index])[away].mean()
            assert error < 0.35 * np.abs(images[index].astype(int) - plate[index])[away].mean()
            # he that stays is as he was
            assert np.abs(image - images[index])[there].mean() < 4


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--who", "7"), "no number 7"),
        (("--everyone-but", "7"), "no number 7"),
        (("--who", "1,x"), "not a list of numbers"),
        (("--everyone-but", ""), "not a list of numbers"),
        (("--who", "-1"), "not a list of numbers"),
        (("--everyone-but", "1,2"), "nobody is left"),
        (("--who", "1", "--everyone-but", "2"), "exclude each other"),
    ],
)
def test_bad_numbers_are_one_sentence(
    crowd: Path,
    two: tuple[who.Item, ...],
    arguments: tuple[str, ...],
    match: str,
    tmp_path: Path,
    run: Run,
) -> None:
    clean, listing = tmp_path / "clean.mkv", tmp_path / "who.json"
    with VideoReader(crowd) as video:
        listing.write_text(json.dumps(who.as_json(video, two, "moving")))
    answer = run("remove", crowd, *arguments, "--list", listing, "-o", clean)
    assert answer.code == 2
    assert match in answer.err
    assert list(tmp_path.iterdir()) == [listing]


# The example clip ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crossing(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example clip as long as he is in the picture."""
    target = tmp_path_factory.mktemp("crossing") / "crossing.mp4"
    with (
        VideoReader(street) as video,
        VideoWriter(target, like=video, options=WriteOptions(crf=10), start=0, stop=30) as writer,
    ):
        for frame in video.frames(0, 30):
            writer.write(frame, np.zeros(video.size, np.bool_))
    return target


def test_list_finds_the_walker_and_remove_who_removes_him_with_no_click(
    crossing: Path,
    street_truth: dict[int, walker.Reference],
    tmp_path: Path,
    run: Run,
) -> None:
    def told(*arguments: object) -> dict[str, object]:
        answer = run(*arguments, "--json")
        assert answer.code == 0, answer.err
        found = json.loads(answer.out)
        assert isinstance(found, dict)
        return found

    listing, clean, masks = tmp_path / "who.json", tmp_path / "clean.mp4", tmp_path / "masks.zip"
    items = told("list", crossing, "-o", listing)["items"]
    assert isinstance(items, list)
    first, *others = items
    assert first["confidence"] > 0.7
    assert all(o["confidence"] < 0.6 * first["confidence"] for o in others)  # the bollard
    assert first["first"] <= 2 and 24 <= first["last"] <= 29
    with Picture.open(listing.with_suffix(".png")) as sheet:
        assert min(sheet.size) > 200

    report = told(
        *("remove", crossing, "--who", first["id"], "--list", listing, "-o", clean),
        *("--option", "track.max_side_px=320", "--save-masks", masks),
    )
    assert report["objects"] == [first["id"]]
    errors, overlaps = {}, {}
    with VideoReader(clean) as video, MaskStore(tmp_path / "masks") as store:
        store.take(masks, len(video), video.size)
        for index, wanted in street_truth.items():
            spot = wanted.walker & wanted.care & ~np.isnan(wanted.plate).any(-1)
            labels = store.get(index)
            assert labels is not None
            overlaps[index] = overlap((labels > 0) & wanted.care, wanted.walker & wanted.care)
            if spot.sum() >= 200:
                image = video.frame(index).image.astype(np.float32)
                errors[index] = 10 * np.log10(
                    255**2 / np.square(image[spot] - wanted.plate[spot]).mean()
                )
    assert np.mean(list(overlaps.values())) > 0.65, overlaps
    assert len(errors) >= 10
    assert np.mean(list(errors.values())) > 24, errors
