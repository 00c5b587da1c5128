"""Remove: the holes are filled, and the clean clip is written with all that goes along."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from inpainterz import pipeline
from inpainterz.engines import Inpainter
from inpainterz.jobs.pieces import PieceReader
from inpainterz.leftover import lasting
from inpainterz.pipeline import Engines, FillOptions
from inpainterz.preview import overlay
from inpainterz.types import Frame, Inpainted, Mask, Origin
from inpainterz.ui import proxy
from inpainterz.ui.handlers.follow import check_followed, check_shown, track
from inpainterz.ui.handlers.footage import copy_for_browsers
from inpainterz.ui.handlers.inpainters import Reusing, Watched
from inpainterz.ui.handlers.report import write_project, write_report
from inpainterz.ui.handlers.trial import pieces_for
from inpainterz.ui.pictures import LIVE_SIDE_PX, jpeg, origin_overlay
from inpainterz.ui.session import Result, Session, Steps
from inpainterz.ui.work import Job, Pace
from inpainterz.video.reader import VideoReader
from inpainterz.video.writer import VideoWriter, WriteOptions


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
    check_followed(session)
    clip = session.need_clip()
    began = time.monotonic()
    out = session.folder / "out"
    stem = _stem(clip.name)
    clean, zipped = out / f"{stem}-clean.mp4", out / f"{stem}-masks.zip"
    tinted, origins = out / f"{stem}-overlay.mp4", out / "origin.mp4"
    options = replace(fill, objects=frozenset(session.labels))
    counts = _Counts()
    with session.working(job, "study") as job, ExitStack() as undo:
        if session.phase == "result":  # the second half of a double click
            return
        undo.callback(_forget, session, out)
        job.begin("study", clip.frames)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(mode=0o700)
        yield session
        with ExitStack() as opened:
            video = opened.enter_context(VideoReader(clip.path))
            masks = opened.enter_context(session.masks())
            before = opened.enter_context(proxy.Film(tinted, video))
            after = opened.enter_context(proxy.Film(origins, video, sound=False))
            writer = opened.enter_context(
                VideoWriter(clean, like=video, options=write or WriteOptions())
            )

            def taken(frame: Frame) -> None:
                job.go_on()
                labels = masks.get(frame.index)
                before.write(frame, frame.image if labels is None else overlay(frame.image, labels))
                if job.work == "study":
                    job.done = frame.index + 1

            previews = tuple(
                opened.enter_context(PieceReader(path)) for path in pieces_for(session, engines)
            )
            inpainter: Inpainter = engines.inpainter
            if previews:
                inpainter = Reusing(inpainter, previews, counts.count_reused)
            filled: Iterator[Inpainted] = opened.enter_context(
                closing(
                    pipeline.fill(
                        video,
                        masks,
                        Watched(inpainter, taken, job.all_read),
                        options=options,
                        cuts=session.cuts or (),
                        ghost=counts.ghosts.append,
                    )
                )
            )
            if part is not None:
                again = opened.enter_context(VideoReader(clip.path))
                plain = opened.enter_context(closing(again.frames()))
                filled = _only(part, filled, plain)
            pace = Pace()
            for item in filled:
                if job.work == "study":
                    job.begin("fill", clip.frames)
                writer.write(item.frame, counts.count(item))
                after.write(item.frame, origin_overlay(item))
                job.note(item.frame.index + 1, clip.frames)
                if pace.due():
                    job.show(jpeg(item.frame.image, LIVE_SIDE_PX), item.frame.index)
                    yield session
                job.go_on()
            masks.export_zip(zipped)
        before_view, after_view = clip.path, clean
        with VideoReader(clean) as made:
            after_plays = proxy.plays(made.info)
        if not clip.plays:
            before_view = session.film_copy
            if not before_view.is_file():
                yield from copy_for_browsers(session, job, clip.path, before_view)
        if not after_plays:
            after_view = out / "view.mp4"
            yield from copy_for_browsers(session, job, clean, after_view)
        result = Result(
            clean=clean,
            masks=zipped,
            overlay=tinted,
            origin_view=origins,
            report=out / f"{stem}-report.json",
            project=out / f"{stem}-project.zip",
            before_view=before_view,
            after_view=after_view,
            frames_with_hole=counts.with_hole,
            ghost_frames=lasting(counts.ghosts),
            frames_reused=counts.reused,
            seen_px=counts.seen,
            invented_px=counts.invented,
            seconds=time.monotonic() - began,
            not_carried=tuple(writer.dropped),
        )
        write_report(session, clip, result, engines, options)
        write_project(session, clip, result.project, zipped)
        with session.lock:
            session.result = result
            session.phase = "result"
        undo.pop_all()
    yield session


def _forget(session: Session, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    session.result = None


@dataclass(slots=True)
class _Counts:
    """What a removal came to."""

    with_hole: int = 0
    seen: int = 0
    invented: int = 0
    reused: int = 0
    ghosts: list[int] = field(default_factory=list)

    def count(self, item: Inpainted) -> Mask:
        """Count one frame; its hole (H, W)."""
        if item.origin is None:
            return np.zeros(item.frame.image.shape[:2], np.bool_)
        hole = np.asarray(item.origin != Origin.KEPT)
        self.with_hole += bool(hole.any())
        self.seen += int((item.origin == Origin.SEEN).sum())
        self.invented += int((item.origin == Origin.INVENTED).sum())
        return hole

    def count_reused(self) -> None:
        self.reused += 1


def _only(
    part: tuple[int, int], filled: Iterable[Inpainted], plain: Iterable[Frame]
) -> Iterator[Inpainted]:
    """What was filled, but with the source's own frames outside of a part, first and last frame.

    These are filled all the same, so that nothing borrows the object from there.
    """
    for item, frame in zip(filled, plain, strict=True):
        yield item if part[0] <= frame.index <= part[1] else Inpainted(frame)


def _stem(name: str) -> str:
    """A file name without its ending, of letters, digits, dashes and underscores."""
    stem = name.rsplit(".", 1)[0] if "." in name else name
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)
    return "-".join(part for part in safe.split("-") if part)[:60] or "clip"


def track_and_remove(
    session: Session, engines: Engines, fill: FillOptions, job: Job | None = None
) -> Steps:
    """Follow, where that is not done yet, and remove: both in one job.

    Raises:
        InpainterzError: see `track` and `remove`.
    """
    check_shown(session)
    with session.working(job, "cuts") as job:
        job.more = True
        try:
            if not session.tracked or session.stale:
                yield from track(session, engines, job)
            if not job.stop:
                yield from remove(session, engines, fill, job=job)
        finally:
            job.more = False


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
