"""Motion between two images: dense flow, global motion, and how far either can be trusted."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.types import Flow, Image, Mask

Homography = npt.NDArray[np.float64]
"""(3, 3) float64, maps (x, y, 1) of one image to the other's."""

Points = npt.NDArray[np.float32]
"""(n, 2) float32 x and y, or (n,) a number of each."""

NEAR_PX = 1.5
"""A point follows a homography that misses its end by no more."""

NOISE_PX = 0.5
"""By so much a tracked point is off."""

DOUBTED = 0.65
"""Where fewer points follow a homography, a plainer motion is looked for."""

SLIGHT = 0.015
"""Longer sides of the picture by which noise may bend it; a scene in depth bends more."""


def grey(image: Image) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB to (H, W) luma, uint8."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def dense_flow(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], *, fast: bool = False) -> Flow:
    """Flow from a to b: pixel p of `a` is seen at p + flow[p] in `b`.

    Dense inverse search (Kroeger et al., ECCV 2016) as OpenCV has it.

    Args:
        a, b: (H, W) uint8 luma, one size, any size (DIS itself refuses tiny images).
        fast: stop at a quarter of the size, about three times as fast.
    """
    h, w = a.shape
    grow = max(1.0, 64.0 / min(h, w))  # DIS needs some 12 px at its coarsest level
    if grow > 1:
        size = (int(np.ceil(w * grow)), int(np.ceil(h * grow)))
        a, b = (np.asarray(cv2.resize(x, size), np.uint8) for x in (a, b))
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)  # DIS refuses views
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if fast:
        search.setFinestScale(2)
    flow = search.calc(a, b, None)
    if grow > 1:
        flow = cv2.resize(flow, (w, h)) * np.array([w / size[0], h / size[1]], np.float32)
    return np.asarray(flow, np.float32)


