"""E2FGVI and E2FGVI-HQ as an inpainter: any size, any length, at the source's resolution.

Differs from the published procedure (`published.py`) where that costs quality, time or memory:
only the hole's surroundings are shown to the network, unscaled where they fit; features of a frame
and flows of a pair are computed once for all windows that use them; references have a bounded
reach and are not decoded; overlaps are a weighted mean; and what other frames truly show is taken
from there (`hybrid`), so that the network invents the rest only.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from inpainterz import device as devices
from inpainterz import weights as weights_files
from inpainterz.errors import InputError, OptionError, OutOfMemory
from inpainterz.inpaint import builtin, windows
from inpainterz.inpaint.windows import Box, Crop, Fill
from inpainterz.types import Frame, Inpainted, Mask, Origin

from . import published
from .network import BASE, HQ, Config, Generator, grid_sizes

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "fp16", "bf16"]

CONSTANTS = ("update_spynet.mean", "update_spynet.std", "transformer.*.attn.valid_ind_rolled")
"""Entries of the published files that are no weights: computed here, so a file may lack them."""

INVENTED_CONFIDENCE = 64
"""Of 255: plausible, yet nobody has seen it."""

SPECK_PX = 3
"""Gaps narrower than this in what other frames show are left as the built-in engine fills them."""
SPECK_AREA_PX = 48
"""So are gaps of fewer pixels: each would widen what the network must look at."""
SEAM_PX = 3
"""How far the network's part reaches into what other frames show, where the two are joined."""
LOOSEST = 2.0
"""A crop is kept from window to window, and with it what was computed, until a new one would be
smaller by this factor."""

MEMORY_HINT = "Lower max_side_px, window_frames or references"


