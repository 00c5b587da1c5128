"""A pass of the tracker through the clip, one way, kept in stretches.

Each stretch of `STRETCH_FRAMES` is begun from the stored mask before it and from the prompts: so
what a killed run had followed is not followed again, and comes out the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import cv2
import numpy as np

from inpainterz.jobs.memory import release
from inpainterz.jobs.run_engines import RunEngines
from inpainterz.jobs.scope import Scope
from inpainterz.masks import MaskStore
from inpainterz.overlap import prefetch
from inpainterz.types import Frame, LabelMap, Step, Tracked
from inpainterz.video.shots import mark

Way: TypeAlias = Literal["forward", "backward"]

LEAD_FRAMES = 100
"""How far back a stretch may begin to be followed, to know what has just left the picture."""


class Pass:
    """One pass: followed where it is not yet, then read, one stretch at a time in memory."""

    def __init__(
        self,
        scope: Scope,
        engines: RunEngines,
        labels: Mapping[int, LabelMap],
        cuts: tuple[int, ...],
        way: Way,
        whole: range,
    ) -> None:
        """Do nothing yet.

        Args:
            scope: where it is kept.
            engines: the tracker follows.
            labels: by frame, what was shown; the first of `whole` is among them.
            cuts: where shots begin.
            way: in which direction.
            whole: its frames, in the order of following.
        """
        self._scope, self._engines, self._video = scope, engines, scope.video
        self._labels, self._cuts, self._way, self._whole = labels, cuts, way, whole
        length = scope.sizes.stretch_frames
        self._stretches = [whole[at : at + length] for at in range(0, len(whole), length)]
        self._number = -1
        self._store: MaskStore | None = None

    def __len__(self) -> int:
        return len(self._whole)

    def track(self, done: int, total: int) -> int:
        """Follow through what is not followed yet.

        Args:
            done, total: frames of all passes, for the progress.

        Returns:
            the frames that are done then.
        """
        for stretch in self._stretches:
            done = self._track(stretch, done, total)
        return done

    def _folder(self, stretch: range) -> Path:
        return self._scope.folder / "track" / f"{self._way}-{stretch[0]:06d}"

    def _track(self, stretch: range, done: int, total: int) -> int:
        """Follow through one stretch of a pass, unless that is done; frames done by then."""
        folder = self._folder(stretch)
        if folder.is_dir():
            self._scope.progress(Step("track", done + len(stretch), total))
            return done + len(stretch)
        part = folder.with_name(folder.name + ".part")

        def work() -> None:
            shutil.rmtree(part, ignore_errors=True)
            cv2.setRNGSeed(0)
            with MaskStore(part) as store, closing(self._tracked(stretch)) as tracked:
                for count, item in enumerate(tracked, 1):
                    store.put(item.frame.index, item.labels, item.confidence)
                    self._scope.progress(Step("track", done + count, total))
                    if count % 16 == 0:
                        self._engines.watch("track")

        self._engines.within_memory("track", work)
        part.rename(folder)
        release()  # what threads freed in pieces would add up over a long clip
        return done + len(stretch)

    def _tracked(self, stretch: range) -> Generator[Tracked]:
        """One stretch of a pass, begun from the stored mask before it and from the prompts."""
        taught: list[Frame] = []
        shown, first = dict(self._labels), stretch[0]
        if stretch[0] != self._whole[0]:
            taught, shown, first = self._lead(stretch)
        if self._way == "forward":
            frames = self._video.frames(first, stretch[-1] + 1)
        else:
            frames = self._video.backwards(first, stretch[-1])

        def stream(taken: Iterator[Frame]) -> Iterator[Frame]:
            yield from taught
            yield from mark(taken, self._cuts)

        lead = len(taught) + abs(stretch[0] - first)
        with closing(prefetch(frames)) as taken:
            tracker = self._engines.engine("track")
            for count, tracked in enumerate(tracker.track(stream(taken), shown)):
                if count >= lead:
                    yield tracked

    def _lead(self, stretch: range) -> tuple[list[Frame], dict[int, LabelMap], int]:
        """What a tracker is shown before a stretch, as it remembers nothing.

        The prompts come first, in shots of their own: they say what things look like, not where
        they are. Then up to `LEAD_FRAMES` before the stretch are followed once more, from a frame
        that shows the objects well: so the tracker knows them, and what has just left the picture
        is known to have left it. What was lost before that stays lost, unless it is recognised.

        Returns:
            the prompts' frames; the label maps of these and of all that follows; and the frame
            from which on the clip itself is followed.
        """
        labels = self._labels
        at = self._whole.index(stretch[0])
        earlier = [i for i in self._whole[:at] if i in labels]
        newest = {int(k): i for i in earlier for k in np.unique(labels[i]) if k}
        with closing(self):
            first = _best_seen(self, self._whole[max(0, at - LEAD_FRAMES) : at])
            found = self.get(first)
            assert found is not None
            seed = found[0]
        followed = range(first, stretch[-1] + stretch.step, stretch.step)
        shown = {i: m for i, m in labels.items() if i in followed}
        taught = []
        for place, index in enumerate(i for i in earlier if i in newest.values()):
            if index not in followed:
                taught.append(replace(self._video.frame(index), shot=-1 - place))
                shown[index] = labels[index]
        if seed.any():
            shown[first] = seed
        return taught, shown, first

    def get(self, index: int) -> tuple[LabelMap, dict[int, float]] | None:
        """The label map and the confidences of a frame; None: the pass did not come there."""
        if index not in self._whole:
            return None
        number = self._whole.index(index) // self._scope.sizes.stretch_frames
        if self._store is None or number != self._number:
            self.close()
            folder = self._folder(self._stretches[number])
            self._store, self._number = MaskStore(folder), number
        labels = self._store.get(index)
        assert labels is not None
        return labels, self._store.confidence(index)

    def close(self) -> None:
        """Close what was opened to read; the pass can be read again."""
        if self._store is not None:
            self._store.close()
            self._store = None


def _best_seen(tracked: Pass, window: range) -> int:
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
