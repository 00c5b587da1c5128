"""The four interfaces, the list of engines, and `load`, which imports an engine when asked for it.

An engine holds networks and options, never a clip: the state of a clip lives in the generator that
the engine returns, so two clips may run on one engine at once, and closing the generator frees it.
Engines may only be used from one thread at a time.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast, overload

from inpainterz.errors import OptionError
from inpainterz.types import (
    Detected,
    Frame,
    Image,
    Inpainted,
    LabelMap,
    Mask,
    Prompt,
    Segmentation,
    Tracked,
)

Stage: TypeAlias = Literal["segment", "track", "inpaint", "detect"]
Embedding: TypeAlias = Any
"""A segmenter's own view of one frame; the caller keeps it and hands it back."""


class Segmenter(Protocol):
    """From clicks or a box in one frame to a mask."""

    def embed(self, image: Image, neighbours: Sequence[Image] = ()) -> Embedding:
        """Look at a frame once; slow. The caller keeps the result for all clicks on it.

        Args:
            image: the frame.
            neighbours: frames of the same shot and size, in order of time, some before and some
                after; an engine may take motion from them, and must do without.
        """
        ...

    def segment(
        self, embedding: Embedding, prompt: Prompt, previous: Segmentation | None = None
    ) -> Segmentation:
        """Answer one object's prompt; fast.

        Args:
            embedding: what `embed` returned for this frame.
            prompt: all clicks so far on this object, not only the last.
            previous: the last answer for this object in this frame.

        Raises:
            PromptError: no positive point and no box, or a point outside the frame.
        """
        ...


class Tracker(Protocol):
    """From label maps in some frames to label maps in all frames."""

    def track(self, frames: Iterable[Frame], labels: Mapping[int, LabelMap]) -> Iterator[Tracked]:
        """Yield every frame with its objects, in order, before the next frame is taken in.

        Args:
            frames: one size throughout, forwards or backwards in time.
            labels: by `Frame.index`; the first frame has one, a later one corrects or adds
                objects. Only ids that a label map showed come out.

        Raises:
            PromptError: the first frame has no label map, or one is of another size or empty.
        """
        ...


class Inpainter(Protocol):
    """From frames with holes to frames without."""

    @property
    def lookahead(self) -> int:
        """When frame i comes out, no frame beyond i + lookahead was taken in."""
        ...

    def inpaint(self, frames: Iterable[tuple[Frame, Mask]]) -> Iterator[Inpainted]:
        """Yield every frame with its hole filled, in order, each as soon as it is ready.

        Outside the hole every pixel is returned bit for bit; a frame with an empty hole is
        returned as the same object. Nothing is borrowed across a cut (`Frame.shot`).

        Args:
            frames: frames with their holes, one size throughout; a hole may be empty.

        Raises:
            OutOfMemory: a window does not fit; the hint names the option that lowers it.
        """
        ...


class Detector(Protocol):
    """From frames to the things in some of them, with nobody pointing; see `inpainterz.who`."""

    @property
    def gap_s(self) -> float:
        """How far apart the frames should be that it looks at, in seconds."""
        ...

    def detect(self, frames: Iterable[Frame], *, every: int) -> Iterator[Detected]:
        """Yield what is in the first frame of each shot and in every `every`-th after it, in order.

        Memory is bounded by options, not by the clip; nothing is borrowed across a cut
        (`Frame.shot`). A detector that needs frames around may take a bounded number ahead.

        Args:
            frames: one size throughout, forwards in time.
            every: 1 or more.

        Raises:
            OutOfMemory: the hint names the option that lowers it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list of engines."""

    stage: Stage
    name: str
    module: str
    """Imported on demand; has `Options` (a frozen dataclass) and `create(options, device=)`,
    or `create(options, device=, weights=)` when `weights` is set."""
    title: str
    weights: str | None = None
    """Name of the card in third_party/, None for an engine that needs no download."""


