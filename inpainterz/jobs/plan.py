"""What a job will take, said before it starts; and engine options that fit a memory limit.

Memory follows from facts: what each engine was measured to hold, as a sum of a base, a share for
each megapixel of the frame, and what its options allow it to keep (`benchmarks/README.md` has the
figures and the command). Where an engine's memory was not measured, the plan says so. Time is a
rough figure from the same measurements, or, with `measure=True`, what the first frames of the very
clip take on this machine.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inpainterz import pipeline
from inpainterz.device import pick
from inpainterz.engines import Stage, find
from inpainterz.inpaint import builtin
from inpainterz.jobs.memory import lower
from inpainterz.jobs.order import EngineChoice, Order, options_of
from inpainterz.masks import MaskStore, auto_grow_px, chosen, grow
from inpainterz.types import JSON, LabelMap
from inpainterz.video.reader import VideoReader

BASE_MIB = 120
"""The process before any frame: interpreter, codecs, OpenCV, SciPy."""

PROBE_SECONDS = 8.0
"""How long each stage may be tried out."""

PROBE_FRAMES = 24

WRITE_MIB_PER_MP = 255.0
"""Of x264 and the queues, for each megapixel of the frame; other encoders may take more."""

MASK_BYTES_PER_PIXEL = 0.02
"""Of a label map on disk."""

PATCH_BYTES_PER_PIXEL = 2.0
"""Of a filled pixel on disk."""

MOST_LOOKED_AT = 8.0
"""Megapixels of a window of E2FGVI up to which its memory is known."""

HOLE_SHARE = 0.1
"""Of the frame that is filled, while nobody knows."""


def _window(options: Any, megapixels: float) -> float:
    """MiB of the frames that the built-in inpainter keeps to borrow from."""
    frames = int(options.lookahead_frames) + int(options.reach_frames) + 1
    small = min(megapixels, float(options.motion_side_px) ** 2 * 0.56 / 1e6)
    return min(float(options.memory_mb), frames * (5 * megapixels + 28 * small))


def _seen(megapixels: float, max_side_px: int) -> float:
    """Megapixels of a frame that a network looks at, its longer side at most so long."""
    return min(megapixels, 0.5625e-6 * max_side_px**2) if max_side_px else megapixels


def _deaot(options: Any, megapixels: float, hole: float) -> float | None:
    """MiB of R50-DeAOT-L in fp32: torch and weights, a frame's features, the remembered ones."""
    if not options.memory_frames or options.precision not in ("auto", "fp32"):
        return None  # it grows with the clip, or was not measured
    each = 757 + 40 * (int(options.memory_frames) + 1)
    return 532 + 25 * megapixels + each * _seen(megapixels, int(options.max_side_px))


def _builtin_fill(options: Any, megapixels: float, hole: float) -> float:
    # the process that looks ahead has its own Python and OpenCV
    return 140 + 45 * megapixels + 1200 * hole + 1.08 * _window(options, megapixels)


def _e2fgvi(options: Any, megapixels: float, hole: float) -> float | None:
    """MiB of E2FGVI in fp32 should it look at whole frames, which it does for large holes only."""
    if options.compat or options.precision not in ("auto", "fp32"):
        return None
    frames = int(options.window_frames) + int(options.references)
    looked_at = frames * _seen(megapixels, int(options.max_side_px))
    if looked_at > MOST_LOOKED_AT:
        return None
    first = _builtin_fill(builtin.Options(), megapixels, hole) if options.hybrid else 0.0
    return 330 + 1095 * math.sqrt(looked_at) + first


def _sam(mib: float) -> Cost:
    """MiB of a SAM in fp32; it scales all frames to one size."""
    return lambda options, mp, hole: mib if options.precision in ("auto", "fp32") else None


Cost = Callable[[Any, float, float], float | None]
"""From an engine's options, the frame's and its hole's megapixels to MiB beyond `BASE_MIB`; None
where it was not measured with such options."""

MEMORY: Mapping[tuple[Stage, str], Cost] = {
    ("segment", "builtin"): lambda options, mp, hole: 60 + 45 * mp,
    ("track", "builtin"): lambda options, mp, hole: 50 + 25 * mp,
    ("track", "deaot"): _deaot,
    ("segment", "sam-b"): _sam(1355),
    ("segment", "sam-l"): _sam(2285),
    ("segment", "sam-h"): _sam(3665),
    ("inpaint", "builtin"): _builtin_fill,
    ("inpaint", "e2fgvi-hq"): _e2fgvi,
}
"""Engines whose memory was measured; networks on the CPU."""

SECONDS: Mapping[tuple[Stage, str], Callable[[float], float]] = {
    ("track", "builtin"): lambda mp: 0.15 + 0.02 * mp,
    ("inpaint", "builtin"): lambda mp: 0.4 + 1.2 * mp,
}
"""Seconds for a frame of so many megapixels, two cores, a hole of `HOLE_SHARE` of the frame."""

