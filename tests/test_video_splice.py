"""Groups without a hole are the source's packets, byte for byte, and the joint file plays."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
import clips
import cv2
import numpy as np
import pytest
from clips import Coding, Scene
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inpainterz.errors import VideoEncodeError
from inpainterz.types import Mask
from inpainterz.video import parameter_sets as sets
from inpainterz.video.planes import plane_view, to_rgb, workable
from inpainterz.video.reader import VideoReader
from inpainterz.video.writer import VideoWriter, WriteOptions

MS, TS = Fraction(1, 1000), Fraction(1, 90000)
NEW = (200, 40, 60)
SCENE = Scene(96, 64, 48)
X265 = "log-level=none:keyint=12:min-keyint=12:open-gop=0:scenecut=0"
FAST_VP9 = {"cpu-used": "8", "deadline": "realtime", "g": "12", "keyint_min": "12"}
FILES: dict[str, Coding] = {
    "b-frames.mp4": Coding(options={"bf": "3", "g": "12", "sc_threshold": "0"}),
    "no-b-frames.mp4": Coding(options={"bf": "0", "g": "12", "sc_threshold": "0"}),
    "variable.mp4": Coding(
        options={"bf": "2", "g": "12", "sc_threshold": "0"},
        times=clips.uneven(48),
        time_base=TS,
        muxer={"movie_timescale": "90000"},
    ),
    "late.mkv": Coding(
        options={"bf": "2", "g": "12", "sc_threshold": "0"}, start=Fraction(2), time_base=MS
    ),
    "baseline.mp4": Coding(options={"profile": "baseline", "g": "12", "sc_threshold": "0"}),
    "main.mov": Coding(options={"profile": "main", "g": "12", "sc_threshold": "0"}),
    "deep.mp4": Coding(pix_fmt="yuv420p10le", options={"g": "12", "sc_threshold": "0"}),
    "wide.mp4": Coding(pix_fmt="yuv444p", options={"g": "12", "sc_threshold": "0"}),
    "full.mp4": Coding(colours=(2, 1, 1, 1), options={"g": "12", "sc_threshold": "0"}),
    "turned.mp4": Coding(rotation=90, options={"g": "12", "sc_threshold": "0"}),
    "stream.ts": Coding(time_base=TS, options={"bf": "2", "g": "12", "sc_threshold": "0"}),
    "stream-deep.ts": Coding(
        pix_fmt="yuv422p10le",
        time_base=TS,
        sound=None,
        options={"g": "12", "sc_threshold": "0"},
    ),
    "hevc.mp4": Coding(codec="libx265", options={"x265-params": X265}),
    "hevc.mkv": Coding(codec="libx265", options={"x265-params": X265}, time_base=MS),
    "hevc.ts": Coding(codec="libx265", options={"x265-params": X265}, time_base=TS),
    "hevc-deep.ts": Coding(
        codec="libx265",
        pix_fmt="yuv422p10le",
        options={"x265-params": X265 + ":temporal-layers=2"},
        time_base=TS,
        sound=None,
    ),
    "hevc-deep.mov": Coding(
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": X265},
        colours=(1, 9, 16, 9),
    ),
    "hevc-slices.mp4": Coding(
        codec="libx265", options={"x265-params": X265 + ":slices=2:bframes=0"}
    ),
    "vp9.webm": Coding(codec="libvpx-vp9", sound="libopus", time_base=MS, options=FAST_VP9),
    "vp9.mp4": Coding(codec="libvpx-vp9", sound="aac", options=FAST_VP9),
    "av1.mp4": Coding(codec="libsvtav1", options={"preset": "12", "g": "12"}),
    "prores.mov": Coding(codec="prores_ks", pix_fmt="yuv422p10le", sound="pcm_s16le"),
}
HOLES = {
    "first and joined": {3, 23, 24},
    "apart": {14, 20, 47},
    "none": set[int](),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("splice")


@pytest.fixture(scope="module", params=FILES, ids=str)
def source(request: pytest.FixtureRequest, folder: Path) -> VideoReader:
    path = folder / request.param
    return VideoReader(clips.make(path, SCENE, FILES[request.param]).path)


def _hole(video: VideoReader) -> Mask:
    hole = np.zeros(video.size, np.bool_)
    hole[10:40, 12:44] = True
    return hole


def _write(
    video: VideoReader, target: Path, holes: set[int], options: WriteOptions | None = None
) -> VideoWriter:
    hole, none = _hole(video), np.zeros(video.size, np.bool_)
    options = options or WriteOptions(preset="ultrafast", measure=True)
    with VideoWriter(target, video, options=options, overwrite=True) as writer:
        for frame in video.frames():
            image = frame.image.copy()
            image[hole] = NEW
            is_hole = frame.index in holes
            writer.write(replace(frame, image=image), hole if is_hole else none)
    return writer


def _strictly(path: Path, threads: int) -> list[np.ndarray]:
    """Every frame, decoded in order; any error that FFmpeg would pass over is raised."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO" if threads > 1 else "NONE"
        for frame in container.decode(stream):
            assert not frame.is_corrupt
            frames.append(to_rgb(frame))
    return frames


