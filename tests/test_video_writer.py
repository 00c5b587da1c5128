"""The writer: the same file without the object. Times, size, sound, bits, and what it refuses."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import clips
import cv2
import numpy as np
import pytest
from clips import Coding, Scene
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inpainterz.errors import (
    InputError,
    OptionError,
    OutputExists,
    VideoDecodeError,
    VideoEncodeError,
)
from inpainterz.types import Image, Mask
from inpainterz.video.planes import plane_view
from inpainterz.video.reader import Limits, VideoReader
from inpainterz.video.writer import CODECS, PRESETS, VideoWriter, WriteOptions

MS, TS = Fraction(1, 1000), Fraction(1, 90000)
LOSSLESS = WriteOptions(codec="ffv1")
QUICK = WriteOptions(preset="ultrafast")
NEW = (200, 40, 60)


def hole_of(video: VideoReader) -> Mask:
    """A rectangle whose sides are odd numbers, off the chroma grid."""
    hole = np.zeros(video.size, np.bool_)
    height, width = video.size
    hole[height // 4 + 1 : height // 4 + 22, width // 4 + 1 : width // 4 + 26] = True
    return hole


def rewrite(
    video: VideoReader,
    target: Path | str,
    options: WriteOptions = QUICK,
    *,
    overwrite: bool = False,
    start: int = 0,
    stop: int | None = None,
) -> VideoWriter:
    """Put a red rectangle into every frame."""
    hole = hole_of(video)
    writer = VideoWriter(
        target, video, options=options, overwrite=overwrite, start=start, stop=stop
    )
    with writer:
        for frame in video.frames(start, stop):
            image = frame.image.copy()
            image[hole] = NEW
            writer.write(replace(frame, image=image), hole)
    return writer


def seconds(video: VideoReader) -> list[Fraction]:
    return [pts * video.time_base for pts in video.pts]


@pytest.fixture
def plain(tmp_path: Path) -> VideoReader:
    return VideoReader(clips.make(tmp_path / "plain.mp4", Scene(frames=12)).path)


SOURCES: dict[str, tuple[Scene, Coding]] = {
    "constant": (Scene(frames=20), Coding()),
    "ntsc": (
        Scene(frames=12),
        Coding(rate=Fraction(30000, 1001), time_base=Fraction(1001, 30000)),
    ),
    "variable": (Scene(), Coding(times=clips.uneven(24), time_base=TS)),
    "late": (Scene(), Coding(start=Fraction(3, 2), times=clips.uneven(24), time_base=MS)),
    "odd": (Scene(75, 65, 8), Coding(codec="ffv1", time_base=MS)),
    "turned": (Scene(frames=8), Coding(rotation=90)),
    "odd-turned": (Scene(75, 65, 8), Coding(codec="ffv1", rotation=180, time_base=MS)),
    "one": (Scene(frames=1), Coding()),
    "ten-bit": (
        Scene(frames=8),
        Coding(
            codec="libx265",
            pix_fmt="yuv420p10le",
            options={"x265-params": "log-level=none"},
            colours=(1, 9, 16, 9),
        ),
    ),
    "4:2:2": (Scene(frames=8), Coding(pix_fmt="yuv422p")),
    "4:4:4": (Scene(75, 65, 8), Coding(pix_fmt="yuv444p")),
    "full": (Scene(frames=8), Coding(colours=(2, 1, 1, 1))),
    "rgb": (Scene(frames=8), Coding(codec="ffv1", pix_fmt="bgr0", time_base=MS)),
    "alpha": (Scene(frames=8), Coding(codec="ffv1", pix_fmt="yuva420p", time_base=MS)),
    "grey": (Scene(frames=8), Coding(codec="ffv1", pix_fmt="gray", time_base=MS)),
    "interlaced": (Scene(frames=8), Coding(interlaced=True)),
}


@pytest.fixture(scope="module", params=SOURCES, ids=str)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VideoReader:
    scene, coding = SOURCES[request.param]
    ending = "mkv" if coding.codec == "ffv1" else "mp4"
    name = f"{request.param.replace(':', '')}.{ending}"
    muxer = {"movie_timescale": "90000"} if ending == "mp4" else {}
    path = tmp_path_factory.mktemp("source") / name
    return VideoReader(clips.make(path, scene, replace(coding, muxer=muxer)).path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.mp4", QUICK),
        ("out.mov", WriteOptions(codec="hevc", preset="ultrafast")),
        ("out.mkv", LOSSLESS),
        ("out.webm", QUICK),
        ("av1.mp4", WriteOptions(codec="av1", preset="ultrafast")),
        ("prores.mov", WriteOptions(codec="prores")),
    ],
    ids=lambda v: v if isinstance(v, str) else v.codec,
)
def test_count_size_times_and_colours_are_the_source_s(
    source: VideoReader, tmp_path: Path, name: str, options: WriteOptions
) -> None:
    writer = rewrite(source, tmp_path / name, options)
    with VideoReader(tmp_path / name) as result:
        assert len(result) == len(source)
        assert result.size == source.size
        unit = result.time_base
        for was, now in zip(seconds(source), seconds(result), strict=True):
            assert abs(was - now) <= (unit / 2 if unit > source.time_base else 0)
        assert result.info.rotation == source.info.rotation and not result.info.interlaced
        assert result.info.display_matrix == source.info.display_matrix
        if not source.info.pix_fmt.startswith(("bgr", "gray")):
            for tag in ("color_space", "color_primaries", "color_transfer"):
                assert getattr(result.info, tag) == getattr(source.info, tag), tag
        hole, middle = hole_of(source), len(source) // 2
        before, after = source.frame(middle).image, result.frame(middle).image
        if source.info.pix_fmt == "gray" and "gray" in result.info.pix_fmt:
            return
        assert np.abs(after[~hole].astype(int) - before[~hole]).mean() < 8
        inside = cv2.erode(hole.view(np.uint8), np.ones((13, 13), np.uint8)) > 0
        assert np.abs(after[inside].astype(int) - NEW).mean() < 5, after[inside].mean(0)
        bits = {"yuv420p10le": 10}.get(source.info.pix_fmt, 8)
        kept = av.VideoFormat(result.info.pix_fmt).components[0].bits >= bits
        assert kept or any("bits become" in line for line in writer.dropped)


def test_lossless_is_bit_identical_outside_the_hole(source: VideoReader, tmp_path: Path) -> None:
    """In the native planes, and in RGB for whoever decodes it."""
    rewrite(source, tmp_path / "out.mkv", LOSSLESS)
    hole = hole_of(source)
    with VideoReader(tmp_path / "out.mkv") as result:
        pairs = zip(source.natives(), result.natives(), strict=True)
        stored = source.orientation.revert(hole)
        for was, now in pairs:
            if source.info.interlaced or was.format.name.lstrip("j") != now.format.name.lstrip("j"):
                continue
            luma = [plane_view(frame, 0) for frame in (was, now)]
            wide = luma[0].shape[1] // stored.shape[1]
            outside = ~np.repeat(stored, wide, axis=1)
            assert np.array_equal(luma[0][outside], luma[1][outside])
            for index in range(1, len(was.planes)):
                a, b = plane_view(was, index), plane_view(now, index)
                whole = np.ascontiguousarray(stored).view(np.uint8)
                small = cv2.resize(whole, a.shape[::-1], interpolation=cv2.INTER_AREA)
                far = cv2.dilate(small, np.ones((3, 3), np.uint8)) == 0
                assert np.array_equal(a[far], b[far])
        if result.info.pix_fmt == "yuv444p" != source.info.pix_fmt:
            return  # turned at an odd size: each pixel got a chroma sample, none is interpolated
        for was, now in zip(source.frames(), result.frames(), strict=True):
            assert np.array_equal(was.image[~hole], now.image[~hole])
    if source.info.interlaced:
        return
    deep = av.VideoFormat(source.info.pix_fmt).components[0].bits > 8
    for decode in (_by_pyav,) if deep else (_by_opencv, _by_pyav):  # OpenCV smears deep luma
        was, now = decode(source.path), decode(tmp_path / "out.mkv")
        # OpenCV turns the pixels upright, PyAV leaves them as they are stored
        there = source.orientation.revert(hole) if decode is _by_pyav else hole
        assert was.shape[:2] == there.shape and now.shape == was.shape
        assert np.array_equal(was[~there], now[~there]), decode.__name__


def _by_opencv(path: Path) -> Image:
    capture = cv2.VideoCapture(str(path))
    capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
    _, image = capture.read()
    capture.release()
    return np.asarray(image, np.uint8)


def _by_pyav(path: Path) -> Image:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_an_untouched_frame_keeps_all_its_bits(plain: VideoReader, tmp_path: Path) -> None:
    target = tmp_path / "same.mkv"
    with VideoWriter(target, plain, options=LOSSLESS) as writer:
        for frame in plain.frames():
            blank = replace(frame, image=np.zeros_like(frame.image))
            writer.write(blank, np.zeros(plain.size, np.bool_))
    for was, now in zip(plain.natives(), VideoReader(target).natives(), strict=True):
        for index in range(3):
            assert np.array_equal(plane_view(was, index), plane_view(now, index))


def test_without_a_hole_every_pixel_is_new(plain: VideoReader, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "new.mkv", plain, options=LOSSLESS) as writer:
        for frame in plain.frames():
            writer.write(replace(frame, image=frame.image[::-1].copy()))
    for was, now in zip(plain.frames(), VideoReader(tmp_path / "new.mkv").frames(), strict=True):
        assert np.abs(was.image[::-1].astype(int) - now.image).mean() < 2


# --- the other streams ------------------------------------------------------------------------

SOUNDS = {
    "aac.mp4": Coding(),
    "late.mp4": Coding(start=Fraction(7, 4), time_base=TS, muxer={"movie_timescale": "90000"}),
    "two.mkv": Coding(sounds=2, time_base=MS),
    "opus.webm": Coding(
        codec="libvpx-vp9",
        sound="libopus",
        time_base=MS,
        options={"cpu-used": "8", "deadline": "realtime"},
    ),
    "pcm.mov": Coding(codec="mjpeg", pix_fmt="yuvj420p", sound="pcm_s16le"),
    "pcm.avi": Coding(
        codec="mjpeg", pix_fmt="yuvj420p", sound="pcm_s16le", time_base=Fraction(1, 25)
    ),
    "flac.mkv": Coding(sound="flac", time_base=MS),
    "mp2.mkv": Coding(sound="mp2", time_base=MS),
}


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("name", SOUNDS)
def test_sound_is_copied_packet_by_packet(tmp_path: Path, name: str, ending: str) -> None:
    clip = clips.make(tmp_path / name, Scene(frames=30), SOUNDS[name])
    source = VideoReader(clip.path)
    target = tmp_path / f"out.{ending}"
    writer = rewrite(source, target)
    was, now = clips.packets(clip.path, "audio"), clips.packets(target, "audio")
    if ending == "mov" and name in ("opus.webm", "flac.mkv"):
        assert any("does not go into mov: it is encoded as aac" in d for d in writer.dropped)
        assert [p.codec for p in now] == ["aac"]
        return
    assert [p.data for p in now] == [p.data for p in was] and was
    assert [p.language for p in now if p.language not in (None, "und")] == [
        p.language for p in was if p.language not in (None, "und")
    ]
    for a, b in zip(was, now, strict=True):
        off = max(abs(x - y) for x, y in zip(a.times, b.times, strict=True))
        assert off <= MS, float(off)
    if name not in ("pcm.avi", "pcm.mov"):
        assert writer.dropped == ()


def test_adts_sound_of_a_transport_stream_plays_in_time(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.ts", Scene(frames=30), Coding(time_base=TS))
    rewrite(VideoReader(clip.path), tmp_path / "out.mp4")
    was, now = (clips.packets(p, "audio")[0] for p in (clip.path, tmp_path / "out.mp4"))
    assert len(was.times) == len(now.times)
    assert max(abs(x - y) for x, y in zip(was.times, now.times, strict=True)) < MS
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) > 30 * 44100 // 25


def test_sound_that_nobody_can_decode_is_reported(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mov", Scene(frames=6), Coding(sound="pcm_s16le"))
    clip.path.write_bytes(clip.path.read_bytes().replace(b"sowt", b"zzzz"))
    source = VideoReader(clip.path)
    assert [s.codec for s in source.info.streams] == ["h264", "unknown"]
    writer = rewrite(source, tmp_path / "out.mp4")
    assert len(VideoReader(tmp_path / "out.mp4")) == 6
    assert any("audio stream 1 (unknown)" in line for line in writer.dropped)


def test_subtitles_chapters_attachments_and_words_are_kept(tmp_path: Path) -> None:
    coding = Coding(
        sounds=2,
        subtitles="subrip",
        chapters=2,
        attachment=True,
        time_base=MS,
        metadata={"title": "a title", "comment": "said", "LOCATION": "+48.1+011.6/"},
    )
    clip = clips.make(tmp_path / "rich.mkv", Scene(), coding)
    source = VideoReader(clip.path)
    private = "the place where it was filmed, which is private"
    assert rewrite(source, tmp_path / "out.mkv").dropped == (private,)
    with av.open(str(tmp_path / "out.mkv")) as out, av.open(str(clip.path)) as was:
        assert [s.type for s in out.streams] == [s.type for s in was.streams]
        titles = [c["metadata"]["title"] for c in out.chapters()]
        assert titles == ["part 0", "part 1"]
        assert out.metadata["title"] == "a title" and out.metadata["COMMENT"] == "said"
        assert "location" not in {key.lower() for key in out.metadata}
        assert out.streams[4].metadata["filename"] == "font.ttf"
    texts = [clips.packets(p, "subtitle")[0] for p in (clip.path, tmp_path / "out.mkv")]
    assert texts[0] == texts[1] and texts[0].data == (b"hello",)

    writer = rewrite(source, tmp_path / "out.mp4")
    assert len(writer.dropped) == 3 and writer.dropped[0] == private
    assert all("does not go into mp4" in d for d in writer.dropped[1:])
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert [c["metadata"]["title"] for c in out.chapters()] == titles
        assert len(out.streams.audio) == 2

    options = WriteOptions(preset="ultrafast", keep_location=True)
    assert rewrite(source, tmp_path / "where.mkv", options).dropped == ()
    with av.open(str(tmp_path / "where.mkv")) as out:
        assert out.metadata["LOCATION"] == "+48.1+011.6/"


def test_mp4_can_be_played_while_it_loads(plain: VideoReader, tmp_path: Path) -> None:
    rewrite(plain, tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


# --- parts and pictures -----------------------------------------------------------------------


def test_a_part_of_a_clip_begins_at_0_with_its_own_sound(tmp_path: Path) -> None:
    coding = Coding(options={"bf": "2"}, start=Fraction(2), time_base=TS, sound="flac")
    clip = clips.make(tmp_path / "long.mkv", Scene(frames=75), coding)
    source = VideoReader(clip.path)
    rewrite(source, tmp_path / "part.mkv", LOSSLESS, start=25, stop=50)
    with VideoReader(tmp_path / "part.mkv") as part:
        assert len(part) == 25 and part.pts[0] == 0
        assert part.info.duration == pytest.approx(1, abs=0.002)
        hole = hole_of(source)
        for was, now in zip(source.frames(25, 50), part.frames(), strict=True):
            assert np.array_equal(was.image[~hole], now.image[~hole])
    was, now = (clips.packets(p, "audio")[0] for p in (clip.path, tmp_path / "part.mkv"))
    first = was.data.index(now.data[0])
    assert was.data[first : first + len(now.data)] == now.data
    assert abs(was.times[first] - 3 - now.times[0]) <= MS
    assert 0 <= now.times[0] < Fraction(1, 8) and Fraction(7, 8) < now.times[-1] <= 1


def test_a_folder_of_pictures(plain: VideoReader, tmp_path: Path) -> None:
    target = f"{tmp_path / 'pictures'}/"
    writer = rewrite(plain, target, WriteOptions())
    assert sorted(p.name for p in Path(target).iterdir()) == [f"{i:06d}.png" for i in range(12)]
    hole = hole_of(plain)
    for frame in plain.frames():
        image = cv2.imread(f"{target}{frame.index:06d}.png")[..., ::-1]
        assert np.array_equal(image[~hole], frame.image[~hole])
        assert (image[hole] == NEW).all()
    assert writer.dropped
    with pytest.raises(OutputExists, match="not empty"):
        rewrite(plain, target, WriteOptions())
    (Path(target) / "000000.png").write_bytes(b"old")
    rewrite(plain, target, WriteOptions(), overwrite=True)
    assert (Path(target) / "000000.png").read_bytes() != b"old"
    (Path(target) / "diary.txt").write_text("mine")
    with pytest.raises(OutputExists, match="other things"):
        rewrite(plain, target, WriteOptions(), overwrite=True)
    assert (Path(target) / "diary.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    rewrite(plain, f"{tmp_path / 'empty'}/", WriteOptions())
    assert len(list((tmp_path / "empty").iterdir())) == 12
    assert _leftovers(tmp_path) == []


# --- what is refused, and what is left behind -------------------------------------------------


def _leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_the_target_is_checked_before_any_work(plain: VideoReader, tmp_path: Path) -> None:
    there = tmp_path / "there.mp4"
    there.write_text("precious")
    with pytest.raises(OutputExists, match="there already"):
        VideoWriter(there, plain)
    assert there.read_text() == "precious"
    for name in ("same.mp4", "link.mp4", "hard.mp4"):
        path = tmp_path / name
        if name == "link.mp4":
            path.symlink_to(plain.path)
        elif name == "hard.mp4":
            path.hardlink_to(plain.path)
        else:
            path = plain.path.parent / "." / plain.path.name
        with pytest.raises(InputError, match="the source itself"):
            VideoWriter(path, plain, overwrite=True)
    with pytest.raises(VideoEncodeError, match="does not exist"):
        VideoWriter(tmp_path / "none" / "out.mp4", plain)
    with pytest.raises(VideoEncodeError, match="does not exist"):
        VideoWriter(f"{tmp_path / 'none' / 'out'}/", plain)
    with pytest.raises(InputError, match="is a folder"):
        VideoWriter(tmp_path, plain)
    for name in ("out.xyz", "out", "out.avi"):
        with pytest.raises(OptionError, match="cannot be written"):
            VideoWriter(tmp_path / name, plain)
    for name, codec in (("out.mp4", "ffv1"), ("out.webm", "h264"), ("out.mp4", "prores")):
        with pytest.raises(OptionError, match="does not go into"):
            VideoWriter(tmp_path / name, plain, options=WriteOptions(codec=codec))
    with pytest.raises(OptionError, match="folder"):
        VideoWriter(f"{tmp_path / 'out'}/", plain, options=WriteOptions(codec="h264"))
    with pytest.raises(OptionError, match="do not lie"):
        VideoWriter(tmp_path / "out.mp4", plain, start=5, stop=13)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "hard.mp4",
        "link.mp4",
        "plain.mp4",
        "there.mp4",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(plain: VideoReader, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(VideoEncodeError, match="may not be written"):
        VideoWriter(locked / "out.mp4", plain)


@pytest.mark.parametrize(
    "bad",
    [
        {"codec": "divx"},
        {"preset": "warp"},
        {"crf": -1},
        {"codec": "h264", "crf": 52},
        {"codec": "ffv1", "crf": 10},
        {"pix_fmt": "yuv9000p"},
        {"pix_fmt": "nv12"},
    ],
    ids=str,
)
def test_options_are_checked(bad: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        WriteOptions(**bad)  # type: ignore[arg-type]


def test_pixel_formats_that_a_codec_does_not_have(tmp_path: Path, plain: VideoReader) -> None:
    with pytest.raises(OptionError, match="no pixel format"):
        VideoWriter(tmp_path / "a.mp4", plain, options=WriteOptions(pix_fmt="yuv420p12le"))
    odd = VideoReader(
        clips.make(tmp_path / "odd.mp4", Scene(75, 49), Coding(pix_fmt="yuv444p")).path
    )
    with pytest.raises(OptionError, match="odd size"):
        VideoWriter(tmp_path / "a.mp4", odd, options=WriteOptions(pix_fmt="yuv420p"))
    rewrite(plain, tmp_path / "deep.mp4", WriteOptions(pix_fmt="yuv420p10le", preset="ultrafast"))
    assert VideoReader(tmp_path / "deep.mp4").info.pix_fmt == "yuv420p10le"
    assert _leftovers(tmp_path) == []


def test_codecs_and_presets_all_work(tmp_path: Path) -> None:
    source = VideoReader(clips.make(tmp_path / "a.mp4", Scene(64, 64, 2)).path)
    endings = {"ffv1": "mkv", "prores": "mov", "png": ""}
    for codec in CODECS:
        name = endings.get(codec, "mp4")
        target = f"{tmp_path / codec}.{name}" if name else f"{tmp_path / codec}/"
        rewrite(source, target, WriteOptions(codec=codec))
    for preset in PRESETS:
        for ending in ("mp4", "webm"):
            rewrite(source, tmp_path / f"{preset}.{ending}", WriteOptions(preset=preset))


@pytest.mark.parametrize("size", [(1, 1), (16, 8), (48, 32), (33, 64), (64, 16)], ids=str)
@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1", "prores", "ffv1"])
def test_small_clips_in_every_codec(tmp_path: Path, codec: str, size: tuple[int, int]) -> None:
    """Either a clip of that very size, or one sentence; encoders are not made for these."""
    coding = Coding(codec="ffv1", sound=None, time_base=MS)
    source = VideoReader(clips.make(tmp_path / "a.mkv", Scene(*size, 10), coding).path)
    target = tmp_path / ("out.mov" if codec == "prores" else "out.mkv")
    try:
        rewrite(source, target, WriteOptions(codec, preset="ultrafast"))
    except (VideoEncodeError, OptionError) as error:
        assert "cannot encode" in str(error)
        assert codec in ("hevc", "av1") and min(size) < 64
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv"]
    else:
        assert VideoReader(target).size == source.size


def _stops_half_way(video: VideoReader, target: Path | str, error: BaseException) -> None:
    with pytest.raises(type(error)), VideoWriter(target, video) as writer:
        for frame in video.frames(0, 5):
            writer.write(frame, hole_of(video))
        raise error


@pytest.mark.parametrize("name", ["out.mp4", "out.webm", "pictures/"])
@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt()], ids=repr)
def test_a_run_that_stops_leaves_nothing(
    plain: VideoReader, tmp_path: Path, name: str, error: BaseException
) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    _stops_half_way(plain, f"{tmp_path}/{name}", error)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_run_that_stops_keeps_what_was_there(plain: VideoReader, tmp_path: Path) -> None:
    old = tmp_path / "out.mp4"
    old.write_text("old")
    with pytest.raises(RuntimeError), VideoWriter(old, plain, overwrite=True) as writer:
        writer.write(plain.frame(0))
        raise RuntimeError
    assert old.read_text() == "old" and _leftovers(tmp_path) == []
    rewrite(plain, old, overwrite=True)
    assert len(VideoReader(old)) == 12


def test_frames_come_in_order_and_all(plain: VideoReader, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="frame 3 came where 0"),
        VideoWriter(tmp_path / "a.mp4", plain) as writer,
    ):
        writer.write(plain.frame(3))
    with (
        pytest.raises(VideoEncodeError, match="frame 2 of 12"),
        VideoWriter(tmp_path / "a.mp4", plain) as writer,
    ):
        writer.write(plain.frame(0))
        writer.write(plain.frame(1))
    with (
        pytest.raises(InputError, match="another size"),
        VideoWriter(tmp_path / "a.mp4", plain) as writer,
    ):
        writer.write(plain.frame(0), np.zeros((3, 3), np.bool_))
    with (
        pytest.raises(InputError, match="another size"),
        VideoWriter(tmp_path / "a.mp4", plain) as writer,
    ):
        writer.write(replace(plain.frame(0), image=np.zeros((3, 3, 3), np.uint8)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain.mp4"]


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("name", "options"),
    [("out.mp4", QUICK), ("out.mkv", LOSSLESS), ("pictures/", WriteOptions())],
    ids=["mp4", "ffv1", "png"],
)
@pytest.mark.parametrize("size", [3_000, 20_000])
def test_a_full_disk_is_one_sentence(
    tmp_path: Path, name: str, options: WriteOptions, size: int
) -> None:
    scene = Scene(320, 240, 12)
    source = VideoReader(clips.make(tmp_path / "big.mp4", scene, Coding(options={"qp": "4"})).path)
    with disk_of(size), pytest.raises(VideoEncodeError, match="disk is full"):
        rewrite(source, f"{tmp_path}/{name}", options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.mp4"]


def test_a_source_that_breaks_on_the_way(tmp_path: Path) -> None:
    clip = clips.make(
        tmp_path / "a.mkv", Scene(), Coding(sound=None, options={"g": "1"}, time_base=MS)
    )
    frames = list(VideoReader(clip.path).frames())
    with av.open(str(clip.path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][10]
    data = clip.path.read_bytes()
    clip.path.write_bytes(data.replace(bytes(packet), bytes(packet.size)))
    source = VideoReader(clip.path, limits=Limits(damaged_frames=0))
    with (
        pytest.raises(VideoDecodeError, match="frame 10"),
        VideoWriter(tmp_path / "out.mp4", source) as writer,
    ):
        for frame in frames:
            writer.write(frame)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv"]
    writer = rewrite(VideoReader(clip.path), tmp_path / "out.mp4")
    assert any(line.startswith("1 damaged frames") and "10" in line for line in writer.dropped)
    assert len(VideoReader(tmp_path / "out.mp4")) == 24


def test_the_longest_name_there_is(plain: VideoReader, tmp_path: Path) -> None:
    name = "é" * 125 + ".mp4"  # 254 bytes
    rewrite(plain, tmp_path / name)
    assert len(VideoReader(tmp_path / name)) == 12


# --- times ------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[[list[int], int, int], VideoReader]:
    def make(steps: list[int], start: int, b_frames: int) -> VideoReader:
        ticks = np.cumsum([0, *steps]).tolist()
        times = tuple(Fraction(t, 90000) for t in ticks)
        coding = Coding(
            times=times,
            start=Fraction(start, 1000),
            time_base=TS,
            options={"bf": str(b_frames), "preset": "ultrafast"},
            muxer={"movie_timescale": "90000"},
        )
        return VideoReader(clips.make(tmp_path / "any.mp4", Scene(16, 16, len(times)), coding).path)

    return make


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(st.integers(1, 400_000), min_size=1, max_size=10),
    start=st.integers(0, 10**6),
    b_frames=st.integers(0, 3),
)
def test_any_times_are_written_as_they_are(
    tmp_path: Path,
    tiny: Callable[[list[int], int, int], VideoReader],
    steps: list[int],
    start: int,
    b_frames: int,
) -> None:
    source = tiny(steps, start, b_frames)
    rewrite(source, tmp_path / "out.mp4", overwrite=True)
    result = VideoReader(tmp_path / "out.mp4")
    assert seconds(result) == seconds(source)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no schedulers")
def test_an_av1_encoder_takes_no_real_time_priority(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "c.mkv", Scene(64, 64, 4), Coding(codec="libsvtav1"))
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    with (
        VideoReader(clip.path) as video,
        VideoWriter(tmp_path / "o.mkv", video, options=WriteOptions(codec="av1")) as writer,
    ):
        for frame in video.frames():
            writer.write(frame, np.ones(video.size, np.bool_))
            kinds = {os.sched_getscheduler(int(t)) for t in os.listdir("/proc/self/task")}
            assert kinds == {os.SCHED_OTHER}
