"""What each event of the page does: session in, session out. No component is touched here.

Handlers that take long are generators: they yield the session now and then so that progress can
be shown, and free everything when they are closed or when the session's job is told to stop.
Whatever comes from the browser is checked here, also what the page itself would never send.
"""

from __future__ import annotations

import base64
import logging
import math
import os
import secrets
import shutil
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import cv2
import numpy as np

from inpainterz import example, pipeline
from inpainterz.engines import Inpainter
from inpainterz.errors import InpainterzError, InputError, PromptError
from inpainterz.masks import MaskStore
from inpainterz.pipeline import Engines, FillOptions
from inpainterz.preview import overlay
from inpainterz.types import Frame, Image, Inpainted, Mask, Origin, Prompt
from inpainterz.ui import proxy
from inpainterz.ui.session import (
    MOST_MARKS,
    MOST_OBJECTS,
    Clip,
    Job,
    Kind,
    Mark,
    Result,
    Session,
    pack,
)
from inpainterz.video.reader import VideoReader
from inpainterz.video.shots import find_cuts
from inpainterz.video.writer import VideoWriter

log = logging.getLogger(__name__)

VIEW_SIDE_PX = 1280
"""Longest side of a frame as it is sent to the browser."""

LIVE_SIDE_PX = 720
"""Longest side of the newest frame while a job runs."""

LIVE_EVERY = 0.4
"""Seconds between two pictures of a running job."""

MOST_PICTURES = 200
"""How many frames of a clip are kept as pictures for the browser."""

CUT_REACH = 48
"""How far around a frame cuts are looked for before the whole clip was searched, in frames."""

STUDYING = "Looking at what is behind"
"""What an inpainter does before its first frame comes out."""

Steps = Generator[Session]


class Stopped(Exception):
    """The user pressed Cancel; raised between two frames, caught where the job began."""


# ---------------------------------------------------------------- clip


def open_upload(session: Session, uploads: Path, path: object, name: object) -> Session:
    """Take an uploaded file as the clip of this tab.

    Args:
        session: the tab.
        uploads: the folder that uploads land in, each in a folder of its own.
        path: where the browser says the upload is; believed only inside `uploads`.
        name: what the user calls it, for people to read only.

    Raises:
        VideoError: it is not a video that can be read.
        InputError: the path is not an upload.
    """
    _idle(session)
    if not isinstance(path, str) or not isinstance(name, str):
        raise InputError("the upload did not arrive", "Try again")
    found = Path(os.path.realpath(path))
    inside = found.parent.parent == Path(os.path.realpath(uploads))
    if not inside or found.parent.name.startswith("tab-") or not found.is_file():
        raise InputError("the upload did not arrive", "Try again")
    return _open(session, found, name)


def open_example(session: Session) -> Steps:
    """Take the example clip, which may have to be made first.

    Raises:
        InpainterzError: it cannot be made.
    """
    _idle(session)
    session.job = Job("Getting the example clip", started=time.monotonic())
    try:
        yield session
        made = example.prepare()
    finally:
        session.job = None
    _open(session, made.path, made.path.name)
    session.frame = min(made.prompts)
    yield session


def _open(session: Session, source: Path, name: str) -> Session:
    held = session.folder / f"source{_suffix(source)}"
    session.forget_clip()
    try:
        os.link(source, held)  # no second copy on disk; the upload itself is swept later
    except OSError:
        shutil.copyfile(source, held)
    name = _plain_name(name)
    try:
        with VideoReader(held) as video:
            info = video.info
        session.clip = Clip(
            path=held,
            name=name,
            width=info.width,
            height=info.height,
            frames=info.frames,
            fps=info.fps,
            duration=info.duration,
            sound=any(s.kind == "audio" for s in info.streams),
            codec=info.codec,
            plays=proxy.plays(info),
        )
        picture(session, 0)
    except InpainterzError as error:
        session.forget_clip()
        # people know the name that they gave, not the one that we keep it under
        error.message = error.message.replace(str(held), f"“{name}”")
        raise
    session.phase = "select"
    return session


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return suffix if len(suffix) <= 6 and suffix[1:].isalnum() else ""