@dataclass(frozen=True, slots=True)
class Options:
    """How E2FGVI is run."""

    window_frames: int = 11
    """Consecutive frames that are inpainted together."""
    stride_frames: int = 7
    """From one window's first frame to the next one's; what is shared is averaged."""
    references: int = 4
    """At most so many other frames are looked at with each window."""
    reference_gap_frames: int = 10
    """Every so many frames there is one that may be a reference."""
    reference_reach_frames: int = 60
    """How far back references are taken from."""
    reference_ahead_frames: int = 10
    """How far ahead of the window references are taken from; adds to the lookahead."""
    margin_px: int = 64
    """How much of the surroundings the network sees around the hole, pixels of the source."""
    max_side_px: int = 960
    """Above this the hole's surroundings are scaled down for the network, longer side in pixels,
    and the fill gets the fine detail of what is around the hole."""
    hybrid: bool = True
    """Keep what other frames truly show, let the network invent the rest."""
    keep_confidence: float = 0.5
    """With `hybrid`: how sure that must be to be kept, 0..1."""
    precision: Precision = "auto"
    """fp32, fp16 (CUDA only), bf16; auto takes fp16 on CUDA and fp32 elsewhere."""
    batch_windows: int = 0
    """Windows that go through the network together, adding a stride each to the lookahead; one by
    one where memory is short. 0 = two on CUDA and one on a CPU, which is busy with one."""
    compile: bool = False
    """Compile encoder and decoder on the first window, on CUDA with CUDA graphs; pays on long
    clips."""
    compat: bool = False
    """The published procedure, for comparison: whole shots at once, the network alone."""

    def __post_init__(self) -> None:
        limits = {
            "window_frames": (1, 200),
            "stride_frames": (1, 200),
            "references": (0, 64),
            "reference_gap_frames": (1, 1000),
            "reference_reach_frames": (0, 10000),
            "reference_ahead_frames": (0, 1000),
            "margin_px": (0, 4096),
            "max_side_px": (64, 8192),
            "keep_confidence": (0, 1),
            "batch_windows": (0, 16),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise OptionError(f"{name} is {value}", f"Choose a number from {low} to {high}")
        if self.stride_frames > self.window_frames:
            raise OptionError(
                f"stride_frames is {self.stride_frames}, a window has {self.window_frames}",
                "Choose a stride no longer than the window",
            )
        if self.precision not in ("auto", "fp32", "fp16", "bf16"):
            raise OptionError(
                f"there is no precision {self.precision!r}", "Choose auto, fp32, fp16 or bf16"
            )


@dataclass(slots=True)
class Counts:
    """What one clip cost; filled in while it is inpainted."""

    frames: int = 0
    windows: int = 0
    """Calls of the network's main part."""
    crops: int = 0
    """How often the network's field of view changed; what was computed is then lost."""
    encoded: int = 0
    """Frames encoded, counted again when encoded again."""
    flows: int = 0
    """Flows computed, two for each pair of neighbouring frames."""
    decoded: int = 0
    """Frames decoded, counted for each window."""
    seen_px: int = 0
    """Hole pixels that another frame shows."""
    invented_px: int = 0
    """Hole pixels that the network made up."""


def create(options: Options, device: str = "auto", *, weights: Path) -> E2FGVIInpainter:
    """Build the engine; the card that `weights` belongs to says which of the two models it is.

    Raises:
        WeightsMismatch: they are those of another network, of the other model too.
        WeightsCorrupt: damaged, or numbers that are not finite.
        EngineUnavailable: there is no such device, or one that cannot compute in this precision.
    """
    config = BASE if weights.name == weights_files.card(BASE.kind).file else HQ
    place = devices.pick(device, config.kind)
    # A wrong option is told before a slow load.
    devices.compute_dtype(options.precision, place, config.kind, half="fp16")
    network = Generator(config)
    weights_files.load_into(network, weights, name=config.kind, may_lack=CONSTANTS)
    if options.compile:
        network.compile_parts(graphs=place.type == "cuda")
    return E2FGVIInpainter(network, options, place)


class E2FGVIInpainter:
    """See the module; an `inpainterz.engines.Inpainter`."""

    def __init__(self, network: Generator, options: Options, device: torch.device) -> None:
        """
        Args:
            network: with its weights; it is moved to `device` and put into eval mode.
            options: see `Options`.
            device: where the network runs; frames come from and go to the CPU.
        """
        self.options = options
        self.device = device
        self.config: Config = network.config
        self.network = network.eval().to(device).to(memory_format=torch.channels_last)
        self.dtype = devices.compute_dtype(options.precision, device, self.config.kind, half="fp16")
        self._first = builtin.create(builtin.Options()) if self._hybrid else None

    @property
    def batch_windows(self) -> int:
        """Windows that go through the network together, 1 or more."""
        return self.options.batch_windows or (2 if self.device.type == "cuda" else 1)

    @property
    def _hybrid(self) -> bool:
        return self.options.hybrid and not self.options.compat

    @property
    def lookahead(self) -> int:
        """See `inpainterz.engines.Inpainter`; in compat mode a whole shot is read first."""
        if self.options.compat:
            return sys.maxsize
        ahead = self.options.reference_ahead_frames if self.options.references else 0
        own = self.options.window_frames - 1 + ahead
        own += (self.batch_windows - 1) * self.options.stride_frames
        return own + (self._first.lookahead if self._first is not None else 0)

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        """See `inpainterz.engines.Inpainter.inpaint`. Tells the log what it cost.

        Raises:
            InputError: a frame or a mask has another size than the first frame.
        """
        return self.counted(frames, Counts())

    def counted(self, frames: Iterable[tuple[Frame, Mask]], counts: Counts) -> Iterator[Inpainted]:
        """As `inpaint`, and `counts` tells at any time what it has cost so far."""
        shot: _Shot | _WholeShot | None = None
        for item in self._items(builtin.of_one_size(frames)):
            if shot is not None and shot.number != item.frame.shot:
                yield from shot.finish()
                shot = None
            if shot is None:
                kind = _WholeShot if self.options.compat else _Shot
                shot = kind(self, item.frame, counts)
            counts.frames += 1
            yield from shot.take(item)
        if shot is not None:
            yield from shot.finish()
        log.info("%s: %s", self.config.kind, counts)

    def _items(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[_Item]:
        if self._first is None:
            for frame, hole in frames:
                yield _Item(frame, hole, hole)
            return
        sure = round(255 * self.options.keep_confidence)
        for first in self._first.inpaint(frames):
            if first.origin is None or first.confidence is None:
                nothing = np.zeros(first.frame.image.shape[:2], np.bool_)
                yield _Item(first.frame, nothing, nothing)
                continue
            hole = first.origin != Origin.KEPT
            unsure = hole & ((first.origin != Origin.SEEN) | (first.confidence < sure))
            yield _Item(first.frame, hole, _worthwhile(unsure, hole), first)

    def precise(self) -> torch.autocast | nullcontext[None]:
        """The precision, for the length of one step."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def crop_for(self, need: Box, size: tuple[int, int]) -> Crop:
        """The crop that holds `need` in frames of `size`, on the network's grid."""
        if self.config.fixed_size is not None:
            rows, columns = self.config.fixed_size
            return windows.fit_crop(need, size, ([rows], [columns]), self.options.max_side_px)
        largest = max(self.options.max_side_px, 64)
        sizes = (grid_sizes(0, largest + 60), grid_sizes(1, largest + 108))
        return windows.fit_crop(need, size, sizes, self.options.max_side_px)


@dataclass(slots=True, eq=False)
class _Item:
    """One frame on its way through."""

    frame: Frame
    """Its hole may be filled already, where `todo` is False."""
    hole: Mask
    todo: Mask
    """The part of the hole that is the network's."""
    first: Inpainted | None = None
    """What the built-in engine made of it."""
    box: Box | None = None
    """Around `todo`."""
    fill: Fill | None = None

    def __post_init__(self) -> None:
        self.box = windows.around(self.todo)

    def result(self, counts: Counts) -> Inpainted:
        """The frame as it comes out."""
        if not self.hole.any():
            return Inpainted(self.frame)
        frame = self.frame
        if self.fill is not None:
            image = self.fill.composite(frame.image)
            frame = Frame(image, frame.index, frame.pts, frame.time_base, frame.shot)
        if self.first is not None:
            assert self.first.origin is not None and self.first.confidence is not None
            origin, confidence = self.first.origin.copy(), self.first.confidence.copy()
        else:
            origin = np.zeros(self.hole.shape, np.uint8)
            confidence = np.zeros(self.hole.shape, np.uint8)
        origin[self.todo] = Origin.INVENTED
        confidence[self.todo] = INVENTED_CONFIDENCE
        invented = int((origin == Origin.INVENTED).sum())
        counts.invented_px += invented
        counts.seen_px += int(self.hole.sum()) - invented
        return Inpainted(frame, origin, confidence)


def _worthwhile(unsure: Mask, hole: Mask) -> Mask:
    """The part of the hole that is worth a network: no specks, and room to join it to the rest."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (SPECK_PX, SPECK_PX))
    solid = cv2.morphologyEx(unsure.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    large = np.array([0, *(stats[1:count, cv2.CC_STAT_AREA] >= SPECK_AREA_PX)], np.uint8)
    if not large.any():
        return np.zeros_like(hole)
    solid = large[parts]
    size = 2 * (SEAM_PX + SPECK_PX // 2) + 1
    grown = cv2.dilate(solid, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    return np.asarray((grown > 0) & hole)


@dataclass(slots=True, eq=False)
class _Window:
    """Frames that are inpainted together, by number in the shot."""

    local: range
    """Consecutive ones."""
    wanted: list[int]
    """Of these, those whose picture is asked for."""
    references: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int, tuple[int, ...]]:
        """What windows that go through the network together have in common."""
        asked = tuple(i - self.local[0] for i in self.wanted)
        return len(self.local), len(self.references), asked


class _Shot:
    """The state of one shot."""

    def __init__(self, engine: E2FGVIInpainter, first: Frame, counts: Counts) -> None:
        self.number = first.shot
        self.engine = engine
        self.options = engine.options
        self.counts = counts
        self.size: tuple[int, int] = (first.image.shape[0], first.image.shape[1])
        self.items: dict[int, _Item] = {}
        """By number in the shot: the window, what is ahead of it, and references behind it."""
        self.taken = 0
        self.given = 0
        self.start = 0
        """First frame of the next window."""
        self.crop: Crop | None = None
        self.features: dict[int, Tensor] = {}
        self.small: dict[int, Tensor] = {}
        self.flows: dict[int, tuple[Tensor, Tensor]] = {}
        """From frame i to i+1 and back."""
        self.warned = False
        self.short_of_memory = False
        """Several windows at once were too much."""

    @property
    def _overlap(self) -> int:
        return self.options.window_frames - self.options.stride_frames

    def take(self, item: _Item) -> Iterator[Inpainted]:
        self.items[self.taken] = item
        self.taken += 1
        ahead = self.options.reference_ahead_frames if self.options.references else 0
        batch = self.engine.batch_windows
        more = (batch - 1) * self.options.stride_frames
        while self.taken >= self.start + more + self.options.window_frames + ahead:
            self._windows(batch)
            yield from self._give()
        yield from self._give()

    def finish(self) -> Iterator[Inpainted]:
        while self.given < self.taken:
            self._windows(1)
            yield from self._give()

    def _give(self) -> Iterator[Inpainted]:
        """What is ready: frames that no later window covers, or that need none."""
        while self.given < self.taken and (
            self.given < self.start or self.items[self.given].box is None
        ):
            result = self.items[self.given].result(self.counts)
            self.given += 1
            self._forget()
            yield result

    def _forget(self) -> None:
        """Drop what no later window can use."""
        gap, reach = self.options.reference_gap_frames, self.options.reference_reach_frames
        oldest = self.start - reach
        for i in [i for i in self.items if i < min(self.given, self.start)]:
            if i % gap or i < oldest or not self.options.references:
                del self.items[i]
                for kept in (self.features, self.small, self.flows):
                    kept.pop(i, None)
            else:  # a reference from now on: its fill and its flows are not needed
                self.items[i].fill = None
                self.items[i].first = None
                self.small.pop(i, None)
                self.flows.pop(i, None)

    def _windows(self, count: int) -> None:
        """Inpaint the frames of so many windows, and go on to the next."""
        group: list[_Window] = []
        for _ in range(count):
            first = self.start
            stop = min(first + self.options.window_frames, self.taken)
            self.start = first + self.options.stride_frames
            local = range(first, stop)
            # Frames that an earlier window has covered alone need no short one at the end.
            uncovered = first == 0 or stop > first + self._overlap
            wanted = [i for i in local if self.items[i].box is not None] if uncovered else []
            if wanted:
                group.append(_Window(local, wanted))
        if not group:
            return
        with (
            devices.memory_guard(MEMORY_HINT),
            devices.compile_guard(self.options.compile, self.engine.config.kind),
        ):
            self._focus([i for window in group for i in window.local])
            for window in group:
                window.references = self._references(window.local[0], window.local[-1])
                self._warn_if_blind([*window.local, *window.references])
            for window, pictures in zip(group, self._pictures(group), strict=True):
                weights = windows.overlap_weights(len(window.local), self._overlap)
                assert self.crop is not None
                for i, picture in zip(window.wanted, pictures, strict=True):
                    item = self.items[i]
                    item.fill = item.fill or Fill(item.todo)
                    item.fill.add(self.crop, picture, float(weights[i - window.local[0]]))
                self.counts.windows += 1
                self.counts.decoded += len(window.wanted)

    def _pictures(self, group: list[_Window]) -> list[list[windows.Floats]]:
        """Of each window; all at once where they are of one shape and memory allows."""
        if len({window.shape for window in group}) == 1 < len(group) and not self.short_of_memory:
            try:
                with devices.memory_guard(MEMORY_HINT):
                    return self._generate(group)
            except OutOfMemory:
                self.short_of_memory = True
        return [self._generate([window])[0] for window in group]

    def _focus(self, local: Sequence[int]) -> None:
        """Choose the crop: the last one as long as it will do."""
        margin = self.options.margin_px
        now = windows.union(self.items[i].box for i in local)
        assert now is not None
        now = now.grown(margin, self.size)
        fresh = self.engine.crop_for(now, self.size)
        if self.crop is not None and self.crop.box.contains(now):
            loose = _cost(self.crop) / _cost(fresh)
            if loose <= LOOSEST and self.crop.scale >= min(1.0, 0.9 * fresh.scale):
                return
        # Holes move: a crop that also holds those of frames to come lasts longer.
        later = windows.union(item.box for i, item in self.items.items() if i >= local[0])
        assert later is not None
        lasting = self.engine.crop_for(later.grown(margin, self.size), self.size)
        good = lasting.scale >= fresh.scale and _cost(lasting) <= 1.5 * _cost(fresh)
        chosen = lasting if good else fresh
        if chosen != self.crop:
            self.crop = chosen
            self.counts.crops += 1
            for kept in (self.features, self.small, self.flows):
                kept.clear()

    def _references(self, first: int, last: int) -> tuple[int, ...]:
        assert self.crop is not None
        inside = self.crop.box.slices
        hidden = np.zeros((self.crop.box.height, self.crop.box.width), np.bool_)
        for i in range(first, last + 1):
            hidden |= self.items[i].todo[inside]
        area = max(1, int(hidden.sum()))
        ahead = last + self.options.reference_ahead_frames
        shown = {
            i: 1 - int((hidden & item.todo[inside]).sum()) / area
            for i, item in self.items.items()
            if i % self.options.reference_gap_frames == 0
            and (i < first or last < i <= ahead)
            and first - i <= self.options.reference_reach_frames
        }
        return windows.choose_references(shown, first, last, self.options.references)

    def _warn_if_blind(self, numbers: list[int]) -> None:
        if self.warned or not all(self.items[i].todo.all() for i in numbers):
            return
        self.warned = True
        log.warning(
            "the hole covers all of frames %d to %d, so there is nothing to borrow from: "
            "the network makes up the whole picture, and it will not look like this clip",
            min(self.items[i].frame.index for i in numbers),
            max(self.items[i].frame.index for i in numbers),
        )

    @torch.inference_mode()
    def _generate(self, group: Sequence[_Window]) -> list[list[windows.Floats]]:
        """Pictures of what is wanted of windows of one shape, as the network sees them, 0..255."""
        network = self.engine.network
        for window in group:
            self._prepare(window)
        near = torch.cat([self._stacked(self.features, w.local) for w in group])
        far = near[:, :0]
        if group[0].references:
            far = torch.cat([self._stacked(self.features, w.references) for w in group])
        if len(group[0].local) > 1:
            pairs = [[self.flows[i] for i in w.local[:-1]] for w in group]
            forward, backward = (
                torch.cat([torch.stack([flow[way] for flow in row], 1) for row in pairs])
                for way in (0, 1)
            )
        else:
            forward = backward = near.new_zeros((len(group), 0, 2, *near.shape[-2:]))
        wanted = [i - group[0].local[0] for i in group[0].wanted]
        with self.engine.precise():
            out = network.generate(near, far, (forward, backward), wanted)
        levels = (out.float() + 1) * 127.5  # (B, N, 3, H, W)
        return [list(row) for row in levels.permute(0, 1, 3, 4, 2).contiguous().cpu().numpy()]

    def _prepare(self, window: _Window) -> None:
        """Features of a window's frames and flows between them, where they are not there yet."""
        network, local = self.engine.network, window.local
        for i in (*local, *window.references):
            if i not in self.features:
                self._encode(i, flow=i in local)
            elif i in local and i not in self.small:  # was a reference ahead of the window
                self.small[i] = network.quarter(self._shown(i))
        for i in local[:-1]:
            if i not in self.flows:
                a, b = self.small[i], self.small[i + 1]
                both = network.flow(torch.cat((a, b)), torch.cat((b, a)))
                self.flows[i] = (both[:1], both[1:])
                self.counts.flows += 2

    @staticmethod
    def _stacked(kept: Mapping[int, Tensor], numbers: Iterable[int]) -> Tensor:
        """(1, N, ...) of N entries (1, ...)."""
        return torch.stack([kept[i] for i in numbers], 1)

    def _shown(self, number: int) -> Tensor:
        """What the network sees of a frame: (1, 3, H, W) in [-1, 1], 0 in the hole."""
        assert self.crop is not None
        item = self.items[number]
        image, hole = self.crop.take(item.frame.image, item.todo)
        image = (image / 127.5 - 1) * ~hole[..., None]
        x = torch.from_numpy(np.ascontiguousarray(image, np.float32)).to(self.engine.device)
        return x.permute(2, 0, 1)[None]

    def _encode(self, number: int, *, flow: bool) -> None:
        network, x = self.engine.network, self._shown(number)
        with self.engine.precise():
            self.features[number] = network.encode(x)
        self.counts.encoded += 1
        if flow:
            self.small[number] = network.quarter(x)


def _cost(crop: Crop) -> int:
    return crop.padded[0] * crop.padded[1]


class _WholeShot:
    """The published procedure over one shot, which is held in memory."""

    def __init__(self, engine: E2FGVIInpainter, first: Frame, counts: Counts) -> None:
        self.number = first.shot
        self.engine = engine
        self.counts = counts
        self.items: list[_Item] = []

    def take(self, item: _Item) -> Iterator[Inpainted]:
        self.items.append(item)
        return iter(())

    def finish(self) -> Iterator[Inpainted]:
        if any(item.box is not None for item in self.items):
            frames = np.stack([item.frame.image for item in self.items])
            holes = np.stack([item.todo for item in self.items])
            try:
                with devices.memory_guard("Leave compat off: it holds whole shots"):
                    filled = published.inpaint(self.engine.network, frames, holes)
            except ValueError as error:
                raise InputError(str(error), "Leave compat off for frames of this size") from error
            for window in published.schedule(len(self.items)):
                used = len(window.neighbours) + len(window.references)
                self.counts.windows += 1
                self.counts.encoded += used
                self.counts.decoded += used
                self.counts.flows += 2 * (len(window.neighbours) - 1)
            for item, image in zip(self.items, filled, strict=True):
                if item.box is not None:
                    old = item.frame
                    item.frame = Frame(image, old.index, old.pts, old.time_base, old.shot)
        for item in self.items:
            yield item.result(self.counts)
