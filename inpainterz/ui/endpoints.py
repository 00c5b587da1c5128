"""The endpoints for programs: seven, typed, and nothing else is public.

    job = client.predict(handle_file("clip.mp4"), api_name="/plan")["job"]
    client.predict(job, 0, [[320, 180]], api_name="/segment")
    client.predict(job, api_name="/start_removal")
    client.predict(job, api_name="/job_status")["state"]
    client.predict(job, api_name="/get_result")["files"]["clean"]

A job's id is unguessable; who knows it has the job, unless it belongs to a browser. An error is
raised as a sentence.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np

from inpainterz.engines import Stage
from inpainterz.errors import InpainterzError, InputError, OptionError
from inpainterz.jobs.order import STAGES, EngineChoice, Order
from inpainterz.jobs.plan import make_plan
from inpainterz.ui import inputs, render
from inpainterz.ui.desk import Desk
from inpainterz.ui.handlers import follow, footage, marks, removal
from inpainterz.ui.owner import who_asks
from inpainterz.ui.quick_gradio import gr
from inpainterz.ui.session import Session
from inpainterz.ui.words import sentence

log = logging.getLogger(__name__)

ENDPOINTS = (
    "plan",
    "segment",
    "list_objects",
    "start_removal",
    "job_status",
    "get_result",
    "cancel",
)
"""Their names; a test holds what is public against them."""

Answer = TypeVar("Answer")


class Endpoints:
    """Each method is an endpoint and a tool; its docstring is what a caller reads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def plan(self, clip: gr.FileData, request: gr.Request) -> dict[str, Any]:
        """Send a video clip and learn what it is; the first step of every removal.

        Args:
            clip: The video file, in any common format.

        Returns:
            job (the id that all other calls take), width and height in pixels, frames,
            frames_per_second, seconds, sound, codec; and estimate: roughly how many seconds,
            memory_mb and disk_mb a removal will take (null where nobody knows).
        """

        def do() -> dict[str, Any]:
            path, name = _file(clip)
            owner, guest = who_asks(request)
            session = self._desk.open(owner, guest=guest)
            try:
                with session.lock:
                    footage.open_upload(session, self._desk.uploads, path, name)
            except InpainterzError:
                self._desk.discard(session)
                raise
            return {"job": session.id, **_clip(session), "estimate": self._estimate(session)}

        return self._told(None, do)

    def _estimate(self, session: Session) -> dict[str, Any]:
        clip = session.clip
        if clip is None:
            raise InputError("there is no clip yet", "Call plan first")
        names = {**self._desk.shelf.names, **session.settings.engines}
        order = Order(
            source=clip.path,
            target=str(session.folder / "out.mp4"),
            engines=EngineChoice(names),
        )
        made = make_plan(order)
        return {
            "seconds": None if made.seconds is None else round(made.seconds, 1),
            "memory_mb": made.memory_mb,
            "disk_mb": made.disk_mb,
        }

    def segment(
        self,
        job: str,
        frame: int,
        points: list[list[float]],
        exclude: list[list[float]] | None = None,
        box: list[float] | None = None,
        object_id: int = 1,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Select an object in one frame of a clip, by points on it or a box around it.

        Args:
            job: The id that plan gave.
            frame: Which frame, counted from 0.
            points: Points on the object, each [x, y] in pixels of the clip; may be empty.
            exclude: Points that are not part of it, each [x, y].
            box: A box around it, [x0, y0, x1, y1].
            object_id: Which object it is, 1 to 8; the same number in another frame corrects it.

        Returns:
            object_id, frame, area_px, box of what was found, and mask, a PNG as a data address in
            which the object is white.
        """
        session = self._find(job, request)

        def do() -> dict[str, Any]:
            engines = self._desk.shelf.get(session.settings.engines)
            with session.lock, self._desk.segmenting:
                label = _object(session, object_id)
                told = [("box", box)] if box is not None else []
                told += [("add", p) for p in _list(points)]
                told += [("exclude", p) for p in _list(exclude or [])]
                if not told:
                    raise InputError("nothing is shown", "Give a point or a box")
                session.label = label
                for kind, at in told:
                    marks.mark(session, engines, kind, at, frame)
                mask = session.view(session.frame) == label
            return {
                "object_id": label,
                "frame": session.frame,
                "area_px": int(mask.sum()),
                "box": _box(mask),
                "mask": _png(mask),
            }

        return self._told(session, do)

    def list_objects(self, job: str, request: gr.Request | None = None) -> list[dict[str, Any]]:
        """List the objects that are selected in a clip.

        Args:
            job: The id that plan gave.

        Returns:
            For each object: object_id, name, frames (those in which it was shown), followed
            (whether it is known in all frames).
        """
        session = self._find(job, request)

        def do() -> list[dict[str, Any]]:
            with session.lock:
                return [
                    {
                        "object_id": label,
                        "name": session.names.get(label, ""),
                        "frames": sorted(f for f, k in session.answers if k == label),
                        "followed": session.tracked and not session.stale,
                    }
                    for label in session.labels
                ]

        return self._told(session, do)

    def start_removal(
        self,
        job: str,
        grow_px: int | None = None,
        feather_px: int = 2,
        tracker: str | None = None,
        inpainter: str | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Follow the selected objects through the clip and remove them. Returns at once.

        Args:
            job: The id that plan gave; at least one object must be selected.
            grow_px: How far masks are grown, in pixels; by default what suits the object.
            feather_px: Width of the soft rim, in pixels.
            tracker: The engine that follows; by default the page's own.
            inpainter: The engine that fills; by default the page's own.

        Returns:
            What job_status returns.
        """
        session = self._find(job, request)

        def do() -> dict[str, Any]:
            fill = inputs.fill_options(grow_px, feather_px)
            picked: dict[Stage, str] = dict(session.settings.engines)
            named = zip(STAGES, (None, tracker, inpainter), strict=True)
            picked |= {stage: name for stage, name in named if name is not None}
            self._desk.shelf.check(picked)
            follow.check_shown(session)
            if session.clip is None:
                raise InputError("there is no clip yet", "Call plan first")
            engines = self._desk.shelf.fitted(
                picked,
                session.clip.path,
                session.settings.memory_limit_mb,
                ("track", "inpaint"),
            )
            session.notice = ""
            self._desk.start(
                session,
                lambda made: removal.track_and_remove(session, engines, fill, made),
            )
            return self._status(session)

        return self._told(session, do)

    def job_status(self, job: str, request: gr.Request | None = None) -> dict[str, Any]:
        """How far a removal is.

        Args:
            job: The id that plan gave.

        Returns:
            state (idle, waiting, running, done or failed), stage, done and total (frames of the
            stage), seconds_left (null while unknown), place in the queue, and error, a sentence.
        """
        session = self._find(job, request)
        return self._told(session, lambda: self._status(session))

    def get_result(self, job: str, request: gr.Request | None = None) -> dict[str, Any]:
        """The files of a removal that is done.

        Args:
            job: The id that plan gave.

        Returns:
            files: the addresses, below that of the page, of the clean clip, the masks (a zip of
            PNGs), the overlay, the report and the project file; and how many pixels other frames
            showed (seen_px) and how many had to be invented (invented_px).
        """
        session = self._find(job, request)

        def do() -> dict[str, Any]:
            made = session.result
            if made is None:
                raise InputError("there is no result yet", "Ask job_status until it is done")
            files = ("clean", "masks", "overlay", "report", "project")
            return {
                "files": {what: f"/{render.url(session, f'get/{what}')}" for what in files},
                "frames_with_hole": made.frames_with_hole,
                "seen_px": made.seen_px,
                "invented_px": made.invented_px,
                "seconds": round(made.seconds, 2),
            }

        return self._told(session, do)

    def cancel(self, job: str, request: gr.Request | None = None) -> dict[str, Any]:
        """Stop a removal that waits or runs; what was selected stays.

        Args:
            job: The id that plan gave.

        Returns:
            What job_status returns.
        """
        session = self._find(job, request)

        def do() -> dict[str, Any]:
            self._desk.cancel(session)
            self._desk.wait(session, 2.0)
            return self._status(session)

        return self._told(session, do)

    # ------------------------------------------------------------

    def _find(self, job: object, request: gr.Request | None) -> Session:
        return self._told(None, lambda: self._desk.find(job, who_asks(request)[0]))

    def _told(self, session: Session | None, do: Callable[[], Answer]) -> Answer:
        """What `do` returns; what it raises becomes a sentence, never a trace."""
        try:
            return do()
        except Exception as error:
            if not isinstance(error, InpainterzError):
                log.exception("an endpoint of the page failed")
            text = sentence(error, session)
        raise gr.Error(html.escape(text, quote=False), print_exception=False)

    def _status(self, session: Session) -> dict[str, Any]:
        job = session.job
        if job is None:
            state = "done" if session.result else "failed" if session.notice else "idle"
            return {
                "job": session.id,
                "state": state,
                "stage": "",
                "done": 0,
                "total": None,
                "seconds_left": None,
                "place": None,
                "error": session.notice,
            }
        told = render.model(session, place=self._desk.place(session))["job"]
        return {
            "job": session.id,
            "state": "waiting" if job.work == "queue" else "running",
            "stage": job.work,
            "done": job.done,
            "total": job.total,
            "seconds_left": None if told is None else told["left"],
            "place": None if told is None else told["place"],
            "error": "",
        }


def _file(told: object) -> tuple[object, object]:
    """Path and name of an uploaded file as the client says them; believed by nobody yet."""
    data = told if isinstance(told, dict) else getattr(told, "__dict__", {})
    name = data.get("orig_name") or data.get("path")
    return data.get("path"), name if isinstance(name, str) else "clip"


def _clip(session: Session) -> dict[str, Any]:
    clip = session.clip
    if clip is None:
        raise InputError("there is no clip yet", "Call plan first")
    return {
        "name": clip.name,
        "width": clip.width,
        "height": clip.height,
        "frames": clip.frames,
        "frames_per_second": None if clip.fps is None else float(clip.fps),
        "seconds": clip.duration,
        "sound": clip.sound,
        "codec": clip.codec,
    }


def _list(told: object) -> list[Any]:
    if not isinstance(told, (list, tuple)) or len(told) > 100:
        raise InputError("points must be a list of [x, y]", "Give at most 100")
    return list(told)


def _object(session: Session, told: object) -> int:
    if isinstance(told, bool) or not isinstance(told, int) or not 1 <= told <= 8:
        raise OptionError("the object must be 1 to 8")
    if told not in session.labels:
        session.labels.append(told)
    return told


def _box(mask: np.ndarray[Any, Any]) -> list[int] | None:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _png(mask: np.ndarray[Any, Any]) -> str:
    import base64

    data = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()
    return "data:image/png;base64," + base64.b64encode(data).decode()
