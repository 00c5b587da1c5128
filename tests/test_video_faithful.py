"""The same file comes back: counts, times, tracks and untouched pixels, over a table of files."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import clips
import cv2
import factory
import numpy as np
import pytest
from av.stream import AttachmentStream
from clips import Clip, Coding, Scene
from factory import DELAYED, FILES, MS, TINY, VP9, box, insert_in_entry

from inpainterz.types import Mask
from inpainterz.video.matroska import set_pixel_aspect
from inpainterz.video.planes import Orientation, plane_view, to_rgb, upright
from inpainterz.video.reader import VideoReader
from inpainterz.video.writer import CODECS, VideoWriter, WriteOptions

NEW = (200, 40, 60)
QUICK = WriteOptions(preset="ultrafast", measure=True)


def _hole(video: VideoReader) -> Mask:
    hole = np.zeros(video.size, np.bool_)
    height, width = video.size
    hole[height // 4 + 1 : height // 4 + 22, width // 4 + 1 : width // 4 + 26] = True
    return hole


def _write(
    video: VideoReader, target: Path, options: WriteOptions = QUICK
) -> tuple[VideoWriter, set[int]]:
    """A red rectangle in the second frame, and in one near the end."""
    holes = {min(1, len(video) - 1), max(0, len(video) - 2)}
    hole, none = _hole(video), np.zeros(video.size, np.bool_)
    with VideoWriter(target, video, options=options) as writer:
        for frame in video.frames():
            image = frame.image.copy()
            image[hole] = NEW
            writer.write(replace(frame, image=image), hole if frame.index in holes else none)
    return writer, holes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("factory")


def test_the_table_is_long_enough() -> None:
    assert len(FILES) >= 40
    endings = {Path(name).suffix for name in FILES}
    assert endings >= {".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".flv", ".gif"}


@pytest.mark.parametrize("name", FILES)
def test_the_same_file_comes_back(folder: Path, tmp_path: Path, name: str) -> None:
    made = FILES[name]
    clip = factory.make(folder, name)
    target = tmp_path / f"out.{made.target or name.rpartition('.')[2]}"
    source = VideoReader(clip.path)
    writer, holes = _write(source, target)
    result = VideoReader(target)
    written = writer.written
    assert written is not None and written.fidelity is not None

    # counts and times, against the source and against what was asked of its encoder
    assert len(result) == len(source) == clip.scene.frames
    was, now = ([pts * v.time_base for pts in v.pts] for v in (source, result))
    unit = result.time_base
    for a, b in zip(was, now, strict=True):
        assert abs(a - b) <= (unit / 2 if unit > source.time_base else 0)
    shift = was[0] - clip.times[0] if name.endswith(DELAYED) or "frag" in name else 0
    for asked, time in zip(clip.times, now, strict=True):
        assert abs(time - shift - asked) <= max(unit, source.time_base)
    assert result.info.duration == pytest.approx(source.info.duration, abs=0.002)

    # pictures
    before, after = source.info, result.info
    assert after.codec == (made.codec or before.codec)
    assert (after.width, after.height) == (before.width, before.height)
    assert after.rotation == before.rotation
    assert after.sample_aspect_ratio == before.sample_aspect_ratio
    depth = [av.VideoFormat(i.pix_fmt).components[0].bits for i in (before, after)]
    assert depth[0] == depth[1]
    assert after.hdr == before.hdr and bool(after.hdr) == ("hdr10" in name)
    if not before.pix_fmt.startswith(("bgr", "rgb", "gray")):
        for tag in ("color_space", "color_primaries", "color_transfer"):
            assert getattr(after, tag) == getattr(before, tag), tag
        full = [i.color_range == 2 or i.pix_fmt.startswith("yuvj") for i in (before, after)]
        assert full[0] == full[1]
    with av.open(str(target)) as container:  # nobody shall deinterlace it a second time
        assert container.streams.video[0].codec_context.field_order in (0, 1)
    _check_pixels(source, result, holes)
    psnr = written.fidelity.psnr_db
    assert psnr is None or psnr > (42 if before.codec != "gif" else 30), written
    if after.codec == "ffv1":
        assert psnr is None and written.fidelity.exact_frames == len(source)
    assert written.copied_frames > 0 or not made.copies, written
    assert (written.copied_frames == 0) == (written.not_copied is not None), written
    assert written.fidelity.exact_frames >= written.copied_frames

    # everything else
    assert len(writer.dropped) == len(made.lost), writer.dropped
    for words in made.lost:
        assert any(words in line for line in writer.dropped), (words, writer.dropped)
    _check_tracks(clip, target, made.lost)
    if shutil.which("ffprobe"):
        _check_by_ffprobe(clip.path, target, made)


def _check_pixels(source: VideoReader, result: VideoReader, holes: set[int]) -> None:
    hole = _hole(source)
    inside = cv2.erode(hole.view(np.uint8), np.ones((13, 13), np.uint8)) > 0
    for a, b in zip(source.frames(), result.frames(), strict=True):
        touched = a.index in holes
        outside = ~hole if touched else np.ones_like(hole)
        error = np.abs(a.image[outside].astype(int) - b.image[outside]).mean()
        assert error < (16 if source.info.codec == "gif" else 4), (a.index, error)  # it is dithered
        if touched:
            assert np.abs(b.image[inside].astype(int) - NEW).mean() < 8, a.index


def _check_tracks(clip: Clip, target: Path, lost: tuple[str, ...]) -> None:
    re_encoded = any(word in ("aac",) for word in lost)
    was, now = (clips.packets(p, "audio") for p in (clip.path, target))
    assert len(was) == len(now) == (clip.coding.sounds if clip.coding.sound else 0)
    for a, b in zip(was, now, strict=True):
        if re_encoded:
            assert abs(a.times[-1] - b.times[-1]) < Fraction(1, 20)
            continue
        # in a transport stream each packet has a header of 7 bytes, which is the container's here
        header = 7 if clip.path.suffix == ".ts" else 0
        assert tuple(data[header:] for data in a.data) == b.data
        if {a.language, b.language} - {None, "und"}:
            assert a.language == b.language
        limit = 0 if clip.path.suffix == target.suffix else MS
        assert max(abs(x - y) for x, y in zip(a.times, b.times, strict=True)) <= limit
    if not any("subtitle" in word for word in lost):
        texts = [clips.packets(p, "subtitle") for p in (clip.path, target)]
        assert [t.data for t in texts[0]] == [t.data for t in texts[1]]
        assert bool(texts[0]) == bool(clip.coding.subtitles)
        assert [t.times for t in texts[0]] == [t.times for t in texts[1]]
    with av.open(str(clip.path)) as a, av.open(str(target)) as b:
        chapters = [
            [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]) for c in f]
            for f in (a.chapters(), b.chapters())
        ]
        assert len(chapters[0]) == len(chapters[1]) == clip.coding.chapters
        for one, other in zip(*chapters, strict=True):
            assert one[2] == other[2]  # in MP4 they are in units of the file's own
            assert max(abs(one[i] - other[i]) for i in (0, 1)) < Fraction(1, 50_000)
        for key, value in clip.coding.metadata.items():
            if key != "timecode":
                assert {k.lower(): v for k, v in b.metadata.items()}[key] == value
        if "timecode" in clip.coding.metadata:
            assert b.streams.video[0].metadata["timecode"] == clip.coding.metadata["timecode"]
        if clip.coding.attachment and "attachment stream" not in lost:
            (font,) = [s for s in b.streams if s.type == "attachment"]
            assert isinstance(font, AttachmentStream) and font.data == b"not really a font"
        if not lost and clip.path.suffix == target.suffix:
            assert [s.type for s in a.streams] == [s.type for s in b.streams]


_NEVER_KEPT = {"encoder", "vendor_id", "handler_name", "duration", "software", "compatible_brands"}
_CONTAINER_S_OWN = {"major_brand", "minor_version", "language"}


def _told_by_ffprobe(path: Path, *wanted: str) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-of", "json", *wanted, str(path)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert not done.stderr.strip(), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _words(told: dict[str, Any], same: bool) -> dict[str, str]:
    left_out = _NEVER_KEPT if same else _NEVER_KEPT | _CONTAINER_S_OWN
    found = {key.lower(): value for key, value in told.get("tags", {}).items()}
    return {key: value for key, value in found.items() if key not in left_out | {"timecode"}}


def _check_by_ffprobe(source: Path, target: Path, made: factory.Made) -> None:
    """Somebody else's eyes: ffprobe decodes both and must tell the same of them."""
    shown = "frame=best_effort_timestamp_time"
    everything = ("-show_streams", "-show_chapters", "-show_format")
    (was, frames), (now, after) = (
        (_told_by_ffprobe(path, *everything), _told_by_ffprobe(path, *frames_of))
        for path in (source, target)
        for frames_of in [("-select_streams", "v:0", "-show_frames", "-show_entries", shown)]
    )
    same = source.suffix == target.suffix
    a, b = (next(s for s in t["streams"] if s["codec_type"] == "video") for t in (was, now))
    names = ["width", "height"]
    if a["codec_name"] in CODECS:  # others do not say it, or in other words
        names += ["color_space", "color_primaries", "color_transfer", "sample_aspect_ratio"]
    if a["codec_name"] == b["codec_name"]:
        names += ["color_range", "chroma_location", "pix_fmt"]
    if same and not made.codec:
        names += ["avg_frame_rate", "codec_tag_string", "disposition", "side_data_list"]
    for name in names:
        default = "1:1" if name == "sample_aspect_ratio" else None
        assert b.get(name, default) == a.get(name, default), (name, a.get(name), b.get(name))
    times = [
        [float(f.get(shown.partition("=")[2], "nan")) for f in t["frames"]] for t in (frames, after)
    ]
    assert len(times[0]) == len(times[1])
    for x, y in zip(*times, strict=True):  # AVI's last ones have no time
        assert not abs(x - y) > 0.0011, (x, y)
    assert len(now["chapters"]) == len(was["chapters"])
    if made.lost:
        return
    assert _words(was["format"], same) == _words(now["format"], same)
    for one, other in zip(was["streams"], now["streams"], strict=same):
        assert _words(one, same) == _words(other, same)
        if same:
            assert one["disposition"] == other["disposition"]


