"""The plain page: the way through with Gradio's own components, a click on a `gr.Image`.

It is offered where the canvas of the page cannot start, and to whoever likes it simpler. Everything
goes through the same actions as the page's own component, so the same checks and limits hold; the
browser keeps the session's id, nothing else. Its events are private: no endpoint is added.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from gradio.data_classes import Base64ImageData

from inpainterz.errors import InpainterzError
from inpainterz.ui import words
from inpainterz.ui.actions import Actions
from inpainterz.ui.desk import Desk
from inpainterz.ui.handlers import footage
from inpainterz.ui.owner import who_asks
from inpainterz.ui.pictures import VIEW_SIDE_PX, still
from inpainterz.ui.quick_gradio import gr
from inpainterz.ui.render import Model
from inpainterz.ui.session import Session

PATH = "simple"
"""Where it is, below the page's address; `?job=` names a session."""

LOOK_SECONDS = 1.0
"""How often a running job is looked at."""

Say: TypeAlias = Callable[..., str]
"""A word in the reader's language, see `inpainterz.ui.words.say`."""


class Plain:
    """The page and its events."""

    def __init__(self, desk: Desk, actions: Actions) -> None:
        self._desk, self._actions = desk, actions

    def build(self, page: gr.Blocks) -> None:
        """Add it to `page`, with which no context may be open."""
        say = partial(words.say, "en")
        with page.route(say("simple_picker"), f"/{PATH}", show_in_navbar=False):
            tab = gr.Textbox("", visible="hidden")  # the browser's, so that its address can say it
            head = gr.HTML(_head(say, ""))
            with gr.Row():
                with gr.Column(scale=3):
                    picture = gr.Image(
                        show_label=False, interactive=False, buttons=[], elem_id="iz-still"
                    )
                    # Of the instance: for a class of ours gradio would write a stub beside it. So
                    # the picture is never given other properties, which would make it anew.
                    picture.postprocess = _travelling
                    frame = gr.Slider(1, 2, value=1, step=1, label=say("frame"), interactive=False)
                with gr.Column(scale=1, min_width=260):
                    clip = gr.File(label=say("step_clip"), file_count="single", height=120)
                    example = gr.Button(say("example"))
                    kind = gr.Radio(
                        _kinds(say),
                        value="add",
                        label=say("what_click"),
                    )
                    undo = gr.Button(say("undo"), interactive=False)
                    track = gr.Button(say("track"), interactive=False, variant="primary")
                    remove = gr.Button(say("remove"), interactive=False, variant="primary")
                    cancel = gr.Button(say("cancel"), visible=False, variant="stop")
                    told = gr.Textbox(
                        say("plain_start"), label=say("plain_told"), interactive=False
                    )
                    files = gr.HTML()
                    again = gr.Button(say("again"), visible=False)
            clock = gr.Timer(LOOK_SECONDS, active=False)
            parts = {
                "tab": tab,
                "head": head,
                "picture": picture,
                "frame": frame,
                "clip": clip,
                "example": example,
                "kind": kind,
                "undo": undo,
                "track": track,
                "remove": remove,
                "cancel": cancel,
                "told": told,
                "files": files,
                "again": again,
                "clock": clock,
            }
            outputs = list(parts.values())

            def answer(do: str, request: gr.Request, held: object, **more: object) -> list[Any]:
                told = self._ask({"do": do, "tab": held, **more}, request)
                return self._shown(told, held, request)

            def loaded(request: gr.Request) -> list[Any]:
                return answer("hello", request, request.query_params.get("job", ""))

            def uploaded(data: Any, request: gr.Request) -> list[Any]:
                return self._shown(self._opened(data, request), "", request)

            def sought(held: Any, value: Any, request: gr.Request) -> list[Any]:
                number = value - 1 if isinstance(value, (int, float)) else None
                return answer("seek", request, held, frame=number)

            def clicked(
                held: Any, tool: Any, value: Any, event: gr.SelectData, request: gr.Request
            ) -> list[Any]:
                number = value - 1 if isinstance(value, (int, float)) else None
                at = self._place(held, event.index, request)
                return answer("mark", request, held, kind=tool, at=at, frame=number)

            def plainly(do: str) -> Any:
                def asked(held: Any, request: gr.Request) -> list[Any]:
                    return answer(do, request, held)

                return asked

            def on(trigger: Any, function: Any, inputs: list[Any], **more: Any) -> Any:
                return trigger(
                    function,
                    inputs,
                    outputs,
                    api_visibility="private",
                    show_progress="hidden",
                    concurrency_limit=4,
                    concurrency_id="plain",
                    **more,
                )

            on(page.load, loaded, [])
            # the file as it is told: gradio's own copy of it would stay behind
            on(clip.upload, uploaded, [clip], preprocess=False)
            on(frame.input, sought, [tab, frame], trigger_mode="always_last")
            on(picture.select, clicked, [tab, kind, frame])
            for button, do in (
                (example, "example"),
                (undo, "undo"),
                (track, "track"),
                (remove, "remove"),
                (cancel, "cancel"),
                (again, "again"),
            ):
                on(button.click, plainly(do), [tab])
            on(clock.tick, plainly("look"), [tab])
            tab.change(
                None,
                [tab],
                js="(tab) => { const here = new URL(location.href);"
                " if (tab) here.searchParams.set('job', tab); else here.searchParams.delete('job');"
                " history.replaceState(history.state, '', here.href); }",
            )
            # gradio gives the button around a picture no name
            picture.change(
                None,
                js="() => setTimeout(() => { for (const button of"
                " document.querySelectorAll('#iz-still button:not([aria-label])')) {"
                " const head = document.querySelector('.iz-plain');"
                " button.setAttribute('aria-label', head.dataset.picture);"
                " } }, 0)",
            )

    # ------------------------------------------------------------ asking

    def _ask(self, told: Mapping[str, object], request: gr.Request) -> Model:
        owner, guest = who_asks(request)
        if told["do"] == "example":
            told = {"do": "example"}  # a session of its own, whatever was shown before
        return self._actions(dict(told), owner, guest)

    def _opened(self, data: object, request: gr.Request) -> Model:
        """Make a session of an upload; what is no clip leaves none behind."""
        owner, guest = who_asks(request)
        session: Session | None = None
        try:
            known = data if isinstance(data, dict) else {}
            session = self._desk.open(owner, guest=guest)
            with session.lock:
                footage.open_upload(
                    session, self._desk.uploads, known.get("path"), known.get("orig_name")
                )
            return self._actions.shown(session)
        except Exception as error:
            failed = self._actions.fail(session, error)
            if session is None:
                return failed
            self._desk.discard(session)
            return {"notice": (failed.get("model") or {}).get("notice", "")}

    def _session(self, held: object, request: gr.Request) -> Session | None:
        try:
            return self._desk.find(held, who_asks(request)[0])
        except InpainterzError:
            return None

    def _place(self, held: object, at: object, request: gr.Request) -> object:
        """From pixels of the picture to pixels of the clip; anything else as it is."""
        session = self._session(held, request)
        if session is None or session.clip is None or not isinstance(at, (list, tuple)):
            return at
        shrunk = min(1.0, VIEW_SIDE_PX / max(session.clip.width, session.clip.height))
        # the middle of the pixel that was hit
        return [
            (v + 0.5) / shrunk if isinstance(v, (int, float)) and abs(v) < 1e6 else v for v in at
        ]

    # ------------------------------------------------------------ showing

    def _shown(self, told: Model, held: object, request: gr.Request) -> list[Any]:
        """What each component becomes, in the order of the outputs."""
        language = _language(request)
        say = partial(words.say, language)
        model = told.get("model")
        if model is None and not told.get("gone") and "model" not in told and held:
            # an answer without news: a busy moment, or a refusal that belongs to no session
            session = self._session(held, request)
            if session is not None:
                model = self._actions.shown(session)["model"]
        notice = words.translate(language, told.get("notice") or (model or {}).get("notice", ""))
        clip = (model or {}).get("clip")
        if model is None or clip is None:
            return _empty(say, notice)
        session = self._session(model["tab"], request)
        job, result = model["job"], model["result"]
        busy = job is not None
        followed = model["tracked"] and not model["stale"]
        shown: Any = gr.skip()
        if session is not None:
            with session.lock:
                shown = still(session)
        if notice:
            text = notice
        elif job is not None:
            text = say("stopping" if job["stopping"] else f"job_{job['work']}") + "…"
            if job["work"] == "follow":  # both ways through the clip
                if job["frame"] is not None:
                    text += " " + say("frame_done", job["frame"] + 1, clip["frames"])
            elif job["total"]:
                text += " " + say("frame_done", job["done"], job["total"])
        elif result is not None:
            text = say("plain_done")
        elif followed:
            text = say("plain_remove")
        else:
            text = say("plain_track" if model["marked"] else "next_click")
        return [
            model["tab"],
            _head(say, model["tab"]),
            shown,
            gr.update(
                maximum=max(2, clip["frames"]),
                value=model["stage"]["index"] + 1,
                interactive=clip["frames"] > 1,
                label=say("frame"),
            ),
            gr.update(visible=False),
            gr.update(visible=False),
            gr.update(
                choices=_kinds(say),
                label=say("what_click"),
            ),
            gr.update(value=say("undo"), interactive=model["can_undo"] and not busy),
            gr.update(
                value=say("track"),
                interactive=not busy and model["marked"] and not followed,
                visible=not busy,
            ),
            gr.update(
                value=say("remove"),
                interactive=not busy and followed and result is None,
                visible=not busy,
            ),
            gr.update(value=say("cancel"), visible=busy),
            gr.update(value=text, label=say("plain_told")),
            _files(say, result),
            gr.update(value=say("again"), visible=not busy),
            gr.update(active=busy),
        ]


