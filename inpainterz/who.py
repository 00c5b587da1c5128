"""Who is in the clip: what a detector sees, linked over time into a list to choose from.

`search` goes through a clip once and lists the persons or things in it; `labels` makes of those
that are chosen what `pipeline.remove(labels=)` and `pipeline.propagate` begin with:

    detector = engines.load("detect")                      # or "mask2former", "grounding-dino"
    with closing(who.search(video, detector, cuts=find_cuts(video))) as listings:
        for listing in listings:                           # one for each frame looked at
            show(listing.done, listing.total)              # closing the generator cancels
    for item in listing.items:                             # the surest first; tick boxes
        show(item.id, item.thumbnail, item.confidence, item.first, item.last, item.best)
    given = who.labels(video, listing.items, {2, 5}, segmenter)  # frame -> label map, id = object

Linking is greedy in time: detections are assigned to predicted masks with the least total cost
(Kuhn, "The Hungarian method for the assignment problem", 1955), as in SORT (Bewley et al., ICIP
2016), with overlap of masks and colour in place of boxes alone.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.engines import Detector, Embedding, Segmenter, find
from inpainterz.errors import InputError, OptionError, PromptError
from inpainterz.pipeline import embed
from inpainterz.preview import thumbnail_sheet
from inpainterz.types import (
    JSON,
    Detected,
    Detection,
    Image,
    LabelMap,
    Mask,
    Progress,
    Prompt,
    Segmentation,
    Step,
    silent,
)
from inpainterz.video.reader import VideoReader
from inpainterz.video.shots import mark

MOST_ITEMS = 255
"""As many as a label map can tell apart."""

MOVING = "moving"
"""What a detector calls a thing of which it knows nothing but that it moves."""

PEOPLE = "people"
"""What a user calls them; detectors say "person"."""

_PROMPTS = 5  # frames in which one thing is shown to the tracker at most
_CUT_SIDE_PX = 200  # of the picture that is cut by colour
_SURE = 0.88  # a segmenter with such a score is believed
_MOMENTS = 12  # masks kept of one thing: the best one of as many stretches of time
_BINS = 8  # of the colour histogram, a channel
_LARGE_PIECE = 0.25  # of the rest: such a piece may be another thing
_APART = 4  # and it is when it is seen so many times in a row
_LEAST_GAIN = 0.12  # a detection that fits a thing worse than this is another thing


@dataclass(frozen=True, slots=True)
class Options:
    """What is worth a line in the list."""

    least_s: float = 0.4
    """Seconds that a thing must be seen for; in clips shorter than five times that, a fifth."""
    bridge_s: float = 1.5
    """Seconds that a thing may be out of sight and still be the same."""
    least_confidence: float = 0.25
    """Things below it are not listed."""
    most: int = 60
    """How many things are listed at most, the surest."""
    thumbnail_px: int = 160
    """Longer side of a thumbnail."""

    def __post_init__(self) -> None:
        if not 0 <= self.least_s <= 3600:
            raise OptionError("least_s is outside 0..3600")
        if not 0 <= self.bridge_s <= 60:
            raise OptionError("bridge_s is outside 0..60")
        if not 0 <= self.least_confidence <= 1:
            raise OptionError("least_confidence is outside 0..1")
        if not 1 <= self.most <= MOST_ITEMS:
            raise OptionError(f"most is outside 1..{MOST_ITEMS}")
        if not 16 <= self.thumbnail_px <= 1024:
            raise OptionError("thumbnail_px is outside 16..1024")


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A thing in one frame."""

    frame: int
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in source pixels."""
    packed: bytes
    """The mask at the detector's own size; see `mask_of`."""
    shape: tuple[int, int]
    """(h, w) of that mask."""
    quality: float
    """0..1, how well this frame shows it: sure, whole, alone, large."""
    exact: bool
    """False where the mask is only the box filled in."""


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One line of the list: a person or a thing, in one shot."""

    id: int
    """1..255, in the order of confidence; the object id in label maps."""
    name: str
    """"moving", "person", or a word of the user's text."""
    confidence: float
    """0..1."""
    shot: int
    first: int
    """Frame where it is first seen."""
    last: int
    """Frame where it is last seen."""
    best: int
    """Frame that shows it best; there it is prompted."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in source pixels, in the best frame."""
    moments: tuple[Moment, ...]
    """The best frame first, then others well apart."""
    size: tuple[int, int]
    """(H, W) of the clip."""
    thumbnail: Image | None = None
    """(h, w, 3) cut out of the best frame; None before the search is over."""


