"""Masks, overlay, comparison and layer beside the clean clip."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import clips
import cv2
import numpy as np
import pytest
from clips import Coding, Scene
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inpainterz.errors import InputError, OptionError, OutputExists, VideoEncodeError
from inpainterz.masks import MaskStore
from inpainterz.outputs import KINDS, Also, SideOutputs, coco_counts, coco_mask
from inpainterz.video.images import ImageWriter
from inpainterz.video.planes import plane_view
from inpainterz.video.reader import VideoReader

SCENE = Scene(96, 64, 10)
MS = Fraction(1, 1000)


@pytest.fixture
def video(tmp_path: Path) -> VideoReader:
    coding = Coding(times=clips.uneven(10), time_base=MS, options={"qp": "4"})
    return VideoReader(clips.make(tmp_path / "a.mkv", SCENE, coding).path)


@pytest.fixture
def masks() -> Iterator[MaskStore]:
    with MaskStore.temporary() as store:
        for index in range(1, 10):  # the first frame has none
            labels = SCENE.mask(index).astype(np.uint8) * 3
            store.put(index, labels)
        yield store


def _write(video: VideoReader, masks: MaskStore, *also: str, overwrite: bool = False) -> None:
    wanted = [Also.of(text) for text in also]
    with SideOutputs(video, masks, wanted, overwrite=overwrite) as outputs:
        for frame in video.frames():
            hole = SCENE.mask(frame.index) & (frame.index > 0)
            image = frame.image.copy()
            image[hole] = SCENE.plate(frame.index)[hole]
            outputs.write(replace(frame, image=image), hole)


def _seconds(video: VideoReader) -> list[Fraction]:
    return [pts * video.time_base for pts in video.pts]


def test_every_output_at_once(video: VideoReader, masks: MaskStore, tmp_path: Path) -> None:
    names = {
        "masks": "m.zip",
        "mask-video": "m.mkv",
        "coco": "m.json",
        "overlay": "o.mp4",
        "compare": "c.webm",
        "layer": "l.mov",
    }
    assert set(names) == set(KINDS)
    _write(video, masks, *(f"{kind}={tmp_path / name}" for kind, name in names.items()))
    with zipfile.ZipFile(tmp_path / "m.zip") as bundle:
        assert bundle.namelist() == [f"{i:06d}.png" for i in range(1, 10)]

    found = {
        kind: VideoReader(tmp_path / name)
        for kind, name in names.items()
        if kind not in ("masks", "coco")
    }
    for kind, clip in found.items():
        assert _seconds(clip) == _seconds(video) or kind == "layer", kind
        assert len(clip) == 10
        assert [s.kind for s in clip.info.streams] == ["video", "audio"], kind
    for index in range(10):
        mask = SCENE.mask(index) & (index > 0)
        matte = found["mask-video"].frame(index).image
        assert np.array_equal(matte[..., 0], mask * np.uint8(255)), index
        was = video.frame(index).image.astype(int)
        tinted = found["overlay"].frame(index).image
        assert np.abs(tinted[:20] - was[:20]).mean() < 5
        if mask.any():
            inside = cv2.erode(mask.view(np.uint8), np.ones((5, 5), np.uint8)) > 0
            assert np.abs(tinted[inside] - was[inside]).mean() > 20
        both = found["compare"].frame(index).image.astype(int)
        gap = both.shape[1] - 2 * 96
        assert both.shape[0] == 64 and gap >= 2
        assert np.abs(both[:, :96] - was).mean() < 6
        after = np.where(mask[..., None], SCENE.plate(index), was)
        assert np.abs(both[:, 96 + gap :] - after).mean() < 8
    assert found["layer"].info.pix_fmt.startswith("yuva444p")
    for index, native in enumerate(found["layer"].natives()):
        mask = SCENE.mask(index) & (index > 0)
        alpha = plane_view(native, 3) >> (av.VideoFormat(native.format.name).components[3].bits - 8)
        assert np.abs(alpha.astype(int) - mask * 255).max() <= 2, index
        assert (
            np.abs(found["layer"].frame(index).image - video.frame(index).image.astype(int)).mean()
            < 5
        )

    table = json.loads((tmp_path / "m.json").read_text("utf-8"))
    assert [i["id"] for i in table["images"]] == list(range(10))
    assert table["tracks"] == [{"id": 3}] and len(table["annotations"]) == 9
    for entry in table["annotations"]:
        mask = SCENE.mask(entry["image_id"])
        assert np.array_equal(coco_mask(entry["segmentation"]["counts"], (64, 96)), mask)
        assert entry["area"] == mask.sum() and entry["track_id"] == 3
        x, y, w, h = entry["bbox"]
        assert mask[y : y + h, x : x + w].all() and mask.sum() == w * h
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_layer_as_pictures(video: VideoReader, masks: MaskStore, tmp_path: Path) -> None:
    _write(video, masks, f"layer={tmp_path}/layer/")
    assert len(list((tmp_path / "layer").iterdir())) == 10
    picture = cv2.imread(str(tmp_path / "layer" / "000005.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(picture[..., 2::-1], video.frame(5).image)
    assert np.array_equal(picture[..., 3], SCENE.mask(5) * np.uint8(255))
    with pytest.raises(OutputExists):
        _write(video, masks, f"layer={tmp_path}/layer/")
    _write(video, masks, f"layer={tmp_path}/layer/", overwrite=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("overlay", "cannot be read"),
        ("poster=a.png", "no output 'poster'"),
        ("masks=a.mp4", ".zip"),
        ("coco=a.zip", ".json"),
        ("overlay=", "no name"),
    ],
)
def test_what_is_no_output_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        Also.of(text)


def test_targets_are_checked_before_any_work(
    video: VideoReader, masks: MaskStore, tmp_path: Path
) -> None:
    there = tmp_path / "there.json"
    there.write_text("precious")
    before = sorted(p.name for p in tmp_path.iterdir())
    for text, error in (
        (f"coco={there}", OutputExists),
        (f"overlay={video.path}", InputError),
        (f"overlay={tmp_path}/none/a.mp4", VideoEncodeError),
        (f"masks={tmp_path}/none/a.zip", VideoEncodeError),
        (f"layer={tmp_path}/layer.mp4", OptionError),
        (f"compare={tmp_path}/a.avi", OptionError),
    ):
        with pytest.raises(error):
            SideOutputs(video, masks, [Also.of(f"compare={tmp_path}/good.mp4"), Also.of(text)])
    with pytest.raises(OptionError, match="two outputs"):
        SideOutputs(video, masks, [Also("overlay", "a.mp4"), Also("compare", "./a.mp4")])
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert there.read_text() == "precious"


def test_a_run_that_stops_leaves_nothing(
    video: VideoReader, masks: MaskStore, tmp_path: Path
) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    also = [
        Also.of(f"{kind}={tmp_path}/{kind}{end}")
        for kind, end in (("coco", ".json"), ("overlay", ".mp4"), ("layer", "/"), ("masks", ".zip"))
    ]
    with pytest.raises(RuntimeError), SideOutputs(video, masks, also) as outputs:
        for frame in video.frames(0, 4):
            outputs.write(frame, SCENE.mask(frame.index))
        raise RuntimeError
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    with (
        pytest.raises(VideoEncodeError, match="frame 1 is missing"),
        ImageWriter(tmp_path / "a.mp4", video, (64, 96), 3) as writer,
    ):
        writer.write(video.frame(0).image)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_part_begins_at_0(video: VideoReader, masks: MaskStore, tmp_path: Path) -> None:
    also = [Also.of(f"overlay={tmp_path}/part.mp4")]
    with SideOutputs(video, masks, also, start=3, stop=7) as outputs:
        for frame in video.frames(3, 7):
            outputs.write(frame, SCENE.mask(frame.index))
    part = VideoReader(tmp_path / "part.mp4")
    seconds = _seconds(video)
    assert len(part) == 4
    off = [a - (b - seconds[3]) for a, b in zip(_seconds(part), seconds[3:7], strict=True)]
    assert max(abs(o) for o in off) <= MS


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_run_length_codes_are_read_back(mask: np.ndarray) -> None:
    assert np.array_equal(coco_mask(coco_counts(mask), mask.shape), mask)


def test_run_length_codes_are_coco_s() -> None:
    # by the rule of maskApi.c (rleToString): runs 6, 1, 40, 4 of 51 pixels in one column
    mask = np.zeros((51, 1), np.bool_)
    mask[6] = mask[47:] = True
    # 6 -> "6"; 1 -> "1"; 40 = 1*32+8 -> chr(8+32+48), chr(1+48); 4-1 = 3 -> "3"
    assert coco_counts(mask) == "61X13"
