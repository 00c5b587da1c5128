"""Desk: everybody's sessions, who may see them, how long they are kept, and the long work on them.

A browser, or a program that uses the endpoints, knows a session by its id alone. The id is 128
random bits and is answered to its owner only; for everybody else there is no such session.
"""

from __future__ import annotations

import hmac
import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from inpainterz.errors import InpainterzError, InputError, JobNotFound, OptionError
from inpainterz.segment.cache import EmbeddingCache
from inpainterz.ui import lane
from inpainterz.ui.folder import hold
from inpainterz.ui.lane import Check, Lanes
from inpainterz.ui.session import Session, Steps
from inpainterz.ui.shelf import Shelf
from inpainterz.ui.words import sentence
from inpainterz.ui.work import Job

log = logging.getLogger(__name__)

LEFT_ALONE_SECONDS = 900.0
"""A session that was left alone so long makes room for a new one when there are too many."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one user, and all together, may ask of the page."""

    upload_mb: int = 2048
    """The largest file that is taken."""
    free_disk_mb: int = 1024
    """No file is taken that would leave less than this free."""
    sessions_per_owner: int = 8
    """Of more than these the one that was left alone longest is closed."""
    sessions: int = 200
    uploads_at_once: int = 3
    """Of one owner."""
    keep_seconds: float = 6 * 3600.0
    """How long a session is kept after its owner was last heard of."""
    sweep_seconds: float = 120.0
    waiting_per_owner: int = 3
    waiting: int = 20
    fetch_weights: bool = True
    """Whether visitors may have weights downloaded to this machine."""

    def __post_init__(self) -> None:
        if min(self.upload_mb, self.sessions, self.sessions_per_owner, self.uploads_at_once) < 1:
            raise OptionError("a limit of the page is less than 1")
        if min(self.free_disk_mb, self.waiting, self.waiting_per_owner) < 0:
            raise OptionError("a limit of the page is below 0")
        if not (self.keep_seconds > 0 and self.sweep_seconds > 0):
            raise OptionError("a time of the page is not above 0")


PUBLIC = Limits(
    upload_mb=512,
    free_disk_mb=4096,
    sessions_per_owner=3,
    uploads_at_once=1,
    keep_seconds=3600.0,
    waiting_per_owner=1,
    fetch_weights=False,
)
"""For a page that strangers use."""


