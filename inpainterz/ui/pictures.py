"""Pictures for the browser: frames as JPEGs of a sensible size, tinted with what is known."""

from __future__ import annotations

import secrets
from pathlib import Path

import cv2
import numpy as np

from inpainterz.errors import PromptError
from inpainterz.masks import colour_of
from inpainterz.preview import overlay
from inpainterz.types import Image, Inpainted, Origin
from inpainterz.ui.session import Session
from inpainterz.video.reader import VideoReader

VIEW_SIDE_PX = 1280
"""Longest side of a frame as it is sent to the browser."""

THUMB_SIDE_PX = 200
"""Longest side of a picture of the filmstrip."""

LIVE_SIDE_PX = 720
"""Longest side of the newest frame while a job runs."""

MOST_PICTURES = 200
"""How many frames of a clip are kept as pictures for the browser."""

SEEN_COLOUR = (29, 132, 226)

INVENTED_COLOUR = (244, 162, 36)
"""How the map of the result tints what other frames show, and what was invented."""


def picture(session: Session, frame: int) -> Path:
    """A JPEG of a frame in the session's folder; the `MOST_PICTURES` newest are kept.

    Raises:
        PromptError: there is no such frame.
        VideoDecodeError: the clip is damaged there.
    """
    clip = session.need_clip()
    if not 0 <= frame < clip.frames:
        raise PromptError(f"there is no frame {frame}", f"The last is {clip.frames - 1}")
    folder = session.folder / "view"
    path = folder / f"{frame:06d}.jpg"
    if not path.is_file():
        folder.mkdir(mode=0o700, exist_ok=True)
        with VideoReader(clip.path) as video:
            image = video.frame(frame).image
        part = path.with_suffix(f".{secrets.token_hex(4)}")
        part.write_bytes(jpeg(image, VIEW_SIDE_PX))
        part.replace(path)
        kept = sorted(folder.glob("*.jpg"), key=lambda p: p.stat().st_mtime)
        for old in kept[: max(0, len(kept) - MOST_PICTURES)]:
            old.unlink(missing_ok=True)
    return path


def thumbnail(session: Session, frame: int) -> bytes:
    """A small JPEG of a frame with its objects tinted.

    Raises:
        PromptError: there is no such frame.
        VideoDecodeError: the clip is damaged there.
    """
    return jpeg(_tinted(session, frame, THUMB_SIDE_PX), THUMB_SIDE_PX)


def still(session: Session) -> bytes:
    """A JPEG of the frame in view with all that the page's canvas draws on it: tint and clicks;
    while a job runs, its newest picture.

    Raises:
        VideoDecodeError: the clip is damaged there.
    """
    clip = session.need_clip()
    if session.job is not None and session.job.live:
        return session.job.live
    image = _tinted(session, session.frame, VIEW_SIDE_PX)
    scale = image.shape[1] / clip.width
    radius = max(4, round(max(image.shape[:2]) / 110))
    for mark in session.marks:
        if mark.frame != session.frame or len(mark.at) != 2:
            continue
        x, y = (int(v * scale) for v in mark.at)
        colour = colour_of(mark.label) if mark.kind == "add" else (37, 39, 44)
        cv2.circle(image, (x, y), radius, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(image, (x, y), radius - 2, colour, -1, cv2.LINE_AA)
    return jpeg(image, VIEW_SIDE_PX)


def _tinted(session: Session, frame: int, side_px: int) -> Image:
    """A frame (h, w, 3), its longer side at most `side_px`, with its visible objects tinted."""
    data = np.frombuffer(picture(session, frame).read_bytes(), np.uint8)
    image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    scale = min(1.0, side_px / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    labels = session.view(frame)
    labels[np.isin(labels, list(session.hidden))] = 0
    shrunk = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return overlay(small, np.asarray(shrunk, np.uint8))


def found_picture(session: Session, item: int) -> bytes:
    """A JPEG of something that was found.

    Raises:
        PromptError: it was not.
    """
    for one in session.found:
        if one.id == item and one.thumbnail is not None:
            return jpeg(one.thumbnail, THUMB_SIDE_PX)
    raise PromptError("nothing of that was found")


def origin_overlay(item: Inpainted) -> Image:
    """The frame with what other frames show and what was invented tinted; untouched elsewhere."""
    if item.origin is None:
        return item.frame.image
    image = item.frame.image.copy()
    for kind, colour in ((Origin.SEEN, SEEN_COLOUR), (Origin.INVENTED, INVENTED_COLOUR)):
        where = item.origin == kind
        if where.any():
            mixed = 0.5 * image[where] + 0.5 * np.asarray(colour, np.float32)
            image[where] = np.rint(mixed).astype(np.uint8)
    return image


def jpeg(image: Image, side_px: int) -> bytes:
    """A JPEG of an RGB image (H, W, 3) whose longer side is at most `side_px`."""
    height, width = image.shape[:2]
    scale = min(1.0, side_px / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1])
