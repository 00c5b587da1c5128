"""What all SAM networks share as segmenters: one slow look a frame, one small decoder pass a click.

Kirillov et al., "Segment Anything", ICCV 2023 (arXiv 2304.02643), section 3 and appendix A tell how
clicks are answered; the later networks keep to it. What the image encoder found in a frame belongs
to the caller, so several users share one network and never each other's frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from inpainterz.device import memory_guard
from inpainterz.errors import PromptError
from inpainterz.segment.answers import Proposals, State, usable
from inpainterz.segment.prompts import checked
from inpainterz.types import Image, Prompt, Segmentation

BOXES_AT_ONCE = 16

_Points = npt.NDArray[np.float32]
_Signs = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What an image encoder found in one frame, on the CPU: in float16 2 MB of SAM, about 8 MB of
    the later networks.
    """

    maps: tuple[torch.Tensor, ...]
    """float16 or float32, as the network's own decoder takes them."""
    size: tuple[int, int]
    """(H, W) of the frame."""
    network: str
    """Which network made it: no other can read it."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return sum(one.nbytes for one in self.maps)


class PromptableSegmenter(ABC):
    """A `Segmenter` with a SAM network inside; the network's own ways are in subclasses."""

    stretched: bool = False
    """Whether a frame is stretched to the network's square input, or lies in it top left at its own
    aspect ratio."""

    def __init__(self, *, name: str, side_px: int, memory_hint: str) -> None:
        """Begin without a frame.

        Args:
            name: tells embeddings and answers of one network from those of another.
            side_px: of the network's square input.
            memory_hint: what to do where memory does not suffice.
        """
        self._name, self._side_px, self._memory_hint = name, side_px, memory_hint

    @abstractmethod
    def embed(self, image: Image, neighbours: Sequence[Image] = ()) -> Embedding:
        """Run the image encoder; the slow part, once a frame.

        Args:
            image: (H, W, 3) uint8 RGB, any size.
            neighbours: not used; the network looks at one frame.

        Raises:
            PromptError: there is no picture.
            OutOfMemory: a smaller network would fit.
        """

    @abstractmethod
    def decode(
        self,
        maps: tuple[torch.Tensor, ...],
        *,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
        several: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the decoder on B prompts, in inference mode; places in pixels of the square input.

        Args:
            maps: of an embedding.
            points: (B, N, 2) float32 and (B, N) int64, 1 = on the object.
            boxes: (B, 4) float32.
            masks: (B, 1, h, w) float32, logits of the last answer.
            several: three proposals, not one.

        Returns:
            (B, K, h, w) logits at a quarter of the input, and (B, K) scores.
        """

    def segment(
        self, embedding: Embedding, prompt: Prompt, previous: Segmentation | None = None
    ) -> Segmentation:
        """Answer one object's prompt; about 0.1 s on two cores.

        The first click is ambiguous, so the best of three proposals counts by the network's own
        score; after it the logits of the last answer go in with all clicks and one answer comes
        out (paper, appendix A, "Resolving ambiguity" and "Making the model efficient").

        Args:
            embedding: from `embed` of this engine.
            prompt: all clicks so far on this object.
            previous: the last answer for this object in this frame. It counts while every click
                that led to it is still there; after an undo the clicks are answered afresh.

        Raises:
            PromptError: nothing positive, a point outside the frame, a box without area, or an
                embedding of another engine.
        """
        answer = self.propose(embedding, prompt, previous)
        return self._chosen(embedding, answer, *checked(prompt, *embedding.size))

    def segment_boxes(
        self, embedding: Embedding, boxes: npt.NDArray[np.float32]
    ) -> list[Segmentation]:
        """Answer many boxes of one frame at once, one object each.

        Args:
            embedding: from `embed` of this engine.
            boxes: (N, 4) float32, x0, y0, x1, y1 in source pixels.

        Raises:
            PromptError: as `segment`.
        """
        points, positive = np.zeros((0, 2), np.float32), np.zeros(0, np.bool_)
        self._require_own(embedding)
        asked = [checked(Prompt(points, positive, box), *embedding.size)[2] for box in boxes]
        cut = [box for box in asked if box is not None]
        answers = []
        for start in range(0, len(cut), BOXES_AT_ONCE):
            some = cut[start : start + BOXES_AT_ONCE]
            corners = self._inner(np.stack(some).reshape(-1, 2), embedding.size).reshape(-1, 4)
            found = self._decode(embedding, points=None, boxes=corners, masks=None, several=False)
            answers += [
                self._chosen(embedding, answer, points, positive, box)
                for box, answer in zip(some, found, strict=True)
            ]
        return answers

    def propose(
        self, embedding: Embedding, prompt: Prompt, previous: Segmentation | None = None
    ) -> Proposals:
        """The decoder's answers to one prompt, before any choice; arguments as `segment`."""
        self._require_own(embedding)
        size = embedding.size
        points, positive, box = checked(prompt, *size)
        last = usable(previous, points, positive, box, size=size, network=self._name)
        signs = torch.from_numpy(positive.astype(np.int64))[None]
        corners = None if box is None else self._inner(box.reshape(2, 2), size).reshape(1, 4)
        return self._decode(
            embedding,
            points=(self._inner(points, size)[None], signs) if len(points) else None,
            boxes=corners,
            masks=None if last is None else last.logits[None, None],
            several=len(points) == 1 and box is None and last is None,
        )[0]

    def upscale(self, logits: torch.Tensor, embedding: Embedding) -> torch.Tensor:
        """Logits (K, h, w) at the size of the frame, (K, H, W) float32; > 0 is the object."""
        whole = logits[None]
        if not self.stretched:  # as the authors do it
            square = (self._side_px, self._side_px)
            whole = F.interpolate(whole, square, mode="bilinear", align_corners=False)
            height, width = self.inner_size(embedding.size)
            whole = whole[..., :height, :width]
        return F.interpolate(whole, embedding.size, mode="bilinear", align_corners=False)[0]

    def inner_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) that a frame of `size` has within the network's square input, top left."""
        if self.stretched:
            return self._side_px, self._side_px
        scale = self._side_px / max(size)
        return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))

    def _chosen(
        self,
        embedding: Embedding,
        answer: Proposals,
        points: _Points,
        positive: _Signs,
        box: _Points | None,
    ) -> Segmentation:
        """The best of the proposals as an answer, with what the next click needs."""
        best = int(np.argmax(answer.scores))
        logits = answer.logits[best]
        with memory_guard(self._memory_hint), torch.inference_mode():
            mask = self.upscale(logits[None], embedding)[0] > 0
        state = State.of(logits, points, positive, box, size=embedding.size, network=self._name)
        return Segmentation(mask.numpy(), float(np.clip(answer.scores[best], 0, 1)), state)

    def _require_own(self, embedding: Embedding) -> None:
        if not isinstance(embedding, Embedding) or embedding.network != self._name:
            raise PromptError(
                "this frame was looked at by another engine", "Look at it again with this one"
            )

    def _inner(self, places: npt.NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
        """(N, 2) places in a frame of `size` as (N, 2) float32 places in the network's input."""
        scale = np.divide(self.inner_size(size)[::-1], size[::-1])  # (x, y), float64
        return torch.from_numpy((places * scale).astype(np.float32))

    def _decode(
        self,
        embedding: Embedding,
        *,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
        several: bool,
    ) -> list[Proposals]:
        """`decode` on B prompts: one `Proposals` each."""
        with memory_guard(self._memory_hint), torch.inference_mode():
            logits, scores = self.decode(
                embedding.maps, points=points, boxes=boxes, masks=masks, several=several
            )
            pairs = zip(logits.float().cpu(), scores.float().cpu().numpy(), strict=True)
            return [Proposals(one, score) for one, score in pairs]
