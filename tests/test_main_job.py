"""The main job on real footage: three clicks, and the walker is gone from the street."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import walker

from inpainterz import Engines, FillOptions, Options, Report, VideoReader, remove
from inpainterz.example import prepare
from inpainterz.masks import MaskStore


@pytest.fixture(scope="module")
def job(street: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path, Path]:
    """The report, the clean clip and the masks of the job that the demo does."""
    folder = tmp_path_factory.mktemp("street")
    target, masks = folder / "clean.mp4", folder / "masks.zip"
    report = remove(
        street,
        target,
        prepare().prompts,
        Engines.load(),
        options=Options(fill=FillOptions(), save_masks=masks),
    )
    return report, target, masks


def test_the_masks_are_the_walker(
    job: tuple[Report, Path, Path], street_truth: dict[int, walker.Reference], tmp_path: Path
) -> None:
    overlaps = {}
    with MaskStore(tmp_path / "masks") as masks:
        masks.take(job[2], job[0].frames, (job[0].height, job[0].width))
        for index, wanted in street_truth.items():
            labels = masks.get(index)
            assert labels is not None
            found = (labels > 0) & wanted.care
            union = (found | wanted.walker).sum()
            overlaps[index] = (found & wanted.walker).sum() / max(1, union)
        last = masks.get(job[0].frames - 1)
        assert last is not None
        assert (last > 0).mean() < 0.01  # he has left, and nothing stands in for him
    assert np.mean(list(overlaps.values())) >= 0.75, overlaps


def test_the_street_behind_him_is_there(
    job: tuple[Report, Path, Path], street_truth: dict[int, walker.Reference]
) -> None:
    found = {}
    with VideoReader(job[1]) as clean:
        for index, wanted in street_truth.items():
            image = clean.frame(index).image.astype(np.float32)
            spot = wanted.walker & wanted.care & ~np.isnan(wanted.plate).any(-1)
            if spot.sum() < 200:
                continue
            error = np.square(image[spot] - wanted.plate[spot]).mean()
            found[index] = 10 * np.log10(255**2 / error)
    assert len(found) >= 10
    assert np.mean(list(found.values())) >= 27, found


def test_the_file_is_the_same_file(job: tuple[Report, Path, Path], street: Path) -> None:
    report, target, _ = job
    with VideoReader(street) as before, VideoReader(target) as after:
        assert len(after) == len(before) == report.frames == 55
        assert list(after.pts) == list(before.pts)
        assert after.time_base == before.time_base
        assert after.size == before.size == (272, 640)
        untouched = np.ones(before.size, bool)
        untouched[:, :300] = False  # he walks to the right and out
        for index in (0, 3):
            a, b = before.frame(index).image, after.frame(index).image
            error = np.square(a[untouched].astype(float) - b[untouched]).mean()
            assert 10 * np.log10(255**2 / error) > 38
    assert report.seen_px > 4 * report.invented_px
