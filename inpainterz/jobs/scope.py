"""What one run of a job works on: its clip, its order, and whether it is all or a preview."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from inpainterz.errors import OptionError
from inpainterz.jobs.order import Order
from inpainterz.jobs.pieces import BLEND_FRAMES, PIECE_FRAMES
from inpainterz.types import Progress
from inpainterz.video.reader import VideoReader

STRETCH_FRAMES = 1500
"""A tracker's pass is kept whenever so many more frames are done."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How long the steps are; the defaults are right, tests take smaller ones."""

    stretch_frames: int = STRETCH_FRAMES
    piece_frames: int = PIECE_FRAMES
    blend_frames: int = BLEND_FRAMES

    def __post_init__(self) -> None:
        if self.stretch_frames < 2 or self.piece_frames < 1 or self.blend_frames < 0:
            raise OptionError("a job's steps cannot be shorter than a frame")


@dataclass(frozen=True, slots=True)
class Scope:
    """The whole of a job, or a preview of it.

    Raises:
        OptionError: the preview does not lie in the clip, or is too long.
    """

    job: Path
    """The folder of the job."""
    order: Order
    sizes: Sizes
    video: VideoReader
    preview: tuple[int, int] | None
    """[start, stop): only these frames, into a clip of their own."""
    progress: Progress
    """Told after each frame."""

    def __post_init__(self) -> None:
        if self.preview is None:
            return
        start, stop = self.preview
        if not 0 <= start < stop <= len(self.video):
            raise OptionError(
                f"frames {start} to {stop} do not lie in the clip, which has {len(self.video)}",
                "Frames count from 0",
            )
        if not self.sizes.piece_frames >= stop - start:
            raise OptionError(
                f"a preview of {stop - start} frames is too long",
                f"It may have {self.sizes.piece_frames}",
            )

    @property
    def folder(self) -> Path:
        """Its own, inside the job's."""
        if self.preview is None:
            return self.job / "full"
        return self.job / f"preview-{self.preview[0]:06d}-{self.preview[1]:06d}"

    @property
    def part(self) -> tuple[int, int] | None:
        """The frames that may change, [start, stop); None = all."""
        return self.preview or self.order.part

    @property
    def target(self) -> str:
        """Where the clip goes; a preview beside the target of the job."""
        target = self.order.target
        if self.preview is None:
            return target
        if is_folder(target):
            return target.rstrip("/" + os.sep) + "-preview/"
        path = Path(target)
        return str(path.with_name(f"{path.stem}-preview{path.suffix}"))


def is_folder(target: str) -> bool:
    """Whether a target is a folder of pictures."""
    return target.endswith(("/", os.sep))
