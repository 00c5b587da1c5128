"""The page: layout and wiring only. What happens stands in handlers.py, what shows in render.py."""

from __future__ import annotations

import html
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import gradio as gr

from inpainterz.engines import ENGINES, Entry, Stage
from inpainterz.engines import load as load_engine
from inpainterz.errors import InpainterzError, OptionError, WeightsMissing
from inpainterz.pipeline import Engines, FillOptions
from inpainterz.ui import handlers
from inpainterz.ui.render import PARTS, UPLOAD_LIMIT_MB, render, status
from inpainterz.ui.session import Session, close

log = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"

ENGINE_LANE = "engine"
"""All that uses an engine runs one after the other: engines work in one thread at a time."""

SWEEP = (600, 3600)
"""Uploads are looked at every so many seconds and deleted when they are so many seconds old."""

STAGES: tuple[tuple[Stage, str], ...] = (
    ("segment", "Selecting"),
    ("track", "Following"),
    ("inpaint", "Filling"),
)
"""Each stage, and what it does in one word."""

SORRY = "Something went wrong on our side. Try again; if it stays so, the log says more."


class Shelf:
    """The engines of this process, loaded when they are first needed."""

    def __init__(self, engines: Engines | None) -> None:
        self._given = engines
        self._more: dict[tuple[Stage, str], Any] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> dict[str, str]:
        """The name of each stage's engine that is used where nobody chose another."""
        given = {} if self._given is None else self._given.names
        return {stage: given.get(stage, "builtin") for stage, _ in STAGES}

    def get(self, picked: Mapping[Stage, str]) -> Engines:
        """The engines, those that were picked in the place of those that were given.

        Raises:
            InpainterzError: one cannot be loaded.
        """
        with self._lock:
            if self._given is None:
                self._given = Engines.load()
            made = self._given
            for stage, name in picked.items():
                if name == self.names[stage]:
                    continue
                if (stage, name) not in self._more:
                    self._more[stage, name] = load_engine(stage, name)
                engine, names = self._more[stage, name], {**made.names, stage: name}
                if stage == "segment":
                    made = replace(made, segmenter=engine, names=names)
                elif stage == "track":
                    made = replace(made, tracker=engine, names=names)
                else:
                    made = replace(made, inpainter=engine, names=names)
            return made


def available(stage: Stage) -> list[Entry]:
    """The engines of a stage whose weights are on this machine."""
    from inpainterz import weights

    found = []
    for entry in ENGINES:
        if entry.stage != stage:
            continue
        if entry.weights is not None:
            try:
                weights.locate(entry.weights)
            except (WeightsMissing, OptionError):
                continue
        found.append(entry)
    return found


