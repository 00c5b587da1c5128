"""What each event of the page does: session in, session out. No component is touched here.

Work that takes long is a generator: it yields the session between two frames, looks whether its
job is told to stop, and frees everything when it is closed. Who runs it stands in desk.py.
Whatever comes from the browser is checked here, also what the page itself would never send.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import secrets
import shutil
import time
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

import cv2
import numpy as np

from inpainterz import example, pipeline, who
from inpainterz.engines import Detector, Embedding, Inpainter
from inpainterz.errors import InpainterzError, InputError, OptionError, PromptError
from inpainterz.jobs.pieces import PieceReader, PieceWriter, patch_of
from inpainterz.leftover import LOOKAHEAD, lasting
from inpainterz.masks import MaskStore, checked, colour_of, decode_labels
from inpainterz.pipeline import Engines, FillOptions
from inpainterz.preview import overlay
from inpainterz.types import (
    Frame,
    Image,
    Inpainted,
    LabelMap,
    Mask,
    Origin,
    Prompt,
    Step,
    Tracked,
)
from inpainterz.ui import proxy
from inpainterz.ui.session import (
    MOST_LETTERS,
    MOST_MARKS,
    MOST_OBJECTS,
    PAINTED,
    Clip,
    Job,
    Kept,
    Kind,
    Mark,
    Result,
    Session,
    Trial,
    Work,
    pack,
)
from inpainterz.video.reader import VideoReader
from inpainterz.video.shots import find_cuts
from inpainterz.video.writer import VideoWriter, WriteOptions

log = logging.getLogger(__name__)

VIEW_SIDE_PX = 1280
"""Longest side of a frame as it is sent to the browser."""

THUMB_SIDE_PX = 200
"""Longest side of a picture of the filmstrip."""

LIVE_SIDE_PX = 720
"""Longest side of the newest frame while a job runs."""

LIVE_EVERY = 0.4
"""Seconds between two pictures of a running job."""

MOST_PICTURES = 200
"""How many frames of a clip are kept as pictures for the browser."""

CUT_REACH = 48
"""How far around a frame cuts are looked for before the whole clip was searched, in frames."""

PREVIEW_SECONDS = 2.0
"""How much a preview fills."""

MOST_KEPT = 8
"""How many previews are kept for the whole clip to take over."""

MOST_INVENTED = 0.01
"""A frame of a preview is taken over where at most this share of its hole was invented."""

MOST_FOUND = 40
"""How many things a search lists."""

MOST_WORDS_LETTERS = 80
"""How long a text may be that says what to look for."""

MOST_STROKE_POINTS = 2000
"""How many points one stroke of the brush may have."""

LEAST_MEMORY_MB, MOST_MEMORY_MB = 300, 1_000_000
"""Of the memory limit, in MiB."""

SEEN_COLOUR = (29, 132, 226)
INVENTED_COLOUR = (244, 162, 36)
"""How the map of the result tints what other frames show, and what was invented."""

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


def open_example(session: Session, job: Job | None = None) -> Steps:
    """Take the example clip, which may have to be made first.

    Raises:
        InpainterzError: it cannot be made.
    """
    job = _claim(session, job, "example")
    try:
        yield session
        made = example.prepare()
    finally:
        session.job = None
    if not job.stop:
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
        PromptError: there is no such frame.
        VideoDecodeError: the clip is damaged there.
    """
    clip = _clip(session)
    if not 0 <= frame < clip.frames:
        raise PromptError(f"there is no frame {frame}", f"The last is {clip.frames - 1}")
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


def thumbnail(session: Session, frame: int) -> bytes:
    """A small JPEG of a frame with its objects tinted.

    Raises:
        PromptError: there is no such frame.
        VideoDecodeError: the clip is damaged there.
    """
    return jpeg(_tinted(session, frame, THUMB_SIDE_PX), THUMB_SIDE_PX)


