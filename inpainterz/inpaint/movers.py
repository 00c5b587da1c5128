"""Other things that move, where the hole crosses them: found, followed behind it, put back.

What moves against the camera (a person walking behind, a car) has its own motion: it is measured
on the part that is seen, carried on under the hole by an affine model plus a membrane, and chained
from frame to frame as the background's is. Along it other frames show the thing itself, and say
which pixels of the hole it covers (the layers of Wang and Adelson, Representing Moving Images with
Layers, IEEE Transactions on Image Processing 1994). While the hole hides nearly all of it, it is
taken to go on as it went when enough of it was last seen (see `inpaint.background`).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import motion
from inpainterz.inpaint.blend import Floats, diffuse
from inpainterz.types import Flow, Mask

ENOUGH = 40
"""Pixels that must be seen of a moving thing before its motion is believed."""
MEMORY = 0.9
"""How much of having moved is remembered from frame to frame: feet stand still between steps."""


def evidence(
    a: npt.NDArray[np.uint8],
    b: npt.NDArray[np.uint8],
    flow: Flow,
    camera: Flow,
    stray: Floats,
    reliable: Mask,
) -> Floats:
    """How the picture speaks for a pixel's moving on its own (1), against it (-1), or not (0).

    On a flat road or in the sky any flow explains the picture: only where the camera's motion and
    the flow predict different pictures can one be told to be right.

    Args:
        a, b: (h, w) luma of two frames.
        flow, camera: (h, w, 2) from a to b, as measured and as the background's.
        stray: (h, w) their difference; 1 = as much as parallax may explain.
        reliable: (h, w) where the flow passes its forward-backward test.
    """
    first = a.astype(np.float32)
    by_camera = np.asarray(motion.warp(b, camera), np.float32)
    by_flow = np.asarray(motion.warp(b, flow), np.float32)
    side = (5, 5)
    rest_camera = cv2.blur(cv2.absdiff(first, by_camera), side)
    rest_flow = cv2.blur(cv2.absdiff(first, by_flow), side)
    apart = cv2.blur(cv2.absdiff(by_camera, by_flow), side)
    gx, gy = (
        cv2.Sobel(first, cv2.CV_32F, 1, 0, scale=1 / 8),
        cv2.Sobel(first, cv2.CV_32F, 0, 1, scale=1 / 8),
    )
    texture = cv2.blur(cv2.magnitude(gx, gy), side)
    wins = rest_camera - rest_flow
    alone = reliable & (stray >= 1) & (wins > 1.0) & (wins > 0.4 * apart)
    along = (reliable & (stray < 1) & (texture > 1.5)) | ((apart > 2) & (wins < 0.1 * apart))
    return np.asarray(alone.astype(np.float32) - (along & ~alone), np.float32)


def remembered(now: Floats, before: Floats, back: Flow, reliable: Mask) -> Floats:
    """Evidence (h, w) with that of the past, which fades; feet stand still between steps."""
    old = np.asarray(motion.warp(before, back), np.float32)
    return np.asarray(np.clip(now + MEMORY * old * reliable, -3, 3), np.float32)


def moving(found: Floats, guide: npt.NDArray[np.uint8], blocked: Mask) -> Mask:
    """(h, w) what moves on its own: the evidence spread along the picture's edges, less specks.

    The guided filter of He, Sun and Tang (ECCV 2010) with weights: where nothing can be told a
    pixel goes with its neighbours of like brightness.
    """
    weight = np.minimum(np.abs(found), 1.0) + 0.05
    weight[blocked] = 0
    label = (found > 0).astype(np.float32)
    image = guide.astype(np.float32) / 255
    side = (15, 15)

    def mean(x: npt.NDArray[np.floating]) -> Floats:
        return np.asarray(cv2.blur(np.asarray(x, np.float32), side), np.float32)

    total = np.maximum(mean(weight), 1e-4)
    i, p = mean(weight * image) / total, mean(weight * label) / total
    slope = (mean(weight * image * label) / total - i * p) / (
        mean(weight * image * image) / total - i * i + 4e-3
    )
    offset = p - slope * i
    total_weight = mean(total)
    score = mean(total * slope) / total_weight * image + mean(total * offset) / total_weight
    raw = ((score > 0.5) & ~blocked).astype(np.uint8)
    raw = cv2.morphologyEx(raw, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(raw, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= ENOUGH
    keep[0] = False
    return np.asarray(keep[labels])


def told(found: Floats) -> Floats:
    """(h, w) 0..1 how much of the evidence around a pixel speaks for or against its moving.

    Next to a hole the flow cannot be trusted: what cannot be told there is no vote against.
    """
    share = cv2.blur(np.minimum(np.abs(found), 1), (9, 9))
    return np.asarray(np.clip(2 * share - 0.2, 0.02, 1), np.float32)


def rigid(extra: Flow, seen: Mask) -> Flow | None:
    """The affine motion of moving things, fitted where they are seen, for the whole picture.

    Args:
        extra: (h, w, 2) flow less the camera's, small pixels.
        seen: (h, w) where something moving is seen near the hole and its flow can be trusted.

    Returns:
        (h, w, 2) float32, or None where too little is seen.
    """
    rows, columns = np.nonzero(seen)
    if len(rows) < ENOUGH:
        return None
    h, w = seen.shape
    size = max(h, w)
    pick = np.s_[:: max(1, len(rows) // 2000)]
    rows, columns = rows[pick], columns[pick]
    centre = np.array([columns.mean(), rows.mean()])
    basis = np.stack(
        [np.ones(len(rows)), (columns - centre[0]) / size, (rows - centre[1]) / size], 1
    )
    wanted = extra[rows, columns].astype(np.float64)
    weight = np.ones(len(rows))
    model = np.zeros((3, 2))
    for _ in range(4):
        weighted = basis * weight[:, None]
        # little seen, little said about turning and growing
        normal = weighted.T @ basis + np.diag([1e-3, 2.0, 2.0])
        model = np.linalg.solve(normal, weighted.T @ wanted)
        rest = np.linalg.norm(wanted - basis @ model, axis=1)
        weight = 1 / (1 + (rest / max(0.5, 1.5 * float(np.median(rest)))) ** 2)
    x = (np.arange(w, dtype=np.float32) - centre[0]) / size
    y = (np.arange(h, dtype=np.float32) - centre[1]) / size
    field = model[0] + x[None, :, None] * model[1] + y[:, None, None] * model[2]
    return np.asarray(field, np.float32)


def carry_on(extra: Flow, base: Flow, seen: Mask) -> Flow:
    """Motion of moving things spread from where they are seen to the whole picture.

    Args:
        extra, seen: as in `rigid`.
        base: (h, w, 2) their affine motion; only what differs from it is spread.

    Returns:
        (h, w, 2) float32.
    """
    return np.asarray(base + diffuse(np.asarray(extra - base, np.float32), seen), np.float32)