def build_page(engines: Engines | None, root: Path) -> gr.Blocks:
    """The page.

    Args:
        engines: used for every tab; None: the built-in ones, loaded when first needed.
        root: the folder that holds uploads and the tabs' folders.
    """
    shelf = Shelf(engines)
    with gr.Blocks(
        title="Inpainterz",
        analytics_enabled=False,
        delete_cache=SWEEP,
        fill_width=True,
    ) as page:
        state = gr.State(None, delete_callback=close)
        parts: dict[str, Any] = {}
        parts["head"] = gr.HTML(apply_default_css=False)
        with gr.Column(elem_id="clip-step", elem_classes="iz-step") as parts["clip_step"]:
            parts["drop"] = _island("drop", None)
            with gr.Row(elem_classes="iz-or"):
                parts["example"] = gr.Button(
                    "No clip at hand? Try the example", variant="secondary", elem_id="example"
                )
            parts["clip_status"] = gr.HTML(elem_id="clip-status", apply_default_css=False)
        with (
            gr.Column(elem_id="select-step", elem_classes="iz-step", visible=False) as parts[
                "select_step"
            ],
            gr.Row(elem_classes="iz-columns"),
        ):
            with gr.Column(scale=7, min_width=320, elem_classes="iz-main"):
                parts["stage"] = _island("stage", {})
            with gr.Column(scale=3, min_width=280, elem_classes="iz-side"):
                parts["facts"] = gr.HTML(elem_id="facts", apply_default_css=False)
                parts["objects"] = _island("objects", None, template="${value}")
                with gr.Column(elem_classes="iz-go"):
                    parts["status"] = _island("status", None, template="${value}")
                    with gr.Row(elem_classes="iz-actions"):
                        parts["track"] = gr.Button("Track", variant="primary", elem_id="track")
                        parts["remove"] = gr.Button("Remove", elem_id="remove")
                        parts["cancel"] = gr.Button(
                            "Cancel", variant="stop", elem_id="cancel", visible=False
                        )
                        parts["forth"] = gr.Button("See the result", elem_id="forth", visible=False)
                with gr.Accordion(
                    "Settings", open=False, elem_id="settings", elem_classes="iz-settings"
                ) as parts["settings"]:
                    auto = gr.Checkbox(
                        True, label="Choose the margin around it for me", elem_id="auto-margin"
                    )
                    grow = gr.Slider(
                        0,
                        60,
                        8,
                        step=1,
                        label="Margin (pixels)",
                        interactive=False,
                    )
                    feather = gr.Slider(0, 20, 2, step=1, label="Soft edge (pixels)")
                    choices = {
                        stage: _choice(stage, title, shelf)
                        for stage, title in STAGES
                        if len(available(stage)) > 1
                    }
                parts["again"] = gr.Button(
                    "Use another clip", variant="secondary", size="sm", elem_id="again"
                )
        with gr.Column(elem_id="result-step", elem_classes="iz-step", visible=False) as parts[
            "result_step"
        ]:
            parts["result"] = _island("result", None)
            with gr.Row(elem_classes="iz-actions iz-after"):
                back = gr.Button("Back to the selection", elem_id="back")
                another = gr.Button("Start with another clip", elem_id="another")

        parts["timer"] = gr.Timer(0.7, active=False)

        outputs = [state, *(parts[name] for name in PARTS)]
        wire = _Wiring(root, state, outputs)

        def named(picked: tuple[str, ...]) -> Engines:
            return shelf.get(dict(zip(choices, picked, strict=True)))

        def look(session: Session, *picked: str) -> Session:
            return handlers.look(session, named(picked))

        engine_names = list(choices.values())

        page.load(
            lambda: _shown(Session.create(root)),
            None,
            outputs,
            show_progress="hidden",
            api_visibility="private",
        )

        opened = wire(
            parts["drop"].opened,
            lambda s, event: handlers.open_upload(s, root, event.get("path"), event.get("name")),
            event=True,
        )
        shown = wire(parts["example"].click, handlers.open_example)
        for done in (opened, shown):
            wire(done.success, look, engine_names, lane=True)

        moved = wire(
            parts["stage"].seek,
            lambda s, event: handlers.seek(s, event.get("frame")),
            event=True,
            trigger_mode="always_last",
        )
        wire(moved.success, look, engine_names, trigger_mode="always_last", lane=True)
        jumped = wire(
            parts["status"].seek,
            lambda s, event: handlers.seek(s, event.get("frame")),
            event=True,
        )
        wire(jumped.success, look, engine_names, trigger_mode="always_last", lane=True)
        wire(
            parts["stage"].mark,
            lambda s, *picked, event: handlers.mark(
                s, named(picked), event.get("kind"), event.get("at"), event.get("frame")
            ),
            engine_names,
            event=True,
            trigger_mode="multiple",
            lane=True,
        )
        for name, handler in (
            ("undo", handlers.undo),
            ("redo", handlers.redo),
            ("reset", handlers.reset),
        ):
            wire(getattr(parts["stage"], name), handler, trigger_mode="multiple")
        wire(
            parts["objects"].pick,
            lambda s, event: handlers.pick_object(s, event.get("label")),
            event=True,
        )
        wire(
            parts["objects"].delete,
            lambda s, event: handlers.delete_object(s, event.get("label")),
            event=True,
        )
        wire(parts["objects"].new, handlers.add_object)
        wire(
            parts["track"].click,
            lambda s, *picked: handlers.track(s, named(picked)),
            engine_names,
            trigger_mode="multiple",  # "once" drops a click while a cancelled job ends
            lane=True,
        )
        wire(
            parts["remove"].click,
            lambda s, auto, grow, feather, *picked: handlers.remove(
                s, named(picked), _fill(auto, grow, feather)
            ),
            [auto, grow, feather, *engine_names],
            trigger_mode="multiple",
            lane=True,
        )
        # shows nothing by itself: what it says could arrive after the job's own last word
        parts["cancel"].click(
            lambda s: s if s is None else handlers.cancel(s),
            state,
            state,
            show_progress="hidden",
            api_visibility="private",
        )
        wire(parts["forth"].click, handlers.forth)
        wire(back.click, handlers.back)
        wire(parts["again"].click, handlers.start_over)
        wire(another.click, handlers.start_over)
        # A job that is deep in one frame cannot tell how far it is: it is looked at from outside.
        # The timer alone ends itself, with all parts once more, so that an answer which another
        # event overtook on its way never stays on the screen.
        parts["timer"].tick(
            _looked_at, state, outputs, show_progress="hidden", api_visibility="private"
        )
        auto.change(
            lambda on: gr.update(interactive=not on),
            auto,
            grow,
            show_progress="hidden",
            api_visibility="private",
        )
    return cast(gr.Blocks, page)


