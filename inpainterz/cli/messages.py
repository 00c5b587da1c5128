"""What the commands say: progress and notes on stderr, results on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from inpainterz.pipeline import Report
    from inpainterz.types import Progress

STAGE_TITLES = {
    "example": "Example",
    "detect": "Find",
    "segment": "Outline",
    "track": "Follow",
    "inpaint": "Fill",
    "cuts": "Look",
    "write": "Write",
}


def out() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Progress]:
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
        console=err(),
    ) as bars:
        tasks: dict[str, Any] = {}

        def show(step: Step) -> None:
            if step.stage not in tasks:
                title = STAGE_TITLES.get(step.stage, step.stage)
                tasks[step.stage] = bars.add_task(title, total=step.total)
            bars.update(tasks[step.stage], completed=step.done, total=step.total)

        yield show


def tell(report: Report, as_json: bool, sheet: Path | None) -> None:
    facts = report.as_json()
    facts["sheet"] = None if sheet is None else str(sheet)
    if as_json:
        print_json(facts)
        return
    console = out()
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
        err().print(f"Look at {many} doubtful masks, first in frame {report.doubtful_frames[0]}.")
    if report.ghost_frames and report.options["fill"]["second_pass"] == "none":
        many = len(report.ghost_frames)
        err().print(
            f"A ghost may remain in {many} frames, first in frame {report.ghost_frames[0]}: more "
            "moves along there than the mask covers. --second-pass box fills a box around it."
        )
    written = report.written
    if written is not None and written.copied_frames:
        console.print(
            f"{written.codec}: {written.copied_frames} frames are the source's own, "
            f"{written.encoded_frames} were encoded"
        )
    if written is not None and written.fidelity is not None:
        near = written.fidelity
        psnr = "no difference" if near.psnr_db is None else f"{near.psnr_db:.1f} dB"
        console.print(f"outside the holes: {psnr}; {near.exact_frames} frames are exact")
    for kind, target in report.also.items():
        console.print(f"{kind:<12} {target}", markup=False)
    for note in report.notes:
        err().print(note, markup=False)
    for lost in report.not_carried:
        err().print(f"not carried over: {lost}", markup=False)


def say(facts: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(facts)
    else:
        out().print(sentence, markup=False)


def print_json(facts: dict[str, Any]) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=False))


def draw_sheet(report: Report, target: Path) -> None:
    from inpainterz.preview import before_after_sheet, encode_png
    from inpainterz.video.targets import write_whole

    if report.masks is None:
        picture = before_after_sheet(Path(report.source), Path(report.target), None)
    else:
        picture = before_after_sheet(Path(report.source), Path(report.target), Path(report.masks))
    write_whole(target, encode_png(picture))
