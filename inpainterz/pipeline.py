"""outline, propagate, fill, remove: the only place where the stages meet.

decode -> segment -> track -> (label maps on disk) -> inpaint -> encode, in this direction only.
The command line, the page and Python call these same four.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from inpainterz import engines as engine_list
from inpainterz.engines import Embedding, Inpainter, Segmenter, Tracker
from inpainterz.errors import OptionError, OutputExists, PromptError, VideoEncodeError
from inpainterz.leftover import boxed, complete, lasting
from inpainterz.masks import MaskStore, auto_grow_px, checked, chosen, feather, grow, stack
from inpainterz.outputs import Also, SideOutputs
from inpainterz.overlap import Behind, prefetch
from inpainterz.types import (
    JSON,
    Frame,
    Image,
    Inpainted,
    LabelMap,
    Mask,
    Origin,
    Progress,
    Prompt,
    Prompts,
    Segmentation,
    Step,
    Tracked,
    silent,
)
from inpainterz.video.reader import Limits, VideoReader
from inpainterz.video.shots import find_cuts, mark
from inpainterz.video.writer import VideoWriter, WriteOptions, Written

NEIGHBOUR_OFFSETS = (-40, -20, -10, -5, -2, 2, 5, 10, 20, 40)
"""Which frames around a prompted one a segmenter is shown, in frames."""

SETTLED_FRAMES = 5
SETTLED_IOU = 0.97
"""A correction reaches no further where the new masks of so many frames in a row overlap the old
ones so well."""


@dataclass(frozen=True, slots=True)
class Engines:
    """One engine for each stage, loaded once and shared by all clips."""

    segmenter: Segmenter
    tracker: Tracker
    inpainter: Inpainter
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        *,
        segmenter: str | None = None,
        tracker: str | None = None,
        inpainter: str | None = None,
        engine_set: str = "builtin",
        device: str = "auto",
        options: Mapping[engine_list.Stage, object] | None = None,
        weights_dir: Path | None = None,
    ) -> Engines:
        """Load an engine for each stage.

        Args:
            segmenter, tracker, inpainter: names; None leaves the choice to the set.
            engine_set: "builtin", "auto", "neural" or "commercial-ok"; see `engines.choose`.
            device: "auto", "cpu" or "cuda".
            options: stage -> the engine's `Options`, or a mapping of their fields.
            weights_dir: where weights are looked for first.

        Raises:
            OptionError, WeightsMissing, EngineUnavailable: see `engines.load`.
        """
        named: dict[engine_list.Stage, str | None] = {
            "segment": segmenter,
            "track": tracker,
            "inpaint": inpainter,
        }
        names = engine_list.choose(engine_set, named, weights_dir=weights_dir)
        given = options or {}
        for name in names.items():
            engine_list.find(*name)  # a wrong name is told before the first engine is loaded
        return cls(
            engine_list.load(
                "segment",
                names["segment"],
                device=device,
                options=given.get("segment"),
                weights_dir=weights_dir,
            ),
            engine_list.load(
                "track",
                names["track"],
                device=device,
                options=given.get("track"),
                weights_dir=weights_dir,
            ),
            engine_list.load(
                "inpaint",
                names["inpaint"],
                device=device,
                options=given.get("inpaint"),
                weights_dir=weights_dir,
            ),
            {str(stage): name for stage, name in names.items()},
        )


@dataclass(frozen=True, slots=True)
class FillOptions:
    """What becomes of the masks before they are holes."""

    objects: frozenset[int] | None = None
    """Ids to remove; None = all."""
    grow_px: int | None = None
    """How far masks are grown; None = completed by what moves along with them (see
    `inpainterz.leftover`), then grown by what suits the object's size, with its soft shadow."""
    feather_px: int = 2
    """Width of the soft rim, inside the grown part only."""
    second_pass: str = "none"
    """"box": where more of an object moves than its completed mask covers, a box around all of it
    is the hole; "none": this is only reported. It is looked for where `grow_px` is None."""

    def __post_init__(self) -> None:
        if self.grow_px is not None and not 0 <= self.grow_px <= 500:
            raise OptionError("the growth must be 0 to 500 pixels")
        if not 0 <= self.feather_px <= 100:
            raise OptionError("the feather must be 0 to 100 pixels")
        if self.second_pass not in ("none", "box"):
            raise OptionError(f"there is no second pass {self.second_pass!r}", "Give none or box")
        if self.second_pass == "box" and self.grow_px is not None:
            raise OptionError("a second pass needs masks grown by auto", "Leave the growth out")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the whole job."""

    fill: FillOptions = FillOptions()
    write: WriteOptions = field(default_factory=WriteOptions)
    save_masks: Path | None = None
    """A zip that receives the tracked label maps."""
    overwrite: bool = False
    also: tuple[Also, ...] = ()
    """More outputs, written along with the clip."""
    limits: Limits = field(default_factory=Limits)
    """What the source may be."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was done."""

    source: str
    target: str
    engines: Mapping[str, str]
    options: JSON
    frames: int
    width: int
    height: int
    fps: float | None
    shots: int
    objects: tuple[int, ...]
    frames_with_hole: int
    hole_px: int
    """Pixels filled, summed over all frames."""
    seen_px: int
    """Of these, how many another frame shows."""
    invented_px: int
    """Of these, how many no frame shows."""
    doubtful_frames: tuple[int, ...]
    """Frames where the tracker did not trust one of its masks."""
    not_carried: tuple[str, ...]
    """Tracks of the source that the target could not take."""
    seconds: Mapping[str, float]
    """Wall time by stage."""
    masks: str | None = None
    written: Written | None = None
    """How the clip was written: codec, how many frames are copies of the source's, and how near
    the rest is to it where that was asked."""
    also: Mapping[str, str] = field(default_factory=dict)
    """The other outputs: kind and where it is."""
    part: tuple[int, int] | None = None
    """First frame and the one after the last of what could change; None = all."""
    ghost_frames: tuple[int, ...] = ()
    """Frames where more of an object moved than its completed mask covers; with the second pass
    "box" a box was filled there. Looked for where masks are grown by auto."""
    notes: tuple[str, ...] = ()
    """What was done otherwise than ordered, such as with less memory, a sentence each."""

    def as_json(self) -> JSON:
        """Plain data for `json.dumps`."""
        return asdict(self)


