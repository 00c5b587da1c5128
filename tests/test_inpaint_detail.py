"""Fine detail for a fill that was made at a lower resolution."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from inpainterz.inpaint import windows
from inpainterz.inpaint.detail import missing_detail
from inpainterz.inpaint.windows import Box, Crop, Fill, Floats
from inpainterz.types import Image, Mask


def bricks(height: int, width: int, seed: int = 0) -> Image:
    """A wall: sharp edges, each brick of its own shade."""
    random = np.random.default_rng(seed)
    image = np.full((height, width, 3), 90, np.uint8)
    for row, y in enumerate(range(0, height, 20)):
        for x in range(-20, width, 40):
            left = x + 20 * (row % 2)
            shade = [int(v) for v in random.integers(120, 200, 3)]
            cv2.rectangle(image, (left + 2, y + 2), (left + 37, y + 17), shade, -1)
    return image


def grain(height: int, width: int) -> Image:
    """Detail at every scale, nothing of it repeated."""
    random = np.random.default_rng(3)
    image = np.zeros((height, width, 3), np.float32)
    for cell in (2, 4, 16, 48):
        coarse = random.random((height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        large = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        image += cell**0.5 * large[:height, :width]
    return np.asarray(255 * (image - image.min()) / np.ptp(image), np.uint8)


def scaled_up(image: Image, scale: float) -> Floats:
    """What a perfect network at the lower resolution makes, scaled up."""
    height, width = image.shape[:2]
    size = (round(width * scale), round(height * scale))
    low = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(low, (width, height), interpolation=cv2.INTER_LANCZOS4))


def hole_in(height: int, width: int) -> Mask:
    hole = np.zeros((height, width), np.bool_)
    cv2.ellipse(
        view := hole.view(np.uint8), (width // 2, height // 2), (width // 7, height // 6),
        0, 0, 360, 1, -1,
    )  # fmt: skip
    assert view.any()
    return hole


def psnr(one: np.ndarray, other: np.ndarray, mask: Mask) -> float:
    error = np.square(one[mask].astype(float) - other[mask]).mean()
    return float(10 * np.log10(255**2 / error))


def sharpness(image: np.ndarray, mask: Mask) -> float:
    grey = image.astype(np.float32).mean(-1)
    return float(np.abs(np.diff(grey, axis=1))[mask[:, 1:] & mask[:, :-1]].mean())


@pytest.mark.parametrize("scale", [0.5, 0.37])
def test_detail_beats_plain_scaling_up(scale: float) -> None:
    image = bricks(260, 340)
    hole = hole_in(260, 340)
    plain = scaled_up(image, scale)
    painted = image.copy()
    painted[hole] = (255, 0, 255)
    better = plain + missing_detail(painted, hole, plain, (0, 0), scale)
    assert psnr(better, image, hole) > psnr(plain, image, hole) + 1.0
    assert np.array_equal(better[~hole], plain[~hole])


def test_what_repeats_nowhere_gets_sharper_and_no_worse() -> None:
    image = grain(200, 300)
    hole = hole_in(200, 300)
    plain = scaled_up(image, 0.5)
    better = plain + missing_detail(image, hole, plain, (0, 0), 0.5)
    truth, before, after = (sharpness(x, hole) for x in (image, plain, better))
    assert before < after < truth
    assert psnr(better, image, hole) > psnr(plain, image, hole) - 0.3


def test_what_lies_in_the_hole_is_not_looked_at() -> None:
    image = bricks(160, 200)
    hole = hole_in(160, 200)
    box = Box(50, 60, 110, 140)
    plain = scaled_up(image, 0.5)[box.slices]
    found = []
    for paint in (0, 255):
        painted = image.copy()
        painted[hole] = paint
        found.append(missing_detail(painted, hole, plain, (box.top, box.left), 0.5))
    assert np.array_equal(found[0], found[1])
    assert found[0].any()


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (16, 16), (17, 31)], ids=str)
def test_where_nothing_can_be_lent_there_is_none(size: tuple[int, int]) -> None:
    image = bricks(*size)
    plain = image.astype(np.float32)
    assert not missing_detail(image, np.ones(size, np.bool_), plain, (0, 0), 0.5).any()
    assert not missing_detail(image, np.zeros(size, np.bool_), plain, (0, 0), 0.5).any()


def test_a_fill_of_a_scaled_crop_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    image = bricks(200, 280)
    hole = hole_in(200, 280)
    crop = Crop(Box(0, 0, 200, 280), (100, 140), (112, 208))
    low = cv2.resize(image.astype(np.float32), (140, 100), interpolation=cv2.INTER_AREA)
    picture = np.zeros((112, 208, 3), np.float32)
    picture[:100, :140] = low
    painted = image.copy()
    painted[hole] = 0

    def filled() -> Image:
        fill = Fill(hole)
        fill.add(crop, picture, 1.0)
        out = fill.composite(painted)
        assert np.array_equal(out[~hole], image[~hole])
        return out

    better = filled()
    monkeypatch.setattr(windows, "COARSE", 0.0)
    plain = filled()
    assert psnr(better, image, hole) > psnr(plain, image, hole) + 1.0
