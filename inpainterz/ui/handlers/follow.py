"""Track: the objects of the selection followed through the clip."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from inpainterz import pipeline
from inpainterz.errors import PromptError
from inpainterz.masks import MaskStore
from inpainterz.pipeline import Engines
from inpainterz.preview import overlay
from inpainterz.types import Step, Tracked
from inpainterz.ui.handlers.footage import search_cuts
from inpainterz.ui.pictures import LIVE_SIDE_PX, jpeg
from inpainterz.ui.session import Session, Steps
from inpainterz.ui.work import Job, Pace
from inpainterz.video.reader import VideoReader


def check_shown(session: Session) -> None:
    """Raises InputError when there is nothing that could be followed."""
    session.need_clip()
    if not session.prompted():
        raise PromptError("nothing is selected yet", "Click the thing that should go")


def check_followed(session: Session) -> None:
    """Raises InputError when there is nothing that could be removed."""
    session.need_clip()
    if not session.tracked or session.stale:
        raise PromptError("the selection was not followed yet", "Press Track first")


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
    check_shown(session)
    clip = session.need_clip()
    fresh = session.folder / "masks.new"
    with session.working(job, "cuts") as job, ExitStack() as ends:
        ends.callback(shutil.rmtree, fresh, ignore_errors=True)
        if session.tracked and not session.stale:  # the second half of a double click
            return
        yield session  # shown at once, also where the first followed frame takes long
        corrected = _corrected(session)
        if corrected is not None:  # the rest stays as it was followed
            shutil.copytree(session.folder / "masks", fresh, copy_function=os.link)
            _unlink_shared(fresh / "confidence.json", session.folder / "masks" / "confidence.json")
        with VideoReader(clip.path) as video, MaskStore(fresh) as store:
            yield from search_cuts(session, video, job)
            shown, snapshot = session.shown(), dict(session.answers)
            job.begin("follow", None)
            job.trust = [-1] * clip.frames if corrected is None else list(session.trust)
            pace = Pace()

            def note(step: Step) -> None:
                job.note(step.done, step.total)

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
                    job.go_on()
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
