"""Fit the weights by which the built-in segmenter chooses among its hypotheses.

    python benchmarks/fit_segment.py CLIPS_DIR SCORER_DIR [--pictures DIR] [--situation edit]

A robot clicks as in `segment.py`, now and then going on from another hypothesis than the best, so
that poor answers are seen too. Of each pool the traits and the IoU of all hypotheses are kept; the
weights that give the highest expected IoU under a soft choice are sought from the present ones,
with a penalty for leaving them. Prints the IoU of the choice, before refinement, with the present
weights, with scenes left out of the fit and fitted on all, and the new column of the table in
`inpainterz/segment/hypotheses.py`. DIR holds single pictures NAME.png with NAME_mask.png; what
precedes the last underscore of NAME is their scene.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy import optimize
from segment import Task, deepest, next_click, tasks

from inpainterz.segment.builtin import BuiltinSegmenter, Options
from inpainterz.segment.hypotheses import SITUATIONS, TRAITS, WEIGHTS, Pool
from inpainterz.types import Mask, Prompt, Segmentation

CLICKS = 5
SOFTNESS = 0.5  # of the choice, in units of the weighed sum
PENALTY = 0.003  # of leaving the present weights, per squared unit of weighed spread
FOLDS = 6


@dataclass(frozen=True)
class Seen:
    """One pool."""

    scene: str
    situation: str
    traits: npt.NDArray[np.float32]
    """(k, traits)"""
    iou: npt.NDArray[np.float32]
    """(k,) with the truth, by regions."""


class Recorder(BuiltinSegmenter):
    """Keeps what it chose from; chooses something else at times."""

    def __init__(self, stray: float) -> None:
        super().__init__(Options())
        self.stray, self.rng = stray, np.random.default_rng(1)
        self.seen: list[Seen] = []
        self.scene, self.truth = "", np.zeros((1, 1), np.bool_)

    def choose(
        self, pool: Pool, window: tuple[slice, slice]
    ) -> tuple[npt.NDArray[np.bool_], float]:
        found = pool.hypotheses()
        traits = np.stack([pool.traits(x) for x in found])
        r = pool.judge.regions
        h, w = r.labels.shape
        share = cv2.resize(
            self.truth[window].astype(np.float32), (w, h), interpolation=cv2.INTER_AREA
        )
        true = r.area * r.mean(np.asarray(share, np.float32))
        iou = [true[x].sum() / max(1.0, r.area[x].sum() + true[~x].sum()) for x in found]
        situation = pool.situation()
        self.seen.append(Seen(self.scene, situation, traits, np.asarray(iou, np.float32)))
        marks = traits @ np.asarray(WEIGHTS[situation], np.float32)
        at = int(marks.argmax())
        if self.rng.random() < self.stray:
            chance = np.exp(marks - marks.max())
            at = int(self.rng.choice(len(found), p=chance / chance.sum()))
        return found[at], 0.5


def pictures(folder: Path) -> Iterator[Task]:
    """Single pictures with their masks."""
    for path in sorted(folder.glob("*_mask.png")):
        name = path.name.removesuffix("_mask.png")
        image = cv2.cvtColor(cv2.imread(str(folder / f"{name}.png")), cv2.COLOR_BGR2RGB)
        truth: Mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
        x, y, w, h = cv2.boundingRect(truth.astype(np.uint8))
        box = (float(x), float(y), float(x + w), float(y + h))
        yield Task(name.rpartition("_")[0], "picture", 0, image, [], truth, None, box)


def click_through(recorder: Recorder, task: Task) -> None:
    recorder.scene, recorder.truth = task.clip, task.truth
    embedding = recorder.embed(task.image, task.around)
    recorder.segment(embedding, Prompt.of(box=task.box))
    points, signs = [task.click or deepest(task.truth)[0]], [True]
    previous: Segmentation | None = None
    for _ in range(CLICKS):
        prompt = Prompt(np.asarray(points, np.float32), np.asarray(signs))
        previous = recorder.segment(embedding, prompt, previous)
        point, sign = next_click(previous.mask, task.truth)
        points.append(point)
        signs.append(sign)


def fit(seen: list[Seen], start: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The weights of the highest expected IoU, each scene counting by the root of its size."""
    names = [s.scene for s in seen]
    share = np.asarray([names.count(name) ** -0.5 for name in names])
    share /= share.sum()
    spread = np.concatenate([s.traits for s in seen]).std(0) + 0.05

    def loss(w: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        away = (w - start) * spread
        total, slope = PENALTY * float(away @ away), 2 * PENALTY * away * spread
        for s, weight in zip(seen, share, strict=True):
            marks = s.traits @ w / SOFTNESS
            p = np.exp(marks - marks.max())
            p /= p.sum()
            expected = float(p @ s.iou)
            total -= weight * expected
            slope -= weight / SOFTNESS * ((p * (s.iou - expected)) @ s.traits)
        return total, slope

    return np.asarray(optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x)


def chosen(seen: list[Seen], weights: npt.NDArray[np.float64]) -> list[float]:
    return [float(s.iou[int((s.traits @ weights).argmax())]) for s in seen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--every", type=int, default=30, help="frames between those looked at")
    parser.add_argument("--only", default="", help="part of a clip's name")
    parser.add_argument("--situation", choices=SITUATIONS, default="edit")
    parser.add_argument("--stray", type=float, default=0.3, help="how often it chooses otherwise")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    recorder = Recorder(given.stray)
    for task in tasks(given.clips, given.scorer, given.every, given.only):
        click_through(recorder, task)
    for task in pictures(given.pictures) if given.pictures else ():
        click_through(recorder, task)
    seen = [s for s in recorder.seen if s.situation == given.situation and len(s.iou) > 1]
    if not seen:
        parser.error(f"nothing was seen of the situation {given.situation!r}")
    start = np.asarray(WEIGHTS[given.situation], np.float64)
    scenes = sorted({s.scene for s in seen})
    fold = {name: i % FOLDS for i, name in enumerate(scenes)}
    held_out = []
    for k in range(min(FOLDS, len(scenes))):
        rest = [s for s in seen if fold[s.scene] != k]
        held_out += (
            chosen([s for s in seen if fold[s.scene] == k], fit(rest, start)) if rest else []
        )
    weights = fit(seen, start)
    print(f"{len(seen)} pools of {len(scenes)} scenes; the best hypothesis of each: ", end="")
    print(f"{np.mean([s.iou.max() for s in seen]):.3f}")
    print(f"present weights {np.mean(chosen(seen, start)):.3f}, ", end="")
    print(f"held out {np.mean(held_out) if held_out else np.nan:.3f}, ", end="")
    print(f"fitted on all {np.mean(chosen(seen, weights)):.3f}")
    for name, old, new in zip(TRAITS, start, weights, strict=True):
        print(f"{name:9s} {old:6.2f} {new:6.2f}")


if __name__ == "__main__":
    main()
