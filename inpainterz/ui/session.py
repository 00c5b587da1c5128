"""Session: what one user has done with one clip so far, and the folder that holds its files.

Plain data: no open file, no generator, no component. A handler takes a session and gives it back;
closing it deletes the folder with everything in it. A browser tab holds only the session's id:
reloading or closing it changes nothing here.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from inpainterz.engines import Embedding, Stage
from inpainterz.errors import InputError
from inpainterz.masks import MaskStore, decode_labels
from inpainterz.pipeline import FillOptions
from inpainterz.segment.cache import EmbeddingCache
from inpainterz.types import LabelMap, Mask, Prompt, Segmentation
from inpainterz.ui.work import Job, Stopped, Work
from inpainterz.who import Item

Kind: TypeAlias = Literal["add", "exclude", "box", "brush", "erase", "mask"]
Phase: TypeAlias = Literal["clip", "select", "result"]
PAINTED: tuple[Kind, ...] = ("brush", "erase", "mask")
"""Marks that are pixels themselves: no segmenter could say them again."""

MOST_OBJECTS = 8
"""How many objects one tab may mark: each has a colour of its own."""

MOST_MARKS = 500
"""How many clicks are kept for undo."""

MOST_LETTERS = 40
"""How long the name of an object may be."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The clip of a tab."""

    path: Path
    name: str
    """What the user calls it; never used as a path."""
    width: int
    height: int
    frames: int
    fps: Fraction | None
    duration: float
    """Seconds."""
    sound: bool
    codec: str
    plays: bool
    """Whether a browser can play the file as it is."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One click or box of the user, with what it changed."""

    frame: int
    label: int
    kind: Kind
    at: tuple[float, ...]
    """x, y of a click, x0, y0, x1, y1 of a box, in source pixels; empty for what is painted."""
    before: bytes | None
    """The object's packed mask in this frame before; None = there was none."""
    after: bytes
    """And after."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished removal; all files lie in the session's folder."""

    clean: Path
    masks: Path
    overlay: Path
    """The source with what was removed tinted."""
    origin_view: Path
    """The clean clip with what other frames show tinted in one colour, what was invented in
    another."""
    report: Path
    project: Path
    before_view: Path
    """What the browser plays: the source, or a copy that it can play."""
    after_view: Path
    frames_with_hole: int
    ghost_frames: tuple[int, ...]
    """Where more of an object moves than its mask covered."""
    frames_reused: int
    """Of these, how many were taken over from previews."""
    seen_px: int
    invented_px: int
    seconds: float
    not_carried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """Two seconds that were filled to look at."""

    engine: str
    start: int
    stop: int
    view: Path


@dataclass(frozen=True, slots=True)
class Kept:
    """What an engine filled for a preview, before its rims were softened."""

    engine: str
    """Which one, and with what options."""
    pieces: Path
    """See `inpainterz.jobs.pieces`."""


@dataclass(slots=True)
class Settings:
    """What the user chose in the settings; nobody has to."""

    fill: FillOptions = field(default_factory=FillOptions)
    """What becomes of the masks; which objects is not said here."""
    crf: int | None = None
    """Of the clean clip; None = the codec's default."""
    part: tuple[int, int] | None = None
    """First and last frame that may change; None = all."""
    memory_limit_mb: int | None = None
    """MiB that following and filling may take; None = what the engines are made for."""
    engines: dict[Stage, str] = field(default_factory=dict)
    """Stage -> engine, where another than the page's own was chosen."""


