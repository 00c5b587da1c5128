"""A removal as a job: a folder with everything that is done, from which a killed run goes on.

    job = Job.create(folder, Order(source, target, prompts))
    report = job.run()                       # or, after a kill: Job.open(folder).run()

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

Everything appears under its name when it is complete, and not before. All work is done in steps
that depend on the order alone, never on where a run was interrupted: tracking in stretches of
`STRETCH_FRAMES`, each begun from the stored mask before it and from the prompts; filling in pieces
(see `pieces`); encoding at the end, in one go, from the source and the pieces. So a run that was
killed anywhere, and resumed, writes the same bytes as one that was not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, TypeVar

import cv2
import numpy as np

from inpainterz import pipeline
from inpainterz.engines import Stage
from inpainterz.errors import (
    InputError,
    OptionError,
    OutOfMemory,
    OutputExists,
    PromptError,
    VideoEncodeError,
)
from inpainterz.jobs.memory import lower, release, resident_mb, share_arenas
from inpainterz.jobs.order import (
    STAGES,
    EngineChoice,
    Order,
    fingerprint,
    options_of,
    read_json,
    read_labels,
    write_bytes,
    write_json,
)
from inpainterz.jobs.pieces import (
    BLEND_FRAMES,
    PIECE_FRAMES,
    Piece,
    PieceReader,
    PieceWriter,
    divide,
    patch_of,
)
from inpainterz.jobs.plan import make_plan
from inpainterz.leftover import GHOST_REACH, LOOKAHEAD
from inpainterz.masks import MaskStore, checked, chosen, doubtful_frames, encode_labels
from inpainterz.outputs import SideOutputs
from inpainterz.overlap import Behind, prefetch
from inpainterz.pipeline import Engines, Report
from inpainterz.types import JSON, Frame, LabelMap, Mask, Origin, Progress, Step, Tracked, silent
from inpainterz.video.fidelity import Fidelity
from inpainterz.video.reader import VideoReader
from inpainterz.video.shots import find_cuts, mark
from inpainterz.video.targets import cannot_write
from inpainterz.video.writer import VideoWriter, Written

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Way: TypeAlias = Literal["forward", "backward"]

VERSION = 1
"""Of what the folder holds; another one cannot be resumed."""

STRETCH_FRAMES = 1500
"""A tracker's pass is kept whenever so many more frames are done."""

LEAD_FRAMES = 100
"""How far back a stretch may begin to be followed, to know what has just left the picture."""

CUT_REACH_FRAMES = 48
"""How far beyond a part of a clip cuts are looked for."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How long the steps are; the defaults are right, tests take smaller ones."""

    stretch_frames: int = STRETCH_FRAMES
    piece_frames: int = PIECE_FRAMES
    blend_frames: int = BLEND_FRAMES

    def __post_init__(self) -> None:
        if self.stretch_frames < 2 or self.piece_frames < 1 or self.blend_frames < 0:
            raise OptionError("a job's steps cannot be shorter than a frame")


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


