"""What can be had beside the clean clip: masks, an overlay, a comparison, the removed object.

Everything is written while the clean clip is, one frame at a time.

Source of the run-length code: the COCO API (maskApi), whose counts are column by column and packed
into text of 6 bits a character.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from inpainterz.errors import OptionError, OutputExists, VideoEncodeError
from inpainterz.masks import MaskStore, chosen, feather
from inpainterz.preview import overlay, side_by_side
from inpainterz.types import Frame, LabelMap, Mask
from inpainterz.video.images import ImageWriter
from inpainterz.video.reader import VideoReader
from inpainterz.video.targets import cannot_write, part_of

KINDS = {
    "masks": "the followed masks, as a zip of label PNGs",
    "mask-video": "the followed masks, white on black",
    "coco": "the followed masks as run-length codes, in COCO's JSON",
    "overlay": "the clip with the followed objects tinted",
    "compare": "before and after, side by side",
    "layer": "the removed object with transparency (.mov, or a folder of PNGs ending in /)",
}
"""What `Also.kind` may be, and what it is."""

_LAYER_FEATHER_PX = 2


@dataclass(frozen=True, slots=True)
class Also:
    """One more output."""

    kind: str
    """A name of `KINDS`."""
    target: str
    """Where it goes; the ending chooses the format, "/" a folder of PNGs."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"there is no output {self.kind!r}", f"There are {', '.join(KINDS)}")
        wanted = {"masks": ".zip", "coco": ".json"}.get(self.kind)
        if not self.target:
            raise OptionError(f"the output {self.kind} has no name", f"Write {self.kind}=PATH")
        if wanted and not self.target.lower().endswith(wanted):
            raise OptionError(f"{self.kind} is written as {wanted}", f"Name a {wanted} file")

    @staticmethod
    def of(text: str) -> Also:
        """Read "KIND=PATH".

        Raises:
            OptionError: it is not of that form, or there is no such kind.
        """
        kind, equals, target = text.partition("=")
        if not equals:
            raise OptionError(
                f"--also {text!r} cannot be read", "Write one like overlay=overlay.mp4"
            )
        return Also(kind, target)


class SideOutputs:
    """Writes the other outputs of a job. A context manager: complete files, or none.

    Args:
        video: the source.
        masks: the followed masks.
        also: what is wanted.
        objects: ids that are removed; None = all.
        overwrite: replace what is there.
        start, stop: the frames that will be written; by default all.

    Raises:
        OutputExists, InputError, OptionError, VideoEncodeError: a target cannot be written; it is
            told before any work.
    """

    def __init__(
        self,
        video: VideoReader,
        masks: MaskStore,
        also: Sequence[Also],
        *,
        objects: frozenset[int] | None = None,
        overwrite: bool = False,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self._video, self._masks, self._objects = video, masks, objects
        stop = len(video) if stop is None else stop
        check_also(also)
        self._open = ExitStack()
        self._images: list[tuple[str, ImageWriter]] = []
        self._coco: list[CocoWriter] = []
        self._zips = [Path(a.target) for a in also if a.kind == "masks"]
        self._frames: Generator[Frame, None, None] | None = None
        try:
            for path in self._zips:
                _check_file(path, overwrite=overwrite)
            for wanted in also:
                if wanted.kind == "coco":
                    writer = CocoWriter(Path(wanted.target), video, overwrite=overwrite)
                    self._coco.append(self._open.enter_context(writer))
                elif wanted.kind != "masks":
                    image_writer = ImageWriter(
                        wanted.target,
                        video,
                        _size(wanted.kind, video),
                        {"mask-video": 1, "layer": 4}.get(wanted.kind, 3),
                        overwrite=overwrite,
                        start=start,
                        stop=stop,
                    )
                    self._images.append((wanted.kind, self._open.enter_context(image_writer)))
            if any(kind in ("overlay", "compare", "layer") for kind, _ in self._images):
                self._frames = video.frames(start, stop)
        except BaseException as error:
            self._open.__exit__(type(error), error, error.__traceback__)
            raise

    def __enter__(self) -> SideOutputs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._frames is not None:
            self._frames.close()
        self._open.__exit__(kind, error, trace)
        if kind is None:
            for path in self._zips:
                self._masks.export_zip(path)

    def write(self, frame: Frame, hole: Mask) -> None:
        """Take the next frame as the clean clip has it, and its hole (H, W) bool.

        Raises:
            VideoDecodeError: the source is damaged.
            VideoEncodeError: a target cannot be written.
        """
        if not (self._images or self._coco):
            return
        labels = self._masks.get(frame.index)
        if labels is None:
            labels = np.zeros(self._video.size, np.uint8)
        for coco in self._coco:
            coco.write(frame.index, labels)
        before = next(self._frames).image if self._frames is not None else frame.image
        shown = chosen(labels, self._objects)
        for kind, writer in self._images:
            if kind == "mask-video":
                writer.write(shown.astype(np.uint8) * 255)
            elif kind == "overlay":
                writer.write(overlay(before, labels))
            elif kind == "compare":
                after = frame.image.copy()
                after[~hole] = before[~hole]
                writer.write(side_by_side(before, after, gap_px=_gap_px(self._video)))
            else:
                soft = feather(shown & hole, hole, _LAYER_FEATHER_PX)
                alpha = np.rint(soft * 255).astype(np.uint8)
                writer.write(np.dstack([before, alpha]))


def check_also(also: Sequence[Also]) -> None:
    """Raises OptionError when two outputs have one name."""
    names = [os.path.abspath(a.target) for a in also]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"two outputs are to go to {name}", "Name each its own file")