# --- what the table cannot say ----------------------------------------------------------------


def test_hdr_metadata_of_a_container_is_kept(tmp_path: Path) -> None:
    """VP9 has no place for it in its stream: it is the container's boxes that tell."""
    coding = Coding("libvpx-vp9", sound=None, options=VP9, colours=(1, 9, 16, 9))
    clip = clips.make(tmp_path / "a.mp4", TINY, coding)
    colours = ((8500, 39850), (6550, 2300), (35400, 14600), (15635, 16450))
    display = b"".join(struct.pack(">HH", *pair) for pair in colours)
    display += struct.pack(">II", 10_000_000, 50)
    insert_in_entry(
        clip.path, b"vp09", box(b"mdcv", display) + box(b"clli", struct.pack(">HH", 1000, 400))
    )
    source = VideoReader(clip.path)
    assert source.info.hdr.light == (1000, 400) and source.info.hdr.luminance == (0.005, 1000)
    for name in ("out.mp4", "out.mkv", "out.webm"):
        writer, _ = _write(source, tmp_path / name)
        assert VideoReader(tmp_path / name).info.hdr.light == (1000, 400), name
        assert VideoReader(tmp_path / name).info.hdr.is_mastered and not writer.dropped, name
    for codec, name in (("hevc", "h.mp4"), ("av1", "a.mkv"), ("h264", "c.mov")):
        writer, _ = _write(source, tmp_path / name, replace(QUICK, codec=codec))
        hdr = VideoReader(tmp_path / name).info.hdr
        assert hdr.light == (1000, 400) and not writer.dropped, name
        for a, b in zip(hdr.primaries, source.info.hdr.primaries, strict=True):
            assert a == pytest.approx(b, abs=1e-4)
    writer, _ = _write(source, tmp_path / "p.mov", replace(QUICK, codec="prores"))
    assert any("HDR metadata" in line for line in writer.dropped)


