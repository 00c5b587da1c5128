"""What the browser may ask for, each by its name; everything it says is checked here or below.

One answer for all: {"model": what the page shows}, or {"gone": true} where the session is not
there any more. Nothing that a browser sends can raise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from inpainterz.engines import Stage
from inpainterz.errors import InpainterzError, InputError, JobNotFound, OptionError
from inpainterz.pipeline import Engines
from inpainterz.ui import inputs
from inpainterz.ui.desk import Desk
from inpainterz.ui.handlers import (
    follow,
    footage,
    marks,
    objects,
    removal,
    things,
    trial,
    weights,
)
from inpainterz.ui.render import Model, model
from inpainterz.ui.session import Session, Settings
from inpainterz.ui.words import sentence
from inpainterz.video.writer import WriteOptions

log = logging.getLogger(__name__)

Told: TypeAlias = Mapping[str, object]

MOST_AT_ONCE = 12
"""How many questions of one asker are worked on at once: nobody takes all threads."""

BUSY_SECONDS = 0.3
"""How long a look at a session waits while something else is done to it."""


class Actions:
    """The browser's questions and the answers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._asking: dict[str, int] = {}  # who -> questions without an answer yet
        self._lock = threading.Lock()
        self._known: dict[str, Callable[[Session, Told], Any]] = {
            "seek": lambda s, t: footage.seek(s, t.get("frame")),
            "mark": self._mark,
            "undo": lambda s, t: marks.undo(s),
            "redo": lambda s, t: marks.redo(s),
            "reset": lambda s, t: objects.reset(s),
            "pick": lambda s, t: objects.pick_object(s, t.get("label")),
            "new": lambda s, t: objects.add_object(s),
            "delete": lambda s, t: objects.delete_object(s, t.get("label")),
            "name": lambda s, t: objects.name_object(s, t.get("label"), t.get("name")),
            "show": lambda s, t: objects.show_object(s, t.get("label"), t.get("visible")),
            "settings": self._settings,
            "weights": self._weights,
            "track": self._track,
            "remove": self._remove,
            "preview": self._preview,
            "play": self._play,
            "things": self._things,
            "take": self._take,
            "back": lambda s, t: removal.back(s),
            "forth": lambda s, t: removal.forth(s),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """All that may be asked for."""
        return ("hello", "look", "warm", "example", "cancel", "again", *self._known)

    def __call__(self, told: object, owner: str, guest: str = "") -> Model:
        """Answer.

        Args:
            told: what the browser sent: {"do": name, "tab": id, ...}.
            owner: who asks; "" = nobody who could be known again.
            guest: the address they ask from.
        """
        if not isinstance(told, dict):
            return {"notice": "that was no question"}
        asker = owner or guest
        with self._lock:
            if self._asking.get(asker, 0) >= MOST_AT_ONCE:
                return {"notice": "that was too much at once"}
            self._asking[asker] = self._asking.get(asker, 0) + 1
        try:
            return self._told(told, owner, guest)
        finally:
            with self._lock:
                self._asking[asker] -= 1
                if not self._asking[asker]:
                    del self._asking[asker]

    def _told(self, told: Told, owner: str, guest: str) -> Model:
        do, tab = told.get("do"), told.get("tab")
        session: Session | None = None
        try:
            if do == "hello":
                return self._hello(tab, owner)
            if do == "example" and not tab:
                session = self._desk.open(owner, guest=guest)
            else:
                session = self._desk.find(tab, owner)
            return self._answer(session, do, told)
        except JobNotFound as error:
            return {"gone": True, "notice": str(error)}
        except Exception as error:
            return self.fail(session, error)

    def fail(self, session: Session | None, error: Exception) -> Model:
        """The answer where something went wrong: a sentence, never a trace."""
        if session is not None and session.closed:  # dropped meanwhile
            return {"gone": True, "notice": ""}
        if not isinstance(error, InpainterzError):
            log.error("the page failed", exc_info=error)
        text = sentence(error, session)
        if session is None:
            return {"notice": text}
        session.notice = text
        return self.shown(session)

    def shown(self, session: Session) -> Model:
        """The answer that shows a session."""
        with session.lock:
            return {"model": model(session, place=self._desk.place(session))}

    def _hello(self, tab: object, owner: str) -> Model:
        told: Model = {
            "limits": {
                "upload_mb": self._desk.limits.upload_mb,
                "fetch": self._desk.limits.fetch_weights,
            },
            "engines": [
                {
                    "stage": c.stage,
                    "name": c.name,
                    "title": c.title,
                    "here": c.here,
                    "weights": c.weights,
                    "size": c.size,
                    "licence": c.licence,
                    "commercial": c.commercial,
                    "own": self._desk.shelf.names.get(c.stage) == c.name,
                }
                for c in (*self._desk.shelf.choices(), *self._desk.shelf.detectors())
            ],
        }
        if not tab:
            return told
        try:
            return {**told, **self.shown(self._desk.find(tab, owner))}
        except JobNotFound as error:
            return {**told, "gone": True, "notice": str(error)}

    def _answer(self, session: Session, do: object, told: Told) -> Model:
        if do == "look":
            if not session.lock.acquire(timeout=BUSY_SECONDS):
                return {}
            try:
                return self.shown(session)
            finally:
                session.lock.release()
        if do == "warm":
            engines = self._engines(session)
            with self._desk.segmenting:
                marks.look(session, engines)
            return {}
        if do == "cancel":
            self._desk.cancel(session)
            return self.shown(session)
        if do == "again":
            self._desk.discard(session)
            return {"model": None}
        session.notice = ""
        if do == "example":
            with session.lock:
                for _ in footage.open_example(session):
                    pass
            return self.shown(session)
        handler = self._known.get(do) if isinstance(do, str) else None
        if handler is None:
            raise InputError("that cannot be done here")
        with session.lock:
            handler(session, told)
            return self.shown(session)

    # ------------------------------------------------------------ handlers that need the desk

    def _engines(self, session: Session) -> Engines:
        return self._desk.shelf.get(session.settings.engines)

    def _fitted(self, session: Session, stage: Stage) -> Engines:
        """The engines, that of a stage within the memory limit."""
        settings, clip = session.settings, session.need_clip()
        return self._desk.shelf.fitted(
            settings.engines, clip.path, settings.memory_limit_mb, (stage,)
        )

    def _mark(self, session: Session, told: Told) -> None:
        engines = self._engines(session)
        with self._desk.segmenting:
            marks.mark(
                session,
                engines,
                told.get("kind"),
                told.get("at"),
                told.get("frame"),
                radius_px=told.get("radius_px"),
            )

    def _track(self, session: Session, told: Told) -> None:
        follow.check_shown(session)
        engines = self._fitted(session, "track")
        self._desk.start(session, lambda job: follow.track(session, engines, job))

    def _remove(self, session: Session, told: Told) -> None:
        follow.check_followed(session)
        if session.phase == "result":  # the second half of a double click
            return
        engines, settings = self._fitted(session, "inpaint"), session.settings
        fill, part = settings.fill, settings.part
        write = WriteOptions(crf=settings.crf)
        self._desk.start(
            session,
            lambda job: removal.remove(session, engines, fill, write, job, part=part),
        )

    def _preview(self, session: Session, told: Told) -> None:
        follow.check_followed(session)
        engines, fill = self._fitted(session, "inpaint"), session.settings.fill
        self._desk.start(session, lambda job: trial.preview(session, engines, fill, job))

    def _play(self, session: Session, told: Told) -> None:
        if session.film() is None:
            self._desk.start(session, lambda job: footage.make_film(session, job))

    def _things(self, session: Session, told: Told) -> None:
        what = inputs.words(session, told.get("what"))
        self._desk.start(
            session,
            lambda job: things.find_things(
                session, lambda: self._desk.shelf.detector(what), what, job
            ),
        )

    def _take(self, session: Session, told: Told) -> None:
        engines = self._engines(session)
        with self._desk.segmenting:
            things.take_things(session, engines, told.get("items"))

    def _settings(self, session: Session, told: Told) -> None:
        """Take settings as a whole: what is not said is as at first."""
        fill = inputs.fill_options(
            told.get("grow_px"), told.get("feather_px", 2), told.get("second_pass", "none")
        )
        crf = inputs.quality(told.get("crf"))
        engines = inputs.engines(told.get("engines") or {})
        self._desk.shelf.check(engines)
        part = inputs.part(session, told.get("part"))
        limit = inputs.memory_limit(told.get("memory_limit_mb"))
        wanted = Settings(fill, crf, part, limit, engines)
        if wanted != session.settings:
            session.result = None  # it was made with others
        session.settings = wanted

    def _weights(self, session: Session, told: Told) -> None:
        """Download the weights of an engine, which may take long."""
        if not self._desk.limits.fetch_weights:
            raise OptionError("nothing can be fetched here", "Ask who runs this page")
        name = told.get("weights")
        shelf = self._desk.shelf
        known = {c.weights for c in (*shelf.choices(), *shelf.detectors()) if c.weights}
        if not isinstance(name, str) or name not in known:
            raise OptionError("there are no such weights", "Choose some of the list")
        self._desk.start(session, lambda job: weights.fetch_weights(session, name, job))
