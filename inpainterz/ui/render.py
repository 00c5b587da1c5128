"""What the page shows for a session: plain data, no words but those that users gave.

The words stand in assets/words.json, in the reader's language.
"""

from __future__ import annotations

import base64
import io
import itertools
import time
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import cv2
import numpy as np
from PIL import Image as PilImage

from inpainterz.masks import colour_of
from inpainterz.types import LabelMap
from inpainterz.ui.pictures import INVENTED_COLOUR, SEEN_COLOUR, VIEW_SIDE_PX
from inpainterz.ui.session import Clip, Result, Session
from inpainterz.ui.work import Job
from inpainterz.who import MOVING

Model: TypeAlias = dict[str, Any]
"""What `json.dumps` takes."""

MOST_BINS = 600
"""Into how many pieces the strip of confidence is cut at most."""

FILMSTRIP = 16
"""How many frames the filmstrip shows."""

MOST_DOUBTS = 8
"""How many of them are doubtful ones, at most: one of each run, the least certain first."""


def model(session: Session, *, place: int | None = None) -> Model:
    """Everything that the page shows.

    Args:
        session: whose.
        place: in the queue, where its job waits.
    """
    session.serial += 1
    clip, job = session.clip, session.job
    told: Model = {
        "serial": session.serial,
        "tab": session.id,
        "phase": "clip" if clip is None else session.phase,
        "notice": session.notice,
        "handled": session.handled,
        "job": None if job is None else _job(job, place),
    }
    if clip is None:
        return told
    told |= {
        "clip": _clip(clip),
        "film": "" if session.film() is None else url(session, "get/film"),
        "stage": _stage(session, clip),
        "objects": _objects(session),
        "marked": bool(session.prompted()),
        "tracked": session.tracked,
        "stale": session.stale,
        "can_undo": bool(session.marks),
        "can_redo": bool(session.undone),
        "can_reset": bool(session.marks) or session.tracked,
        "prompted": sorted({m.frame for m in session.marks}),
        "doubtful": _worst(session),
        "trust": bins(job.trust if job is not None and job.trust else session.trust),
        "strip": _strip(session, clip) if session.tracked and job is None else [],
        "trials": [
            {
                "engine": trial.engine,
                "start": trial.start,
                "stop": trial.stop,
                "url": url(session, f"get/{trial.view.stem}"),
            }
            for trial in session.trials
        ],
        "looked_for": session.looked_for,
        "found": [
            {
                "id": item.id,
                "name": "" if item.name == MOVING else item.name,
                "sure": round(item.confidence, 2),
                "first": item.first,
                "last": item.last,
                "image": url(session, f"found/{item.id}.jpg?v={quote(session.looked_for)}"),
            }
            for item in session.found
        ],
        "settings": {
            "grow_px": session.settings.fill.grow_px,
            "feather_px": session.settings.fill.feather_px,
            "second_pass": session.settings.fill.second_pass,
            "crf": session.settings.crf,
            "part": None if session.settings.part is None else list(session.settings.part),
            "memory_limit_mb": session.settings.memory_limit_mb,
            "engines": dict(session.settings.engines),
        },
        "result": None if session.result is None else _result(session, clip, session.result),
    }
    return told


def url(session: Session, name: str) -> str:
    """The address under which a file or picture of a session is served to its owner."""
    return f"iz/{session.id}/{name}"


def _clip(clip: Clip) -> Model:
    return {
        "name": clip.name,
        "width": clip.width,
        "height": clip.height,
        "frames": clip.frames,
        "fps": None if clip.fps is None else round(float(clip.fps), 3),
        "seconds": round(clip.duration, 3),
        "sound": clip.sound,
        "codec": clip.codec,
    }


def _job(job: Job, place: int | None) -> Model:
    spent = time.monotonic() - job.started
    left = None
    if job.total and 3 <= job.done < job.total and spent > 3:
        left = round(spent * (job.total / job.done - 1), 1)
    return {
        "work": job.work,
        "done": job.done,
        "total": job.total,
        "left": left,
        "stopping": job.stop,
        "place": place,
        "frame": job.frame,
        "pictures": job.pictures,
    }


def _stage(session: Session, clip: Clip) -> Model:
    """The frame in view, with its objects and marks."""
    job = session.job
    labels = session.newest(session.frame) if job is not None and job.work == "follow" else None
    if labels is None:
        labels = session.view(session.frame)
    if session.hidden:
        labels[np.isin(labels, list(session.hidden))] = 0
    return {
        "clip": f"{session.id}/{clip.path.name}/{clip.path.stat().st_ino}",
        "index": session.frame,
        "image": url(session, f"frame/{session.frame}.jpg"),
        "overlay": overlay_png(labels, session.label),
        "label": session.label,
        "colour": hex_colour(session.label),
        "marks": [
            {"kind": m.kind, "at": list(m.at), "colour": hex_colour(m.label)}
            for m in session.marks
            if m.frame == session.frame
        ],
    }