def _by_opencv(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while capture.isOpened():
        there, image = capture.read()
        if not there:
            break
        frames.append(image)
    capture.release()
    return frames


def _check_by_opencv(source: Path, target: Path) -> None:
    """Another build of FFmpeg, with other decoders for some codecs, reads every frame too."""
    before, after = _by_opencv(source), _by_opencv(target)
    assert len(after) == len(before)  # none, where it has no decoder
    for index, (a, b) in enumerate(zip(before, after, strict=True)):
        assert np.abs(a[48:].astype(int) - b[48:]).mean() < 8, index


def _packets(path: Path) -> list[bytes]:
    return list(clips.packets(path, "video")[0].data)


@pytest.mark.parametrize("which", HOLES)
def test_groups_without_a_hole_are_the_source_s_packets(
    source: VideoReader, tmp_path: Path, which: str
) -> None:
    is_stream = source.path.suffix == ".ts"  # written as MP4: units follow their length, not a code
    target = tmp_path / ("out.mp4" if is_stream else f"out{source.path.suffix}")
    holes = HOLES[which]
    writer = _write(source, target, holes)
    written = writer.written
    assert written is not None and written.not_copied is None, written
    was, now = _packets(source.path), _packets(target)
    if is_stream:
        is_hevc = source.info.codec == "hevc"  # whose header alone has the parameter sets
        was = [
            sets.packed([u for u in units if not (is_hevc and 32 <= sets.hevc_kind(u) <= 34)], 4)
            for units in map(sets.units_of_stream, was)
        ]
    size = 1 if source.info.codec == "prores" else 12
    touched = {i // size for i in holes}
    first_hole = {group: min(i for i in holes if i // size == group) for group in touched}
    assert len(now) == len(was) == 48
    encoded = set[int]()  # frames
    for group, hole_at in first_hole.items():
        # up to 5 frames before a hole hang together with it, by B-frames
        same = [was[i] == now[i] for i in range(group * size, (group + 1) * size)]
        begin = group * size + (same.index(False) if False in same else size)
        assert hole_at - 5 < begin <= hole_at, (group, begin, hole_at)
        encoded |= set(range(begin, (group + 1) * size))
    for index, (a, b) in enumerate(zip(was, now, strict=True)):
        if index not in encoded:
            assert a == b, index
    assert written.copied_frames == 48 - len(encoded)
    assert written.encoded_frames == len(encoded)

    result = VideoReader(target)
    seconds = [[pts * v.time_base for pts in v.pts] for v in (source, result)]
    assert seconds[0] == seconds[1]
    assert result.info.pix_fmt == source.info.pix_fmt
    assert result.info.rotation == source.info.rotation
    before = _strictly(source.path, 1)
    for threads in (1, 4) if which == "apart" else (1,):
        after = _strictly(target, threads)
        assert len(after) == 48
        for index, (a, b) in enumerate(zip(before, after, strict=True)):
            if index not in encoded:
                assert np.array_equal(a, b), index
            else:
                assert np.abs(a.astype(int) - b)[45:].mean() < 6, index
    if which == "apart":
        _check_by_opencv(source.path, target)
    # seeking into every group
    hole = _hole(source)
    hole[:12] = hole[38:] = hole[:, :14] = hole[:, 42:] = False
    for index in (47, 0, 13, 26, 12):
        image = result.frame(index).image
        if index in holes:
            limit = 12 if source.info.codec == "av1" else 6  # of one frame, at its fastest
            assert np.abs(image[hole].astype(int) - NEW).mean() < limit, index
        else:
            assert np.abs(image.astype(int) - source.frame(index).image).mean() < 4, index
    assert written.fidelity is not None
    if not holes:
        assert written.fidelity.psnr_db is None and written.fidelity.exact_frames == 48
        assert written.copied_frames == 48
    else:
        assert (written.fidelity.psnr_db or 0) > 33
        assert written.fidelity.exact_frames >= written.copied_frames
    if not is_stream:
        audio = [clips.packets(p, "audio")[0].data for p in (source.path, target)]
        assert audio[0] == audio[1]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(st.integers(1, 200_000), min_size=3, max_size=24),
    start=st.integers(0, 10**6),
    b_frames=st.integers(0, 3),
    group=st.integers(2, 9),
    holes=st.sets(st.integers(0, 24), max_size=4),
    hevc=st.booleans(),
)
def test_any_times_groups_and_holes_join(
    tmp_path: Path,
    steps: list[int],
    start: int,
    b_frames: int,
    group: int,
    holes: set[int],
    hevc: bool,
) -> None:
    ticks = np.cumsum([0, *steps]).tolist()
    codec, params = ("libx265", "x265-params") if hevc else ("libx264", "x264-params")
    words = f"keyint={group}:min-keyint={group}:scenecut=0:bframes={b_frames}:open-gop=0"
    coding = Coding(
        codec,
        times=tuple(Fraction(t, 90000) for t in ticks),
        start=Fraction(start, 1000),
        time_base=TS,
        sound=None,
        options={params: words + (":log-level=none" if hevc else ""), "preset": "ultrafast"},
        muxer={"movie_timescale": "90000"},
    )
    scene = Scene(64, 64, len(ticks))
    video = VideoReader(clips.make(tmp_path / "any.mp4", scene, coding).path)
    target = tmp_path / "out.mp4"
    written = _write(video, target, holes, WriteOptions(preset="ultrafast")).written
    assert written is not None and written.copied_frames + written.encoded_frames == len(video)
    result = VideoReader(target)
    assert [p * result.time_base for p in result.pts] == [p * video.time_base for p in video.pts]
    before, after = _strictly(video.path, 1), _strictly(target, 1)
    equal = sum(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert equal >= written.copied_frames
    same = sum(a == b for a, b in zip(_packets(video.path), _packets(target), strict=True))
    assert same >= written.copied_frames
    if not holes & set(range(len(video))):
        assert written.copied_frames in (0, len(video))


def test_a_copied_group_costs_no_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = VideoReader(clips.make(tmp_path / "a.mp4", SCENE, FILES["b-frames.mp4"]).path)
    frames = list(video.frames())
    asked: list[int] = []
    natives = VideoReader.natives

    def counted(self: VideoReader, start: int = 0, stop: int | None = None) -> object:
        asked.append(start)
        return natives(self, start, stop)

    monkeypatch.setattr(VideoReader, "natives", counted)
    with VideoWriter(tmp_path / "out.mp4", video) as writer:
        for frame in frames:
            hole = np.full(video.size, frame.index == 30)
            writer.write(frame, hole)
    assert len(asked) == 1 and 25 <= asked[0] <= 30


REFUSED: dict[str, tuple[Coding, str, WriteOptions, str]] = {
    "off": (FILES["b-frames.mp4"], "mp4", WriteOptions(smart_copy=False), "not wanted"),
    "codec": (FILES["b-frames.mp4"], "mp4", WriteOptions(codec="hevc"), "the result hevc"),
    "format": (FILES["b-frames.mp4"], "mp4", WriteOptions(pix_fmt="yuv444p"), "not yuv444p"),
    "lossless crf": (
        FILES["b-frames.mp4"],
        "mp4",
        WriteOptions(crf=0),
        "does not keep the source's profile",
    ),
    "all keys": (Coding(options={"g": "1"}), "mp4", WriteOptions(), "no group"),
    "interlaced": (
        Coding(interlaced=True, options={"g": "12"}),
        "mp4",
        WriteOptions(),
        "interlaced",
    ),
    "lossless": (Coding(codec="ffv1", time_base=MS), "mkv", WriteOptions(), "one header"),
    "av1": (
        Coding(
            codec="libsvtav1",
            options={"preset": "12", "g": "12", "svtav1-params": "film-grain=8"},
        ),
        "mp4",
        WriteOptions(),
        "sequence header",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_copied_says_why(tmp_path: Path, name: str) -> None:
    coding, ending, options, reason = REFUSED[name]
    video = VideoReader(clips.make(tmp_path / f"a.{ending}", SCENE, coding).path)
    target = tmp_path / ("out.mkv" if ending == "mkv" else "out.mp4")
    written = _write(video, target, {3}, replace(options, preset="ultrafast")).written
    assert written is not None and written.copied_frames == 0 and written.encoded_frames == 48
    assert reason in (written.not_copied or ""), written
    assert len(_strictly(target, 1)) == 48


@pytest.mark.parametrize("open_gop", [False, True])
def test_of_one_long_group_the_beginning_is_copied(tmp_path: Path, open_gop: bool) -> None:
    """Key frames that do not clear the decoder begin nothing, but all up to the hole is kept."""
    keyint = "open-gop=1:keyint=12:bframes=3:scenecut=0" if open_gop else "keyint=99:bframes=3"
    coding = Coding(options={"x264-params": keyint})
    video = VideoReader(clips.make(tmp_path / "a.mp4", SCENE, coding).path)
    for hole_at, least in ((40, 35), (1, 0), (0, 0), (3, 0)):
        written = _write(video, tmp_path / "out.mp4", {hole_at}).written
        assert written is not None and least <= written.copied_frames <= hole_at
        was, now = _packets(video.path), _packets(tmp_path / "out.mp4")
        assert was[: written.copied_frames] == now[: written.copied_frames]
        if written.copied_frames == 0:
            assert written.not_copied == "every group of pictures has a hole"
        frames = zip(_strictly(video.path, 1), _strictly(tmp_path / "out.mp4", 4), strict=True)
        for index, (a, b) in enumerate(frames):
            if index < written.copied_frames:
                assert np.array_equal(a, b)
            assert np.abs(a.astype(int) - b)[45:].mean() < 6, index
    assert _write(video, tmp_path / "out.mp4", set()).written.copied_frames == 48  # type: ignore[union-attr]


def test_an_edit_list_that_hides_frames(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4", SCENE, FILES["b-frames.mp4"])
    data = clip.path.read_bytes()
    at = data.find(b"elst") + 8 + 4 + 4  # of the first track: the pictures; its media time
    before = int.from_bytes(data[at : at + 4], "big")
    clip.path.write_bytes(data[:at] + (before + 3 * 512).to_bytes(4, "big") + data[at + 4 :])
    video = VideoReader(clip.path)
    assert len(video) == 45
    written = _write(video, tmp_path / "out.mp4", {30}).written
    assert written is not None and "edit list" in (written.not_copied or "")
    assert len(VideoReader(tmp_path / "out.mp4")) == 45


def test_a_header_that_changes_on_the_way_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = VideoReader(clips.make(tmp_path / "a.mp4", SCENE, FILES["b-frames.mp4"]).path)
    made = VideoWriter(tmp_path / "out.mp4", video, options=WriteOptions(preset="ultrafast"))
    configure = type(made._sink)._configure  # type: ignore[attr-defined]

    def otherwise(self: object, context: av.VideoCodecContext) -> None:
        configure(self, context)
        context.options = {**context.options, "refs": "5"}

    with pytest.raises(VideoEncodeError, match="changed its header"), made as writer:
        for frame in video.frames():
            if frame.index == 20:
                monkeypatch.setattr(type(made._sink), "_configure", otherwise)
            writer.write(frame, np.full(video.size, frame.index in (3, 40)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


@given(st.binary(min_size=1, max_size=60), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_packed_or_refused(data: bytes, length: int) -> None:
    try:
        found = list(sets.units(data, length))
    except sets.ParameterSetError:
        return
    assert sets.packed(found, length) == data


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_header_is_read_or_refused(data: bytes) -> None:
    for kind in (sets.AvcHeader, sets.HevcHeader):
        with suppress(sets.ParameterSetError):
            layout = workable("yuv420p")
            made = sets.AvcHeader.of_stream(b"\0\0\1\x67" + data, layout)
            assert sets.AvcHeader.of(made.boxed()) == made
        with suppress(sets.ParameterSetError):
            units = (b"\x40\1" + data[:20], b"\x42\1" + data, b"\x44\1" + data[:9])
            stream = b"".join(b"\0\0\1" + unit for unit in units)
            told = sets.HevcHeader.of_stream(stream, layout)
            assert sets.HevcHeader.of(told.boxed()) == told
        for start in (b"", b"\x01"):
            try:
                header = kind.of(start + data)
            except sets.ParameterSetError:
                continue
            assert kind.of(header.boxed()) == header


def test_slices_are_renumbered_by_one_byte() -> None:
    for kind in (1, 19, 20, 21):
        for rest in range(32):
            head = bytes((kind << 1, 1))
            flags = 0b1110_0000 if kind > 15 else 0b1100_0000
            unit = head + bytes((flags | rest, 0, 0, 3, 1, 77))
            if not flags >> 5 & 1 and kind > 15:
                continue
            new = sets.renumber_hevc_slice(unit, 30)
            assert len(new) == len(unit) + 1 and new[4:] == unit[3:]
            assert b"\0\0\0" not in new and new[2] and new[3]


def test_luma_is_compared_in_its_own_planes(tmp_path: Path) -> None:
    video = VideoReader(clips.make(tmp_path / "a.mp4", SCENE, FILES["deep.mp4"]).path)
    assert plane_view(next(video.natives()), 0).dtype == np.uint16
    options = WriteOptions(codec="ffv1", measure=True)
    written = _write(video, tmp_path / "out.mkv", {2, 5}, options).written
    assert written is not None and written.fidelity is not None
    assert written.fidelity.psnr_db is None and written.fidelity.exact_frames == 48
    options = WriteOptions(crf=40, preset="ultrafast", measure=True, smart_copy=False)
    written = _write(video, tmp_path / "out.mp4", {2, 5}, options).written
    assert written is not None and written.fidelity is not None
    worst = written.fidelity.worst_psnr_db
    assert worst is not None and 15 < worst <= (written.fidelity.psnr_db or 0) < 45
