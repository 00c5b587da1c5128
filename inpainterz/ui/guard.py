"""Guard: what stands before the page. It lets in only what the page and its endpoints need.

- every answer carries headers that keep foreign scripts, frames and requests out;
- a browser gets a cookie of 128 random bits, by which its sessions know their owner;
- with a password, nothing is answered without it;
- an upload that is too large is refused before it comes; files of a session are for `files`;
- what a request breaks inside is answered with 400, never with a trace.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import re
import secrets
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inpainterz.errors import InputError
from inpainterz.ui.actions import Actions
from inpainterz.ui.desk import Desk
from inpainterz.ui.files import FileGone, Files
from inpainterz.ui.owner import cookie, owner_of

log = logging.getLogger(__name__)

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
        self._files = Files(desk, actions)
        self._login = (user, password) if user or password else None
        self._headers = headers(framed_by=framed_by)

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
                    kept.append((b"set-cookie", cookie(fresh, request).encode()))
                told["headers"] = kept
                message = told
            await send(message)

        refused = self._refuse(request)
        if refused is not None:
            await refused(scope, receive, dressed)
            return
        try:
            if scope["path"].startswith("/iz/"):
                response = await self._files.answer(request)
                await response(scope, receive, dressed)
            else:
                await self._app(scope, self._measured(request, receive), dressed)
        except ClientDisconnect:
            return
        except FileGone:
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
