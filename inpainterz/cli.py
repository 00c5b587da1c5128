"""The command line: arguments in, messages and exit codes out. All work happens in the package.

Nothing heavy is imported until a command runs, so `inpainterz --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from inpainterz import __version__
from inpainterz.errors import InpainterzError, InputError, OptionError, PromptError

if TYPE_CHECKING:
    from rich.console import Console

    from inpainterz.pipeline import Engines, Report
    from inpainterz.types import LabelMap, Progress, Prompt
    from inpainterz.video.reader import VideoReader

app = typer.Typer(
    name="inpainterz",
    help="Remove things from video: click the object, get the clip back without it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(
    help="The networks' weights: what there is, fetch it, check it.", no_args_is_help=True
)
app.add_typer(weights_app, name="weights")

STAGE_TITLES = {
    "example": "Example",
    "segment": "Outline",
    "track": "Follow",
    "inpaint": "Fill",
}

Clip = Annotated[Path, typer.Argument(help="The video file.", show_default=False)]
Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        help="Where the result goes; the ending chooses the format.",
        show_default=False,
    ),
]
Clicks = Annotated[
    list[str] | None,
    typer.Option(
        "--click",
        metavar="X,Y[@FRAME][#OBJECT]",
        help="A point on the object, in source pixels; frames count from 0.",
    ),
]
Nots = Annotated[
    list[str] | None,
    typer.Option("--not", metavar="X,Y[@FRAME][#OBJECT]", help="A point that is not part of it."),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="X0,Y0,X1,Y1[@FRAME][#OBJECT]", help="A box around the object."),
]
MaskFiles = Annotated[
    list[str] | None,
    typer.Option("--mask", metavar="PNG[@FRAME]", help="A mask of the object, as a PNG."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
SegmenterName = Annotated[
    str | None, typer.Option("--segmenter", help="Engine that outlines; see `engines`.")
]
TrackerName = Annotated[
    str | None, typer.Option("--tracker", help="Engine that follows; see `engines`.")
]
InpainterName = Annotated[
    str | None, typer.Option("--inpainter", help="Engine that fills; see `engines`.")
]
EngineSet = Annotated[
    str,
    typer.Option(
        "--engine-set",
        help="Engines not named: builtin, auto (networks where their weights are here), "
        "neural, or commercial-ok (auto without non-commercial weights).",
    ),
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="STAGE.NAME=VALUE",
        help="An engine's own option, such as inpaint.hybrid=false.",
    ),
]
WeightsFolder = Annotated[
    Path | None, typer.Option("--weights-dir", metavar="DIR", help="Look, or put them, here.")
]
Grow = Annotated[
    str, typer.Option("--grow", metavar="PX|auto", help="How far masks are grown before filling.")
]
Codec = Annotated[
    str, typer.Option("--codec", help="auto, h264, hevc, vp9, av1, prores, ffv1 (lossless) or png.")
]
Crf = Annotated[int | None, typer.Option("--crf", help="Quality of the codec, lower is better.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one report object on stdout, all else on stderr.")
]
SaveMasks = Annotated[
    Path | None, typer.Option("--save-masks", metavar="ZIP", help="Keep the tracked masks.")
]
Sheet = Annotated[
    Path | None, typer.Option("--sheet", metavar="PNG", help="Draw a before/after sheet.")
]


# ---------------------------------------------------------------- commands


@app.command()
def remove(
    clip: Clip,
    output: Output,
    click: Clicks = None,
    not_: Nots = None,
    box: Boxes = None,
    mask: MaskFiles = None,
    save_masks: SaveMasks = None,
    sheet: Sheet = None,
    segmenter: SegmenterName = None,
    tracker: TrackerName = None,
    inpainter: InpainterName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    grow: Grow = "auto",
    codec: Codec = "auto",
    crf: Crf = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Remove what you click from a clip: outline it, follow it, fill what was behind it."""
    prompts = _prompts(click, not_, box)
    masks = _mask_files(mask)
    if not prompts and not masks:
        raise PromptError(
            "nothing says what to remove", "Give --click X,Y, --box X0,Y0,X1,Y1 or --mask PNG"
        )
    grow_px = _grow_px(grow)
    from inpainterz.pipeline import FillOptions, Options, check_target
    from inpainterz.pipeline import remove as run
    from inpainterz.video.writer import WriteOptions

    check_target(sheet, overwrite=overwrite)
    labels = _given_labels(clip, masks) if masks else None
    engines = _engines(
        segmenter, tracker, inpainter, device, engine_set, engine_option, weights_dir
    )
    options = Options(
        fill=FillOptions(grow_px=grow_px),
        write=WriteOptions(codec=codec, crf=crf),
        save_masks=save_masks,
        overwrite=overwrite,
    )
    with _progress() as progress:
        report = run(
            clip, output, prompts, engines, labels=labels, options=options, progress=progress
        )
    if sheet is not None:
        _draw_sheet(report, sheet)
    _tell(report, as_json, sheet)


