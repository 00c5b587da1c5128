"""What can be written: codecs, their pixel formats and options, and which one suits a source.

Defaults are visually lossless: at normal size no difference to the source is seen. They give
about 40 dB on grainy clips and more on others, at about the size of a well-made source.

Sources: the encoders' own documentation (x264, x265, libvpx, SVT-AV1) for the ranges and names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av

from inpainterz.errors import OptionError
from inpainterz.video.hdr import HdrMetadata
from inpainterz.video.planes import Layout, layout_of

_YUV8 = ("yuv420p", "yuv422p", "yuv444p")
_YUVJ = ("yuvj420p", "yuvj422p", "yuvj444p")
_YUV10 = ("yuv420p10le", "yuv422p10le", "yuv444p10le")
_YUV12 = ("yuv420p12le", "yuv422p12le", "yuv444p12le")


@dataclass(frozen=True, slots=True)
class Codec:
    """One encoder and what goes with it."""

    encoder: str
    crf: int | None
    """The default: no difference to be seen at normal size; None: no such thing."""
    crf_top: int
    containers: tuple[str, ...]
    formats: tuple[str, ...] | None
    """Those that players know; None: all that the encoder has."""
    odd_subsampled: bool = False
    """Whether an odd size can go with chroma of half the size."""
    limited: bool = False
    """Whether luma is 16..235 whatever the file says."""
    side_px: int = 1
    """The encoder takes no picture with a shorter side."""


CODEC_TABLE: Mapping[str, Codec] = {
    "h264": Codec("libx264", 14, 51, ("mp4", "mov", "matroska"), (*_YUV8, *_YUVJ, *_YUV10)),
    "hevc": Codec(
        "libx265",
        16,
        51,
        ("mp4", "mov", "matroska"),
        (*_YUV8, *_YUVJ, *_YUV10, *_YUV12),
        side_px=64,  # x265 writes past the end of its memory with narrower pictures
    ),
    "vp9": Codec(
        "libvpx-vp9",
        15,
        63,
        ("webm", "matroska", "mp4"),
        (*_YUV8, "yuv440p", "yuva420p", *_YUV10, *_YUV12),
        odd_subsampled=True,
    ),
    "av1": Codec(
        "libsvtav1",
        15,
        63,
        ("mp4", "matroska", "webm"),
        ("yuv420p", "yuv420p10le"),
        odd_subsampled=True,
        side_px=64,
    ),
    "prores": Codec(
        "prores_ks",
        None,
        0,
        ("mov", "matroska"),
        ("yuv422p10le", "yuv444p10le", "yuva444p10le"),
        odd_subsampled=True,
        limited=True,
    ),
    "ffv1": Codec("ffv1", None, 0, ("matroska",), None, odd_subsampled=True),
}

CODECS = ("auto", *CODEC_TABLE, "png")
"""What `WriteOptions.codec` may be."""

CONTAINERS: Mapping[str, str] = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""Ending of the target -> FFmpeg's muxer."""

_PRESETS = {  # x264's names, and what stands for them in libvpx (cpu-used) and SVT-AV1 (preset)
    "ultrafast": (8, 12),
    "superfast": (7, 11),
    "veryfast": (6, 10),
    "faster": (5, 9),
    "fast": (4, 8),
    "medium": (3, 7),
    "slow": (2, 5),
    "slower": (1, 4),
    "veryslow": (0, 2),
}
PRESETS = tuple(_PRESETS)
"""What `WriteOptions.preset` may be, from fast and large to slow and small."""