# ---------------------------------------------------------------- segment


def check_prompts(video: VideoReader, prompts: Prompts) -> None:
    """Check what the user showed against the clip, before any work.

    Raises:
        PromptError: a frame past the end, a point or box outside the frame, nothing positive.
    """
    for index, objects in prompts.items():
        check_frame(video, index)
        for prompt in objects.values():
            check_prompt(prompt, video.size)


def check_frame(video: VideoReader, index: int) -> None:
    """Raises PromptError when the clip has no frame `index`."""
    if not 0 <= index < len(video):
        raise PromptError(
            f"there is no frame {index}", f"Frames count from 0, the last is {len(video) - 1}"
        )


def check_prompt(prompt: Prompt, size: tuple[int, int]) -> None:
    """Raises PromptError when a prompt does not fit a frame of `size` (height, width)."""
    height, width = size
    for x, y in prompt.points:
        if not (np.isfinite([x, y]).all() and 0 <= x < width and 0 <= y < height):
            raise PromptError(
                f"the click ({x:g}, {y:g}) is outside the frame",
                f"The frame is {width}x{height}, coordinates are source pixels",
            )
    if prompt.box is not None:
        x0, y0, x1, y1 = (float(v) for v in prompt.box)
        inside = 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        if not (np.isfinite(prompt.box).all() and inside):
            raise PromptError(
                f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) does not fit the frame",
                f"Give x0,y0,x1,y1 with x0 < x1 <= {width} and y0 < y1 <= {height}",
            )
    elif not prompt.positive.any():
        raise PromptError(
            "there is no click on the object", "Click the object once before clicks that exclude"
        )


def embed(
    video: VideoReader, index: int, segmenter: Segmenter, *, cuts: Sequence[int] = ()
) -> tuple[Image, Embedding]:
    """A frame and the segmenter's view of it, with neighbours of the same shot as motion cue.

    Args:
        video: the clip.
        index: the frame.
        segmenter: any engine of the stage.
        cuts: first frames of the later shots.

    Raises:
        PromptError: there is no such frame.
    """
    check_frame(video, index)
    first = max((c for c in cuts if c <= index), default=0)
    end = min((c for c in cuts if c > index), default=len(video))
    wanted = {i for i in (index + o for o in NEIGHBOUR_OFFSETS) if first <= i < end}
    neighbours = []
    image = None
    with closing(video.frames(min({index, *wanted}), max({index, *wanted}) + 1)) as frames:
        for frame in frames:
            if frame.index == index:
                image = frame.image
            elif frame.index in wanted:
                neighbours.append(frame.image)
    if image is None:  # the reader promises every frame of its index
        raise PromptError(f"frame {index} cannot be decoded", "Choose another frame")
    return image, segmenter.embed(image, neighbours)