def _plain_name(name: str) -> str:
    """The last part of a file name, without what cannot be printed, not too long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if c.isprintable()).strip()
    return kept[:80] or "clip"


def start_over(session: Session) -> Session:
    """Forget the clip and everything made of it."""
    _idle(session)
    session.forget_clip()
    return session


# ---------------------------------------------------------------- select


def seek(session: Session, frame: object) -> Session:
    """Look at another frame.

    Raises:
        PromptError: there is no such frame.
    """
    clip = _clip(session)
    index = _whole(frame)
    if index is None or not 0 <= index < clip.frames:
        raise PromptError(f"there is no frame {_shown(frame)}", f"The last is {clip.frames - 1}")
    picture(session, index)
    session.frame = index
    return session


def picture(session: Session, frame: int) -> Path:
    """A JPEG of a frame in the session's folder; the `MOST_PICTURES` newest are kept.

    Raises:
        VideoDecodeError: the clip is damaged there.
    """
    clip = _clip(session)
    folder = session.folder / "view"
    path = folder / f"{frame:06d}.jpg"
    if not path.is_file():
        folder.mkdir(mode=0o700, exist_ok=True)
        with VideoReader(clip.path) as video:
            image = video.frame(frame).image
        part = path.with_suffix(f".{secrets.token_hex(4)}")
        part.write_bytes(jpeg(image, VIEW_SIDE_PX))
        part.replace(path)
        kept = sorted(folder.glob("*.jpg"), key=lambda p: p.stat().st_mtime)
        for old in kept[: max(0, len(kept) - MOST_PICTURES)]:
            old.unlink(missing_ok=True)
    return path


def look(session: Session, engines: Engines) -> Session:
    """Let the segmenter look at the frame in view, so that clicks are answered at once."""
    if session.clip is not None and session.job is None:
        _look(session, session.clip, engines, session.frame)
    return session


def _look(session: Session, clip: Clip, engines: Engines, frame: int) -> None:
    engine = engines.names.get("segment", "")
    if (session.embedding_frame, session.embedding_engine) == (frame, engine):
        return
    with VideoReader(clip.path) as video:
        cuts = session.cuts
        if cuts is None:
            first, end = max(0, frame - CUT_REACH), min(clip.frames, frame + CUT_REACH + 1)
            with closing(video.frames(first, end)) as near:
                found = find_cuts(video, frames=near)
            cuts = tuple(cut for cut in found if cut > first)
        _, embedding = pipeline.embed(video, frame, engines.segmenter, cuts=cuts)
    session.forget_embedding()
    session.embedding, session.embedding_frame = embedding, frame
    session.embedding_engine = engine


def mark(
    session: Session, engines: Engines, kind: object, at: object, frame: object = None
) -> Session:
    """A click or a box on a frame, for the object in hand.

    In a frame where the object is known from following it, a click corrects: what lies under an
    added click joins the mask, what lies under an excluded one leaves it. Elsewhere all clicks
    together are one prompt.

    Args:
        session: the tab.
        engines: its segmenter answers.
        kind: "add", "exclude" or "box".
        at: x, y or x0, y0, x1, y1 in source pixels.
        frame: the one that the user saw; None: the one in view.

    Raises:
        PromptError: it does not fit the frame, or nothing was found there.
    """
    session.handled += 1
    clip = _clip(session)
    _idle(session)
    if frame is not None and frame != session.frame:
        seek(session, frame)
    tool = _tool(kind)
    place = _place(at, 4 if tool == "box" else 2)
    if tool == "box":
        x0, x1 = sorted((place[0], place[2]))
        y0, y1 = sorted((place[1], place[3]))
        place = (max(0.0, x0), max(0.0, y0), min(x1, clip.width), min(y1, clip.height))
        if place[2] - place[0] < 2 or place[3] - place[1] < 2:
            raise PromptError("the box is too small", "Drag it around the whole object")
    elif not (0 <= place[0] < clip.width and 0 <= place[1] < clip.height):
        raise PromptError("the click is outside the frame")
    if len(session.marks) >= MOST_MARKS:
        raise PromptError("there are too many clicks", "Undo some, or reset")
    index, label = session.frame, session.label
    _look(session, clip, engines, index)
    before = session.answers.get((index, label))
    base = _tracked(session, index, label)
    if base is not None:
        found = _correct(session, engines, base, tool, place)
    else:
        trial = Mark(index, label, tool, place, before, b"")
        session.marks.append(trial)
        try:
            prompt = session.prompt(index, label)
        finally:
            session.marks.pop()
        if prompt.box is None and not prompt.positive.any():
            raise PromptError("there is nothing to exclude from yet", "Click the object first")
        answer = engines.segmenter.segment(session.embedding, prompt, session.refining.get(label))
        session.refining[label] = answer
        found = answer.mask
    if not found.any() and tool != "exclude":
        session.refining.pop(label, None)
        raise PromptError("nothing was found there", "Click the middle of the object")
    after = pack(found)
    session.marks.append(Mark(index, label, tool, place, before, after))
    session.undone.clear()
    session.put_answer(index, label, after)
    return session


def _tracked(session: Session, frame: int, label: int) -> Mask | None:
    """An object's mask that a correction starts from: followed, or corrected before."""
    if not session.tracked:
        return None
    followed = session.masks().get(frame)
    if followed is None or not (followed == label).any():
        return None
    own = session.answer(frame, label)
    return np.asarray(followed == label) if own is None else own