@app.command()
def segment(
    clip: Clip,
    output: Output,
    click: Clicks = None,
    not_: Nots = None,
    box: Boxes = None,
    segmenter: SegmenterName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Outline an object in one frame and write the mask as a PNG."""
    prompts = _prompts(click, not_, box)
    if len(prompts) != 1:
        raise PromptError(
            "segment works on one frame", "Give --click X,Y[@FRAME] or --box with one FRAME"
        )
    from inpainterz import pipeline
    from inpainterz.masks import encode_labels
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.shots import find_cuts

    target = Path(output)
    pipeline.check_target(target, overwrite=overwrite)
    with VideoReader(clip) as video, _progress() as progress:
        pipeline.check_prompts(video, prompts)
        engine = _engines(
            segmenter, "builtin", "builtin", device, engine_set, engine_option, weights_dir
        ).segmenter
        labels = pipeline.outline(video, prompts, engine, cuts=find_cuts(video), progress=progress)
    index, found = next(iter(labels.items()))
    _write_bytes(target, encode_labels(found))
    facts = {"mask": str(target), "frame": index, "pixels": int((found > 0).sum())}
    _say(facts, as_json, f"{target}: {facts['pixels']} pixels in frame {index}")


@app.command()
def track(
    clip: Clip,
    output: Output,
    mask: MaskFiles = None,
    tracker: TrackerName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Follow masks through the clip and write one label map a frame into a zip."""
    masks = _mask_files(mask)
    if not masks:
        raise PromptError("nothing says what to follow", "Give --mask PNG[@FRAME]")
    from inpainterz import pipeline
    from inpainterz.masks import MaskStore
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.shots import find_cuts

    target = Path(output)
    pipeline.check_target(target, overwrite=overwrite)
    labels = _given_labels(clip, masks)
    engine = _engines(
        "builtin", tracker, "builtin", device, engine_set, engine_option, weights_dir
    ).tracker
    with VideoReader(clip) as video, MaskStore.temporary() as store:
        cuts = find_cuts(video)
        with _progress() as progress:
            for _ in pipeline.propagate(video, labels, engine, store, cuts=cuts, progress=progress):
                pass
        store.export_zip(target)
        confidence = {i: store.confidence(i) for i in store.indices()}
        doubtful = store.doubtful()
    facts = {"masks": str(target), "frames": len(confidence), "doubtful_frames": doubtful}
    facts["confidence"] = confidence
    _say(facts, as_json, f"{target}: masks of {len(confidence)} frames, {len(doubtful)} doubtful")


@app.command()
def inpaint(
    clip: Clip,
    output: Output,
    masks: Annotated[Path, typer.Option("--masks", metavar="ZIP|FOLDER|PNG", help="What to fill.")],
    inpainter: InpainterName = None,
    device: Device = "auto",
    engine_set: EngineSet = "builtin",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    grow: Grow = "0",
    codec: Codec = "auto",
    crf: Crf = None,
    sheet: Sheet = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fill given masks of a clip."""
    grow_px = _grow_px(grow)
    from inpainterz.pipeline import FillOptions, Options, check_target, inpaint_clip
    from inpainterz.video.writer import WriteOptions

    check_target(sheet, overwrite=overwrite)
    if not masks.exists():
        raise InputError(f"there is no {masks}", "Name a zip, a folder or a PNG")
    engines = _engines(
        "builtin", "builtin", inpainter, device, engine_set, engine_option, weights_dir
    )
    options = Options(
        fill=FillOptions(grow_px=grow_px, feather_px=0),
        write=WriteOptions(codec=codec, crf=crf),
        overwrite=overwrite,
    )
    with _progress() as progress:
        report = inpaint_clip(clip, output, masks, engines, options=options, progress=progress)
    if sheet is not None:
        _draw_sheet(report, sheet)
    _tell(report, as_json, sheet)


@app.command()
def info(clip: Clip, as_json: AsJson = False) -> None:
    """Say what a clip is: size, rate, frames, duration, streams, shots."""
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.shots import find_cuts

    with VideoReader(clip) as video:
        facts = _clip_facts(video, find_cuts(video))
    if as_json:
        _print_json(facts)
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in ("file", "size", "fps", "frames", "duration", "codec", "rotation", "shots"):
        table.add_row(name, str(facts[name]))
    for stream in facts["streams"]:
        table.add_row(f"stream {stream['index']}", f"{stream['kind']} {stream['codec']}")
    _out().print(table)


@app.command()
def engines(as_json: AsJson = False) -> None:
    """List the engines: which can run here, which need weights, and their licences."""
    from inpainterz import weights
    from inpainterz.engines import ENGINES

    rows = []
    for entry in ENGINES:
        row = {"stage": entry.stage, "name": entry.name, "title": entry.title, "ready": True}
        row |= {"licence": "Apache-2.0", "commercial": True, "weights": None, "fetch": None}
        if entry.weights is not None:
            card = weights.card(entry.weights)
            row |= {"licence": card.licence, "commercial": card.commercial}
            row["weights"] = card.name
            if weights.find(card.name) is None:
                row |= {"ready": False, "fetch": f"inpainterz weights fetch {card.name}"}
        rows.append(row)
    if as_json:
        _print_json({"engines": rows})
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("stage", "name", "what it is", "licence", "here"):
        table.add_column(head, justify="left", overflow="fold")
    for row in rows:
        licence = f"{row['licence']}{'' if row['commercial'] else ' (non-commercial)'}"
        here = "yes" if row["ready"] else f"no: {row['fetch']}"
        table.add_row(str(row["stage"]), str(row["name"]), str(row["title"]), licence, here)
    _out().print(table)


@app.command()
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
) -> None:
    """Serve the web page on this machine."""
    import importlib.util

    from inpainterz.errors import EngineUnavailable

    if importlib.util.find_spec("gradio") is None:
        raise EngineUnavailable(
            "page", "the package gradio is not installed", "Install it: pip install -e '.[ui]'"
        )
    loaded = _engines(segmenter, tracker, inpainter, device, engine_set, engine_option, weights_dir)
    from inpainterz.ui.page import serve as run

    def ready(address: str) -> None:
        _err().print(f"The page is at {address} (Ctrl-C ends it)", markup=False)

    run(host=host, port=port, engines=loaded, ready=ready)


@app.command()
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
    grow_px = _grow_px(grow)
    from inpainterz import example
    from inpainterz.pipeline import FillOptions, Options
    from inpainterz.pipeline import remove as run

    with _progress() as progress:
        clip = example.prepare(progress=progress)
    if not clip.real:
        _err().print("The street clip cannot be fetched here; a synthetic clip stands in for it.")
    folder = output or example.default_folder() / "result"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{folder} cannot be made: {error.strerror}") from error
    stem = clip.path.stem
    sheet = folder / f"{stem}-before-after.png"
    with _progress() as progress:
        report = run(
            clip.path,
            folder / f"{stem}-clean.mp4",
            clip.prompts,
            _engines(segmenter, tracker, inpainter, device, engine_set, engine_option, weights_dir),
            options=Options(
                fill=FillOptions(grow_px=grow_px),
                save_masks=folder / f"{stem}-masks.zip",
                overwrite=True,
            ),
            progress=progress,
        )
    _draw_sheet(report, sheet)
    _tell(report, as_json, sheet)


@weights_app.command("list")
def weights_list(weights_dir: WeightsFolder = None, as_json: AsJson = False) -> None:
    """List the weights: size, licence, whether they are on this machine."""
    _show_weights(weights_dir, as_json, verify=False)


@weights_app.command("verify")
def weights_verify(weights_dir: WeightsFolder = None, as_json: AsJson = False) -> None:
    """Read every weights file on this machine and hold it against its card."""
    if not _show_weights(weights_dir, as_json, verify=True):
        raise typer.Exit(1)


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Names from the list.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Only those that allow commercial use.")
    ] = False,
    weights_dir: WeightsFolder = None,
) -> None:
    """Fetch weights; without names, one for each stage. An interrupted fetch goes on next time."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from inpainterz import weights

    for card in weights.choose(names or [], everything=everything, commercial=commercial):
        _err().print(weights.describe(card), markup=False)
        columns = (TextColumn(card.file), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=_err()) as bars:
            task = bars.add_task(card.name, total=card.size or None)

            def show(done: int, total: int | None, bars: Progress = bars, task: Any = task) -> None:
                bars.update(task, completed=done, total=total)

            path = weights.fetch(card.name, folder=weights_dir, progress=show)
        _out().print(str(path), markup=False)


@weights_app.command("path")
def weights_path(
    name: Annotated[str | None, typer.Argument(help="A name from the list.")] = None,
    weights_dir: WeightsFolder = None,
) -> None:
    """Print where a weights file is, or, without a name, where a fetch puts them."""
    from inpainterz import weights

    path = weights.locate(name, folder=weights_dir) if name else weights.folders(weights_dir)[0]
    _out().print(str(path), markup=False)


def _show_weights(folder: Path | None, as_json: bool, *, verify: bool) -> bool:
    """Print a line for each card; False when a file on this machine is not the right one."""
    from inpainterz import weights

    lines = weights.inventory(folder=folder, verify=verify)
    if as_json:
        rows = [
            {
                "name": line.card.name,
                "stage": line.card.stage,
                "bytes": line.card.size,
                "licence": line.card.licence,
                "commercial": line.card.commercial,
                "path": None if line.path is None else str(line.path),
                "sha256": line.sha256,
                "fault": line.fault,
            }
            for line in lines
        ]
        _print_json({"weights": rows})
    else:
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0))
        for head in ("name", "stage", "size", "licence", "commercial", "here"):
            table.add_column(head, overflow="fold")
        for line in lines:
            well = "yes, checked" if verify else "yes"
            here = "no" if line.path is None else line.fault or f"{well}: {line.path}"
            use = "yes" if line.card.commercial else "no"
            table.add_row(
                line.card.name,
                line.card.stage,
                weights.size_text(line.card),
                line.card.licence,
                use,
                here,
            )
        _out().print(table)
    return not any(line.fault for line in lines)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if version:
        typer.echo(f"inpainterz {__version__}")
        raise typer.Exit


