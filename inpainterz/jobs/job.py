"""A removal as a job: a folder with everything that is done, from which a killed run goes on.

    job = Job.create(folder, Order(source, target, prompts))
    report = job.run()                       # or, after a kill: Job.open(folder).run()

What lies in the folder is told by `folder`. All work is done in steps that depend on the order
alone, never on where a run was interrupted: tracking in stretches (see `passes`), filling in pieces
(see `pieces`), encoding at the end, in one go, from the source and the pieces. So a run that was
killed anywhere, and resumed, writes the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from inpainterz import pipeline
from inpainterz.errors import (
    InputError,
    OptionError,
    OutputExists,
    PromptError,
    VideoEncodeError,
)
from inpainterz.jobs.folder import (
    add_step,
    is_job,
    locked,
    read_json,
    read_labels,
    read_steps,
    write_json,
)
from inpainterz.jobs.memory import share_arenas
from inpainterz.jobs.order import Order, fingerprint
from inpainterz.jobs.plan import make_plan
from inpainterz.jobs.run import finished, run
from inpainterz.jobs.run_engines import RunEngines
from inpainterz.jobs.scope import Scope, Sizes, is_folder
from inpainterz.masks import MaskStore, checked, encode_labels
from inpainterz.outputs import SideOutputs
from inpainterz.pipeline import Engines, Report
from inpainterz.types import JSON, Progress, silent
from inpainterz.video.reader import VideoReader
from inpainterz.video.targets import cannot_write, write_whole
from inpainterz.video.writer import VideoWriter

VERSION = 1
"""Of what the folder holds; another one cannot be resumed."""


class Job:
    """One removal and its folder. Make it with `create` or `open`.

    Attributes:
        folder: see `inpainterz.jobs.folder`.
        order: what is to be done.
    """

    def __init__(self, folder: Path, order: Order, sizes: Sizes, source: JSON) -> None:
        self.folder, self.order, self.sizes = folder, order, sizes
        self._source = source

    @classmethod
    def create(cls, folder: Path, order: Order, *, sizes: Sizes | None = None) -> Job:
        """Begin a job in a new or empty folder; nothing but checks and bookkeeping is done.

        Raises:
            OutputExists: there is something in the folder, or the target is there.
            InputError, VideoError: the order does not fit the clip, or the target cannot be
                written.
        """
        folder, sizes = Path(folder), sizes or Sizes()
        with VideoReader(order.source, limits=order.options.limits) as video:
            check(video, order)
            source = fingerprint(video)
        if folder.exists() and any(folder.iterdir()):
            raise OutputExists(f"{folder} is not empty", "Name another folder for the job")
        told = order.as_json()
        for name in ("source", "masks"):  # so that it can be resumed from anywhere
            if told[name] is not None:
                told[name] = os.path.abspath(told[name])
        told["target"] = _absolute(order.target)
        for also in told["options"]["also"]:
            also["target"] = _absolute(also["target"])
        if order.options.save_masks is not None:
            told["options"]["save_masks"] = os.path.abspath(order.options.save_masks)
        plan = {
            "version": VERSION,
            "order": told,
            "source": source,
            "sizes": {
                "stretch_frames": sizes.stretch_frames,
                "piece_frames": sizes.piece_frames,
                "blend_frames": sizes.blend_frames,
            },
        }
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            for name in ("given", "fill"):
                (folder / name).mkdir(exist_ok=True)
            for index, labels in order.labels.items():
                write_whole(folder / "given" / f"{index:06d}.png", encode_labels(labels))
            write_json(folder / "plan.json", plan)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, VideoEncodeError):
                raise
            raise cannot_write(folder, error) from error
        return cls(folder, Order.from_json(told, order.labels), sizes, source)

    @classmethod
    def open(cls, folder: Path, *, source: Path | None = None, target: str | None = None) -> Job:
        """A job that was begun earlier.

        Args:
            folder: where it is.
            source, target: where these are now, if they were moved.

        Raises:
            InputError: there is none, or it was made by another version.
        """
        folder = Path(folder)
        if not is_job(folder):
            raise InputError(f"there is no job in {folder}", "Start it without --resume")
        plan = read_json(folder / "plan.json")
        if plan.get("version") != VERSION:
            raise InputError(
                f"the job in {folder} was made by another version of Inpainterz",
                "Start it again",
            )
        order = Order.from_json(plan["order"], read_labels(folder / "given"))
        order = replace(order, source=source or order.source, target=target or order.target)
        return cls(folder, order, Sizes(**plan["sizes"]), plan["source"])

    def limit_memory(self, limit_mb: int | None) -> None:
        """Let what is not done yet be done within so many MiB, as far as engines can.

        Args:
            limit_mb: MiB of the process; None leaves everything as it is.
        """
        if limit_mb is None:
            return
        steps = read_steps(self.folder)
        last = steps[-1][0] if steps else self.order.engines
        self.order = replace(self.order, memory_limit_mb=limit_mb)
        plan = make_plan(replace(self.order, engines=last))
        if plan.engines != last:
            add_step(self.folder, plan.engines, plan.fitted)

    def has_work(self) -> bool:
        """Whether something is done that a later run would not have to do again."""
        return any(self.folder.glob("fill/*.zip")) or any(
            (scope / name).exists()
            for scope in self.folder.iterdir()
            for name in ("labels", "track", "followed.json")
        )

    def is_previewed_only(self) -> bool:
        """Whether only previews were made so far."""
        return not (self.folder / "full").exists()

    def delete(self) -> None:
        """Delete the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self,
        *,
        engines: Engines | None = None,
        preview: tuple[int, int] | None = None,
        progress: Progress = silent,
    ) -> Report:
        """Do what is not done yet, and write the target.

        Args:
            engines: use these instead of loading those of the order.
            preview: [start, stop): only these frames, into a clip of their own beside the target
                (`clean-preview.mp4`). A later run takes over the pieces that are the same.
            progress: told after each frame. What it raises ends the run; the folder stays.

        Raises:
            InputError: the clip or the folder is not the one of the order.
            VideoError: the source cannot be read or the target cannot be written.
            EngineError: an engine cannot run, or memory is not enough in any way known.
        """
        share_arenas()
        with ExitStack() as opened:
            opened.enter_context(locked(self.folder))
            limits = self.order.options.limits
            video = opened.enter_context(VideoReader(self.order.source, limits=limits))
            if fingerprint(video) != self._source:
                raise InputError(
                    f"{self.order.source} is not the clip that the job was begun with",
                    "Start the job again",
                )
            scope = Scope(self.folder, self.order, self.sizes, video, preview, progress)
            scope.folder.mkdir(exist_ok=True)
            report = finished(scope)
            if report is not None:  # it was killed when only the folder was left to delete
                return report
            check(video, self.order)
            return run(scope, RunEngines(self.folder, self.order, engines))


