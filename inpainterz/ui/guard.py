"""Guard: what stands before the page. It lets in only what the page and its endpoints need.

- every answer carries headers that keep foreign scripts, frames and requests out;
- a browser gets a cookie of 128 random bits, by which its sessions know their owner;
- with a password, nothing is answered without it;
- files of a session are served to its owner, uploads are limited before they are stored;
- what a request breaks inside is answered with 400, never with a trace.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inpainterz.errors import InpainterzError, InputError, JobNotFound, QueueFull
from inpainterz.ui import handlers
from inpainterz.ui.actions import Actions
from inpainterz.ui.desk import Desk
from inpainterz.ui.render import file_of
from inpainterz.ui.session import Session

log = logging.getLogger(__name__)

COOKIE = "inpainterz"
"""Name of the cookie that says whose a session is."""

_OWNER = re.compile(r"[0-9a-f]{32}")

_OPEN = re.compile(
    r"/|/simple|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?"
    r"|/(assets|static|svelte)/.*"
    r"|/gradio_api/(info|startup-events|app_id|login_check|user|token|theme\.css|openapi\.json)/?"
    r"|/gradio_api/(queue/(join|data|status)|component_server|upload|reset|cancel|upload_progress)/?"
    r"|/gradio_api/(heartbeat|call)/.*"
    r"|/gradio_api/mcp(/.*)?"
    r"|/iz/.*"
)
"""The paths that are answered; for all others there is nothing here."""

_BODY_LIMIT = 4_000_000
"""The longest body of a request that is not an upload, in bytes."""

_ROOM_EVERY = 32_000_000
"""After so many bytes of an upload the room on the disk is looked at again."""

_CHUNK_SECONDS = 60.0
"""An upload that says nothing for so long is given up."""


def headers(*, framed_by: str = "") -> dict[str, str]:
    """Headers of every answer. Gradio's own page needs inline scripts and `eval`.

    Args:
        framed_by: an origin that may show the page in a frame, besides the page itself.
    """
    return {
        "content-security-policy": "; ".join(
            (
                "default-src 'self'",
                "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
                "style-src 'self' 'unsafe-inline'",
                "img-src 'self' data: blob:",
                "media-src 'self' data: blob:",
                "font-src 'self' data:",
                "connect-src 'self' data: blob:",
                "worker-src 'self' blob:",
                "object-src 'none'",
                "base-uri 'self'",
                "form-action 'self'",
                f"frame-ancestors 'self' {framed_by}".rstrip(),
            )
        ),
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }


def owner_of(cookies: object) -> str:
    """The owner that a request's cookies name; "" where they name none."""
    value = cookies.get(COOKIE, "") if isinstance(cookies, dict) else ""
    return value if isinstance(value, str) and _OWNER.fullmatch(value) else ""