@dataclass(frozen=True, slots=True)
class Listing:
    """How far a search is; the last one has the items."""

    done: int
    """Frames gone through."""
    total: int
    items: tuple[Item, ...] = ()
    """The surest first; empty until the last listing."""


def search(
    video: VideoReader,
    detector: Detector,
    *,
    cuts: Sequence[int] = (),
    options: Options = Options(),
    progress: Progress = silent,
) -> Generator[Listing]:
    """Go through the clip once and list who or what is in it.

    Memory does not grow with the clip: of each thing a dozen small packed masks are kept, and at
    most `MOST_ITEMS` things.

    Args:
        video: the clip.
        detector: any engine of the stage "detect".
        cuts: first frames of the later shots; a thing never goes on over a cut.
        options: what is worth a line.
        progress: told as the generator is.

    Yields:
        One listing for each frame looked at, and a last one with the items, which is the only
        one that has any. An empty list there means that nothing was found.
    """
    total = len(video)
    fps = float(video.info.fps or 25)
    every = max(1, round(fps * detector.gap_s))
    linker = _Linker(video.size, every, fps, options, total)
    with closing(video.frames()) as frames:
        for seen in detector.detect(mark(frames, cuts), every=every):
            linker.take(seen)
            progress(Step("detect", seen.index, total))
            yield Listing(seen.index, total)
    items = []
    for number, item in enumerate(linker.items(), 1):
        image = video.frame(item.best).image
        items.append(
            replace(item, id=number, thumbnail=_thumbnail(image, item.box, options.thumbnail_px))
        )
    progress(Step("detect", total, total))
    yield Listing(total, total, tuple(items))


def labels(
    video: VideoReader,
    items: Sequence[Item],
    chosen: Collection[int],
    segmenter: Segmenter,
    *,
    cuts: Sequence[int] = (),
    progress: Progress = silent,
) -> Mapping[int, LabelMap]:
    """The chosen items as label maps in the frames that show them best.

    A detector that outlines what it names is taken at its word. Where motion told where the thing
    is, the mask is what two of three agree on: the motion, the segmenter, which is given the box
    and points inside, and a cut by colour (GrabCut); a segmenter that is sure of an answer of
    about the same place decides alone. Where there is only a box, the segmenter decides.

    Args:
        video: the clip of the search.
        items: of a search.
        chosen: ids of items.
        segmenter: any engine of the stage "segment".
        cuts: first frames of the later shots.
        progress: told after each frame.

    Returns:
        Frame index -> (H, W) label map at source size, unpacked when asked for.

    Raises:
        PromptError: an id that is not in the list, or none is chosen.
    """
    shown: dict[int, list[tuple[Item, Moment]]] = {}
    for item in pick(items, chosen):
        for moment in _prompted(item):
            shown.setdefault(moment.frame, []).append((item, moment))
    answered: dict[int, list[tuple[int, bytes]]] = {}
    for done, (index, there) in enumerate(sorted(shown.items())):
        progress(Step("segment", done, len(shown)))
        image, embedding = None, None
        if any(not moment.exact or item.name == MOVING for item, moment in there):
            image, embedding = embed(video, index, segmenter, cuts=cuts)
        rough = [moment for _, moment in there if not moment.exact]
        in_boxes = dict(zip(rough, _in_boxes(embedding, rough, video.size, segmenter), strict=True))
        # the smaller lies on top: a person before a bus
        for item, moment in sorted(there, key=lambda s: -_area(s[1].box)):
            mask = mask_of(moment, item.size)
            if not moment.exact:
                found = in_boxes[moment].mask
                mask = found if found.any() else mask
            elif image is not None and item.name == MOVING:
                mask = _outlined(image, embedding, mask, moment, segmenter)
            answered.setdefault(index, []).append((item.id, _packed(mask)))
    progress(Step("segment", len(shown), len(shown)))
    return _Labels(video.size, answered)


