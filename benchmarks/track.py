"""How good a tracker is: it starts from the true first mask and is scored on the frames after it.

    python benchmarks/track.py CLIPS_DIR SCORER_DIR [--engine builtin] [--only NAME]
        [--option max_side_px=480] [--strips FOLDER]

CLIPS_DIR holds a folder a clip with case.json, a video and masks.npz; SCORER_DIR holds the scorer's
score.py, vio.py and metrics.py. Tracking and removal clips are used with each of their objects,
completion clips with the object that was pasted in and, in the untouched clip, with their subject.
Prints a markdown table: J and F as DAVIS has them, their mean, the lowest J, how many frames have
J < 0.5 and how many of those are in the half of the clip's frames that the tracker trusts least
(the same over all clips in the last row), CPU seconds a frame (all cores together; on a busy
machine set OMP_NUM_THREADS=1, waiting threads count), and seconds by the clock. With --strips,
writes a PNG a clip: the mask in red, the true outline in green.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import engines
from inpainterz.engines import Tracker
from inpainterz.types import Frame, Image, Mask

POOR = 0.5
"""The J below which a frame should be doubted."""


@dataclass(frozen=True)
class Task:
    """One object of one clip."""

    name: str
    images: npt.NDArray[np.uint8]  # (N, H, W, 3) RGB, from the first frame with the object on
    truth: npt.NDArray[np.bool_]  # (N, H, W)
    scored: list[int]  # frames, counted from the first


@dataclass(frozen=True)
class Result:
    """What a tracker made of it."""

    task: Task
    masks: npt.NDArray[np.bool_]
    j: npt.NDArray[np.float64]
    f: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]  # of the scored frames
    cpu_s: float  # a frame
    wall_s: float  # a frame


def tasks(clips: Path, vio: ModuleType, only: str | None) -> Iterator[Task]:
    for path in sorted(p.parent for p in clips.glob("*/case.json")):
        case: dict[str, Any] = json.loads((path / "case.json").read_text("utf-8"))
        files, found = case["files"], []
        if case["kind"] == "completion":
            if case.get("hole") == "composite":
                found.append((case["name"], files["input"], files["masks"], None, 0, None))
            if "subject" in files:
                found.append(
                    (f"{case['name']} (subject)", files["truth"], files["subject"], None, 0, None)
                )
        else:
            for thing in case["objects"]:
                name = case["name"] + (f" {thing['label']}" if len(case["objects"]) > 1 else "")
                found.append(
                    (
                        name,
                        files["video"],
                        files["masks"],
                        thing["label"],
                        thing.get("first_frame", case.get("click_frame", 0)),
                        thing.get("clean_frames"),
                    )
                )
        for name, video, masks, label, first, clean in found:
            if only and only not in name:
                continue
            images = vio.read_video(str(path / video))[first:, ..., ::-1]
            labels = vio.read_labels(str(path / masks))[first:]
            truth = labels > 0 if label is None else labels == label
            scored = [i - first for i in clean if i > first] if clean else range(1, len(images))
            yield Task(name, np.ascontiguousarray(images), truth, list(scored))


def run(tracker: Tracker, task: Task, metrics: ModuleType) -> Result:
    frames = [Frame(image, i, i, Fraction(1, 25)) for i, image in enumerate(task.images)]
    masks, confidence = np.zeros_like(task.truth), np.zeros(len(frames))
    cpu, wall = time.process_time(), time.perf_counter()
    for i, out in enumerate(tracker.track(frames, {0: task.truth[0].astype(np.uint8)})):
        masks[i], confidence[i] = out.labels == 1, out.confidence.get(1, 0.0)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Result(
        task,
        masks,
        np.asarray(metrics.j_frames(masks[task.scored], task.truth[task.scored])),
        np.asarray(metrics.f_frames(masks[task.scored], task.truth[task.scored])),
        confidence[task.scored],
        cpu / len(frames),
        wall / len(frames),
    )


def doubted(j: npt.NDArray[np.float64], confidence: npt.NDArray[np.float64]) -> str:
    """Of the poor frames, how many are in the less trusted half."""
    poor = j < POOR
    low = confidence <= np.median(confidence)
    return f"{int((poor & low).sum())} of {int(poor.sum())}"


def strip(result: Result, count: int = 8, width: int = 320) -> Image:
    rows: list[Image] = []
    for i in np.linspace(0, len(result.masks) - 1, count).astype(int):
        picture = result.task.images[i].copy()
        inside: Mask = result.masks[i]
        picture[inside] = picture[inside] // 2 + np.asarray([127, 0, 0], np.uint8)
        outline, _ = cv2.findContours(
            result.task.truth[i].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, outline, -1, (0, 255, 0), 1)
        height = round(width * picture.shape[0] / picture.shape[1])
        rows.append(np.asarray(cv2.resize(picture, (width, height)), np.uint8))
    half = count // 2
    return np.vstack([np.hstack(rows[:half]), np.hstack(rows[half : 2 * half])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("--engine", default="builtin")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--only", help="clips with this in their name")
    parser.add_argument("--strips", type=Path, help="folder for pictures")
    given = parser.parse_args()
    sys.path.insert(0, str(given.scorer))
    vio, metrics = importlib.import_module("vio"), importlib.import_module("metrics")
    options = {name: json.loads(value) for name, value in (o.split("=") for o in given.option)}
    tracker = engines.load("track", given.engine, device="cpu", options=options or None)
    results = []
    print("| clip | J | F | J&F | J min | J < 0.5 doubted | CPU s/frame | s/frame |")
    print("|---|---|---|---|---|---|---|---|")
    for task in tasks(given.clips, vio, given.only):
        r = run(tracker, task, metrics)
        results.append(r)
        print(
            f"| {task.name} | {r.j.mean():.3f} | {r.f.mean():.3f} "
            f"| {(r.j.mean() + r.f.mean()) / 2:.3f} | {r.j.min():.2f} "
            f"| {doubted(r.j, r.confidence)} | {r.cpu_s:.2f} | {r.wall_s:.2f} |",
            flush=True,
        )
        if given.strips:
            given.strips.mkdir(parents=True, exist_ok=True)
            target = given.strips / f"track-{task.name.replace(' ', '-')}.png"
            cv2.imwrite(str(target), cv2.cvtColor(strip(r), cv2.COLOR_RGB2BGR))
    if not results:
        sys.exit("no clip fits")
    j, f = (float(np.mean([getattr(r, k).mean() for r in results])) for k in ("j", "f"))
    pooled = doubted(
        np.concatenate([r.j for r in results]), np.concatenate([r.confidence for r in results])
    )
    print(
        f"| mean | {j:.3f} | {f:.3f} | {(j + f) / 2:.3f} | {min(r.j.min() for r in results):.2f} "
        f"| {pooled} | {np.mean([r.cpu_s for r in results]):.2f} "
        f"| {np.mean([r.wall_s for r in results]):.2f} |"
    )


if __name__ == "__main__":
    main()
