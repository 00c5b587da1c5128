"""What each part of the page shows for a session: plain data, by the part's name."""

from __future__ import annotations

import base64
import io
import time
from html import escape
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import cv2
import numpy as np
from PIL import Image as PilImage

from inpainterz.masks import colour_of
from inpainterz.types import LabelMap
from inpainterz.ui import handlers
from inpainterz.ui.session import Clip, Job, Result, Session

Part: TypeAlias = dict[str, Any]
"""What `gradio.update` takes for one component."""

UPLOAD_LIMIT_MB = 2048
"""The largest clip that is taken."""

PARTS = (
    "head",
    "clip_step",
    "select_step",
    "result_step",
    "drop",
    "example",
    "facts",
    "stage",
    "objects",
    "status",
    "track",
    "remove",
    "cancel",
    "again",
    "timer",
    "settings",
    "forth",
    "clip_status",
    "result",
)
"""Every part of the page that follows the session."""


def render(session: Session) -> dict[str, Part]:
    """All parts of the page, by name."""
    session.serial += 1
    clip, job = session.clip, session.job
    busy = job is not None
    phase = "clip" if clip is None else session.phase
    ready = bool(session.prompted())
    followed = session.tracked and not session.stale
    return {
        "head": {"value": _head(phase, session)},
        "clip_step": {"visible": phase == "clip"},
        "select_step": {"visible": phase == "select"},
        "result_step": {"visible": phase == "result"},
        "drop": {"value": {"serial": session.serial, "limit_mb": UPLOAD_LIMIT_MB}},
        "example": {"interactive": not busy},
        "clip_status": {"value": status(session) if phase == "clip" else ""},
        "facts": {"value": "" if clip is None else _facts(clip)},
        "stage": {"value": _stage(session)},
        "objects": {"value": _objects(session)},
        "status": {"value": status(session) if phase != "clip" else ""},
        "track": {
            "value": "Track again" if session.tracked else "Track",
            "visible": not busy,
            "interactive": ready and not busy and not followed,
            "variant": "secondary" if followed else "primary",
        },
        "remove": {
            "visible": not busy,
            "interactive": followed and not busy,
            "variant": "primary" if followed else "secondary",
        },
        "cancel": {
            "visible": busy,
            "interactive": job is not None and not job.stop,
        },
        "again": {"visible": not busy},
        "timer": {"active": True} if busy else {},  # it turns itself off: see page.py
        "settings": {"visible": not busy},
        "forth": {"visible": session.result is not None and not busy},
        "result": {"value": None if session.result is None else _result(session, session.result)},
    }


def url(path: Path) -> str:
    """The address under which the page serves a file of a session's folder."""
    return f"gradio_api/file={quote(path.as_posix())}"


def _head(phase: str, session: Session) -> str:
    names = (("clip", "Clip"), ("select", "Select"), ("result", "Result"))
    order = [name for name, _ in names]
    now = order.index(phase)
    steps = []
    for rank, (_, title) in enumerate(names):
        kind = "now" if rank == now else "done" if rank < now else "later"
        current = ' aria-current="step"' if rank == now else ""
        dot = "✓" if kind == "done" else str(rank + 1)
        steps.append(f'<li class="{kind}"{current}><b>{dot}</b><span>{title}</span></li>')
    return (
        '<div class="iz-head"><div class="iz-brand">'
        '<svg viewBox="0 0 32 32" aria-hidden="true"><rect x="2.5" y="2.5" width="27" height="27"'
        ' rx="8"/><circle cx="16" cy="16" r="7.5" stroke-dasharray="3.1 2.8"/></svg>'
        "<div><h1>Inpainterz</h1><p>Click it. It is gone.</p></div></div>"
        f'<ol class="iz-steps">{"".join(steps)}</ol></div>'
    )


def _facts(clip: Clip) -> str:
    rate = "" if clip.fps is None else f"{float(clip.fps):.3f}".rstrip("0").rstrip(".") + " fps"
    frames = "1 frame" if clip.frames == 1 else f"{clip.frames} frames"
    items = [
        f"{clip.width} × {clip.height}",
        rate,
        frames,
        duration(clip.duration),
        "with sound" if clip.sound else "no sound",
    ]
    facts = "".join(f"<li>{escape(item)}</li>" for item in items if item)
    name = escape(clip.name)
    return f'<div class="iz-facts"><strong title="{name}">{name}</strong><ul>{facts}</ul></div>'