WRITE_SECONDS_PER_MP = 0.03


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage will take."""

    name: str
    engine: str
    memory_mb: int | None
    """MiB of the whole process at its peak; None = was not measured for this engine."""
    seconds: float | None
    """None = not known before a frame is done."""

    def time_text(self) -> str:
        return "not known" if self.seconds is None else _duration(self.seconds)

    def memory_text(self) -> str:
        return "not known" if self.memory_mb is None else f"{self.memory_mb} MiB"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job will take; see the module on how far it can be trusted."""

    frames: int
    """That may change."""
    stages: tuple[StagePlan, ...]
    disk_mb: int
    """Beside the target while the job runs, with the result."""
    engines: EngineChoice
    """Those of the order, with options that fit its memory limit."""
    measured: bool
    """Whether the times were measured on this clip and machine."""
    fitted: str = ""
    """What was changed to fit the memory limit."""
    notes: tuple[str, ...] = field(default=())
    """That, and what does not fit, a sentence each."""

    @property
    def memory_mb(self) -> int:
        """MiB of the largest stage that is known."""
        return max((s.memory_mb for s in self.stages if s.memory_mb is not None), default=0)

    @property
    def seconds(self) -> float | None:
        """Of all stages; None where one is not known."""
        known = [s.seconds for s in self.stages if s.seconds is not None]
        return sum(known) if len(known) == len(self.stages) else None

    def sentence(self) -> str:
        """All of it in one line."""
        unknown = [s.engine for s in self.stages if s.memory_mb is None]
        memory = f"{self.memory_mb} MiB of memory"
        if unknown:
            memory = f"at least {memory} (what {unknown[0]} takes was not measured)"
        if self.seconds is None:
            duration = "a time that shows when it runs"
        else:
            how = "" if self.measured else ", roughly"
            duration = f"{_duration(self.seconds)}{how}"
        return f"{self.frames} frames: about {memory}, {self.disk_mb} MiB on disk, {duration}"

    def as_json(self) -> JSON:
        """Plain data for `json.dumps`."""
        return {
            "frames": self.frames,
            "memory_mb": self.memory_mb,
            "disk_mb": self.disk_mb,
            "seconds": self.seconds,
            "measured": self.measured,
            "stages": [
                {
                    "name": s.name,
                    "engine": s.engine,
                    "memory_mb": s.memory_mb,
                    "seconds": s.seconds,
                }
                for s in self.stages
            ],
            "engines": self.engines.as_json(),
            "notes": list(self.notes),
        }


def make_plan(order: Order, *, measure: bool = False) -> Plan:
    """Say what an order will take, and fit its engines to its memory limit.

    Args:
        order: what is to be done.
        measure: try tracking and filling on the clip's first prompted frames, some seconds each;
            loads the engines.

    Raises:
        InputError, VideoError, EngineError: as the job would.
    """
    with VideoReader(order.source, limits=order.options.limits) as video:
        megapixels = video.width * video.height / 1e6
        trial = _Trial()
        if measure and order.masks is None:
            trial = _try(video, order)
        share = trial.hole_share or HOLE_SHARE
        engines, changed, notes = _fit(order.engines, megapixels, share, order)
        start, stop = order.part or (0, len(video))
        if order.masks is not None:
            tracked = 0
        else:
            shown = [*order.prompts, *order.labels] or [0]
            first, last = min(shown), max(shown)
            end, low = max(stop, last + 1), min(start, first)
            tracked = end - first + (last + 1 - low if last > low else 0)
        counts: dict[Stage, tuple[str, int]] = {
            "segment": ("outline", len(order.prompts)),
            "track": ("follow", tracked),
            "inpaint": ("fill", stop - start),
        }
        stages = [
            StagePlan(
                name,
                engines.names[stage],
                _memory(engines, stage, megapixels, share),
                _seconds(engines, stage, megapixels, count, trial, share),
            )
            for stage, (name, count) in counts.items()
            if count
        ]
        write = round(BASE_MIB + WRITE_MIB_PER_MP * megapixels)
        stages.append(
            StagePlan("write", "-", write, WRITE_SECONDS_PER_MP * megapixels * len(video))
        )
        pixels = video.width * video.height
        masks = 3 * MASK_BYTES_PER_PIXEL * pixels * (stop - start)
        patches = PATCH_BYTES_PER_PIXEL * share * pixels * (stop - start)
        disk = round((masks + patches + 1.5 * Path(order.source).stat().st_size) / 2**20) + 1
    limit = order.memory_limit_mb
    if limit is not None:
        for each in stages:
            if each.memory_mb is not None and each.memory_mb > limit:
                notes.append(
                    f"{each.name} needs about {each.memory_mb} MiB, more than the {limit} allowed, "
                    "and no option lowers it"
                )
    free = shutil.disk_usage(_existing(Path(order.target))).free >> 20
    if free < disk:
        notes.append(f"only {free} MiB are free where the result goes")
    fitted = f"to fit {limit} MiB: {', '.join(changed)}" if changed else ""
    if fitted:
        notes.insert(0, fitted)
    measured = bool(trial.seconds)
    return Plan(stop - start, tuple(stages), disk, engines, measured, fitted, tuple(notes))


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