@dataclass(slots=True, eq=False)
class Session:
    """One clip of one user. Handlers change it in place and return it."""

    folder: Path
    owner: str = ""
    """Who it is shown to; "" = whoever knows its id."""
    asker: str = ""
    """Whom it counts for where there are limits."""
    touched: float = 0.0
    """Of `time.monotonic`, when its owner was last heard of."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while a handler changes it."""
    closed: bool = False
    """Its folder is deleted; whoever still works on it may find nothing there."""
    phase: Phase = "clip"
    clip: Clip | None = None
    frame: int = 0
    label: int = 1
    """The object that clicks go to."""
    labels: list[int] = field(default_factory=lambda: [1])
    """Object ids in the order of their making."""
    names: dict[int, str] = field(default_factory=dict)
    """What the user calls an object, where it was given a name."""
    hidden: set[int] = field(default_factory=set)
    """Objects whose tint is not shown; they are removed all the same."""
    marks: list[Mark] = field(default_factory=list)
    undone: list[Mark] = field(default_factory=list)
    answers: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """(frame, object) -> packed mask, for frames that the user clicked in."""
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)
    """What segmenters found in frames; shared by all sessions, by their ids."""
    refining: dict[int, Segmentation] = field(default_factory=dict)
    """Object -> the segmenter's last answer in the frame and of the engine of `refining_in`."""
    refining_in: tuple[int, str] = (-1, "")
    cuts: tuple[int, ...] | None = None
    followed: dict[tuple[int, int], bytes] | None = None
    """The answers that `masks` was made from; None before anything was followed."""
    doubtful: tuple[int, ...] = ()
    trust: list[int] = field(default_factory=list)
    """Of each frame, how far its least certain mask is trusted, 0..100; -1 = not known."""
    masks_made: int = 0
    """Counts how often the followed masks changed."""
    trials: tuple[Trial, ...] = ()
    """The last two, of two engines, on the same frames."""
    kept: tuple[Kept, ...] = ()
    """What previews filled, for the whole clip to take over where nothing was changed since."""
    found: tuple[Item, ...] = ()
    """What a search found, to choose from."""
    looked_for: str = ""
    """What was searched; "" before the first search."""
    settings: Settings = field(default_factory=Settings)
    result: Result | None = None
    job: Job | None = None
    notice: str = ""
    """A sentence about what went wrong last."""
    handled: int = 0
    """Counts the clicks that were answered, also with a refusal."""
    serial: int = 0
    """Counts what was shown: the page never lets an older answer replace a newer one."""

    @classmethod
    def create(
        cls, root: Path, owner: str = "", *, embeddings: EmbeddingCache | None = None
    ) -> Session:
        """A session with an empty folder of its own under `root`, readable by this process only.

        Args:
            root: of all sessions.
            owner: see `owner`.
            embeddings: one for all sessions, so that together they stay within its limit.
        """
        folder = root / f"tab-{secrets.token_hex(16)}"
        folder.mkdir(mode=0o700, parents=True)
        made = cls(folder, owner, owner, time.monotonic())
        if embeddings is not None:
            made.embeddings = embeddings
        return made

    @property
    def id(self) -> str:
        """128 random bits in hex."""
        return self.folder.name.removeprefix("tab-")

    def close(self) -> None:
        """Stop what runs and delete the folder."""
        self.closed = True
        if self.job is not None:
            self.job.stop = True
        self.forget_embeddings()
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget_clip(self) -> None:
        """Back to an empty tab; the clip and all that was made of it are deleted."""
        self.forget_embeddings()
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        fresh = Session(self.folder)
        for name in Session.__slots__:
            if name not in _KEPT:
                setattr(self, name, getattr(fresh, name))
        self.settings.part = None

    def embedding(self, frame: int, engine: str) -> Embedding | None:
        """An engine's view of a frame; None: it has to look at it."""
        return self.embeddings.get(self.id, frame, engine)

    def keep_embedding(self, frame: int, engine: str, embedding: Embedding) -> None:
        """Keep an engine's view of a frame, as long as there is room."""
        if not self.closed:
            self.embeddings.put(self.id, frame, engine, embedding)

    def forget_embeddings(self) -> None:
        """Drop all views of frames of the clip."""
        self.embeddings.forget(self.id)
        self.refining.clear()

    def need_clip(self) -> Clip:
        """The clip. Raises InputError: there is none yet."""
        if self.clip is None:
            raise InputError("there is no clip yet", "Choose one first")
        return self.clip

    def need_idle(self) -> None:
        """Raises InputError while something runs."""
        if self.job is not None:
            raise InputError("something is still running", "Wait until it is done, or cancel it")

    @contextmanager
    def working(self, job: Job | None, work: Work) -> Iterator[Job]:
        """Hold the session for long work; when it is told to stop, the block just ends.

        Args:
            job: the one that waited for its turn; None: a new one.
            work: its first part.

        Raises:
            InputError: something else is still running.
        """
        if job is None or self.job is not job:
            self.need_idle()
            job = self.job = Job(work)
        job.begin(work, None)
        self.notice = ""
        try:
            yield job
        except Stopped:
            self.notice = ""
        finally:
            if not job.more and self.job is job:  # else it was the first part of more
                self.job = None

    def cancel(self) -> None:
        """Tell the running job to stop; it does so after the frame that it is at."""
        if self.job is not None:
            self.job.stop = True

    @property
    def tracked(self) -> bool:
        """Whether the objects were followed through the clip."""
        return self.followed is not None

    @property
    def stale(self) -> bool:
        """Whether the selection changed since it was followed."""
        return self.followed is not None and self.followed != self.answers

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the clip."""
        return (0, 0) if self.clip is None else (self.clip.height, self.clip.width)

    @property
    def film_copy(self) -> Path:
        """Where the copy of a clip is that browsers do not play as it is, once it is made."""
        return self.folder / "source-view.mp4"

    def film(self) -> Path | None:
        """What browsers play of the clip: itself, or its copy; None: that has to be made.

        Raises:
            InputError: there is no clip.
        """
        clip = self.need_clip()
        if clip.plays:
            return clip.path
        return self.film_copy if self.film_copy.is_file() else None

    def masks(self) -> MaskStore:
        """The tracked label maps.

        Raises:
            InputError: the session is closed.
        """
        if self.closed:  # a store would make its folder anew
            raise InputError("the clip is deleted", "Start again")
        return MaskStore(self.folder / "masks")

    def answer(self, frame: int, label: int) -> Mask | None:
        """What the user's clicks on an object in a frame gave, (H, W); None without clicks."""
        packed = self.answers.get((frame, label))
        return None if packed is None else unpack(packed, self.size)

    def prompted(self) -> list[int]:
        """The frames that have a non-empty answer, ascending."""
        found = {frame for (frame, _), packed in self.answers.items() if packed != _EMPTY}
        return sorted(found)

    def shown(self) -> dict[int, LabelMap]:
        """Frame -> label map of what the user showed there, as `propagate` takes it."""
        maps: dict[int, LabelMap] = {}
        for frame in self.prompted():
            labels = np.zeros(self.size, np.uint8)
            for label in self.labels:
                mask = self.answer(frame, label)
                if mask is not None:
                    labels[mask] = label
            if labels.any():
                maps[frame] = labels
        return maps

    def view(self, frame: int) -> LabelMap:
        """The objects of a frame as they are known now, (H, W): tracked, then what was shown."""
        labels = None
        if self.tracked:
            labels = self.masks().get(frame)
        if labels is None:
            labels = np.zeros(self.size, np.uint8)
        else:
            labels[~np.isin(labels, self.labels)] = 0
        for label in self.labels:
            mask = self.answer(frame, label)
            if mask is not None:
                labels[labels == label] = 0
                labels[mask] = label
        return labels

    def newest(self, frame: int) -> LabelMap | None:
        """The label map (H, W) of a frame that is being followed just now; None: not yet."""
        path = self.folder / "masks.new" / f"{frame:06d}.png"
        try:
            return decode_labels(path.read_bytes())
        except OSError:
            return None

    def prompt(self, frame: int, label: int) -> Prompt:
        """All that the user showed a segmenter of an object in a frame."""
        on: list[tuple[float, float]] = []
        off: list[tuple[float, float]] = []
        box: tuple[float, float, float, float] | None = None
        for mark in self.marks:
            if (mark.frame, mark.label) != (frame, label) or mark.kind in PAINTED:
                continue
            if mark.kind == "box":
                x0, y0, x1, y1 = mark.at
                box = x0, y0, x1, y1
            else:
                x, y = mark.at
                (on if mark.kind == "add" else off).append((x, y))
        return Prompt.of(*on, off=tuple(off), box=box)

    def marked(self) -> Mapping[int, int]:
        """Object -> how many frames the user showed it in."""
        counts = dict.fromkeys(self.labels, 0)
        for (_, label), packed in self.answers.items():
            if packed != _EMPTY:
                counts[label] += 1
        return counts

    def put_answer(self, frame: int, label: int, packed: bytes | None) -> None:
        """Set or, with None, forget an answer; a result made from another one is void."""
        if packed is None:
            self.answers.pop((frame, label), None)
        else:
            self.answers[frame, label] = packed
        self.result, self.trials = None, ()


Steps: TypeAlias = Generator[Session]
"""Long work: yields the session between two frames, and frees everything when it is closed."""

_KEPT = frozenset(
    ["serial", "handled", "owner", "asker", "touched", "lock", "closed", "settings", "embeddings"],
)
"""What stays when a clip is forgotten."""

_EMPTY = b""
"""The packed form of a mask without a pixel."""


def pack(mask: Mask) -> bytes:
    """A mask (H, W) in few bytes; `unpack` gives it back."""
    return zlib.compress(np.packbits(mask).tobytes(), 1) if mask.any() else _EMPTY


def unpack(packed: bytes, size: tuple[int, int]) -> Mask:
    """The mask of `size` (height, width) that was packed."""
    count = size[0] * size[1]
    if packed == _EMPTY:
        return np.zeros(size, np.bool_)
    bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    return np.unpackbits(bits, count=count).astype(np.bool_).reshape(size)
