"""Superpixels of a frame and the graph between them, on which objects are cut out.

Superpixels follow SLIC (Achanta et al., PAMI 2012) with each pixel choosing among the nine cells
around its own grid cell, as in gSLICr (Ren, Prisacariu and Reid, 2015). Cuts are exact minima of
an energy with one term a region and one term a border (Boykov and Jolly, ICCV 2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

_CAPACITY = 2_000_000  # of a link that must not be cut; sums stay far below int32


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """The superpixels of one picture and who touches whom."""

    labels: Labels
    """(h, w) int32, 0..n-1."""
    somewhere: Labels
    """(n,) flat index of one pixel of each region."""
    area: Floats
    """(n,) pixels."""
    centre: Floats
    """(n, 2) mean (x, y)."""
    colour: Floats
    """(n, 3) mean CIE Lab."""
    grain: Floats
    """(n,) mean of `grain_of`."""
    pairs: Labels
    """(e, 2) touching regions, each pair once, lower index first."""
    length: Floats
    """(e,) pixels of common border."""
    contrast: Floats
    """(e,) mean Lab difference across the common border."""

    @property
    def count(self) -> int:
        return len(self.area)

    def mean(self, values: npt.NDArray[np.generic]) -> Floats:
        """Mean over each region of (h, w) or (h, w, c) values: (n,) or (n, c)."""
        return region_mean(self.labels, self.count, values)


def region_mean(labels: Labels, count: int, values: npt.NDArray[np.generic]) -> Floats:
    """Mean over each label of (h, w) or (h, w, c) values: (count,) or (count, c)."""
    flat = labels.ravel()
    size = np.maximum(np.bincount(flat, minlength=count), 1)
    if values.ndim == 2:
        return (np.bincount(flat, values.ravel(), count) / size).astype(np.float32)
    sums = [np.bincount(flat, values[..., c].ravel(), count) for c in range(values.shape[2])]
    return (np.stack(sums, -1) / size[:, None]).astype(np.float32)


def superpixels(lab: Floats, cell_px: int, *, stiffness: float = 12.0, rounds: int = 5) -> Labels:
    """Connected superpixels of about `cell_px` squared pixels.

    Args:
        lab: (h, w, 3) float32 CIE Lab.
        cell_px: side of the starting grid.
        stiffness: Lab distance that weighs as much as one cell of distance in the picture.
        rounds: of k-means.

    Returns:
        (h, w) int32 labels 0..n-1, each one 4-connected.
    """
    h, w = lab.shape[:2]
    rows, columns = max(1, round(h / cell_px)), max(1, round(w / cell_px))
    y, x = np.mgrid[:h, :w].astype(np.float32)
    cell_y = np.minimum((y * rows / h).astype(np.int32), rows - 1)
    cell_x = np.minimum((x * columns / w).astype(np.int32), columns - 1)
    place = stiffness / cell_px
    features = np.dstack([lab, x * place, y * place]).reshape(-1, 5)
    choices = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            ny, nx = np.clip(cell_y + dy, 0, rows - 1), np.clip(cell_x + dx, 0, columns - 1)
            choices.append((ny * columns + nx).ravel())
    labels = choices[4]
    n = rows * columns
    for _ in range(rounds):
        size = np.maximum(np.bincount(labels, minlength=n), 1)
        centres = np.stack([np.bincount(labels, features[:, c], n) / size for c in range(5)], -1)
        centres = centres.astype(np.float32)
        best = np.full(h * w, np.inf, np.float32)
        for choice in choices:
            difference = features - centres[choice]
            distance = np.einsum("ij,ij->i", difference, difference)
            closer = distance < best
            best = np.where(closer, distance, best)
            labels = np.where(closer, choice, labels)
    return _connected(labels.reshape(h, w).astype(np.int32), lab, cell_px * cell_px // 4)


def _links(labels: Labels) -> tuple[Labels, Labels]:
    """Flat indices of each pixel and its right or lower neighbour."""
    index = np.arange(labels.size, dtype=np.int32).reshape(labels.shape)
    a = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    b = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    return a, b


def _connected(labels: Labels, lab: Floats, smallest: int) -> Labels:
    """Split labels into connected pieces and give small pieces to the neighbour most like them."""
    a, b = _links(labels)
    flat = labels.ravel()
    same = flat[a] == flat[b]
    ones = np.ones(int(same.sum()), np.int8)
    graph = sparse.coo_matrix((ones, (a[same], b[same])), shape=(flat.size, flat.size))
    n, piece = csgraph.connected_components(graph, directed=False)
    for _ in range(4):
        size = np.bincount(piece, minlength=n)
        if (size >= smallest).all() or n == 1:
            break
        colour = region_mean(piece.reshape(labels.shape), n, lab)
        pa, pb = piece[a], piece[b]
        across = pa != pb
        pa, pb = np.r_[pa[across], pb[across]], np.r_[pb[across], pa[across]]
        small = size[pa] < smallest
        pa, pb = pa[small], pb[small]
        # into something larger only, so that two small pieces never swap
        larger = (size[pb] > size[pa]) | ((size[pb] == size[pa]) & (pb > pa))
        pa, pb = pa[larger], pb[larger]
        distance = ((colour[pa] - colour[pb]) ** 2).sum(-1)
        order = np.lexsort((distance, pa))
        pa, pb = pa[order], pb[order]
        first = np.r_[True, pa[1:] != pa[:-1]] if len(pa) else np.zeros(0, bool)
        target = np.arange(n)
        target[pa[first]] = pb[first]
        for _ in range(8):
            target = target[target]
        _, piece = np.unique(target[piece], return_inverse=True)
        piece = piece.ravel()
        n = int(piece.max()) + 1
    return np.asarray(piece.reshape(labels.shape), np.int32)


def build(lab: Floats, labels: Labels, grain: Floats) -> Regions:
    """Measure superpixels and their borders.

    Args:
        lab: (h, w, 3) float32 CIE Lab.
        labels: (h, w) int32 from `superpixels`.
        grain: (h, w) from `grain_of`.
    """
    h, w = labels.shape
    n = int(labels.max()) + 1
    y, x = np.mgrid[:h, :w].astype(np.float32)
    sides = []
    for axis in (0, 1):
        step = np.take(labels, range(1, labels.shape[axis]), axis)
        base = np.take(labels, range(labels.shape[axis] - 1), axis)
        # two pixels on each side: soft edges are wider than one step
        far = np.roll(lab, -2, axis)
        near = np.roll(lab, 1, axis)
        if axis == 0:
            far[-2:], near[:1] = lab[-1], lab[0]
        else:
            far[:, -2:], near[:, :1] = lab[:, -1:], lab[:, :1]
        difference = np.sqrt(((far - near) ** 2).sum(-1))
        difference = np.take(difference, range(labels.shape[axis] - 1), axis)
        across = base != step
        sides.append((base[across], step[across], difference[across]))
    a = np.concatenate([s[0] for s in sides])
    b = np.concatenate([s[1] for s in sides])
    d = np.concatenate([s[2] for s in sides])
    key = np.minimum(a, b).astype(np.int64) * n + np.maximum(a, b)
    unique, inverse = np.unique(key, return_inverse=True)
    length = np.bincount(inverse.ravel(), minlength=len(unique)).astype(np.float32)
    contrast = np.bincount(inverse.ravel(), d, len(unique)) / np.maximum(length, 1)
    return Regions(
        labels=labels,
        somewhere=np.unique(labels, return_index=True)[1].astype(np.int32),
        area=np.bincount(labels.ravel(), minlength=n).astype(np.float32),
        centre=region_mean(labels, n, np.dstack([x, y])),
        colour=region_mean(labels, n, lab),
        grain=region_mean(labels, n, grain),
        pairs=np.stack([unique // n, unique % n], -1).astype(np.int32),
        length=length,
        contrast=contrast.astype(np.float32),
    )


def distances(regions: Regions, cost: Floats, start: npt.NDArray[np.integer[Any]]) -> Floats:
    """Shortest way from the nearest of the regions `start` to each region.

    Args:
        regions: n regions, e borders.
        cost: (e,) of stepping over each border, > 0.
        start: (k,) indices, k >= 1.

    Returns:
        (n,) float32; inf where there is no way.
    """
    return paths(regions, cost, start)[0]


def paths(
    regions: Regions, cost: Floats, start: npt.NDArray[np.integer[Any]]
) -> tuple[Floats, Labels]:
    """As `distances`, with the region (n,) from which each one is reached; negative: none."""
    n = regions.count
    a, b = regions.pairs.T
    graph = sparse.csr_matrix((np.maximum(cost, 1e-6), (a, b)), shape=(n, n))
    way, back, _ = csgraph.dijkstra(
        graph, directed=False, indices=start, min_only=True, return_predecessors=True
    )
    return np.asarray(way, np.float32), np.asarray(back, np.int32)


def cut(
    prefer: Floats,
    pairs: Labels,
    cost: Floats,
    inside: Flags | None = None,
    outside: Flags | None = None,
) -> Flags:
    """The labelling x that minimises sum(-prefer[x]) + sum(cost where x differs), exactly.

    Args:
        prefer: (n,) > 0 where a node would rather be inside.
        pairs: (e, 2) neighbours.
        cost: (e,) >= 0 of separating them, in the unit of `prefer`.
        inside, outside: (n,) bool, nodes whose side is given.

    Returns:
        (n,) bool, True = inside.
    """
    n = len(prefer)
    scale = 1000.0 / max(
        1e-6, float(np.abs(prefer).mean()) + float(cost.mean() if len(cost) else 0)
    )
    want = np.clip(np.rint(prefer * scale), -_CAPACITY / 4, _CAPACITY / 4).astype(np.int64)
    if inside is not None:
        want[inside] = _CAPACITY
    if outside is not None:
        want[outside] = -_CAPACITY
    link = np.clip(np.rint(cost * scale), 0, _CAPACITY / 64).astype(np.int64)
    source, sink = n, n + 1
    take, leave = np.flatnonzero(want > 0), np.flatnonzero(want < 0)
    if not len(take):
        return np.zeros(n, np.bool_)
    if not len(leave):
        return np.ones(n, np.bool_)
    a, b = pairs[:, 0], pairs[:, 1]
    rows = np.concatenate([a, b, np.full(len(take), source), leave])
    columns = np.concatenate([b, a, take, np.full(len(leave), sink)])
    capacity = np.concatenate([link, link, want[take], -want[leave]]).astype(np.int32)
    graph = sparse.csr_matrix((capacity, (rows, columns)), shape=(n + 2, n + 2))
    flow = csgraph.maximum_flow(graph, source, sink).flow
    # what is still reached from the source through links that are not full is inside
    residual = graph - flow
    residual.data = (residual.data > 0).astype(np.int8)
    residual.eliminate_zeros()
    reached = csgraph.breadth_first_order(residual, source, return_predecessors=False)
    answer = np.zeros(n + 2, np.bool_)
    answer[reached] = True
    return answer[:n]


def lab_of(image: npt.NDArray[np.uint8]) -> Floats:
    """(H, W, 3) uint8 RGB to float32 CIE Lab, L 0..100."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def grain_of(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> Floats:
    """How grainy a picture is at its finest scale, in units comparable to Lab distance.

    Args:
        image: (H, W, 3) RGB at source size, where its grain is.
        size: (w, h) of the answer.

    Returns:
        (h, w) float32, 0 where it is perfectly smooth.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) * (100 / 255)
    fine = np.abs(luma - cv2.blur(luma, (3, 3)))
    small = cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
    # a box filter of running sums falls a rounding error below 0 where nothing varies
    return np.asarray(6 * np.sqrt(np.maximum(cv2.blur(small, (5, 5)), 0)), np.float32)
