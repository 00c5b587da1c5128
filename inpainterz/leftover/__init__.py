"""What a tracked mask left out of a moving object: shoes, hands, the shadow at its feet.

A frame is compared with the same spot in frames a little earlier and later, aligned by the
camera's motion. What differs from all of them, or from all but one that something else may have
passed, and touches the mask, moved with the object. Where the camera's motion explains the
surroundings badly, nothing is added. Nor is what passes the object: it never was where it is now,
seen from the object, in most of the frames before.

Where an object was lost, or half of it, between two frames that show it whole, its place is
interpolated, and what differs from the other frames there and has its colours belongs to it. So
does what has its place and colours by the frames just before and after, where much differs around
a mask: a leg that one frame lacks.

What one frame tells alone is then held against the frames around it (see `around`): what parts from
the object there is taken out again, what stays with it is added, also where it is seen apart from
it, as a shoe beside a post.

What still moves along beyond that is a ghost: it is not added, as it may be something else, but its
frame is told, and `boxed` makes a box around it and the object the hole for those who want that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.leftover.around import FOLLOWED, Judged, agreed
from inpainterz.leftover.compared import (
    Camera,
    Sides,
    Small,
    aligned,
    box_of,
    differing,
    disc,
    kernel,
    reduced,
    usual,
)
from inpainterz.leftover.past import MEMORY, Past, remember, strangers_in
from inpainterz.leftover.shade import Shadows, shaded
from inpainterz.types import Frame, Image, LabelMap, Mask

OFFSETS = (-23, -16, -9, 9, 16, 23)
"""Which frames a frame is compared with."""

LOOKAHEAD = max(OFFSETS) + 2 * FOLLOWED
"""How many frames are taken in beyond the one that comes out."""

REACH = 0.2
"""How far from the mask is looked, in square roots of its area."""

LEAST_REACH = 0.03
"""How far at least, in diagonals of the picture: a mask may be a small part of the object."""

SHADE_REACH = 3
"""How far its soft shadow is looked for, in that reach."""

MOST_ADDED = 2.0
"""More than so many times the mask's area is not a part that it lacks, but something else."""

WHOLE = 0.7
"""A mask of at least this share of the largest ones around shows an object whole."""

GHOST = 0.05
"""What is left beside a mask is a ghost from this share of the mask's area on."""

GHOST_PAD = 0.08
"""How far a box lies around the object and its ghost, in their longer side."""

GHOST_REACH = 8
"""How many frames before and after a frame say whether its object has a ghost."""

LEAST_GHOSTS = 3
"""In so many of them it has one: one frame alone is mistaken easily."""

COLOUR_REACH = 12.0
"""How far a pixel's colour may be from one that the object has thereabouts, CIE Lab."""


@dataclass(frozen=True, slots=True)
class Place:
    """A part of an object in a frame that hangs together, or nearly."""

    label: int
    box: Sides

    def near(self, other: Place) -> bool:
        """Whether the other one may be the same a few frames away: they touch, or nearly."""
        x0, y0, x1, y1 = self.box
        u0, v0, u1, v1 = other.box
        x, y = (x1 - x0 + u1 - u0) / 4, (y1 - y0 + v1 - v0) / 4
        apart = u0 - x1 > x or x0 - u1 > x or v0 - y1 > y or y0 - v1 > y
        return self.label == other.label and not apart


@dataclass(frozen=True, slots=True)
class Ghost:
    """More moves along with a part of an object than its completed mask covers."""

    place: Place
    beyond: Sides
    """How far a box around both goes beyond the part's own on each side."""


@dataclass(frozen=True, slots=True, eq=False)
class Completed:
    """A frame whose mask was completed."""

    frame: Frame
    mask: Mask
    """(H, W)."""
    keep: Mask
    """(H, W) what must stay."""
    places: tuple[Place, ...] = ()
    """Where the objects are."""
    ghosts: tuple[Ghost, ...] = ()
    shade: Mask | None = None
    """(H, W) the soft shadow around the objects; None: there is none."""