ENGINES: tuple[Entry, ...] = (
    Entry("segment", "builtin", "inpainterz.segment.builtin", "colour, edges and motion"),
    Entry("segment", "sam-b", "inpainterz.segment.sam", "SAM, ViT-B", "sam-vit-b"),
    Entry("segment", "sam-l", "inpainterz.segment.sam", "SAM, ViT-L", "sam-vit-l"),
    Entry("segment", "sam-h", "inpainterz.segment.sam", "SAM, ViT-H", "sam-vit-h"),
    Entry("segment", "sam2.1-t", "inpainterz.segment.sam2", "SAM 2.1, Hiera-T", "sam2.1-hiera-t"),
    Entry("segment", "sam2.1-s", "inpainterz.segment.sam2", "SAM 2.1, Hiera-S", "sam2.1-hiera-s"),
    Entry("segment", "sam2.1-b", "inpainterz.segment.sam2", "SAM 2.1, Hiera-B+", "sam2.1-hiera-b"),
    Entry("segment", "sam2.1-l", "inpainterz.segment.sam2", "SAM 2.1, Hiera-L", "sam2.1-hiera-l"),
    Entry("segment", "edgetam", "inpainterz.segment.edgetam", "EdgeTAM", "edgetam"),
    Entry("segment", "sam-hq-b", "inpainterz.segment.sam_hq", "SAM-HQ, ViT-B", "sam-hq-vit-b"),
    Entry("track", "builtin", "inpainterz.track.builtin", "flow, appearance and graph cut"),
    Entry("track", "deaot", "inpainterz.track.deaot.engine", "DeAOT-L, ResNet-50", "r50-deaotl"),
    Entry("track", "deaot-t", "inpainterz.track.deaot.engine", "DeAOT-T, MobileNet-V2", "deaott"),
    Entry("track", "deaot-s", "inpainterz.track.deaot.engine", "DeAOT-S, MobileNet-V2", "deaots"),
    Entry("track", "deaot-b", "inpainterz.track.deaot.engine", "DeAOT-B, MobileNet-V2", "deaotb"),
    Entry("track", "deaot-l", "inpainterz.track.deaot.engine", "DeAOT-L, MobileNet-V2", "deaotl"),
    Entry(
        "track", "deaot-swin", "inpainterz.track.deaot.engine", "DeAOT-L, Swin-B", "swinb-deaotl"
    ),
    Entry(
        "inpaint", "builtin", "inpainterz.inpaint.builtin", "what other frames show, then patches"
    ),
    Entry("inpaint", "e2fgvi-hq", "inpainterz.inpaint.e2fgvi.engine", "E2FGVI-HQ", "e2fgvi-hq"),
    Entry("inpaint", "e2fgvi", "inpainterz.inpaint.e2fgvi.engine", "E2FGVI at 432x240", "e2fgvi"),
    Entry("detect", "builtin", "inpainterz.detect.builtin", "what moves against the background"),
    Entry("detect", "mask2former", "inpainterz.detect.mask2former", "Mask2Former", "mask2former"),
    Entry("detect", "grounding-dino", "inpainterz.detect.grounding", "by words", "grounding-dino"),
)


def find(stage: Stage, name: str) -> Entry:
    """The entry of an engine.

    Raises:
        OptionError: there is no such engine; the hint lists those there are.
    """
    for entry in ENGINES:
        if (entry.stage, entry.name) == (stage, name):
            return entry
    known = ", ".join(e.name for e in ENGINES if e.stage == stage)
    raise OptionError(f"there is no {stage} engine called {name!r}", f"Choose one of: {known}")


SETS = ("auto", "builtin", "neural", "commercial-ok")