def _size(kind: str, video: VideoReader) -> tuple[int, int]:
    height, width = video.size
    return (height, 2 * width + _gap_px(video)) if kind == "compare" else (height, width)


def _gap_px(video: VideoReader) -> int:
    return max(2, round(video.width / 160) * 2)


def _check_file(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputExists(f"{path} is there already", "Allow it with --overwrite")
    if not path.parent.is_dir():
        raise VideoEncodeError(f"the folder {path.parent} does not exist", "Make it first")


class CocoWriter:
    """Masks as COCO annotations, one an object and frame. A context manager.

    Args:
        target: a .json file.
        video: the clip that the masks are of.
        overwrite: replace the target if it is there.
    """

    def __init__(self, target: Path, video: VideoReader, *, overwrite: bool = False) -> None:
        _check_file(target, overwrite=overwrite)
        self.target, self._video = target, video
        self._part = part_of(target)
        self._count = 0
        self._objects: set[int] = set()
        try:
            self._file: IO[str] = self._part.open("x", encoding="utf-8")
            self._file.write('{"annotations": [')
        except OSError as error:
            raise cannot_write(target, error) from error

    def write(self, index: int, labels: LabelMap) -> None:
        """Add the objects of frame `index`.

        Raises:
            VideoEncodeError: the disk is full.
        """
        for label in np.unique(labels):
            if label == 0:
                continue
            mask = labels == label
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            entry = {
                "id": self._count + 1,
                "image_id": index,
                "category_id": 1,
                "track_id": int(label),
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": [int(v) for v in box],
                "segmentation": {"size": list(mask.shape), "counts": coco_counts(mask)},
            }
            self._put((",\n" if self._count else "\n") + json.dumps(entry))
            self._objects.add(int(label))
            self._count += 1

    def _put(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            raise cannot_write(self.target, error) from error

    def __enter__(self) -> CocoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._file.close()
            with suppress(OSError):
                self._part.unlink()
            return
        height, width = self._video.size
        self._put('\n],\n"images": [')
        for index, pts in enumerate(self._video.pts):
            image: dict[str, Any] = {"id": index, "file_name": f"{index:06d}.png"}
            image |= {"width": width, "height": height}
            image["time_s"] = round(float(pts * self._video.time_base), 6)
            self._put((",\n" if index else "\n") + json.dumps(image))
        rest = {
            "categories": [{"id": 1, "name": "object"}],
            "tracks": [{"id": label} for label in sorted(self._objects)],
            "info": {"description": f"masks of {self._video.path.name}"},
        }
        try:
            self._file.write("\n],\n" + json.dumps(rest)[1:] + "\n")
            self._file.close()
            self._part.replace(self.target)
        except OSError as error:
            with suppress(OSError):
                self._part.unlink()
            raise cannot_write(self.target, error) from error


def coco_counts(mask: Mask) -> str:
    """The compressed run-length code of a mask (H, W), as `pycocotools.mask` has it.

    Runs go down the columns, background first. From the third on, a run is told as the difference
    to the one before the last; each number in groups of 5 bits, least first, 48 added.
    """
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(ends, prepend=0).tolist()
    text = []
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text.append(chr(group + (32 if more else 0) + 48))
            if not more:
                break
    return "".join(text)


def coco_mask(counts: str, size: tuple[int, int]) -> Mask:
    """The mask (height, width) of a compressed run-length code."""
    runs: list[int] = []
    at = 0
    while at < len(counts):
        value = shift = 0
        while True:
            group = ord(counts[at]) - 48
            at += 1
            value |= (group & 31) << shift
            shift += 5
            if not group & 32:
                if group & 16:
                    value -= 1 << shift
                break
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size, order="F")
