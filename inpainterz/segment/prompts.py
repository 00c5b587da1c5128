"""What every segmenter checks of a frame and of a prompt before it answers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inpainterz.errors import PromptError
from inpainterz.types import Image, Prompt


def checked_image(image: object) -> Image:
    """The frame (H, W, 3) uint8 that a segmenter is to look at.

    Raises:
        PromptError: there is none, or it is something else.
    """
    if image is None or not np.size(np.asarray(image)):
        raise PromptError("there is no picture to look at", "Open a clip first")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise PromptError("the picture is not an array of 8-bit RGB")
    if image.ndim != 3 or image.shape[2] != 3:
        raise PromptError(
            f"a picture is height x width x 3, and this is {'x'.join(map(str, image.shape))}"
        )
    return image


def checked(
    prompt: Prompt, height: int, width: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.float32] | None]:
    """Points (N, 2), which are positive (N,), and the box (4,) cut to the frame.

    Raises:
        PromptError: nothing positive, a point outside the frame, or a box without area.
    """
    points = np.asarray(prompt.points, np.float32).reshape(-1, 2)
    positive = np.asarray(prompt.positive, np.bool_).reshape(-1)
    if len(points) != len(positive):
        raise PromptError(f"{len(points)} points came with {len(positive)} signs")
    if not np.isfinite(points).all():
        raise PromptError("a click has no place: its coordinates are not numbers")
    outside = (points < 0).any(-1) | (points[:, 0] >= width) | (points[:, 1] >= height)
    if outside.any():
        x, y = points[int(np.argmax(outside))]
        raise PromptError(
            f"the click at {x:g},{y:g} is outside the frame",
            f"The frame is {width}x{height}",
        )
    if prompt.box is None:
        if not positive.any():
            raise PromptError("nothing shows the object", "Click on it or draw a box around it")
        return points, positive, None
    box = np.asarray(prompt.box, np.float32).reshape(-1)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise PromptError("the box is not four numbers x0, y0, x1, y1")
    box = np.clip(box, 0, np.asarray([width, height, width, height], np.float32))
    if box[2] <= box[0] or box[3] <= box[1]:
        raise PromptError("the box has no area inside the frame", "Give its corners as x0,y0,x1,y1")
    return points, positive, box