def _correct(
    session: Session, engines: Engines, base: Mask, tool: Kind, place: tuple[float, ...]
) -> Mask:
    """A mask with what lies under one more click or box added or taken away."""
    segmenter = engines.segmenter
    if tool == "box":
        return segmenter.segment(session.embedding, Prompt.of(box=_four(place))).mask
    x, y = place
    anchor = _middle(base, away_from=(x, y))
    inside = bool(base[int(y), int(x)])
    if tool == "add":
        if inside:
            return base
        part = segmenter.segment(session.embedding, Prompt.of((x, y))).mask
        return np.asarray(base | part)
    if not inside:
        return base
    prompt = Prompt.of((x, y)) if anchor is None else Prompt.of((x, y), off=(anchor,))
    part = segmenter.segment(session.embedding, prompt).mask
    return np.asarray(base & ~part)


def _middle(mask: Mask, *, away_from: tuple[float, float]) -> tuple[float, float] | None:
    """A point deep inside a mask and far from a click; None where there is none."""
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    ys, xs = np.ogrid[: mask.shape[0], : mask.shape[1]]
    far = np.hypot(xs - away_from[0], ys - away_from[1])
    score = np.minimum(depth, far / 4)
    best = int(score.argmax())
    if float(score.flat[best]) < 3:
        return None
    return best % mask.shape[1] + 0.5, best // mask.shape[1] + 0.5


def undo(session: Session) -> Session:
    """Take the last click back, wherever it was, and show that frame."""
    _idle(session)
    if session.marks:
        last = session.marks.pop()
        session.undone.append(last)
        _restore(session, last, last.before)
    return session


def redo(session: Session) -> Session:
    """Repeat the click that was taken back last."""
    _idle(session)
    if session.undone:
        last = session.undone.pop()
        session.marks.append(last)
        _restore(session, last, last.after)
    return session


def _restore(session: Session, last: Mark, packed: bytes | None) -> None:
    session.put_answer(last.frame, last.label, packed)
    session.refining.pop(last.label, None)
    session.frame, session.label = last.frame, last.label