def still(session: Session) -> bytes:
    """A JPEG of the frame in view with all that the page's canvas draws on it: tint and clicks;
    while a job runs, its newest picture.

    Raises:
        VideoDecodeError: the clip is damaged there.
    """
    clip = _clip(session)
    if session.job is not None and session.job.live:
        return session.job.live
    image = _tinted(session, session.frame, VIEW_SIDE_PX)
    scale = image.shape[1] / clip.width
    radius = max(4, round(max(image.shape[:2]) / 110))
    for mark in session.marks:
        if mark.frame != session.frame or len(mark.at) != 2:
            continue
        x, y = (int(v * scale) for v in mark.at)
        colour = colour_of(mark.label) if mark.kind == "add" else (37, 39, 44)
        cv2.circle(image, (x, y), radius, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(image, (x, y), radius - 2, colour, -1, cv2.LINE_AA)
    return jpeg(image, VIEW_SIDE_PX)


def _tinted(session: Session, frame: int, side_px: int) -> Image:
    """A frame (h, w, 3), its longer side at most `side_px`, with its visible objects tinted."""
    data = np.frombuffer(picture(session, frame).read_bytes(), np.uint8)
    image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    scale = min(1.0, side_px / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    labels = session.view(frame)
    labels[np.isin(labels, list(session.hidden))] = 0
    shrunk = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return overlay(small, np.asarray(shrunk, np.uint8))


def look(session: Session, engines: Engines) -> Session:
    """Let the segmenter look at the frame in view, so that clicks are answered at once."""
    if session.clip is not None and session.job is None:
        _look(session, session.clip, engines, session.frame)
    return session


def _look(session: Session, clip: Clip, engines: Engines, frame: int) -> Embedding:
    """The segmenter's view of a frame, kept from before or new."""
    engine = engines.names.get("segment", "")
    if session.refining_in != (frame, engine):
        session.refining.clear()
        session.refining_in = frame, engine
    kept = session.embedding(frame, engine)
    if kept is not None:
        return kept
    with VideoReader(clip.path) as video:
        cuts = session.cuts
        if cuts is None:
            first, end = max(0, frame - CUT_REACH), min(clip.frames, frame + CUT_REACH + 1)
            with closing(video.frames(first, end)) as near:
                found = find_cuts(video, frames=near)
            cuts = tuple(cut for cut in found if cut > first)
        _, embedding = pipeline.embed(video, frame, engines.segmenter, cuts=cuts)
    session.keep_embedding(frame, engine, embedding)
    return embedding


def mark(
    session: Session,
    engines: Engines,
    kind: object,
    at: object,
    frame: object = None,
    *,
    radius_px: object = None,
) -> Session:
    """A click, a box or a stroke on a frame, for the object in hand.

    In a frame where the object is known from following it, or where it was painted, a click
    corrects: what lies under an added click joins the mask, what lies under an excluded one
    leaves it. Elsewhere all clicks together are one prompt. A stroke is pixels, no prompt.

    Args:
        session: the tab.
        engines: its segmenter answers.
        kind: "add", "exclude", "box", "brush" or "erase".
        at: x, y; or x0, y0, x1, y1; or the points of a stroke x, y, x, y, ...; source pixels.
        frame: the one that the user saw; None: the one in view.
        radius_px: of the brush, in source pixels.

    Raises:
        PromptError: it does not fit the frame, or nothing was found there.
    """
    session.handled += 1
    clip = _clip(session)
    _idle(session)
    if frame is not None and frame != session.frame:
        seek(session, frame)
    tool = _tool(kind)
    if tool in PAINTED:
        return _paint(session, tool, at, radius_px)
    place = _place(at, 4 if tool == "box" else 2)
    if tool == "box":
        x0, x1 = sorted((place[0], place[2]))
        y0, y1 = sorted((place[1], place[3]))
        place = (max(0.0, x0), max(0.0, y0), min(x1, clip.width), min(y1, clip.height))
        if place[2] - place[0] < 2 or place[3] - place[1] < 2:
            raise PromptError("the box is too small", "Drag it around the whole object")
    elif not (0 <= place[0] < clip.width and 0 <= place[1] < clip.height):
        raise PromptError("the click is outside the frame")
    _room_for_a_mark(session)
    index, label = session.frame, session.label
    embedding = _look(session, clip, engines, index)
    before = session.answers.get((index, label))
    base = _known(session, index, label)
    if base is not None:
        found = _correct(embedding, engines, base, tool, place)
    else:
        trial = Mark(index, label, tool, place, before, b"")
        session.marks.append(trial)
        try:
            prompt = session.prompt(index, label)
        finally:
            session.marks.pop()
        if prompt.box is None and not prompt.positive.any():
            raise PromptError("there is nothing to exclude from yet", "Click the object first")
        answer = engines.segmenter.segment(embedding, prompt, session.refining.get(label))
        session.refining[label] = answer
        found = answer.mask
    if not found.any() and tool != "exclude":
        session.refining.pop(label, None)
        raise PromptError("nothing was found there", "Click the middle of the object")
    _remember(session, Mark(index, label, tool, place, before, pack(found)))
    return session


def _remember(session: Session, made: Mark) -> None:
    session.marks.append(made)
    session.undone.clear()
    session.put_answer(made.frame, made.label, made.after)


def _room_for_a_mark(session: Session) -> None:
    if len(session.marks) >= MOST_MARKS:
        raise PromptError("there are too many clicks", "Undo some, or reset")


def _paint(session: Session, tool: Kind, at: object, radius_px: object) -> Session:
    """Add a stroke to the mask of the object in hand, or take it away."""
    index, label = session.frame, session.label
    radius = _number(radius_px)
    if radius is None or not 0.5 <= radius <= max(session.size):
        raise PromptError("the brush has no such size", "Choose another")
    count = len(at) if isinstance(at, (list, tuple)) else 0
    if count % 2 or not 2 <= count <= 2 * MOST_STROKE_POINTS:
        raise PromptError("the stroke has no place in the frame", "Paint it again")
    points = np.asarray(_place(at, count), np.float32).reshape(-1, 2)
    reach = 2.0 * max(session.size)
    if (np.abs(points) > reach).any():
        raise PromptError("the stroke has no place in the frame", "Paint it again")
    _room_for_a_mark(session)
    known = session.view(index) == label
    if tool == "erase" and not known.any():
        raise PromptError("there is nothing to erase yet", "Click or paint the object first")
    painted = _stroke(session.size, points, radius)
    found = known | painted if tool == "brush" else known & ~painted
    if not found.any() and tool == "brush":
        raise PromptError("the stroke is outside the frame")
    before = session.answers.get((index, label))
    session.refining.pop(label, None)
    _remember(session, Mark(index, label, tool, (), before, pack(np.asarray(found))))
    return session


def _stroke(size: tuple[int, int], points: np.ndarray, radius: float) -> Mask:
    """The pixels (H, W) within `radius` of a line through points (N, 2) of x, y."""
    canvas = np.zeros(size, np.uint8)
    shift = 4  # fractions of a pixel, in bits
    fixed = np.rint((points - 0.5) * (1 << shift)).astype(np.int32)
    if len(fixed) > 1:
        thick = max(1, round(2 * radius))
        cv2.polylines(canvas, [fixed.reshape(-1, 1, 2)], False, 1, thick, cv2.LINE_8, shift)
    for x, y in (fixed[0], fixed[-1]):
        cv2.circle(canvas, (int(x), int(y)), round(radius * (1 << shift)), 1, -1, cv2.LINE_8, shift)
    return canvas > 0


def _known(session: Session, frame: int, label: int) -> Mask | None:
    """An object's mask that a correction starts from: followed, painted, or corrected before."""
    own = session.answer(frame, label)
    painted = any((m.frame, m.label) == (frame, label) and m.kind in PAINTED for m in session.marks)
    if painted and own is not None:
        return own
    if not session.tracked:
        return None
    followed = session.masks().get(frame)
    if followed is None or not (followed == label).any():
        return None
    return np.asarray(followed == label) if own is None else own


def _correct(
    embedding: Embedding, engines: Engines, base: Mask, tool: Kind, place: tuple[float, ...]
) -> Mask:
    """A mask with what lies under one more click or box added or taken away."""
    segmenter = engines.segmenter
    if tool == "box":
        return segmenter.segment(embedding, Prompt.of(box=_four(place))).mask
    x, y = place
    anchor = _middle(base, away_from=(x, y))
    inside = bool(base[int(y), int(x)])
    if tool == "add":
        if inside:
            return base
        part = segmenter.segment(embedding, Prompt.of((x, y))).mask
        return np.asarray(base | part)
    if not inside:
        return base
    prompt = Prompt.of((x, y)) if anchor is None else Prompt.of((x, y), off=(anchor,))
    part = segmenter.segment(embedding, prompt).mask
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
    return _move_click(session, session.marks, session.undone)


def redo(session: Session) -> Session:
    """Repeat the click that was taken back last."""
    return _move_click(session, session.undone, session.marks)


def _move_click(session: Session, source: list[Mark], target: list[Mark]) -> Session:
    """From what was done to what was taken back, or the other way."""
    _idle(session)
    if source:
        last = source.pop()
        target.append(last)
        made = last.after if target is session.marks else last.before
        session.put_answer(last.frame, last.label, made)
        session.refining.pop(last.label, None)
        session.frame, session.label = last.frame, last.label
    return session


def reset(session: Session) -> Session:
    """Forget all clicks, objects and followed masks; keep the clip and the frame."""
    _idle(session)
    session.marks.clear()
    session.undone.clear()
    session.answers.clear()
    session.refining.clear()
    session.labels, session.label = [1], 1
    session.names.clear()
    session.hidden.clear()
    _forget_masks(session)
    return session


def _forget_masks(session: Session) -> None:
    session.followed, session.doubtful, session.result = None, (), None
    session.trials, session.trust = (), []
    session.masks_made += 1
    session.masks().clear()


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
    session.names.pop(gone, None)
    session.hidden.discard(gone)
    session.result, session.trials = None, ()
    session.masks_made += 1
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


def name_object(session: Session, label: object, name: object) -> Session:
    """Call an object something; an empty name gives it its number back.

    Raises:
        PromptError: there is no such object, or the name is no text.
    """
    _idle(session)
    known = _label(session, label)
    if not isinstance(name, str):
        raise PromptError("the name of an object is a text")
    kept = "".join(c for c in name if c.isprintable()).strip()[:MOST_LETTERS]
    if kept:
        session.names[known] = kept
    else:
        session.names.pop(known, None)
    return session


def show_object(session: Session, label: object, visible: object) -> Session:
    """Show the tint of an object, or hide it; what is removed does not change.

    Raises:
        PromptError: there is no such object.
    """
    known = _label(session, label)
    if visible is True:
        session.hidden.discard(known)
    else:
        session.hidden.add(known)
    return session


def import_masks(session: Session, path: Path) -> Session:
    """Take masks that are already there.

    A zip with a mask for each frame, such as the one that a removal gives or a project file, is
    taken as what was followed. One that has only some frames, and a single picture, are what the
    user showed there; the picture belongs to the frame in view.

    Raises:
        InputError: it cannot be read, or does not fit the clip.
        PromptError: it marks nothing, or more objects than there may be.
    """
    clip = _clip(session)
    _idle(session)
    fresh = session.folder / "masks.new"
    try:
        with MaskStore(fresh) as store:
            if zipfile.is_zipfile(path):
                store.take(path, clip.frames, session.size)
                maps = len(store.indices())
            else:
                data = path.read_bytes()
                labels = checked(decode_labels(data), session.size, "the mask")
                store.put(session.frame, labels)
                maps = 1
            found: set[int] = set()
            for _, labels in store.items():
                found.update(int(k) for k in np.unique(labels) if k)
            if not found:
                raise PromptError("the masks mark nothing", "A pixel above 0 is an object")
            if max(found) > MOST_OBJECTS:
                raise PromptError(
                    f"there is an object {max(found)} in the masks",
                    f"Objects are numbered from 1 to {MOST_OBJECTS}",
                )
            if maps == clip.frames and clip.frames > 1:
                reset(session)
                session.labels, session.label = sorted(found), min(found)
                session.masks().clear()
                shutil.rmtree(session.folder / "masks", ignore_errors=True)
                fresh.rename(session.folder / "masks")
                session.followed = {}
                session.trust = [100] * clip.frames
            else:
                for index, labels in store.items():
                    _take_map(session, index, labels)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    session.masks_made += 1
    return session


def _take_map(session: Session, index: int, labels: LabelMap) -> None:
    for label in (int(k) for k in np.unique(labels) if k):
        _room_for_a_mark(session)
        if label not in session.labels:
            session.labels.append(label)
        before = session.answers.get((index, label))
        _remember(session, Mark(index, label, "mask", (), before, pack(labels == label)))


# ---------------------------------------------------------------- people and things


def check_search(session: Session, what: object) -> str:
    """What to look for, as it comes from outside.

    Raises:
        InputError: there is no clip, or it is no text.
    """
    _clip(session)
    if not isinstance(what, str) or not what.strip() or len(what) > MOST_WORDS_LETTERS:
        raise InputError("there is nothing to look for", "Write what it is, such as: dog")
    return what.strip()


def find_things(
    session: Session, detector: Callable[[], Detector], what: str, job: Job | None = None
) -> Steps:
    """Go through the clip and list who or what is in it, to choose from.

    Args:
        session: whose clip.
        detector: loads the engine that looks.
        what: it looks for.
        job: the session's job, where it had to wait for its turn; None: a new one.

    Raises:
        InpainterzError: the clip is damaged, or nobody can look for that.
    """
    clip = _clip(session)
    job = _claim(session, job, "cuts")
    session.notice = ""
    try:
        yield session
        engine = detector()
        with VideoReader(clip.path) as video:
            yield from _find_cuts(session, video, job)
            job.begin("things", clip.frames)
            with closing(who.search(video, engine, cuts=session.cuts or ())) as listings:
                for listing in listings:
                    _note(job, listing.done, listing.total)
                    _go_on(job)
                    yield session
        with session.lock:
            session.found, session.looked_for = listing.items[:MOST_FOUND], what
        if not session.found:
            session.notice = "Nothing was found. Click it instead."
    except Stopped:
        session.notice = ""
    finally:
        _release(session, job)
    yield session


def take_things(session: Session, engines: Engines, chosen: object) -> Session:
    """Make objects of what was found, each shown in the frames that show it best.

    Raises:
        PromptError: nothing is chosen, it was not found, or there are too many objects.
    """
    clip = _clip(session)
    _idle(session)
    known = {item.id: item for item in session.found}
    ids = [_whole(one) for one in chosen] if isinstance(chosen, list) else []
    wanted = [one for one in dict.fromkeys(ids) if one is not None and one in known]
    if not wanted or len(wanted) != len(ids):
        raise PromptError("nothing of that was found", "Tick something in the list")
    counts = session.marked()
    held = [k for k in session.labels if counts[k] or session.tracked]
    free = [k for k in range(1, MOST_OBJECTS + 1) if k not in held]
    if len(wanted) > len(free):
        raise PromptError(f"{MOST_OBJECTS} objects are the most at once", "Remove these first")
    with VideoReader(clip.path) as video:
        maps = who.labels(video, session.found, wanted, engines.segmenter, cuts=session.cuts or ())
        label_of = dict(zip(wanted, free, strict=False))
        session.labels = [*held, *label_of.values()]
        for item, label in label_of.items():
            name = known[item].name
            if name != who.MOVING:
                session.names[label] = name[:MOST_LETTERS]
        for index in sorted(maps):
            found = maps[index]
            for item, label in label_of.items():
                mask = np.asarray(found == item)
                if mask.any():
                    _room_for_a_mark(session)
                    before = session.answers.get((index, label))
                    _remember(session, Mark(index, label, "mask", (), before, pack(mask)))
    session.label = label_of[wanted[0]]
    seek(session, known[wanted[0]].best)
    return session


def found_picture(session: Session, item: int) -> bytes:
    """A JPEG of something that was found.

    Raises:
        PromptError: it was not.
    """
    for one in session.found:
        if one.id == item and one.thumbnail is not None:
            return jpeg(one.thumbnail, THUMB_SIDE_PX)
    raise PromptError("nothing of that was found")


# ---------------------------------------------------------------- follow


def check_track(session: Session) -> None:
    """Raises InputError when there is nothing that could be followed."""
    _clip(session)
    if not session.prompted():
        raise PromptError("nothing is selected yet", "Click the thing that should go")


def track(session: Session, engines: Engines, job: Job | None = None) -> Steps:
    """Follow the objects through the clip. What was followed before stays until this is done.

    Args:
        session: what is selected.
        engines: the tracker follows.
        job: the session's job, where it had to wait for its turn; None: a new one.

    Raises:
        PromptError: nothing is marked.
        InpainterzError: the clip is damaged, or the engine cannot run.
    """
    check_track(session)
    clip = _clip(session)
    job = _claim(session, job, "cuts")
    fresh = session.folder / "masks.new"
    session.notice = ""
    try:
        if session.tracked and not session.stale:  # the second half of a double click
            return
        yield session  # shown at once, also where the first followed frame takes long
        corrected = _corrected(session)
        if corrected is not None:  # the rest stays as it was followed
            shutil.copytree(session.folder / "masks", fresh, copy_function=os.link)
            _unlink_shared(fresh / "confidence.json", session.folder / "masks" / "confidence.json")
        with VideoReader(clip.path) as video, MaskStore(fresh) as store:
            yield from _find_cuts(session, video, job)
            shown, snapshot = session.shown(), dict(session.answers)
            job.begin("follow", None)
            job.trust = [-1] * clip.frames if corrected is None else list(session.trust)
            pace = _Pace()

            def note(step: Step) -> None:
                _note(job, step.done, step.total)

            cuts = session.cuts or ()
            if corrected is None:
                steps = pipeline.propagate(
                    video, shown, engines.tracker, store, cuts=cuts, progress=note
                )
            else:
                steps = pipeline.follow_again(
                    video, shown, corrected, engines.tracker, store, cuts=cuts, progress=note
                )
            with closing(steps):
                for tracked in steps:
                    index = tracked.frame.index
                    job.trust[index] = _trust(tracked)
                    if pace.due():
                        image = overlay(tracked.frame.image, tracked.labels)
                        job.show(jpeg(image, LIVE_SIDE_PX), index)
                        yield session
                    _go_on(job)
            doubtful = store.doubtful()
        old = session.folder / "masks"
        with session.lock:
            shutil.rmtree(old, ignore_errors=True)
            fresh.rename(old)
            session.followed, session.doubtful, session.result = snapshot, doubtful, None
            session.trials = ()
            session.trust = job.trust
            for index in doubtful:  # also where an object has just gone
                session.trust[index] = min(max(session.trust[index], 0), 49)
            session.masks_made += 1
    except Stopped:
        session.notice = ""
    finally:
        _release(session, job)
        shutil.rmtree(fresh, ignore_errors=True)
    yield session


def _corrected(session: Session) -> dict[int, set[int]] | None:
    """Frame -> the objects that were shown anew since all was followed; None where all has to be
    followed again, as when something shown was taken back."""
    before, now = session.followed, session.answers
    if before is None or any(key not in now for key in before):
        return None
    corrected: dict[int, set[int]] = {}
    shown = session.shown()
    for (frame, label), packed in now.items():
        if before.get((frame, label)) == packed:
            continue
        if frame not in shown or not (shown[frame] == label).any():
            return None
        corrected.setdefault(frame, set()).add(label)
    return corrected or None


def _unlink_shared(copy: Path, source: Path) -> None:
    """Make a linked file one of its own: it is written in place."""
    if copy.is_file():
        copy.unlink()
        shutil.copyfile(source, copy)


def _trust(tracked: Tracked) -> int:
    """How far the least certain mask in a frame is trusted, 0..100; -1 = there is no object."""
    here = {int(k) for k in np.unique(tracked.labels) if k}
    found = [c for k, c in tracked.confidence.items() if k in here]
    return round(100 * min(found)) if found else -1


def _find_cuts(session: Session, video: VideoReader, job: Job) -> Steps:
    """Search the whole clip for cuts, once."""
    if session.cuts is not None:
        return
    job.begin("cuts", len(video))
    yield session

    def counted(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            _note(job, frame.index + 1, len(video))
            _go_on(job)
            yield frame

    with closing(video.frames()) as frames:
        session.cuts = find_cuts(video, frames=counted(frames))


# ---------------------------------------------------------------- remove


def check_remove(session: Session) -> None:
    """Raises InputError when there is nothing that could be removed."""
    _clip(session)
    if not session.tracked or session.stale:
        raise PromptError("the selection was not followed yet", "Press Track first")


def remove(
    session: Session,
    engines: Engines,
    fill: FillOptions,
    write: WriteOptions | None = None,
    job: Job | None = None,
    *,
    part: tuple[int, int] | None = None,
) -> Steps:
    """Take the followed objects out of the clip and write the clean one, with all that goes along.

    Args:
        session: the clip and what was followed.
        engines: the inpainter fills.
        fill: what becomes of the masks; which objects is the session's to say.
        write: quality of the clean clip.
        job: the session's job, where it had to wait for its turn; None: a new one.
        part: first and last frame that may change; None: all.

    Raises:
        PromptError: nothing was followed, or the selection changed since.
        InpainterzError: damaged clip, full disk, or the engine cannot run.
    """
    check_remove(session)
    clip = _clip(session)
    job = _claim(session, job, "study")
    job.begin("study", clip.frames)
    began = time.monotonic()
    out = session.folder / "out"
    stem = _stem(clip.name)
    clean, zipped = out / f"{stem}-clean.mp4", out / f"{stem}-masks.zip"
    tinted, origins = out / f"{stem}-overlay.mp4", out / "origin.mp4"
    options = replace(fill, objects=frozenset(session.labels))
    session.notice = ""
    seen = invented = with_hole = reused = 0
    ghosts: list[int] = []
    done = False
    try:
        if session.phase == "result":  # the second half of a double click
            done = True
            return
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(mode=0o700)
        yield session
        pace = _Pace()
        with ExitStack() as opened:
            video = opened.enter_context(VideoReader(clip.path))
            masks = opened.enter_context(session.masks())
            before = opened.enter_context(proxy.Film(tinted, video))
            after = opened.enter_context(proxy.Film(origins, video, sound=False))
            writer = opened.enter_context(
                VideoWriter(clean, like=video, options=write or WriteOptions())
            )

            def taken(frame: Frame) -> None:
                _go_on(job)
                labels = masks.get(frame.index)
                before.write(frame, frame.image if labels is None else overlay(frame.image, labels))
                if job.work == "study":
                    job.done = frame.index + 1

            def count_reused() -> None:
                nonlocal reused
                reused += 1

            previews = tuple(
                opened.enter_context(PieceReader(path)) for path in pieces_for(session, engines)
            )
            inpainter: Inpainter = engines.inpainter
            if previews:
                inpainter = _Reusing(inpainter, previews, count_reused)
            watched = _Watched(inpainter, taken, lambda: _all_read(job))
            filled = opened.enter_context(
                closing(
                    pipeline.fill(
                        video,
                        masks,
                        watched,
                        options=options,
                        cuts=session.cuts or (),
                        ghost=ghosts.append,
                    )
                )
            )
            plain = None
            if part is not None:
                again = opened.enter_context(VideoReader(clip.path))
                plain = opened.enter_context(closing(again.frames()))
            for item in filled:
                if job.work == "study":
                    job.begin("fill", clip.frames)
                if plain is not None and part is not None:
                    frame = next(plain)
                    if not part[0] <= frame.index <= part[1]:
                        # filled all the same, so that nothing borrowed the object from here
                        item = Inpainted(frame)
                hole = _hole(item)
                writer.write(item.frame, hole)
                after.write(item.frame, origin_overlay(item))
                if hole.any():
                    with_hole += 1
                if item.origin is not None:
                    seen += int((item.origin == Origin.SEEN).sum())
                    invented += int((item.origin == Origin.INVENTED).sum())
                _note(job, item.frame.index + 1, clip.frames)
                if pace.due():
                    job.show(jpeg(item.frame.image, LIVE_SIDE_PX), item.frame.index)
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
        result = Result(
            clean=clean,
            masks=zipped,
            overlay=tinted,
            origin_view=origins,
            report=out / f"{stem}-report.json",
            project=out / f"{stem}-project.zip",
            before_view=before_view,
            after_view=after_view,
            objects=len([k for k, n in session.marked().items() if n]),
            frames_with_hole=with_hole,
            ghost_frames=lasting(ghosts),
            frames_reused=reused,
            seen_px=seen,
            invented_px=invented,
            seconds=time.monotonic() - began,
            not_carried=tuple(writer.dropped),
        )
        _write_report(session, clip, result, engines, options)
        _write_project(session, clip, result.project, zipped)
        with session.lock:
            session.result = result
            session.phase = "result"
        done = True
    except Stopped:
        session.notice = ""
    finally:
        _release(session, job)
        if not done:
            shutil.rmtree(out, ignore_errors=True)
            session.result = None
    yield session


def fill_options(grow_px: object, feather_px: object, second_pass: object = "none") -> FillOptions:
    """What becomes of the masks, as it comes from outside; a growth of None is for us to choose.

    Raises:
        OptionError: they are not whole numbers, or outside their range; no such second pass, or
            one with a growth.
    """
    grown, soft = _whole(grow_px), _whole(feather_px)
    if soft is None or (grown is None and grow_px is not None):
        raise OptionError("the settings must be whole numbers")
    return FillOptions(grow_px=grown, feather_px=soft, second_pass=str(second_pass))


def track_and_remove(
    session: Session, engines: Engines, fill: FillOptions, job: Job | None = None
) -> Steps:
    """Follow, where that is not done yet, and remove: both in one job.

    Raises:
        InpainterzError: see `track` and `remove`.
    """
    check_track(session)
    job = _claim(session, job, "cuts")
    job.more = True
    try:
        if not session.tracked or session.stale:
            yield from track(session, engines, job)
        if not job.stop:
            yield from remove(session, engines, fill, job=job)
    finally:
        job.more = False
        _release(session, job)


def preview(session: Session, engines: Engines, fill: FillOptions, job: Job | None = None) -> Steps:
    """Fill two seconds from the frame in view on, to look at before the whole clip is filled.

    The preview of another engine on the same frames stays beside it. It borrows from itself and
    from what comes after it; what it could fill so is kept, and `remove` takes it over.

    Raises:
        InpainterzError: see `remove`.
    """
    check_remove(session)
    clip = _clip(session)
    job = _claim(session, job, "preview")
    count = min(clip.frames, max(2, round(PREVIEW_SECONDS * float(clip.fps or 25))))
    start = min(session.frame, clip.frames - count)
    stop = start + count
    # masks are completed by what lies around them, and have to come out as in the whole clip
    low = max(0, start - LOOKAHEAD)
    high = min(clip.frames, stop + LOOKAHEAD + engines.inpainter.lookahead)
    engine = engines.names.get("inpaint", "")
    stem = session.folder / f"preview-{secrets.token_hex(4)}"
    view, kept = stem.with_suffix(".mp4"), stem.with_suffix(".zip")
    options = replace(fill, objects=frozenset(session.labels))
    session.notice = ""
    job.begin("study", high - low)
    done = False
    try:
        yield session
        with ExitStack() as opened:
            video = opened.enter_context(VideoReader(clip.path))
            film = opened.enter_context(proxy.Film(view, video, sound=False))
            pieces = opened.enter_context(PieceWriter(kept))

            def taken(frame: Frame) -> None:
                _go_on(job)
                if job.work == "study":
                    job.done = frame.index + 1 - low

            inpainter = _Kept(engines.inpainter, start, pieces)
            watched = _Watched(inpainter, taken, lambda: _all_read(job))
            filled = opened.enter_context(
                closing(
                    pipeline.fill(
                        video,
                        session.masks(),
                        watched,
                        options=options,
                        cuts=session.cuts or (),
                        start=low,
                        stop=high,
                    )
                )
            )
            first = None
            for item in filled:
                if item.frame.index < start:
                    continue
                if job.work == "study":
                    job.begin("preview", count)
                first = item.frame.pts if first is None else first
                film.write(replace(item.frame, pts=item.frame.pts - first), item.frame.image)
                _note(job, item.frame.index - start + 1, count)
                yield session
                _go_on(job)
                if item.frame.index == stop - 1:
                    break
        others = [
            t for t in session.trials if t.engine != engine and (t.start, t.stop) == (start, stop)
        ]
        made = Kept(_identity(engines.inpainter, engine), kept)
        with session.lock:
            session.trials = (*others[-1:], Trial(engine, start, stop, view))
            for old in session.kept[: 1 - MOST_KEPT]:
                old.pieces.unlink(missing_ok=True)
            session.kept = (*session.kept[1 - MOST_KEPT :], made)
        done = True
    except Stopped:
        session.notice = ""
    finally:
        _release(session, job)
        if not done:
            view.unlink(missing_ok=True)
            kept.unlink(missing_ok=True)
    yield session


def pieces_for(session: Session, engines: Engines) -> list[Path]:
    """What previews of this clip filled with the same engine and options, oldest first."""
    wanted = _identity(engines.inpainter, engines.names.get("inpaint", ""))
    return [kept.pieces for kept in session.kept if kept.engine == wanted]


def _identity(engine: Inpainter, name: str) -> str:
    """What an inpainter's fill depends on besides the clip and the holes."""
    return f"{name} {getattr(engine, 'options', None)!r}"


@dataclass(frozen=True, slots=True)
class _Kept:
    """An inpainter that keeps what it fills; frames before `start` are not its to fill."""

    inner: Inpainter
    start: int
    pieces: PieceWriter

    @property
    def lookahead(self) -> int:
        return self.inner.lookahead

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        stream = iter(frames)
        for frame, hole in stream:
            if frame.index >= self.start:
                stream = itertools.chain([(frame, hole)], stream)
                break
            yield Inpainted(frame)
        for item in self.inner.inpaint(stream):
            patch = patch_of(item)
            if patch is not None:
                self.pieces.add(item.frame.index, patch)
            yield item


@dataclass(frozen=True, slots=True)
class _Reusing:
    """An inpainter that takes over what previews filled, where it would have the same to fill.

    A frame counts where its hole is the same to the pixel and next to nothing of it was invented:
    what was, is filled again, with the whole clip to borrow from. The engine is given such a frame
    as it was filled, with nothing but what was invented for a hole, so that it does not take that
    for something seen.
    """

    inner: Inpainter
    previews: tuple[PieceReader, ...]
    taken: Callable[[], None]
    """Told of each frame that was taken over."""

    @property
    def lookahead(self) -> int:
        return self.inner.lookahead

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        ready: deque[Inpainted | None] = deque()  # one for each frame inside the engine

        def told() -> Iterator[tuple[Frame, Mask]]:
            for frame, hole in frames:
                known = self._known(frame, hole) if hole.any() else None
                ready.append(known)
                if known is None or known.origin is None:
                    yield frame, hole
                else:
                    self.taken()
                    yield known.frame, np.asarray(known.origin == Origin.INVENTED)

        for item in self.inner.inpaint(told()):
            known = ready.popleft()
            yield item if known is None else known

    def _known(self, frame: Frame, hole: Mask) -> Inpainted | None:
        for preview in reversed(self.previews):
            patch = preview.get(frame.index)
            if patch is None:
                continue
            origin = np.zeros(hole.shape, np.uint8)
            h, w = patch.origin.shape
            origin[patch.top : patch.top + h, patch.left : patch.left + w] = patch.origin
            invented = int((origin == Origin.INVENTED).sum())
            if invented > MOST_INVENTED * hole.sum() or ((origin > 0) != hole).any():
                continue
            image = frame.image.copy()
            patch.paste(image)
            return Inpainted(replace(frame, image=image), origin)
        return None


def _write_report(
    session: Session, clip: Clip, made: Result, engines: Engines, options: FillOptions
) -> None:
    """What was done, as JSON."""
    told = {
        "clip": clip.name,
        "width": clip.width,
        "height": clip.height,
        "frames": clip.frames,
        "frames_per_second": None if clip.fps is None else float(clip.fps),
        "shots": len(session.cuts or ()) + 1,
        "engines": dict(engines.names),
        "objects": {str(k): session.names.get(k, f"Object {k}") for k in session.labels},
        "grow_px": options.grow_px,
        "feather_px": options.feather_px,
        "second_pass": options.second_pass,
        "ghost_frames": list(made.ghost_frames),
        "frames_with_hole": made.frames_with_hole,
        "frames_taken_from_previews": made.frames_reused,
        "seen_px": made.seen_px,
        "invented_px": made.invented_px,
        "doubtful_frames": list(session.doubtful),
        "not_carried": list(made.not_carried),
        "seconds": round(made.seconds, 2),
    }
    made.report.write_text(json.dumps(told, indent=2, ensure_ascii=False), "utf-8")


def _write_project(session: Session, clip: Clip, target: Path, masks: Path) -> None:
    """The selection as a file that `import_masks` takes: objects, marks, and all label maps."""
    told = {
        "version": 1,
        "clip": {"name": clip.name, "size": [clip.width, clip.height], "frames": clip.frames},
        "objects": [{"id": k, "name": session.names.get(k, "")} for k in session.labels],
        "marks": [
            {"frame": m.frame, "object": m.label, "kind": m.kind, "at": list(m.at)}
            for m in session.marks
        ],
    }
    with (
        zipfile.ZipFile(masks) as maps,
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as bundle,
    ):
        bundle.writestr("project.json", json.dumps(told, indent=2, ensure_ascii=False))
        for name in maps.namelist():
            bundle.writestr(f"masks/{name}", maps.read(name))


def frames_of(session: Session, told: object) -> tuple[int, int] | None:
    """First and last frame that may change, as they come from outside; None = all.

    Raises:
        OptionError: they are no frames of the clip.
    """
    clip = _clip(session)
    if told is None:
        return None
    pair = [_whole(one) for one in told] if isinstance(told, list) else []
    if len(pair) == 2 and pair[0] is not None and pair[1] is not None:
        first, last = pair[0], pair[1]
        if 0 <= first <= last < clip.frames:
            return None if (first, last) == (0, clip.frames - 1) else (first, last)
    raise OptionError("there are no such frames", f"The last is {clip.frames - 1}")


def memory_limit(told: object) -> int | None:
    """MiB that the work may take, as it comes from outside; None = no limit.

    Raises:
        OptionError: it is no whole number, or out of range.
    """
    if told is None:
        return None
    limit = _whole(told)
    if limit is None or not LEAST_MEMORY_MB <= limit <= MOST_MEMORY_MB:
        raise OptionError("there is no such memory limit", f"Give {LEAST_MEMORY_MB} MB or more")
    return limit


def origin_overlay(item: Inpainted) -> Image:
    """The frame with what other frames show and what was invented tinted; untouched elsewhere."""
    if item.origin is None:
        return item.frame.image
    image = item.frame.image.copy()
    for kind, colour in ((Origin.SEEN, SEEN_COLOUR), (Origin.INVENTED, INVENTED_COLOUR)):
        where = item.origin == kind
        if where.any():
            mixed = 0.5 * image[where] + 0.5 * np.asarray(colour, np.float32)
            image[where] = np.rint(mixed).astype(np.uint8)
    return image


def _hole(item: Inpainted) -> Mask:
    if item.origin is None:
        return np.zeros(item.frame.image.shape[:2], np.bool_)
    return np.asarray(item.origin != Origin.KEPT)


def _proxy(session: Session, job: Job, source: Path, target: Path) -> Steps:
    """Make the copy of a clip that browsers can play."""
    with VideoReader(source) as video:
        job.begin("compare", len(video))
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
    """An inpainter that tells what it takes in.

    An inpainter may read far ahead before the first frame comes out: without this, neither the
    bar nor Cancel would move until then.
    """

    inner: Inpainter
    taken: Callable[[Frame], None]
    all_taken: Callable[[], None]

    @property
    def lookahead(self) -> int:
        return self.inner.lookahead

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        def told() -> Iterator[tuple[Frame, Mask]]:
            for item in frames:
                self.taken(item[0])
                yield item
            self.all_taken()

        return self.inner.inpaint(told())


def film_of(session: Session) -> Path | None:
    """What browsers play of the clip: itself, or the copy once it is made."""
    clip = _clip(session)
    if clip.plays:
        return clip.path
    copy = session.folder / "source-view.mp4"
    return copy if copy.is_file() else None


def make_film(session: Session, job: Job | None = None) -> Steps:
    """Make the copy of a clip that browsers do not play as it is.

    Raises:
        InpainterzError: the clip is damaged, or the copy cannot be written.
    """
    clip = _clip(session)
    job = _claim(session, job, "compare")
    session.notice = ""
    try:
        yield session
        if film_of(session) is None:
            yield from _proxy(session, job, clip.path, session.folder / "source-view.mp4")
    except Stopped:
        session.notice = ""
    finally:
        _release(session, job)
    yield session


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


def _all_read(job: Job) -> None:
    if job.work == "study":
        job.total = None  # who knows how long the rest takes


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


def _claim(session: Session, job: Job | None, work: Work) -> Job:
    """The job under which work runs: the one that waited for its turn, or a new one."""
    if job is None or session.job is not job:
        _idle(session)
        job = session.job = Job(work)
    job.begin(work, None)
    return job


def _release(session: Session, job: Job) -> None:
    """The end of work, unless it is the first part of more."""
    if not job.more and session.job is job:
        session.job = None


def _label(session: Session, label: object) -> int:
    number = _whole(label)
    if number is None or number not in session.labels:
        raise PromptError("there is no such object")
    return number


def _tool(kind: object) -> Kind:
    for known in get_args(Kind):
        if kind == known and known != "mask":  # that comes as a file
            return cast(Kind, known)
    raise PromptError("there is no such tool")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None or number != int(number) else int(number)


def _shown(value: object) -> str:
    return str(value)[:20] if isinstance(value, (int, float, str)) else "like that"


def _place(at: object, count: int) -> tuple[float, ...]:
    numbers: list[float] = []
    if isinstance(at, (list, tuple)) and len(at) == count:
        for value in at:
            number = _number(value)
            if number is None:
                break
            numbers.append(number)
    if len(numbers) != count:
        raise PromptError("the click has no place in the frame", "Try again")
    return tuple(numbers)


def _four(place: tuple[float, ...]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = place
    return x0, y0, x1, y1
