"""What DeAOT remembers of a clip, with a ceiling.

Long-term memory holds prompt frames and every gap-th frame in between; short-term memory holds the
frame before. Frames are kept in slots of one buffer a layer, so remembering copies one frame and
memory stays flat from the ceiling on.

Two rules say what is forgotten when a frame is to be written and the ceiling is reached:

`least-used` (ours): each time a frame is written, every remembered frame is credited with the
    attention it just received, in the last layer, from the tokens that show an object, relative to
    an even share. The frame with the lowest mean credit leaves; a prompt frame never does. Frames
    written while no object was in view have no credit and leave first, the youngest of them
    foremost, so a long absence does not wash out what the objects look like. Bounded memories
    chosen by use do better than unbounded ones: Zhou et al., RMem, CVPR 2024.
`oldest` (published): the oldest leaves, be it a prompt frame.

Both give the same numbers until the ceiling is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from inpainterz.track.deaot.network import LayerMemory

Forget: TypeAlias = Literal["least-used", "oldest"]


@dataclass(slots=True)
class Slot:
    """What is known of one remembered frame."""

    age: int
    """Running number of the write; lower is older."""
    prompt: bool
    credit: float = 0.0
    """Sum over the times it was measured of its attention, 1 = an even share."""
    measured: int = 0

    @property
    def use(self) -> float:
        """Mean credit, 0 where it was never measured."""
        return self.credit / self.measured if self.measured else 0.0


@dataclass(frozen=True, slots=True)
class MemoryRule:
    """When a frame is remembered and when it is forgotten."""

    gap_frames: int
    """Frames between two writes into long-term memory."""
    ceiling_frames: int
    """Most frames in long-term memory, 0 = no ceiling. Under `least-used` prompt frames are kept
    above it, and one more frame."""
    forget: Forget = "least-used"


class LongTermMemory:
    """Remembered frames of all layers, for the groups that are computed together."""

    def __init__(self, rule: MemoryRule) -> None:
        self.rule = rule
        self.slots: list[Slot] = []
        self._keys: list[Tensor] = []  # one a layer, (B, capacity N, 128)
        self._values: list[Tensor] = []  # one a layer, (B, capacity N, D)
        self._tokens = 0
        self._writes = 0

    def __len__(self) -> int:
        return len(self.slots)

    def layers(self) -> list[LayerMemory]:
        """All frames, a view for each layer."""
        end = len(self.slots) * self._tokens
        return [
            LayerMemory(k[:, :end], v[:, :end])
            for k, v in zip(self._keys, self._values, strict=True)
        ]

    def latest_prompt(self) -> list[LayerMemory] | None:
        """A copy of the youngest prompt frame; None when there is none any more."""
        prompts = [i for i, slot in enumerate(self.slots) if slot.prompt]
        if not prompts:
            return None
        at = max(prompts, key=lambda i: self.slots[i].age)
        rows = slice(at * self._tokens, (at + 1) * self._tokens)
        return [
            LayerMemory(k[:, rows].clone(), v[:, rows].clone())
            for k, v in zip(self._keys, self._values, strict=True)
        ]

    def credit(self, share: Tensor, weight: Tensor) -> None:
        """Note how much each frame is used.

        Args:
            share: (G, N, M), each token's attention to each remembered frame.
            weight: (G, N), >= 0, how much of an object each token shows; nothing is noted where
                all are 0.
        """
        total = weight.sum()
        used = (share.float() * weight[..., None]).sum((0, 1)) * len(self.slots)
        if float(total) <= 0:
            return
        for slot, value in zip(self.slots, (used / total).tolist(), strict=True):
            slot.credit += value
            slot.measured += 1

    def write(self, memory: Sequence[LayerMemory], *, prompt: bool) -> None:
        """Remember one frame (one entry a layer), forgetting another where the rule says so."""
        slot = Slot(self._writes, prompt)
        self._writes += 1
        self._tokens = memory[0].keys.shape[1]
        at = self._victim()
        if at is None:
            at = len(self.slots)
            self.slots.append(slot)
            self._reserve(memory)
        else:
            self.slots[at] = slot
        rows = slice(at * self._tokens, (at + 1) * self._tokens)
        for layer, kept, values in zip(memory, self._keys, self._values, strict=True):
            kept[:, rows] = layer.keys
            values[:, rows] = layer.values

    def _victim(self) -> int | None:
        """The slot to overwrite, None when there is room or nothing may leave."""
        if not self.rule.ceiling_frames or len(self.slots) < self.rule.ceiling_frames:
            return None
        if self.rule.forget == "oldest":
            return min(range(len(self.slots)), key=lambda i: self.slots[i].age)
        free = [i for i, slot in enumerate(self.slots) if not slot.prompt]
        return min(free, key=lambda i: (self.slots[i].use, -self.slots[i].age), default=None)

    def _reserve(self, memory: Sequence[LayerMemory]) -> None:
        """Make room for all slots, doubling up to the ceiling."""
        if not self._keys:
            self._keys = [torch.empty_like(layer.keys) for layer in memory]
            self._values = [torch.empty_like(layer.values) for layer in memory]
            return
        capacity = self._keys[0].shape[1] // self._tokens
        if len(self.slots) <= capacity:
            return
        wanted = 2 * capacity
        if self.rule.ceiling_frames:
            wanted = min(wanted, self.rule.ceiling_frames)
        wanted = max(wanted, len(self.slots))
        for buffers in (self._keys, self._values):
            for i, old in enumerate(buffers):
                buffers[i] = old.new_empty(old.shape[0], wanted * self._tokens, old.shape[2])
                buffers[i][:, : old.shape[1]] = old


class Memory:
    """Long- and short-term memory of the groups that began at the same frame."""

    def __init__(self, rule: MemoryRule) -> None:
        self.rule = rule
        self.long = LongTermMemory(rule)
        self.short: list[LayerMemory] = []
        self._counter = 0
        self._last_write = 0

    def advance(self) -> None:
        """A new frame came."""
        self._counter += 1

    @property
    def due(self) -> bool:
        """Whether the frame at hand goes into long-term memory."""
        return self._counter - self._last_write >= self.rule.gap_frames

    @property
    def wants_share(self) -> bool:
        """Whether `LongTermMemory.credit` should be told of the frame at hand."""
        return self.due and self.rule.ceiling_frames > 0 and self.rule.forget == "least-used"

    def prompt(self, memory: list[LayerMemory]) -> None:
        """Remember a frame that the user labelled; the gap counts anew from here."""
        self.long.write(memory, prompt=True)
        self._replace_short(memory)
        self._last_write = self._counter

    def remember(self, memory: list[LayerMemory]) -> None:
        """Remember a frame that was propagated to."""
        if self.due:
            self.long.write(memory, prompt=False)
            self._last_write = self._counter
        self._replace_short(memory)

    def _replace_short(self, memory: Sequence[LayerMemory]) -> None:
        """Copy into the same tensors: what outlives a frame stays where it is, so each frame's
        passing tensors find the gaps that the last one's left, and the process stops growing.
        """
        if not self.short:
            self.short = [LayerMemory(k.clone(), v.clone()) for k, v in memory]
            return
        for kept, new in zip(self.short, memory, strict=True):
            kept.keys.copy_(new.keys)
            kept.values.copy_(new.values)

    def cut(self) -> None:
        """A new shot begins: its neighbour in time is not its neighbour in space.

        The youngest prompt frame stands in for the frame before, as it does in the frame after it.
        """
        prompt = self.long.latest_prompt()
        if prompt is not None:
            self._replace_short(prompt)