def reset(session: Session) -> Session:
    """Forget all clicks, objects and followed masks; keep the clip and the frame."""
    _idle(session)
    session.marks.clear()
    session.undone.clear()
    session.answers.clear()
    session.refining.clear()
    session.labels, session.label = [1], 1
    session.followed, session.doubtful, session.result = None, (), None
    session.masks().clear()
    return session


def add_object(session: Session) -> Session:
    """A new object, into hand; one that has no click yet is taken instead of a second one.

    Raises:
        PromptError: there are as many as there are colours.
    """
    _clip(session)
    _idle(session)
    counts = session.marked()
    empty = [label for label in session.labels if not counts[label]]
    if empty:
        session.label = empty[0]
        return session
    free = [label for label in range(1, MOST_OBJECTS + 1) if label not in session.labels]
    if not free:
        raise PromptError(f"{MOST_OBJECTS} objects are the most at once", "Remove these first")
    session.labels.append(free[0])
    session.label = free[0]
    return session


def pick_object(session: Session, label: object) -> Session:
    """Take an object into hand: clicks go to it.

    Raises:
        PromptError: there is no such object.
    """
    session.label = _label(session, label)
    return session


def delete_object(session: Session, label: object) -> Session:
    """Forget an object with its clicks and its masks.

    Raises:
        PromptError: there is no such object.
    """
    _idle(session)
    gone = _label(session, label)
    session.labels.remove(gone)
    session.marks = [m for m in session.marks if m.label != gone]
    session.undone = [m for m in session.undone if m.label != gone]
    session.answers = {key: a for key, a in session.answers.items() if key[1] != gone}
    session.refining.pop(gone, None)
    session.result = None
    if (
        session.followed is not None
    ):  # a later object may get the same number: its old masks must be gone
        with session.masks() as store:
            for index, labels in store.items():
                if (labels == gone).any():
                    labels[labels == gone] = 0
                    kept = {k: c for k, c in store.confidence(index).items() if k != gone}
                    store.put(index, labels, kept)
            session.doubtful = store.doubtful()
        session.followed = {key: a for key, a in session.followed.items() if key[1] != gone}
    if not session.labels:
        session.labels, session.followed = [1], None
    session.label = session.labels[0] if session.label == gone else session.label
    return session


# ---------------------------------------------------------------- follow


def track(session: Session, engines: Engines) -> Steps:
    """Follow the objects through the clip. What was followed before stays until this is done.

    Raises:
        PromptError: nothing is marked.
        InpainterzError: the clip is damaged, or the engine cannot run.
    """
    clip = _clip(session)
    _idle(session)
    if not session.prompted():
        raise PromptError("nothing is selected yet", "Click the thing that should go")
    if session.tracked and not session.stale:  # the second half of a double click
        yield session
        return
    job = session.job = Job("Looking at the clip", started=time.monotonic(), total=clip.frames)
    fresh = session.folder / "masks.new"
    session.notice = ""
    try:
        yield session  # shown at once, also where the first followed frame takes long
        with VideoReader(clip.path) as video, MaskStore(fresh) as store:
            yield from _find_cuts(session, video, job)
            shown, snapshot = session.shown(), dict(session.answers)
            _begin(job, "Following the selection", None)
            pace = _Pace()
            with closing(
                pipeline.propagate(
                    video,
                    shown,
                    engines.tracker,
                    store,
                    cuts=session.cuts or (),
                    progress=lambda step: _note(job, step.done, step.total),
                )
            ) as steps:
                for tracked in steps:
                    if pace.due():
                        image = overlay(tracked.frame.image, tracked.labels)
                        job.live, job.frame = data_jpeg(image, LIVE_SIDE_PX), tracked.frame.index
                        yield session
                    _go_on(job)
            doubtful = store.doubtful()
        old = session.folder / "masks"
        shutil.rmtree(old, ignore_errors=True)
        fresh.rename(old)
        session.followed, session.doubtful, session.result = snapshot, doubtful, None
    except Stopped:
        session.notice = ""
    finally:
        session.job = None
        shutil.rmtree(fresh, ignore_errors=True)
    yield session


