"""The page: one component of our own, the endpoints, and the plain page beside them.

What happens stands in handlers/, what shows in render.py, how it shows in assets/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from inpainterz.ui import words
from inpainterz.ui.actions import Actions
from inpainterz.ui.desk import Desk
from inpainterz.ui.endpoints import ENDPOINTS, Endpoints
from inpainterz.ui.owner import who_asks
from inpainterz.ui.plain import Plain
from inpainterz.ui.quick_gradio import gr

ASSETS = Path(__file__).parent / "assets"

SCRIPTS = ("words.js", "stage.js", "result.js", "page.js")
"""What the component runs when it is there, one after the other in one scope."""


def build_page(desk: Desk, actions: Actions) -> gr.Blocks:
    """The page.

    Args:
        desk: everybody's sessions.
        actions: what the page's own component may ask.
    """

    def act(told: Any, request: gr.Request) -> Any:
        return actions(told, *who_asks(request))

    with gr.Blocks(title="Inpainterz", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            html_template=(ASSETS / "page.html").read_text("utf-8"),
            js_on_load="\n".join(
                [words.script(), *((ASSETS / name).read_text("utf-8") for name in SCRIPTS)]
            ),
            server_functions=[act],
            apply_default_css=False,
            elem_id="inpainterz",
        )
        endpoints = Endpoints(desk)
        for name in ENDPOINTS:
            gr.api(
                getattr(endpoints, name),
                api_name=name,
                concurrency_limit=4,
                concurrency_id="endpoints",
            )
    Plain(desk, actions).build(page)
    return cast(gr.Blocks, page)


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
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
    )
