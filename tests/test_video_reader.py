"""The reader: exact counts, times and seeking over containers and codecs; files that lie."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from clips import Coding, Scene
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inpainterz.errors import (
    InputError,
    OptionError,
    VideoDecodeError,
    VideoError,
    VideoOpenError,
)
from inpainterz.video.planes import to_rgb
from inpainterz.video.reader import Limits, VideoReader, missing_bytes

MS, TS = Fraction(1, 1000), Fraction(1, 90000)
ODD = Scene(75, 49)
FAST_VP9 = {"cpu-used": "8", "deadline": "realtime"}
QUIET = {"x265-params": "log-level=none:keyint=12:open-gop=1"}

FILES: dict[str, tuple[Scene, Coding]] = {
    "plain.mp4": (Scene(), Coding()),
    "b-frames.mp4": (Scene(frames=40), Coding(options={"bf": "3", "g": "12"})),
    "open-gop.mp4": (
        Scene(frames=40),
        Coding(options={"x264-params": "open-gop=1:keyint=12:bframes=3"}),
    ),
    "all-keyframes.mp4": (Scene(), Coding(options={"g": "1"})),
    "variable.mp4": (Scene(), Coding(times=clips.uneven(24), time_base=TS)),
    "variable.mkv": (Scene(), Coding(times=clips.uneven(24, 1), time_base=MS)),
    "ntsc.mp4": (
        Scene(),
        Coding(rate=Fraction(30000, 1001), time_base=Fraction(1001, 30000)),
    ),
    "film.mov": (
        Scene(),
        Coding(rate=Fraction(24000, 1001), time_base=Fraction(1001, 24000)),
    ),
    "late.mkv": (Scene(), Coding(start=Fraction(3), time_base=MS)),
    "late.mp4": (Scene(), Coding(start=Fraction(3, 2), times=clips.uneven(24), time_base=TS)),
    "odd.webm": (
        ODD,
        Coding(codec="libvpx-vp9", sound="libopus", time_base=MS, options=FAST_VP9),
    ),
    "hidden-frames.webm": (  # VP8 stores frames that are not shown
        Scene(75, 49, 40),
        Coding(
            codec="libvpx",
            sound="libopus",
            time_base=MS,
            options={"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good"},
        ),
    ),
    "odd-444.mp4": (ODD, Coding(pix_fmt="yuv444p")),
    "hevc.mp4": (Scene(frames=30), Coding(codec="libx265", options=QUIET)),
    "ten-bit.mp4": (
        Scene(frames=12),
        Coding(codec="libx265", pix_fmt="yuv420p10le", options=QUIET, colours=(1, 9, 16, 9)),
    ),
    "prores.mov": (
        Scene(frames=12),
        Coding(codec="prores_ks", pix_fmt="yuv422p10le", sound="pcm_s16le"),
    ),
    "stream.ts": (Scene(), Coding(time_base=TS)),
    "mpeg2.mpg": (
        Scene(frames=30),
        Coding(codec="mpeg2video", sound="mp2", time_base=Fraction(1, 25), options={"bf": "2"}),
    ),
    "mpeg4.avi": (
        Scene(frames=30),
        Coding(codec="mpeg4", sound="mp2", time_base=Fraction(1, 25), options={"bf": "2"}),
    ),
    "h264.avi": (Scene(), Coding(sound="mp2", time_base=Fraction(1, 25))),
    "mjpeg.avi": (
        Scene(),
        Coding(codec="mjpeg", pix_fmt="yuvj420p", sound="pcm_s16le", time_base=Fraction(1, 25)),
    ),
    "flash.flv": (Scene(), Coding(time_base=MS)),
    "raw.h264": (Scene(), Coding(sound=None, format="h264")),
    "lossless.mkv": (ODD, Coding(codec="ffv1", sound="flac")),
    "picture.gif": (
        Scene(frames=8),
        Coding(codec="gif", pix_fmt="rgb8", sound=None, time_base=Fraction(1, 100)),
    ),
    "fragments.mp4": (Scene(), Coding(muxer={"movflags": "frag_keyframe+empty_moov"})),
    "interlaced.mp4": (
        Scene(96, 64),
        Coding(interlaced=True, options={"x264-params": "tff=1", "bf": "2"}),
    ),
    "interlaced.mpg": (
        Scene(96, 64),
        Coding(codec="mpeg2video", interlaced=True, sound="mp2", time_base=Fraction(1, 25)),
    ),
    "one.mp4": (Scene(frames=1), Coding()),
    "tiny.mkv": (Scene(1, 1, 3), Coding(codec="ffv1", sound=None)),
}
# these containers begin where the encoder began to think, not at the first picture
LATE = (
    *("stream.ts", "mpeg2.mpg", "mpeg4.avi", "h264.avi"),
    *("flash.flv", "fragments.mp4", "interlaced.mpg"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module", params=FILES, ids=str)
def clip(request: pytest.FixtureRequest, folder: Path) -> clips.Clip:
    return clips.make(folder / request.param, *FILES[request.param])


@pytest.fixture
def plain(tmp_path: Path) -> clips.Clip:
    return clips.make(tmp_path / "plain.mp4")


def test_count_size_and_times_are_exact(clip: clips.Clip) -> None:
    with VideoReader(clip.path) as video:
        assert len(video) == clip.scene.frames == video.info.frames
        assert video.size == (clip.scene.height, clip.scene.width)
        seconds = [pts * video.time_base for pts in video.pts]
        shift = seconds[0] - clip.times[0] if clip.path.name in LATE else 0
        half = max(video.time_base, clip.coding.time_base or Fraction(0)) / 2
        assert all(abs(a - shift - b) <= half for a, b in zip(seconds, clip.times, strict=True)), (
            seconds
        )
        if len(video) > 1:
            assert video.info.variable_rate == (clip.coding.times is not None)
        if clip.coding.times is None:
            assert video.info.fps is not None
            assert abs(video.info.fps / clip.coding.rate - 1) < 0.001


def test_seeking_and_both_directions_give_the_same_frames(clip: clips.Clip) -> None:
    with VideoReader(clip.path) as video:
        frames = list(video.frames())
        assert [f.index for f in frames] == list(range(len(video)))
        assert [f.pts for f in frames] == list(video.pts)
        for index in {0, 1, len(video) // 2, len(video) - 2, len(video) - 1}:
            if 0 <= index < len(video):
                assert np.array_equal(video.frame(index).image, frames[index].image), index
        backwards = list(video.backwards(chunk=7))
        assert [f.index for f in backwards] == list(range(len(video)))[::-1]
        for frame in backwards:
            assert np.array_equal(frame.image, frames[frame.index].image), frame.index
        middle = list(video.frames(len(video) // 3, len(video) // 2))
        assert [f.index for f in middle] == list(range(len(video) // 3, len(video) // 2))


def test_pixels_are_those_of_the_scene(clip: clips.Clip) -> None:
    limit = 24 if clip.coding.codec in ("gif", "mpeg2video", "mpeg4", "mjpeg") else 8
    if clip.scene.width == 1:
        limit = 40  # chroma of one pixel, BT.601
    with VideoReader(clip.path) as video, closing(video.frames()) as frames:
        for frame in frames:
            truth = clip.scene.image(frame.index).astype(int)
            assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
            error = np.abs(frame.image - truth).mean()
            assert error < limit, (frame.index, error)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_rotation_is_applied(tmp_path: Path, rotation: int, mirror: bool, ending: str) -> None:
    coding = Coding(rotation=rotation, mirror=mirror, sound=None, time_base=MS)
    clip = clips.make(tmp_path / f"turned.{ending}", Scene(64, 48, 5), coding)
    with VideoReader(clip.path) as video:
        image = clip.scene.image(2)
        truth = np.rot90(image, rotation // 90)  # counter-clockwise, as the coding says
        if mirror:
            truth = truth[:, ::-1]
        assert video.size == truth.shape[:2]
        assert np.abs(video.frame(2).image - truth.astype(int)).mean() < 8
        if not mirror:
            assert video.info.rotation == (360 - rotation) % 360


def test_what_is_known_of_a_clip(tmp_path: Path) -> None:
    coding = Coding(
        colours=(2, 1, 1, 1),
        aspect=Fraction(4, 3),
        sounds=2,
        subtitles="subrip",
        attachment=True,
        time_base=MS,
    )
    clip = clips.make(tmp_path / "full.mkv", Scene(), coding)
    info = VideoReader(clip.path).info
    assert (info.color_range, info.color_primaries, info.color_transfer) == (2, 1, 1)
    assert info.color_space == 1 and info.codec == "h264"
    kinds = [s.kind for s in info.streams]
    assert kinds == ["video", "audio", "audio", "subtitle", "attachment"]
    assert info.streams[1].channels == 2 and info.streams[1].sample_rate == 44100
    assert info.streams[2].language == "fra"
    assert info.duration == pytest.approx(24 / 25, abs=0.002)
    turned = clips.make(
        tmp_path / "turned.mp4", Scene(), Coding(aspect=Fraction(4, 3), rotation=90)
    )
    assert VideoReader(turned.path).info.sample_aspect_ratio == Fraction(3, 4)


def test_several_iterators_run_at_once_and_let_go_of_the_file(plain: clips.Clip) -> None:
    def open_files() -> int:
        return sum(
            os.path.realpath(f"/proc/self/fd/{fd}") == str(plain.path)
            for fd in os.listdir("/proc/self/fd")
        )

    with VideoReader(plain.path) as video:
        assert open_files() == 0
        forwards, behind = video.frames(), video.frames(3)
        backwards = video.backwards()
        for i in range(5):
            assert next(forwards).index == i
            assert next(behind).index == 3 + i
            assert next(backwards).index == 23 - i
        assert open_files() >= 2
        for frames in (forwards, behind, backwards):
            frames.close()
        assert open_files() == 0


def test_a_cover_is_not_the_video(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", Scene(frames=6), Coding())
    path = tmp_path / "cover.mp4"
    with av.open(str(clip.path)) as source, av.open(str(path), "w") as out:
        cover = out.add_stream("png")
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        target = out.add_stream_from_template(source.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        out.mux(cover.encode(picture))
        out.mux(cover.encode(None))
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = target
                out.mux(packet)
    video = VideoReader(path)
    assert len(video) == 6 and video.size == (64, 96)
    assert [s.is_cover for s in video.info.streams].count(True) == 1


# --- what is not a clip, and what is not in it -------------------------------------------------


def _open_fails(path: Path | str) -> str:
    with pytest.raises(VideoOpenError) as caught:
        VideoReader(path)
    sentence = str(caught.value)
    assert caught.value.hint and "Traceback" not in sentence and "\n" not in sentence
    return sentence


def test_what_is_not_a_video_is_one_sentence(tmp_path: Path) -> None:
    assert "does not exist" in _open_fails(tmp_path / "none.mp4")
    assert "is not a file" in _open_fails(tmp_path)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "is empty" in _open_fails(empty)
    text = tmp_path / "text.mp4"
    text.write_text("This is a letter, not a film.\n" * 50)
    assert "not a video" in _open_fails(text)
    noise = tmp_path / "noise.mkv"
    noise.write_bytes(np.random.default_rng(0).bytes(20_000))
    assert "not a video" in _open_fails(noise)
    picture = tmp_path / "picture.mp4"
    with av.open(str(picture), "w", format="image2", options={"update": "1"}) as out:
        stream = out.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 8, 8, "rgb24"
        out.mux(stream.encode(av.VideoFrame(8, 8, "rgb24")))
        out.mux(stream.encode(None))
    assert "not a video" in _open_fails(picture)


def test_a_file_without_pictures_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        tone = clips.Tone(out, Coding(), 0)
        tone.play(Fraction(0), Fraction(1))
        out.mux(tone.stream.encode(None))
    assert "no video stream" in _open_fails(path)


def test_a_file_without_frames_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        tone = clips.Tone(out, Coding(), 0)
        tone.play(Fraction(0), Fraction(1))
        out.mux(tone.stream.encode(None))
    assert "no frames" in _open_fails(path)


@pytest.mark.parametrize("name", ["whole.mp4", "whole.mkv", "whole.mov", "whole.avi", "fast.mp4"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_a_file_cut_short_is_one_sentence(tmp_path: Path, name: str, share: float) -> None:
    coding = Coding(
        sound="mp2" if name.endswith("avi") else "aac",
        time_base=Fraction(1, 25),
        muxer={"movflags": "+faststart"} if name == "fast.mp4" else {},
    )
    clip = clips.make(tmp_path / name, Scene(), coding)
    assert missing_bytes(clip.path) == 0
    assert "cut short" in _open_fails(clips.cut_short(clip.path, share))


def test_frames_outside_the_clip(plain: clips.Clip) -> None:
    video = VideoReader(plain.path)
    for index in (-1, 24, 1000):
        with pytest.raises(InputError, match="24 frames"):
            video.frame(index)
    for start, stop in ((-1, 3), (5, 3), (0, 25)):
        with pytest.raises(OptionError):
            video.natives(start, stop)
        with pytest.raises(OptionError):
            list(video.frames(start, stop))
    with pytest.raises(OptionError):
        list(video.backwards(chunk=0))
    assert list(video.frames(7, 7)) == []


def test_nothing_makes_it_open_a_second_file(tmp_path: Path) -> None:
    secret = clips.make(tmp_path / "secret.mp4", Scene(frames=3), Coding(sound=None))
    ts = clips.make(tmp_path / "secret.ts", Scene(frames=3), Coding(sound=None, time_base=TS))
    lists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{ts.path}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{secret.path}'\n",
        "list.mpd": "<?xml version='1.0'?><MPD><Period><AdaptationSet><Representation>"
        f"<BaseURL>{secret.path}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 1234 RTP/AVP 96\n",
        "list.vpy": "import os",
    }
    for name, text in lists.items():
        for alias in (name, f"{name}.mp4"):
            path = tmp_path / alias
            path.write_text(text)
            assert "not a video" in _open_fails(path)
    for name in (f"concat:{secret.path}", f"file:{secret.path}", "http://127.0.0.1:9/a.mp4", "-"):
        assert "does not exist" in _open_fails(name)


NAMES = [
    "with space.mp4",
    "quote'\".mp4",
    "semi;colon $(touch x) `y`.mp4",
    "percent %03d *?.mp4",
    "concat:a|b.mp4",
    "emoji 🎬 שלום.mp4",
    "x" * 251 + ".mp4",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_is_only_a_name(tmp_path: Path, name: str, plain: clips.Clip) -> None:
    path = tmp_path / name
    plain.path.rename(path)
    with VideoReader(path) as video:
        assert len(video) == 24
        assert video.frame(20).index == 20


def test_damage_is_an_error_of_ours_or_nothing(tmp_path: Path) -> None:
    """No crash, no hang and no other exception, whatever bytes are in the file."""
    scene = Scene(48, 32, 8)
    sources = [
        clips.make(tmp_path / "a.mp4", scene, Coding(sound=None, options={"g": "4"})),
        clips.make(tmp_path / "b.mkv", scene, Coding(sound=None, time_base=MS)),
        clips.make(tmp_path / "c.avi", scene, Coding(codec="mpeg4", time_base=Fraction(1, 25))),
    ]
    outcomes = {"whole": 0, "refused": 0}
    for source in sources:
        data = source.path.read_bytes()
        for seed in range(60):
            path = tmp_path / f"damaged{source.path.suffix}"
            path.write_bytes(data)
            clips.damage(path, seed, places=1 + seed % 9, skip=0.0 if seed % 2 else 0.3)
            try:
                with VideoReader(path) as video:
                    assert len(list(video.frames())) == len(video)
                outcomes["whole"] += 1
            except VideoError as error:
                assert error.hint
                outcomes["refused"] += 1
    assert all(outcomes.values()), outcomes


def _without_packets(path: Path, numbers: Iterable[int]) -> None:
    """Overwrite packets of the video with zeros."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    for number in numbers:
        at = data.find(packets[number])
        data[at : at + len(packets[number])] = bytes(len(packets[number]))
    path.write_bytes(bytes(data))