def complete(items: Iterable[tuple[Frame, LabelMap, Mask]]) -> Iterator[Completed]:
    """Add to each mask what it left out of a moving object, and look for what is left still.

    Args:
        items: frames in order of time, each with the (H, W) label map of the objects that go and
            the (H, W) mask of what must stay.

    Yields:
        The same frames with their completed masks, `LOOKAHEAD` frames late.
    """
    shadows = Shadows()
    for judged, looked in agreed(_alone(items, shadows)):
        yield _finished(judged, looked, shadows.lasts(looked.frame.index))


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """What the comparison with other frames tells of one; masks are (h, w)."""

    surely: Mask
    """What is not as in the other frames, with the most play."""
    compared: Mask
    """Where that is known."""
    shade: Mask
    """What may be in the soft shadow of the objects."""


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """A frame, and what is needed to tell what is left beside its completed mask."""

    frame: Frame
    mask: Mask
    keep: Mask
    labels: LabelMap | None = None
    """(h, w) its objects; None: none are looked for."""
    told: _Told | None = None


def _alone(
    items: Iterable[tuple[Frame, LabelMap, Mask]], shadows: Shadows
) -> Iterator[tuple[Judged | None, _Looked]]:
    """What each frame tells by itself, `max(OFFSETS)` frames late; None: nothing.

    Its shadow is noted before it is handed on.
    """
    window: deque[Small] = deque()
    waiting: deque[tuple[Frame, Mask, Mask, Small]] = deque()
    past: deque[Past] = deque(maxlen=MEMORY // 2)  # every second frame
    camera = Camera()
    far = max(OFFSETS)

    def first() -> tuple[Judged | None, _Looked]:
        frame, mask, keep, small = waiting.popleft()
        judged, looked = _judged(frame, mask, keep, small, window, past, camera)
        share = 0.0
        if judged is not None and looked.told is not None:
            share = float(looked.told.shade.sum() / max(1, judged.known.sum()))
        shadows.note(small, share)
        return judged, looked

    for frame, labels, keep in items:
        small = reduced(frame, labels)
        window.append(small)
        waiting.append((frame, np.asarray(labels > 0), keep, small))
        if len(waiting) > far:
            yield first()
        while len(window) > 2 * far + 1:
            window.popleft()
    while waiting:
        yield first()


def _judged(
    frame: Frame,
    mask: Mask,
    keep: Mask,
    small: Small,
    window: Iterable[Small],
    past: deque[Past],
    camera: Camera,
) -> tuple[Judged | None, _Looked]:
    if mask.all() or min(small.labels.shape) < 32:
        return None, _Looked(frame, mask, keep)
    camera.go_on([other for other in window if other.shot == small.shot])
    gaps = _gaps(small, camera)
    if not mask.any() and not gaps:
        return None, _Looked(frame, mask, keep)
    stays = np.asarray(
        cv2.resize(keep.astype(np.uint8), small.grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
    )
    found = _left_out(small, np.asarray(stays > 0), camera, gaps, past)
    if found is None:
        return None, _Looked(frame, mask, keep, small.labels)
    judged, told = found
    return judged, _Looked(frame, mask, keep, small.labels, told)


def _finished(judged: Judged | None, looked: _Looked, in_shadow: bool) -> Completed:
    mask, labels = looked.mask, looked.labels
    if labels is None:
        return Completed(looked.frame, mask, looked.keep)
    ghosts: list[Ghost] = []
    shade: Mask | None = None
    if judged is not None and looked.told is not None:
        added = np.asarray(judged.known & ~judged.small.mask)
        if added.any():
            mask = np.asarray(mask | (_enlarged(added, mask.shape) & ~looked.keep))
        rim = disc(judged.known, _grown(judged.reach))
        around = _touching(looked.told.shade, rim)
        if in_shadow and around.any():
            shade = np.asarray(_enlarged(around, mask.shape) & ~looked.keep)
        ghosts = _ghosts(judged, looked.told.surely, looked.told.compared)
    x, y = mask.shape[1] / labels.shape[1], mask.shape[0] / labels.shape[0]
    places = [Place(p.label, _times(p.box, x, y)) for p in _places(labels)]
    found = [
        Ghost(Place(g.place.label, _times(g.place.box, x, y)), _times(g.beyond, x, y))
        for g in ghosts
    ]
    return Completed(looked.frame, mask, looked.keep, tuple(places), tuple(found), shade)


def _enlarged(mask: Mask, size: tuple[int, ...]) -> Mask:
    """A mask (h, w) at the size (H, W) of the frame."""
    if mask.shape == size:
        return mask
    across = (size[1], size[0])
    soft = cv2.resize(mask.astype(np.float32), across, interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft > 0.5)


def _grown(reach: int) -> int:
    """How far growing will cover what is beside a mask at least, px."""
    return max(2, reach // 3)


def _times(sides: Sides, x: float, y: float) -> Sides:
    return sides[0] * x, sides[1] * y, sides[2] * x, sides[3] * y


def _places(labels: LabelMap) -> list[Place]:
    found = []
    for label in np.unique(labels[labels > 0]):
        own = np.asarray(labels == label)
        joint = disc(own, max(2, round(0.1 * float(np.sqrt(own.sum())))))
        total, parts = cv2.connectedComponents(joint.astype(np.uint8))
        found += [
            Place(int(label), box_of(np.asarray(own & (parts == part)))) for part in range(1, total)
        ]
    return found


def boxed(items: Iterable[Completed]) -> Iterator[Completed]:
    """Cover objects that have a ghost, and the ghost, with a box.

    Whether and how far is what most of the frames around say, so that the box neither comes and
    goes nor jumps.

    Args:
        items: from `complete`.

    Yields:
        The same with larger masks, `GHOST_REACH` frames late.
    """
    window: deque[tuple[int, int, tuple[Ghost, ...]]] = deque()  # index, shot, ghosts
    waiting: deque[Completed] = deque()
    for item in items:
        window.append((item.frame.index, item.frame.shot, item.ghosts))
        waiting.append(item)
        if len(waiting) > GHOST_REACH:
            yield _boxed(waiting.popleft(), window)
        while len(window) > 2 * GHOST_REACH + 1:
            window.popleft()
    while waiting:
        yield _boxed(waiting.popleft(), window)


def _boxed(item: Completed, window: Iterable[tuple[int, int, tuple[Ghost, ...]]]) -> Completed:
    near = [
        ghosts
        for index, shot, ghosts in window
        if shot == item.frame.shot and abs(index - item.frame.index) <= GHOST_REACH
    ]
    mask = item.mask
    for place in item.places:
        beyond = [g.beyond for ghosts in near for g in ghosts if place.near(g.place)]
        if len(beyond) < LEAST_GHOSTS:
            continue
        x0, y0, x1, y1 = place.box
        left, top, right, bottom = np.median(beyond, axis=0)
        box = np.zeros_like(mask)
        box[
            max(0, round(y0 - top)) : max(0, round(y1 + bottom)),
            max(0, round(x0 - left)) : max(0, round(x1 + right)),
        ] = True
        mask = np.asarray(mask | (box & ~item.keep))
    return replace(item, mask=mask)


def lasting(frames: Collection[int]) -> tuple[int, ...]:
    """Of the frames with a ghost those that are not alone, in order."""
    ordered = np.sort(np.asarray(list(frames), np.int64))
    first = np.searchsorted(ordered, ordered - GHOST_REACH)
    end = np.searchsorted(ordered, ordered + GHOST_REACH, side="right")
    return tuple(int(i) for i in ordered[end - first >= LEAST_GHOSTS])


@dataclass(frozen=True, slots=True, eq=False)
class _Gap:
    """An object that is lost, or half of it, in a frame between two that show it whole."""

    support: Mask
    """(h, w) where it should be."""
    colours: tuple[npt.NDArray[np.float32], ...]
    """(N, 5) samples of it: colour, and place relative to where it should be, in that unit."""
    centre: tuple[float, float]
    size: float
    """Square root of its area, pixels."""

    def resembles(self, image: Image) -> Mask:
        """(h, w) where the picture has a colour that the object has thereabouts."""
        out = np.zeros(self.support.shape, np.bool_)
        y, x = np.nonzero(self.support)
        if len(y):
            lab = _lab(image)[y, x]
            place = _placed(np.stack([x, y], -1), self.centre, self.size)
            at = np.concatenate([lab, place], -1)
            from scipy.spatial import cKDTree  # a quarter of a second of the page's start

            nearest = np.min([cKDTree(c).query(at)[0] for c in self.colours], 0)
            out[y, x] = nearest < COLOUR_REACH
        return out


def _gaps(here: Small, camera: Camera) -> list[_Gap]:
    """The objects of a frame that have to be looked for, see `_Gap`."""
    found, shot = [], camera.shot
    for label in sorted({label for o in shot for label in o.areas}):
        areas = {o.index: o.areas.get(label, 0) for o in shot}
        whole = WHOLE * float(np.quantile([a for a in areas.values() if a], 0.75))
        if areas[here.index] >= whole:
            continue
        before = [o for o in shot if o.index < here.index and areas[o.index] >= whole]
        after = [o for o in shot if o.index > here.index and areas[o.index] >= whole]
        if before and after:
            gap = _between(here, before[-1], after[0], label, camera)
            if gap is not None:
                found.append(gap)
    return found


def _between(here: Small, before: Small, after: Small, label: int, camera: Camera) -> _Gap | None:
    """Where an object should be by the frames before and after that show it whole."""
    height, width = here.grey.shape
    shapes, centres = [], []
    for other in (before, after):
        matrix = camera.between(other, here, (other.mask, here.mask))
        if matrix is None:
            return None
        shape = cv2.warpPerspective(
            (other.labels == label).astype(np.uint8),
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
        )
        moments = cv2.moments(shape, binaryImage=True)
        if not moments["m00"]:
            return None
        shapes.append(shape)
        centres.append((moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]))
    share = (here.index - before.index) / (after.index - before.index)
    x, y = ((1 - share) * centres[0][i] + share * centres[1][i] for i in (0, 1))
    size = max(1.0, float(np.sqrt(max(s.sum() for s in shapes))))
    support = np.zeros((height, width), np.uint8)
    colours = []
    for other, shape, centre in zip((before, after), shapes, centres, strict=True):
        shift = np.asarray([[1, 0, x - centre[0]], [0, 1, y - centre[1]]], np.float64)
        support |= cv2.warpAffine(shape, shift, (width, height))
        rows, columns = np.nonzero(other.labels == label)
        own = (float(columns.mean()), float(rows.mean()))
        place = _placed(np.stack([columns, rows], -1), own, size)
        colours.append(np.concatenate([_lab(other.image)[rows, columns], place], -1)[::2])
    return _Gap(disc(support > 0, max(2, round(0.12 * size))), tuple(colours), (x, y), size)


def _lab(image: Image) -> npt.NDArray[np.float32]:
    soft = cv2.GaussianBlur(image, (3, 3), 0).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(soft, cv2.COLOR_RGB2Lab), np.float32)


def _placed(
    at: npt.NDArray[np.integer[Any]], centre: tuple[float, float], size: float
) -> npt.NDArray[np.float32]:
    """Places in a unit that compares with colour: a third of the size is `COLOUR_REACH`."""
    return np.asarray((at - np.asarray(centre)) * (3 * COLOUR_REACH / size), np.float32)


def _left_out(
    here: Small,
    stays: Mask,
    camera: Camera,
    gaps: list[_Gap],
    past: deque[Past],
) -> tuple[Judged, _Told] | None:
    """What one frame tells of the objects beside their masks; None: there is nothing to compare it
    with.
    """
    diagonal = float(np.hypot(*here.mask.shape))
    expected = here.mask.copy()
    for gap in gaps:
        expected |= gap.support
    reach = round(max(REACH * float(np.sqrt(expected.sum())), LEAST_REACH * diagonal))
    samples = []
    for other in (o for o in camera.shot if o.index - here.index in OFFSETS):
        sample = aligned(here, other, reach, camera)
        if sample is not None:
            samples.append(sample)
    if len(samples) < 2:
        return None
    stacked = np.stack(samples)  # (S, h, w, 3), NaN where hidden
    hidden = np.isnan(stacked)
    shown = (~hidden[..., 0]).sum(0)
    compared = shown >= 2
    near = disc(expected, reach)
    far = compared & ~disc(near, reach)
    low, high = usual(stacked, hidden)
    # one frame tells what is beside an object, not what is usual
    differs, surely = ((shown > 0) & d for d in differing(here.image, low, high, far))
    strangers = strangers_in(here, differs, past)
    ring = disc(near, reach) & ~near & compared & ~strangers
    doubted = bool(ring.sum() < 50 or (differs & ring).sum() > 0.1 * ring.sum())
    if doubted:
        # the camera's motion does not explain the surroundings, or too much of the object is there
        known = here.mask
        if (differs & far).sum() <= 0.1 * far.sum():
            known = known | _as_beside(here, differs & ~strangers, reach, camera)
            remember(past, here, known)
    else:
        missed = _missed(here, differs & ~strangers, gaps)
        known = here.mask | missed
        near = disc(known, reach)
        wanted = np.asarray(differs & near & ~known)
        remember(past, here, known | _touching(wanted, known))
        added = _touching(wanted & ~strangers, known)
        if added.sum() <= MOST_ADDED * known.sum():
            known = known | added
    known = np.asarray(known)
    shade = np.zeros_like(known)
    if not doubted:
        shade = shaded(here, known, (low, high), compared, differs, SHADE_REACH * reach)
    apart = disc(known, 2 * reach)
    judged = Judged(here, known, differs, stays, apart, reach, doubted)
    return judged, _Told(compared & surely, compared, shade)


def _touching(wanted: Mask, known: Mask) -> Mask:
    """The pieces of what is wanted that touch what is known, without specks."""
    solid = cv2.morphologyEx(wanted.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts = cv2.connectedComponents(solid | known.astype(np.uint8))
    touching = np.unique(parts[known])
    return np.asarray(np.isin(parts, touching[touching > 0]) & (solid > 0))


def _missed(here: Small, differs: Mask, gaps: list[_Gap]) -> Mask:
    """(h, w) what is where objects should be, looks like them and is not as in other frames."""
    missed = np.zeros_like(here.mask)
    for gap in gaps:
        missed |= gap.support & differs & gap.resembles(here.image)
    soft = cv2.morphologyEx(missed.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.morphologyEx(soft, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0)


def _as_beside(here: Small, differs: Mask, reach: int, camera: Camera) -> Mask:
    """(h, w) what has the place and colours of objects by the frames just before and after.

    Args:
        here: the frame.
        differs: (h, w) what is not as in other frames.
        reach: px, gaps between it and the masks up to twice as wide are bridged by what looks like
            the object, such as a dark leg before something dark.
    """
    found = np.zeros_like(here.mask)
    beside = [other for other in camera.shot if abs(other.index - here.index) == 1]
    if len(beside) < 2:
        return found
    for label in here.areas:
        gap = _between(here, beside[0], beside[1], label, camera)
        if gap is None:
            continue
        alike = gap.support & gap.resembles(here.image)
        missed = (alike & differs).astype(np.uint8)
        missed = cv2.morphologyEx(missed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        if missed.any():
            own = missed | (here.labels == label).astype(np.uint8)
            missed |= cv2.morphologyEx(own, cv2.MORPH_CLOSE, kernel(reach)) * alike
        found |= cv2.morphologyEx(missed, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    return np.asarray(found & ~here.mask)


def _ghosts(judged: Judged, differs: Mask, compared: Mask) -> list[Ghost]:
    """What moves along with objects beside their completed masks.

    Growing covers a mask's rim: what lies there is no ghost.

    Args:
        judged: the frame.
        differs: (h, w) what is not as in the other frames.
        compared: (h, w) where that is known.
    """
    here, known, stays, reach = judged.small, judged.known, judged.stays, judged.reach
    left = (differs & ~known & ~stays).astype(np.uint8)
    left = cv2.morphologyEx(left, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    outside = left * ~disc(known, _grown(reach))
    total, parts = cv2.connectedComponents(
        cv2.morphologyEx(left | known.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    )
    own = np.bincount(parts[known], minlength=total)
    ghost = np.bincount(parts[outside > 0], minlength=total)
    boxes = np.zeros_like(known)
    places = _places(here.labels)
    found = []
    for part in range(1, total):
        if own[part] and ghost[part] >= max(12, GHOST * own[part]):
            whole = np.asarray(parts == part)
            x0, y0, x1, y1 = box_of(whole)
            boxes[int(y0) : int(y1), int(x0) : int(x1)] = True
            pad = max(2.0, GHOST_PAD * max(y1 - y0, x1 - x0))
            for place in places:
                u0, v0, u1, v1 = (int(side) for side in place.box)
                if (whole[v0:v1, u0:u1] & (here.labels[v0:v1, u0:u1] == place.label)).any():
                    before = (pad + max(u0 - x0, 0), pad + max(v0 - y0, 0))
                    after = (pad + max(x1 - u1, 0), pad + max(y1 - v1, 0))
                    found.append(Ghost(place, (*before, *after)))
    rest = compared & ~boxes & ~known
    if (differs & rest).sum() > 0.1 * rest.sum():
        return []  # the camera's motion does not explain the picture
    return found
