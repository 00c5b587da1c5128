"""What the SAM engines remember of an answer, and when a later click may build on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from inpainterz.types import Segmentation


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """What a decoder answers to one prompt."""

    logits: torch.Tensor
    """(K, h, w) float32 at a quarter of the network's input, K = 3 for the first click."""
    scores: npt.NDArray[np.float32]
    """(K,), the network's estimates of the IoU."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What an answer remembers for the next click."""

    logits: torch.Tensor
    """(h, w) float32, as in `Proposals`."""
    points: frozenset[tuple[float, float, bool]]
    box: tuple[float, ...] | None
    size: tuple[int, int]
    """(H, W) of the frame."""
    network: str
    """The card of the network that gave it: another one's logits have another scale."""

    @classmethod
    def of(
        cls,
        logits: torch.Tensor,
        points: npt.NDArray[np.float32],
        positive: npt.NDArray[np.bool_],
        box: npt.NDArray[np.float32] | None,
        *,
        size: tuple[int, int],
        network: str,
    ) -> State:
        """From what `prompts.checked` returned and the logits (h, w) that were chosen."""
        return cls(logits, _clicks(points, positive), _corners(box), size, network)


def usable(
    previous: Segmentation | None,
    points: npt.NDArray[np.float32],
    positive: npt.NDArray[np.bool_],
    box: npt.NDArray[np.float32] | None,
    *,
    size: tuple[int, int],
    network: str,
) -> State | None:
    """The last answer, unless something that led to it was taken back or it is another's.

    Args:
        previous: the last answer for the object in the frame.
        points, positive, box: from `prompts.checked`.
        size: (H, W) of the frame.
        network: the card of the network that is to answer.
    """
    last = None if previous is None else previous.state
    if not isinstance(last, State) or (last.size, last.network) != (size, network):
        return None
    grown = last.points <= _clicks(points, positive)
    return last if grown and last.box in (None, _corners(box)) else None


def _clicks(
    points: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_]
) -> frozenset[tuple[float, float, bool]]:
    signed = zip(points.tolist(), positive.tolist(), strict=True)
    return frozenset((x, y, on) for (x, y), on in signed)


def _corners(box: npt.NDArray[np.float32] | None) -> tuple[float, ...] | None:
    return None if box is None else tuple(float(v) for v in box)