def test_transparency_of_vp9_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    ramp = np.arange(0, 256, 4, dtype=np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libvpx-vp9", 25)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuva420p"
        stream.codec_context.options = {**VP9, "auto-alt-ref": "0"}
        stream.metadata["alpha_mode"] = "1"
        for index in range(6):
            rgba = np.full((64, 64, 4), 90, np.uint8)
            rgba[..., 3] = ramp
            frame = av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="yuva420p")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    source = VideoReader(path)
    assert source.info.pix_fmt == "yuva420p"
    for name in ("out.webm", "out.mkv", "lossless.mkv", "layer.mov"):
        codec = {"lossless.mkv": "ffv1", "layer.mov": "prores"}.get(name, "auto")
        writer, _ = _write(source, tmp_path / name, replace(QUICK, codec=codec))
        assert writer.dropped == ()
        native = next(VideoReader(tmp_path / name).natives())
        alpha = plane_view(native, 3) >> (av.VideoFormat(native.format.name).components[3].bits - 8)
        assert np.abs(alpha.astype(int) - ramp).mean() < 4, name
    for name in ("out.mp4", "out.mov"):
        codec = "vp9" if name == "out.mp4" else "h264"
        writer, _ = _write(source, tmp_path / name, replace(QUICK, codec=codec))
        assert any("transparency" in line for line in writer.dropped), name