def duration(seconds: float) -> str:
    """Seconds as people write them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _stage(session: Session) -> Part | None:
    clip, job = session.clip, session.job
    if clip is None:
        return None
    base: Part = {
        "serial": session.serial,
        "clip": session.folder.name + clip.path.name,
        "index": session.frame,
        "count": clip.frames,
        "width": clip.width,
        "height": clip.height,
        "handled": session.handled,
        "busy": job is not None,
        "live": "",
        "can_undo": bool(session.marks),
        "can_redo": bool(session.undone),
        "can_reset": bool(session.marks) or session.tracked,
        "colour": hex_colour(session.label),
        "prompted": sorted({m.frame for m in session.marks}),
        "doubtful": list(session.doubtful),
    }
    if job is not None:
        base["live"] = job.live
        base["live_index"] = job.frame
        return base
    labels = session.view(session.frame)
    base["image"] = url(handlers.picture(session, session.frame))
    base["overlay"] = overlay_png(labels, session.label)
    base["marks"] = [
        {"kind": m.kind, "at": list(m.at), "colour": hex_colour(m.label)}
        for m in session.marks
        if m.frame == session.frame
    ]
    return base


def overlay_png(labels: LabelMap, active: int) -> str:
    """A data address of a PNG that tints and outlines each object; empty where there is none.

    Args:
        labels: (H, W) label map.
        active: the object in hand is tinted more.
    """
    if not labels.any():
        return ""
    height, width = labels.shape
    scale = min(1.0, handlers.VIEW_SIDE_PX / max(height, width))
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


def _objects(session: Session) -> str:
    counts = session.marked()
    off = " disabled" if session.job is not None else ""
    rows = []
    for label in session.labels:
        frames = counts[label]
        told = "not marked yet" if not frames else "1 frame" if frames == 1 else f"{frames} frames"
        now = label == session.label
        rows.append(
            f'<li class="{"now" if now else ""}">'
            f'<button type="button" class="pick" data-act="pick" data-label="{label}"'
            f' aria-pressed="{str(now).lower()}"{off}>'
            f'<i style="background:{hex_colour(label)}"></i>'
            f"<span>Object {label}</span><small>{told}</small></button>"
            f'<button type="button" class="drop" data-act="delete" data-label="{label}"'
            f' aria-label="Delete object {label}" title="Delete object {label}"{off}>'
            "×</button></li>"
        )
    return (
        '<div class="iz-objects"><h2>Objects</h2>'
        f"<ul>{''.join(rows)}</ul>"
        f'<button type="button" class="more" data-act="new"{off}>+ Another object</button></div>'
    )


def status(session: Session) -> str:
    """What is under way, what went wrong, or what to do next."""
    lines = []
    if session.notice:
        lines.append(f'<p class="wrong" role="alert">{escape(session.notice)}</p>')
    if session.job is not None:
        lines.append(_progress(session.job))
    elif session.clip is not None:
        title, text = advice(session)
        lines.append(f'<p class="next"><strong>{escape(title)}</strong> {escape(text)}</p>')
        if session.doubtful and session.tracked and not session.stale:
            lines.append(_doubts(session.doubtful))
    return f'<div class="iz-status" aria-live="polite">{"".join(lines)}</div>' if lines else ""


def advice(session: Session) -> tuple[str, str]:
    """What to do next, as a short title and a sentence."""
    if not session.prompted():
        return (
            "Click the thing that should go.",
            "Any frame will do where it can be seen well; the slider moves through the clip.",
        )
    if not session.tracked:
        return (
            "Is all of it tinted?",
            "If not, add to it or exclude with more clicks. Then press Track.",
        )
    if session.stale:
        return "The selection changed.", "Press Track again to follow it through the clip."
    if session.result is not None:
        return "Done.", "The result fits this selection."
    return (
        "Followed.",
        "Move the slider and look. Where the tint is wrong, click to correct it there and track"
        " again. Otherwise press Remove.",
    )


def _doubts(frames: tuple[int, ...]) -> str:
    """Buttons to the frames that the tracker doubts, the first of each run."""
    firsts = [f for f in frames if f - 1 not in frames]
    shown = firsts[:6]
    chips = "".join(
        f'<button type="button" data-act="seek" data-frame="{f}">{f + 1}</button>' for f in shown
    )
    more = f" and {len(firsts) - 6} more" if len(firsts) > 6 else ""
    return f'<p class="doubts">Worth a look, frame {chips}{more}</p>'


def _progress(job: Job) -> str:
    total = job.total
    share = None if not total else min(1.0, job.done / total)
    told = ""
    if total and job.done:
        told = f"{job.unit} {job.done} of {total}"
        spent = time.monotonic() - job.started
        if share and share < 1 and spent > 3:
            told += f" · about {duration(spent / share - spent)} left"
    percent = "" if share is None else f"{share:.0%}"
    bar = (
        '<div class="bar moving"><i></i></div>'
        if share is None
        else f'<div class="bar"><i style="width:{100 * share:.1f}%"></i></div>'
    )
    title = "Stopping" if job.stop else job.title
    value = "" if share is None else f' aria-valuenow="{100 * share:.0f}"'
    return (
        f'<div class="iz-progress" role="progressbar" aria-valuemin="0" aria-valuemax="100"{value}'
        f' aria-label="{escape(title)}"><p><strong>{escape(title)}…</strong>'
        f"<span>{percent}</span></p>{bar}<small>{escape(told)}&nbsp;</small></div>"
    )


def _result(session: Session, made: Result) -> Part:
    clip = session.clip
    hole = made.seen_px + made.invented_px
    notes = []
    if hole and not made.invented_px:
        notes.append("All of what was filled is seen in other frames.")
    elif hole and made.invented_px < 0.005 * hole:
        notes.append("Nearly all of what was filled is seen in other frames.")
    elif hole:
        notes.append(
            f"{made.seen_px / hole:.0%} of what was filled is seen in other frames, "
            f"{made.invented_px / hole:.0%} is invented."
        )
    notes.extend(text[:1].upper() + text[1:].rstrip(".") + "." for text in made.not_carried)
    size = made.clean.stat().st_size
    facts = ""
    if clip is not None:
        facts = (
            f"{clip.width} × {clip.height}, {clip.frames} frames, as the original · "
            f"made in {duration(made.seconds)}"
        )
    return {
        "serial": session.serial,
        "stamp": made.clean.stat().st_mtime_ns // 1_000_000,
        "before": url(made.before_view),
        "after": url(made.after_view),
        "clean": url(made.clean),
        "clean_name": made.clean.name,
        "clean_size": _size(size),
        "masks": url(made.masks),
        "masks_name": made.masks.name,
        "facts": facts,
        "notes": notes,
        "ratio": 16 / 9 if clip is None else clip.width / clip.height,
        "fps": 25.0 if clip is None or clip.fps is None else float(clip.fps),
    }


def _size(count: int) -> str:
    if count < 1_000_000:
        return f"{max(1, round(count / 1000))} kB"
    return f"{count / 1_000_000:.1f} MB"