class Guard:
    """ASGI middleware around the page; see the module."""

    def __init__(
        self,
        app: ASGIApp,
        desk: Desk,
        actions: Actions,
        *,
        user: str = "",
        password: str = "",
        framed_by: str = "",
    ) -> None:
        self._app = app
        self._desk = desk
        self._actions = actions
        self._login = (user, password) if user or password else None
        self._headers = headers(framed_by=framed_by)
        self._sending: dict[str, int] = {}  # who -> uploads under way
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        started = False
        fresh = "" if owner_of(request.cookies) else secrets.token_hex(16)

        async def dressed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                told = dict(message)
                kept = [(k, v) for k, v in message["headers"] if k.decode() not in self._headers]
                kept += [(k.encode(), v.encode()) for k, v in self._headers.items()]
                if fresh and scope["path"] in ("/", "/simple"):
                    kept.append((b"set-cookie", _cookie(fresh, request).encode()))
                told["headers"] = kept
                message = told
            await send(message)

        refused = self._refuse(request)
        if refused is not None:
            await refused(scope, receive, dressed)
            return
        try:
            if scope["path"].startswith("/iz/"):
                response = await self._own(request)
                await response(scope, receive, dressed)
            else:
                await self._app(scope, self._measured(request, receive), dressed)
        except ClientDisconnect:
            return
        except _FileGone:
            if not started:
                await PlainTextResponse("it is deleted just now", 404)(scope, receive, dressed)
        except _TooLong:
            if not started:
                await PlainTextResponse("too long", 413)(scope, receive, dressed)
        except Exception:
            log.warning("a request to %s could not be understood", scope["path"], exc_info=True)
            if not started:
                await PlainTextResponse("this request makes no sense", 400)(scope, receive, dressed)

    # ------------------------------------------------------------ who may come in

    def _refuse(self, request: Request) -> Response | None:
        # robots.txt is for probes that ask whether the page is up
        asks_us = request.scope["path"] != "/robots.txt"
        if self._login is not None and asks_us and not self._allowed(request):
            return PlainTextResponse(
                "a name and a password are needed",
                401,
                {"www-authenticate": 'Basic realm="Inpainterz", charset="UTF-8"'},
            )
        if not _OPEN.fullmatch(request.scope["path"]):
            return PlainTextResponse("there is nothing here", 404)
        if request.method not in ("GET", "HEAD", "POST", "OPTIONS", "DELETE"):
            return PlainTextResponse("not allowed", 405)
        if request.method == "POST" and not _same_origin(request):
            return PlainTextResponse("another page must not ask this", 403)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal():
            return PlainTextResponse("no such length", 400)
        if _is_upload(request):
            try:
                self._desk.check_room(int(length))
            except InputError as error:
                return PlainTextResponse(str(error), 413)
        elif int(length) > _BODY_LIMIT:
            return PlainTextResponse("too long", 413)
        return None

    def _allowed(self, request: Request) -> bool:
        kind, _, told = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic" or self._login is None:
            return False
        try:
            given = base64.b64decode(told, validate=True)
        except (binascii.Error, ValueError):
            return False
        wanted = ":".join(self._login).encode()
        return hmac.compare_digest(given, wanted)

    def _measured(self, request: Request, receive: Receive) -> Receive:
        """The body as it comes; one that is longer than it said, or may be, ends the request."""
        most = self._desk.limits.upload_mb * 1_000_000 if _is_upload(request) else _BODY_LIMIT
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most + 100_000:  # the frame around a file is not counted
                raise _TooLong
            return message

        return counted

    # ------------------------------------------------------------ files of a session

    async def _own(self, request: Request) -> Response:
        """iz/<session>/<what>: pictures and files of a session, and uploads into one."""
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
                return _picture(handlers.picture(session, frame).read_bytes(), keep=True)
            case ["thumb", name] if (frame := _frame(name)) is not None:
                return _picture(handlers.thumbnail(session, frame))
            case ["found", name] if (item := _frame(name)) is not None:
                return _picture(handlers.found_picture(session, item))
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
                        handlers.open_upload(session, self._desk.uploads, str(landed), name)
                    else:
                        handlers.import_masks(session, landed)

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


class _FileGone(Exception):
    """A file was deleted while it was served."""


class _Served(FileResponse):
    """A file that may be deleted meanwhile: its owner started over."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except (OSError, RuntimeError) as error:
            if Path(self.path).is_file():
                raise
            raise _FileGone from error


class _TooLong(Exception):
    """A body is longer than it may be."""


def _is_upload(request: Request) -> bool:
    path = request.scope["path"].rstrip("/")
    return request.method == "POST" and (
        path == "/gradio_api/upload"
        or (path.startswith("/iz/") and path.endswith(("/clip", "/masks")))
    )


def _same_origin(request: Request) -> bool:
    """Whether it is this page that asks, or no page at all.

    Browsers say so themselves (Fetch Metadata, W3C), which holds behind any proxy; of those that
    do not, the origin must be the host that was asked.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return True
    asked = urlsplit(origin).netloc.lower()
    known = {
        request.headers.get("host", "").lower(),
        request.headers.get("x-forwarded-host", "").lower(),
    }
    return bool(asked) and asked in known


def _cookie(value: str, request: Request) -> str:
    """A cookie of the browser's that scripts cannot read; also inside a frame of another page,
    where the connection is safe."""
    proto = request.headers.get("x-forwarded-proto", request.url.scheme)
    safe = proto.split(",")[0].strip() == "https"
    where = "SameSite=None; Secure; Partitioned" if safe else "SameSite=Lax"
    return f"{COOKIE}={value}; Path=/; HttpOnly; Max-Age=2592000; {where}"


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
