"""Commands that start with nothing: serve the page, run the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inpainterz.cli.arguments import (
    AsJson,
    Device,
    EngineArguments,
    EngineOptions,
    EngineSet,
    Grow,
    InpainterName,
    SegmenterName,
    TrackerName,
    WeightsFolder,
    grow_px_of,
)
from inpainterz.cli.messages import (
    draw_sheet,
    err,
    progress_bars,
    tell,
)
from inpainterz.errors import EngineUnavailable, OptionError


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    segmenter: SegmenterName = None,
    tracker: TrackerName = None,
    inpainter: InpainterName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    public: Annotated[
        bool, typer.Option("--public", help="Tighter limits, for a page that strangers use.")
    ] = False,
    auth: Annotated[
        str,
        typer.Option(
            metavar="USER:PASSWORD",
            envvar="INPAINTERZ_AUTH",
            help="Answer nothing without this name and password.",
            show_default=False,
        ),
    ] = "",
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Offer the endpoints as MCP tools too.")
    ] = False,
) -> None:
    """Serve the web page on this machine."""
    import importlib.util

    user, colon, password = auth.partition(":")
    if auth and not (user and colon and password):
        raise OptionError("--auth must be USER:PASSWORD", "Both are needed")

    if importlib.util.find_spec("gradio") is None:
        raise EngineUnavailable(
            "page", "the package gradio is not installed", "Install it: pip install -e '.[ui]'"
        )
    loaded = EngineArguments(
        segmenter, tracker, inpainter, device, engine_set, engine_option, weights_dir
    ).load()
    from inpainterz.ui.serve import serve as run

    def ready(address: str) -> None:
        err().print(f"The page is at {address} (Ctrl-C ends it)", markup=False)

    login = (user, password) if auth else None
    run(host=host, port=port, engines=loaded, ready=ready, public=public, login=login, mcp=mcp)


def demo(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the results.")
    ] = None,
    tracker: TrackerName = None,
    segmenter: SegmenterName = None,
    inpainter: InpainterName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    grow: Grow = "auto",
    as_json: AsJson = False,
) -> None:
    """Remove the walker from the example clip; results of an earlier demo are replaced."""
    grow_px = grow_px_of(grow)
    from inpainterz import example
    from inpainterz.pipeline import FillOptions, Options
    from inpainterz.pipeline import remove as run

    with progress_bars() as progress:
        clip = example.prepare(progress=progress)
    if not clip.real:
        err().print("The street clip cannot be fetched here; a synthetic clip stands in for it.")
    folder = output or example.default_folder() / "result"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{folder} cannot be made: {error.strerror}") from error
    stem = clip.path.stem
    sheet = folder / f"{stem}-before-after.png"
    with progress_bars() as progress:
        report = run(
            clip.path,
            folder / f"{stem}-clean.mp4",
            clip.prompts,
            EngineArguments(
                segmenter, tracker, inpainter, device, engine_set, engine_option, weights_dir
            ).load(),
            options=Options(
                fill=FillOptions(grow_px=grow_px),
                save_masks=folder / f"{stem}-masks.zip",
                overwrite=True,
            ),
            progress=progress,
        )
    draw_sheet(report, sheet)
    tell(report, as_json, sheet)