def outline(
    video: VideoReader,
    prompts: Prompts,
    segmenter: Segmenter,
    *,
    cuts: Sequence[int] = (),
    progress: Progress = silent,
) -> dict[int, LabelMap]:
    """From what the user showed to a label map in each prompted frame.

    Returns:
        Frame index -> (H, W) label map.

    Raises:
        PromptError: a prompt does not fit the clip, or nothing was found there.
    """
    check_prompts(video, prompts)
    labels = {}
    for done, (index, objects) in enumerate(sorted(prompts.items())):
        progress(Step("segment", done, len(prompts)))
        _, embedding = embed(video, index, segmenter, cuts=cuts)
        found: dict[int, Mask] = {}
        for label, prompt in objects.items():
            answer: Segmentation = segmenter.segment(embedding, prompt)
            if not answer.mask.any():
                raise PromptError(
                    f"nothing was found at the prompt in frame {index}",
                    "Click the middle of the object, or draw a box around it",
                )
            found[label] = answer.mask
        labels[index] = stack(found, video.size)
    progress(Step("segment", len(prompts), len(prompts)))
    return labels


# ---------------------------------------------------------------- track


def propagate(
    video: VideoReader,
    labels: Mapping[int, LabelMap],
    tracker: Tracker,
    masks: MaskStore,
    *,
    cuts: Sequence[int] = (),
    progress: Progress = silent,
) -> Generator[Tracked]:
    """Follow the objects through the whole clip into `masks`, yielding each frame as it is done.

    Forwards from the first prompted frame, then backwards from the last. Between two prompts of
    an object both passes have an opinion: the one with the higher confidence is kept, among
    near equals the one whose prompt is nearer.

    Args:
        video: the clip.
        labels: frame index -> label map; each corrects or adds objects.
        tracker: any engine of the stage.
        masks: receives label maps and confidences; earlier ones are forgotten.
        cuts: first frames of the later shots.
        progress: told after each frame.

    Yields:
        Tracked frames in the order of the work; a frame between two prompts comes twice, the
        second time merged.

    Raises:
        PromptError: no label map, one of another size, past the end, or without an object.
    """
    if not labels:
        raise PromptError("there is nothing to follow", "Click an object or give a mask first")
    for index, given in labels.items():
        check_frame(video, index)
        checked(given, video.size, f"the mask of frame {index}")
        if not given.any():
            raise PromptError(f"the mask of frame {index} is empty", "Mark at least one pixel")
    masks.clear()
    first, last = min(labels), max(labels)
    shown: dict[int, list[int]] = {}  # object -> the frames that show it
    for index in sorted(labels):
        for label in np.unique(labels[index][labels[index] > 0]):
            shown.setdefault(int(label), []).append(index)
    backwards = last > 0
    total = len(video) - first + (last + 1 if backwards else 0)
    done = 0
    with closing(prefetch(video.frames(first))) as frames:
        for tracked in tracker.track(mark(frames, cuts), labels):
            masks.put(tracked.frame.index, tracked.labels, tracked.confidence)
            done += 1
            progress(Step("track", done, total))
            yield tracked
    if not backwards:
        return
    with closing(prefetch(video.backwards(last))) as frames:
        for tracked in tracker.track(mark(frames, cuts), labels):
            index = tracked.frame.index
            ahead = masks.get(index)
            if ahead is not None:
                tracked = merge(tracked, ahead, masks.confidence(index), shown)
            masks.put(index, tracked.labels, tracked.confidence)
            done += 1
            progress(Step("track", done, total))
            yield tracked


