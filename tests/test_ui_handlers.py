"""The page's handlers as plain functions: session in, session out, no browser."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import clips
import cv2
import numpy as np
import pytest

from inpainterz import pipeline
from inpainterz.engines import Inpainter, load
from inpainterz.errors import InpainterzError, InputError, PromptError, VideoOpenError
from inpainterz.masks import decode_labels, encode_labels
from inpainterz.pipeline import Engines, FillOptions
from inpainterz.segment.cache import EmbeddingCache
from inpainterz.types import Image, Mask, Segmentation
from inpainterz.ui import files, inputs, pictures, proxy
from inpainterz.ui.handlers import follow, footage, marks, objects, removal, things, trial
from inpainterz.ui.session import Session, pack, unpack
from inpainterz.ui.shelf import Shelf
from inpainterz.video.reader import VideoReader

SCENE = clips.Scene(width=128, height=96, frames=13, seed=3)
FILL = FillOptions()


@pytest.fixture(scope="module")
def engines() -> Engines:
    return Engines.load()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "square.mp4", SCENE).path


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    tab = Session.create(tmp_path)
    yield tab
    tab.close()
    assert not list(tmp_path.glob("tab-*"))


@pytest.fixture
def opened(session: Session, clip: Path) -> Session:
    return upload(session, clip)


def upload(session: Session, source: Path, name: str | None = None) -> Session:
    """As the browser does it: the file lies in a folder of its own below the uploads."""
    root = session.folder.parent
    landed = root / "0123abcd" / source.name
    landed.parent.mkdir(exist_ok=True)
    landed.write_bytes(source.read_bytes())
    return footage.open_upload(session, root, str(landed), name or source.name)


def middle(index: int) -> list[float]:
    ys, xs = np.nonzero(SCENE.mask(index))
    return [float(xs.mean()) + 0.5, float(ys.mean()) + 0.5]


def overlap(a: Mask, b: Mask) -> float:
    return float((a & b).sum()) / max(1, int((a | b).sum()))


def run(steps: Iterator[Session]) -> list[tuple[str, int, int | None]]:
    """All steps of a job, as (work, done, total) at each."""
    told = []
    for session in steps:
        if session.job is not None:
            told.append((session.job.work, session.job.done, session.job.total))
    return told


def clicked(session: Session, engines: Engines, index: int = 0) -> Session:
    footage.seek(session, index)
    return marks.mark(session, engines, "add", middle(index))


@pytest.fixture
def followed(opened: Session, engines: Engines) -> Session:
    run(follow.track(clicked(opened, engines), engines))
    return opened


# ---------------------------------------------------------------- clip


def test_an_upload_becomes_the_clip(opened: Session) -> None:
    clip = opened.clip
    assert clip is not None and opened.phase == "select"
    assert (clip.name, clip.width, clip.height, clip.frames) == ("square.mp4", 128, 96, 13)
    assert clip.fps == 25 and clip.sound and clip.plays
    assert clip.path.parent == opened.folder
    assert opened.folder.stat().st_mode & 0o777 == 0o700


def test_the_name_is_for_reading_only(session: Session, clip: Path) -> None:
    upload(session, clip, "../../etc/<b>x</b>\x00\n" + "y" * 200 + ".mp4")
    assert session.clip is not None
    assert "/" not in session.clip.name and "\n" not in session.clip.name
    assert len(session.clip.name) <= 80
    assert session.clip.path.parent == session.folder


@pytest.mark.parametrize("path", [None, 7, "", "/etc/passwd", "..", ["a"]])
def test_only_uploads_are_opened(session: Session, path: object) -> None:
    with pytest.raises(InputError, match="did not arrive"):
        footage.open_upload(session, session.folder.parent, path, "x.mp4")


def test_another_tabs_file_is_no_upload(session: Session, clip: Path, tmp_path: Path) -> None:
    other = upload(Session.create(tmp_path), clip)
    assert other.clip is not None
    for stolen in (other.clip.path, other.folder / ".." / other.folder.name / "source.mp4"):
        with pytest.raises(InputError, match="did not arrive"):
            footage.open_upload(session, tmp_path, str(stolen), "x.mp4")
    outside = tmp_path / "0123abcd" / "link.mp4"
    outside.symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="did not arrive"):
        footage.open_upload(session, tmp_path, str(outside), "x.mp4")
    other.close()


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 50])
def test_a_bad_file_is_told_by_its_own_name(
    session: Session, tmp_path: Path, content: bytes
) -> None:
    bad = tmp_path / "holiday.mp4"
    bad.write_bytes(content)
    with pytest.raises(VideoOpenError) as told:
        upload(session, bad)
    assert "“holiday.mp4”" in str(told.value)
    assert str(session.folder) not in str(told.value)
    assert session.clip is None and session.phase == "clip"
    assert not list(session.folder.iterdir())


def test_a_file_that_is_cut_short_is_told(session: Session, clip: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.mp4"
    part.write_bytes(clip.read_bytes()[:-2000])
    with pytest.raises(VideoOpenError, match=r"“part\.mp4” is cut short"):
        upload(session, part)


# ---------------------------------------------------------------- select


def test_one_click_selects_the_square(opened: Session, engines: Engines) -> None:
    clicked(opened, engines, 6)
    found = opened.view(6) == 1
    assert overlap(found, SCENE.mask(6)) > 0.8
    assert opened.prompted() == [6]


def test_a_frame_is_looked_at_once(opened: Session, engines: Engines) -> None:
    class Counting:
        embedded = 0

        def embed(self, image: Image, neighbours: Any = ()) -> object:
            Counting.embedded += 1
            return engines.segmenter.embed(image, neighbours)

        def segment(self, embedding: Any, prompt: Any, previous: Any = None) -> Segmentation:
            return engines.segmenter.segment(embedding, prompt, previous)

    counting = replace(engines, segmenter=Counting())
    marks.look(opened, counting)
    clicked(opened, counting)
    x, y = middle(0)
    marks.mark(opened, counting, "add", [x + 4, y])
    marks.mark(opened, counting, "exclude", [100.0, 5.0])
    assert Counting.embedded == 1
    marks.look(footage.seek(opened, 3), counting)
    assert Counting.embedded == 2
    marks.look(footage.seek(opened, 0), counting)  # kept, as there is room
    assert Counting.embedded == 2
    assert not opened.refining  # of another frame
    renamed = replace(counting, names={**counting.names, "segment": "another"})
    marks.look(opened, renamed)
    assert Counting.embedded == 3


def test_users_share_the_room_for_embeddings_and_never_an_embedding(
    clip: Path, tmp_path: Path, engines: Engines
) -> None:
    shared = EmbeddingCache()
    one, other = (upload(Session.create(tmp_path, embeddings=shared), clip) for _ in range(2))
    marks.look(one, engines)
    marks.look(other, engines)
    name = engines.names.get("segment", "")
    assert len(shared) == 2
    assert one.embedding(0, name) is not other.embedding(0, name)
    one.forget_clip()
    assert len(shared) == 1 and one.embeddings is shared
    assert other.embedding(0, name) is not None
    other.close()
    assert len(shared) == 0 and shared.nbytes == 0
    other.keep_embedding(0, name, np.zeros(9))  # work that ends after it was closed
    assert len(shared) == 0


def test_without_room_a_frame_is_looked_at_again(opened: Session, engines: Engines) -> None:
    opened.embeddings = EmbeddingCache(1)
    for frame in (0, 3, 0):
        marks.look(footage.seek(opened, frame), engines)
        assert len(opened.embeddings) == 1
    clicked(opened, engines)
    assert opened.prompted() == [0]


def test_a_click_belongs_to_the_frame_that_the_user_saw(opened: Session, engines: Engines) -> None:
    footage.seek(opened, 2)
    marks.mark(opened, engines, "add", middle(9), 9)
    assert opened.frame == 9 and opened.prompted() == [9]


def test_a_box_selects_too(opened: Session, engines: Engines) -> None:
    x, y = middle(0)
    marks.mark(opened, engines, "box", [x + 20, y + 20, x - 20, y - 20])  # any two corners
    assert overlap(opened.view(0) == 1, SCENE.mask(0)) > 0.7


def test_undo_redo_and_reset(opened: Session, engines: Engines) -> None:
    clicked(opened, engines, 0)
    first = opened.view(0)
    clicked(opened, engines, 5)
    footage.seek(opened, 8)
    marks.undo(opened)
    assert opened.frame == 5 and not opened.view(5).any()
    assert (opened.view(0) == first).all()
    marks.redo(opened)
    assert opened.view(5).any() and opened.prompted() == [0, 5]
    marks.undo(opened)
    marks.undo(opened)
    marks.undo(opened)  # nothing is left: nothing happens
    assert not opened.marks and not opened.prompted()
    marks.redo(opened)
    objects.reset(opened)
    assert not opened.marks and not opened.undone and opened.labels == [1]


@pytest.mark.parametrize(
    ("kind", "at", "frame"),
    [
        ("add", [-1, 5], None),
        ("add", [128, 5], None),
        ("add", [float("nan"), 5], None),
        ("add", [True, 5], None),
        ("add", ["1", 5], None),
        ("add", [1], None),
        ("add", None, None),
        ("add", {"x": 1}, None),
        ("box", [1, 2], None),
        ("box", [5, 5, 5.5, 5.5], None),
        ("box", [float("inf"), 0, 5, 5], None),
        ("paint", [5, 5], None),
        (["add"], [5, 5], None),
        (None, [5, 5], None),
        ("mask", [5, 5], None),
        ("brush", [5, 5, 5], None),
        ("brush", [], None),
        ("brush", [1e9, 5], None),
        ("brush", [5.0] * 4002, None),
        ("erase", [5, 5], None),
        ("add", [10**400, 5], None),
        ("exclude", [5, 5], None),
        ("add", [5, 5], 13),
        ("add", [5, 5], -1),
        ("add", [5, 5], 1.5),
        ("add", [5, 5], "0"),
        ("add", [5, 5], float("inf")),
    ],
)
def test_what_no_click_can_be_is_refused(
    opened: Session, engines: Engines, kind: object, at: object, frame: object
) -> None:
    with pytest.raises(PromptError):
        marks.mark(opened, engines, kind, at, frame, radius_px=4)
    assert not opened.marks and not opened.answers


@pytest.mark.parametrize("radius", [None, 0, -3, "4", True, float("nan"), 1e9])
def test_a_brush_has_a_size(opened: Session, engines: Engines, radius: object) -> None:
    with pytest.raises(PromptError, match="brush"):
        marks.mark(opened, engines, "brush", [5, 5], radius_px=radius)
    assert not opened.marks


def test_painting_adds_pixels_and_erasing_takes_them_away(
    opened: Session, engines: Engines
) -> None:
    marks.mark(opened, engines, "brush", [30, 40, 70, 40], radius_px=5)
    painted = opened.view(0) == 1
    assert painted[40, 25] and painted[40, 50] and painted[44, 50] and not painted[48, 50]
    assert abs(int(painted.sum()) - (40 * 10 + 3.14 * 25)) < 60
    marks.mark(opened, engines, "erase", [50, 40], radius_px=8)
    left = opened.view(0) == 1
    assert not left[40, 50] and left[40, 30] and left[40, 70]
    # a click now corrects what was painted: it does not throw it away
    x, y = middle(0)
    marks.mark(opened, engines, "add", [x, y])
    joined = opened.view(0) == 1
    assert joined[left].all() and overlap(joined & SCENE.mask(0), SCENE.mask(0)) > 0.6
    for _ in range(3):
        marks.undo(opened)
    assert not opened.view(0).any()


def test_an_object_has_a_name_and_can_be_hidden(opened: Session, engines: Engines) -> None:
    clicked(opened, engines)
    objects.name_object(opened, 1, "  the <b>walker</b>\n" + "x" * 100)
    assert opened.names[1].startswith("the <b>walker</b>x") and len(opened.names[1]) == 40
    objects.show_object(opened, 1, False)
    assert opened.hidden == {1} and opened.view(0).any()
    objects.show_object(opened, 1, True)
    objects.name_object(opened, 1, " ")
    assert not opened.hidden and not opened.names
    with pytest.raises(PromptError):
        objects.name_object(opened, 1, 7)
    with pytest.raises(PromptError):
        objects.name_object(opened, 2, "x")


def masks_zip(path: Path, frames: range) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        for index in frames:
            bundle.writestr(f"{index:06d}.png", encode_labels(SCENE.mask(index).astype(np.uint8)))
    return path


def test_masks_of_all_frames_are_taken_as_followed(
    opened: Session, engines: Engines, tmp_path: Path
) -> None:
    objects.import_masks(opened, masks_zip(tmp_path / "all.zip", range(SCENE.frames)))
    assert opened.tracked and not opened.stale and opened.labels == [1]
    assert (opened.view(7) == SCENE.mask(7)).all()
    run(removal.remove(opened, engines, FILL))
    assert opened.result is not None
    # and what a removal gives is taken again: the project file
    project = tmp_path / "project.zip"
    project.write_bytes(opened.result.project.read_bytes())
    removal.back(opened)
    objects.reset(opened)
    objects.import_masks(opened, project)
    assert opened.tracked and (opened.view(7) == SCENE.mask(7)).all()


def test_masks_of_some_frames_are_prompts(
    opened: Session, engines: Engines, tmp_path: Path
) -> None:
    objects.import_masks(opened, masks_zip(tmp_path / "two.zip", range(3, 5)))
    assert not opened.tracked and opened.prompted() == [3, 4]
    footage.seek(opened, 6)
    one = tmp_path / "one.png"
    one.write_bytes(encode_labels(SCENE.mask(6).astype(np.uint8) * 2))
    objects.import_masks(opened, one)
    assert opened.prompted() == [3, 4, 6] and opened.labels == [1, 2]
    marks.undo(opened)
    assert opened.prompted() == [3, 4]


def test_bad_masks_are_told(opened: Session, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    for content in (
        b"no picture",
        encode_labels(np.zeros((96, 128), np.uint8)),
        encode_labels(np.ones((9, 12), np.uint8)),
        encode_labels(np.full((96, 128), 9, np.uint8)),
        masks_zip(tmp_path / "past.zip", range(0, 40, 39)).read_bytes()[:-40],
    ):
        bad.write_bytes(content)
        with pytest.raises(InputError):
            objects.import_masks(opened, bad)
    assert not opened.marks and not opened.tracked
    assert not (opened.folder / "masks.new").exists()


@pytest.mark.parametrize("label", [0, 2, -1, None, "1", 1.5, True, float("nan")])
def test_an_object_that_is_not_there_is_refused(opened: Session, label: object) -> None:
    for handler in (objects.pick_object, objects.delete_object):
        with pytest.raises(PromptError):
            handler(opened, label)


def test_without_a_clip_nothing_works(session: Session, engines: Engines) -> None:
    tries: list[Callable[[], object]] = [
        lambda: footage.seek(session, 0),
        lambda: marks.mark(session, engines, "add", [1, 1]),
        lambda: objects.add_object(session),
        lambda: next(follow.track(session, engines)),
        lambda: next(removal.remove(session, engines, FILL)),
    ]
    for attempt in tries:
        with pytest.raises(InputError, match="no clip"):
            attempt()
    marks.undo(session)
    objects.reset(session)
    session.cancel()
    removal.back(session)
    removal.forth(session)
    assert session.phase == "clip"


def test_several_objects(opened: Session, engines: Engines) -> None:
    objects.add_object(opened)
    assert opened.labels == [1]  # the first has no click yet
    clicked(opened, engines)
    objects.add_object(opened)
    assert opened.labels == [1, 2] and opened.label == 2
    marks.mark(opened, engines, "box", [90, 5, 120, 30])
    shown = opened.shown()[0]
    assert set(np.unique(shown)) == {0, 1, 2}
    objects.delete_object(opened, 1)
    assert opened.labels == [2] and opened.label == 2
    assert set(np.unique(opened.view(0))) == {0, 2}
    assert all(mark.label == 2 for mark in opened.marks)
    objects.pick_object(opened, 2)
    objects.delete_object(opened, 2)
    assert opened.labels == [1] and not opened.prompted()


# ---------------------------------------------------------------- people and things


def test_what_moves_is_found_and_taken(session: Session, engines: Engines, tmp_path: Path) -> None:
    scene = clips.Scene(width=160, height=120, frames=24, seed=3)
    upload(session, clips.make(tmp_path / "long.mp4", scene).path)
    told = run(things.find_things(session, lambda: load("detect"), "moving"))
    assert session.job is None and ("things", 24, 24) in told
    assert session.found and pictures.found_picture(session, session.found[0].id)[:2] == b"\xff\xd8"
    for bad in (None, [], ["1"], [99], [1, 99], {"1": 1}):
        with pytest.raises(PromptError, match="nothing of that"):
            things.take_things(session, engines, bad)
    things.take_things(session, engines, [session.found[0].id])
    assert session.labels == [1] and session.prompted()
    best = session.found[0].best
    assert session.frame == best
    assert overlap(session.view(best) == 1, scene.mask(best)) > 0.5
    for what in (None, "", "   ", 7, "x" * 81):
        with pytest.raises(InputError):
            inputs.words(session, what)
    with pytest.raises(InpainterzError):
        run(things.find_things(session, lambda: Shelf().detector("a dog"), "a dog"))
    assert session.job is None


# ---------------------------------------------------------------- follow


def test_following_fills_every_frame(opened: Session, engines: Engines) -> None:
    told = run(follow.track(clicked(opened, engines, 7), engines))
    assert told and all(total is None or done <= total for _, done, total in told)
    assert opened.tracked and not opened.stale and opened.job is None
    overlaps = [overlap(opened.view(i) == 1, SCENE.mask(i)) for i in range(SCENE.frames)]
    assert min(overlaps) > 0.6, overlaps


def test_a_change_makes_it_stale_and_undo_does_not(followed: Session, engines: Engines) -> None:
    assert not followed.stale
    clicked(followed, engines, 10)
    # the click hit what is selected already: that confirms it, as a mask of the user's own
    assert followed.stale
    with pytest.raises(PromptError, match="not followed"):
        next(removal.remove(followed, engines, FILL))
    marks.undo(followed)
    assert not followed.stale


def test_a_correction_starts_from_what_was_followed(followed: Session, engines: Engines) -> None:
    before = followed.view(8) == 1
    footage.seek(followed, 8)
    marks.mark(followed, engines, "add", [120.0, 6.0])  # a patch of the plate
    after = followed.view(8) == 1
    assert (after & before).sum() == before.sum() and after[6, 120]
    marks.mark(followed, engines, "exclude", [120.0, 6.0])
    cleaned = followed.view(8) == 1
    assert not cleaned[6, 120]
    assert overlap(cleaned, before) > 0.8
    run(follow.track(followed, engines))
    assert not followed.stale
    assert overlap(followed.view(12) == 1, SCENE.mask(12)) > 0.6


def test_a_correction_is_followed_only_as_far_as_it_reaches(
    followed: Session, engines: Engines
) -> None:
    marks.mark(followed, engines, "brush", middle(0), 0, radius_px=60)  # wrong: nearly all
    seen: list[int] = []

    class Watching:
        def track(self, frames: Any, labels: Any) -> Iterator[Any]:
            for tracked in engines.tracker.track(frames, labels):
                seen.append(tracked.frame.index)
                yield tracked

    watched = replace(engines, tracker=Watching())
    marks.undo(followed)
    marks.mark(followed, engines, "brush", middle(2), 2, radius_px=3)  # right already
    before = [followed.view(i) for i in range(SCENE.frames)]
    run(follow.track(followed, watched))
    assert not followed.stale and followed.job is None
    # both ways until it has settled, and not to where it was shown first, frame 7
    assert set(seen) <= set(range(0, 8)) and 2 in seen and 0 in seen
    for index in range(7, SCENE.frames):
        assert (followed.view(index) == before[index]).all()
    # a new object is followed through the whole clip, and the first one stays as it is
    objects.add_object(followed)
    footage.seek(followed, 4)
    marks.mark(followed, engines, "box", [90, 5, 120, 30])
    seen.clear()
    run(follow.track(followed, watched))
    assert set(seen) == set(range(SCENE.frames))
    for index in (0, 6, 12):
        labels = followed.view(index)
        assert set(np.unique(labels)) == {0, 1, 2}
        assert overlap(labels == 1, before[index] == 1) > 0.95
    # and what is taken back is followed as a whole again
    marks.undo(followed)
    seen.clear()
    run(follow.track(followed, watched))
    assert len(seen) > SCENE.frames


def test_a_deleted_object_leaves_the_followed_masks(opened: Session, engines: Engines) -> None:
    clicked(opened, engines)
    objects.add_object(opened)
    marks.mark(opened, engines, "box", [90, 5, 120, 30])
    run(follow.track(opened, engines))
    objects.delete_object(opened, 2)
    assert not opened.stale  # what is left was followed
    objects.add_object(opened)
    assert opened.labels == [1, 2]
    with opened.masks() as store:
        assert all(not (labels == 2).any() for _, labels in store.items())


def test_cancelled_following_keeps_what_was(followed: Session, engines: Engines) -> None:
    before = followed.view(12)
    clicked(followed, engines, 10)
    steps = follow.track(followed, engines)
    next(steps)
    assert followed.job is not None
    with pytest.raises(InputError, match="still running"):
        objects.reset(followed)
    followed.cancel()
    run(steps)
    assert followed.job is None and followed.stale
    assert (followed.view(12) == before).all()
    assert not (followed.folder / "masks.new").exists()


def test_closing_a_job_frees_it(followed: Session, engines: Engines) -> None:
    steps = removal.remove(followed, engines, FILL)
    next(steps)
    next(steps)
    steps.close()
    assert followed.job is None and followed.result is None
    assert not (followed.folder / "out").exists()
    assert followed.phase == "select"


# ---------------------------------------------------------------- remove


def test_the_square_is_gone(followed: Session, engines: Engines) -> None:
    told = run(removal.remove(followed, engines, FILL))
    made = followed.result
    assert made is not None and followed.phase == "result" and told
    assert made.clean.name == "square-clean.mp4"
    with VideoReader(made.clean) as clean:
        assert len(clean) == SCENE.frames and clean.size == (96, 128)
        assert [s.kind for s in clean.info.streams] == ["video", "audio"]
        for frame in clean.frames():
            hole = SCENE.mask(frame.index)
            error = frame.image[hole].astype(float) - SCENE.plate(frame.index)[hole]
            psnr = 10 * np.log10(255**2 / np.mean(error**2))
            assert psnr > 24, (frame.index, psnr)
    with zipfile.ZipFile(made.masks) as bundle:
        assert len(bundle.namelist()) == SCENE.frames
        assert decode_labels(bundle.read("000005.png")).shape == (96, 128)
    assert made.frames_with_hole == SCENE.frames and made.seen_px > 0
    for film in (made.overlay, made.origin_view):
        with VideoReader(film) as video:
            assert len(video) == SCENE.frames and proxy.plays(video.info)
    report = json.loads(made.report.read_text("utf-8"))
    assert report["frames"] == SCENE.frames and report["engines"]["inpaint"] == "builtin"
    assert report["seen_px"] == made.seen_px
    with zipfile.ZipFile(made.project) as bundle:
        told = json.loads(bundle.read("project.json"))
        assert told["marks"][0]["kind"] == "add" and len(bundle.namelist()) == 1 + SCENE.frames
    removal.back(followed)
    assert followed.phase == "select" and followed.result is made
    removal.forth(followed)
    assert followed.phase == "result"
    clicked(followed, engines, 4)
    assert followed.result is None  # it would not fit the selection any more


def test_a_clip_that_browsers_do_not_play_gets_a_view(
    session: Session, engines: Engines, tmp_path: Path
) -> None:
    scene = clips.Scene(width=65, height=49, frames=4, seed=2)
    coding = clips.Coding(codec="ffv1", pix_fmt="yuv444p", sound="aac")
    upload(session, clips.make(tmp_path / "raw.mkv", scene, coding).path)
    assert session.clip is not None and not session.clip.plays
    marks.mark(session, engines, "box", [0, 12, 20, 40])
    run(follow.track(session, engines))
    run(removal.remove(session, engines, FILL))
    assert session.result is not None
    for view in (session.result.before_view, session.result.after_view):
        with VideoReader(view) as video:
            assert proxy.plays(video.info) and len(video) == 4
            assert video.size == (48, 64)
            assert {s.kind for s in video.info.streams} == {"video", "audio"}
    with VideoReader(session.result.clean) as clean:
        assert clean.size == (49, 65)


def test_only_a_part_of_the_clip_changes(followed: Session, engines: Engines) -> None:
    assert inputs.part(followed, [0, SCENE.frames - 1]) is None
    part = inputs.part(followed, [4, 6])
    run(removal.remove(followed, engines, FILL, part=part))
    made = followed.result
    assert made is not None and made.frames_with_hole == 3
    with VideoReader(made.clean) as clean:
        for frame in clean.frames():
            hole = SCENE.mask(frame.index)
            error = frame.image[hole].astype(float) - SCENE.plate(frame.index)[hole]
            gone = 10 * np.log10(255**2 / np.mean(error**2)) > 20
            assert gone == (4 <= frame.index <= 6), frame.index
    with zipfile.ZipFile(made.masks) as bundle:
        assert len(bundle.namelist()) == SCENE.frames


def test_two_seconds_are_filled_to_look_at(followed: Session, engines: Engines) -> None:
    footage.seek(followed, 9)
    run(trial.preview(followed, engines, FILL))
    assert followed.job is None and followed.phase == "select" and followed.result is None
    (shown,) = followed.trials
    assert (shown.engine, shown.start, shown.stop) == ("builtin", 0, 13)  # the clip is shorter
    with VideoReader(shown.view) as video:
        assert len(video) == 13 and proxy.plays(video.info)
        hole = SCENE.mask(6)
        error = video.frame(6).image[hole].astype(float) - SCENE.plate(6)[hole]
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 20
    other = replace(engines, names={**engines.names, "inpaint": "other"})
    run(trial.preview(followed, other, FILL))
    assert [t.engine for t in followed.trials] == ["builtin", "other"]  # side by side
    clicked(followed, engines, 4)
    assert not followed.trials


@dataclass
class Counting:
    """An inpainter that counts what it is given to fill."""

    inner: Inpainter
    frames: int = 0
    pixels: int = 0

    @property
    def lookahead(self) -> int:
        return self.inner.lookahead

    @property
    def options(self) -> object:
        return getattr(self.inner, "options", None)

    def inpaint(self, frames: Any) -> Iterator[Any]:
        def told() -> Iterator[Any]:
            for frame, hole in frames:
                self.frames += bool(hole.any())
                self.pixels += int(hole.sum())
                yield frame, hole

        return self.inner.inpaint(told())


def removed(session: Session, engines: Engines, fill: FillOptions = FILL) -> tuple[Counting, Path]:
    """Remove anew; what the engine was given, and the clean clip."""
    removal.back(session)
    counting = Counting(engines.inpainter)
    session.result = None
    run(removal.remove(session, replace(engines, inpainter=counting), fill))
    assert session.result is not None
    return counting, session.result.clean


def test_the_whole_clip_takes_over_what_was_previewed(followed: Session, engines: Engines) -> None:
    """A preview of all there is: the same bytes as without it, and nothing left to fill."""
    fresh, clean = removed(followed, engines)
    wanted = clean.read_bytes()
    assert fresh.frames == followed.result.frames_with_hole > 10  # type: ignore[union-attr]
    assert followed.result.frames_reused == 0  # type: ignore[union-attr]
    counting = Counting(engines.inpainter)
    run(trial.preview(followed, replace(engines, inpainter=counting), FILL))
    assert counting.frames == fresh.frames
    again, clean = removed(followed, engines)
    assert clean.read_bytes() == wanted
    assert again.pixels < 0.02 * fresh.pixels
    assert followed.result is not None and followed.result.frames_reused >= fresh.frames - 1
    told = json.loads(followed.result.report.read_text("utf-8"))
    assert told["frames_taken_from_previews"] == followed.result.frames_reused

    # other holes: all is filled again
    more, _ = removed(followed, engines, FillOptions(grow_px=5))
    assert more.frames == fresh.frames and followed.result.frames_reused == 0


def test_ghosts_are_told_and_covered_where_asked_for(
    followed: Session, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[str] = []
    fill = pipeline.fill

    def with_ghosts(*given: Any, ghost: Any, options: FillOptions, **more: Any) -> Any:
        passes.append(options.second_pass)
        for index in (2, 3, 4, 5, 6):
            ghost(index)
        return fill(*given, ghost=ghost, options=options, **more)

    monkeypatch.setattr(pipeline, "fill", with_ghosts)
    for second_pass in ("none", "box"):
        removed(followed, engines, FillOptions(second_pass=second_pass))
        assert followed.result is not None
        told = json.loads(followed.result.report.read_text("utf-8"))
        assert told["second_pass"] == second_pass
        assert told["ghost_frames"] == list(followed.result.ghost_frames) == [2, 3, 4, 5, 6]
    assert passes == ["none", "box"]


def test_a_part_that_was_previewed_is_taken_over(
    session: Session, engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "PREVIEW_SECONDS", 0.6)
    scene = clips.Scene(width=64, height=48, frames=34, seed=5)
    upload(session, clips.make(tmp_path / "long.mp4", scene).path)
    bundle = tmp_path / "masks.zip"
    with zipfile.ZipFile(bundle, "w") as masks:
        for index in range(scene.frames):
            masks.writestr(f"{index:06d}.png", encode_labels(scene.mask(index).astype(np.uint8)))
    objects.import_masks(session, bundle)
    footage.seek(session, 8)
    run(trial.preview(session, engines, FILL))
    assert (session.trials[0].start, session.trials[0].stop) == (8, 23)
    other = replace(engines, names={**engines.names, "inpaint": "other"})
    assert trial.pieces_for(session, other) == []
    counting, clean = removed(session, engines)
    assert session.result is not None and session.result.frames_reused >= 13
    assert counting.frames <= session.result.frames_with_hole - 13
    with VideoReader(clean) as video:
        for frame in video.frames():
            hole = scene.mask(frame.index)
            error = frame.image[hole].astype(float) - scene.plate(frame.index)[hole]
            assert 10 * np.log10(255**2 / np.mean(error**2)) > 22, frame.index


def test_a_still_shows_what_the_canvas_would(opened: Session, engines: Engines) -> None:
    def shown() -> Image:
        data = np.frombuffer(pictures.still(opened), np.uint8)
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], np.int16)

    before = shown()
    marks.mark(opened, engines, "add", middle(0))
    changed = np.abs(shown() - before).max(-1) > 40
    assert overlap(changed, opened.view(0) == 1) > 0.7
    objects.show_object(opened, 1, False)
    dot = np.abs(shown() - before).max(-1) > 40
    assert 20 < dot.sum() < changed.sum() / 3  # the click alone


def test_a_clip_can_be_played_before_anything_is_removed(session: Session, tmp_path: Path) -> None:
    scene = clips.Scene(width=64, height=48, frames=5)
    upload(session, clips.make(tmp_path / "square.mkv", scene).path)
    assert session.clip is not None and not session.clip.plays
    assert session.film() is None and files.file_of(session, "film") is None
    run(footage.make_film(session))
    film, download = files.file_of(session, "film") or (Path(), True)
    assert not download
    with VideoReader(film) as video:
        assert len(video) == 5 and proxy.plays(video.info)
    assert session.job is None


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a b.mov", "a-b"), ("..", "clip"), ("../x.mp4", "x"), ("Über.mp4", "Über"), ("", "clip")],
)
def test_names_of_downloads(name: str, stem: str) -> None:
    assert removal._stem(footage._plain_name(name)) == stem


def test_masks_pack_and_unpack() -> None:
    mask = SCENE.mask(5)
    assert (unpack(pack(mask), mask.shape) == mask).all()
    nothing = np.zeros((7, 5), np.bool_)
    assert not unpack(pack(nothing), (7, 5)).any()