def _prompted(item: Item) -> list[Moment]:
    """The moments of an item that it is prompted in: the best one, and others nearly as good.

    A tracker that is shown a thing again on its way drifts less, and each mask makes up for what
    another one lacks.
    """
    apart = max(8, (item.last - item.first) // _PROMPTS)
    taken = [item.moments[0]]
    for moment in item.moments[1:]:
        if len(taken) == _PROMPTS or moment.quality < 0.75 * taken[0].quality:
            break
        if all(abs(moment.frame - other.frame) >= apart for other in taken):
            taken.append(moment)
    return taken


@runtime_checkable
class _ManyBoxes(Protocol):
    """A segmenter that answers many boxes of a frame in one go, as those with a network do."""

    def segment_boxes(
        self, embedding: Embedding, boxes: npt.NDArray[np.float32]
    ) -> Sequence[Segmentation]: ...


def _in_boxes(
    embedding: Embedding, moments: Sequence[Moment], size: tuple[int, int], segmenter: Segmenter
) -> Sequence[Segmentation]:
    """What a segmenter sees in the boxes of moments of one frame."""
    if not moments:
        return []
    boxes = np.stack([_inside_frame(moment.box, size) for moment in moments])
    if isinstance(segmenter, _ManyBoxes):
        return segmenter.segment_boxes(embedding, boxes)
    none = np.zeros((0, 2), np.float32), np.zeros(0, np.bool_)
    return [segmenter.segment(embedding, Prompt(*none, box)) for box in boxes]


def _inside_frame(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    height, width = size
    return np.clip(np.asarray(box, np.float32), 0, np.asarray([width, height] * 2, np.float32))


def _outlined(
    image: Image, embedding: Embedding, mask: Mask, moment: Moment, segmenter: Segmenter
) -> Mask:
    """What moves, with an outline."""
    box = _inside_frame(moment.box, (mask.shape[0], mask.shape[1]))
    points = _inside(mask)
    prompt = Prompt(points, np.ones(len(points), np.bool_), box)
    answer = segmenter.segment(embedding, prompt)
    overlap = (answer.mask & mask).sum() / max(1, (answer.mask | mask).sum())
    if answer.score > _SURE and overlap > 0.5:
        return answer.mask
    votes = mask.astype(np.uint8) + answer.mask + _cut_by_colour(image, mask, box)
    agreed = np.asarray(votes >= 2)
    return agreed if agreed.sum() > 0.3 * mask.sum() else mask


def _inside(mask: Mask) -> npt.NDArray[np.float32]:
    """(N, 2) up to three places well inside a mask and apart, (x, y)."""
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    deepest = float(depth.max())
    points = []
    for _ in range(3):
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[y, x] < 0.5 * deepest or depth[y, x] <= 0:
            break
        points.append((x, y))
        cv2.circle(depth, (int(x), int(y)), round(1.5 * deepest) + 1, 0, -1)
    return np.array(points, np.float32).reshape(-1, 2)


def _cut_by_colour(image: Image, mask: Mask, box: npt.NDArray[np.float32]) -> Mask:
    """A mask that follows the colours, begun with a rough one (Rother et al., SIGGRAPH 2004)."""
    x0, y0, x1, y1 = (int(v) for v in box)
    margin = max(8, max(x1 - x0, y1 - y0) // 2)
    height, width = mask.shape
    rows = slice(max(0, y0 - margin), min(height, y1 + margin))
    columns = slice(max(0, x0 - margin), min(width, x1 + margin))
    crop = (rows, columns)
    scale = min(1.0, _CUT_SIDE_PX / max(mask[crop].shape))
    size = tuple(max(2, round(side * scale)) for side in mask[crop].shape[::-1])
    small = np.asarray(cv2.resize(image[crop], size, interpolation=cv2.INTER_AREA), np.uint8)
    rough = cv2.resize(mask[crop].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    depth = cv2.distanceTransform(rough, cv2.DIST_L2, 5)
    around = max(3, round(0.06 * float(np.sqrt(rough.sum()))))
    known = np.full(rough.shape, cv2.GC_BGD, np.uint8)
    known[cv2.dilate(rough, np.ones((2 * around + 1, 2 * around + 1), np.uint8)) > 0] = (
        cv2.GC_PR_BGD
    )
    known[rough > 0] = cv2.GC_PR_FGD
    known[depth > 0.6 * float(depth.max())] = cv2.GC_FGD
    if not (known == cv2.GC_BGD).any() or not (known == cv2.GC_FGD).any():
        return mask  # nothing to tell it from
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its colour models begin at random
    cv2.grabCut(small[..., ::-1].copy(), known, None, *models, 3, cv2.GC_INIT_WITH_MASK)
    found = ((known == cv2.GC_FGD) | (known == cv2.GC_PR_FGD)).astype(np.float32)
    out = np.zeros(mask.shape, np.bool_)
    back = (columns.stop - columns.start, rows.stop - rows.start)
    out[crop] = cv2.resize(found, back, interpolation=cv2.INTER_LINEAR) > 0.5
    return out


def pick(items: Sequence[Item], chosen: Collection[int]) -> list[Item]:
    """The items of some ids.

    Raises:
        PromptError: an id that is not in the list, or none is chosen.
    """
    known = {item.id: item for item in items}
    if not known:
        raise PromptError("nothing was found in the clip", "Click the object instead")
    for one in chosen:
        if one not in known:
            raise PromptError(
                f"there is no number {one} in the list", f"It goes from 1 to {max(known)}"
            )
    if not chosen:
        raise PromptError("nothing in the list is chosen", "Name one number or several")
    return [known[one] for one in sorted(chosen)]


def mask_of(moment: Moment, size: tuple[int, int]) -> Mask:
    """The mask (H, W) of a moment at source size."""
    small = _unpacked(moment.packed, moment.shape)
    if moment.shape == size:
        return small
    height, width = size
    soft = cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(soft > 0.5)


def _packed(mask: Mask) -> bytes:
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def _unpacked(packed: bytes, shape: tuple[int, int]) -> Mask:
    size = (shape[0] * shape[1] + 7) // 8
    bits = np.frombuffer(zlib.decompressobj().decompress(packed, size), np.uint8)
    if len(bits) != size:
        raise ValueError("the mask is cut")
    return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(np.bool_)


class _Labels(Mapping[int, LabelMap]):
    """Frame index -> label map; holds packed masks, not label maps."""

    def __init__(
        self, size: tuple[int, int], shown: Mapping[int, Sequence[tuple[int, bytes]]]
    ) -> None:
        self._size = size
        self._shown = shown

    def __getitem__(self, index: int) -> LabelMap:
        found = np.zeros(self._size, np.uint8)
        for label, packed in self._shown[index]:
            found[_unpacked(packed, self._size)] = label
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._shown))

    def __len__(self) -> int:
        return len(self._shown)


# ---------------------------------------------------------------- what to look for, and the file


def engine_for(what: str, detector: str | None = None) -> tuple[str, dict[str, object]]:
    """The detector and its options for what a user asks to see.

    Args:
        what: "moving", "people", or words such as "dog" or "person. dog. skateboard."
        detector: an engine that is wanted for it; None: the one that suits.

    Raises:
        OptionError: there is no word in it, or no such engine, or one that cannot look for it.
    """
    words = tuple(w for w in (part.strip() for part in re.split(r"[.,;]", what)) if w)
    if not any(letter.isalpha() for letter in what):
        raise OptionError(
            f"{what!r} is nothing to look for",
            "Choose people, moving, or words such as 'dog. car.'",
        )
    suits = {MOVING: "builtin", PEOPLE: "mask2former"}.get(what, "grounding-dino")
    name = find("detect", detector or suits).name
    if (name == "builtin") != (what == MOVING):
        raise OptionError(
            f"the detector {name} cannot look for {what!r}",
            f"Leave --detector out, or name {suits}",
        )
    if name == "builtin":
        return name, {}
    words = ("person",) if what == PEOPLE else words
    return name, {"names": words}


def as_json(video: VideoReader, items: Sequence[Item], what: str) -> JSON:
    """The list as plain data, masks included, for `from_json`."""
    return {
        "clip": str(video.info.path),
        "what": what,
        "frames": len(video),
        "width": video.width,
        "height": video.height,
        "items": [
            {
                "id": item.id,
                "name": item.name,
                "confidence": item.confidence,
                "shot": item.shot,
                "first": item.first,
                "last": item.last,
                "best": item.best,
                "box": list(item.box),
                "moments": [
                    {
                        "frame": moment.frame,
                        "box": list(moment.box),
                        "quality": moment.quality,
                        "exact": moment.exact,
                        "shape": list(moment.shape),
                        "mask": base64.b64encode(moment.packed).decode("ascii"),
                    }
                    for moment in item.moments
                ],
            }
            for item in items
        ],
    }


def from_json(video: VideoReader, data: object) -> tuple[Item, ...]:
    """The list that `as_json` wrote of this clip, without thumbnails.

    Raises:
        InputError: it is not such a list, or one of another clip.
    """
    try:
        if not isinstance(data, dict):
            raise TypeError
        if (data["frames"], data["width"], data["height"]) != (
            len(video),
            video.width,
            video.height,
        ):
            raise InputError(
                "the list is one of another clip",
                f"It was made of {data['frames']} frames of {data['width']}x{data['height']}",
            )
        items = tuple(_item_of(one, video.size, len(video)) for one in data["items"])
        if len({item.id for item in items}) != len(items):
            raise ValueError
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, zlib.error, IndexError, AttributeError) as error:
        raise InputError(
            "the list cannot be read", "Make it again: inpainterz list CLIP -o LIST.json"
        ) from error
    return items


def _item_of(one: Mapping[str, Any], size: tuple[int, int], frames: int) -> Item:
    moments = tuple(
        Moment(
            frame=int(m["frame"]),
            box=_box_of(m["box"]),
            packed=base64.b64decode(m["mask"], validate=True),
            shape=(int(m["shape"][0]), int(m["shape"][1])),
            quality=float(m["quality"]),
            exact=bool(m["exact"]),
        )
        for m in one["moments"]
    )
    for moment in moments:
        h, w = moment.shape
        if not (0 <= moment.frame < frames and 0 < h <= 8192 and 0 < w <= 8192):
            raise ValueError
        _unpacked(moment.packed, moment.shape)
    if not moments or not 1 <= int(one["id"]) <= MOST_ITEMS:
        raise ValueError
    return Item(
        id=int(one["id"]),
        name=str(one["name"]),
        confidence=float(one["confidence"]),
        shot=int(one["shot"]),
        first=int(one["first"]),
        last=int(one["last"]),
        best=moments[0].frame,
        box=moments[0].box,
        moments=moments,
        size=size,
    )


def _box_of(values: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(v) for v in values)
    if not (np.isfinite([x0, y0, x1, y1]).all() and x0 < x1 and y0 < y1):
        raise ValueError
    return x0, y0, x1, y1


def sheet(items: Sequence[Item]) -> Image:
    """A contact sheet of the list, (H, W, 3): thumbnail, number, name, confidence, frames, box."""
    tiles = []
    for item in items:
        x0, y0, x1, y1 = (round(v) for v in item.box)
        lines = (
            f"{item.name}  {item.confidence:.0%}",
            f"frames {item.first}-{item.last}, best {item.best}",
            f"box {x0},{y0} {x1},{y1}",
        )
        if item.thumbnail is not None:
            tiles.append((item.id, item.thumbnail, lines))
    return thumbnail_sheet(tiles)


# ---------------------------------------------------------------- linking


@dataclass(slots=True, eq=False)
class _Beside:
    """How a thing was beside a larger one."""

    offset: tuple[float, float]  # px from the other's middle when it first was
    samples: int = 0
    strayed: float = 0.0  # px, the farthest that the offset went from the first


@dataclass(slots=True, eq=False)
class _Track:
    """One thing while it is followed; places are in pixels of the detector's picture."""

    born: int
    name: str
    shot: int
    first: int
    last: int
    mask: Mask
    centre: tuple[float, float]
    home: tuple[float, float]  # where the background is now that it first stood before
    colours: npt.NDArray[np.float32]
    area: float
    velocity: tuple[float, float] = (0.0, 0.0)  # px a sample, beside the camera's motion
    missing: int = 0
    seen: int = 1
    score: float = 0.0  # sum over the samples
    travel: float = 0.0  # px, the farthest from home
    apart: float = 0.0  # of late, how often a large piece was seen beside the rest
    moments: list[tuple[float, Moment]] = field(default_factory=list)  # area px, moment
    beside: dict[int, _Beside] = field(default_factory=dict)  # by `born` of a larger thing


class _Linker:
    """Detections in, items out. Holds the things of one shot, and a summary of those before."""

    def __init__(
        self, size: tuple[int, int], every: int, fps: float, options: Options, frames: int
    ) -> None:
        self._size = size
        self._every = every
        gap_s = every / fps
        self._gap_s = gap_s
        self._options = options
        self._least = max(1, round(min(options.least_s, frames / fps / 5) / gap_s))
        self._bridge = max(1, round(options.bridge_s / gap_s))
        self._last: npt.NDArray[np.uint8] | None = None
        self._shot = -1
        self._born = 0
        self._live: list[_Track] = []
        self._ended: list[_Track] = []  # of this shot, not yet judged
        self._kept: list[Item] = []

    def take(self, seen: Detected) -> None:
        """One more frame."""
        if seen.shot != self._shot:
            self._close_shot()
            self._shot = seen.shot
        grey = motion.grey(seen.image)
        if self._last is not None and self._live:
            self._carry(self._last, grey)
        self._last = grey
        lab = _lab(seen.image)
        self._match(seen, lab)
        bridged = [t for t in self._live if t.missing > self._bridge]
        self._live = [t for t in self._live if t.missing <= self._bridge]
        self._ended += [t for t in bridged if t.seen >= self._least]
        if len(self._ended) > 2 * MOST_ITEMS:
            self._ended = sorted(self._ended, key=lambda t: -self._confidence(t))[:MOST_ITEMS]

    def items(self) -> list[Item]:
        """All that was found, the surest first."""
        self._close_shot()
        found = [i for i in self._kept if i.confidence >= self._options.least_confidence]
        return found[: self._options.most]

    def _close_shot(self) -> None:
        tracks = [t for t in self._ended + self._live if t.seen >= self._least]
        self._ended, self._live, self._last = [], [], None
        tracks = _joined(tracks)
        self._kept += [self._item(t) for t in tracks]
        self._kept.sort(key=lambda i: (-i.confidence, i.first))
        del self._kept[MOST_ITEMS:]

    def _carry(self, last: npt.NDArray[np.uint8], grey: npt.NDArray[np.uint8]) -> None:
        """Bring what is followed into the next frame: the camera's motion, then its own."""
        height, width = grey.shape
        taken = np.zeros(grey.shape, np.bool_)
        for track in self._live:
            taken |= track.mask
        matrix, trust = motion.global_motion(last, grey, ignore_a=taken, features=300)
        if trust < 0.25:
            matrix = np.eye(3)
        for track in self._live:
            places = np.array([[track.centre], [track.home]], np.float64)
            (centre,), (home,) = cv2.perspectiveTransform(places, matrix)
            own = np.array([[1, 0, track.velocity[0]], [0, 1, track.velocity[1]], [0, 0, 1]])
            moved = cv2.warpPerspective(
                track.mask.astype(np.uint8),
                own @ matrix,
                (width, height),
                flags=cv2.INTER_NEAREST,
            )
            track.mask = np.asarray(moved > 0)
            track.centre = (centre[0] + track.velocity[0], centre[1] + track.velocity[1])
            track.home = (home[0], home[1])

    def _match(self, seen: Detected, lab: npt.NDArray[np.float32]) -> None:
        free = list(seen.found)
        waiting = list(self._live)
        answered: list[tuple[_Track, Detection, bool]] = []
        # several known things within one region: it is theirs together
        for detection in seen.found:
            inside = [
                t
                for t in waiting
                if t.name == detection.name
                and t.seen >= 3
                and (t.mask & detection.mask).sum() > 0.55 * max(1, t.mask.sum())
            ]
            large = max((t.area for t in inside), default=0.0)
            inside = [t for t in inside if t.area > 0.1 * large]
            if len(inside) < 2 or detection.mask.sum() < 0.5 * sum(t.area for t in inside):
                continue
            for track, part in _shares(detection, inside, self._scale(seen.image)):
                answered.append((track, part, False))
            free.remove(detection)
            waiting = [t for t in waiting if t not in inside]
        if free and waiting:
            gains = np.array(
                [[self._gain(t, d, _colours(lab, d.mask)) for d in free] for t in waiting]
            )
            from scipy.optimize import linear_sum_assignment  # late, as the page starts with us

            rows, columns = linear_sum_assignment(-gains)
            taken = set()
            for r, c in zip(rows, columns, strict=True):
                if gains[r, c] > _LEAST_GAIN:
                    answered.append((waiting[r], free[c], True))
                    taken.add(int(c))
            matched = {id(t) for t, _, _ in answered}
            free = [d for c, d in enumerate(free) if c not in taken]
            waiting = [t for t in waiting if id(t) not in matched]
        # pieces of something that was one before
        whole = {id(t): k for k, (t, _, _) in enumerate(answered)}
        for piece in list(free):
            for track in self._live:
                k = whole.get(id(track))
                if k is None or track.name != piece.name or not piece.exact:
                    continue
                if (track.mask & piece.mask).sum() > 0.6 * piece.mask.sum():
                    _, known, alone = answered[k]
                    if piece.mask.sum() > _LARGE_PIECE * known.mask.sum():
                        track.apart += 1.5
                        if track.apart > _APART:  # they were two all the time
                            track.moments = [
                                (area, replace(m, quality=0.4 * m.quality))
                                for area, m in track.moments
                            ]
                            track.area = float(known.mask.sum())
                            continue
                    answered[k] = (track, _union(known, piece), alone)
                    free.remove(piece)
                    break
        for track in self._live:
            track.apart = max(0.0, track.apart - 0.5)
        for track in waiting:
            track.missing += 1
        for track, detection, alone in answered:
            self._update(track, seen, detection, lab, alone)
        for detection in free:
            self._begin(seen, detection, lab)
        here = [t for t in self._live if t.missing == 0]
        for a in here:
            near = cv2.dilate(a.mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
            for b in here:
                if b is a or b.area > a.area or not (near & b.mask).any():
                    continue
                x, y = b.centre[0] - a.centre[0], b.centre[1] - a.centre[1]
                beside = b.beside.setdefault(a.born, _Beside((x, y)))
                beside.samples += 1
                strayed = float(np.hypot(x - beside.offset[0], y - beside.offset[1]))
                beside.strayed = max(beside.strayed, strayed)

    def _gain(self, track: _Track, detection: Detection, colours: npt.NDArray[np.float32]) -> float:
        """How well a detection fits where a thing is expected, 0..1.3; -1 = cannot be."""
        if track.name != detection.name:
            return -1.0
        area = float(detection.mask.sum())
        if not 0.15 < area / max(1.0, track.area) < 6:
            return -1.0
        alike = float(np.minimum(track.colours, colours).sum())
        union = (track.mask | detection.mask).sum()
        overlap = float((track.mask & detection.mask).sum() / max(1, union))
        if overlap > 0.02:
            return overlap + 0.3 * alike
        x, y = _centre(detection.mask)
        side = float(np.sqrt(max(track.area, area)))
        reach = side * (0.5 + 0.15 * track.missing) + float(np.hypot(*track.velocity))
        distance = float(np.hypot(x - track.centre[0], y - track.centre[1]))
        if distance > min(reach, 3 * side) or alike < 0.5:
            return -1.0
        return (alike - 0.3) * (1 - 0.5 * distance / reach)

    def _scale(self, image: Image) -> tuple[float, float]:
        """Source pixels of one pixel of the detector's picture, (x, y)."""
        return self._size[1] / image.shape[1], self._size[0] / image.shape[0]

    def _begin(self, seen: Detected, detection: Detection, lab: npt.NDArray[np.float32]) -> None:
        if not detection.mask.any():
            return
        self._born += 1
        centre = _centre(detection.mask)
        track = _Track(
            born=self._born,
            name=detection.name,
            shot=seen.shot,
            first=seen.index,
            last=seen.index,
            mask=detection.mask,
            centre=centre,
            home=centre,
            colours=_colours(lab, detection.mask),
            area=float(detection.mask.sum()),
            score=detection.score,
        )
        _remember(track, seen.index, detection, True)
        self._live.append(track)

    def _update(
        self,
        track: _Track,
        seen: Detected,
        detection: Detection,
        lab: npt.NDArray[np.float32],
        alone: bool,
    ) -> None:
        x, y = _centre(detection.mask)
        touches = _touches(detection.mask)
        ease = 0.4 if alone and not touches else 0.1
        step = (x - track.centre[0], y - track.centre[1])
        if track.missing == 0:
            track.velocity = (
                track.velocity[0] + ease * step[0],
                track.velocity[1] + ease * step[1],
            )
        track.centre = (x, y)
        track.mask = detection.mask
        track.last = seen.index
        track.missing = 0
        track.seen += 1
        track.score += detection.score
        track.travel = max(track.travel, float(np.hypot(x - track.home[0], y - track.home[1])))
        if alone:
            track.area += 0.3 * (float(detection.mask.sum()) - track.area)
            track.colours += 0.2 * (_colours(lab, detection.mask) - track.colours)
        _remember(track, seen.index, detection, alone)

    def _confidence(self, track: _Track) -> float:
        """0..1: how sure the detector was, for how long it was seen and how steadily."""
        length = 1 - float(np.exp(-track.seen / max(1.0, 0.5 / self._gap_s)))
        whole = (track.last - track.first) / self._every + 1
        steady = float(np.sqrt(min(1.0, track.seen / whole)))  # noise comes and goes
        return float(np.clip(track.score / track.seen * length * steady, 0, 1))

    def _item(self, track: _Track) -> Item:
        moments = _ordered(track)
        best = moments[0]
        return Item(
            id=0,
            name=track.name,
            confidence=round(self._confidence(track), 3),
            shot=track.shot,
            first=track.first,
            last=track.last,
            best=best.frame,
            box=best.box,
            moments=moments,
            size=self._size,
        )


def _remember(track: _Track, index: int, detection: Detection, alone: bool) -> None:
    """Keep the mask if its stretch of time has none better."""
    area = float(detection.mask.sum())
    quality = detection.score * (1.0 if alone else 0.4) * (0.5 if _touches(detection.mask) else 1.0)
    box = tuple(round(float(v), 1) for v in detection.box)
    moment = Moment(
        frame=index,
        box=(box[0], box[1], box[2], box[3]),
        packed=_packed(detection.mask),
        shape=(detection.mask.shape[0], detection.mask.shape[1]),
        quality=quality,
        exact=detection.exact,
    )
    track.moments.append((area, moment))
    if len(track.moments) <= 2 * _MOMENTS:
        return
    # of every two neighbours the better one stays, so they thin out evenly
    pairs = [track.moments[k : k + 2] for k in range(0, len(track.moments), 2)]
    track.moments = [max(pair, key=lambda m: m[1].quality) for pair in pairs]


def _ordered(track: _Track) -> tuple[Moment, ...]:
    """The moments of a thing, the best one first.

    A region that is larger than usual has something else in it, a smaller one lacks a part, and
    where the thing is nearer it is seen better.
    """
    areas = np.array([area for area, _ in track.moments])
    usual = float(np.median(areas))
    fits = np.exp(-np.abs(np.log(np.maximum(areas, 1) / max(1.0, usual))))
    quality = np.array([m.quality for _, m in track.moments]) * fits
    order = np.argsort(-quality, kind="stable")
    return tuple(replace(track.moments[k][1], quality=round(float(quality[k]), 3)) for k in order)


def _joined(tracks: list[_Track]) -> list[_Track]:
    """The tracks without those that were a part of a larger one nearly all their life."""
    known = {t.born: t for t in tracks}
    out = []
    for track in tracks:
        part = any(
            beside.samples > 0.6 * track.seen
            and beside.strayed < 1.2 * np.sqrt(track.area)
            and known[owner].area > 3 * track.area
            and known[owner].seen > 0.8 * track.seen
            for owner, beside in track.beside.items()
            if owner in known
        )
        if not part:
            out.append(track)
    return out


def _shares(
    detection: Detection, tracks: Sequence[_Track], scale: tuple[float, float]
) -> Iterator[tuple[_Track, Detection]]:
    """A region divided among things: each pixel goes to the one that was expected nearest."""
    distances = [cv2.distanceTransform(1 - t.mask.astype(np.uint8), cv2.DIST_L2, 3) for t in tracks]
    nearest = np.argmin(np.stack(distances), 0)
    for k, track in enumerate(tracks):
        part = np.asarray(detection.mask & (nearest == k))
        if part.any():
            yield track, replace(detection, mask=part, box=_box(part, scale))


def _union(a: Detection, b: Detection) -> Detection:
    box = np.concatenate([np.minimum(a.box[:2], b.box[:2]), np.maximum(a.box[2:], b.box[2:])])
    return replace(a, mask=np.asarray(a.mask | b.mask), box=box)


def _box(mask: Mask, scale: tuple[float, float]) -> npt.NDArray[np.float32]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = scale
    return np.array(
        [columns[0] * x, rows[0] * y, (columns[-1] + 1) * x, (rows[-1] + 1) * y], np.float32
    )


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _touches(mask: Mask) -> bool:
    """Whether a mask reaches the rim of the picture, where a part of the thing may be missing."""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _centre(mask: Mask) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def _lab(image: Image) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2Lab), np.float32)


