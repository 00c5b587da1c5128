"""Commands that measure the networks on this machine: bench track, bench inpaint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inpainterz.cli.arguments import AsJson, Device, TrackerName
from inpainterz.cli.messages import err, out, print_json
from inpainterz.errors import OptionError

if TYPE_CHECKING:
    from inpainterz.types import JSON

BenchClip = Annotated[
    Path | None,
    typer.Argument(help="Frames to work on; without it, synthetic ones.", show_default=False),
]
Threads = Annotated[int, typer.Option("--threads", help="0 = as torch chooses.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, fp16 or bf16.")]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="FOLDER|FILE",
        help="The published code, or a Python file with an adapter to any other; "
        "without it, the same network run the plain way.",
    ),
]


def bench_track(
    clip: BenchClip = None,
    tracker: TrackerName = None,
    part: Annotated[
        str, typer.Option("--part", help="time (beside another) or memory (over a long clip).")
    ] = "time",
    size: Annotated[str, typer.Option("--size", metavar="WxH")] = "864x480",
    objects: Annotated[
        list[int] | None, typer.Option("--objects", help="How many; may be given again. [1, 5]")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", help="How many are measured.")] = 12,
    gap: Annotated[
        int, typer.Option("--memory-gap", help="Every how many frames one is remembered.")
    ] = 5,
    max_side: Annotated[
        int, typer.Option("--max-side", help="Long side that the network looks at, pixels.")
    ] = 1040,
    threads: Threads = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    against: Against = None,
    as_json: AsJson = False,
) -> None:
    """Measure a tracking network: speed beside another implementation, or memory over time."""
    require_choice("--part", part, ("time", "memory"))
    _require_torch()
    from inpainterz.bench import track

    bench = track.TrackBench(
        tracker=tracker or "deaot",
        size=size_of(size),
        objects=tuple(objects or (1, 5)),
        frames=frames,
        max_side_px=max_side,
        gap_frames=gap,
        threads=threads,
        device=device,
        precision=_precision(precision),
        clip=clip,
        against=against,
    )
    facts = track.facts(bench)
    rows: list[JSON] = []
    if not as_json:
        _head(facts)
    if part == "time":
        table = _Table("objects", "ours, frames/s", "other, frames/s", "ratio", "differ", "IoU")
        for time in track.time_rows(bench):
            rows.append(time.as_json())
            table.row(
                as_json,
                f"{time.objects}",
                f"{time.ours_fps:.3f}",
                f"{time.theirs_fps:.3f}",
                f"{time.ratio:.2f}",
                f"{100 * time.labels_differ:.4f} %",
                f"{time.iou:.4f}",
            )
    else:
        table = _Table("frame", "remembered", "tensors, MiB", "process peak, MiB", "s / frame")
        for moment in track.memory_rows(bench):
            rows.append(moment.as_json())
            table.row(
                as_json,
                f"{moment.frame}",
                f"{moment.remembered_frames}",
                f"{moment.tensors_mib:.0f}",
                f"{moment.peak_mib:.0f}",
                f"{moment.seconds_per_frame:.2f}",
            )
    if as_json:
        print_json(facts | {"part": part, "rows": rows})


def bench_inpaint(
    clip: BenchClip = None,
    part: Annotated[
        list[str] | None,
        typer.Option("--part", help="counts, time, crop, memory; may be given again. [all]"),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="WxH", help="Of the part time; 108n x 60m.")
    ] = "432x240",
    hole: Annotated[
        float, typer.Option("--hole", help="Share of the frame, in the parts time and crop.")
    ] = 0.1,
    frames: Annotated[
        int, typer.Option("--frames", help="Of the part memory, beside a clip of a tenth.")
    ] = 700,
    threads: Threads = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    against: Against = None,
    as_json: AsJson = False,
) -> None:
    """Measure an inpainting network beside the published procedure."""
    for name in part or ():
        require_choice("--part", name, ("counts", "time", "crop", "memory"))
    _require_torch()
    from inpainterz.bench import inpaint

    bench = inpaint.InpaintBench(
        size=size_of(size),
        hole=hole,
        memory_frames=(max(2, frames // 10), frames),
        threads=threads,
        device=device,
        precision=_precision(precision),
        clip=clip,
        against=against,
    )
    facts = inpaint.facts(bench)
    found: dict[str, list[JSON]] = {}
    if not as_json:
        _head(facts)
    for name in inpaint.PARTS:
        if part and name not in part:
            continue
        table = _Table("part", *HEADS[name])
        for row in inpaint.ROWS[name](bench):
            plain = row.as_json()
            found.setdefault(name, []).append(plain)
            table.row(as_json, name, *(_cell(key, value) for key, value in plain.items()))
    if as_json:
        print_json(facts | {"parts": found})


HEADS = {
    "counts": ("side", "frames", "encoded", "flows", "decoded", "windows"),
    "time": ("side", "size", "hole", "precision", "s / frame", "times faster"),
    "crop": ("side", "size", "hole", "precision", "s / frame", "share of the first"),
    "memory": ("frames", "process peak, MiB"),
}


def size_of(text: str) -> tuple[int, int]:
    """ "WxH" as height and width."""
    w, x, h = text.partition("x")
    if not (x and w.isdecimal() and h.isdecimal()):
        raise OptionError(f"--size {text!r} cannot be read", "Write one like 864x480")
    return int(h), int(w)


def require_choice(option: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise OptionError(f"{option} cannot be {given!r}", f"Choose {', '.join(known)}")


def _precision(text: str) -> Any:
    require_choice("--precision", text, ("auto", "fp32", "fp16", "bf16"))
    return text


def _require_torch() -> None:
    from inpainterz.device import require_torch

    require_torch("bench")


def _head(facts: JSON) -> None:
    console = err()
    console.print(
        f"{facts['network']}, {facts['width']}x{facts['height']}, {facts['precision']}, "
        f"against: {facts['against']}",
        markup=False,
    )
    console.print(
        f"{facts['device']}; {facts['processor']}, {facts['cores']} cores, "
        f"{facts['threads']} threads, {facts['memory_gib']} GiB; torch {facts['torch']}",
        markup=False,
    )


def _cell(key: str, value: Any) -> str:
    if key == "size":
        return f"{value[1]}x{value[0]}"
    if key == "hole":
        return f"{value:.0%}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


class _Table:
    """Rows of a Markdown table, each printed as soon as it is measured."""

    def __init__(self, *heads: str) -> None:
        self._heads: tuple[str, ...] | None = heads

    def row(self, silent: bool, *cells: str) -> None:
        """Print one row, before the first one the heads."""
        if silent:
            return
        console = out()
        if self._heads is not None:
            console.print(f"| {' | '.join(self._heads)} |", markup=False)
            console.print(f"|{'---|' * len(self._heads)}")
            self._heads = None
        console.print(f"| {' | '.join(cells)} |", markup=False)
