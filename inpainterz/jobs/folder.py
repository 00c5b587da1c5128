"""The folder of a job: what lies in it, and how it is written so that a kill does no harm.

The folder (0700) holds `plan.json` (the order, and which clip it is of), `given/` (masks that came
with it), `log.txt`, `fill/` (finished pieces), and one folder for each scope, which is the whole
job (`full/`) or a preview of it (`preview-000120-000170/`):

    cuts.json      where shots begin
    labels/        what was outlined in the prompted frames
    track/         finished stretches of the two passes of the tracker
    masks/         the label maps that came of them
    followed.json  which frames have something to remove
    out/           the clip while it is encoded
    done.json      the report, and what is to be put in place

Everything appears under its name when it is complete, and not before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from inpainterz.errors import InputError
from inpainterz.jobs.order import EngineChoice
from inpainterz.masks import decode_labels
from inpainterz.types import JSON, LabelMap
from inpainterz.video.targets import write_whole


def folder_for(target: str) -> Path:
    """Where the job of a target is kept when nobody says otherwise: beside it."""
    path = Path(target)
    name = f"{path.name}.job"
    if len(os.fsencode(name)) > 240:  # a name may have 255 bytes, and others are made from it
        name = f"{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.job"
    return path.with_name(name)


def is_job(folder: Path) -> bool:
    """Whether there is a job in a folder."""
    return (folder / "plan.json").is_file()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process off a job's folder."""
    lock: IO[bytes]
    with (folder / "lock").open("ab") as lock:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"the job in {folder} is being worked on", "Wait until it ends"
                ) from error
        yield


def log(folder: Path, line: str) -> None:
    """Add a line to the log of a job."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with (folder / "log.txt").open("a", encoding="utf-8") as file:
        file.write(f"{stamp} {line}\n")


def read_steps(folder: Path) -> list[tuple[EngineChoice, str]]:
    """The engines that memory forced a job to instead of the order's, and why, in order."""
    path = folder / "steps.json"
    if not path.is_file():
        return []
    return [
        (EngineChoice.from_json(step["engines"]), str(step["note"]))
        for step in read_json(path)["steps"]
    ]


def add_step(folder: Path, engines: EngineChoice, note: str) -> None:
    """Do what is not done yet with other engines."""
    steps = [*read_steps(folder), (engines, note)]
    told = [{"engines": e.as_json(), "note": n} for e, n in steps]
    write_json(folder / "steps.json", {"steps": told})


# ---------------------------------------------------------------- whole files


def write_json(path: Path, data: JSON) -> None:
    """Write a file as a whole: it is there and right, or it is not there."""
    # in one line: with an indent, json would hold every number as a piece of text of its own
    write_whole(path, json.dumps(data).encode())


def read_json(path: Path) -> JSON:
    """Raises InputError when the file is not what was written."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read", "Start the job again") from error


def read_labels(folder: Path) -> dict[int, LabelMap]:
    """Label maps by frame from a folder of 000000.png and so on."""
    return {
        int(path.stem): decode_labels(path.read_bytes(), path.name)
        for path in sorted(folder.glob("*.png"))
    }