def _colours(lab: npt.NDArray[np.float32], mask: Mask) -> npt.NDArray[np.float32]:
    """The histogram of a region, (3 * bins,) float32, its sum is 1."""
    pixels = lab[mask]
    parts = []
    for channel, (low, high) in enumerate(((0, 256), (88, 168), (88, 168))):
        values = np.clip((pixels[:, channel] - low) * _BINS / (high - low), 0, _BINS - 1)
        parts.append(np.bincount(values.astype(np.intp), minlength=_BINS))
    counts = np.concatenate(parts).astype(np.float32)
    return np.asarray(counts / max(1.0, float(counts.sum())), np.float32)


def _thumbnail(image: Image, box: tuple[float, float, float, float], side_px: int) -> Image:
    """What is in a box and a little around it, (h, w, 3), the longer side `side_px` at most."""
    height, width = image.shape[:2]
    margin = 0.12 * max(box[2] - box[0], box[3] - box[1]) + 2
    x0, y0 = max(0, round(box[0] - margin)), max(0, round(box[1] - margin))
    x1, y1 = min(width, round(box[2] + margin)), min(height, round(box[3] + margin))
    cut = image[y0:y1, x0:x1]
    scale = side_px / max(cut.shape[:2])
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(cut, size, interpolation=method), np.uint8)
