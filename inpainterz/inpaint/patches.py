"""What no frame shows: completed from patches of what surrounds it, coarse to fine.

Sources: Wexler, Shechtman and Irani, Space-Time Completion of Video, PAMI 2007 (the voting of
overlapping patches, section 3); Barnes et al., PatchMatch, SIGGRAPH 2009 (the search: good
offsets are handed to neighbours and refined at random); Newson et al., Video Inpainting of
Complex Scenes, SIAM Journal on Imaging Sciences 2014 (what to watch at coarse levels); Pritch,
Kav-Venaki and Peleg, Shift-Map Image Editing, ICCV 2009 (neighbours should be copied from
neighbours).
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import ThreadpoolController

from inpainterz.inpaint.blend import Floats, diffuse
from inpainterz.types import Mask

SIDE = 7
"""Of a patch, pixels."""

GUIDE = 0.3
"""How much a patch's middle must look like the smooth fill, beside looking like its neighbours."""

TOGETHER = 0.3
"""What a neighbour that is copied from elsewhere costs, as a share of what patches cost; more
looks patched, less is blurred where patches that disagree are averaged."""

SWEEPS = 2
"""So often each pixel looks whether it should go with its neighbours."""

LEAST_WEIGHT = 1e-3
"""What the least likely patch weighs in a vote, the best being 1."""

BESIDE = ((0, 1), (1, 0), (0, -1), (-1, 0))
AROUND = (*BESIDE, (1, 1), (-1, -1), (1, -1), (-1, 1))

ROUNDS = 2
"""So often at a scale patches are looked for and put together, and as often each search goes on;
twice as many of either are no closer to the truth."""

Places = npt.NDArray[np.intp]
"""(n, 2) row and column."""


