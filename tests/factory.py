"""A table of files over containers, codecs, times, rotation and tracks, made while tests run."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import clips
from clips import Clip, Coding, Scene

MS, TS = Fraction(1, 1000), Fraction(1, 90000)
NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)
TINY = Scene(64, 64, 12)
ODD = Scene(67, 65, 8)
QUIET = {"x265-params": "log-level=none"}
HDR10 = {
    "x265-params": "log-level=none:hdr10=1:max-cll=1000,400:master-display="
    "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50)"
}
VP9 = {"cpu-used": "8", "deadline": "realtime"}
SVT = {"preset": "12"}
EXACT = {"movie_timescale": "90000"}
GROUPS = {"g": "4", "sc_threshold": "0", "bf": "2"}


@dataclass(frozen=True)
class Made:
    """One file of the table."""

    scene: Scene
    coding: Coding
    target: str = ""
    """Ending of the result; the source's where it is empty."""
    codec: str = ""
    """Of the result; the source's where it is empty."""
    lost: tuple[str, ...] = ()
    """Words that the list of what is not carried must contain, one a line; nothing else may."""
    copies: bool = False
    """Whether packets must be copied: the file has groups without a hole that can be."""


FILES: dict[str, Made] = {
    # times
    "constant.mp4": Made(TINY, Coding(options=GROUPS), copies=True),
    "constant.mkv": Made(TINY, Coding(time_base=MS, options=GROUPS), copies=True),
    "constant.mov": Made(TINY, Coding(options=GROUPS), copies=True),
    "ntsc.mp4": Made(TINY, Coding(rate=NTSC, time_base=1 / NTSC, options=GROUPS), copies=True),
    "ntsc.mkv": Made(TINY, Coding(rate=NTSC, time_base=MS)),
    "film.mov": Made(TINY, Coding(rate=FILM, time_base=1 / FILM)),
    "film-90k.mp4": Made(TINY, Coding(rate=FILM, time_base=TS, muxer=EXACT)),
    "fast.mp4": Made(TINY, Coding(rate=Fraction(120))),
    "slow.mp4": Made(Scene(64, 64, 3), Coding(rate=Fraction(1, 2))),
    "variable.mp4": Made(
        TINY, Coding(times=clips.uneven(12), time_base=TS, options=GROUPS), copies=True
    ),
    "variable.mkv": Made(TINY, Coding(times=clips.uneven(12, 3), time_base=MS)),
    "variable.webm": Made(
        TINY,
        Coding("libvpx-vp9", times=clips.uneven(12, 4), time_base=MS, options=VP9, sound="libopus"),
    ),
    "late.mp4": Made(TINY, Coding(start=Fraction(3, 2), time_base=TS, muxer=EXACT)),
    "late.mkv": Made(TINY, Coding(start=Fraction(5), time_base=MS, options=GROUPS), copies=True),
    "late-variable.mov": Made(
        TINY, Coding(start=Fraction(1), times=clips.uneven(12, 5), time_base=TS, muxer=EXACT)
    ),
    "b-frames.mp4": Made(Scene(64, 64, 20), Coding(options={"bf": "4", "b-pyramid": "normal"})),
    "one.mp4": Made(Scene(64, 64, 1), Coding()),
    "fragments.mp4": Made(TINY, Coding(muxer={"movflags": "frag_keyframe+empty_moov"})),
    "stream.ts": Made(TINY, Coding(time_base=TS), target="mp4"),
    "hevc.ts": Made(
        TINY,
        Coding(
            "libx265",
            options={"x265-params": "log-level=none:keyint=4:min-keyint=4:open-gop=0:scenecut=0"},
            time_base=TS,
        ),
        target="mp4",
        copies=True,
    ),
    "stream-to.mkv.ts": Made(TINY, Coding(time_base=TS), target="mkv"),
    # rotation
    "turned-90.mp4": Made(TINY, Coding(rotation=90, options=GROUPS), copies=True),
    "turned-180.mov": Made(TINY, Coding(rotation=180)),
    "turned-270.mkv": Made(TINY, Coding(rotation=270, time_base=MS)),
    "mirrored.mp4": Made(TINY, Coding(mirror=True)),
    "turned-odd.mkv": Made(ODD, Coding("ffv1", rotation=90, sound="flac", time_base=MS)),
    "turned-to.webm.mp4": Made(
        TINY, Coding(rotation=90), target="webm", codec="vp9", lost=("codec h264", "aac")
    ),
    # codecs
    "hevc.mp4": Made(TINY, Coding("libx265", options=QUIET)),
    "hevc.mkv": Made(TINY, Coding("libx265", options=QUIET, time_base=MS)),
    "vp9.webm": Made(TINY, Coding("libvpx-vp9", options=VP9, sound="libopus", time_base=MS)),
    "vp9.mp4": Made(TINY, Coding("libvpx-vp9", options=VP9)),
    "vp8.webm": Made(
        TINY,
        Coding("libvpx", options=VP9, sound="libopus", time_base=MS),
        codec="vp9",
        lost=("codec vp8",),
    ),
    "av1.mp4": Made(TINY, Coding("libsvtav1", options=SVT)),
    "av1.webm": Made(TINY, Coding("libsvtav1", options=SVT, sound="libopus", time_base=MS)),
    "prores.mov": Made(TINY, Coding("prores_ks", "yuv422p10le", sound="pcm_s16le"), copies=True),
    "prores-4444.mov": Made(
        TINY,
        Coding("prores_ks", "yuva444p10le", sound="pcm_s16le"),
        lost=("12 bits",),
        copies=True,
    ),
    "all-intra-hevc.mov": Made(
        TINY, Coding("libx265", options={"x265-params": "log-level=none:keyint=1"}), copies=True
    ),
    "lossless.mkv": Made(ODD, Coding("ffv1", sound="flac", time_base=MS)),
    "raw.avi": Made(
        TINY,
        Coding("rawvideo", sound="pcm_s16le", time_base=Fraction(1, 25)),
        target="mkv",
        codec="ffv1",
        lost=("codec rawvideo",),
    ),
    "mpeg4.avi": Made(
        TINY,
        Coding("mpeg4", sound="mp2", time_base=Fraction(1, 25)),
        target="mp4",
        codec="h264",
        lost=("codec mpeg4",),
    ),
    "reordered.avi": Made(
        TINY,
        Coding("mpeg4", sound="mp2", time_base=Fraction(1, 25), options={"bf": "2"}),
        target="mkv",
        codec="h264",
        lost=("codec mpeg4",),
    ),
    "h264.avi": Made(TINY, Coding(sound="mp2", time_base=Fraction(1, 25)), target="mp4"),
    "mpeg2.mpg": Made(
        TINY,
        Coding("mpeg2video", sound="mp2", time_base=Fraction(1, 25)),
        target="mkv",
        codec="h264",
        lost=("codec mpeg2video",),
    ),
    "mjpeg.mov": Made(
        TINY,
        Coding("mjpeg", "yuvj420p", sound="pcm_s16le"),
        codec="h264",
        lost=("codec mjpeg",),
    ),
    "flash.flv": Made(TINY, Coding(time_base=MS), target="mp4"),
    "picture.gif": Made(
        Scene(64, 64, 6),
        Coding("gif", "rgb8", sound=None, time_base=Fraction(1, 100)),
        target="mp4",
        codec="h264",
        lost=("codec gif", "transparency"),
    ),
    # pictures
    "ten-bit.mp4": Made(TINY, Coding("libx265", "yuv420p10le", options=QUIET)),
    "hdr10.mp4": Made(TINY, Coding("libx265", "yuv420p10le", options=HDR10, colours=(1, 9, 16, 9))),
    "hlg.mkv": Made(
        TINY,
        Coding("libx265", "yuv420p10le", options=QUIET, colours=(1, 9, 18, 9), time_base=MS),
    ),
    "ten-bit-avc.mov": Made(TINY, Coding(pix_fmt="yuv422p10le")),
    "ten-bit-av1.mkv": Made(TINY, Coding("libsvtav1", "yuv420p10le", options=SVT, time_base=MS)),
    "bt709.mp4": Made(TINY, Coding(colours=(1, 1, 1, 1), options=GROUPS), copies=True),
    "bt601-full.mp4": Made(TINY, Coding(colours=(2, 6, 6, 6))),
    "4-2-2.mp4": Made(TINY, Coding(pix_fmt="yuv422p")),
    "4-4-4-odd.mp4": Made(ODD, Coding(pix_fmt="yuv444p")),
    "aspect.mp4": Made(TINY, Coding(aspect=Fraction(4, 3))),
    "aspect.mkv": Made(TINY, Coding(aspect=Fraction(16, 11), time_base=MS)),
    "aspect-turned.mov": Made(TINY, Coding(aspect=Fraction(4, 3), rotation=90)),
    "aspect-to.webm.mp4": Made(
        TINY,
        Coding("libvpx-vp9", options=VP9, aspect=Fraction(4, 3), sound="libopus"),
        target="webm",
    ),
    "aspect-to.mkv.mp4": Made(
        Scene(128, 64, 6),
        Coding("libvpx-vp9", options=VP9, aspect=Fraction(16, 11), rotation=90),
        target="mkv",
    ),
    "interlaced.mov": Made(
        TINY, Coding(interlaced=True, options={"x264-params": "bff=1"}), lost=("interlaced",)
    ),
    "interlaced.mp4": Made(
        TINY, Coding(interlaced=True, options={"x264-params": "tff=1"}), lost=("interlaced",)
    ),
    # tracks
    "silent.mp4": Made(TINY, Coding(sound=None)),
    "two-sounds.mp4": Made(TINY, Coding(sounds=2)),
    "three-sounds.mkv": Made(TINY, Coding(sounds=3, time_base=MS)),
    "subtitles.mkv": Made(TINY, Coding(subtitles="subrip", time_base=MS)),
    "subtitles.mp4": Made(TINY, Coding(subtitles="mov_text")),
    "chapters.mp4": Made(TINY, Coding(chapters=3)),
    "chapters.mkv": Made(TINY, Coding(chapters=2, time_base=MS)),
    "attachment.mkv": Made(TINY, Coding(attachment=True, time_base=MS)),
    "words.mkv": Made(
        TINY, Coding(metadata={"title": "a title", "artist": "somebody"}, time_base=MS)
    ),
    "timecode.mov": Made(TINY, Coding(metadata={"timecode": "01:00:00:00", "title": "x"})),
    "everything.mkv": Made(
        TINY,
        Coding(
            options=GROUPS,
            sounds=2,
            subtitles="subrip",
            chapters=2,
            attachment=True,
            rotation=90,
            aspect=Fraction(4, 3),
            colours=(1, 1, 1, 1),
            time_base=MS,
            metadata={"title": "all"},
        ),
        copies=True,
    ),
    "everything-to.mp4.mkv": Made(
        TINY,
        Coding(sounds=2, subtitles="subrip", chapters=2, attachment=True, time_base=MS),
        target="mp4",
        lost=("subtitle stream", "attachment stream"),
    ),
}
DELAYED = ("ts", "mpg", "flv", "avi")
"""Containers that may begin where the encoder began to think, not at the first picture."""


def make(folder: Path, name: str) -> Clip:
    """Make one file of the table."""
    made = FILES[name]
    return clips.make(folder / name, made.scene, made.coding)


def box(kind: bytes, data: bytes) -> bytes:
    """A box of an MP4 file."""
    return struct.pack(">I4s", 8 + len(data), kind) + data


def insert_in_entry(path: Path, entry: bytes, added: bytes) -> None:
    """Put boxes at the end of a sample entry of an MP4 whose index lies behind its data."""
    data = bytearray(path.read_bytes())
    at = data.rfind(entry) - 4
    end = at + struct.unpack_from(">I", data, at)[0]
    data[end:end] = added
    for name in (entry, b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        begin = data.rfind(name, 0, at + 8) - 4
        size = struct.unpack_from(">I", data, begin)[0]
        struct.pack_into(">I", data, begin, size + len(added))
    path.write_bytes(bytes(data))
