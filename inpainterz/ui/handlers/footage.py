"""The clip of a tab: opened, sought in, searched for cuts, and played."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from inpainterz import example
from inpainterz.errors import InpainterzError, InputError, PromptError
from inpainterz.types import Frame
from inpainterz.ui import inputs, proxy
from inpainterz.ui.pictures import picture
from inpainterz.ui.session import Clip, Session, Steps
from inpainterz.ui.work import Job, Pace
from inpainterz.video.reader import VideoReader
from inpainterz.video.shots import find_cuts


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
    session.need_idle()
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
    with session.working(job, "example") as job:
        yield session
        made = example.prepare()
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


def seek(session: Session, frame: object) -> Session:
    """Look at another frame.

    Raises:
        PromptError: there is no such frame.
    """
    clip = session.need_clip()
    index = inputs.whole(frame)
    if index is None or not 0 <= index < clip.frames:
        raise PromptError(
            f"there is no frame {inputs.shown(frame)}", f"The last is {clip.frames - 1}"
        )
    picture(session, index)
    session.frame = index
    return session


def search_cuts(session: Session, video: VideoReader, job: Job) -> Steps:
    """Search the whole clip for cuts, once."""
    if session.cuts is not None:
        return
    job.begin("cuts", len(video))
    yield session

    def counted(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            job.note(frame.index + 1, len(video))
            job.go_on()
            yield frame

    with closing(video.frames()) as frames:
        session.cuts = find_cuts(video, frames=counted(frames))


def make_film(session: Session, job: Job | None = None) -> Steps:
    """Make the copy of a clip that browsers do not play as it is.

    Raises:
        InpainterzError: the clip is damaged, or the copy cannot be written.
    """
    clip = session.need_clip()
    with session.working(job, "compare") as job:
        yield session
        if session.film() is None:
            yield from copy_for_browsers(session, job, clip.path, session.film_copy)
    yield session


def copy_for_browsers(session: Session, job: Job, source: Path, target: Path) -> Steps:
    """Make the copy of a clip that browsers can play."""
    with VideoReader(source) as video:
        job.begin("compare", len(video))
        pace = Pace()
        with closing(proxy.write(video, target)) as written:
            for done in written:
                job.note(done, len(video))
                if pace.due():
                    yield session
                job.go_on()