def merge(
    back: Tracked,
    ahead: LabelMap,
    ahead_confidence: Mapping[int, float],
    shown: Mapping[int, Sequence[int]],
) -> Tracked:
    """One frame out of the backward and the forward pass, object by object.

    The mask of the pass that is trusted more, nearness to its prompt counted in. How far it is
    trusted then falls as far as the other pass, where it has a prompt too, shows something else.

    Args:
        back: the backward pass's.
        ahead, ahead_confidence: the forward pass's label map and confidences of the same frame.
        shown: object -> the frames that were prompted with it, ascending.
    """
    index = back.frame.index
    labels = np.zeros_like(ahead)
    confidence: dict[int, float] = {}
    taken: list[tuple[float, int, Mask]] = []
    for label, prompts in shown.items():
        before = max((p for p in prompts if p <= index), default=None)
        after = min((p for p in prompts if p >= index), default=None)
        trust_ahead = -1.0
        if before is not None:
            trust_ahead = ahead_confidence.get(label, 0.0) / _doubt(index - before)
        trust_back = -1.0
        if after is not None:
            trust_back = back.confidence.get(label, 0.0) / _doubt(after - index)
        if trust_ahead >= trust_back:
            trust, mask = ahead_confidence.get(label, 0.0), ahead == label
        else:
            trust, mask = back.confidence.get(label, 0.0), back.labels == label
        if before is not None and after is not None and before != after:
            trust *= _agreement(ahead == label, back.labels == label)
        confidence[label] = trust
        taken.append((trust, label, mask))
    for _, label, mask in sorted(taken, key=lambda item: item[0]):
        labels[mask] = label
    return Tracked(back.frame, labels, confidence)


def _agreement(one: Mask, other: Mask) -> float:
    """1 for equal masks, both empty too, 0 for two that share nothing: the root of their IoU,
    which near misses along the outline lower little."""
    either = int((one | other).sum())
    return (int((one & other).sum()) / either) ** 0.5 if either else 1.0


def _doubt(distance: int) -> float:
    """What a confidence is divided by, so many frames from the prompt: nearness decides only
    between passes that trust their masks about alike."""
    return float((1 + distance) ** 0.25)


def follow_again(
    video: VideoReader,
    labels: Mapping[int, LabelMap],
    corrected: Mapping[int, Collection[int]],
    tracker: Tracker,
    masks: MaskStore,
    *,
    cuts: Sequence[int] = (),
    progress: Progress = silent,
) -> Generator[Tracked]:
    """Follow corrected objects through the frames that the correction touches, and no others.

    From each corrected frame both ways, as far as the next frame that shows the object, or until
    the new masks have agreed with the old ones for `SETTLED_FRAMES`. Between two frames that show
    the object the old mask stays where it is trusted more, as in `propagate`.

    Args:
        video: the clip.
        labels: frame index -> label map, all that was ever shown, the corrections too.
        corrected: frame index -> the objects that were corrected or are new there.
        tracker: any engine of the stage.
        masks: what was followed before; changed in place.
        cuts: first frames of the later shots.
        progress: told after each frame; nobody knows how many there will be.

    Yields:
        The frames that were followed again, with their masks as they are now.

    Raises:
        PromptError: a corrected object is not in the label map of its frame.
    """
    shown: dict[int, list[int]] = {}
    for index in sorted(labels):
        for label in np.unique(labels[index][labels[index] > 0]):
            shown.setdefault(int(label), []).append(index)
    known = {int(k) for _, found in masks.items() for k in np.unique(found) if k}
    done = 0
    for index in sorted(corrected):
        ids = frozenset(int(k) for k in corrected[index])
        if not all(index in shown.get(k, ()) for k in ids):
            raise PromptError(f"a correction of frame {index} shows no object", "Mark it there")
        base = masks.get(index)
        base = np.zeros(video.size, np.uint8) if base is None else base
        base = _replaced(base, labels[index], ids)
        masks.put(index, base, {**masks.confidence(index), **dict.fromkeys(ids, 1.0)})
        for frames in (video.frames(index), video.backwards(index)):
            pending, agreed = set(ids), 0
            with closing(prefetch(frames)) as ahead:
                for tracked in tracker.track(mark(ahead, cuts), {index: base}):
                    here = tracked.frame.index
                    if here != index:
                        pending -= {k for k in pending if here in shown[k]}
                        if not pending:
                            break
                        same = _take_over(tracked, index, pending, shown, masks)
                        agreed = agreed + 1 if same and pending <= known else 0
                    done += 1
                    progress(Step("track", done, None))
                    now = masks.get(here)
                    yield replace(
                        tracked,
                        labels=tracked.labels if now is None else now,
                        confidence=masks.confidence(here),
                    )
                    if agreed >= SETTLED_FRAMES:
                        break


