"""How good a segmenter is: a robot clicks on evaluation clips and the answers are scored.

    python benchmarks/segment.py CLIPS_DIR SCORER_DIR [--engine builtin] [--every 0] [--only NAME]

The first click lies where the clip's own case says (or at the innermost point of the true mask),
each next one at the innermost point of the largest error region, positive or negative, as in the
interactive-segmentation papers (Xu et al., CVPR 2016). CLIPS_DIR holds a folder a clip with
case.json, a video and masks.npz; SCORER_DIR holds the scorer's vio.py and metrics.py.
Prints a markdown table; seconds are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inpainterz import engines
from inpainterz.engines import Embedding, Segmenter
from inpainterz.types import Image, Mask, Prompt, Segmentation

CLICKS = 20
TARGET_IOU = 0.85
OFFSETS = (-40, -24, -12, -6, -2, 2, 6, 12, 24, 40)


@dataclass(frozen=True)
class Task:
    """One object in one frame."""

    clip: str
    kind: str
    frame: int
    image: Image
    around: list[Image]
    truth: Mask
    click: tuple[float, float] | None
    box: tuple[float, float, float, float]


def deepest(mask: Mask) -> tuple[tuple[float, float], float]:
    """The innermost point (x, y) of a mask and its distance to the mask's rim or the frame's."""
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return (float(x), float(y)), float(depth.max())


def next_click(answer: Mask, truth: Mask) -> tuple[tuple[float, float], bool]:
    """Where the robot clicks next: on what is missing, or off what is too much."""
    missing, much = deepest(truth & ~answer), deepest(answer & ~truth)
    return (missing[0], True) if missing[1] >= much[1] else (much[0], False)


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def robot(
    segmenter: Segmenter, embedding: Embedding, truth: Mask, first: tuple[float, float], clicks: int
) -> tuple[list[float], list[float]]:
    """IoU and CPU seconds after each click; ends early at `TARGET_IOU` after five clicks."""
    points, signs = [first], [True]
    previous: Segmentation | None = None
    scores: list[float] = []
    seconds: list[float] = []
    for _ in range(clicks):
        began = time.process_time()
        prompt = Prompt(np.asarray(points, np.float32), np.asarray(signs))
        previous = segmenter.segment(embedding, prompt, previous)
        seconds.append(time.process_time() - began)
        scores.append(iou(previous.mask, truth))
        if len(scores) >= 5 and max(scores) >= TARGET_IOU:
            break
        point, sign = next_click(previous.mask, truth)
        points.append(point)
        signs.append(sign)
    return scores, seconds


def tasks(clips: Path, scorer: Path, every: int, only: str) -> Iterator[Task]:
    """The click frame of each clip, and each `every`-th frame where that is not 0."""
    sys.path.insert(0, str(scorer))
    vio = importlib.import_module("vio")
    for folder in sorted(p.parent for p in clips.glob("*/case.json")):
        case = json.loads((folder / "case.json").read_text("utf-8"))
        if only not in case["name"]:
            continue
        files = case["files"]
        frames = vio.read_video(str(folder / (files.get("video") or files["input"])))[..., ::-1]
        labels = vio.read_labels(str(folder / files["masks"]))
        truth = labels == 1 if case["kind"] == "removal" else labels > 0
        start = case.get("click_frame", 0)
        wanted = sorted({start, *(range(0, len(frames), every) if every else ())})
        kind = "hole" if case.get("hole") == "hole" else case["kind"]
        for i in wanted:
            if truth[i].sum() < 100:
                continue
            ys, xs = np.nonzero(truth[i])
            box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            yield Task(
                case["name"],
                kind,
                i,
                np.ascontiguousarray(frames[i]),
                [np.ascontiguousarray(frames[i + o]) for o in OFFSETS if 0 <= i + o < len(frames)],
                truth[i],
                tuple(case["click"]) if i == start else None,
                tuple(float(v) for v in (case["box"] if i == start else box)),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("--engine", default="builtin")
    parser.add_argument("--every", type=int, default=0, help="also every N-th frame; 0: only first")
    parser.add_argument("--only", default="", help="part of a clip's name")
    parser.add_argument("--still", action="store_true", help="no frames around: no motion")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    segmenter = engines.load("segment", given.engine)
    print(
        "| clip | frame | kind | first click | IoU @1 | @3 | @5 | clicks to 0.85 | box "
        "| s/answer | s/embed |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    rows: list[tuple[str, str, list[float]]] = []
    for task in tasks(given.clips, given.scorer, given.every, given.only):
        began = time.process_time()
        embedding = segmenter.embed(task.image, () if given.still else task.around)
        embedded = time.process_time() - began
        began = time.process_time()
        boxed = iou(segmenter.segment(embedding, Prompt.of(box=task.box)).mask, task.truth)
        box_seconds = time.process_time() - began
        firsts = [("robot", deepest(task.truth)[0])]
        if task.click is not None:
            firsts.insert(0, ("case", task.click))
        for who, first in firsts:
            scores, seconds = robot(segmenter, embedding, task.truth, first, CLICKS)
            reached = next((i + 1 for i, s in enumerate(scores) if s >= TARGET_IOU), CLICKS)
            row = [scores[0], scores[2], scores[4], reached, boxed]
            row += [max(*seconds, box_seconds), embedded]
            rows.append((who, task.kind, row))
            shown = " | ".join(
                [*(f"{v:.2f}" for v in row[:3]), f"{reached}", *(f"{v:.2f}" for v in row[4:])]
            )
            print(f"| {task.clip} | {task.frame} | {task.kind} | {who} | {shown} |", flush=True)
    for title, holes in (("all", True), ("without painted holes", False)):
        for who in ("case", "robot"):
            chosen = [r for w, k, r in rows if w == who and (holes or k != "hole")]
            if chosen:
                mean = " | ".join(f"{v:.2f}" for v in np.mean(chosen, axis=0))
                print(f"| **mean, {title}** | {len(chosen)} | | {who} | {mean} |")


if __name__ == "__main__":
    main()