def finer_flow(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], guess: Flow) -> Flow:
    """A flow from a to b that is fine to the pixel, started from a coarse one.

    For the same area it takes several times as long as a `fast` one.

    Args:
        a, b: (H, W) uint8 luma, one size, 32 pixels at least each way.
        guess: (H, W, 2), as `dense_flow` tells it.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setCoarsestScale(1)
    search.setFinestScale(0)
    search.setPatchStride(6)
    search.setVariationalRefinementIterations(1)
    # DIS refuses views, and writes on the guess
    first, second = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return np.asarray(search.calc(first, second, np.array(guess, np.float32, order="C")))


def grid(height: int, width: int, x0: int = 0, y0: int = 0) -> Flow:
    """(H, W, 2) float32 of the (x, y) of each pixel of a rectangle that begins at (x0, y0)."""
    at = np.empty((height, width, 2), np.float32)
    at[..., 0] = np.arange(x0, x0 + width, dtype=np.float32)
    at[..., 1] = np.arange(y0, y0 + height, dtype=np.float32)[:, None]
    return at


def scaled(vectors: npt.NDArray[np.float32], x: float, y: float) -> npt.NDArray[np.float32]:
    """Vectors (H, W, 2) float32 with their components multiplied by x and y."""
    # numpy takes twenty times as long over a short last axis
    return np.asarray(cv2.transform(vectors, np.diag([x, y])), np.float32)


def warp(
    image: npt.NDArray[np.generic],
    flow: Flow,
    *,
    interpolation: int = cv2.INTER_LINEAR,
    border: int = cv2.BORDER_REPLICATE,
) -> npt.NDArray[np.generic]:
    """Sample `image` at p + flow[p]: brings the image that the flow points to onto its start.

    Args:
        image: (H, W) or (H, W, C), a dtype that OpenCV's remap takes.
        flow: (h, w, 2) in pixels of `image`; the result has its size.
    """
    at = grid(*flow.shape[:2]) + flow
    return np.asarray(cv2.remap(image, at[..., 0], at[..., 1], interpolation, borderMode=border))


def squared(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """(H, W, C) to the squared length of each vector, (H, W) float32."""
    # a sum over a short last axis takes numpy fifteen times as long
    weights = np.ones((1, vectors.shape[-1]), np.float32)
    each = np.asarray(vectors, np.float32)
    return np.asarray(cv2.transform(each * each, weights), np.float32)


def agrees(forward: Flow, backward: Flow) -> Mask:
    """Where a pixel followed forward and back comes home (and stays inside the picture).

    The test of Sundaram, Brox and Keutzer (ECCV 2010):
    |f + b(f)|^2 < 0.01 (|f|^2 + |b(f)|^2) + 0.5.
    """
    h, w = forward.shape[:2]
    back = np.asarray(warp(backward, forward, border=cv2.BORDER_CONSTANT), np.float32)
    error = squared(forward + back)
    size = squared(forward) + squared(back)
    at = grid(h, w) + forward
    inside = (at[..., 0] >= 0) & (at[..., 0] <= w - 1) & (at[..., 1] >= 0) & (at[..., 1] <= h - 1)
    return np.asarray((error < 0.01 * size + 0.5) & inside)


def global_motion(
    a: npt.NDArray[np.uint8],
    b: npt.NDArray[np.uint8],
    *,
    ignore_a: Mask | None = None,
    ignore_b: Mask | None = None,
    features: int = 600,
    guess: Homography | None = None,
    patch_px: int = 21,
) -> tuple[Homography, float]:
    """The homography from a to b that most of the background follows, and its share of inliers.

    Corners are tracked by pyramidal Lucas-Kanade, checked forward and backward, and fitted with
    MAGSAC; where too few agree, the identity with trust 0 is returned. Where few follow it and it
    bends the picture little, a similarity is fitted too, and the better one taken by what it misses
    and how many numbers it needs (as in Torr, An Assessment of Information Criteria for Motion
    Model Selection, CVPR 1997).

    Args:
        a, b: (H, W) uint8 luma, one size.
        ignore_a, ignore_b: (H, W) bool, pixels not to be used (the object, the hole).
        features: at most so many corners.
        guess: roughly the homography; corners are looked for near where it puts them.
        patch_px: side of the patch around a corner that is compared.

    Returns:
        The (3, 3) homography and the share of tracked corners that follow it, 0..1.
    """
    nothing = np.eye(3), 0.0
    usable = None if ignore_a is None else np.where(ignore_a, 0, 255).astype(np.uint8)
    spacing = max(4.0, min(a.shape) / 60.0)
    start = cv2.goodFeaturesToTrack(a, features, 0.005, spacing, mask=usable)
    if start is None or len(start) < 12:
        return nothing
    end, good = _tracked(a, b, start, guess, patch_px)
    inverse = None if guess is None else np.linalg.inv(guess)
    home, back = _tracked(b, a, end, inverse, patch_px)
    start, end, home = (np.asarray(p, np.float32).reshape(-1, 2) for p in (start, end, home))
    keep = (good.ravel() > 0) & (back.ravel() > 0) & (np.abs(start - home).max(-1) < 0.7)
    if ignore_b is not None:
        h, w = b.shape
        x = np.clip(np.rint(end[:, 0]), 0, w - 1).astype(int)
        y = np.clip(np.rint(end[:, 1]), 0, h - 1).astype(int)
        keep &= ~ignore_b[y, x]
    if keep.sum() < 12:
        return nothing
    start, end = start[keep], end[keep]
    found, inliers = cv2.findHomography(start, end, cv2.USAC_MAGSAC, NEAR_PX)
    if found is None:
        return nothing
    trust = float(inliers.mean())
    if trust < DOUBTED and guess is None:
        plain = _similarity(start, end)
        if plain is not None and _bend(found, a.shape) < SLIGHT * max(a.shape):
            # eight numbers follow the noise where few points agree; four do so less
            miss, plain_miss = (_miss(matrix, start, end) for matrix in (found, plain))
            cost, plain_cost = (
                np.minimum(rest / NOISE_PX**2, 9).sum() / 2 + unknowns * np.log(len(start))
                for rest, unknowns in ((miss, 8), (plain_miss, 4))
            )
            if plain_cost < cost:
                return plain, float((plain_miss < NEAR_PX**2).mean())
    return np.asarray(found, np.float64), trust


def _similarity(start: Points, end: Points) -> Homography | None:
    """Shift, turn and scale from points (n, 2) to others that most of them follow."""
    found, _ = cv2.estimateAffinePartial2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=NEAR_PX, maxIters=500
    )
    return None if found is None else np.vstack([found, [0, 0, 1]]).astype(np.float64)


def _miss(matrix: Homography, start: Points, end: Points) -> Points:
    """(n,) squared pixels by which a homography misses the end of each point."""
    gap = cv2.perspectiveTransform(start[:, None], matrix)[:, 0] - end
    return np.asarray((gap * gap).sum(-1), np.float32)


def _bend(matrix: Homography, shape: tuple[int, ...]) -> float:
    """How far a homography moves a corner beside shift, turn and scale, pixels."""
    h, w = shape[:2]
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float64)
    moved = cv2.perspectiveTransform(corners[None], matrix)[0]
    # as complex numbers a similarity is one factor and one offset
    here, there = ((at - at.mean(0)) @ [1, 1j] for at in (corners, moved))
    factor = (here.conj() @ there) / (here.conj() @ here)
    return float(np.abs(there - factor * here).max())


def _tracked(
    a: npt.NDArray[np.uint8],
    b: npt.NDArray[np.uint8],
    points: npt.NDArray[np.floating],
    guess: npt.NDArray[np.floating] | None,
    patch_px: int,
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.uint8]]:
    """Where points (n, 1, 2) of a are in b, and (n, 1) whether each was found."""
    size = (patch_px, patch_px)
    if guess is None:
        end, good, _ = cv2.calcOpticalFlowPyrLK(a, b, points, None, winSize=size, maxLevel=4)
    else:
        near = cv2.perspectiveTransform(points, np.asarray(guess, np.float64)).astype(np.float32)
        flags = cv2.OPTFLOW_USE_INITIAL_FLOW
        end, good, _ = cv2.calcOpticalFlowPyrLK(
            a, b, points, near, winSize=size, maxLevel=2, flags=flags
        )
    return np.asarray(end, np.float32), np.asarray(good, np.uint8)


def homography_flow(matrix: Homography, height: int, width: int) -> Flow:
    """The flow (H, W, 2) that a homography means for each pixel."""
    at = grid(height, width)
    moved = cv2.perspectiveTransform(at.reshape(-1, 1, 2), matrix).reshape(height, width, 2)
    return np.asarray(moved - at, np.float32)