# ---------------------------------------------------------------- arguments


def _at(text: str) -> tuple[str, int, int]:
    """Split "REST[@FRAME][#OBJECT]" into the rest, the frame (0) and the object (1)."""
    rest, _, label = text.partition("#")
    rest, _, index = rest.partition("@")
    try:
        return rest, int(index or 0), int(label or 1)
    except ValueError:
        raise PromptError(f"{text!r} cannot be read", "Write X,Y or X,Y@FRAME") from None


def _numbers(text: str, count: int, form: str) -> tuple[tuple[float, ...], int, int]:
    rest, index, label = _at(text)
    try:
        numbers = tuple(float(n) for n in rest.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise PromptError(f"{text!r} cannot be read", f"Write {form} or {form}@FRAME")
    if not 1 <= label <= 255:
        raise PromptError(f"object {label} is outside 1..255")
    return numbers, index, label


def _prompts(
    clicks: list[str] | None, nots: list[str] | None, boxes: list[str] | None
) -> dict[int, dict[int, Prompt]]:
    """Clicks and boxes as the pipeline wants them: frame -> object -> prompt."""
    on: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    off: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    box: dict[tuple[int, int], tuple[float, ...]] = {}
    for texts, store in ((clicks, on), (nots, off)):
        for text in texts or []:
            numbers, index, label = _numbers(text, 2, "X,Y")
            store.setdefault((index, label), []).append(numbers)
    for text in boxes or []:
        numbers, index, label = _numbers(text, 4, "X0,Y0,X1,Y1")
        if (index, label) in box:
            raise PromptError(
                f"object {label} has two boxes in frame {index}", "Name the second one #2"
            )
        box[index, label] = numbers
    keys = sorted({*on, *off, *box})
    if not keys:
        return {}
    from inpainterz.types import Prompt

    prompts: dict[int, dict[int, Prompt]] = {}
    for key in keys:
        prompts.setdefault(key[0], {})[key[1]] = Prompt.of(
            *on.get(key, []), off=off.get(key, ()), box=box.get(key)
        )
    return prompts


def _mask_files(texts: list[str] | None) -> dict[int, Path]:
    """ "PNG[@FRAME]" by frame; an @ that is part of a file's name is left alone."""
    found: dict[int, Path] = {}
    for text in texts or []:
        name, at, index = text.rpartition("@")
        if not at or not index.isdecimal() or Path(text).is_file():
            name, index = text, "0"
        if int(index) in found:
            raise PromptError(f"frame {index} has two masks", "Give one label map a frame")
        found[int(index)] = Path(name)
    return found


def _given_labels(clip: Path, files: dict[int, Path]) -> dict[int, LabelMap]:
    from inpainterz.masks import checked, decode_labels
    from inpainterz.pipeline import check_frame
    from inpainterz.video.reader import VideoReader

    labels = {}
    with VideoReader(clip) as video:
        for index, path in files.items():
            check_frame(video, index)
            try:
                data = path.read_bytes()
            except OSError as error:
                raise InputError(
                    f"the mask {path} cannot be read: {error.strerror}", "Name a PNG"
                ) from error
            labels[index] = checked(decode_labels(data, path.name), video.size, path.name)
            if not labels[index].any():
                raise PromptError(f"the mask {path.name} is empty", "Mark at least one pixel")
    return labels


def _grow_px(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal():
        raise OptionError(f"--grow {text!r} cannot be read", "Write a number of pixels, or auto")
    return int(text)


def _engines(
    segmenter: str | None,
    tracker: str | None,
    inpainter: str | None,
    device: str,
    engine_set: str,
    engine_options: list[str] | None,
    weights_dir: Path | None,
) -> Engines:
    from inpainterz.pipeline import Engines

    return Engines.load(
        segmenter=segmenter,
        tracker=tracker,
        inpainter=inpainter,
        engine_set=engine_set,
        device=device,
        options=_engine_options(engine_options),
        weights_dir=weights_dir,
    )


def _engine_options(texts: list[str] | None) -> dict[Any, dict[str, object]]:
    """ "STAGE.NAME=VALUE" by stage; values are read as JSON where they are, else as words."""
    found: dict[Any, dict[str, object]] = {}
    for text in texts or []:
        left, equals, value = text.partition("=")
        stage, dot, name = left.partition(".")
        if not (equals and dot) or stage not in ("segment", "track", "inpaint"):
            raise OptionError(
                f"--option {text!r} cannot be read", "Write one like inpaint.hybrid=false"
            )
        try:
            found.setdefault(stage, {})[name] = json.loads(value)
        except ValueError:
            found.setdefault(stage, {})[name] = value
    return found


# ---------------------------------------------------------------- messages


def _out() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _err() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Progress]:
    """One bar for each stage, on stderr."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from inpainterz.types import Step

    with Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=36),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=_err(),
    ) as bars:
        tasks: dict[str, Any] = {}

        def show(step: Step) -> None:
            if step.stage not in tasks:
                title = STAGE_TITLES.get(step.stage, step.stage)
                tasks[step.stage] = bars.add_task(title, total=step.total)
            bars.update(tasks[step.stage], completed=step.done, total=step.total)

        yield show


def _tell(report: Report, as_json: bool, sheet: Path | None) -> None:
    facts = report.as_json()
    facts["sheet"] = None if sheet is None else str(sheet)
    if as_json:
        _print_json(facts)
        return
    console = _out()
    seen = 100 * report.seen_px / max(1, report.hole_px)
    console.print(f"clean clip   {report.target}", markup=False)
    if report.masks:
        console.print(f"masks        {report.masks}", markup=False)
    if sheet is not None:
        console.print(f"before/after {sheet}", markup=False)
    console.print(
        f"{report.frames} frames of {report.width}x{report.height}; filled in "
        f"{report.frames_with_hole}: {seen:.0f} % seen in other frames, "
        f"{100 - seen:.0f} % invented; {sum(report.seconds.values()):.0f} s"
    )
    if report.doubtful_frames:
        many = len(report.doubtful_frames)
        _err().print(f"Look at {many} doubtful masks, first in frame {report.doubtful_frames[0]}.")
    for lost in report.not_carried:
        _err().print(f"not carried over: {lost}", markup=False)


def _say(facts: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        _print_json(facts)
    else:
        _out().print(sentence, markup=False)


def _print_json(facts: dict[str, Any]) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=False))


def _clip_facts(video: VideoReader, cuts: tuple[int, ...]) -> dict[str, Any]:
    about = video.info
    return {
        "file": str(about.path),
        "size": f"{about.width}x{about.height}",
        "width": about.width,
        "height": about.height,
        "fps": None if about.fps is None else round(float(about.fps), 4),
        "variable_rate": about.variable_rate,
        "frames": about.frames,
        "duration": round(float(about.duration), 4),
        "codec": about.codec,
        "pix_fmt": about.pix_fmt,
        "rotation": about.rotation,
        "shots": len(cuts) + 1,
        "cuts": list(cuts),
        "streams": [{"index": s.index, "kind": s.kind, "codec": s.codec} for s in about.streams],
    }


def _draw_sheet(report: Report, target: Path) -> None:
    from inpainterz.preview import before_after_sheet, encode_png

    if report.masks is None:
        picture = before_after_sheet(Path(report.source), Path(report.target), None)
    else:
        picture = before_after_sheet(Path(report.source), Path(report.target), Path(report.masks))
    _write_bytes(target, encode_png(picture))


def _write_bytes(target: Path, data: bytes) -> None:
    part = target.with_name(target.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{target} cannot be written: {error.strerror}") from error


def main() -> NoReturn:
    """Entry point: the one place where an error becomes a sentence and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except InpainterzError as error:
        if os.environ.get("INPAINTERZ_DEBUG"):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("stopped; nothing was written", err=True)
        sys.exit(130)
    except MemoryError:
        typer.echo("error: memory ran out. Try a shorter or smaller clip.", err=True)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("INPAINTERZ_DEBUG"):
            raise
        typer.echo(
            f"error: something went wrong inside Inpainterz ({type(error).__name__}: {error}). "
            "Set INPAINTERZ_DEBUG=1 to see where, and report it.",
            err=True,
        )
        sys.exit(1)
    sys.exit(0)