class Job:
    """One removal and its folder. Make it with `create` or `open`.

    Attributes:
        folder: see the module.
        order: what is to be done.
    """

    def __init__(self, folder: Path, order: Order, sizes: Sizes, source: JSON) -> None:
        self.folder, self.order, self.sizes = folder, order, sizes
        self._source = source

    @classmethod
    def create(cls, folder: Path, order: Order, *, sizes: Sizes = Sizes()) -> Job:
        """Begin a job in a new or empty folder; nothing but checks and bookkeeping is done.

        Raises:
            OutputExists: there is something in the folder, or the target is there.
            InputError, VideoError: the order does not fit the clip, or the target cannot be
                written.
        """
        folder = Path(folder)
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
                write_bytes(folder / "given" / f"{index:06d}.png", encode_labels(labels))
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
        steps = self.steps()
        last = steps[-1][0] if steps else self.order.engines
        self.order = replace(self.order, memory_limit_mb=limit_mb)
        plan = make_plan(replace(self.order, engines=last))
        if plan.engines != last:
            self.add_step(plan.engines, plan.fitted)

    def steps(self) -> list[tuple[EngineChoice, str]]:
        """The engines that memory forced the job to instead of the order's, and why, in order."""
        path = self.folder / "steps.json"
        if not path.is_file():
            return []
        return [
            (EngineChoice.from_json(step["engines"]), str(step["note"]))
            for step in read_json(path)["steps"]
        ]

    def add_step(self, engines: EngineChoice, note: str) -> None:
        """Do what is not done yet with other engines."""
        steps = [*self.steps(), (engines, note)]
        told = [{"engines": e.as_json(), "note": n} for e, n in steps]
        write_json(self.folder / "steps.json", {"steps": told})

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
                (see `preview_target`). A later run takes over the pieces that are the same.
            progress: told after each frame. What it raises ends the run; the folder stays.

        Raises:
            InputError: the clip or the folder is not the one of the order.
            VideoError: the source cannot be read or the target cannot be written.
            EngineError: an engine cannot run, or memory is not enough in any way known.
        """
        share_arenas()
        with ExitStack() as opened:
            opened.enter_context(_locked(self.folder))
            limits = self.order.options.limits
            video = opened.enter_context(VideoReader(self.order.source, limits=limits))
            if fingerprint(video) != self._source:
                raise InputError(
                    f"{self.order.source} is not the clip that the job was begun with",
                    "Start the job again",
                )
            run = _Run(self, video, engines, preview, progress)
            finished = run.finished()
            if finished is not None:  # it was killed when only the folder was left to delete
                return finished
            check(video, self.order)
            return run.report()

    def preview_target(self) -> str:
        """Where a preview goes."""
        if _is_folder(self.order.target):
            return self.order.target.rstrip("/" + os.sep) + "-preview/"
        path = Path(self.order.target)
        return str(path.with_name(f"{path.stem}-preview{path.suffix}"))


def _absolute(target: str) -> str:
    return os.path.abspath(target) + ("/" if _is_folder(target) else "")


def _is_folder(target: str) -> bool:
    return target.endswith(("/", os.sep))


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


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
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


@dataclass(slots=True)
class _Followed:
    """What tracking, or given masks, came to."""

    objects: tuple[int, ...]
    marked: list[tuple[int, int]]
    """Runs of frames with something to remove, [start, stop)."""
    doubtful: tuple[int, ...]


@dataclass(slots=True)
class _Counts:
    frames_with_hole: int = 0
    seen: int = 0
    invented: int = 0
    pieces: int = 0
    reused: int = 0
    ghosts: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


class _Run:
    """One call of `Job.run`."""

    def __init__(
        self,
        job: Job,
        video: VideoReader,
        engines: Engines | None,
        preview: tuple[int, int] | None,
        progress: Progress,
    ) -> None:
        self.job, self.order, self.video = job, job.order, video
        self.options = job.order.options
        self._progress = progress
        self._given = engines
        self._loaded: dict[Stage, Any] = {}
        self.counts = _Counts()
        self.clock = pipeline.Clock()
        if preview is not None:
            start, stop = preview
            if not 0 <= start < stop <= len(video):
                raise OptionError(
                    f"frames {start} to {stop} do not lie in the clip, which has {len(video)}",
                    "Frames count from 0",
                )
            if not job.sizes.piece_frames >= stop - start:
                raise OptionError(
                    f"a preview of {stop - start} frames is too long",
                    f"It may have {job.sizes.piece_frames}",
                )
        self.preview = preview
        name = "full" if preview is None else f"preview-{preview[0]:06d}-{preview[1]:06d}"
        self.scope = job.folder / name
        self.scope.mkdir(exist_ok=True)
        self.choices = self._read_choices()
        self._limit_mb = job.order.memory_limit_mb

    # ------------------------------------------------------------ engines

    def _read_choices(self) -> list[EngineChoice]:
        """The engines of the order, then each set that memory forced the job down to."""
        given = self._given
        first = self.order.engines if given is None else EngineChoice.of(given)
        steps = self.job.steps()
        self.counts.notes += [note for _, note in steps]
        return [first, *(engines for engines, _ in steps)]

    def engine(self, stage: Stage) -> Any:
        """The engine of a stage, loaded when first asked for."""
        if stage not in self._loaded:
            if self._given is not None and len(self.choices) == 1:
                given = (self._given.segmenter, self._given.tracker, self._given.inpainter)
                self._loaded[stage] = given[STAGES.index(stage)]
            else:
                self._loaded[stage] = self.choices[-1].load(stage)
        return self._loaded[stage]

    def drop(self, stage: Stage) -> None:
        """Let an engine go, and its memory with it."""
        self._loaded.pop(stage, None)

    def within_memory(self, stage: Stage, work: Callable[[], Answer]) -> Answer:
        """Do `work`; where memory runs out, again with an engine that takes less.

        Raises:
            OutOfMemory: nothing takes less any more.
        """
        while True:
            try:
                return work()
            except MemoryError as error:  # OutOfMemory is one
                sentence = str(error) or "memory ran out"
                note = self._step_down(stage, sentence)
                if note is None:
                    if isinstance(error, OutOfMemory):
                        raise
                    raise OutOfMemory("memory ran out", "Use a smaller clip") from error
            release()

    def _step_down(self, stage: Stage, reason: str) -> str | None:
        """Take the next smaller options for a stage; what was changed, or None."""
        changed = self._lower(stage)
        if changed is None:
            return None
        options, device, what = changed
        choice = self.choices[-1]
        self.drop(stage)
        smaller = choice.with_options(stage, options, device)
        note = f"{stage}: {reason.rstrip('.')}; went on with {what}"
        self.choices.append(smaller)
        self.counts.notes.append(note)
        self.log(note)
        self.job.add_step(smaller, note)
        return note

    def _lower(self, stage: Stage) -> tuple[dict[str, Any], str, str] | None:
        choice = self.choices[-1]
        engine = self._loaded.get(stage)  # not there where memory ran out while it was loaded
        options = getattr(engine, "options", None)
        if options is None and choice.names[stage] != "given":
            options = options_of(choice, stage)
        device = str(getattr(engine, "device", choice.device))
        return lower(stage, choice.names[stage], options, device)

    def watch(self, stage: Stage) -> None:
        """Raises OutOfMemory where the process is larger than it may be and could be smaller."""
        if self._limit_mb is None:
            return
        now = resident_mb()
        if now is None or now <= self._limit_mb:
            return
        if self._lower(stage) is None:
            note = f"{stage}: {now} MiB are in use, more than the limit of {self._limit_mb} MiB"
            self.counts.notes.append(note)
            self.log(note)
            self._limit_mb = None  # said once; there is nothing more to do about it
            return
        raise OutOfMemory(f"{now} MiB are in use, the limit is {self._limit_mb} MiB")

    # ------------------------------------------------------------ the way through

    def report(self) -> Report:
        self.log(f"begun: {'all' if self.preview is None else f'preview {self.preview}'}")
        shutil.rmtree(self.scope / "out", ignore_errors=True)  # of a run that was killed
        self.clock.start("segment")
        known = self._known()
        cuts = self._cuts(known)
        followed = self._follow(cuts, known)
        with MaskStore(self.scope / "masks") as masks:
            self.clock.start("inpaint")
            pieces = self._fill(masks, cuts, known, followed)
            self.clock.start("write")
            writer, made = self._write(pieces, masks)
        self.clock.start("")
        target = Path(self.order.target if self.preview is None else self.job.preview_target())
        report = pipeline.describe(
            self.video,
            str(target),
            engines={str(stage): name for stage, name in self.choices[0].names.items()},
            options=self.options,
            cuts=cuts,
            objects=followed.objects,
            frames_with_hole=self.counts.frames_with_hole,
            seen_px=self.counts.seen,
            invented_px=self.counts.invented,
            doubtful=followed.doubtful,
            not_carried=writer.dropped,
            seconds=self.clock.seconds,
            written=writer.written,
            part=self.preview or self.order.part,
            ghosts=tuple(self.counts.ghosts),
            notes=tuple(self.counts.notes),
        )
        for _, place in made:
            if _is_there(place) and not self._may_overwrite:
                raise OutputExists(f"{place} is there already", "Allow it with --overwrite")
        moves = [[str(part), str(place)] for part, place in made]
        # from here on it is done, whatever happens: a run that finds this only moves the rest
        write_json(self.scope / "done.json", {"moves": moves, "report": report.as_json()})
        self._put_in_place(made)
        self.log(f"done: {target}")
        return report

    def _put_in_place(self, made: Sequence[tuple[Path, Path]]) -> None:
        for part, place in made:
            if part.exists():
                _publish(part, place)
        shutil.rmtree(self.scope / "out", ignore_errors=True)

    def finished(self) -> Report | None:
        """The report of a run that had done everything, but perhaps to put it in place."""
        path = self.scope / "done.json"
        if self.preview is not None or not path.is_file():
            return None
        done = read_json(path)
        self._put_in_place([(Path(part), Path(place)) for part, place in done["moves"]])
        told: dict[str, Any] = done["report"]
        if not _is_there(Path(told["target"])):  # somebody wants it once more
            path.unlink()
            return None
        for name, value in told.items():
            told[name] = tuple(value) if isinstance(value, list) else value
        written = told["written"]
        if written is not None:
            near = written.pop("fidelity")
            told["written"] = Written(**written, fidelity=near and Fidelity(**near))
        return Report(**told)

    def log(self, line: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with (self.job.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {line}\n")

    def _context(self) -> int:
        """How far around itself a piece looks, in frames."""
        boxes = GHOST_REACH if self.options.fill.second_pass == "box" else 0
        return int(self.engine("inpaint").lookahead) + LOOKAHEAD + boxes

    def _known(self) -> tuple[int, int]:
        """The frames whose masks must be known: what may change, its surroundings, prompts."""
        part = self.preview or self.order.part
        if part is None:
            return 0, len(self.video)
        around = self._context()
        start = part[0] - around
        stop = part[1] + self.job.sizes.blend_frames + around
        shown = [*self.order.prompts, *self.order.labels]
        start, stop = min([start, *shown]), max([stop, *(i + 1 for i in shown)])
        return max(0, start), min(len(self.video), stop)

    def _cuts(self, known: tuple[int, int]) -> tuple[int, ...]:
        path = self.scope / "cuts.json"
        if path.is_file():
            return tuple(read_json(path)["cuts"])
        start = max(0, known[0] - CUT_REACH_FRAMES)
        stop = min(len(self.video), known[1] + CUT_REACH_FRAMES)

        def counted(frames: Iterator[Frame]) -> Iterator[Frame]:
            for frame in frames:
                self._progress(Step("cuts", frame.index - start + 1, stop - start))
                yield frame

        with closing(prefetch(self.video.frames(start, stop))) as frames:
            cuts = find_cuts(self.video, frames=counted(frames))
        cuts = tuple(cut for cut in cuts if cut > start)  # where reading began is no cut
        write_json(path, {"cuts": list(cuts)})
        return cuts

    # ------------------------------------------------------------ masks

    def _follow(self, cuts: tuple[int, ...], known: tuple[int, int]) -> _Followed:
        """Fill `masks/`; what it came to."""
        path = self.scope / "followed.json"
        if path.is_file():
            data = read_json(path)
            runs = [(int(a), int(b)) for a, b in data["marked"]]
            return _Followed(tuple(data["objects"]), runs, tuple(data["doubtful"]))
        shutil.rmtree(self.scope / "masks", ignore_errors=True)
        if self.order.masks is not None:
            with MaskStore(self.scope / "masks") as store:
                store.take(self.order.masks, len(self.video), self.video.size)
                found = self._look_through((i, m, {}) for i, m in store.items())
        else:
            labels = self._outline(cuts)
            self.clock.start("track")
            first, last = min(labels), max(labels)
            shown: dict[int, list[int]] = {}
            for index in sorted(labels):
                for label in np.unique(labels[index][labels[index] > 0]):
                    shown.setdefault(int(label), []).append(index)
            ways: list[tuple[Way, range]] = [("forward", range(first, known[1]))]
            if last > known[0]:
                ways.append(("backward", range(last, known[0] - 1, -1)))
            total, done = sum(len(frames) for _, frames in ways), 0
            for way, frames in ways:
                for stretch in _stretches(frames, self.job.sizes.stretch_frames):
                    done = self._track(way, stretch, labels, cuts, frames, done, total)
            self.drop("track")
            with MaskStore(self.scope / "masks") as store:
                found = self._look_through(self._merge(store, dict(ways), known, shown))
        if self.order.masks is not None and not found.marked:
            raise PromptError("the masks mark nothing", "A mask pixel above 0 is a pixel to fill")
        write_json(
            path,
            {"objects": found.objects, "marked": found.marked, "doubtful": found.doubtful},
        )
        shutil.rmtree(self.scope / "track", ignore_errors=True)
        release()
        return found

    def _look_through(self, rows: Iterator[tuple[int, LabelMap, Mapping[int, float]]]) -> _Followed:
        """What masks come to; frame by frame, as their confidences would grow with the clip."""
        objects: set[int] = set()
        marked: list[tuple[int, int]] = []

        def seen() -> Iterator[tuple[int, LabelMap, Mapping[int, float]]]:
            for index, labels, confidence in rows:
                objects.update(int(k) for k in np.unique(labels) if k)
                if chosen(labels, self.options.fill.objects).any():
                    if marked and marked[-1][1] == index:
                        marked[-1] = marked[-1][0], index + 1
                    else:
                        marked.append((index, index + 1))
                yield index, labels, confidence

        doubtful = tuple(doubtful_frames(seen()))
        return _Followed(tuple(sorted(objects)), marked, doubtful)

    def _outline(self, cuts: tuple[int, ...]) -> dict[int, LabelMap]:
        """The label maps that tracking begins from."""
        folder = self.scope / "labels"
        if folder.is_dir():
            return read_labels(folder)
        given = {index: shown.copy() for index, shown in self.order.labels.items()}
        if self.order.prompts:
            found = pipeline.outline(
                self.video,
                self.order.prompts,
                self.engine("segment"),
                cuts=cuts,
                progress=self._progress,
            )
            for index, labels in found.items():
                under = given.setdefault(index, np.zeros_like(labels))
                under[labels > 0] = labels[labels > 0]
        self.drop("segment")
        for index, labels in given.items():
            if not labels.any():
                raise PromptError(f"the mask of frame {index} is empty", "Mark at least one pixel")
        part = self.scope / "labels.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for index, labels in given.items():
            write_bytes(part / f"{index:06d}.png", encode_labels(labels))
        part.rename(folder)
        return given

    def _stretch_folder(self, way: Way, stretch: range) -> Path:
        return self.scope / "track" / f"{way}-{stretch[0]:06d}"

    def _track(
        self,
        way: Way,
        stretch: range,
        labels: Mapping[int, LabelMap],
        cuts: tuple[int, ...],
        whole: range,
        done: int,
        total: int,
    ) -> int:
        """Follow through one stretch of a pass, unless that is done; frames done by then."""
        folder = self._stretch_folder(way, stretch)
        if folder.is_dir():
            self._progress(Step("track", done + len(stretch), total))
            return done + len(stretch)
        part = folder.with_name(folder.name + ".part")

        def work() -> None:
            shutil.rmtree(part, ignore_errors=True)
            cv2.setRNGSeed(0)
            with MaskStore(part) as store:
                tracked = self._tracked(way, stretch, labels, cuts, whole)
                with closing(tracked):
                    for count, item in enumerate(tracked, 1):
                        store.put(item.frame.index, item.labels, item.confidence)
                        self._progress(Step("track", done + count, total))
                        if count % 16 == 0:
                            self.watch("track")

        self.within_memory("track", work)
        part.rename(folder)
        release()  # what threads freed in pieces would add up over a long clip
        return done + len(stretch)

    def _tracked(
        self,
        way: Way,
        stretch: range,
        labels: Mapping[int, LabelMap],
        cuts: tuple[int, ...],
        whole: range,
    ) -> Generator[Tracked]:
        """One stretch of a pass, begun from the stored mask before it and from the prompts."""
        taught: list[Frame] = []
        shown, first = dict(labels), stretch[0]
        if stretch[0] != whole[0]:
            taught, shown, first = self._lead(way, stretch, labels, whole)
        if way == "forward":
            frames = self.video.frames(first, stretch[-1] + 1)
        else:
            frames = self.video.backwards(first, stretch[-1])

        def stream(taken: Iterator[Frame]) -> Iterator[Frame]:
            yield from taught
            yield from mark(taken, cuts)

        lead = len(taught) + abs(stretch[0] - first)
        with closing(prefetch(frames)) as taken:
            for count, tracked in enumerate(self.engine("track").track(stream(taken), shown)):
                if count >= lead:
                    yield tracked

    def _lead(
        self, way: Way, stretch: range, labels: Mapping[int, LabelMap], whole: range
    ) -> tuple[list[Frame], dict[int, LabelMap], int]:
        """What a tracker is shown before a stretch, as it remembers nothing.

        The prompts come first, in shots of their own: they say what things look like, not where
        they are. Then up to `LEAD_FRAMES` before the stretch are followed once more, from a frame
        that shows the objects well: so the tracker knows them, and what has just left the picture
        is known to have left it. What was lost before that stays lost, unless it is recognised.

        Returns:
            the prompts' frames; the label maps of these and of all that follows; and the frame
            from which on the clip itself is followed.
        """
        at = whole.index(stretch[0])
        earlier = [i for i in whole[:at] if i in labels]
        newest = {int(k): i for i in earlier for k in np.unique(labels[i]) if k}
        with closing(_Pass(self, way, whole)) as before:
            window = whole[max(0, at - LEAD_FRAMES) : at]
            first = _best_seen(before, window)
            found = before.get(first)
            assert found is not None
            seed = found[0]
        followed = range(first, stretch[-1] + stretch.step, stretch.step)
        shown = {i: m for i, m in labels.items() if i in followed}
        taught = []
        for place, index in enumerate(i for i in earlier if i in newest.values()):
            if index not in followed:
                taught.append(replace(self.video.frame(index), shot=-1 - place))
                shown[index] = labels[index]
        if seed.any():
            shown[first] = seed
        return taught, shown, first

    def _merge(
        self,
        store: MaskStore,
        ways: Mapping[Way, range],
        known: tuple[int, int],
        shown: Mapping[int, Sequence[int]],
    ) -> Iterator[tuple[int, LabelMap, Mapping[int, float]]]:
        """Put what the two passes found into `store`, frame by frame, with confidences out."""
        with ExitStack() as opened:
            passes = {
                way: opened.enter_context(closing(_Pass(self, way, whole)))
                for way, whole in ways.items()
            }
            for index in range(*known):
                found = [p.get(index) for p in passes.values()]
                there = [f for f in found if f is not None]
                labels, confidence = there[0]
                if len(there) > 1:
                    back = Tracked(_nothing(index), *there[1])
                    merged = pipeline.merge(back, labels, confidence, shown)
                    labels, confidence = merged.labels, dict(merged.confidence)
                store.put(index, labels)
                yield index, labels, confidence

    # ------------------------------------------------------------ filling

    def _fill(
        self, masks: MaskStore, cuts: tuple[int, ...], known: tuple[int, int], followed: _Followed
    ) -> list[tuple[Piece, Path]]:
        """Fill all pieces that are not filled yet; all pieces with their files."""
        sizes = self.job.sizes
        previews = [self.preview] if self.preview else self._previews()
        pieces = divide(
            followed.marked,
            cuts,
            self.order.part or (0, len(self.video)),
            known,
            self._context(),
            given=previews,
            length=sizes.piece_frames,
            blend=sizes.blend_frames,
        )
        if self.preview is not None:  # the piece is what it will be in the whole
            first, end = self.preview
            pieces = [p for p in pieces if first <= p.start and p.stop <= end]
        total, done = sum(p.high - p.low for p in pieces), 0
        made: list[tuple[Piece, Path]] = []
        for piece in pieces:
            inputs = self._inputs(piece, masks, cuts)
            paths = [self._piece_path(piece, inputs, choice) for choice in self.choices]
            path = next((p for p in reversed(paths) if p.is_file()), None)
            if path is not None:
                self.counts.reused += 1
            else:
                began = time.perf_counter()
                path = self.within_memory(
                    "inpaint",
                    lambda piece=piece, inputs=inputs, done=done: self._fill_piece(  # type: ignore[misc]
                        piece, inputs, masks, cuts, done, total
                    ),
                )
                self.log(
                    f"filled frames {piece.start} to {piece.stop - 1} in "
                    f"{time.perf_counter() - began:.1f} s"
                )
            release()
            told = path.with_suffix(".json")
            if told.is_file():
                self.counts.ghosts.update(int(i) for i in read_json(told)["ghosts"])
            made.append((piece, path))
            done += piece.high - piece.low
            self._progress(Step("inpaint", done, total))
        self.counts.pieces = len(made)
        self.drop("inpaint")
        return made

    def _previews(self) -> list[tuple[int, int]]:
        """Stretches that were previewed: they stay pieces, so that their work is taken over."""
        found: list[tuple[int, int]] = []
        for path in sorted(self.job.folder.glob("preview-*")):
            _, start, stop = path.name.split("-")
            if (path / "followed.json").is_file() and all(
                int(stop) <= a or b <= int(start) for a, b in found
            ):
                found.append((int(start), int(stop)))
        return found

    def _inputs(self, piece: Piece, masks: MaskStore, cuts: tuple[int, ...]) -> str:
        """A hash of all that a piece is made from, but the engine and the source."""
        hashed = hashlib.sha256()
        fill = self.order.as_json()["options"]["fill"]
        near = [c for c in cuts if piece.low < c < piece.high]
        frame = (piece.start, piece.stop, piece.tail, piece.low, piece.high)
        hashed.update(json.dumps([frame, near, fill], sort_keys=True).encode())
        for index in range(piece.low, piece.high):
            path = masks.folder / f"{index:06d}.png"
            if path.is_file():
                hashed.update(index.to_bytes(4, "big") + hashlib.sha256(path.read_bytes()).digest())
        return hashed.hexdigest()

    def _piece_path(self, piece: Piece, inputs: str, choice: EngineChoice) -> Path:
        told = json.dumps(
            [choice.names["inpaint"], dict(choice.options.get("inpaint", {})), choice.device],
            sort_keys=True,
        )
        name = hashlib.sha256(f"{inputs} {told}".encode()).hexdigest()[:24]
        return self.job.folder / "fill" / f"{piece.start:06d}-{piece.stop:06d}-{name}.zip"

    def _fill_piece(
        self,
        piece: Piece,
        inputs: str,
        masks: MaskStore,
        cuts: tuple[int, ...],
        done: int,
        total: int,
    ) -> Path:
        path = self._piece_path(piece, inputs, self.choices[-1])
        cv2.setRNGSeed(0)
        ghosts: list[int] = []
        with ExitStack() as opened:
            filled = opened.enter_context(
                closing(
                    pipeline.fill(
                        self.video,
                        masks,
                        self.engine("inpaint"),
                        options=self.options.fill,
                        cuts=cuts,
                        start=piece.low,
                        stop=piece.high,
                        ghost=ghosts.append,
                    )
                )
            )
            writer = opened.enter_context(PieceWriter(path))
            behind = opened.enter_context(Behind[tuple[int, Any]](lambda item: writer.add(*item)))
            for item in filled:
                index = item.frame.index
                self._progress(Step("inpaint", done + index - piece.low + 1, total))
                if index % 8 == 0:
                    self.watch("inpaint")
                if index >= piece.filled.stop:
                    break
                if index >= piece.start and (patch := patch_of(item)) is not None:
                    behind.put((index, patch))
                if index == piece.filled.stop - 1:
                    break
            here = [i for i in ghosts if piece.start <= i < piece.stop]
            if here:  # before the piece is there, so that a resumed run finds both
                write_json(path.with_suffix(".json"), {"ghosts": here})
        return path

    # ------------------------------------------------------------ the clip

    @property
    def _may_overwrite(self) -> bool:
        return self.options.overwrite or self.preview is not None

    def _write(
        self, pieces: Sequence[tuple[Piece, Path]], masks: MaskStore
    ) -> tuple[VideoWriter, list[tuple[Path, Path]]]:
        """Encode everything into the job's folder.

        Returns:
            the writer of the clip, complete; and what is to be put in place: from where to where,
            the clip last.
        """
        target = self.order.target if self.preview is None else self.job.preview_target()
        start, stop = self.preview or (0, len(self.video))
        out = self.scope / "out"
        out.mkdir(exist_ok=True)
        made: list[tuple[Path, Path]] = []
        also = []
        for number, wanted in enumerate(() if self.preview else self.options.also):
            part = out / f"also-{number}{Path(wanted.target).suffix}"
            slash = "/" if _is_folder(wanted.target) else ""
            also.append(replace(wanted, target=f"{part}{slash}"))
            made.append((part, Path(wanted.target)))
        if self.options.save_masks is not None and self.preview is None:
            masks.export_zip(out / "masks.zip")
            made.append((out / "masks.zip", self.options.save_masks))
        folder = _is_folder(target) or self.options.write.codec == "png"
        part = out / f"clip{'' if folder else Path(target).suffix}"
        made.append((part, Path(target)))
        writer = VideoWriter(
            f"{part}/" if folder else part,
            like=self.video,
            options=self.options.write,
            start=start,
            stop=stop,
        )
        extra = SideOutputs(
            self.video, masks, also, objects=self.options.fill.objects, start=start, stop=stop
        )

        def write(item: tuple[Frame, Mask]) -> None:
            writer.write(*item)
            extra.write(*item)

        with (
            writer,
            extra,
            Behind[tuple[Frame, Mask]](write) as encoder,
            closing(self._composed(pieces, start, stop, whole=folder or bool(also))) as frames,
        ):
            for frame, hole in frames:
                encoder.put((frame, hole))
                self._progress(Step("write", frame.index - start + 1, stop - start))
        return writer, made

    def _composed(
        self, pieces: Sequence[tuple[Piece, Path]], start: int, stop: int, *, whole: bool
    ) -> Generator[tuple[Frame, Mask]]:
        """Every frame with the pieces' patches in it, and its hole.

        Args:
            pieces: what was filled.
            start, stop: the frames.
            whole: whether the picture around the holes is wanted too. The writer of a clip does
                without, as it takes that from the source itself.
        """
        nothing = np.zeros(self.video.size, np.bool_)
        waiting = list(pieces)
        opened: list[tuple[Piece, PieceReader]] = []
        source = self.video.frames(start, stop) if whole else self._blank(start, stop)
        with ExitStack() as readers, closing(prefetch(source)) as frames:
            for frame in frames:
                index = frame.index
                while waiting and waiting[0][0].start <= index:
                    piece, path = waiting.pop(0)
                    opened.append((piece, readers.enter_context(PieceReader(path))))
                while opened and opened[0][0].filled.stop <= index:
                    opened.pop(0)[1].close()
                here = [(p, r.get(index)) for p, r in opened if index in p.filled]
                if not here or here[-1][1] is None:
                    yield frame, nothing
                    continue
                main = here[-1][1]
                image = frame.image.copy()
                main.paste(image)
                for piece, fading in here[:-1]:
                    if fading is not None:
                        share = (index - piece.stop + 1) / (piece.tail + 1)
                        fading.paste(image, 1 - share)
                hole = nothing.copy()
                h, w = main.origin.shape
                part = np.s_[main.top : main.top + h, main.left : main.left + w]
                hole[part] = main.origin > 0
                self.counts.frames_with_hole += 1
                self.counts.seen += int((main.origin == Origin.SEEN).sum())
                self.counts.invented += int((main.origin == Origin.INVENTED).sum())
                yield replace(frame, image=image), hole

    def _blank(self, start: int, stop: int) -> Generator[Frame]:
        size = (*self.video.size, 3)
        for index in range(start, stop):
            image = np.zeros(size, np.uint8)
            yield Frame(image, index, self.video.pts[index], self.video.time_base)


class _Pass:
    """One pass of the tracker as it was kept, one stretch at a time in memory."""

    def __init__(self, run: _Run, way: Way, whole: range) -> None:
        self._run, self._way, self._whole = run, way, whole
        self._stretches = list(_stretches(whole, run.job.sizes.stretch_frames))
        self._number = -1
        self._store: MaskStore | None = None

    def get(self, index: int) -> tuple[LabelMap, dict[int, float]] | None:
        """The label map and the confidences of a frame; None: the pass did not come there."""
        if index not in self._whole:
            return None
        number = self._whole.index(index) // self._run.job.sizes.stretch_frames
        if self._store is None or number != self._number:
            self.close()
            folder = self._run._stretch_folder(self._way, self._stretches[number])
            self._store, self._number = MaskStore(folder), number
        labels = self._store.get(index)
        assert labels is not None
        return labels, self._store.confidence(index)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def _best_seen(tracked: _Pass, window: range) -> int:
    """The earliest frame of a window in which all its objects are seen about as well as ever.

    How well is told by the area of an object, as a share of its largest in the window, times the
    tracker's confidence, for the object that fares worst. Without any object, the last frame.
    """
    areas: dict[int, dict[int, float]] = {}  # object -> frame -> area that can be trusted
    for index in window:
        found = tracked.get(index)
        assert found is not None
        labels, confidence = found
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            if label:
                trust = confidence.get(int(label), 1.0)
                areas.setdefault(int(label), {})[index] = float(count) * trust
    if not areas:
        return window[-1]
    most = {label: max(seen.values()) or 1.0 for label, seen in areas.items()}
    score = {
        index: min(seen.get(index, 0.0) / most[label] for label, seen in areas.items())
        for index in window
    }
    best = max(score.values())
    return next(index for index in window if score[index] >= 0.8 * best)


def _stretches(whole: range, length: int) -> Iterator[range]:
    for at in range(0, len(whole), length):
        yield whole[at : at + length]


def _nothing(index: int) -> Frame:
    from fractions import Fraction

    return Frame(np.zeros((1, 1, 3), np.uint8), index, 0, Fraction(1))


def _is_there(target: Path) -> bool:
    return target.is_file() or (target.is_dir() and any(target.iterdir()))


def _publish(made: Path, target: Path) -> None:
    """Put a finished file, or folder of pictures, in its place, whole."""
    beside = target.with_name(f".inpainterz-{secrets.token_hex(8)}{target.suffix[:8]}")
    filled = target.is_dir() and _is_there(target)
    try:
        if filled:
            target.rename(beside)
        made.replace(target)
    except OSError:  # another file system: moved beside it first
        if filled:
            beside.rename(target)
        shutil.move(made, beside)
        if filled:
            shutil.rmtree(target)
        beside.replace(target)
    else:
        shutil.rmtree(beside, ignore_errors=True)