def _all_keys(path: Path) -> clips.Clip:
    coding = Coding(sound=None, options={"g": "1"}, time_base=MS)
    return clips.make(path, Scene(), coding)


@pytest.mark.parametrize("lost", [[10], [5, 6, 7], [23], [1, 9, 10, 23]], ids=str)
def test_a_frame_that_is_lost_is_the_one_before_it(tmp_path: Path, lost: list[int]) -> None:
    clip = _all_keys(tmp_path / "a.mkv")
    whole = [f.image for f in VideoReader(clip.path).frames()]
    _without_packets(clip.path, lost)
    video = VideoReader(clip.path)
    expected = []
    for index in range(len(video)):
        good = [i for i in range(index + 1) if i not in lost] or [
            min(i for i in range(24) if i not in lost)
        ]
        expected.append(whole[good[-1]])
    frames = list(video.frames())
    assert [f.pts for f in frames] == list(video.pts) and len(frames) == 24
    for frame, image in zip(frames, expected, strict=True):
        assert np.array_equal(frame.image, image), frame.index
    assert video.repeated == tuple(lost)
    for index in (10, 9, 23, 0, 7):  # by seeking too, and backwards
        assert np.array_equal(VideoReader(clip.path).frame(index).image, expected[index]), index
    for frame in video.backwards(chunk=5):
        assert np.array_equal(frame.image, expected[frame.index]), frame.index
    # whoever changes a frame does not change the one that stands in for the next
    for index, native in enumerate(video.natives()):
        native.make_writable()
        assert np.array_equal(to_rgb(native), expected[index]), index
        for plane in native.planes:
            np.frombuffer(plane, np.uint8)[:] = 7