def _find_cuts(session: Session, video: VideoReader, job: Job) -> Steps:
    """Search the whole clip for cuts, once."""
    if session.cuts is not None:
        return
    _begin(job, "Looking at the clip", len(video))
    yield session

    def counted(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            _note(job, frame.index + 1, len(video))
            _go_on(job)
            yield frame

    with closing(video.frames()) as frames:
        session.cuts = find_cuts(video, frames=counted(frames))


# ---------------------------------------------------------------- remove


def remove(session: Session, engines: Engines, fill: FillOptions) -> Steps:
    """Take the followed objects out of the clip and write the clean one.

    Args:
        session: the tab.
        engines: the inpainter fills.
        fill: growth and soft rim; which objects is the session's to say.

    Raises:
        PromptError: nothing was followed, or the selection changed since.
        InpainterzError: damaged clip, full disk, or the engine cannot run.
    """
    clip = _clip(session)
    _idle(session)
    if not session.tracked or session.stale:
        raise PromptError("the selection was not followed yet", "Press Track first")
    if session.phase == "result":  # the second half of a double click
        yield session
        return
    job = session.job = Job(STUDYING, total=clip.frames, started=time.monotonic())
    began = time.monotonic()
    out = session.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(mode=0o700)
    stem = _stem(clip.name)
    clean, zipped = out / f"{stem}-clean.mp4", out / f"{stem}-masks.zip"
    options = FillOptions(
        objects=frozenset(session.labels), grow_px=fill.grow_px, feather_px=fill.feather_px
    )
    session.notice = ""
    seen = invented = with_hole = 0
    done = False
    try:
        yield session
        pace = _Pace()
        with ExitStack() as opened:
            video = opened.enter_context(VideoReader(clip.path))
            masks = opened.enter_context(session.masks())
            writer = opened.enter_context(VideoWriter(clean, like=video))
            watched = _Watched(engines.inpainter, job)
            filled = opened.enter_context(
                closing(
                    pipeline.fill(video, masks, watched, options=options, cuts=session.cuts or ())
                )
            )
            for item in filled:
                if job.title == STUDYING:
                    _begin(job, "Filling in", clip.frames)
                hole = _hole(item)
                writer.write(item.frame, hole)
                if hole.any():
                    with_hole += 1
                if item.origin is not None:
                    seen += int((item.origin == Origin.SEEN).sum())
                    invented += int((item.origin == Origin.INVENTED).sum())
                _note(job, item.frame.index + 1, clip.frames)
                if pace.due():
                    job.live = data_jpeg(item.frame.image, LIVE_SIDE_PX)
                    job.frame = item.frame.index
                    yield session
                _go_on(job)
            masks.export_zip(zipped)
        with VideoReader(clean) as made:
            after_plays = proxy.plays(made.info)
        before_view, after_view = clip.path, clean
        if not clip.plays:
            before_view = session.folder / "source-view.mp4"
            if not before_view.is_file():
                yield from _proxy(session, job, clip.path, before_view)
        if not after_plays:
            after_view = out / "view.mp4"
            yield from _proxy(session, job, clean, after_view)
        session.result = Result(
            clean=clean,
            masks=zipped,
            before_view=before_view,
            after_view=after_view,
            objects=len([k for k, n in session.marked().items() if n]),
            frames_with_hole=with_hole,
            seen_px=seen,
            invented_px=invented,
            seconds=time.monotonic() - began,
            not_carried=tuple(writer.dropped),
        )
        session.phase = "result"
        done = True
    except Stopped:
        session.notice = ""
    finally:
        session.job = None
        if not done:
            shutil.rmtree(out, ignore_errors=True)
            session.result = None
    yield session


def _hole(item: Inpainted) -> Mask:
    if item.origin is None:
        return np.zeros(item.frame.image.shape[:2], np.bool_)
    return np.asarray(item.origin != Origin.KEPT)


def _proxy(session: Session, job: Job, source: Path, target: Path) -> Steps:
    """Make the copy of a clip that browsers can play."""
    with VideoReader(source) as video:
        _begin(job, "Preparing the comparison", len(video))
        pace = _Pace()
        with closing(proxy.write(video, target)) as written:
            for done in written:
                _note(job, done, len(video))
                if pace.due():
                    yield session
                _go_on(job)


def _stem(name: str) -> str:
    """A file name without its ending, of letters, digits, dashes and underscores."""
    stem = name.rsplit(".", 1)[0] if "." in name else name
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)
    return "-".join(part for part in safe.split("-") if part)[:60] or "clip"