def _take_over(
    tracked: Tracked,
    origin: int,
    ids: Collection[int],
    shown: Mapping[int, Sequence[int]],
    masks: MaskStore,
) -> bool:
    """Put the new masks of `ids` in the place of the old ones, where they are trusted more;
    whether all of them agree with the old ones."""
    here = tracked.frame.index
    old = masks.get(here)
    old = np.zeros_like(tracked.labels) if old is None else old
    confidence = masks.confidence(here)
    taken, same = set(), True
    for label in ids:
        before, now = old == label, tracked.labels == label
        union = int((before | now).sum())
        same &= int((before & now).sum()) >= SETTLED_IOU * union
        ahead = [p for p in shown[label] if (p > here) == (here > origin) and p != origin]
        trust = tracked.confidence.get(label, 0.0) / _doubt(abs(here - origin))
        nearest = min((abs(p - here) for p in ahead), default=None)
        if nearest is None or trust >= confidence.get(label, 1.0) / _doubt(nearest):
            taken.add(label)
            confidence[label] = tracked.confidence.get(label, 0.0)
    masks.put(here, _replaced(old, tracked.labels, taken), confidence)
    return same


def _replaced(old: LabelMap, new: LabelMap, ids: Collection[int]) -> LabelMap:
    """A label map with some objects as in another one; all others stay."""
    labels = old.copy()
    wanted = list(ids)
    labels[np.isin(labels, wanted)] = 0
    where = np.isin(new, wanted)
    labels[where] = new[where]
    return labels


# ---------------------------------------------------------------- inpaint


@dataclass(frozen=True, slots=True, eq=False)
class _Rim:
    """What is needed to soften the rim of one frame's hole once it is filled."""

    rows: slice
    columns: slice
    image: Image
    alpha: np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def fill(
    video: VideoReader,
    masks: MaskStore,
    inpainter: Inpainter,
    *,
    options: FillOptions = FillOptions(),
    cuts: Sequence[int] = (),
    start: int = 0,
    stop: int | None = None,
    ghost: Callable[[int], None] | None = None,
    progress: Progress = silent,
) -> Generator[Inpainted]:
    """Every frame of the clip, or of a part of it, without the chosen objects.

    Outside the grown masks every pixel is the source's own; `Inpainted.origin` is the hole.

    Args:
        video: the clip.
        masks: its label maps; a frame without one has no object.
        inpainter: any engine of the stage.
        options: what becomes of the masks before they are holes.
        cuts: first frames of the later shots.
        start, stop: the frames that are read and come out; no other one is borrowed from.
        ghost: told the frames where more of an object moves than its mask covers, see
            `leftover.lasting`.
        progress: told after each frame.
    """
    stop = len(video) if stop is None else stop
    rims: deque[_Rim | None] = deque()  # one for each frame inside the inpainter

    def masked() -> Generator[tuple[Frame, LabelMap, Mask]]:
        with closing(prefetch(video.frames(start, stop))) as frames:
            for frame, labels in masks.replay(mark(frames, cuts)):
                mask = chosen(labels, options.objects)
                kept = np.asarray((labels > 0) & ~mask)
                yield frame, np.where(mask, labels, np.uint8(0)), kept

    def completed(
        taken: Iterable[tuple[Frame, LabelMap, Mask]],
    ) -> Iterator[tuple[Frame, Mask, Mask | None]]:
        found = complete(taken)
        for done in boxed(found) if options.second_pass == "box" else found:
            if done.ghosts and ghost is not None:
                ghost(done.frame.index)
            yield done.frame, done.mask, done.shade

    def holes() -> Generator[tuple[Frame, Mask]]:
        auto = options.grow_px is None
        with closing(masked()) as taken:
            given = ((f, np.asarray(g > 0), None) for f, g, _ in taken)
            for frame, mask, shade in completed(taken) if auto else given:
                px = auto_grow_px(mask) if options.grow_px is None else options.grow_px
                hole = grow(mask, px)
                if shade is not None:
                    hole = np.asarray(hole | shade)
                soften = min(options.feather_px, px)
                rims.append(_rim(frame.image, mask, hole, soften) if soften else None)
                yield frame, hole

    with closing(holes()) as taken:
        for done, filled in enumerate(inpainter.inpaint(taken)):
            rim = rims.popleft()
            if rim is not None and filled.origin is not None:
                filled = replace(filled, frame=_soften(filled, rim))
            progress(Step("inpaint", done + 1, stop - start))
            yield filled