def test_too_many_lost_frames_are_refused(tmp_path: Path) -> None:
    clip = _all_keys(tmp_path / "a.mkv")
    _without_packets(clip.path, [10, 15])
    with VideoReader(clip.path, limits=Limits(damaged_frames=0)) as video:
        assert video.frame(9).index == 9
        with pytest.raises(VideoDecodeError, match="frame 10"):
            list(video.frames())
    with pytest.raises(VideoDecodeError, match=r"frame 15 .* 1 frames before"):
        list(VideoReader(clip.path, limits=Limits(damaged_frames=1)).frames())
    assert len(list(VideoReader(clip.path, limits=Limits(damaged_frames=2)).frames())) == 24


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (Limits(pixels=96 * 64 - 1), "6144 pixels"),
        (Limits(frames=23), "24 frames"),
        (Limits(seconds=0.9), "seconds"),
        (Limits(streams=1), "2 streams"),
        (Limits(bytes=1000), "bytes"),
    ],
    ids=str,
)
def test_a_file_beyond_the_limits_is_one_sentence(
    plain: clips.Clip, limit: Limits, says: str
) -> None:
    with pytest.raises(VideoOpenError, match=says) as caught:
        VideoReader(plain.path, limits=limit)
    assert f"--limit {says.split()[-1]}=" in caught.value.hint
    assert len(VideoReader(plain.path)) == 24