_RELATIVES = {  # what has no encoder here, and what comes nearest
    "vp8": ("vp9",),
    "rawvideo": ("ffv1",),
    "huffyuv": ("ffv1",),
    "ffvhuff": ("ffv1",),
    "utvideo": ("ffv1",),
    "magicyuv": ("ffv1",),
    "dnxhd": ("prores",),
    "cfhd": ("prores",),
    "qtrle": ("prores",),
    "png": ("ffv1", "prores"),
}
_DEEP = ("av1", "hevc")  # where the source's family has no encoder of more than 8 bits
_BITS_TO_KEEP = 10
PRORES_TAGS = ("apco", "apcs", "apcn", "apch", "ap4h", "ap4x")
"""ProRes profiles by number: proxy, LT, standard, HQ, 4444, 4444 XQ."""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How the result is encoded."""

    codec: str = "auto"
    """"h264", "hevc", "vp9", "av1", "prores", "ffv1" (lossless) or "png" (a folder of pictures);
    "auto" is the source's own where it can be encoded and the target holds it, else H.264, VP9 in
    WebM, and PNG where the target ends in "/"."""
    crf: int | None = None
    """Constant rate factor, 0 = best; None = the codec's default, at which no difference is seen:
    14 for H.264. FFV1, ProRes and PNG have none."""
    preset: str = "medium"
    """x264's word for speed against size, from "ultrafast" to "veryslow"."""
    pix_fmt: str | None = None
    """FFmpeg's name of a pixel format; None = the source's, or the nearest the encoder has."""
    keep_location: bool = False
    """Copy where the clip was filmed from the source's metadata."""
    smart_copy: bool = True
    """Copy the groups of pictures that have no hole as they lie in the source, and encode only the
    others, where codec and structure allow it."""
    measure: bool = False
    """Compare the result with the source outside the holes when it is complete."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise OptionError(f"unknown codec {self.codec}", f"Codecs: {', '.join(CODECS)}")
        if self.preset not in _PRESETS:
            raise OptionError(f"unknown preset {self.preset}", f"Presets: {', '.join(PRESETS)}")
        if self.crf is not None:
            if self.codec in ("prores", "ffv1", "png"):
                raise OptionError(f"{self.codec} has no crf", "Leave --crf out")
            top = CODEC_TABLE[self.codec].crf_top if self.codec in CODEC_TABLE else 51
            if not 0 <= self.crf <= top:
                raise OptionError(f"crf is {self.crf}", f"It goes from 0 to {top}")
        if self.pix_fmt is not None and layout_of(self.pix_fmt) is None:
            raise OptionError(
                f"cannot write the pixel format {self.pix_fmt}", "yuv420p plays everywhere"
            )


@contextmanager
def ordinary_threads() -> Iterator[None]:
    """Open an encoder in here: its threads, and this one, stay ordinary ones.

    SVT-AV1 gives itself real-time priority where it may (as root on Linux), the thread that opens
    it included, for good, and with it all processes that this one starts: nothing else then runs.
    """
    try:
        yield
    finally:
        if hasattr(os, "sched_setscheduler"):
            for thread in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ():
                with suppress(OSError):  # one that has just ended
                    if os.sched_getscheduler(int(thread)) == os.SCHED_FIFO:
                        os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))


def container_of(target: Path) -> str:
    """The muxer that a target's ending stands for.

    Raises:
        OptionError: it cannot be written.
    """
    container = CONTAINERS.get(target.suffix.lower())
    if container is None:
        raise OptionError(
            f"{target.name} ends in {target.suffix or 'nothing'}, which cannot be written",
            f"Take {', '.join(CONTAINERS)}, or end it in / for a folder of pictures",
        )
    return container


def formats_of(codec: str) -> list[str]:
    """The pixel formats that a codec is written in: its encoder's, as far as players know them."""
    chosen = CODEC_TABLE[codec]
    available = [f.name for f in av.Codec(chosen.encoder, "w").video_formats or []]
    return [n for n in chosen.formats or available if n in available and layout_of(n)]


def codec_for(
    wanted: str,
    source: str,
    target: Path,
    container: str,
    size: tuple[int, int],
    layout: Layout,
) -> tuple[str, str | None]:
    """The codec to write with, and a sentence where "auto" could not keep the source's.

    Args:
        wanted: one of `CODECS` but "png".
        source: the source's codec.
        target, container: where it goes.
        size: (height, width).
        layout: of the source's pictures; more than 8 bits are kept where any codec can.

    Raises:
        OptionError: the container does not hold the codec, or it has no pictures so small.
    """
    if wanted != "auto":
        chosen = CODEC_TABLE[wanted]
        if container not in chosen.containers:
            endings = [end for end, name in CONTAINERS.items() if name in chosen.containers]
            raise OptionError(
                f"{wanted} does not go into {target.suffix}", f"It goes into {', '.join(endings)}"
            )
        if wanted == "hevc" and min(size) < chosen.side_px:
            raise OptionError(f"hevc cannot encode {size[1]}x{size[0]} pictures", "Take h264")
        return wanted, None
    usual = "vp9" if container == "webm" else "h264"
    candidates = [
        name
        for name in (source, *_RELATIVES.get(source, ()), *_DEEP, usual)
        if name in CODEC_TABLE
        and container in CODEC_TABLE[name].containers
        and min(size) >= CODEC_TABLE[name].side_px
        and (name not in _DEEP or name == source or layout.bits > 8)
    ]
    bits = min(layout.bits, _BITS_TO_KEEP)
    deep = [n for n in candidates if any(_bits_of(f) >= bits for f in formats_of(n))]
    for name in deep or candidates:
        if name == source:
            return name, None
        if source not in CODEC_TABLE:
            why = "which is not encoded here"
        elif container not in CODEC_TABLE[source].containers:
            why = f"which does not go into {target.suffix}"
        elif source in candidates:
            why = f"which is not encoded with {bits} bits here"
        else:
            why = "which does not encode pictures so small"
        return name, f"the codec {source}, {why}: the pictures are written as {name}"
    raise OptionError(f"nothing here writes pictures into {target.suffix}", "Take .mp4 or .mkv")


