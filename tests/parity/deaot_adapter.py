"""Runs the tracker's own network, memory and procedure as deaot_fixtures.py asks for it:

python tests/parity/deaot_fixtures.py tests/parity/deaot_adapter.py [golden.npz ...]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from inpainterz.track.deaot.engine import Procedure
from inpainterz.track.deaot.memory import MemoryRule
from inpainterz.track.deaot.network import VARIANTS, DeAOT
from inpainterz.types import Image, LabelMap


class Adapter:
    """A `Procedure` that takes and gives arrays."""

    def __init__(self, procedure: Procedure) -> None:
        self.procedure = procedure

    def reference(self, frame: Image, labels: LabelMap, n_objects: int) -> None:
        """First frame, or objects added at the frame just stepped."""
        self.procedure.prompt(frame, self.procedure.tensor(labels), n_objects)

    def step(
        self, frame: Image
    ) -> tuple[list[npt.NDArray[Any]], npt.NDArray[Any], npt.NDArray[Any]]:
        """Raw decoder output of each group, joined logits and labels at frame size."""
        quarters = self.procedure.step(frame)
        size = frame.shape[:2]
        return (
            [q.numpy() for q in quarters],
            self.procedure.logits(quarters, size).numpy(),
            self.procedure.labels(quarters, size).numpy(),
        )

    def memorise(self, labels: LabelMap) -> None:
        """Update memory for the frame just stepped."""
        self.procedure.remember(self.procedure.tensor(labels))


def build(
    variant: str,
    state_dict: Mapping[str, Tensor],
    memory_gap: int,
    max_memory_frames: int,
    max_long_edge: float,
) -> Adapter:
    """A tracker in eval mode on the CPU in fp32, with the published rule at the ceiling."""
    network = DeAOT(VARIANTS[variant])
    network.load_state_dict(state_dict, strict=True)
    rule = MemoryRule(memory_gap, max_memory_frames, "oldest")
    network.eval().requires_grad_(False)
    return Adapter(Procedure(network, rule, max_side_px=float(np.float64(max_long_edge))))
