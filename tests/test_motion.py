"""Motion against pictures that were moved by a known amount."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from inpainterz import motion


def _texture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    noise = rng.random((height, width), np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def test_dense_flow_finds_a_shift() -> None:
    big = _texture(120, 160)
    a, b = big[10:110, 10:150], big[13:113, 6:146]
    flow = motion.dense_flow(a, b)
    inner = flow[15:-15, 15:-15]
    assert np.abs(inner[..., 0] - 4).mean() < 0.3
    assert np.abs(inner[..., 1] + 3).mean() < 0.3


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (3, 200), (17, 10)])
def test_dense_flow_takes_any_size(size: tuple[int, int]) -> None:
    image = _texture(*size) if min(size) > 1 else np.zeros(size, np.uint8)
    flow = motion.dense_flow(image, image)
    assert flow.shape == (*size, 2) and flow.dtype == np.float32
    assert np.abs(flow).max() < 0.5


def test_warp_brings_back_what_flow_points_to() -> None:
    image = _texture(40, 50)
    flow = np.zeros((40, 50, 2), np.float32)
    flow[..., 0] = 5
    warped = motion.warp(image, flow)
    assert np.array_equal(warped[:, :45], image[:, 5:])


def test_agreement_fails_where_the_way_back_differs_and_outside() -> None:
    there = np.zeros((20, 30, 2), np.float32)
    there[..., 0] = 3
    back = -there
    back[5:10, 10:15, 0] = 2
    good = motion.agrees(there, back)
    assert not good[5:10, 7:12].any()
    assert good[12:18, 5:25].all()
    assert not good[:, 28:].any()


def test_global_motion_finds_a_homography_around_what_is_ignored() -> None:
    a = _texture(180, 240)
    true = np.array([[1.02, 0.01, 4.0], [-0.01, 1.01, -3.0], [1e-5, 0, 1]])
    b = cv2.warpPerspective(a, true, (240, 180), borderMode=cv2.BORDER_REFLECT)
    hidden = np.zeros(a.shape, np.bool_)
    hidden[60:120, 80:160] = True
    b = b.copy()
    b[hidden] = a[hidden]  # something that does not move with the camera
    found, trust = motion.global_motion(a, b, ignore_a=hidden, ignore_b=hidden)
    assert trust > 0.7
    shift = motion.homography_flow(found, 180, 240) - motion.homography_flow(true, 180, 240)
    assert np.abs(shift[20:-20, 20:-20]).max() < 0.5


def test_global_motion_without_corners_is_the_identity() -> None:
    flat = np.full((60, 80), 100, np.uint8)
    found, trust = motion.global_motion(flat, flat)
    assert np.array_equal(found, np.eye(3)) and trust == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_global_motion_does_not_follow_noise_where_few_points_agree(seed: int) -> None:
    """Half of the picture flickers as it likes: the rest tells shift and zoom, but no tilt."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (40, 60), np.uint8)
    scene = cv2.resize(coarse, (480, 320), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    zoom = np.array([[1.004, 0, -1.5], [0, 1.004, 1.2], [0, 0, 1]])
    moved = cv2.warpPerspective(scene, zoom, (480, 320), borderMode=cv2.BORDER_REFLECT)
    # people: patches that go their own ways
    for _ in range(60):
        x, y = rng.integers(0, 440), rng.integers(0, 280)
        dx, dy = rng.integers(-4, 5, 2)
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
        own = cv2.warpAffine(scene, shift, (480, 320), borderMode=cv2.BORDER_REFLECT)
        moved[y : y + 40, x : x + 40] = own[y : y + 40, x : x + 40]
    a, b = (np.clip(x + rng.normal(0, 6, x.shape), 0, 255).astype(np.uint8) for x in (scene, moved))
    found, trust = motion.global_motion(a, b, patch_px=15)
    corners = np.array([[[0, 0], [479, 0], [479, 319], [0, 319]]], np.float64)
    gap = cv2.perspectiveTransform(corners, found) - cv2.perspectiveTransform(corners, zoom)
    assert trust < 0.65
    assert np.abs(gap).max() < 0.6


def test_finer_flow_mends_a_coarse_one() -> None:
    big = _texture(120, 160)
    a = big[10:110, 10:150]
    turned = cv2.warpAffine(big, cv2.getRotationMatrix2D((80, 60), 4, 1), (160, 120))
    b = turned[10:110, 10:150]
    coarse = motion.dense_flow(a, b, fast=True)
    before = coarse.copy()
    fine = motion.finer_flow(a, b, coarse)
    assert np.array_equal(coarse, before)
    inner = np.s_[15:-15, 15:-15]

    def missed(flow: np.ndarray) -> float:
        return float(np.abs(motion.warp(b, flow)[inner].astype(float) - a[inner]).mean())

    assert missed(fine) < 0.7 * missed(coarse)
