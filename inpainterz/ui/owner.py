"""Whose a session is: the cookie by which the owner is known again, and who asks."""

from __future__ import annotations

import re

from starlette.requests import Request

from inpainterz.ui.quick_gradio import gr

COOKIE = "inpainterz"
"""Name of the cookie that says whose a session is."""

_OWNER = re.compile(r"[0-9a-f]{32}")


def owner_of(cookies: object) -> str:
    """The owner that a request's cookies name; "" where they name none."""
    value = cookies.get(COOKIE, "") if isinstance(cookies, dict) else ""
    return value if isinstance(value, str) and _OWNER.fullmatch(value) else ""


def cookie(value: str, request: Request) -> str:
    """A cookie of the browser's that scripts cannot read; also inside a frame of another page,
    where the connection is safe."""
    proto = request.headers.get("x-forwarded-proto", request.url.scheme)
    safe = proto.split(",")[0].strip() == "https"
    where = "SameSite=None; Secure; Partitioned" if safe else "SameSite=Lax"
    return f"{COOKIE}={value}; Path=/; HttpOnly; Max-Age=2592000; {where}"


def who_asks(request: gr.Request | None) -> tuple[str, str]:
    """Owner and address of who asks."""
    # gradio's own request holds the server's; a component's function is given that one itself
    if request is None or getattr(request, "request", request) is None:
        return "", ""
    client = request.client
    return owner_of(dict(request.cookies)), "" if client is None else str(client.host)