def _travelling(value: bytes | None) -> Base64ImageData | None:
    """A JPEG as it goes along with the answer: no file of it is served to anybody."""
    if value is None:
        return None
    return Base64ImageData(url="data:image/jpeg;base64," + base64.b64encode(value).decode())


def _empty(say: Say, notice: str) -> list[Any]:
    """Every component where there is no clip."""
    return [
        "",
        _head(say, ""),
        None,
        gr.update(value=1, interactive=False, label=say("frame")),
        gr.update(value=None, visible=True, label=say("step_clip")),
        gr.update(value=say("example"), visible=True),
        gr.update(choices=_kinds(say), label=say("what_click")),
        gr.update(value=say("undo"), interactive=False),
        gr.update(value=say("track"), interactive=False, visible=True),
        gr.update(value=say("remove"), interactive=False, visible=True),
        gr.update(value=say("cancel"), visible=False),
        gr.update(value=notice or say("plain_start"), label=say("plain_told")),
        "",
        gr.update(value=say("again"), visible=False),
        gr.update(active=False),
    ]


def _head(say: Say, tab: str) -> str:
    """Title and the way to the full page; a tab's id is 32 hexadecimal digits."""
    where = f"./?job={tab}" if tab else "./"
    return (
        f'<div class="iz-plain" data-picture="{html.escape(say("next_click"))}">'
        f"<h1>Inpainterz</h1><span>{html.escape(say('simple_picker'))}</span>"
        f'<a href="{where}">{html.escape(say("full_page"))}</a></div>'
    )


def _files(say: Say, result: Mapping[str, Any] | None) -> str:
    """Where the files of a result are fetched."""
    if result is None:
        return ""
    rows = [
        f'<a class="iz-button{kind}" href="{html.escape(result["files"][what]["url"])}" download>'
        f"{html.escape(say(f'download_{what}'))}</a>"
        for what, kind in (("clean", " primary"), ("masks", ""))
    ]
    return f'<div class="iz-plain-files">{"".join(rows)}</div>'


def _kinds(say: Say) -> list[tuple[str, str]]:
    return [(say("add"), "add"), (say("exclude"), "exclude")]


def _language(request: gr.Request) -> str:
    """The one that a browser asks for."""
    return words.wished(str(request.headers.get("accept-language", "")))
