"""Pixels for people: overlays, click marks, before/after sheets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from inpainterz.masks import MaskStore, colour_of
from inpainterz.types import Image, LabelMap
from inpainterz.video.reader import VideoReader

PAPER = (250, 250, 248)
INK = (40, 42, 46)


def overlay(image: Image, labels: LabelMap, *, alpha: float = 0.45) -> Image:
    """The image with each object tinted in its colour and outlined; the image itself is untouched.

    Args:
        image: (H, W, 3) RGB.
        labels: (H, W) label map.
        alpha: 0 = no tint .. 1 = flat colour.
    """
    out = image.copy()
    thick = max(1, round(min(image.shape[:2]) / 360))
    for label in np.unique(labels):
        if label == 0:
            continue
        mask = labels == label
        colour = np.array(colour_of(int(label)), np.float32)
        out[mask] = np.rint(out[mask] * (1 - alpha) + colour * alpha).astype(np.uint8)
        edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out, edges, -1, colour_of(int(label)), thick, cv2.LINE_AA)
    return out


def side_by_side(before: Image, after: Image, *, gap_px: int = 8) -> Image:
    """Two images of one height beside each other."""
    gap = np.full((before.shape[0], gap_px, 3), PAPER, np.uint8)
    return np.hstack([before, gap, after])


def contact_sheet(columns: Sequence[tuple[str, Sequence[Image]]], *, width_px: int = 1500) -> Image:
    """A sheet with one titled row for each entry, its images in a line, small enough to look at.

    Args:
        columns: (title, images); all images have one size, all rows one length.
        width_px: the sheet's width.
    """
    count = len(columns[0][1])
    height, width = columns[0][1][0].shape[:2]
    gap, title_px = 8, 26
    cell_w = (width_px - gap * (count + 1)) // count
    cell_h = max(1, round(cell_w * height / width))
    sheet_h = gap + len(columns) * (title_px + cell_h + gap)
    sheet = np.full((sheet_h, width_px, 3), PAPER, np.uint8)
    y = gap
    for title, images in columns:
        cv2.putText(sheet, title, (gap, y + 17), cv2.FONT_HERSHEY_DUPLEX, 0.5, INK, 1, cv2.LINE_AA)
        y += title_px
        for k, image in enumerate(images):
            x = gap + k * (cell_w + gap)
            sheet[y : y + cell_h, x : x + cell_w] = cv2.resize(
                image, (cell_w, cell_h), interpolation=cv2.INTER_AREA
            )
        y += cell_h + gap
    return sheet


def thumbnail_sheet(
    tiles: Sequence[tuple[int, Image, Sequence[str]]], *, columns: int = 5, cell_px: int = 220
) -> Image:
    """A sheet of numbered thumbnails with a few lines of text under each.

    Args:
        tiles: (number, (h, w, 3) picture, lines); none makes a sheet that says so.
        columns: how many lie in a row at most.
        cell_px: width of a cell; a picture fits into its square.
    """
    gap, line_px = 10, 18
    if not tiles:
        empty = np.full((2 * gap + 2 * line_px, 2 * cell_px, 3), PAPER, np.uint8)
        _write(empty, "nothing was found", (gap, gap + line_px), 0.5, INK)
        return empty
    columns = min(columns, len(tiles))
    cell_h = cell_px + line_px * max(len(lines) for _, _, lines in tiles) + gap
    rows = -(-len(tiles) // columns)
    sheet = np.full(
        (gap + rows * (cell_h + gap), gap + columns * (cell_px + gap), 3), PAPER, np.uint8
    )
    for k, (number, image, lines) in enumerate(tiles):
        x, y = gap + k % columns * (cell_px + gap), gap + k // columns * (cell_h + gap)
        scale = cell_px / max(image.shape[:2])
        size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        shown = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
        left, top = x + (cell_px - size[0]) // 2, y + (cell_px - size[1]) // 2
        sheet[top : top + size[1], left : left + size[0]] = shown
        cv2.rectangle(
            sheet, (x, y), (x + 18 + 12 * len(str(number)), y + 26), colour_of(number), -1
        )
        _write(sheet, str(number), (x + 9, y + 20), 0.65, (255, 255, 255))
        for i, line in enumerate(lines):
            _write(sheet, line, (x, y + cell_px + line_px * (i + 1)), 0.42, INK)
    return sheet


def _write(
    image: Image, text: str, at: tuple[int, int], size: float, colour: tuple[int, int, int]
) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_DUPLEX, size, colour, 1, cv2.LINE_AA)


def before_after_sheet(source: Path, cleaned: Path, masks: Path | None, *, count: int = 5) -> Image:
    """Rows of the same frames: as filmed, the mask, cleaned.

    Args:
        source, cleaned: two video files with the same frames.
        masks: zip of label maps, or None for a sheet without that row.
        count: how many frames, spread over those that have a mask.
    """
    with ExitStack() as open_files:
        before = open_files.enter_context(VideoReader(source))
        after = open_files.enter_context(VideoReader(cleaned))
        wanted = list(range(len(before)))
        store = None
        if masks is not None:
            store = open_files.enter_context(MaskStore.temporary())
            store.take(masks, len(before), before.size)
            wanted = [i for i, labels in store.items() if labels.any()] or wanted
        picks = [wanted[round(k * (len(wanted) - 1) / max(1, count - 1))] for k in range(count)]
        first = [before.frame(i).image for i in picks]
        last = [after.frame(i).image for i in picks]
        rows: list[tuple[str, list[Image]]] = [("as filmed", first)]
        if store is not None:
            found = [store.get(i) for i in picks]
            tinted = [
                image if labels is None else overlay(image, labels)
                for image, labels in zip(first, found, strict=True)
            ]
            rows.append(("followed", tinted))
        rows.append(("cleaned", last))
        return contact_sheet(rows)


def encode_png(image: Image) -> bytes:
    """A PNG of an RGB image."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1])