def _choice(stage: Stage, title: str, shelf: Shelf) -> gr.Dropdown:
    names = [(f"{entry.name}: {entry.title}", entry.name) for entry in available(stage)]
    return gr.Dropdown(names, value=shelf.names[stage], label=title)


def _fill(auto: object, grow: object, feather: object) -> FillOptions:
    """Settings as they come from the browser.

    Raises:
        OptionError: they are not numbers, or outside their range.
    """
    try:
        return FillOptions(
            grow_px=None if auto else int(cast(float, grow)), feather_px=int(cast(float, feather))
        )
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError("the settings must be numbers") from error


def _island(name: str, value: object, *, template: str | None = None) -> gr.HTML:
    """A component of our own: assets/<name>.html where it has no template, and <name>.js."""
    return gr.HTML(
        value=value,
        html_template=template or (ASSETS / f"{name}.html").read_text("utf-8"),
        js_on_load=(ASSETS / f"{name}.js").read_text("utf-8"),
        apply_default_css=False,
        elem_id=name,
    )


def _shown(session: Session) -> list[Any]:
    """The session and what every part shows for it, in the order of the outputs."""
    found = render(session)
    return [session, *(gr.update(**found[name]) for name in PARTS)]


def _looked_at(session: Session | None) -> list[Any]:
    """What the timer shows: only the progress while a job runs, everything once it is over."""
    if session is None or session.job is not None:
        told = "" if session is None else status(session)
        return [
            session,
            *(gr.update(value=told) if name == "status" else gr.skip() for name in PARTS),
        ]
    shown = _shown(session)
    shown[1 + PARTS.index("timer")] = gr.update(active=False)
    return shown


