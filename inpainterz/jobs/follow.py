"""The masks of a job: outlined, followed both ways, and merged; or those that were given."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from inpainterz import pipeline
from inpainterz.errors import PromptError
from inpainterz.jobs.folder import read_json, read_labels, write_json
from inpainterz.jobs.memory import release
from inpainterz.jobs.passes import Pass
from inpainterz.jobs.run_engines import RunEngines
from inpainterz.jobs.scope import Scope
from inpainterz.masks import MaskStore, chosen, doubtful_frames, encode_labels
from inpainterz.types import Frame, LabelMap, Tracked
from inpainterz.video.targets import write_whole


@dataclass(slots=True)
class Followed:
    """What tracking, or given masks, came to."""

    objects: tuple[int, ...]
    marked: list[tuple[int, int]]
    """Runs of frames with something to remove, [start, stop)."""
    doubtful: tuple[int, ...]


def follow(
    scope: Scope,
    engines: RunEngines,
    clock: pipeline.Clock,
    cuts: tuple[int, ...],
    known: tuple[int, int],
) -> Followed:
    """Fill `masks/` of a scope, unless that is done; what it came to.

    Args:
        scope: what is worked on.
        engines: the segmenter outlines, the tracker follows.
        clock: told when tracking begins.
        cuts: where shots begin.
        known: the frames whose masks must be known, [start, stop).
    """
    path, masks, order = scope.folder / "followed.json", scope.folder / "masks", scope.order
    if path.is_file():
        data = read_json(path)
        runs = [(int(a), int(b)) for a, b in data["marked"]]
        return Followed(tuple(data["objects"]), runs, tuple(data["doubtful"]))
    shutil.rmtree(masks, ignore_errors=True)
    removed = order.options.fill.objects
    if order.masks is not None:
        with MaskStore(masks) as store:
            store.take(order.masks, len(scope.video), scope.video.size)
            found = _look_through(((i, m, {}) for i, m in store.items()), removed)
    else:
        labels = _outline(scope, engines, cuts)
        clock.start("track")
        first, last = min(labels), max(labels)
        passes = [Pass(scope, engines, labels, cuts, "forward", range(first, known[1]))]
        if last > known[0]:
            backward = range(last, known[0] - 1, -1)
            passes.append(Pass(scope, engines, labels, cuts, "backward", backward))
        total, done = sum(map(len, passes)), 0
        for each in passes:
            done = each.track(done, total)
        engines.drop("track")
        with MaskStore(masks) as store:
            found = _look_through(_merge(store, passes, known, _shown(labels)), removed)
    if order.masks is not None and not found.marked:
        raise PromptError("the masks mark nothing", "A mask pixel above 0 is a pixel to fill")
    write_json(
        path,
        {"objects": found.objects, "marked": found.marked, "doubtful": found.doubtful},
    )
    shutil.rmtree(scope.folder / "track", ignore_errors=True)
    release()
    return found


def _outline(scope: Scope, engines: RunEngines, cuts: tuple[int, ...]) -> dict[int, LabelMap]:
    """The label maps that tracking begins from."""
    folder = scope.folder / "labels"
    if folder.is_dir():
        return read_labels(folder)
    given = {index: shown.copy() for index, shown in scope.order.labels.items()}
    if scope.order.prompts:
        found = pipeline.outline(
            scope.video,
            scope.order.prompts,
            engines.engine("segment"),
            cuts=cuts,
            progress=scope.progress,
        )
        for index, labels in found.items():
            under = given.setdefault(index, np.zeros_like(labels))
            under[labels > 0] = labels[labels > 0]
    engines.drop("segment")
    for index, labels in given.items():
        if not labels.any():
            raise PromptError(f"the mask of frame {index} is empty", "Mark at least one pixel")
    part = scope.folder / "labels.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for index, labels in given.items():
        write_whole(part / f"{index:06d}.png", encode_labels(labels))
    part.rename(folder)
    return given


def _shown(labels: Mapping[int, LabelMap]) -> dict[int, list[int]]:
    """Object -> the frames in which it was shown, ascending."""
    shown: dict[int, list[int]] = {}
    for index in sorted(labels):
        for label in np.unique(labels[index][labels[index] > 0]):
            shown.setdefault(int(label), []).append(index)
    return shown


def _merge(
    store: MaskStore,
    passes: Sequence[Pass],
    known: tuple[int, int],
    shown: Mapping[int, Sequence[int]],
) -> Iterator[tuple[int, LabelMap, Mapping[int, float]]]:
    """Put what the passes found into `store`, frame by frame, with confidences out."""
    with ExitStack() as opened:
        for each in passes:
            opened.enter_context(closing(each))
        for index in range(*known):
            there = [f for f in (p.get(index) for p in passes) if f is not None]
            labels, confidence = there[0]
            if len(there) > 1:
                back = Tracked(_nothing(index), *there[1])
                merged = pipeline.merge(back, labels, confidence, shown)
                labels, confidence = merged.labels, dict(merged.confidence)
            store.put(index, labels)
            yield index, labels, confidence


def _nothing(index: int) -> Frame:
    return Frame(np.zeros((1, 1, 3), np.uint8), index, 0, Fraction(1))


def _look_through(
    rows: Iterator[tuple[int, LabelMap, Mapping[int, float]]], removed: frozenset[int] | None
) -> Followed:
    """What masks come to; frame by frame, as their confidences would grow with the clip."""
    objects: set[int] = set()
    marked: list[tuple[int, int]] = []

    def seen() -> Iterator[tuple[int, LabelMap, Mapping[int, float]]]:
        for index, labels, confidence in rows:
            objects.update(int(k) for k in np.unique(labels) if k)
            if chosen(labels, removed).any():
                if marked and marked[-1][1] == index:
                    marked[-1] = marked[-1][0], index + 1
                else:
                    marked.append((index, index + 1))
            yield index, labels, confidence

    doubtful = tuple(doubtful_frames(seen()))
    return Followed(tuple(sorted(objects)), marked, doubtful)