def _bits_of(name: str) -> int:
    layout = layout_of(name)
    return layout.bits if layout is not None else 0


def nearest_format(layout: Layout, formats: list[str], *, full_chroma: bool) -> str:
    """The format that loses least of the source's, then the one that adds least.

    RGB goes to a codec without RGB as 4:2:0, which plays everywhere.
    """
    shift_x, shift_y = (1, 1) if layout.colours != "yuv" else (layout.shift_x, layout.shift_y)
    if full_chroma:
        shift_x = shift_y = 0

    def cost(name: str) -> tuple[int, ...]:
        other = layout_of(name)
        assert other is not None
        if layout.name == name and not (full_chroma and layout.is_subsampled):
            return (0,)
        return (
            1,
            int(other.colours == "grey" != layout.colours),
            int(other.is_subsampled and full_chroma),
            int(
                other.colours != "rgb" == layout.colours or other.colours == "rgb" != layout.colours
            ),
            max(0, layout.bits - other.bits),
            int(layout.alpha and not other.alpha),
            max(0, other.shift_x - shift_x) + max(0, other.shift_y - shift_y),
            max(0, other.bits - layout.bits),
            max(0, shift_x - other.shift_x) + max(0, shift_y - other.shift_y),
            int(other.alpha and not layout.alpha),
            int(("yuvj" in name) != ("yuvj" in layout.name)),
        )

    return min(formats, key=cost)


@cache
def _repeatable() -> tuple[str, ...]:
    """What x264 must be told so that equal frames give equal bytes.

    With AVX-512 its tree of macroblocks reads beyond a row whose length is not a multiple of the
    vector's, and now and then encodes the same frames to other bytes (seen at 64x48 in 1 of 3
    runs, at 320x240 in 1 of 25; never with AVX2, which gives what plain C gives).
    """
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", errors="replace")
    except OSError:
        return ()
    return ("asm=AVX2",) if " avx512" in flags else ()


def encoder_options(
    codec: str, options: WriteOptions, *, hdr: HdrMetadata, source_tag: str, pix_fmt: str
) -> dict[str, str]:
    """What the encoder is told.

    Args:
        codec: a name of `CODEC_TABLE`.
        options: the user's.
        hdr: metadata that goes into the stream itself.
        source_tag: the four characters of the source's codec, for the profile of ProRes.
        pix_fmt: of the frames that the encoder is given.
    """
    crf = str(CODEC_TABLE[codec].crf if options.crf is None else options.crf)
    vpx, svt = _PRESETS[options.preset]
    words = hdr.options(codec)
    if codec == "h264":
        found = {"crf": crf, "preset": options.preset}
        words = [*words, *_repeatable()]
        if words:
            found["x264-params"] = ":".join(words)
    elif codec == "hevc":
        params = ":".join(["log-level=none", *words])
        found = {"crf": crf, "preset": options.preset, "x265-params": params}
    elif codec == "vp9":
        found = {"crf": crf, "b": "0", "cpu-used": str(vpx), "row-mt": "1"}
    elif codec == "av1":
        found = {"crf": crf, "preset": str(svt)}
        if words:
            found["svtav1-params"] = ":".join(words)
    elif codec == "prores":
        profile = PRORES_TAGS.index(prores_tag(source_tag, pix_fmt))
        found = {"vendor": "apl0", "profile": str(profile)}
        if "yuva" in pix_fmt:
            found["alpha_bits"] = "16"
    else:
        found = {"level": "3", "slicecrc": "1", "g": "1"}
    return found


def prores_tag(source_tag: str, pix_fmt: str) -> str:
    """The ProRes profile to encode in: HQ or 4444, or XQ where the source has that."""
    if "444" not in pix_fmt:
        return "apch"
    return "ap4x" if source_tag == "ap4x" else "ap4h"
