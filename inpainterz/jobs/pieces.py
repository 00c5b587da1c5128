"""Pieces: which stretches of a clip are filled on their own, and how the results are kept.

A piece is filled from its own frames and some around it, whatever was done before: so a run that
was killed and one that was not fill the same pieces with the same result. A shot that is not very
long is one piece, and nothing is borrowed across a cut, so most clips are filled as if there were
no pieces. Where a long shot is divided, the piece before is carried on for `BLEND_FRAMES` and
fades into the next one.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.errors import InputError, VideoEncodeError
from inpainterz.types import Image, Inpainted

PIECE_FRAMES = 600
"""A piece is at most this long: so much is lost, at most, when a run is killed."""

BLEND_FRAMES = 8
"""Over how many frames a piece fades into the next one of its shot."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of frames that is filled on its own."""

    start: int
    stop: int
    """One past its last frame."""
    tail: int
    """So many frames after `stop` are filled too, and fade out."""
    low: int
    high: int
    """Frames from `low` up to, not including, `high` are looked at."""

    @property
    def filled(self) -> range:
        return range(self.start, self.stop + self.tail)


def divide(
    marked: Sequence[tuple[int, int]],
    cuts: Sequence[int],
    whole: tuple[int, int],
    known: tuple[int, int],
    context: int,
    *,
    given: Iterable[tuple[int, int]] = (),
    length: int = PIECE_FRAMES,
    blend: int = BLEND_FRAMES,
) -> list[Piece]:
    """Divide what is to be filled into pieces.

    Args:
        marked: runs of frames that have something to remove, [start, stop), rising.
        cuts: first frames of the later shots, rising.
        whole: the frames that may change, [start, stop).
        known: the frames whose masks are known: no others may be looked at.
        context: how far around itself a piece looks.
        given: stretches that must be pieces of their own, [start, stop), apart from one another.
        length: no piece is longer, but a given one.
        blend: see `Piece.tail`.

    Returns:
        pieces that hold all marked frames of `whole`, rising.
    """
    pieces: list[Piece] = []
    bounds = [known[0], *(c for c in cuts if known[0] < c < known[1]), known[1]]
    for first, end in itertools.pairwise(bounds):
        for run in _joined(marked, max(first, whole[0]), min(end, whole[1]), 2 * context):
            edges = _edges(run, given, length)
            for start, stop in itertools.pairwise(edges):
                tail = min(blend, run[1] - stop)
                low, high = max(first, start - context), min(end, stop + tail + context)
                pieces.append(Piece(start, stop, tail, low, high))
    return pieces


def _joined(
    marked: Sequence[tuple[int, int]], first: int, end: int, gap: int
) -> Iterator[tuple[int, int]]:
    """The runs within [first, end); those that are less than `gap` apart are one."""
    held: tuple[int, int] | None = None
    for run in marked:
        start, stop = max(run[0], first), min(run[1], end)
        if start >= stop:
            continue
        if held is not None and start - held[1] <= gap:
            held = held[0], stop
            continue
        if held is not None:
            yield held
        held = start, stop
    if held is not None:
        yield held


def _edges(run: tuple[int, int], given: Iterable[tuple[int, int]], length: int) -> list[int]:
    """Where a run is divided, its ends included."""
    fixed = {run[0], run[1]}
    own = set()
    for start, stop in given:
        start, stop = max(start, run[0]), min(stop, run[1])
        if start < stop:
            fixed |= {start, stop}
            own.add(start)
    edges = [run[0]]
    ordered = sorted(fixed)
    for start, stop in itertools.pairwise(ordered):
        parts = 1 if start in own else -(-(stop - start) // length)
        edges += [start + (stop - start) * k // parts for k in range(1, parts + 1)]
    return edges


# ---------------------------------------------------------------- what is kept of a piece


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """The filled hole of one frame."""

    top: int
    left: int
    pixels: Image
    """(h, w, 3), right in the hole only."""
    origin: npt.NDArray[np.uint8]
    """(h, w) of `types.Origin`."""

    def paste(self, image: Image, weight: float = 1.0) -> None:
        """Put the hole into `image` (H, W, 3), in place; a weight below 1 mixes it in."""
        h, w = self.origin.shape
        under = image[self.top : self.top + h, self.left : self.left + w]
        hole = self.origin > 0
        if weight >= 1:
            under[hole] = self.pixels[hole]
            return
        mixed = under[hole] * np.float32(1 - weight) + self.pixels[hole] * np.float32(weight)
        under[hole] = np.rint(mixed).astype(np.uint8)


def patch_of(item: Inpainted) -> Patch | None:
    """What an inpainter changed in a frame; None: nothing."""
    if item.origin is None:
        return None
    rows, columns = (np.flatnonzero(item.origin.any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    origin = item.origin[part]
    pixels = np.where((origin > 0)[..., None], item.frame.image[part], 0).astype(np.uint8)
    return Patch(int(rows[0]), int(columns[0]), pixels, np.ascontiguousarray(origin))


class PieceWriter:
    """Keeps the patches of a piece in one file that is whole or not there. A context manager.

    The file is a zip: for each frame with a hole, `000123-TOP-LEFT.png` with the pixels, and
    `000123-origin.png`. PNG loses nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        self._bundle = zipfile.ZipFile(self._part, "w", zipfile.ZIP_STORED)

    def add(self, index: int, patch: Patch) -> None:
        """Keep the patch of frame `index`. Raises VideoEncodeError when the disk is full."""
        stem = f"{index:06d}"
        bgr = np.ascontiguousarray(patch.pixels[..., ::-1])
        try:
            self._put(f"{stem}-{patch.top}-{patch.left}.png", bgr)
            self._put(f"{stem}-origin.png", patch.origin)
        except OSError as error:
            raise _full(self._path, error) from error

    def _put(self, name: str, picture: npt.NDArray[np.uint8]) -> None:
        data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        self._bundle.writestr(zipfile.ZipInfo(name), data.tobytes())

    def __enter__(self) -> PieceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._bundle.close()
                self._part.replace(self._path)
            except OSError as error:
                raise _full(self._path, error) from error
            return
        with suppress(OSError):
            self._bundle.close()
        self._part.unlink(missing_ok=True)


def _full(path: Path, error: OSError) -> VideoEncodeError:
    return VideoEncodeError(
        f"{path.name} cannot be kept: {error.strerror or error}", "Free some space and resume"
    )


class PieceReader:
    """The patches of a finished piece, by frame. A context manager."""

    def __init__(self, path: Path) -> None:
        try:
            self._bundle = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged", "Delete it and resume the job") from error
        self._places: dict[int, tuple[str, int, int]] = {}
        for name in self._bundle.namelist():
            stem, *place = name.removesuffix(".png").split("-")
            if len(place) == 2:
                self._places[int(stem)] = name, int(place[0]), int(place[1])

    def __enter__(self) -> PieceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._bundle.close()

    def get(self, index: int) -> Patch | None:
        """The patch of frame `index`; None: nothing was to fill."""
        if index not in self._places:
            return None
        name, top, left = self._places[index]
        bgr = self._picture(name, cv2.IMREAD_COLOR)
        origin = self._picture(f"{index:06d}-origin.png", cv2.IMREAD_GRAYSCALE)
        return Patch(top, left, np.ascontiguousarray(bgr[..., ::-1]), origin)

    def _picture(self, name: str, how: int) -> npt.NDArray[np.uint8]:
        data = np.frombuffer(self._bundle.read(name), np.uint8)
        return np.asarray(cv2.imdecode(data, how), np.uint8)