class _Wiring:
    """Binds handlers to events: every one takes the session and fills the whole page."""

    def __init__(self, root: Path, state: gr.State, outputs: list[Any]) -> None:
        self.root, self.state, self.outputs = root, state, outputs

    def __call__(
        self,
        listener: Callable[..., Any],
        handler: Callable[..., Any],
        inputs: list[Any] | None = None,
        *,
        event: bool = False,
        trigger_mode: str = "once",
        lane: bool = False,
    ) -> Any:
        """Bind.

        Args:
            listener: of a component's event, or of what comes after another one.
            handler: session and values in, session or a generator of sessions out.
            inputs: components whose values it takes beside the session.
            event: whether it takes what the browser says of the event, as `event`, a dict.
            trigger_mode: what becomes of an event that comes while one is under way.
            lane: whether it uses an engine.
        """
        if event:

            def run_event(
                session: Session | None, data: gr.EventData, *values: Any
            ) -> Iterator[list[Any]]:
                told = data._data if isinstance(data._data, dict) else {}
                yield from self._run(session, lambda s: handler(s, *values, event=told))

            bound: Callable[..., Any] = run_event
        else:

            def run_plain(session: Session | None, *values: Any) -> Iterator[list[Any]]:
                yield from self._run(session, lambda s: handler(s, *values))

            bound = run_plain
        return listener(
            bound,
            [self.state, *(inputs or [])],
            self.outputs,
            show_progress="hidden",
            trigger_mode=trigger_mode,
            concurrency_limit=1 if lane else 8,
            concurrency_id=ENGINE_LANE if lane else None,
            api_visibility="private",
        )

    def _run(
        self, session: Session | None, call: Callable[[Session], Session | Generator[Session]]
    ) -> Iterator[list[Any]]:
        """Run a handler, show what it yields; an error becomes a sentence, never a trace."""
        if session is None or not session.folder.is_dir():
            session = Session.create(self.root)
        session.notice = ""
        try:
            made = call(session)
            if isinstance(made, Session):
                yield _shown(made)
                return
            try:
                for step in made:
                    yield _shown(step)
            finally:
                made.close()
        except InpainterzError as error:
            session.notice = sentence(session, error)
        except Exception:
            log.exception("a handler of the page failed")
            session.notice = SORRY
        if session.notice:
            yield _shown(session)
            raise gr.Error(
                html.escape(session.notice),
                duration=8,
                title="That did not work",
                print_exception=False,
            )


def sentence(session: Session, error: InpainterzError) -> str:
    """An error as the page tells it: capitalised, without the folders of this machine."""
    text = str(error)
    if session.clip is not None:
        text = text.replace(str(session.clip.path), f"“{session.clip.name}”")
    text = text.replace(f"{session.folder}{os.sep}", "")
    return text[:1].upper() + text[1:]


def theme() -> gr.themes.Base:
    """Our look: system fonts, so that nothing is fetched."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas"]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.zinc,
        radius_size=gr.themes.sizes.radius_lg,
        font=[*sans, "sans-serif"],
        font_mono=[*mono, "monospace"],
    )


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


def launch(page: gr.Blocks, *, host: str, port: int, open_browser: bool = False) -> str:
    """Begin to serve a built page, in a thread; returns its address."""
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
        max_file_size=f"{UPLOAD_LIMIT_MB}mb",
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=(ASSETS / "page.css").read_text("utf-8"),
        favicon_path=ASSETS / "favicon.svg",
    )
    return str(address)


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    engines: Engines | None = None,
    open_browser: bool = False,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page until it is interrupted. Uploads and results are deleted at the end.

    Args:
        host: address to listen on.
        port: port to listen on.
        engines: used for every tab; None: the built-in ones.
        open_browser: show the page in the machine's browser.
        ready: told the address as soon as the page answers there.

    Raises:
        OptionError: the port is taken, or the address is not this machine's.
    """
    check_port(host, port)
    with tempfile.TemporaryDirectory(prefix="inpainterz-page-", ignore_cleanup_errors=True) as name:
        root = Path(name).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(root)  # uploads land in it, only it is served from
        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _end)
        page = build_page(engines, root)
        try:
            address = launch(page, host=host, port=port, open_browser=open_browser)
            if ready is not None:
                ready(address)
            page.block_thread()
        finally:
            page.close(verbose=False)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)


def _end(*_: object) -> None:
    raise SystemExit(0)
