"""One run of a job: the way through, from the order to the report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from inpainterz import pipeline
from inpainterz.errors import OutputExists
from inpainterz.jobs.fill import Filling, context_frames
from inpainterz.jobs.folder import log, read_json, write_json
from inpainterz.jobs.follow import follow
from inpainterz.jobs.run_engines import RunEngines
from inpainterz.jobs.scope import Scope
from inpainterz.jobs.write import encode, is_there, put_in_place
from inpainterz.masks import MaskStore
from inpainterz.overlap import prefetch
from inpainterz.pipeline import Report
from inpainterz.types import Frame, Step
from inpainterz.video.fidelity import Fidelity
from inpainterz.video.shots import find_cuts
from inpainterz.video.writer import Written

CUT_REACH_FRAMES = 48
"""How far beyond a part of a clip cuts are looked for."""


def run(scope: Scope, engines: RunEngines) -> Report:
    """Do what is not done yet, write the target, and say what was done.

    Raises:
        OutputExists: somebody put something in the target's place meanwhile.
        InpainterzError: as `Job.run`.
    """
    log(scope.job, f"begun: {'all' if scope.preview is None else f'preview {scope.preview}'}")
    shutil.rmtree(scope.folder / "out", ignore_errors=True)  # of a run that was killed
    clock = pipeline.Clock()
    clock.start("segment")
    known = _known_frames(scope, engines)
    cuts = _cuts(scope, known)
    followed = follow(scope, engines, clock, cuts, known)
    filling = Filling(scope, engines)
    with MaskStore(scope.folder / "masks") as masks:
        clock.start("inpaint")
        pieces = filling.fill(masks, cuts, known, followed.marked)
        clock.start("write")
        encoded = encode(scope, pieces, masks)
    clock.start("")
    target, writer, counts = Path(scope.target), encoded.writer, encoded.counts
    report = pipeline.describe(
        scope.video,
        str(target),
        engines={str(stage): name for stage, name in engines.choices[0].names.items()},
        options=scope.order.options,
        cuts=cuts,
        objects=followed.objects,
        frames_with_hole=counts.frames_with_hole,
        seen_px=counts.seen_px,
        invented_px=counts.invented_px,
        doubtful=followed.doubtful,
        not_carried=writer.dropped,
        seconds=clock.seconds,
        written=writer.written,
        part=scope.part,
        ghosts=tuple(filling.ghosts),
        notes=tuple(engines.notes),
    )
    may_overwrite = scope.order.options.overwrite or scope.preview is not None
    for _, place in encoded.made:
        if is_there(place) and not may_overwrite:
            raise OutputExists(f"{place} is there already", "Allow it with --overwrite")
    moves = [[str(part), str(place)] for part, place in encoded.made]
    # from here on it is done, whatever happens: a run that finds this only moves the rest
    write_json(scope.folder / "done.json", {"moves": moves, "report": report.as_json()})
    put_in_place(scope, encoded.made)
    log(scope.job, f"done: {target}")
    return report


def finished(scope: Scope) -> Report | None:
    """The report of a run that had done everything, but perhaps to put it in place."""
    path = scope.folder / "done.json"
    if scope.preview is not None or not path.is_file():
        return None
    done = read_json(path)
    put_in_place(scope, [(Path(part), Path(place)) for part, place in done["moves"]])
    told: dict[str, Any] = done["report"]
    if not is_there(Path(told["target"])):  # somebody wants it once more
        path.unlink()
        return None
    for name, value in told.items():
        told[name] = tuple(value) if isinstance(value, list) else value
    written = told["written"]
    if written is not None:
        near = written.pop("fidelity")
        told["written"] = Written(**written, fidelity=near and Fidelity(**near))
    return Report(**told)


def _known_frames(scope: Scope, engines: RunEngines) -> tuple[int, int]:
    """The frames whose masks must be known: what may change, its surroundings, prompts."""
    part = scope.part
    if part is None:
        return 0, len(scope.video)
    around = context_frames(scope, engines)
    start = part[0] - around
    stop = part[1] + scope.sizes.blend_frames + around
    shown = [*scope.order.prompts, *scope.order.labels]
    start, stop = min([start, *shown]), max([stop, *(i + 1 for i in shown)])
    return max(0, start), min(len(scope.video), stop)


def _cuts(scope: Scope, known: tuple[int, int]) -> tuple[int, ...]:
    """Where shots begin, around the frames that are worked on."""
    path = scope.folder / "cuts.json"
    if path.is_file():
        return tuple(read_json(path)["cuts"])
    start = max(0, known[0] - CUT_REACH_FRAMES)
    stop = min(len(scope.video), known[1] + CUT_REACH_FRAMES)

    def counted(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            scope.progress(Step("cuts", frame.index - start + 1, stop - start))
            yield frame

    with closing(prefetch(scope.video.frames(start, stop))) as frames:
        cuts = find_cuts(scope.video, frames=counted(frames))
    write_json(path, {"cuts": list(cuts)})
    return cuts