@pytest.mark.parametrize("codec", ["png", "qtrle"])
def test_transparent_pictures_become_prores_in_mov(tmp_path: Path, codec: str) -> None:
    path, pix_fmt = tmp_path / "a.mov", {"png": "rgba", "qtrle": "argb"}[codec]
    rgba = np.full((64, 64, 4), 90, np.uint8)
    rgba[:32, :, 3] = 0
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, 25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pix_fmt
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format=pix_fmt)
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    source = VideoReader(path)
    writer, _ = _write(source, tmp_path / "out.mov")
    (line,) = writer.dropped
    assert f"the codec {codec}" in line and "written as prores" in line
    native = next(VideoReader(tmp_path / "out.mov").natives())
    alpha = plane_view(native, 3)
    assert alpha[:30].max() == 0 and alpha[34:].min() >= 0.98 * alpha.max() > 0


def test_depth_goes_before_the_family(tmp_path: Path) -> None:
    """Ten bits of a codec that is encoded in eight here go into another one of ten."""
    coding = Coding("libx265", "yuv420p10le", options=factory.QUIET, time_base=MS)
    source = VideoReader(clips.make(tmp_path / "a.mkv", TINY, coding).path)
    writer, _ = _write(source, tmp_path / "out.webm")
    assert writer.written is not None and writer.written.codec == "av1"
    assert writer.written.pix_fmt == "yuv420p10le"
    assert "the codec hevc, which does not go into .webm" in writer.dropped[0]


def test_a_twelve_bit_source_of_hevc_stays_one(tmp_path: Path) -> None:
    coding = Coding("libx265", "yuv422p12le", options=factory.QUIET, sound=None)
    source = VideoReader(clips.make(tmp_path / "a.mp4", TINY, coding).path)
    writer, _ = _write(source, tmp_path / "out.mp4")
    assert VideoReader(tmp_path / "out.mp4").info.pix_fmt == "yuv422p12le" and not writer.dropped


def test_deep_planes_keep_their_bits_up_to_the_encoder(tmp_path: Path) -> None:
    coding = Coding("libx265", "yuv420p10le", options=factory.HDR10, colours=(1, 9, 16, 9))
    source = VideoReader(clips.make(tmp_path / "a.mp4", TINY, coding).path)
    _write(source, tmp_path / "out.mkv", replace(QUICK, codec="ffv1"))
    hole = _hole(source)
    for index, (a, b) in enumerate(
        zip(source.natives(), VideoReader(tmp_path / "out.mkv").natives(), strict=True)
    ):
        assert a.format.name == b.format.name == "yuv420p10le"
        outside = ~hole if index in (1, 10) else np.ones_like(hole)
        assert np.array_equal(plane_view(a, 0)[outside], plane_view(b, 0)[outside])
        assert (plane_view(a, 0) % 4).any()  # there is more than 8 bits in it


