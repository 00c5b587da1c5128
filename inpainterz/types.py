"""The data that travels between the stages: frames, prompts, masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, 0..255: everywhere outside video/ and a network."""

Mask: TypeAlias = npt.NDArray[np.bool_]
"""(H, W) bool, True = the object, or the hole to fill."""

LabelMap: TypeAlias = npt.NDArray[np.uint8]
"""(H, W) uint8, 0 = background, k = object k (1..255)."""

Flow: TypeAlias = npt.NDArray[np.float32]
"""(H, W, 2) float32, (dx, dy) in pixels."""


@dataclass(frozen=True, slots=True, eq=False)  # eq=False: comparing arrays raises
class Frame:
    """One frame of a clip with its time."""

    image: Image
    index: int
    """0-based, presentation order."""
    pts: int
    """Presentation time in units of `time_base`, as the source gave it."""
    time_base: Fraction
    """Seconds."""
    shot: int = 0
    """0-based, +1 at every cut."""


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What the user showed of one object in one frame."""

    points: npt.NDArray[np.float32]
    """(N, 2) float32, (x, y) in source pixels; N may be 0 when there is a box."""
    positive: npt.NDArray[np.bool_]
    """(N,) bool, True = on the object, False = not part of it."""
    box: npt.NDArray[np.float32] | None = None
    """(4,) float32, x0, y0, x1, y1 in source pixels."""

    @staticmethod
    def of(
        *on: Sequence[float],
        off: Sequence[Sequence[float]] = (),
        box: Sequence[float] | None = None,
    ) -> Prompt:
        """Build a prompt from plain tuples: clicks on the object, clicks off it, a box."""
        points = np.asarray([*on, *off], np.float32).reshape(-1, 2)
        positive = np.asarray([True] * len(on) + [False] * len(off), np.bool_)
        return Prompt(points, positive, None if box is None else np.asarray(box, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What a segmenter answers to a prompt."""

    mask: Mask
    score: float
    """0..1, the engine's own estimate of the IoU with what the user meant."""
    state: object = None
    """The engine's own, for the next click on this object in this frame only."""


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """One frame with its objects, as a tracker yields it."""

    frame: Frame
    labels: LabelMap
    confidence: Mapping[int, float] = field(default_factory=dict)
    """Object id -> 0..1, how far the tracker trusts its mask here; an absent object too."""


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One thing that a detector saw in one frame."""

    mask: Mask
    """(h, w) of the whole frame at the detector's own size."""
    box: npt.NDArray[np.float32]
    """(4,) float32, x0, y0, x1, y1 in source pixels."""
    score: float
    """0..1, how sure the detector is."""
    name: str
    """What it is: "moving", "person", or a word of the user's text."""
    exact: bool = True
    """False where the mask is only the box filled in."""


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """One frame that a detector looked at, with what it saw."""

    index: int
    """`Frame.index`."""
    shot: int
    """`Frame.shot`."""
    image: Image
    """(h, w, 3) the frame at the detector's own size, at most a few hundred pixels a side."""
    found: tuple[Detection, ...]


class Origin(IntEnum):
    """Where a pixel of an inpainted frame came from."""

    KEPT = 0
    SEEN = 1
    """Another frame shows it."""
    INVENTED = 2
    """No frame shows it."""


@dataclass(frozen=True, slots=True, eq=False)
class Inpainted:
    """One frame with its hole filled, as an inpainter yields it."""

    frame: Frame
    origin: npt.NDArray[np.uint8] | None = None
    """(H, W) uint8 of `Origin`; None where the hole was empty."""
    confidence: npt.NDArray[np.uint8] | None = None
    """(H, W) uint8, 0 = a guess .. 255 = certain, meaningful inside the hole."""


Prompts: TypeAlias = Mapping[int, Mapping[int, Prompt]]
"""Frame index -> object id -> what was shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a stage is."""

    stage: str
    """"detect", "segment", "track" or "inpaint"."""
    done: int
    total: int | None


Progress: TypeAlias = Callable[[Step], None]


def silent(step: Step) -> None:
    """The progress that tells nobody."""


JSON: TypeAlias = dict[str, Any]
