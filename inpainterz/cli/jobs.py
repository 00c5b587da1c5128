"""Running a removal as a job: resume, a part, a preview, a memory limit, a plan beforehand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inpainterz.cli.messages import draw_sheet, err, out, print_json, progress_bars, tell
from inpainterz.errors import EngineError, InputError, OptionError, OutputExists, VideoEncodeError

if TYPE_CHECKING:
    from inpainterz.jobs.job import Job
    from inpainterz.jobs.order import Order
    from inpainterz.jobs.plan import Plan
    from inpainterz.pipeline import Report
    from inpainterz.video.reader import Limits

Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the job of this output where it was stopped.")
]
JobFolder = Annotated[
    Path | None,
    typer.Option(
        "--job",
        metavar="DIR",
        help="Keep the job here: plan, masks, finished pieces, log. Else it is beside the output, "
        "and deleted when done.",
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="START:END",
        help="Change this part only: frames (100:250, the end not included) or seconds "
        "(4s:10.5s). The whole clip comes out.",
    ),
]
Preview = Annotated[
    str | None,
    typer.Option(
        "--preview",
        metavar="N[@FRAME]",
        help="Do only N frames around FRAME, as a short clip beside the output. The full run "
        "takes the work over.",
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        metavar="SIZE",
        help="Choose window, crop and precision to stay below, such as 1500M or 4G.",
    ),
]
PlanOnly = Annotated[
    bool,
    typer.Option("--plan", help="Only say how much memory, disk and time it would take."),
]


@dataclass(frozen=True, slots=True)
class HowToRun:
    """What the options of this module say."""

    resume: bool = False
    folder: Path | None = None
    preview: str | None = None
    plan: bool = False
    memory_limit_mb: int | None = None
    sheet: Path | None = None
    """Where a picture of before and after goes."""


def run_and_tell(order: Order | None, output: str, how: HowToRun, *, as_json: bool) -> None:
    """Begin or go on with a job, and say what came of it; see `run_job`."""
    report = run_job(order, output, how, as_json=as_json)
    if report is None:
        return
    if how.sheet is not None:
        draw_sheet(report, how.sheet)
    tell(report, as_json, how.sheet)


def run_job(order: Order | None, output: str, how: HowToRun, *, as_json: bool) -> Report | None:
    """Begin or go on with a job; None where only a plan was asked for, and printed.

    Args:
        order: what was asked for; None: nothing, which is enough to resume.
        output: the target.
        how: see `HowToRun`.
        as_json: print the plan as JSON.
    """
    from inpainterz.jobs.folder import folder_for, is_job
    from inpainterz.jobs.job import Job
    from inpainterz.jobs.plan import make_plan

    folder = how.folder or folder_for(output)
    if how.plan:
        if order is None:
            raise InputError("there is nothing to plan", "Give --click X,Y or --mask PNG")
        _print_plan(make_plan(order, measure=True), as_json)
        return None
    there = is_job(folder)
    asked = order or (Job.open(folder, target=output).order if there else None)
    preview = None
    if how.preview is not None and asked is not None:
        preview = _preview(how.preview, asked)
    if there:
        job, is_new = _again(folder, order, output, how), False
    elif order is None:
        raise InputError(f"there is no job of {output} to resume", "Start it without --resume")
    else:
        job, is_new = _begin(folder, order), True
    try:
        with progress_bars() as progress:
            report = job.run(preview=preview, progress=progress)
    except KeyboardInterrupt:
        err().print(f"stopped; {folder} keeps what is done. Add --resume to go on.", markup=False)
        raise typer.Exit(130) from None
    except (InputError, VideoEncodeError, EngineError):
        if is_new and not job.has_work():
            job.delete()  # nothing there is worth going on with
        raise
    if how.folder is None and preview is None:
        job.delete()
    return report


def _begin(folder: Path, order: Order) -> Job:
    from inpainterz.jobs.job import Job
    from inpainterz.jobs.plan import make_plan

    order.engines.check()
    plan = make_plan(order)
    err().print(plan.sentence(), markup=False)
    for note in plan.notes:
        err().print(note, markup=False)
    job = Job.create(folder, order)
    job.limit_memory(order.memory_limit_mb)
    return job


def _again(folder: Path, order: Order | None, output: str, how: HowToRun) -> Job:
    """A job that is there already: gone on with where that is what was asked for."""
    from inpainterz.jobs.job import Job

    if order is None:
        job = Job.open(folder, target=output)
        job.limit_memory(how.memory_limit_mb)
        return job
    job = Job.open(folder, source=order.source, target=output)
    same = job.order.same_as(order)
    if how.resume:
        if not same:
            raise OptionError(
                "the job was begun with other clicks, masks or options",
                "Resume it without them, or start again with --overwrite and without --resume",
            )
        job.limit_memory(how.memory_limit_mb)
        return job
    if job.is_previewed_only():
        if same:
            return job
    elif not order.options.overwrite:
        raise OutputExists(
            f"{folder} is a job of this output that is not done",
            "Go on with --resume, or start again with --overwrite",
        )
    job.delete()
    return _begin(folder, order)


def frames_of(text: str, clip: Path, limits: Limits) -> tuple[int, int]:
    """The frames that --range means, [start, stop).

    Raises:
        OptionError: it cannot be read, or is not in the clip.
    """
    from inpainterz.video.reader import VideoReader

    form = r"(?:(\d+(?:\.\d+)?)(s?))?"
    found = re.fullmatch(rf"{form}:{form}", text.strip())
    if found is None:
        raise OptionError(
            f"--range {text!r} cannot be read", "Write frames as 100:250, or seconds as 4s:10.5s"
        )
    ends: list[int] = []
    with VideoReader(clip, limits=limits) as video:
        for number, seconds, default in (
            (found[1], found[2], 0),
            (found[3], found[4], len(video)),
        ):
            if number is None:
                ends.append(default)
            elif seconds:
                ends.append(_frame_at(float(number), video.pts, float(video.time_base)))
            elif "." in number:
                raise OptionError(f"there is no frame {number}", f"For seconds write {number}s")
            else:
                ends.append(int(number))
        if not 0 <= ends[0] < ends[1] <= len(video):
            raise OptionError(
                f"--range {text} has no frames, or some that the clip has not",
                f"The clip has {len(video)} frames, which is {video.info.duration:.2f} s",
            )
    return ends[0], ends[1]


def _frame_at(seconds: float, pts: Sequence[int], unit: float) -> int:
    """The first frame that is shown at or after so many seconds from the clip's beginning."""
    import bisect

    return bisect.bisect_left(pts, pts[0] + round(seconds / unit))


