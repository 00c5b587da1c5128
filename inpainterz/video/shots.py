"""Find the cuts of a clip, and mark them on a stream of frames.

The detector is PySceneDetect's AdaptiveDetector: the change from one frame to the next, in hue,
saturation and luma, against its own average around it, so that a fast pan is not a cut.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from inpainterz.errors import OptionError
from inpainterz.types import Frame

if TYPE_CHECKING:
    from inpainterz.video.reader import VideoReader

_SIDE_PX = 256  # detection works on frames whose longer side is at most this


@dataclass(frozen=True, slots=True)
class CutOptions:
    """When a change is a cut."""

    ratio: float = 3.0
    """How many times the change must exceed the average of its neighbours."""
    min_change: float = 15.0
    """How large it must be at least, 0..255."""
    min_shot_frames: int = 5
    """A shot is at least this long; a flash is not two cuts."""

    def __post_init__(self) -> None:
        if not self.ratio >= 1:
            raise OptionError(f"ratio is {self.ratio}", "It must be 1 or more")
        if not 0 <= self.min_change <= 255:
            raise OptionError(f"min_change is {self.min_change}", "It goes from 0 to 255")
        if self.min_shot_frames < 1:
            raise OptionError(f"min_shot_frames is {self.min_shot_frames}", "It must be 1 or more")


def find_cuts(
    video: VideoReader,
    *,
    options: CutOptions = CutOptions(),
    frames: Iterable[Frame] | None = None,
) -> tuple[int, ...]:
    """The indices of the frames where a new shot begins, rising, without the first one read.

    Args:
        video: the clip; it is decoded once.
        options: when a change is a cut.
        frames: its frames in order, where somebody decodes them already; else they are read.

    Raises:
        VideoDecodeError: the file is damaged.
    """
    # imported here: the package takes a while, and most callers read a clip without asking
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    scale = min(1.0, _SIDE_PX / max(video.size))
    height, width = (max(1, round(side * scale)) for side in video.size)
    detector = AdaptiveDetector(
        adaptive_threshold=options.ratio,
        min_content_val=options.min_change,
        min_scene_len=options.min_shot_frames,
    )
    # the detector wants a timecode and only counts with it: frame numbers at any rate will do
    cuts: set[int] = set()
    first, last = None, 0
    for frame in video.frames() if frames is None else frames:
        image = frame.image
        if scale < 1:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        image = np.ascontiguousarray(image[..., ::-1])  # PySceneDetect works in BGR
        first = frame.index if first is None else first
        last = frame.index
        found = detector.process_frame(FrameTimecode(frame.index, fps=25.0), image)
        cuts.update(code.frame_num for code in found)
    cuts.update(code.frame_num for code in detector.post_process(FrameTimecode(last, fps=25.0)))
    return tuple(sorted(cut for cut in cuts if first is not None and cut > first))


def shot_of(index: int, cuts: Sequence[int]) -> int:
    """The shot that frame `index` is in, counted from 0; `cuts` rise."""
    return bisect.bisect_right(cuts, index)


def mark(frames: Iterable[Frame], cuts: Sequence[int]) -> Iterator[Frame]:
    """Set `Frame.shot` on frames that come in any order; `cuts` rise."""
    for frame in frames:
        shot = shot_of(frame.index, cuts)
        yield frame if frame.shot == shot else replace(frame, shot=shot)
