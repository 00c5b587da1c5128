"""Preview: two seconds are filled to look at, and kept for the whole clip to take over."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from inpainterz import pipeline
from inpainterz.engines import Inpainter
from inpainterz.jobs.pieces import PieceWriter
from inpainterz.leftover import LOOKAHEAD
from inpainterz.pipeline import Engines, FillOptions
from inpainterz.types import Frame
from inpainterz.ui import proxy
from inpainterz.ui.handlers.follow import check_followed
from inpainterz.ui.handlers.inpainters import Keeping, Watched
from inpainterz.ui.session import Kept, Session, Steps, Trial
from inpainterz.ui.work import Job
from inpainterz.video.reader import VideoReader

PREVIEW_SECONDS = 2.0
"""How much a preview fills."""

MOST_KEPT = 8
"""How many previews are kept for the whole clip to take over."""


def preview(session: Session, engines: Engines, fill: FillOptions, job: Job | None = None) -> Steps:
    """Fill two seconds from the frame in view on, to look at before the whole clip is filled.

    The preview of another engine on the same frames stays beside it. It borrows from itself and
    from what comes after it; what it could fill so is kept, and `remove` takes it over.

    Raises:
        InpainterzError: see `remove`.
    """
    check_followed(session)
    clip = session.need_clip()
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
    with session.working(job, "study") as job, ExitStack() as undo:
        undo.callback(view.unlink, missing_ok=True)
        undo.callback(kept.unlink, missing_ok=True)
        job.begin("study", high - low)
        yield session
        with ExitStack() as opened:
            video = opened.enter_context(VideoReader(clip.path))
            film = opened.enter_context(proxy.Film(view, video, sound=False))
            pieces = opened.enter_context(PieceWriter(kept))

            def taken(frame: Frame) -> None:
                job.go_on()
                if job.work == "study":
                    job.done = frame.index + 1 - low

            inpainter = Keeping(engines.inpainter, start, pieces)
            watched = Watched(inpainter, taken, job.all_read)
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
                job.note(item.frame.index - start + 1, count)
                yield session
                job.go_on()
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
        undo.pop_all()
    yield session


def pieces_for(session: Session, engines: Engines) -> list[Path]:
    """What previews of this clip filled with the same engine and options, oldest first."""
    wanted = _identity(engines.inpainter, engines.names.get("inpaint", ""))
    return [kept.pieces for kept in session.kept if kept.engine == wanted]


def _identity(engine: Inpainter, name: str) -> str:
    """What an inpainter's fill depends on besides the clip and the holes."""
    return f"{name} {getattr(engine, 'options', None)!r}"
