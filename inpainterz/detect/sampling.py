"""What detectors of single frames share: which frames they look at, and what they tell of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from inpainterz.errors import OptionError
from inpainterz.types import Frame, Image


def sampled(frames: Iterable[Frame], every: int) -> Iterator[Frame]:
    """The first frame of each shot and every `every`-th after it.

    Raises:
        OptionError: `every` is not 1 or more.
    """
    if every < 1:
        raise OptionError("every is below 1")
    shot, start = None, 0
    for frame in frames:
        if frame.shot != shot:
            shot, start = frame.shot, frame.index
        if (frame.index - start) % every == 0:
            yield frame


def reduced(image: Image, max_side_px: int) -> Image:
    """The image with its longer side at most `max_side_px`."""
    height, width = image.shape[:2]
    scale = min(1.0, max_side_px / max(height, width))
    if scale == 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