def test_pictures_tell_what_they_do_not_hold(tmp_path: Path) -> None:
    coding = Coding("libx265", "yuv420p10le", options=factory.QUIET, sound=None)
    source = VideoReader(clips.make(tmp_path / "a.mp4", TINY, coding).path)
    writer = VideoWriter(f"{tmp_path / 'out'}/", source)
    writer.close()
    assert "10 bits become 8" in writer.dropped


def test_where_it_was_filmed_is_private(tmp_path: Path) -> None:
    words = {"location": "+48.1374+011.5755/", "title": "home", "comment": "hello"}
    coding = Coding(metadata=words, sound=None)
    source = VideoReader(clips.make(tmp_path / "a.mp4", TINY, coding).path)
    writer, _ = _write(source, tmp_path / "out.mp4")
    assert any("private" in line for line in writer.dropped)
    writer, _ = _write(source, tmp_path / "kept.mp4", replace(QUICK, keep_location=True))
    assert writer.dropped == ()
    places = []
    for path in (source.path, tmp_path / "out.mp4", tmp_path / "kept.mp4"):
        with av.open(str(path)) as container:
            assert container.metadata["title"] == "home"
            places.append(container.metadata.get("location"))
    assert places == ["+48.1374+011.5755/", None, "+48.1374+011.5755/"]


def test_data_is_copied_where_the_container_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", 25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        data = out.add_data_stream("klv")
        for index in range(8):
            frame = clips.native(TINY.image(index), Coding())
            frame.pts = index
            out.mux(stream.encode(frame))
            packet = av.Packet(b"\x06\x0e\x2b\x34" + bytes([index]) * 12)
            packet.stream, packet.time_base = data, Fraction(1, 25)
            packet.pts = packet.dts = index
            out.mux(packet)
        out.mux(stream.encode(None))
    source = VideoReader(path)
    writer, _ = _write(source, tmp_path / "out.mov")
    assert writer.dropped == ()
    found = []
    for name in (path, tmp_path / "out.mov"):
        with av.open(str(name)) as container:
            found.append([bytes(p) for p in container.demux(container.streams.data[0]) if p.size])
    assert found[0] == found[1] and len(found[0]) == 8
    writer, _ = _write(source, tmp_path / "out.mp4")
    assert any("data stream 1 (klv) does not go into mp4" in line for line in writer.dropped)


def test_sound_that_matroska_does_not_take_is_encoded_anew(tmp_path: Path) -> None:
    coding = Coding("wmv2", sound="wmav2", time_base=MS)
    source = VideoReader(clips.make(tmp_path / "a.asf", TINY, coding).path)
    writer, _ = _write(source, tmp_path / "out.mkv")
    assert any("wmav2" in line and "encoded as aac" in line for line in writer.dropped)
    (sound,) = clips.packets(tmp_path / "out.mkv", "audio")
    assert sound.codec == "aac" and sound.times[-1] > Fraction(4, 10)


def test_what_the_container_keeps_elsewhere_is_not_told_as_lost(tmp_path: Path) -> None:
    """DV tells its timecode for the whole file, MOV for the pictures."""
    path = tmp_path / "a.dv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("dvvideo", 25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for index in range(2):
            frame = clips.native(clips.texture(576, 720, index), Coding())
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(str(path)) as source:
        assert "timecode" in source.metadata
    writer, _ = _write(VideoReader(path), tmp_path / "out.mov")
    assert not any("words" in line for line in writer.dropped), writer.dropped
    with av.open(str(tmp_path / "out.mov")) as out:
        assert out.streams.video[0].metadata["timecode"] == "00:00:00:00"


def test_square_pixels_are_told_where_the_source_tells_them(tmp_path: Path) -> None:
    for aspect in (None, Fraction(1)):
        coding = Coding("ffv1", sound=None, time_base=MS, aspect=aspect)
        source = VideoReader(clips.make(tmp_path / "a.mkv", TINY, coding).path)
        assert not source.info.tells_aspect and source.info.sample_aspect_ratio == 1
        assert set_pixel_aspect(tmp_path / "a.mkv", (64, 64), Fraction(1))
        source = VideoReader(tmp_path / "a.mkv")
        assert source.info.tells_aspect
        _write(source, tmp_path / f"{aspect is None}.mkv")
        assert VideoReader(tmp_path / f"{aspect is None}.mkv").info.tells_aspect


