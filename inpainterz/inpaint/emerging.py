"""Motion of what comes out from under a hole in the next frame, and is not seen in this one.

Motion under a hole is spread from around it, which says nothing of a thing that is still hidden.
But in the next frame it is seen, and so is where it goes from there. Its motion against the scene
hardly changes within a frame, so it is followed back; what is seen of such things in both frames
tells by how much that is wrong (camera shake, frames of uneven length), and the rest is mended.
Read backward in time, the same tells of what goes under a hole.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint.blend import Floats, diffuse
from inpainterz.types import Flow, Mask

REACH = 40
"""A thing is looked for so far from a hole, pixels of the flow's picture."""
SLOW = 1.5
"""What moves less against the scene, in pixels, is left to what is spread."""
MISS = 8.0
"""Followed back so many pixels off where it can be told, it counts for half."""
TOLD = 0.6
"""From this share on, what was followed back is followed further."""
FEWEST = 10
"""Pixels that are worth the trouble."""

Scene = npt.NDArray[np.float32]
"""(3, 2) float32: the scene's motion at (x, y) is (1, x / 100, y / 100) times it."""


def scene_motion(flow: Flow, usable: Mask) -> Scene | None:
    """The affine motion that most of a flow (h, w, 2) follows where usable (h, w); None = unknown.

    Least squares weighted anew by what is left (Holland and Welsch, Robust Regression Using
    Iteratively Reweighted Least-Squares, Communications in Statistics 6(9), 1977).
    """
    rows, columns = np.nonzero(usable[::4, ::4])
    if len(rows) < 50:
        return None
    step = max(1, len(rows) // 1500)
    rows, columns = 4 * rows[::step], 4 * columns[::step]
    found = flow[rows, columns]
    model = _model(np.column_stack([columns, rows]).astype(np.float32))
    scene = np.zeros((3, 2), np.float32)
    scene[0] = np.median(found, axis=0)
    for _ in range(4):
        rest = np.linalg.norm(found - model @ scene, axis=1)
        scale = max(0.5, 1.5 * float(np.median(rest)))
        weight = (1 / (1 + (rest / scale) ** 2) ** 2)[:, None]
        normal = (model * weight).T @ model + np.eye(3, dtype=np.float32) * 1e-3
        scene = np.linalg.solve(normal, (model * weight).T @ found).astype(np.float32)
    return scene


def emerging(
    flow: Flow,
    hole: Mask,
    scene: Scene,
    ahead: Flow,
    hole_ahead: Mask,
    scene_ahead: Scene,
    hole_after: Mask,
) -> tuple[Flow, Mask]:
    """A flow to the next frame, with what comes out from under the hole moving as it does later.

    Called from the last frame to the first, it follows things deeper under the hole.

    Args:
        flow: (h, w, 2) to the next frame.
        hole: (h, w) bool, of this frame.
        scene: motion of the scene to the next frame, see `scene_motion`.
        ahead: (h, w, 2) from the next frame to the one after it.
        hole_ahead: (h, w) bool, of the next frame, less what was told there.
        scene_ahead: motion of the scene from there.
        hole_after: (h, w) bool, of the frame after it, less what was told there.

    Returns:
        (h, w, 2) float32, `flow` outside the hole; and (h, w) bool, where in the hole it is told
        by what comes out.
    """
    h, w = hole.shape
    x, y, width, height = cv2.boundingRect(hole.astype(np.uint8))
    x0, y0 = max(0, x - REACH), max(0, y - REACH)
    zone = np.s_[y0 : min(h, y + height + REACH), x0 : min(w, x + width + REACH)]
    corner = np.array([x0, y0], np.float32)
    clear = cv2.dilate(hole_ahead[zone].astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    leaves = ahead[zone] - _field(scene_ahead, clear.shape, corner)
    fast = motion.squared(leaves)
    rows, columns = np.nonzero(clear & (fast > SLOW**2))
    place = np.column_stack([columns, rows]).astype(np.float32)
    onto = np.rint(place + corner + ahead[zone][rows, columns]).astype(np.intp)
    seen = _within(onto, (h, w))
    seen[seen] = ~hole_after[onto[seen, 1], onto[seen, 0]]
    rows, columns, place = rows[seen], columns[seen], place[seen]
    # where it was, if it moved against the scene then as it does later
    turn = np.eye(2, dtype=np.float32) + scene[1:].T / 100
    start = place + corner - leaves[rows, columns] - scene[0]
    start = np.asarray(start @ np.linalg.inv(turn).T - corner, np.float32)
    to = np.rint(start).astype(np.intp)
    inside = _within(to, clear.shape)
    to, way = to[inside], (place - start)[inside]
    under = hole[zone]
    if under[to[:, 1], to[:, 0]].sum() < FEWEST:
        return flow, np.zeros_like(hole)
    # what moves most against the scene is taken for what is in front
    order = np.argsort(fast[rows, columns][inside], kind="stable")
    to, way = to[order], way[order]
    back, there = np.zeros((*clear.shape, 2), np.float32), np.zeros(clear.shape, np.float32)
    back[to[:, 1], to[:, 0]] = way
    there[to[:, 1], to[:, 0]] = 1
    near = cv2.blur(there, (5, 5))
    back = cv2.blur(back, (5, 5)) / np.maximum(near, 1e-6)[..., None]
    known = (near > 0.5) & (cv2.dilate(under.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0)
    share = np.where(under, np.clip(3 * near - 0.5, 0, 1), 0).astype(np.float32)
    if known.sum() >= 2 * FEWEST:
        thin = np.s_[::2, ::2]  # it is smooth
        gap = np.asarray(flow[zone][thin] - back[thin], np.float32)
        off = diffuse(gap, np.ascontiguousarray(known[thin]), sweeps=2)
        off = np.asarray(cv2.resize(off, clear.shape[::-1]), np.float32)
        back = back + off
        share = share / (1 + motion.squared(off) / np.float32(MISS**2))
    done = flow.copy()
    done[zone] += share[..., None] * (back - flow[zone])
    told = np.zeros_like(hole)
    told[zone] = share > TOLD
    return done, told


def _model(at: Floats) -> Floats:
    """(n, 3) what a `Scene` is multiplied by at positions (n, 2)."""
    return np.column_stack([np.ones(len(at), np.float32), at / np.float32(100)])


def _field(scene: Scene, shape: tuple[int, int], corner: Floats) -> Flow:
    """The scene's motion (h, w, 2) at the pixels of a rectangle."""
    x = (np.arange(shape[1], dtype=np.float32) + corner[0]) / np.float32(100)
    y = (np.arange(shape[0], dtype=np.float32) + corner[1]) / np.float32(100)
    along, down = scene[0] + x[:, None] * scene[1], y[:, None] * scene[2]
    return np.asarray(along[None] + down[:, None], np.float32)


def _within(at: npt.NDArray[np.intp], shape: tuple[int, int]) -> Mask:
    """(n,) which positions (n, 2) are in a picture."""
    return np.asarray((at >= 0).all(1) & (at[:, 0] < shape[1]) & (at[:, 1] < shape[0]))
