"""The command line: arguments in, messages and exit codes out. All work happens in the package.

Nothing heavy is imported until a command runs, so `inpainterz --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, NoReturn

import typer

from inpainterz import __version__
from inpainterz.cli import bench, clip, page, weights, who
from inpainterz.errors import InpainterzError

app = typer.Typer(
    name="inpainterz",
    help="Remove things from video: click the object, get the clip back without it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (clip.remove, clip.segment, clip.track, clip.inpaint, clip.info):
    app.command()(command)
app.command("list")(who.list_clip)
app.command()(weights.engines)
app.command()(page.serve)
app.command()(page.demo)

weights_app = typer.Typer(
    help="The networks' weights: what there is, fetch it, check it.", no_args_is_help=True
)
weights_app.command("list")(weights.weights_list)
weights_app.command("verify")(weights.weights_verify)
weights_app.command("fetch")(weights.weights_fetch)
weights_app.command("path")(weights.weights_path)
app.add_typer(weights_app, name="weights")

bench_app = typer.Typer(
    help="What the networks cost on this machine, beside another way.", no_args_is_help=True
)
bench_app.command("track")(bench.bench_track)
bench_app.command("inpaint")(bench.bench_inpaint)
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if version:
        typer.echo(f"inpainterz {__version__}")
        raise typer.Exit


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