class Desk:
    """Everybody's sessions. All methods may be called from any thread."""

    def __init__(self, root: Path, shelf: Shelf, limits: Limits = Limits()) -> None:
        """Begin with nothing.

        Args:
            root: an empty folder for sessions and uploads.
            shelf: the engines.
            limits: what may be asked.
        """
        self.root, self.shelf, self.limits = root, shelf, limits
        self._alive = hold(root)
        self.uploads = root / "uploads"
        self.uploads.mkdir(mode=0o700, exist_ok=True)
        self.segmenting = threading.Lock()
        """Held while a segmenter works: an engine works in one thread at a time."""
        self._embeddings = EmbeddingCache()
        self._sessions: dict[str, Session] = {}
        self._tickets: dict[str, tuple[str, str]] = {}  # session id -> job of the lanes, its owner
        self._lock = threading.Lock()
        self._lanes = Lanes(
            limits=lane.Limits(
                waiting_per_owner=limits.waiting_per_owner,
                waiting_total=limits.waiting,
                keep_seconds=60.0,
            ),
        )
        self._ended = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_on, name="sweeper", daemon=True)
        self._sweeper.start()

    def close(self) -> None:
        """Stop all work and delete all sessions."""
        self._ended.set()
        self._sweeper.join()
        self._lanes.close()
        for session in self._all():
            self._drop(session)
        self._alive.close()

    # ------------------------------------------------------------ sessions

    def open(self, owner: str, *, guest: str = "") -> Session:
        """A new session.

        Args:
            owner: who may see it; "" = whoever knows its id.
            guest: who asks, where there is no owner: limits count for them.

        Raises:
            InputError: there are as many as may be, and all are in use.
        """
        asker = owner or guest
        idle = sorted((s for s in self._all() if s.job is None), key=lambda s: s.touched)
        mine = [s for s in idle if s.asker == asker]
        for old in mine[: max(0, len(mine) + 1 - self.limits.sessions_per_owner)]:
            self._drop(old)
            idle.remove(old)
        if len(self._all()) >= self.limits.sessions:
            if not idle or time.monotonic() - idle[0].touched < LEFT_ALONE_SECONDS:
                raise InputError("too many people are here just now", "Try again in a few minutes")
            self._drop(idle[0])
        session = Session.create(self.root, owner, embeddings=self._embeddings)
        session.asker = asker
        with self._lock:
            self._sessions[session.id] = session
        return session

    def find(self, name: object, owner: str) -> Session:
        """The session with an id.

        Raises:
            JobNotFound: there is none, or it is somebody else's.
        """
        with self._lock:
            found = self._sessions.get(name) if isinstance(name, str) else None
        if found is None or not hmac.compare_digest(
            found.owner.encode(), (owner if found.owner else "").encode()
        ):
            raise JobNotFound("there is no such job", "It may have been deleted; start again")
        found.touched = time.monotonic()
        return found

    def discard(self, session: Session) -> None:
        """Delete a session with all its files."""
        self._drop(session)

    def _all(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())

    def _drop(self, session: Session) -> None:
        with self._lock:
            self._sessions.pop(session.id, None)
            ticket = self._tickets.pop(session.id, None)
        if ticket is not None:
            self._forget(*ticket)
        session.close()

    # ------------------------------------------------------------ long work

    def start(
        self,
        session: Session,
        make: Callable[[Job], Steps],
    ) -> None:
        """Have work done in the lane, which goes on whoever looks.

        Args:
            session: it is done on; its `job` says how far it is.
            make: the work, given its job; it must set `session.job` to None when it ends.

        Raises:
            InputError: something is still running.
            QueueFull: this owner, or all together, have as many waiting as may.
        """
        owner = session.asker or session.id
        with session.lock:
            if session.job is not None:
                raise InputError("something is still running", "Wait until it is done, or cancel")
            job = session.job = Job("queue", started=time.monotonic())

            def work(check: Check) -> None:
                try:
                    with closing(make(job)) as steps:
                        for _ in steps:
                            check()
                except Exception as error:
                    if not isinstance(error, InpainterzError) and not session.closed:
                        log.exception("a job of the page failed")
                    session.notice = sentence(error, session)
                finally:
                    session.job = None
                    with self._lock:
                        dropped = session.id not in self._sessions
                    if dropped:  # meanwhile: what the work left behind goes too
                        session.close()

            try:
                number = self._lanes.submit(owner, work)
            except InpainterzError:
                session.job = None
                raise
            with self._lock:
                before = self._tickets.get(session.id)
                self._tickets[session.id] = number, owner
        if before is not None:
            self._forget(*before)

    def place(self, session: Session) -> int | None:
        """How many jobs run before that of a session; None when it does not wait."""
        with self._lock:
            ticket = self._tickets.get(session.id)
        if ticket is None or session.job is None:
            return None
        try:
            return self._lanes.status(*ticket).place
        except JobNotFound:
            return None

    def cancel(self, session: Session) -> None:
        """End the work on a session: at once where it waits, within two seconds where it runs."""
        session.cancel()
        with self._lock:
            ticket = self._tickets.get(session.id)
        if ticket is None:
            return
        try:
            status = self._lanes.cancel(*ticket)
        except JobNotFound:
            return
        if status.state == "cancelled":
            session.job = None

    def wait(self, session: Session, timeout: float) -> None:
        """Wait until the work on a session has ended, or so many seconds."""
        with self._lock:
            ticket = self._tickets.get(session.id)
        if ticket is not None:
            try:
                self._lanes.wait(*ticket, timeout)
            except JobNotFound:
                return

    def _forget(self, number: str, owner: str) -> None:
        try:
            self._lanes.forget(number, owner)
        except JobNotFound:
            return

    # ------------------------------------------------------------ room

    def check_room(self, size: int) -> None:
        """Raises InputError when a file of so many bytes is too large, or the disk too full."""
        if size > self.limits.upload_mb * 1_000_000:
            raise InputError(
                f"the file is larger than {self.limits.upload_mb} MB", "Take a shorter clip"
            )
        free = shutil.disk_usage(self.root).free
        if free - size < self.limits.free_disk_mb * 1_000_000:
            raise InputError("there is no room for it on this machine just now", "Try again later")

    # ------------------------------------------------------------ the sweeper

    def sweep(self, now: float | None = None) -> int:
        """Delete sessions and uploads that were left alone too long; how many sessions."""
        now = time.monotonic() if now is None else now
        old = [
            s for s in self._all() if s.job is None and now - s.touched > self.limits.keep_seconds
        ]
        for session in old:
            self._drop(session)
        ended = time.time() - min(3600.0, self.limits.keep_seconds)
        for upload in self.uploads.iterdir():
            try:
                if upload.stat().st_mtime < ended:
                    shutil.rmtree(upload) if upload.is_dir() else upload.unlink()
            except OSError:
                continue  # it was taken meanwhile
        return len(old)

    def _sweep_on(self) -> None:
        while not self._ended.wait(self.limits.sweep_seconds):
            try:
                self.sweep()
            except OSError:
                log.exception("the sweeper of the page failed")