def choose(
    which: str = "auto",
    named: Mapping[Stage, str | None] | None = None,
    *,
    weights_dir: Path | None = None,
) -> dict[Stage, str]:
    """The engine of every stage, chosen by a set and by names that are given besides.

    Args:
        which: "builtin"; "neural", the first engine with weights in `ENGINES`, here or not;
            "auto", the first one whose weights are here, else the built-in one; "commercial-ok",
            the same among those whose licence allows commercial use.
        named: stage -> an engine that is wanted whatever the set says, or None.
        weights_dir: where weights are looked for first.

    Returns:
        stage -> name, for `load`.

    Raises:
        OptionError: no such set or engine, or "commercial-ok" with one that may not be used so.
    """
    from inpainterz import weights

    if which not in SETS:
        raise OptionError(f"there is no engine set {which!r}", f"Choose one of: {', '.join(SETS)}")
    stages: tuple[Stage, ...] = ("segment", "track", "inpaint")
    chosen: dict[Stage, str] = {}
    for stage in stages:
        wanted = None if named is None else named.get(stage)
        if wanted is not None:
            card = find(stage, wanted).weights
            if which == "commercial-ok" and card and not weights.card(card).commercial:
                raise OptionError(
                    f"the licence of {wanted} does not allow commercial use",
                    "Choose another engine, or another engine set",
                )
            chosen[stage] = wanted
            continue
        chosen[stage] = "builtin"
        for entry in ENGINES:
            if which == "builtin" or entry.stage != stage or entry.weights is None:
                continue
            if which == "commercial-ok" and not weights.card(entry.weights).commercial:
                continue
            if which == "neural" or weights.find(entry.weights, folder=weights_dir):
                chosen[stage] = entry.name
                break
    return chosen


@overload
def load(
    stage: Literal["segment"],
    name: str = ...,
    *,
    device: str = ...,
    options: object = ...,
    weights_dir: Path | None = ...,
) -> Segmenter: ...
@overload
def load(
    stage: Literal["track"],
    name: str = ...,
    *,
    device: str = ...,
    options: object = ...,
    weights_dir: Path | None = ...,
) -> Tracker: ...
@overload
def load(
    stage: Literal["inpaint"],
    name: str = ...,
    *,
    device: str = ...,
    options: object = ...,
    weights_dir: Path | None = ...,
) -> Inpainter: ...
@overload
def load(
    stage: Literal["detect"],
    name: str = ...,
    *,
    device: str = ...,
    options: object = ...,
    weights_dir: Path | None = ...,
) -> Detector: ...
def load(
    stage: Stage,
    name: str = "builtin",
    *,
    device: str = "auto",
    options: object = None,
    weights_dir: Path | None = None,
) -> Segmenter | Tracker | Inpainter | Detector:
    """Build an engine. Nothing is ever swapped for another engine.

    Args:
        stage: "segment", "track", "inpaint" or "detect".
        name: see `ENGINES`.
        device: "auto", "cpu" or "cuda".
        options: the engine module's `Options`, or None for its defaults. Where they have a field
            `model`, it takes the place of the weights of the list.
        weights_dir: where weights are looked for first.

    Raises:
        OptionError: no such engine, or options of another engine.
        WeightsMissing: names the command that fetches them.
        WeightsCorrupt, WeightsMismatch: the file there is not the one that the engine needs.
        EngineUnavailable: a package or a device is missing.
    """
    entry = find(stage, name)
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"there is no device called {device!r}", "Choose auto, cpu or cuda")
    if entry.weights is None:
        module = importlib.import_module(entry.module)
        return cast(
            "Segmenter | Tracker | Inpainter | Detector",
            module.create(read_options(module.Options, options), device=device),
        )
    from inpainterz import weights
    from inpainterz.device import require_torch

    elsewhere = options.get("model") if isinstance(options, Mapping) else None
    elsewhere = elsewhere or getattr(options, "model", None)
    # the user's own folder, or a name of the hub; before torch, as the check is cheap
    own = Path(str(elsewhere)) if elsewhere else None
    path = own or weights.locate(entry.weights, folder=weights_dir)
    require_torch(name)
    module = importlib.import_module(entry.module)
    return cast(
        "Segmenter | Tracker | Inpainter | Detector",
        module.create(read_options(module.Options, options), device=device, weights=path),
    )


def read_options(kind: type[Any], given: object) -> object:
    """An engine's options from None, a mapping of their fields, or themselves.

    Raises:
        OptionError: there is no such field, or the value is of another kind.
    """
    if given is None:
        return kind()
    if isinstance(given, Mapping):
        known = {f.name for f in fields(kind)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise OptionError(
                f"unknown option {unknown[0]!r}", f"Known are: {', '.join(sorted(known))}"
            )
        try:
            return replace(kind(), **given)
        except TypeError as error:  # a value of another kind, "three" where a number belongs
            raise OptionError(f"these options cannot be read: {dict(given)}") from error
    if not isinstance(given, kind):
        raise OptionError(f"these are not options of this engine: {type(given).__name__}")
    return given
