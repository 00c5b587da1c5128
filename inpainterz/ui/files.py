"""Files of a session, below `iz/<session>/`: pictures and results out, clips and masks in."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from inpainterz.errors import InpainterzError, InputError, JobNotFound, QueueFull
from inpainterz.ui.actions import Actions
from inpainterz.ui.desk import Desk
from inpainterz.ui.handlers import footage, objects
from inpainterz.ui.owner import owner_of
from inpainterz.ui.pictures import found_picture, picture, thumbnail
from inpainterz.ui.session import Session

_ROOM_EVERY = 32_000_000
"""After so many bytes of an upload the room on the disk is looked at again."""

_CHUNK_SECONDS = 60.0
"""An upload that says nothing for so long is given up."""


class Files:
    """Serves what belongs to a session to its owner, and takes uploads, within the limits."""

    def __init__(self, desk: Desk, actions: Actions) -> None:
        self._desk, self._actions = desk, actions
        self._sending: dict[str, int] = {}  # who -> uploads under way
        self._lock = threading.Lock()

    async def answer(self, request: Request) -> Response:
        """The answer to a request for `iz/<session>/<what>`, or to an upload."""
        parts = request.scope["path"].split("/")[2:]
        owner = owner_of(request.cookies)
        guest = "" if request.client is None else request.client.host
        if request.method == "POST" and len(parts) == 2 and parts[1] in ("clip", "masks"):
            return await self._upload(request, parts[0], parts[1], owner, guest)
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("not allowed", 405)
        try:
            session = self._desk.find(parts[0], owner)
        except JobNotFound as error:
            return PlainTextResponse(str(error), 404)
        try:
            return await anyio.to_thread.run_sync(self._served, session, parts[1:])
        except InpainterzError:
            return PlainTextResponse("there is no such picture", 404)
        except Exception:
            if not session.closed:
                raise
            return PlainTextResponse("it is deleted just now", 404)

    def _served(self, session: Session, parts: list[str]) -> Response:
        match parts:
            case ["frame", name] if (frame := _frame(name)) is not None:
                return _picture(picture(session, frame).read_bytes(), keep=True)
            case ["thumb", name] if (frame := _frame(name)) is not None:
                return _picture(thumbnail(session, frame))
            case ["found", name] if (item := _frame(name)) is not None:
                return _picture(found_picture(session, item))
            case ["live.jpg"] if session.job is not None and session.job.live:
                return _picture(session.job.live)
            case ["get", what]:
                found = file_of(session, what)
                if found is not None and found[0].is_file():
                    path, download = found
                    return _file(path, name=path.name if download else "")
        return PlainTextResponse("there is no such file", 404)

    async def _upload(
        self, request: Request, tab: str, what: str, owner: str, guest: str
    ) -> Response:
        """A file, as the body of the request; its name, for reading only, as ?name=."""
        who = owner or guest
        with self._lock:
            if self._sending.get(who, 0) >= self._desk.limits.uploads_at_once:
                return PlainTextResponse("one file after the other, please", 429)
            self._sending[who] = self._sending.get(who, 0) + 1
        try:
            if tab != "new" or what != "clip":
                return await self._take(request, self._desk.find(tab, owner), what)
            session = self._desk.open(owner, guest=guest)
            try:
                return await self._take(request, session, what)
            finally:
                if session.clip is None:  # it was no clip: nothing stays
                    self._desk.discard(session)
        except JobNotFound as error:
            return PlainTextResponse(str(error), 404)
        except QueueFull as error:
            return PlainTextResponse(str(error), 503)
        except InpainterzError as error:
            return PlainTextResponse(str(error), 413)
        finally:
            with self._lock:
                self._sending[who] -= 1
                if not self._sending[who]:
                    del self._sending[who]

    async def _take(self, request: Request, session: Session, what: str) -> Response:
        name = request.query_params.get("name", "")
        folder = self._desk.uploads / secrets.token_hex(16)
        await anyio.to_thread.run_sync(lambda: folder.mkdir(mode=0o700))
        try:
            landed = folder / f"upload{_ending(name)}"
            await self._store(request, landed)

            def take() -> None:
                session.notice = ""
                with session.lock:
                    if what == "clip":
                        footage.open_upload(session, self._desk.uploads, str(landed), name)
                    else:
                        objects.import_masks(session, landed)

            return JSONResponse(await anyio.to_thread.run_sync(self._answer, session, take))
        finally:
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))

    def _answer(self, session: Session, take: Callable[[], None]) -> object:
        try:
            take()
        except Exception as error:
            return self._actions.fail(session, error)
        return self._actions.shown(session)

    async def _store(self, request: Request, target: Path) -> None:
        """Write the body, as long as it comes and there is room for it."""
        got = checked = 0
        stream = request.stream()
        with target.open("xb") as out:
            os.chmod(target, 0o600)
            while True:
                try:
                    with anyio.fail_after(_CHUNK_SECONDS):
                        chunk = await anext(stream)
                except StopAsyncIteration:
                    break
                except TimeoutError as error:
                    raise InputError("the upload broke off", "Try again") from error
                got += len(chunk)
                if got > self._desk.limits.upload_mb * 1_000_000:
                    self._desk.check_room(got)  # raises
                if got - checked > _ROOM_EVERY:
                    checked = got
                    await anyio.to_thread.run_sync(self._desk.check_room, 0)
                await anyio.to_thread.run_sync(out.write, chunk)
        if not got:
            raise InputError("the file is empty", "Choose another")


class FileGone(Exception):
    """A file was deleted while it was served."""


class _Served(FileResponse):
    """A file that may be deleted meanwhile: its owner started over."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except (OSError, RuntimeError) as error:
            if Path(self.path).is_file():
                raise
            raise FileGone from error


def file_of(session: Session, what: str) -> tuple[Path, bool] | None:
    """The file that `get/<what>` serves, and whether it is a download; None: there is none."""
    for trial in session.trials:
        if trial.view.stem == what:
            return trial.view, False
    if what == "film" and session.clip is not None:
        film = session.film()
        return None if film is None else (film, False)
    made = session.result
    if made is None:
        return None
    files = {
        "clean": (made.clean, True),
        "masks": (made.masks, True),
        "overlay": (made.overlay, True),
        "report": (made.report, True),
        "project": (made.project, True),
        "before": (made.before_view, False),
        "after": (made.after_view, False),
        "origin": (made.origin_view, False),
    }
    return files.get(what)


def _frame(name: str) -> int | None:
    stem, dot, ending = name.partition(".")
    known = dot and ending == "jpg" and stem.isascii() and stem.isdecimal() and len(stem) <= 9
    return int(stem) if known else None


def _ending(name: str) -> str:
    ending = Path(unquote(name)).suffix.lower()
    return ending if len(ending) <= 6 and ending[1:].isalnum() and ending.isascii() else ""


def _picture(data: bytes, *, keep: bool = False) -> Response:
    how = "private, max-age=3600" if keep else "private, no-store"
    return Response(data, media_type="image/jpeg", headers={"cache-control": how})


def _file(path: Path, *, name: str = "") -> Response:
    """A file, with ranges; to be saved under a name, or shown where there is none."""
    return _Served(
        path,
        filename=name or None,
        headers={
            "cache-control": "private, no-cache",
            # compressing would take the ranges away by which films are sought in
            "content-encoding": "identity",
        },
    )
