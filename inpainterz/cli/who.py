"""The list of who or what is in a clip, and the choice from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inpainterz.cli.arguments import (
    AsJson,
    Clip,
    Device,
    EngineOptions,
    Overwrite,
    WeightsFolder,
    read_options,
)
from inpainterz.cli.messages import out, print_json, progress_bars
from inpainterz.errors import InputError, OptionError

if TYPE_CHECKING:
    from inpainterz.engines import Segmenter
    from inpainterz.jobs.order import EngineChoice
    from inpainterz.types import LabelMap, Prompts
    from inpainterz.video.reader import Limits, VideoReader
    from inpainterz.who import Item

What = Annotated[
    str,
    typer.Option(
        "--what",
        metavar="moving|people|TEXT",
        help="What to look for: what moves (no download), people, or words: 'person. dog.'",
    ),
]
DetectorName = Annotated[
    str | None, typer.Option("--detector", help="Engine that looks; see `engines`.")
]
Who = Annotated[
    str | None,
    typer.Option(
        "--who", metavar="2,5", help="Remove these numbers of `inpainterz list`, with no click."
    ),
]
EveryoneBut = Annotated[
    str | None,
    typer.Option("--everyone-but", metavar="3", help="Remove all of the list but these numbers."),
]
ListFile = Annotated[
    Path | None,
    typer.Option(
        "--list", metavar="JSON", help="What `inpainterz list` wrote, in place of looking again."
    ),
]


def list_clip(
    clip: Clip,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="JSON", help="Default: CLIP-who.json here."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="PNG", help="The pictures. Default: beside the list."),
    ] = None,
    what: What = "moving",
    detector: DetectorName = None,
    device: Device = "auto",
    engine_option: EngineOptions = None,
    weights_dir: WeightsFolder = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """List who or what is in a clip, with pictures, for `remove --who`."""
    from inpainterz import who
    from inpainterz.pipeline import check_target
    from inpainterz.preview import encode_png
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.shots import find_cuts
    from inpainterz.video.targets import write_whole

    target = output or Path(f"{clip.stem}-who.json")
    pictures = sheet or target.with_suffix(".png")
    if pictures == target:
        raise OptionError("the list and its pictures have one name", "Name another --sheet")
    for path in (target, pictures):
        check_target(path, overwrite=overwrite)
    with VideoReader(clip) as video:
        items = _search(video, find_cuts(video), what, detector, device, engine_option, weights_dir)
        told = who.as_json(video, items, what)
    write_whole(pictures, encode_png(who.sheet(items)))
    write_whole(target, (json.dumps(told, indent=1) + "\n").encode())
    facts: dict[str, Any] = {"list": str(target), "sheet": str(pictures), "what": what}
    facts["items"] = [{k: v for k, v in one.items() if k != "moments"} for one in told["items"]]
    if as_json:
        print_json(facts)
        return
    if not items:
        out().print(f"Nothing was found. {pictures} says so too.", markup=False)
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("number", "what", "confidence", "frames", "best", "box in the best frame"):
        table.add_column(head)
    for item in items:
        corners = ",".join(f"{v:g}" for v in item.box)
        span = f"{item.first}-{item.last}"
        sure = f"{item.confidence:.0%}"
        table.add_row(str(item.id), item.name, sure, span, str(item.best), corners)
    out().print(table)
    out().print(f"{pictures} shows them; remove some with --who 1,2 --list {target}", markup=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """What `remove` was told of the list."""

    who: str | None
    everyone_but: str | None
    list_file: Path | None
    what: str
    detector: str | None


def chosen_labels(
    clip: Path,
    limits: Limits,
    choice: Choice,
    prompts: Prompts,
    *,
    output: str | None,
    masks: bool,
    engines: EngineChoice,
    engine_option: list[str] | None,
) -> tuple[Mapping[int, LabelMap], frozenset[int]]:
    """What --who and --everyone-but mean: label maps to follow, and which objects to remove.

    With --everyone-but those who stay are followed too, so that nothing of them is taken along.

    Args:
        clip: the video file.
        limits: what it may be.
        choice: numbers, and where the list is.
        prompts: clicks that were given besides.
        output: where the result goes, None where anything may be replaced.
        masks: whether masks were given besides.
        engines: their segmenter outlines what is chosen.
        engine_option: as typed.
    """
    if choice.who is not None and choice.everyone_but is not None:
        raise OptionError("--who and --everyone-but exclude each other", "Give one of them")
    if masks:
        raise OptionError("--mask numbers objects too", "Give it without --who and --everyone-but")
    stay = choice.who is None
    option, text = ("--everyone-but", choice.everyone_but) if stay else ("--who", choice.who)
    named = frozenset(read_numbers(text or "", option))
    clicked = {label for objects in prompts.values() for label in objects}
    if stay and clicked & named:
        raise OptionError(f"object {min(clicked & named)} is to stay and is clicked to go")
    from inpainterz import who as finder
    from inpainterz.pipeline import check_prompts, check_target
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.shots import find_cuts

    if output is not None and not output.endswith("/"):
        check_target(Path(output), overwrite=False)  # before the long search
    with VideoReader(clip, limits=limits) as video:
        check_prompts(video, prompts)
        known = None if choice.list_file is None else _read_list(choice.list_file)
        items = () if known is None else finder.from_json(video, known)
        cuts = find_cuts(video)
        if known is None:
            items = _search(
                video,
                cuts,
                choice.what,
                choice.detector,
                engines.device,
                engine_option,
                engines.weights_dir,
            )
        finder.pick(items, named)  # a wrong number is told before any more work
        everyone = frozenset(item.id for item in items)
        gone = everyone - named if stay else named
        if not gone:
            raise OptionError("nobody is left to remove", "Name fewer in --everyone-but")
        followed = everyone if stay else gone
        segmenter: Segmenter = engines.load("segment")
        with progress_bars() as progress:
            labels = finder.labels(video, items, followed, segmenter, cuts=cuts, progress=progress)
    return labels, gone | frozenset(clicked)


def read_numbers(text: str, option: str) -> list[int]:
    """Numbers with commas between.

    Raises:
        OptionError: something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise OptionError(f"{option} {text!r} is not a list of numbers", f"Write {option} 2,5")
    return sorted({int(part) for part in parts})


def _search(
    video: VideoReader,
    cuts: tuple[int, ...],
    what: str,
    detector: str | None,
    device: str,
    engine_option: list[str] | None,
    weights_dir: Path | None,
) -> tuple[Item, ...]:
    from inpainterz import engines
    from inpainterz import who as finder

    name, options = finder.engine_for(what, detector)
    options |= read_options(engine_option).get("detect", {})
    engine = engines.load("detect", name, device=device, options=options, weights_dir=weights_dir)
    items: tuple[Item, ...] = ()
    with (
        progress_bars() as progress,
        closing(finder.search(video, engine, cuts=cuts, progress=progress)) as listings,
    ):
        for listing in listings:
            items = listing.items
    return items


def _read_list(path: Path) -> object:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(
            f"{path} is not a list", "Make it: inpainterz list CLIP -o LIST.json"
        ) from error