def _absolute(target: str) -> str:
    return os.path.abspath(target) + ("/" if is_folder(target) else "")


def check(video: VideoReader, order: Order) -> None:
    """Check an order against its clip and its target, before any work.

    Raises:
        InputError, VideoEncodeError: what is wrong, in a sentence.
    """
    pipeline.check_prompts(video, order.prompts)
    for index, labels in order.labels.items():
        pipeline.check_frame(video, index)
        checked(labels, video.size, f"the mask of frame {index}")
    if not order.prompts and not order.labels and order.masks is None:
        raise PromptError("nothing says what to remove", "Click an object or give a mask first")
    if order.part is not None:
        start, stop = order.part
        if not 0 <= start < stop <= len(video):
            raise OptionError(
                f"frames {start} to {stop} do not lie in the clip, which has {len(video)}",
                "Frames count from 0",
            )
    pipeline.check_target(order.options.save_masks, overwrite=order.options.overwrite)
    # opened and given up again: what can be known of targets, codec and container is known now
    overwrite = order.options.overwrite
    VideoWriter(order.target, like=video, options=order.options.write, overwrite=overwrite).close()
    with contextlib.suppress(_GivenUp), MaskStore.temporary() as masks:  # noqa: SIM117
        with SideOutputs(video, masks, order.options.also, overwrite=overwrite):
            raise _GivenUp


class _GivenUp(Exception):
    """Raised to leave outputs that were only opened to see whether they can be."""