@dataclass(frozen=True, slots=True)
class _Watched:
    """An inpainter that counts what it takes in and stops there when the user says so.

    An inpainter may read far ahead before the first frame comes out: without this, neither the
    bar nor Cancel would move until then.
    """

    inner: Inpainter
    job: Job

    @property
    def lookahead(self) -> int:
        return self.inner.lookahead

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        def taken() -> Iterator[tuple[Frame, Mask]]:
            for item in frames:
                _go_on(self.job)
                if self.job.title == STUDYING:
                    self.job.done = item[0].index + 1
                yield item
            if self.job.title == STUDYING:
                self.job.total = None  # all is read, and who knows how long the rest takes

        return self.inner.inpaint(taken())


def cancel(session: Session) -> Session:
    """Tell the running job to stop; it does so after the frame that it is at."""
    if session.job is not None:
        session.job.stop = True
    return session


def back(session: Session) -> Session:
    """From the result to the selection."""
    if session.clip is not None and session.job is None:
        session.phase = "select"
    return session


def forth(session: Session) -> Session:
    """To the result again, when it is still that of the selection."""
    if session.result is not None and session.job is None:
        session.phase = "result"
    return session


# ---------------------------------------------------------------- what all share


def data_jpeg(image: Image, side_px: int) -> str:
    """A data address of a JPEG of an RGB image, made smaller where it is larger than `side_px`."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image, side_px)).decode()


def jpeg(image: Image, side_px: int) -> bytes:
    """A JPEG of an RGB image (H, W, 3) whose longer side is at most `side_px`."""
    height, width = image.shape[:2]
    scale = min(1.0, side_px / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1])


@dataclass(slots=True)
class _Pace:
    """Says when the page should hear of a running job again."""

    last: float = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now - self.last < LIVE_EVERY:
            return False
        self.last = now
        return True


def _begin(job: Job, title: str, total: int | None) -> None:
    job.title, job.done, job.total, job.started = title, 0, total, time.monotonic()


def _note(job: Job, done: int, total: int | None) -> None:
    job.done, job.total = done, total


def _go_on(job: Job) -> None:
    if job.stop:
        raise Stopped


def _clip(session: Session) -> Clip:
    if session.clip is None:
        raise InputError("there is no clip yet", "Choose one first")
    return session.clip


def _idle(session: Session) -> None:
    if session.job is not None:
        raise InputError("something is still running", "Wait until it is done, or cancel it")


def _label(session: Session, label: object) -> int:
    number = _whole(label)
    if number is None or number not in session.labels:
        raise PromptError("there is no such object")
    return number


def _tool(kind: object) -> Kind:
    for known in get_args(Kind):
        if kind == known:
            return cast(Kind, known)
    raise PromptError("there is no such tool")


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value) or value != int(value):
        return None
    return int(value)


def _shown(value: object) -> str:
    return str(value)[:20] if isinstance(value, (int, float, str)) else "like that"


def _place(at: object, count: int) -> tuple[float, ...]:
    numbers: list[float] = []
    if isinstance(at, (list, tuple)) and len(at) == count:
        for value in at:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                break
            if not math.isfinite(value):
                break
            numbers.append(float(value))
    if len(numbers) != count:
        raise PromptError("the click has no place in the frame", "Try again")
    return tuple(numbers)


def _four(place: tuple[float, ...]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = place
    return x0, y0, x1, y1
