"""Commands about engines and their weights: engines, weights list, fetch, verify, path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from inpainterz.cli.arguments import (
    AsJson,
    WeightsFolder,
)
from inpainterz.cli.messages import (
    err,
    out,
    print_json,
)


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
        print_json({"engines": rows})
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("stage", "name", "what it is", "licence", "here"):
        table.add_column(head, justify="left", overflow="fold")
    for row in rows:
        licence = f"{row['licence']}{'' if row['commercial'] else ' (non-commercial)'}"
        here = "yes" if row["ready"] else f"no: {row['fetch']}"
        table.add_row(str(row["stage"]), str(row["name"]), str(row["title"]), licence, here)
    out().print(table)


def weights_list(weights_dir: WeightsFolder = None, as_json: AsJson = False) -> None:
    """List the weights: size, licence, whether they are on this machine."""
    _show_weights(weights_dir, as_json, verify=False)


def weights_verify(weights_dir: WeightsFolder = None, as_json: AsJson = False) -> None:
    """Read every weights file on this machine and hold it against its card."""
    if not _show_weights(weights_dir, as_json, verify=True):
        raise typer.Exit(1)


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
        err().print(weights.describe(card), markup=False)
        columns = (TextColumn(card.file), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=err()) as bars:
            task = bars.add_task(card.name, total=card.size or None)

            def show(done: int, total: int | None, bars: Progress = bars, task: Any = task) -> None:
                bars.update(task, completed=done, total=total)

            path = weights.fetch(card.name, folder=weights_dir, progress=show)
        out().print(str(path), markup=False)


def weights_path(
    name: Annotated[str | None, typer.Argument(help="A name from the list.")] = None,
    weights_dir: WeightsFolder = None,
) -> None:
    """Print where a weights file is, or, without a name, where a fetch puts them."""
    from inpainterz import weights

    path = weights.locate(name, folder=weights_dir) if name else weights.folders(weights_dir)[0]
    out().print(str(path), markup=False)


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
        print_json({"weights": rows})
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
        out().print(table)
    return not any(line.fault for line in lines)