def complete(pixels: Floats, hole: Mask, known: Mask, *, work_px: int = 4000) -> Floats:
    """Fill a hole with patches found around it.

    Args:
        pixels: (H, W, 3) float32; what stands in the hole does not matter.
        hole: (H, W) bool, to be filled.
        known: (H, W) bool, what patches may be taken from; not in the hole.
        work_px: patches are searched at the finest scale where the hole has at most this many
            pixels; what is finer is copied from the places found there.

    Returns:
        (H, W, 3) float32, `pixels` outside the hole. The same input gives the same answer.
    """
    first = diffuse(pixels, known)
    if hole.sum() < 2 * SIDE or min(hole.shape) < 2 * SIDE:
        return np.where(hole[..., None], first, pixels).astype(np.float32)
    rng = np.random.default_rng(0)
    levels = [(pixels, hole, known)]
    while True:
        p, m, k = levels[-1]
        h, w = m.shape
        thickness = float(cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 3).max())
        if thickness < 3 or min(h, w) < 4 * SIDE:
            break
        size = ((w + 1) // 2, (h + 1) // 2)
        weight = cv2.resize(k.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        mean = cv2.resize(p * k[..., None], size, interpolation=cv2.INTER_AREA)
        smaller_hole = cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        levels.append(
            (
                np.asarray(mean / np.maximum(weight, 1e-3)[..., None], np.float32),
                np.asarray(smaller_hole),
                np.asarray((weight > 0.99) & ~smaller_hole),
            )
        )
    places: Places | None = None
    previous: Mask | None = None
    current: Floats | None = None
    for p, m, k in reversed(levels):
        sources = _sources(k)
        if len(sources) < 4 * SIDE:
            current, places = None, None
            continue
        h, w = m.shape
        targets = np.argwhere(m)
        guide = cv2.resize(first, (w, h), interpolation=cv2.INTER_AREA)
        if current is None:
            with _blas().limit(limits=1, user_api="blas"):
                filled, guess = _peel(p, guide, m, k, sources, targets, rng)
        else:
            assert places is not None and previous is not None
            up = cv2.resize(current, (w, h), interpolation=cv2.INTER_LINEAR)
            filled = np.where(m[..., None], up, p).astype(np.float32)
            at = np.full((*previous.shape, 2), -1, np.intp)
            at[previous] = places
            ph, pw = previous.shape
            parent = np.minimum(targets // 2, [ph - 1, pw - 1])
            guess = at[parent[:, 0], parent[:, 1]] * 2 + targets % 2
        allowed = np.zeros((h, w), np.bool_)
        allowed[sources[:, 0], sources[:, 1]] = True
        if len(levels) == 1 and thickness < 3:
            current = filled  # a strip between known pixels: there is nothing for a search to mend
            break
        guess = _onto(guess, allowed, sources, rng)
        fine = len(targets) > work_px
        rounds = 1 if fine else ROUNDS
        for _ in range(rounds):
            places = _search(filled, guide, targets, guess, allowed, rng, rounds)
            places = _together(filled, guide, targets, places, allowed)
            filled = _vote(filled, m, targets, places)
            guess = places
        current, previous = filled, m
    if current is None:
        current = first
    return np.where(hole[..., None], current, pixels).astype(np.float32)


@functools.cache
def _blas() -> ThreadpoolController:
    """To keep matrix products on one thread: they are small, and the other cores are busy."""
    return ThreadpoolController()


def _peel(
    pixels: Floats,
    guide: Floats,
    hole: Mask,
    known: Mask,
    sources: Places,
    targets: Places,
    rng: np.random.Generator,
) -> tuple[Floats, Places]:
    """A first fill, layer by layer from the rim inwards, by what of each patch is known already.

    Starting from a smooth fill instead, flat patches win everywhere (Newson, section 3.3).
    """
    some = sources[rng.permutation(len(sources))[:1500]]
    half = SIDE // 2
    border = (half, half, half, half)
    filled, done = np.where(known[..., None], pixels, 0).astype(np.float32), known.copy()
    padded = cv2.copyMakeBorder(pixels, *border, cv2.BORDER_REFLECT_101)
    offered = _patches(padded, some)
    power = cv2.transform(padded * padded, np.ones((1, 3), np.float32))[..., None]
    squares = _patches(power, some)
    soft = cv2.blur(pixels, (SIDE, SIDE))[some[:, 0], some[:, 1]]
    # |w (a - b)|^2 + g |c - d|^2 for all pairs, less what is the same for all b and d, is one
    # product of matrices, w being 0 or 1
    near = GUIDE / 3
    columns = (offered, squares, soft, near * (soft**2).sum(1, keepdims=True))
    everything = np.ascontiguousarray(np.hstack(columns).T, np.float32)
    place = np.zeros((*hole.shape, 2), np.intp)
    while True:
        edge = cv2.dilate(done.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        layer = np.argwhere(edge & hole & ~done)
        if not len(layer):
            break
        there = cv2.copyMakeBorder(done.astype(np.float32), *border, cv2.BORDER_CONSTANT, value=0)
        weight = _patches(there[..., None], layer)
        weight /= np.maximum(weight.sum(1, keepdims=True), 1)
        wanted = _patches(cv2.copyMakeBorder(filled, *border, cv2.BORDER_CONSTANT), layer)
        wanted *= -2 * np.repeat(weight, 3, axis=1)
        wish = -2 * near * guide[layer[:, 0], layer[:, 1]]
        ones = np.ones((len(layer), 1), np.float32)
        apart = np.hstack([wanted, weight, wish, ones], dtype=np.float32) @ everything
        best = some[apart.argmin(1)]
        filled[layer[:, 0], layer[:, 1]] = pixels[best[:, 0], best[:, 1]]
        place[layer[:, 0], layer[:, 1]] = best
        done[layer[:, 0], layer[:, 1]] = True
    return filled, place[targets[:, 0], targets[:, 1]]


def _sources(known: Mask) -> Places:
    """Centres of patches that are known throughout."""
    solid = cv2.erode(
        known.astype(np.uint8),
        np.ones((SIDE, SIDE), np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return np.argwhere(solid > 0)


def _onto(guess: Places, allowed: Mask, sources: Places, rng: np.random.Generator) -> Places:
    """The guesses, with those that are no source replaced by any source."""
    good = _usable(guess, allowed)
    other = sources[rng.integers(len(sources), size=len(guess))]
    return np.asarray(np.where(good[:, None], guess, other), np.intp)


def _patches(padded: Floats, at: Places) -> Floats:
    """(n, SIDE * SIDE * c) patches around places of what `padded` (h, w, c) extends."""
    h, w, channels = padded.shape
    row = SIDE * channels
    # a patch is SIDE runs of memory: this takes a tenth of the time of an index for each pixel
    runs = sliding_window_view(np.ascontiguousarray(padded).reshape(h, w * channels), (SIDE, row))
    return np.asarray(runs[at[:, 0], at[:, 1] * channels].reshape(len(at), SIDE * row), np.float32)


class _Unlike:
    """How unlike the patches at some places are to what stands at target pixels now."""

    def __init__(self, filled: Floats, guide: Floats, targets: Places) -> None:
        half = SIDE // 2
        self.padded = cv2.copyMakeBorder(filled, half, half, half, half, cv2.BORDER_REFLECT_101)
        self.wanted = _patches(self.padded, targets)
        self.soft = cv2.blur(filled, (SIDE, SIDE))
        self.wish = guide[targets[:, 0], targets[:, 1]]

    def __call__(self, places: Places, of: npt.NDArray[np.intp]) -> Floats:
        """(n,) the cost of a place (n, 2) for each of some targets (n,)."""
        unlike = self.wanted[of] - _patches(self.padded, places)
        off = self.wish[of] - self.soft[places[:, 0], places[:, 1]]
        mean = np.einsum("ij,ij->i", unlike, unlike) / unlike.shape[1]
        return np.asarray(mean + GUIDE / 3 * np.einsum("ij,ij->i", off, off), np.float32)


def _usable(places: Places, allowed: Mask) -> npt.NDArray[np.bool_]:
    """(n,) which places (n, 2) are in the picture and may be copied from."""
    h, w = allowed.shape
    inside = (places >= 0).all(1) & (places[:, 0] < h) & (places[:, 1] < w)
    inside[inside] = allowed[places[inside, 0], places[inside, 1]]
    return np.asarray(inside)


def _search(
    filled: Floats,
    guide: Floats,
    targets: Places,
    places: Places,
    allowed: Mask,
    rng: np.random.Generator,
    rounds: int,
) -> Places:
    """For each target pixel the place of a similar patch, improved from a guess."""
    h, w = allowed.shape
    number = np.full((h + 2, w + 2), -1, np.intp)
    number[targets[:, 0] + 1, targets[:, 1] + 1] = np.arange(len(targets))
    places = places.copy()
    unlike = _Unlike(filled, guide, targets)
    everyone = np.arange(len(targets))
    cost = unlike(places, everyone)

    def attempt(candidate: Places, of: npt.NDArray[np.intp]) -> None:
        ok = _usable(candidate, allowed)
        candidate, of = candidate[ok], of[ok]
        found = unlike(candidate, of)
        better = found < cost[of]
        places[of[better]], cost[of[better]] = candidate[better], found[better]

    for _ in range(rounds):
        for down, right in BESIDE:
            neighbour = number[targets[:, 0] + 1 - down, targets[:, 1] + 1 - right]
            of = everyone[neighbour >= 0]
            attempt(places[neighbour[of]] + (down, right), of)
        radius = max(h, w) // 2
        while radius >= 1:
            attempt(places + rng.integers(-radius, radius + 1, size=places.shape), everyone)
            radius //= 4
    return places


def _together(
    filled: Floats, guide: Floats, targets: Places, places: Places, allowed: Mask
) -> Places:
    """The places (n, 2), with pixels copied along with their neighbours where that costs little.

    Each pixel in turn takes the offset of a neighbour if that lowers its cost and that of
    differing from those around it (iterated conditional modes of Besag, On the Statistical Analysis
    of Dirty Pictures, Journal of the Royal Statistical Society B 1986); every second pixel at once.
    """
    h, w = allowed.shape
    wide = 4 * w
    row, column = targets[:, 0] + 1, targets[:, 1] + 1
    offset = places - targets + (2 * h, 2 * w)
    codes = np.full((h + 2, w + 2), -1, np.intp)  # an offset as one number
    codes[row, column] = offset[:, 0] * wide + offset[:, 1]

    def at(of: npt.NDArray[np.intp], code: npt.NDArray[np.intp]) -> Places:
        return np.asarray(targets[of] + np.stack(np.divmod(code, wide), 1) - (2 * h, 2 * w))

    everyone = np.arange(len(targets))
    unlike = _Unlike(filled, guide, targets)
    cost = unlike(places, everyone)
    apart = TOGETHER * max(float(np.median(cost)), 4.0)
    for sweep in range(SWEEPS):
        turn = everyone[(row + column + sweep) % 2 == 0]
        for down, right in BESIDE:
            code, own = (
                codes[row[turn] + down, column[turn] + right],
                codes[row[turn], column[turn]],
            )
            other = (code >= 0) & (code != own)
            of, code, own = turn[other], code[other], own[other]
            candidate = at(of, code)
            ok = _usable(candidate, allowed)
            of, code, own, candidate = of[ok], code[ok], own[ok], candidate[ok]
            around = np.stack([codes[row[of] + y, column[of] + x] for y, x in AROUND])
            gain = apart * ((around == code).sum(0) - (around == own).sum(0))
            found = unlike(candidate, of)
            better = found - gain < cost[of]
            of = of[better]
            codes[row[of], column[of]], cost[of] = code[better], found[better]
    return at(everyone, codes[row, column])


def _vote(filled: Floats, hole: Mask, targets: Places, places: Places) -> Floats:
    """Each hole pixel as the mean of what the patches around it say, the similar ones most."""
    h, w = hole.shape
    half = SIDE // 2
    padded = cv2.copyMakeBorder(filled, half, half, half, half, cv2.BORDER_REFLECT_101)
    wanted, found = _patches(padded, targets), _patches(padded, places)
    cost = ((wanted - found) ** 2).mean(1)
    weight = np.exp(-cost / (2 * max(float(np.percentile(cost, 75)), 1.0)))
    weight = np.maximum(weight, LEAST_WEIGHT)  # somebody must have a say everywhere
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)
    weight *= 1.3 ** -depth[targets[:, 0], targets[:, 1]]  # the rim is known, the middle guessed
    width = w + 2 * half
    total = np.zeros(((h + 2 * half) * width, 4), np.float32)  # weighted colours, and weights
    said = np.ones((len(targets), SIDE, SIDE, 4), np.float32)
    said[..., :3] = found.reshape(-1, SIDE, SIDE, 3)
    said *= weight.astype(np.float32)[:, None, None, None]
    corner = targets[:, 0] * width + targets[:, 1]
    for dy in range(SIDE):  # within one shift no two patches write to the same pixel
        for dx in range(SIDE):
            near = np.float32(np.exp(-((dy - half) ** 2 + (dx - half) ** 2) / 6.0))
            total[corner + (dy * width + dx)] += said[:, dy, dx] * near
    inner = np.s_[half : half + h, half : half + w]
    total = total.reshape(-1, width, 4)[inner]
    voted = total[..., :3] / np.maximum(total[..., 3:], 1e-9)
    return np.where(hole[..., None], voted, filled).astype(np.float32)