def _preview(text: str, order: Order) -> tuple[int, int]:
    """The frames that --preview means; without a FRAME, around the first that was prompted."""
    from inpainterz.video.reader import VideoReader

    found = re.fullmatch(r"(\d+)(?:@(\d+))?", text.strip())
    count = int(found[1]) if found else 0
    if found is None or count < 1:
        raise OptionError(
            f"--preview {text!r} cannot be read", "Write N or N@FRAME, such as 50@120"
        )
    at = int(found[2]) if found[2] else min([*order.prompts, *order.labels], default=0)
    with VideoReader(order.source, limits=order.options.limits) as video:
        total = len(video)
    if at >= total:
        raise OptionError(
            f"there is no frame {at}", f"Frames count from 0, the last is {total - 1}"
        )
    count = min(count, total)
    start = max(0, min(at - count // 2, total - count))
    return start, start + count


def memory_mb(text: str | None) -> int | None:
    """MiB of "1500M", "4G" or a plain number of MiB."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(m|mb|mib|g|gb|gib)?", text.strip().lower())
    if found is None:
        raise OptionError(f"--memory-limit {text!r} cannot be read", "Write 1500M or 4G")
    return round(float(found[1]) * (1024 if (found[2] or "m").startswith("g") else 1))


def _print_plan(plan: Plan, as_json: bool) -> None:
    if as_json:
        print_json(plan.as_json())
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("stage", "engine", "memory", "time"):
        table.add_column(head, justify="left")
    for stage in plan.stages:
        table.add_row(stage.name, stage.engine, stage.memory_text(), stage.time_text())
    out().print(table)
    out().print(plan.sentence(), markup=False)
    for note in plan.notes:
        out().print(note, markup=False)