def _rim(image: Image, mask: Mask, hole: Mask, px: int) -> _Rim | None:
    """The part of the source around a hole that its soft rim lets through; None: no hole."""
    if not hole.any():
        return None
    rows, columns = (np.flatnonzero(hole.any(axis)) for axis in (1, 0))
    r, c = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return _Rim(r, c, image[r, c].copy(), feather(mask, hole, px)[r, c])


def _soften(filled: Inpainted, rim: _Rim) -> Frame:
    image = filled.frame.image.copy()
    alpha = rim.alpha[..., None]
    inside = image[rim.rows, rim.columns]
    blended = inside * alpha + rim.image * (1 - alpha)
    image[rim.rows, rim.columns] = np.where(alpha > 0, np.rint(blended), rim.image)
    return replace(filled.frame, image=image)


# ---------------------------------------------------------------- the whole job


def remove(
    source: Path | str,
    target: Path | str,
    prompts: Prompts | None = None,
    engines: Engines | None = None,
    *,
    labels: Mapping[int, LabelMap] | None = None,
    options: Options = Options(),
    progress: Progress = silent,
) -> Report:
    """Remove what the prompts show from a clip.

    Args:
        source: the clip.
        target: the clean clip; the ending chooses the container, "/" a folder of PNG frames.
        prompts: frame index -> object id -> clicks and box.
        engines: default: the built-in ones.
        labels: frame index -> (H, W) label map, for masks that are already there; where a frame
            has both, what the prompts find lies on top.
        options: growth, codec, masks to keep.
        progress: told after each frame of each stage.

    Returns:
        What was done, with counts and seconds.

    Raises:
        InputError: a prompt or an option does not fit; nothing was written.
        VideoError: the source cannot be read or the target cannot be written.
        EngineError: an engine cannot run.
    """
    engines = engines or Engines.load()
    clock = Clock()
    with ExitStack() as closing_later:
        video = closing_later.enter_context(VideoReader(source, limits=options.limits))
        prompts = prompts or {}
        check_prompts(video, prompts)
        check_target(options.save_masks, overwrite=options.overwrite)
        masks = closing_later.enter_context(MaskStore.temporary())
        writer = closing_later.enter_context(
            VideoWriter(target, like=video, options=options.write, overwrite=options.overwrite)
        )
        extra = closing_later.enter_context(_side_outputs(video, masks, options))
        clock.start("segment")
        cuts = find_cuts(video)
        given = {index: shown.copy() for index, shown in (labels or {}).items()}
        for index, found in outline(
            video, prompts, engines.segmenter, cuts=cuts, progress=progress
        ).items():
            under = given.setdefault(index, np.zeros_like(found))
            under[found > 0] = found[found > 0]
        clock.start("track")
        for _ in propagate(video, given, engines.tracker, masks, cuts=cuts, progress=progress):
            pass
        if options.save_masks is not None:
            masks.export_zip(options.save_masks)
        clock.start("inpaint")
        return _encode(
            video, masks, writer, extra, closing_later, engines, options, cuts, progress, clock
        )


def inpaint_clip(
    source: Path | str,
    target: Path | str,
    masks: Path | str,
    engines: Engines | None = None,
    *,
    options: Options = Options(fill=FillOptions(grow_px=0, feather_px=0)),
    progress: Progress = silent,
) -> Report:
    """Fill given masks of a clip: the last stage of `remove` alone.

    Args:
        source: the clip.
        target: as for `remove`.
        masks: a zip or folder of label PNGs, or one PNG for all frames.
        engines: only the inpainter is used; default: the built-in one.
        options: the masks are taken as they are unless `fill.grow_px` says otherwise.
        progress: told after each frame.

    Raises:
        InputError: the masks do not fit the clip, or mark nothing.
        VideoError: the source cannot be read or the target cannot be written.
    """
    engines = engines or Engines.load()
    clock = Clock()
    with ExitStack() as closing_later:
        video = closing_later.enter_context(VideoReader(source, limits=options.limits))
        store = closing_later.enter_context(MaskStore.temporary())
        store.take(Path(masks), len(video), video.size)
        if not any(chosen(m, options.fill.objects).any() for _, m in store.items()):
            raise PromptError("the masks mark nothing", "A mask pixel above 0 is a pixel to fill")
        writer = closing_later.enter_context(
            VideoWriter(target, like=video, options=options.write, overwrite=options.overwrite)
        )
        extra = closing_later.enter_context(_side_outputs(video, store, options))
        clock.start("inpaint")
        cuts = find_cuts(video)
        return _encode(
            video, store, writer, extra, closing_later, engines, options, cuts, progress, clock
        )