@pytest.mark.parametrize("size", [(322, 242), (70, 66), (336, 250)])
def test_a_conversion_gives_the_same_pixels_each_time(size: tuple[int, int]) -> None:
    """Of several threads of swscale, one wrote past its last row onto the next one's first."""
    image = clips.texture(size[1], size[0], 5)
    native = clips.native(image, Coding())
    first: list[bytes] = []
    for _ in range(30):
        deep = upright(native, Orientation(), "yuv422p10le", limited=True)
        planes = [plane_view(deep, i).tobytes() for i in range(3)]
        planes.append(to_rgb(native).tobytes())
        assert not first or planes == first
        first = planes


def test_stored_pixels_are_the_source_s_own(tmp_path: Path) -> None:
    """A turned clip stays as it is stored: a decoder that does not turn sees the same planes."""
    coding = Coding("ffv1", rotation=90, sound=None, time_base=MS)
    source = VideoReader(clips.make(tmp_path / "a.mkv", Scene(75, 49, 4), coding).path)
    _write(source, tmp_path / "out.mkv")
    hole = source.orientation.revert(_hole(source))
    with av.open(str(source.path)) as a, av.open(str(tmp_path / "out.mkv")) as b:
        for was, now in zip(a.decode(video=0), b.decode(video=0), strict=True):
            assert (was.width, was.height) == (now.width, now.height) == (75, 49)
            assert np.array_equal(to_rgb(was)[~hole], to_rgb(now)[~hole])
    again = upright(next(source.natives()), source.orientation, "yuv444p")
    assert (again.height, again.width) == source.size


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_the_cover_is_kept(tmp_path: Path, ending: str) -> None:
    clip = clips.make(tmp_path / "a.mp4", TINY, Coding())
    picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), "rgb24")
    path = tmp_path / "cover.mp4"
    with av.open(str(clip.path)) as source, av.open(str(path), "w") as out:
        target = out.add_stream_from_template(source.streams.video[0], opaque=True)
        cover = out.add_stream("png")
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        packets = [*cover.encode(picture), *cover.encode(None)]
        kept = bytes(packets[0])
        out.mux(packets)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = target
                out.mux(packet)
    writer, _ = _write(VideoReader(path), tmp_path / f"out.{ending}")
    assert writer.dropped == ()
    with av.open(str(tmp_path / f"out.{ending}")) as out:
        (stream,) = [s for s in out.streams.video if s.disposition & 1024]
        assert [bytes(p) for p in out.demux(stream) if p.size] == [kept]
    assert len(VideoReader(tmp_path / f"out.{ending}")) == 12
    writer, _ = _write(VideoReader(path), tmp_path / "out.webm")
    assert any("another picture" in line for line in writer.dropped)


def test_words_without_a_place_are_told(tmp_path: Path) -> None:
    words = {"title": "t", "artist": "a", "com.apple.quicktime.model": "phone"}
    coding = Coding(sound=None, metadata=words, muxer={"movflags": "use_metadata_tags"})
    source = VideoReader(clips.make(tmp_path / "a.mov", TINY, coding).path)
    for name in ("out.mov", "out.mp4", "out.mkv"):
        writer, _ = _write(source, tmp_path / name)
        assert writer.dropped == (), name
        with av.open(str(tmp_path / name)) as out:
            found = {key.lower(): value for key, value in out.metadata.items()}
            assert words.items() <= found.items(), name
    coding = Coding(sound=None, time_base=MS, metadata={"title": "t", "my own": "x"})
    source = VideoReader(clips.make(tmp_path / "b.mkv", TINY, coding).path)
    writer, _ = _write(source, tmp_path / "b.mp4")
    assert writer.dropped == ("words that mp4 has no place for: MY_OWN",)