@pytest.mark.parametrize("bad", [{"frames": 0}, {"seconds": float("nan")}, {"damaged_frames": -1}])
def test_limits_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        Limits(**bad)  # type: ignore[arg-type]


# --- times ------------------------------------------------------------------------------------


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(st.integers(1, 400_000), min_size=1, max_size=12),
    start=st.integers(0, 10**6),
    b_frames=st.integers(0, 3),
)
def test_any_times_are_read_as_they_are(
    tmp_path: Path, steps: list[int], start: int, b_frames: int
) -> None:
    ticks = np.cumsum([0, *steps]).tolist()
    times = tuple(Fraction(t, 90000) for t in ticks)
    coding = Coding(
        times=times,
        start=Fraction(start, 1000),
        time_base=TS,
        sound=None,
        options={"bf": str(b_frames), "preset": "ultrafast"},
        muxer={"movie_timescale": "90000"},
    )
    clip = clips.make(tmp_path / "any.mp4", Scene(16, 16, len(times)), coding)
    video = VideoReader(clip.path)
    assert [p * video.time_base for p in video.pts] == list(clip.times)
    last = len(video) - 1
    assert video.frame(last).pts == video.pts[last]
    assert sum(video.duration_of(i) for i in range(len(video))) == video.end_pts - video.pts[0]