def _memory(engines: EngineChoice, stage: Stage, megapixels: float, share: float) -> int | None:
    cost = MEMORY.get((stage, engines.names[stage]))
    if cost is None or _is_on_gpu(engines, stage):
        return None
    mib = cost(options_of(engines, stage), megapixels, share * megapixels)
    return None if mib is None else round(BASE_MIB + mib)


def _is_on_gpu(engines: EngineChoice, stage: Stage) -> bool:
    name = engines.names[stage]
    if find(stage, name).weights is None:
        return False
    return str(pick(engines.device, name)) != "cpu"


def _seconds(
    engines: EngineChoice, stage: Stage, megapixels: float, count: int, trial: _Trial, share: float
) -> float | None:
    if stage == "segment":
        return trial.seconds.get(stage, 2.0) * count
    if stage in trial.seconds:
        return trial.seconds[stage] * count
    cost = SECONDS.get((stage, engines.names[stage]))
    if cost is None:
        return None
    scale = share / HOLE_SHARE if stage == "inpaint" else 1.0
    return cost(megapixels) * scale * count


def _fit(
    engines: EngineChoice, megapixels: float, share: float, order: Order
) -> tuple[EngineChoice, list[str], list[str]]:
    """Lower options until every stage whose memory is known fits the limit, or nothing lowers.

    Returns:
        the engines, what was changed, and what else is to be said.
    """
    changed: list[str] = []
    notes: list[str] = []
    limit = order.memory_limit_mb
    if limit is None:
        return engines, changed, notes
    stages: tuple[Stage, ...] = ("track", "inpaint")
    for stage in stages:
        need = _memory(engines, stage, megapixels, share)
        if need is None:
            notes.append(
                f"what {engines.names[stage]} takes was not measured: it is watched, and lowered "
                "where it goes above the limit"
            )
            continue
        what = ""
        while need > limit:
            device = engines.device
            step = lower(stage, engines.names[stage], options_of(engines, stage), device)
            if step is None:
                break
            smaller = engines.with_options(stage, step[0], step[1])
            less = _memory(smaller, stage, megapixels, share)
            if less is None or less >= need:
                break
            engines, need, what = smaller, less, step[2]
        if what:
            changed.append(f"{stage} with {what.split(' instead')[0]}")
    return engines, changed, notes


@dataclass(slots=True)
class _Trial:
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage, for one frame."""
    hole_share: float | None = None


def _try(video: VideoReader, order: Order) -> _Trial:
    """Do the first frames, and see how long they take."""
    found = _Trial()
    labels: dict[int, LabelMap] = dict(order.labels)
    if order.prompts:
        began = time.perf_counter()
        index = min(order.prompts)
        made = pipeline.outline(video, {index: order.prompts[index]}, order.engines.load("segment"))
        labels |= made
        found.seconds["segment"] = time.perf_counter() - began
    first = min(labels)
    stop = min(len(video), first + PROBE_FRAMES)
    with MaskStore.temporary() as masks:
        tracker = order.engines.load("track")
        began, shares, last = time.perf_counter(), [], first
        shown = {i: m for i, m in labels.items() if i < stop}
        with closing(video.frames(first, stop)) as frames:
            for tracked in tracker.track(frames, shown):
                masks.put(tracked.frame.index, tracked.labels)
                mask = chosen(tracked.labels, order.options.fill.objects)
                px = order.options.fill.grow_px
                px = auto_grow_px(mask) if px is None else px
                shares.append(float(grow(mask, px).mean()))
                last = tracked.frame.index
                if time.perf_counter() - began > PROBE_SECONDS:
                    break
        count = last - first + 1
        found.seconds["track"] = (time.perf_counter() - began) / count
        found.hole_share = max(0.001, float(np.mean(shares)))
        del tracker
        inpainter = order.engines.load("inpaint")
        began, done = time.perf_counter(), 0
        with closing(
            pipeline.fill(
                video, masks, inpainter, options=order.options.fill, start=first, stop=last + 1
            )
        ) as filled:
            for _ in filled:
                done += 1
                if time.perf_counter() - began > PROBE_SECONDS:
                    break
        found.seconds["inpaint"] = (time.perf_counter() - began) / max(1, done)
    return found


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
