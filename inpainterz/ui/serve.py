"""The page served: its port, its folder, and who is let in."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from starlette.middleware import Middleware

from inpainterz.errors import EngineUnavailable, OptionError
from inpainterz.pipeline import Engines
from inpainterz.ui.actions import Actions
from inpainterz.ui.desk import PUBLIC, Desk, Limits
from inpainterz.ui.folder import FOLDER_PREFIX, clean_up
from inpainterz.ui.guard import Guard
from inpainterz.ui.page import ASSETS, build_page, theme
from inpainterz.ui.quick_gradio import gr
from inpainterz.ui.shelf import Shelf


def check_port(host: str, port: int) -> None:
    """Find out before any work whether the page can listen there.

    Raises:
        OptionError: the port is taken, or the address is not this machine's.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            f"the page cannot listen on {host}:{port}: {reason}", "Choose another with --port"
        ) from error


def launch(
    page: gr.Blocks,
    guard: Middleware,
    *,
    host: str,
    port: int,
    limits: Limits,
    open_browser: bool = False,
    mcp: bool = False,
) -> str:
    """Begin to serve a built page, in a thread; returns its address."""
    page.queue(max_size=64)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        prevent_thread_lock=True,
        share=False,
        quiet=True,
        show_error=False,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=f"{limits.upload_mb}mb",
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=mcp,
        theme=theme(),
        css=(ASSETS / "page.css").read_text("utf-8"),
        favicon_path=ASSETS / "favicon.svg",
        app_kwargs={
            "middleware": [guard],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
    )
    return str(address)


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    engines: Engines | None = None,
    open_browser: bool = False,
    ready: Callable[[str], None] | None = None,
    *,
    public: bool = False,
    login: tuple[str, str] | None = None,
    mcp: bool = False,
    limits: Limits | None = None,
) -> None:
    """Serve the page until it is interrupted. Uploads and results are deleted at the end.

    Args:
        host: address to listen on.
        port: port to listen on.
        engines: used for everybody; None: the built-in ones.
        open_browser: show the page in the machine's browser.
        ready: told the address as soon as the page answers there.
        public: tighter limits, for a page that strangers use.
        login: name and password without which nothing is answered.
        mcp: offer the endpoints as MCP tools too.
        limits: what may be asked; None: by `public`.

    Raises:
        OptionError: the port is taken, or the address is not this machine's.
        EngineUnavailable: MCP is wanted and its package is not installed.
    """
    check_port(host, port)
    if mcp:
        _require_mcp()
    limits = limits or (PUBLIC if public else Limits())
    clean_up(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True) as name:
        root = Path(name).resolve()
        desk = Desk(root, Shelf(engines), limits)
        os.environ["GRADIO_TEMP_DIR"] = str(desk.uploads)  # what the endpoints are sent lands there
        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _end)
        actions = Actions(desk)
        page = build_page(desk, actions)
        user, password = login or ("", "")
        guard = Middleware(
            Guard,
            desk=desk,
            actions=actions,
            user=user,
            password=password,
            framed_by="https://huggingface.co" if os.environ.get("SPACE_ID") else "",
        )
        try:
            address = launch(
                page,
                guard,
                host=host,
                port=port,
                limits=limits,
                open_browser=open_browser,
                mcp=mcp,
            )
            if ready is not None:
                ready(address)
            page.block_thread()
        finally:
            page.close(verbose=False)
            desk.close()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)


def _require_mcp() -> None:
    import importlib.util

    if importlib.util.find_spec("mcp") is None:
        raise EngineUnavailable(
            "MCP", "the package mcp is not installed", "Install it: pip install -e '.[mcp]'"
        )


def _end(*_: object) -> None:
    raise SystemExit(0)
