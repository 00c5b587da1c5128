"""What the user shows of an object in a frame: clicks, boxes, strokes of the brush, and undo."""

from __future__ import annotations

from contextlib import closing

import cv2
import numpy as np

from inpainterz import pipeline
from inpainterz.engines import Embedding
from inpainterz.errors import PromptError
from inpainterz.pipeline import Engines
from inpainterz.types import Mask, Prompt
from inpainterz.ui import inputs
from inpainterz.ui.handlers.footage import seek
from inpainterz.ui.session import MOST_MARKS, PAINTED, Clip, Kind, Mark, Session, pack
from inpainterz.video.reader import VideoReader
from inpainterz.video.shots import find_cuts

CUT_REACH = 48
"""How far around a frame cuts are looked for before the whole clip was searched, in frames."""

MOST_STROKE_POINTS = 2000
"""How many points one stroke of the brush may have."""


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
                cuts = find_cuts(video, frames=near)
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
    clip = session.need_clip()
    session.need_idle()
    if frame is not None and frame != session.frame:
        seek(session, frame)
    tool = inputs.tool(kind)
    if tool in PAINTED:
        return _paint(session, tool, at, radius_px)
    place = inputs.place(at, 4 if tool == "box" else 2)
    if tool == "box":
        x0, x1 = sorted((place[0], place[2]))
        y0, y1 = sorted((place[1], place[3]))
        place = (max(0.0, x0), max(0.0, y0), min(x1, clip.width), min(y1, clip.height))
        if place[2] - place[0] < 2 or place[3] - place[1] < 2:
            raise PromptError("the box is too small", "Drag it around the whole object")
    elif not (0 <= place[0] < clip.width and 0 <= place[1] < clip.height):
        raise PromptError("the click is outside the frame")
    _check_room(session)
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


def _paint(session: Session, tool: Kind, at: object, radius_px: object) -> Session:
    """Add a stroke to the mask of the object in hand, or take it away."""
    index, label = session.frame, session.label
    radius = inputs.number(radius_px)
    if radius is None or not 0.5 <= radius <= max(session.size):
        raise PromptError("the brush has no such size", "Choose another")
    count = len(at) if isinstance(at, (list, tuple)) else 0
    if count % 2 or not 2 <= count <= 2 * MOST_STROKE_POINTS:
        raise PromptError("the stroke has no place in the frame", "Paint it again")
    points = np.asarray(inputs.place(at, count), np.float32).reshape(-1, 2)
    reach = 2.0 * max(session.size)
    if (np.abs(points) > reach).any():
        raise PromptError("the stroke has no place in the frame", "Paint it again")
    _check_room(session)
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


def _four(place: tuple[float, ...]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = place
    return x0, y0, x1, y1


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


def _check_room(session: Session) -> None:
    if len(session.marks) >= MOST_MARKS:
        raise PromptError("there are too many clicks", "Undo some, or reset")


def _remember(session: Session, made: Mark) -> None:
    session.marks.append(made)
    session.undone.clear()
    session.put_answer(made.frame, made.label, made.after)


def take_mask(session: Session, frame: int, label: int, mask: Mask) -> None:
    """What an object is in a frame, (H, W), as it came from elsewhere; a mark as any other.

    Raises:
        PromptError: there are as many marks as there may be.
    """
    _check_room(session)
    before = session.answers.get((frame, label))
    _remember(session, Mark(frame, label, "mask", (), before, pack(mask)))


def undo(session: Session) -> Session:
    """Take the last click back, wherever it was, and show that frame."""
    return _move_click(session, session.marks, session.undone)


def redo(session: Session) -> Session:
    """Repeat the click that was taken back last."""
    return _move_click(session, session.undone, session.marks)


def _move_click(session: Session, source: list[Mark], target: list[Mark]) -> Session:
    """From what was done to what was taken back, or the other way."""
    session.need_idle()
    if source:
        last = source.pop()
        target.append(last)
        made = last.after if target is session.marks else last.before
        session.put_answer(last.frame, last.label, made)
        session.refining.pop(last.label, None)
        session.frame, session.label = last.frame, last.label
    return session
