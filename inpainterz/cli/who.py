"""The list of who or what is in a clip, and the choice from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
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
from inpainterz.cli.messages import err, out, print_json, progress_bars, write_bytes
from inpainterz.errors import InputError, OptionError

if TYPE_CHECKING:
    from inpainterz.engines import Segmenter
    from inpainterz.types import LabelMap
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

    target = output or Path(f"{clip.stem}-who.json")
    pictures = sheet or target.with_suffix(".png")
    if pictures == target:
        raise OptionError("the list and its pictures have one name", "Name another --sheet")
    for path in (target, pictures):
        check_target(path, overwrite=overwrite)
    with VideoReader(clip) as video:
        items = _search(video, find_cuts(video), what, detector, device, engine_option, weights_dir)
        told = who.as_json(video, items, what)
    write_bytes(pictures, encode_png(who.sheet(items)))
    write_bytes(target, (json.dumps(told, indent=1) + "\n").encode())
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


def chosen_labels(
    clip: Path,
    limits: Limits,
    who: str | None,
    everyone_but: str | None,
    list_file: Path | None,
    *,
    segmenter: Segmenter,
    what: str,
    detector: str | None,
    device: str,
    engine_option: list[str] | None,
    weights_dir: Path | None,
) -> tuple[Mapping[int, LabelMap], frozenset[int]]:
    """What --who and --everyone-but mean: label maps to follow, and which ids of them to remove.

    With --everyone-but those who stay are followed too, so that nothing of them is taken along.
    """
    from inpainterz import who as finder
    from inpainterz.video.reader import VideoReader
    from inpainterz.video.shots import find_cuts

    if who is not None and everyone_but is not None:
        raise OptionError("--who and --everyone-but exclude each other", "Give one of them")
    option, text = ("--who", who) if who is not None else ("--everyone-but", everyone_but or "")
    named = read_numbers(text or "", option)
    with VideoReader(clip, limits=limits) as video:
        cuts = find_cuts(video)
        if list_file is not None:
            items = finder.from_json(video, _read_list(list_file))
        else:
            items = _search(video, cuts, what, detector, device, engine_option, weights_dir)
            for item in items:
                err().print(
                    f"{item.id}: {item.name} {item.confidence:.0%}, frames"
                    f" {item.first}-{item.last}",
                    markup=False,
                )
        finder.pick(items, named)  # a wrong number is told before any work
        everyone = {item.id for item in items}
        gone = frozenset(named) if who is not None else frozenset(everyone - set(named))
        if not gone:
            raise OptionError("nobody is left to remove", "Name fewer numbers in --everyone-but")
        followed = gone if who is not None else everyone
        with progress_bars() as progress:
            labels = finder.labels(video, items, followed, segmenter, cuts=cuts, progress=progress)
    return labels, gone


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