def _objects(session: Session) -> list[Model]:
    counts = session.marked()
    return [
        {
            "id": label,
            "name": session.names.get(label, ""),
            "colour": hex_colour(label),
            "visible": label not in session.hidden,
            "frames": counts[label],
        }
        for label in session.labels
    ]


def _worst(session: Session) -> list[int]:
    """Of each run of doubtful frames the least certain one, ascending."""
    runs: list[list[int]] = []
    for frame in session.doubtful:
        if runs and runs[-1][-1] == frame - 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [min(run, key=lambda frame: _sure(session, frame)) for run in runs]


def _sure(session: Session, frame: int) -> int:
    """How far the masks of a frame are trusted, 0..100; -1 = not known."""
    return session.trust[frame] if frame < len(session.trust) else -1


def bins(trust: list[int]) -> list[int]:
    """The confidence of all frames in at most `MOST_BINS` pieces, each the least of its frames."""
    if len(trust) <= MOST_BINS:
        return list(trust)
    edges = np.linspace(0, len(trust), MOST_BINS + 1).astype(int)
    return [min(trust[a:b]) for a, b in itertools.pairwise(edges)]


def _strip(session: Session, clip: Clip) -> list[Model]:
    """The frames of the filmstrip: the least certain of each doubtful run first, then an even
    choice of all."""
    worst = sorted(_worst(session), key=lambda frame: _sure(session, frame))[:MOST_DOUBTS]
    even = FILMSTRIP - len(worst)
    step = max(1, (clip.frames - 1) / max(1, even - 1))
    rest = [round(k * step) for k in range(even) if round(k * step) < clip.frames]
    order = worst + [f for f in dict.fromkeys(rest) if f not in worst]
    return [
        {
            "frame": frame,
            "trust": _sure(session, frame),
            "doubtful": frame in worst,
            "image": url(session, f"thumb/{frame}.jpg?v={session.masks_made}"),
        }
        for frame in order
    ]


def overlay_png(labels: LabelMap, active: int) -> str:
    """A data address of a PNG that tints and outlines each object; empty where there is none.

    Args:
        labels: (H, W) label map.
        active: the object in hand is tinted more.
    """
    if not labels.any():
        return ""
    height, width = labels.shape
    scale = min(1.0, VIEW_SIDE_PX / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    side = max(3, 1 + 2 * round(min(labels.shape) / 300))
    edge = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((side, side), np.uint8)) > 0
    inner = edge & (labels > 0)
    indexed = np.where(inner, labels + 128, labels).astype(np.uint8)
    colours = bytearray(768)
    alphas = bytearray(256)
    for label in range(1, 128):
        for entry, alpha in ((label, 120 if label == active else 85), (label + 128, 255)):
            colours[3 * entry : 3 * entry + 3] = bytes(colour_of(label))
            alphas[entry] = alpha
    picture = PilImage.fromarray(indexed, "L")
    picture.putpalette(bytes(colours))
    out = io.BytesIO()
    picture.save(out, "PNG", transparency=bytes(alphas), compress_level=3)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def hex_colour(label: int) -> str:
    """The colour of an object for CSS."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(label))


def _result(session: Session, clip: Clip, made: Result) -> Model:
    stamp = made.clean.stat().st_mtime_ns // 1_000_000

    def got(what: str, path: Path) -> Model:
        return {
            "url": url(session, f"get/{what}?v={stamp}"),
            "name": path.name,
            "size": path.stat().st_size,
        }

    return {
        "stamp": stamp,
        "before": url(session, f"get/before?v={stamp}"),
        "after": url(session, f"get/after?v={stamp}"),
        "origin": url(session, f"get/origin?v={stamp}"),
        "files": {
            "clean": got("clean", made.clean),
            "masks": got("masks", made.masks),
            "overlay": got("overlay", made.overlay),
            "report": got("report", made.report),
            "project": got("project", made.project),
        },
        "seconds": round(made.seconds, 1),
        "frames_with_hole": made.frames_with_hole,
        "ghost_frames": list(made.ghost_frames),
        "seen_px": made.seen_px,
        "invented_px": made.invented_px,
        "not_carried": list(made.not_carried),
        "ratio": clip.width / clip.height,
        "fps": 25.0 if clip.fps is None else float(clip.fps),
        "seen_colour": "#{:02x}{:02x}{:02x}".format(*SEEN_COLOUR),
        "invented_colour": "#{:02x}{:02x}{:02x}".format(*INVENTED_COLOUR),
    }
