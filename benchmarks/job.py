"""How good the whole job is: one click on a removal clip, nothing else, and what is left is scored.

    python benchmarks/job.py CLIPS_DIR SCORER_DIR [--click X,Y@FRAME] [--only NAME]
        [--tracker deaot] [--second-pass box] [--pictures FOLDER]

CLIPS_DIR holds a folder a clip with case.json, a video and masks.npz, perhaps a clean plate; clips
of the kind "removal" are used, each with the click of its case unless one is given. SCORER_DIR
holds the scorer's score.py. The frames are scored as they leave the inpainter, before they are
encoded. Prints a markdown table: IoU of the first mask, J&F of the tracked ones, PSNR and SSIM
against the plate where the truth says the object was, and object_left, the share of its pixels
that changed by less than 10 grey levels, taken apart: what would be left even were the plate put
there ("alike": the object has the background's colour), what the holes did not cover ("missed"),
and what they did cover and was filled alike again ("filled"); "clean frames" is object_left where
the case says that nobody else is in the true mask. With --pictures, writes strips:
missed pixels of the truth red, those filled alike blue, the hole's rim yellow.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from inpainterz import Engines, Prompt, VideoReader
from inpainterz.masks import MaskStore
from inpainterz.pipeline import FillOptions, fill, outline, propagate
from inpainterz.types import Image
from inpainterz.video.shots import find_cuts

SAME = 10
"""Grey levels below which a pixel counts as unchanged, as in the scorer."""


@dataclass(frozen=True)
class Outcome:
    """What became of one clip."""

    source: npt.NDArray[np.uint8]  # (N, H, W, 3) RGB
    labels: npt.NDArray[np.uint8]  # (N, H, W)
    holes: npt.NDArray[np.bool_]  # (N, H, W)
    clean: npt.NDArray[np.uint8]  # (N, H, W, 3) RGB


def job(
    path: Path, engines: Engines, click: tuple[float, float], frame: int, options: FillOptions
) -> Outcome:
    """Remove what one click shows."""
    with VideoReader(path) as video, MaskStore.temporary() as masks:
        cuts = find_cuts(video)
        shown = outline(video, {frame: {1: Prompt.of(click)}}, engines.segmenter, cuts=cuts)
        for _ in propagate(video, shown, engines.tracker, masks, cuts=cuts):
            pass
        source, labels, holes, clean = [], [], [], []
        filled = fill(video, masks, engines.inpainter, options=options, cuts=cuts)
        for before, done in zip(video.frames(), filled, strict=True):
            source.append(before.image)
            found = masks.get(before.index)
            empty = np.zeros(before.image.shape[:2], np.uint8)
            labels.append(empty if found is None else found)
            holes.append(empty > 0 if done.origin is None else done.origin > 0)
            clean.append(done.frame.image)
    return Outcome(np.stack(source), np.stack(labels), np.stack(holes), np.stack(clean))


def shares(
    outcome: Outcome, truth: npt.NDArray[np.bool_], plate: Image | None
) -> tuple[float, float, float]:
    """Of all pixels of the truth: alike anyway, not in the hole, and in it but filled alike."""
    alike = np.zeros_like(truth)
    if plate is not None:
        alike = np.abs(outcome.source.astype(np.int16) - plate).max(-1) < SAME
    same = np.abs(outcome.clean.astype(np.int16) - outcome.source).max(-1) < SAME
    left = truth & same
    total = max(1, int(truth.sum()))
    missed = left & ~alike & ~outcome.holes
    return (
        float((left & alike).sum() / total),
        float(missed.sum() / total),
        float((left & ~alike & outcome.holes).sum() / total),
    )


def strip(outcome: Outcome, truth: npt.NDArray[np.bool_], count: int = 12) -> Image:
    """Frames before and after, cut out around the object."""
    tiles: list[Image] = []
    wanted = np.flatnonzero(truth.any((1, 2)))
    for i in wanted[np.linspace(0, len(wanted) - 1, count).astype(int)]:
        x, y, w, h = cv2.boundingRect(truth[i].astype(np.uint8))
        half = round(0.8 * max(w, h))
        cx, cy = x + w // 2, y + h // 2
        marked = outcome.source[i].copy()
        same = np.abs(outcome.clean[i].astype(np.int16) - outcome.source[i]).max(-1) < SAME
        for part, colour in (
            (truth[i] & same & ~outcome.holes[i], (255, 0, 0)),
            (truth[i] & same & outcome.holes[i], (0, 0, 255)),
        ):
            marked[part] = marked[part] // 2 + np.asarray(colour, np.uint8) // 2
        rims, _ = cv2.findContours(
            outcome.holes[i].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(marked, rims, -1, (255, 255, 0), 1)
        pair = []
        for picture in (marked, outcome.clean[i]):
            padded = cv2.copyMakeBorder(picture, half, half, half, half, cv2.BORDER_CONSTANT)
            pair.append(cv2.resize(padded[cy : cy + 2 * half, cx : cx + 2 * half], (240, 240)))
        tiles.append(np.asarray(np.vstack(pair), np.uint8))
    rows = [np.hstack(tiles[k : k + count // 2]) for k in range(0, count, count // 2)]
    return np.asarray(np.vstack(rows), np.uint8)


def row(
    name: str, outcome: Outcome, folder: Path, case: dict[str, Any], frame: int, score: ModuleType
) -> str:
    """One line of the table."""
    truth = np.asarray(score.case_masks(str(folder))) > 0
    plate = None
    if "plate" in case["files"]:
        read = cv2.imread(str(folder / case["files"]["plate"]))
        if read is None:
            sys.exit(f"no plate in {folder}")
        plate = np.asarray(read[..., ::-1], np.uint8)
    first = (outcome.labels[frame] == 1) & truth[frame]
    union = (outcome.labels[frame] == 1) | truth[frame]
    tracked = score.evaluate_tracking(str(folder), (outcome.labels == 1).astype(np.uint8))
    done = score.evaluate_removal(str(folder), np.ascontiguousarray(outcome.clean[..., ::-1]))
    alike, missed, filled = shares(outcome, truth, plate)
    clean = case["objects"][0].get("clean_frames") or list(range(len(truth)))
    same = np.abs(outcome.clean[clean].astype(np.int16) - outcome.source[clean]).max(-1) < SAME
    alone = (truth[clean] & same).sum() / max(1, int(truth[clean].sum()))
    against = [
        f"{done[k]:.{n}f}" if k in done else "-"
        for k, n in (("psnr_plate", 1), ("psnr_plate_worst_frame", 1), ("ssim_plate", 3))
    ]
    return (
        f"| {name} | {first.sum() / max(1, union.sum()):.2f} | {tracked['JF']:.3f} "
        f"| {' | '.join(against)} | {done['object_left']:.3f} "
        f"| {alike:.3f} | {missed:.3f} | {filled:.3f} | {alone:.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("--click", action="append", default=[], metavar="X,Y[@FRAME]")
    parser.add_argument("--only", default="", help="part of a clip's name")
    parser.add_argument("--segmenter", default="builtin")
    parser.add_argument("--tracker", default="builtin")
    parser.add_argument("--inpainter", default="builtin")
    parser.add_argument("--second-pass", default="none", choices=("none", "box"))
    parser.add_argument("--pictures", type=Path, help="folder for strips")
    given = parser.parse_args()
    sys.path.insert(0, str(given.scorer))
    score = importlib.import_module("score")
    engines = Engines.load(
        segmenter=given.segmenter, tracker=given.tracker, inpainter=given.inpainter
    )
    options = FillOptions(second_pass=given.second_pass)
    print(
        "| clip, click | first IoU | J&F | plate dB | worst frame | SSIM | object left "
        "| alike | missed | filled | clean frames |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for folder in sorted(p.parent for p in given.clips.glob("*/case.json")):
        case = json.loads((folder / "case.json").read_text("utf-8"))
        if case["kind"] != "removal" or given.only not in case["name"]:
            continue
        start = case["objects"][0].get("first_frame", 0)
        for text in given.click or [f"{case['click'][0]},{case['click'][1]}@{start}"]:
            place, _, at = text.partition("@")
            x, y = (float(v) for v in place.split(","))
            frame = int(at or 0)
            outcome = job(folder / case["files"]["video"], engines, (x, y), frame, options)
            name = f"{case['name']}, {x:g},{y:g}@{frame}"
            print(row(name, outcome, folder, case, frame, score), flush=True)
            if given.pictures:
                given.pictures.mkdir(parents=True, exist_ok=True)
                truth = np.asarray(score.case_masks(str(folder))) > 0
                target = given.pictures / f"job-{case['name']}-{x:g}-{y:g}-{frame}.png"
                cv2.imwrite(str(target), cv2.cvtColor(strip(outcome, truth), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
