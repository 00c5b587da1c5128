"""People and things that a detector finds in the clip, to choose objects from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np

from inpainterz import who
from inpainterz.engines import Detector
from inpainterz.errors import PromptError
from inpainterz.pipeline import Engines
from inpainterz.ui import inputs
from inpainterz.ui.handlers.footage import search_cuts, seek
from inpainterz.ui.handlers.marks import take_mask
from inpainterz.ui.session import MOST_LETTERS, MOST_OBJECTS, Session, Steps
from inpainterz.ui.work import Job
from inpainterz.video.reader import VideoReader

MOST_FOUND = 40
"""How many things a search lists."""


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
    clip = session.need_clip()
    with session.working(job, "cuts") as job:
        yield session
        engine = detector()
        with VideoReader(clip.path) as video:
            yield from search_cuts(session, video, job)
            job.begin("things", clip.frames)
            with closing(who.search(video, engine, cuts=session.cuts or ())) as listings:
                for listing in listings:
                    job.note(listing.done, listing.total)
                    job.go_on()
                    yield session
        with session.lock:
            session.found, session.looked_for = listing.items[:MOST_FOUND], what
        if not session.found:
            session.notice = "Nothing was found. Click it instead."
    yield session


def take_things(session: Session, engines: Engines, chosen: object) -> Session:
    """Make objects of what was found, each shown in the frames that show it best.

    Raises:
        PromptError: nothing is chosen, it was not found, or there are too many objects.
    """
    clip = session.need_clip()
    session.need_idle()
    known = {item.id: item for item in session.found}
    ids = [inputs.whole(one) for one in chosen] if isinstance(chosen, list) else []
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
                    take_mask(session, index, label, mask)
    session.label = label_of[wanted[0]]
    seek(session, known[wanted[0]].best)
    return session
