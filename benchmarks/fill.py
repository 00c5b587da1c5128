"""How good an inpainter is: evaluation clips are filled with their true masks and scored.

    python benchmarks/fill.py CLIPS_DIR SCORER_DIR [--engine builtin] [--only NAME] [--grow 0,2,4]

CLIPS_DIR holds a folder a clip with case.json, a video and masks.npz: clips of the kind
"completion", whose true pixels behind the hole are known, and "removal" with a clean plate.
SCORER_DIR holds the scorer's score.py. Per-frame Telea (OpenCV's) is scored beside the engine.
Prints a markdown table; seconds are wall seconds a frame, and CPU seconds of all threads and
processes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inpainterz import engines, masks
from inpainterz.types import Frame

HEAD = (
    "| clip | Telea bg dB | bg dB | hole dB | bg SSIM | e_warp / truth's "
    "| s / frame | CPU s / frame |"
)


def _filled(
    engine: engines.Inpainter, images: np.ndarray, holes: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """BGR frames with their holes filled, wall and CPU seconds a frame."""
    frames = (
        (Frame(np.ascontiguousarray(image[..., ::-1]), i, i, Fraction(1, 24)), hole > 0)
        for i, (image, hole) in enumerate(zip(images, holes, strict=True))
    )
    wall, cpu = time.perf_counter(), _cpu_seconds()
    done = np.stack([result.frame.image[..., ::-1] for result in engine.inpaint(frames)])
    count = len(done)
    return done, (time.perf_counter() - wall) / count, (_cpu_seconds() - cpu) / count


def _cpu_seconds() -> float:
    """Of this process and those that it started and that have ended."""
    return sum(os.times()[:4])


def _telea(images: np.ndarray, holes: np.ndarray) -> np.ndarray:
    pairs = zip(images, holes, strict=True)
    return np.stack([cv2.inpaint(i, h.astype(np.uint8), 5, cv2.INPAINT_TELEA) for i, h in pairs])


def _completion(score: Any, case: Path, engine: engines.Inpainter) -> tuple[list[float], str]:
    images = score.vio.read_video(score.case_input(str(case)))
    holes = score.case_masks(str(case))
    done, wall, cpu = _filled(engine, images, holes)
    ours = score.evaluate_completion(str(case), done)
    telea = score.evaluate_completion(str(case), _telea(images, holes))
    numbers = [
        telea["psnr_hole_bg"],
        ours["psnr_hole_bg"],
        ours["psnr_hole"],
        ours["ssim_hole_bg"],
        ours["e_warp_hole"] / ours["e_warp_hole_truth"],
        wall,
        cpu,
    ]
    return numbers, _row(case.name, numbers)


def _removal(score: Any, case: Path, engine: engines.Inpainter, grow: int) -> str:
    images = score.vio.read_video(score.case_input(str(case)))
    true = score.case_masks(str(case))
    holes = np.stack([masks.grow(m > 0, grow) for m in true])
    done, wall, cpu = _filled(engine, images, holes)
    ours = score.evaluate_removal(str(case), done)
    telea = score.evaluate_removal(str(case), _telea(images, holes))
    return (
        f"| {case.name} | {grow} | {telea['psnr_plate']:.1f} | {ours['psnr_plate']:.1f} | "
        f"{ours['psnr_plate_worst_frame']:.1f} | {ours['ssim_plate']:.3f} | "
        f"{ours['object_left']:.3f} | {wall:.2f} | {cpu:.2f} |"
    )


def _row(name: str, numbers: list[float]) -> str:
    telea, background, hole, ssim, warp, wall, cpu = numbers
    return (
        f"| {name} | {telea:.1f} | {background:.1f} | {hole:.1f} | {ssim:.3f} | {warp:.2f} | "
        f"{wall:.2f} | {cpu:.2f} |"
    )


def say(line: str) -> None:
    print(line, flush=True)  # a row as soon as it is known: clips take minutes


def main() -> None:
    parser = argparse.ArgumentParser(description="Score an inpainter on evaluation clips.")
    parser.add_argument("clips", type=Path)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("--engine", default="builtin")
    parser.add_argument("--only", default="", help="part of a clip's name")
    parser.add_argument("--grow", default="0", help="mask growths for removal clips, pixels")
    chosen = parser.parse_args()
    sys.path.insert(0, str(chosen.scorer))
    score = importlib.import_module("score")
    engine = engines.load("inpaint", chosen.engine)
    cases = [p.parent for p in sorted(chosen.clips.glob("*/case.json")) if chosen.only in str(p)]
    kinds: dict[str, list[Path]] = {"completion": [], "removal": []}
    for case in cases:
        kind = json.loads((case / "case.json").read_text("utf-8"))["kind"]
        kinds.setdefault(kind, []).append(case)

    if kinds["completion"]:
        say(HEAD)
        say("|---|" + "---:|" * 7)
        all_numbers = []
        for case in kinds["completion"]:
            numbers, row = _completion(score, case, engine)
            all_numbers.append(numbers)
            say(row)
        say(_row("mean", [float(x) for x in np.mean(all_numbers, 0)]))
    if kinds["removal"]:
        say("")
        say(
            "| clip | grown px | Telea plate dB | plate dB | worst frame | SSIM | object left | "
            "s / frame | CPU s / frame |"
        )
        say("|---|" + "---:|" * 8)
        for case in kinds["removal"]:
            for grow in chosen.grow.split(","):
                say(_removal(score, case, engine, int(grow)))


if __name__ == "__main__":
    main()