def _side_outputs(video: VideoReader, masks: MaskStore, options: Options) -> SideOutputs:
    return SideOutputs(
        video, masks, options.also, objects=options.fill.objects, overwrite=options.overwrite
    )


def check_target(target: Path | None, *, overwrite: bool) -> None:
    """Raises OutputExists or VideoEncodeError when a side output could not be written later."""
    if target is None:
        return
    if target.exists() and not overwrite:
        raise OutputExists(f"{target} is already there", "Name another file, or use --overwrite")
    if not target.parent.is_dir():
        raise VideoEncodeError(f"there is no folder {target.parent}", "Make it first")


def _encode(
    video: VideoReader,
    masks: MaskStore,
    writer: VideoWriter,
    extra: SideOutputs,
    open_files: ExitStack,
    engines: Engines,
    options: Options,
    cuts: Sequence[int],
    progress: Progress,
    clock: Clock,
) -> Report:
    """Fill, write, complete the target, and say what was done."""

    def write(item: tuple[Frame, Mask]) -> None:
        writer.write(*item)
        extra.write(*item)

    frames_with_hole = seen = invented = 0
    ghosts: list[int] = []
    objects: set[int] = set()
    for _, labels in masks.items():
        objects.update(int(k) for k in np.unique(labels) if k)
    with (
        closing(
            fill(
                video,
                masks,
                engines.inpainter,
                options=options.fill,
                cuts=cuts,
                ghost=ghosts.append,
                progress=progress,
            )
        ) as filled,
        Behind[tuple[Frame, Mask]](write) as encoder,
    ):
        for item in filled:
            if item.origin is None:
                encoder.put((item.frame, np.zeros(video.size, np.bool_)))
                continue
            encoder.put((item.frame, np.asarray(item.origin != Origin.KEPT)))
            frames_with_hole += 1
            seen += int((item.origin == Origin.SEEN).sum())
            invented += int((item.origin == Origin.INVENTED).sum())
    doubtful = masks.doubtful()
    open_files.close()  # completes the target, or raises before anything is reported
    clock.start("")
    return describe(
        video,
        str(writer.target),
        engines=dict(engines.names),
        options=options,
        cuts=cuts,
        objects=tuple(sorted(objects)),
        frames_with_hole=frames_with_hole,
        seen_px=seen,
        invented_px=invented,
        doubtful=doubtful,
        not_carried=writer.dropped,
        seconds=clock.seconds,
        written=writer.written,
        ghosts=ghosts,
    )


def describe(
    video: VideoReader,
    target: str,
    *,
    engines: Mapping[str, str],
    options: Options,
    cuts: Sequence[int],
    objects: tuple[int, ...],
    frames_with_hole: int,
    seen_px: int,
    invented_px: int,
    doubtful: tuple[int, ...],
    not_carried: tuple[str, ...],
    seconds: Mapping[str, float],
    written: Written | None = None,
    part: tuple[int, int] | None = None,
    ghosts: Sequence[int] = (),
    notes: tuple[str, ...] = (),
) -> Report:
    """The report of a removal, see `Report`."""
    info = video.info
    return Report(
        source=str(info.path),
        target=target,
        engines=engines,
        options=_plain(options),
        frames=info.frames,
        width=info.width,
        height=info.height,
        fps=None if info.fps is None else float(info.fps),
        shots=len(cuts) + 1,
        objects=objects,
        frames_with_hole=frames_with_hole,
        hole_px=seen_px + invented_px,
        seen_px=seen_px,
        invented_px=invented_px,
        doubtful_frames=doubtful,
        not_carried=not_carried,
        seconds=seconds,
        masks=None if options.save_masks is None else str(options.save_masks),
        written=written,
        also={also.kind: also.target for also in options.also},
        part=part,
        ghost_frames=lasting(ghosts),
        notes=notes,
    )


def _plain(options: Options) -> JSON:
    """The options as data that `json.dumps` takes."""
    found = asdict(options)
    found["save_masks"] = None if options.save_masks is None else str(options.save_masks)
    objects = options.fill.objects
    found["fill"]["objects"] = None if objects is None else sorted(objects)
    return found


class Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage = ""
        self._since = time.perf_counter()

    def start(self, stage: str) -> None:
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = round(now - self._since, 2)
        self._stage, self._since = stage, now
