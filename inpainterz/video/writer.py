"""Encode the result as the same file: the source's size, times, colours, sound and subtitles.

The pictures come from the source, not from the engine: each frame is decoded once more, and only
the hole is replaced, in the source's own planes (`planes.composite`). What nobody touched goes to
the encoder with the source's very bits, and comes out with them where the codec is lossless.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import secrets
import shutil
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import av
import av.container
import av.error
import cv2
import numpy as np

from inpainterz.errors import (
    InputError,
    OptionError,
    OutputExists,
    VideoDecodeError,
    VideoEncodeError,
    VideoError,
)
from inpainterz.types import Frame, Mask
from inpainterz.video.planes import (
    Layout,
    composite,
    layout_of,
    needs_full_chroma,
    upright,
    workable,
)
from inpainterz.video.reader import VideoReader, open_container

_log = logging.getLogger(__name__)


_YUV8 = ("yuv420p", "yuv422p", "yuv444p")
_YUVJ = ("yuvj420p", "yuvj422p", "yuvj444p")
_YUV10 = ("yuv420p10le", "yuv422p10le", "yuv444p10le")
_YUV12 = ("yuv420p12le", "yuv422p12le", "yuv444p12le")


@dataclass(frozen=True, slots=True)
class _Codec:
    encoder: str
    crf: int | None  # the default: no difference to be seen at normal size; None: no such thing
    crf_top: int
    containers: tuple[str, ...]
    formats: tuple[str, ...] | None  # those that players know; None: all that the encoder has
    odd_subsampled: bool = False  # whether an odd size can go with chroma of half the size
    limited: bool = False  # whether luma is 16..235 whatever the file says


_CODECS = {
    "h264": _Codec("libx264", 17, 51, ("mp4", "mov", "matroska"), (*_YUV8, *_YUVJ, *_YUV10)),
    "hevc": _Codec(
        "libx265", 19, 51, ("mp4", "mov", "matroska"), (*_YUV8, *_YUVJ, *_YUV10, *_YUV12)
    ),
    "vp9": _Codec(
        "libvpx-vp9",
        22,
        63,
        ("webm", "matroska", "mp4"),
        (*_YUV8, "yuv440p", "yuva420p", *_YUV10),
        odd_subsampled=True,
    ),
    "av1": _Codec(
        "libsvtav1",
        22,
        63,
        ("mp4", "matroska", "webm"),
        ("yuv420p", "yuv420p10le"),
        odd_subsampled=True,
    ),
    "prores": _Codec(
        "prores_ks",
        None,
        0,
        ("mov", "matroska"),
        ("yuv422p10le", "yuv444p10le", "yuva444p10le"),
        odd_subsampled=True,
        limited=True,
    ),
    "ffv1": _Codec("ffv1", None, 0, ("matroska",), None, odd_subsampled=True),
}
CODECS = ("auto", *_CODECS, "png")
"""What `WriteOptions.codec` may be."""

_CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
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

_HEVC_SIDE_PX = 64  # x265 writes past the end of its memory with narrower pictures
_CHROMA_LEFT = ("h264", "hevc", "mpeg2video", "mpeg4")
"""Codecs whose chroma lies between the lines and on the left pixel, when they do not say."""

_LOCATION = ("location", "com.apple.quicktime.location", "gps", "xyz")
_STRUCTURAL = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How the result is encoded."""

    codec: str = "auto"
    """"h264", "hevc", "vp9", "av1", "prores", "ffv1" (lossless) or "png" (a folder of pictures);
    "auto" is H.264, VP9 in WebM, and PNG where the target ends in "/"."""
    crf: int | None = None
    """Constant rate factor, 0 = best; None = the codec's default, at which no difference is seen:
    17 for H.264. FFV1, ProRes and PNG have none."""
    preset: str = "medium"
    """x264's word for speed against size, from "ultrafast" to "veryslow"."""
    pix_fmt: str | None = None
    """FFmpeg's name of a pixel format; None = the source's, or the nearest the encoder has."""
    keep_location: bool = False
    """Copy where the clip was filmed from the source's metadata."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise OptionError(f"unknown codec {self.codec}", f"Codecs: {', '.join(CODECS)}")
        if self.preset not in _PRESETS:
            raise OptionError(f"unknown preset {self.preset}", f"Presets: {', '.join(PRESETS)}")
        if self.crf is not None:
            if self.codec in ("prores", "ffv1", "png"):
                raise OptionError(f"{self.codec} has no crf", "Leave --crf out")
            top = _CODECS[self.codec].crf_top if self.codec in _CODECS else 51
            if not 0 <= self.crf <= top:
                raise OptionError(f"crf is {self.crf}", f"It goes from 0 to {top}")
        if self.pix_fmt is not None and layout_of(self.pix_fmt) is None:
            raise OptionError(
                f"cannot write the pixel format {self.pix_fmt}", "yuv420p plays everywhere"
            )


class _Sink(Protocol):
    """Where frames go; a file or a folder that nobody sees until it is complete."""

    dropped: list[str]

    def write(self, native: av.VideoFrame, frame: Frame, hole: Mask | None) -> None: ...
    def finish(self) -> None: ...
    def discard(self) -> None: ...


class VideoWriter:
    """Writes a clip like `like`. A context manager.

    It writes beside the target; leaving the context without an exception renames the result onto
    it, anything else deletes it. Everything that can be known is checked before the first frame.

    Frames must come in order, each once, from `start` up to, not including, `stop`. A part of a
    clip begins at time 0; a whole clip keeps the source's times, its beginning too.

    An odd width or height cannot go with halved chroma in H.264 and HEVC: such a clip is written
    as 4:4:4, each chroma sample repeated, so that the size is kept and no colour changes. Rotated
    pixels are written upright, without a tag.

    Args:
        target: .mp4, .m4v, .mov, .mkv or .webm; ending in "/", a folder of PNG pictures.
        like: the source.
        options: codec and quality.
        overwrite: replace the target if it is there.
        start, stop: the frames to write; by default all.

    Raises:
        OutputExists: the target is there and `overwrite` is not set.
        InputError: the target is the source.
        OptionError: options that do not fit each other or the source.
        VideoEncodeError: the target cannot be written.
    """

    def __init__(
        self,
        target: Path | str,
        like: VideoReader,
        *,
        options: WriteOptions = WriteOptions(),
        overwrite: bool = False,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        is_folder = str(target).endswith(("/", os.sep)) or options.codec == "png"
        self.target = Path(target)
        self._like, self._start = like, start
        self._stop = len(like) if stop is None else stop
        if not 0 <= start < self._stop <= len(like):
            raise OptionError(
                f"frames {start} to {self._stop} do not lie in the clip, which has {len(like)}",
                "Frames count from 0",
            )
        _check_target(self.target, like.path, is_folder=is_folder, overwrite=overwrite)
        self._next = start
        self._closed = False
        self._sink: _Sink = (
            _Pictures(self.target, options)
            if is_folder
            else _Movie(self.target, like, options, start, self._stop)
        )
        self._natives: Generator[av.VideoFrame, None, None] = like.natives(start, self._stop)

    @property
    def dropped(self) -> tuple[str, ...]:
        """What of the source could not be carried over, a sentence each."""
        return tuple(self._sink.dropped)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()

    def write(self, frame: Frame, hole: Mask | None = None) -> None:
        """Write the next frame.

        Args:
            frame: its image is taken where `hole` is set.
            hole: (H, W) bool; None: every pixel of the image is new.

        Raises:
            InputError: it is not the next frame, or of another size.
            VideoDecodeError: the source is damaged.
            VideoEncodeError: the disk is full or the target cannot be written.
        """
        if self._closed:
            raise InputError("the video is closed already", "Write before it closes")
        if frame.index != self._next:
            raise InputError(f"frame {frame.index} came where {self._next} was due")
        if frame.image.shape != (*self._like.size, 3):
            raise InputError(f"frame {frame.index} has another size than the clip")
        if hole is not None and hole.shape != self._like.size:
            raise InputError(f"the hole of frame {frame.index} has another size than the clip")
        try:
            native = next(self._natives)
            self._sink.write(native, frame, hole)
        except (av.error.FFmpegError, OSError) as error:
            self.close()
            if isinstance(error, VideoError):
                raise
            raise _cannot_write(self.target, error) from error
        self._next += 1

    def finish(self) -> None:
        """Complete the file and put it in its place.

        Raises:
            VideoEncodeError: the disk is full, the target cannot be written, or frames are missing.
        """
        if self._closed:
            return
        if self._next != self._stop:
            self.close()
            raise VideoEncodeError(
                f"{self.target} was not written: frame {self._next} of {self._stop} did not come"
            )
        self._closed = True
        try:
            self._sink.finish()
        except (av.error.FFmpegError, OSError) as error:
            self._sink.discard()
            if isinstance(error, VideoError):
                raise
            raise _cannot_write(self.target, error) from error
        except BaseException:
            self._sink.discard()
            raise
        finally:
            self._natives.close()

    def close(self) -> None:
        """Give up: delete what was written. After `finish` it does nothing."""
        if not self._closed:
            self._closed = True
            self._natives.close()
            self._sink.discard()


def _check_target(target: Path, source: Path, *, is_folder: bool, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before any work."""
    if target.exists():
        if target.samefile(source):
            raise InputError(f"{target} is the source itself", "Name another file to write to")
        if is_folder and not target.is_dir():
            raise OutputExists(f"{target} is there and is not a folder", "Name another folder")
        if not is_folder and target.is_dir():
            raise InputError(
                f"{target} is a folder", "Name a file, or end it in / for a folder of pictures"
            )
        if is_folder and any(target.iterdir()):
            if not overwrite:
                raise OutputExists(f"{target} is not empty", "Name another folder")
            if any(not _is_picture(path) for path in target.iterdir()):
                raise OutputExists(
                    f"{target} holds other things than numbered pictures", "Name another folder"
                )
        if not is_folder and not overwrite:
            raise OutputExists(f"{target} is there already", "Allow it with --overwrite")
    folder = target.parent
    if not folder.is_dir():
        raise VideoEncodeError(f"the folder {folder} does not exist", "Make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise VideoEncodeError(f"the folder {folder} may not be written to", "Name another one")


def _is_picture(path: Path) -> bool:
    return path.suffix == ".png" and path.stem.isdigit() and len(path.stem) >= 6


def _cannot_write(target: Path, error: BaseException) -> VideoEncodeError:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return VideoEncodeError(
            f"{target} cannot be written: the disk is full", "Free some space and run it again"
        )
    reason = getattr(error, "strerror", None) or str(error)
    return VideoEncodeError(f"{target} cannot be written: {reason}")


def _part_of(target: Path) -> Path:
    """A name beside the target that nobody else uses, short whatever the target's is."""
    return target.parent / f".inpainterz-{secrets.token_hex(8)}{target.suffix[:8]}"


class _Pictures:
    """A folder of 8-bit RGB PNGs, 000000.png and so on; the numbers are the source's frames."""

    def __init__(self, target: Path, options: WriteOptions) -> None:
        if options.codec not in ("auto", "png"):
            raise OptionError(
                f"{options.codec} does not go into a folder", "A folder holds PNG pictures"
            )
        if options.crf is not None:
            raise OptionError("png has no crf", "Leave --crf out")
        self.dropped: list[str] = ["a folder of pictures holds no times, sound or subtitles"]
        self._target, self._part = target, _part_of(target)
        try:
            self._part.mkdir()
        except OSError as error:
            raise _cannot_write(target, error) from error

    def write(self, native: av.VideoFrame, frame: Frame, hole: Mask | None) -> None:
        bgr = np.ascontiguousarray(frame.image[..., ::-1])  # OpenCV writes BGR
        data = cv2.imencode(".png", bgr)[1].tobytes()
        (self._part / f"{frame.index:06d}.png").write_bytes(data)

    def finish(self) -> None:
        if self._target.is_dir() and any(self._target.iterdir()):
            old = _part_of(self._target)
            self._target.rename(old)
            self._part.rename(self._target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            self._part.replace(self._target)

    def discard(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)


class _Movie:
    """One encoded video stream and the source's other streams, copied."""

    def __init__(
        self, target: Path, like: VideoReader, options: WriteOptions, start: int, stop: int
    ) -> None:
        self.dropped: list[str] = []
        self._target, self._like = target, like
        self._start, self._stop = start, stop
        whole = start == 0 and stop == len(like)
        self._shift = 0 if whole else like.pts[start]
        container, codec = _container_and_codec(target, options)
        if codec == "hevc" and min(like.size) < _HEVC_SIDE_PX:
            raise OptionError(
                f"hevc cannot encode {like.width}x{like.height} pictures", "Take h264"
            )
        self._tail = like.pts[stop - 1] + like.duration_of(stop - 1)
        self._part = _part_of(target)
        self._durations: dict[int, int] = {}  # of the frames that are in the encoder
        self._tracks: _Tracks | None = None
        self._output: av.container.OutputContainer | None = None
        try:
            # made here, and not by FFmpeg, so that it never follows a link
            os.close(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            self._output = av.open(
                os.path.abspath(self._part),
                "w",
                format=container,
                container_options=_muxer_options(container, like.time_base),
            )
            self._open(self._output, codec, options, container)
        except BaseException as error:
            self.discard()
            if isinstance(error, (VideoError, InputError)):
                raise
            if isinstance(error, (av.error.FFmpegError, ValueError)) and not isinstance(
                error, OSError
            ):
                raise VideoEncodeError(
                    f"{codec} cannot encode {like.width}x{like.height} pictures for {container}",
                    "Try another codec",
                ) from error
            if isinstance(error, OSError):
                raise _cannot_write(target, error) from error
            raise

    def _open(
        self,
        output: av.container.OutputContainer,
        codec: str,
        options: WriteOptions,
        container: str,
    ) -> None:
        like, info = self._like, self._like.info
        rate = info.fps or Fraction(25)
        self._tracks = _Tracks(like, output, container, options.keep_location)
        stream = None
        for template in self._tracks.templates:  # in the source's order
            if template.index == like.stream_index:
                stream = output.add_stream(
                    _CODECS[codec].encoder, rate.limit_denominator(1_000_000)
                )
                stream.metadata.update(_kept(template.metadata, options.keep_location))
                stream.disposition = template.disposition
            else:
                self._tracks.add(template)
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        self.dropped += self._tracks.dropped
        if info.interlaced:
            self.dropped.append("the fields of interlaced pictures, which are deinterlaced")
        if info.sample_aspect_ratio != 1 and container in ("matroska", "webm"):
            self.dropped.append(f"{container} is written without the pixels' aspect ratio")
        context = stream.codec_context
        available = [f.name for f in context.codec.video_formats or []]
        self._format = self._pixel_format(available, codec, options)
        context.width, context.height = like.width, like.height
        context.pix_fmt = self._format
        context.time_base = like.time_base
        stream.time_base = like.time_base
        context.sample_aspect_ratio = info.sample_aspect_ratio
        was, now = workable(info.pix_fmt), layout_of(self._format)
        assert now is not None, self._format
        context.color_range = info.color_range
        context.color_primaries = info.color_primaries
        context.color_trc = info.color_transfer
        context.colorspace = info.color_space
        if was.colours == "rgb" != now.colours:
            context.colorspace, context.color_range = 6, 1  # as `upright` converts it
        elif info.pix_fmt.startswith(("yuvj", "gray")):
            context.color_range = 2
        self._limited = _CODECS[codec].limited
        if self._limited:
            context.color_range = 1
        # FFmpeg and OpenCV interpolate chroma at odd sizes and between the lines of more than 8
        # bits, over two samples; a lossless file promises that nothing changes outside the hole
        odd = info.width % 2 or info.height % 2
        smooth = now.is_subsampled and (odd or (now.bits > 8 and now.shift_y > 0))
        self._chroma_margin = 2 if codec == "ffv1" and smooth else 0
        context.options = _encoder_options(codec, options)
        if codec == "hevc" and self._stop - self._start < 8:
            # x265 makes up decoding times of clips that are shorter than its reordering
            context.options["x265-params"] += ":bframes=0"
        if info.codec in _CHROMA_LEFT and now.is_subsampled:
            context.options["chroma_sample_location"] = "left"  # FFV1 has no word for it of its own
        if codec == "hevc" and container in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players want the parameter sets in the header
        if codec == "av1":
            os.environ.setdefault("SVT_LOG", "1")  # it has no other way not to write to stderr
        output.metadata.update(self._tracks.metadata)
        self._tracks.add_chapters(self._shift_seconds, self._tail * like.time_base)
        output.start_encoding()

    def _pixel_format(self, available: list[str], codec: str, options: WriteOptions) -> str:
        info, orientation = self._like.info, self._like.orientation
        chosen = _CODECS[codec]
        known = [n for n in chosen.formats or available if n in available and layout_of(n)]
        layout = workable(info.pix_fmt)
        odd = bool(info.width % 2 or info.height % 2) and not chosen.odd_subsampled
        if options.pix_fmt is not None:
            wanted = layout_of(options.pix_fmt)
            if options.pix_fmt not in available or wanted is None:
                raise OptionError(
                    f"{codec} has no pixel format {options.pix_fmt}", f"It has {', '.join(known)}"
                )
            if odd and wanted.is_subsampled:
                raise OptionError(
                    f"{codec} has no {options.pix_fmt} at the odd size {info.width}x{info.height}",
                    "Leave --pix-fmt out, or take yuv444p",
                )
            name = options.pix_fmt
        else:
            turned = needs_full_chroma(layout, orientation, info.width, info.height)
            name = _nearest_format(layout, known, full_chroma=odd or turned)
        result = layout_of(name)
        assert result is not None, name
        if layout.alpha and not result.alpha:
            self.dropped.append(f"{codec} in {name} holds no transparency")
        if result.bits < layout.bits:
            self.dropped.append(f"{layout.bits} bits become {result.bits} in {name}")
        return name

    def write(self, native: av.VideoFrame, frame: Frame, hole: Mask | None) -> None:
        assert self._output is not None and self._tracks is not None
        if hole is None:
            hole = np.ones(self._like.size, np.bool_)
        picture = upright(native, self._like.orientation, self._format, limited=self._limited)
        composite(picture, frame.image, hole, chroma_margin=self._chroma_margin)
        picture.pts = self._like.pts[frame.index] - self._shift
        picture.time_base = self._like.time_base
        picture.pict_type = av.video.frame.PictureType.NONE  # the encoder decides
        self._durations[picture.pts] = self._like.duration_of(frame.index)
        for packet in self._stream.encode(picture):
            self._mux(packet)

    def _mux(self, packet: av.Packet[av.VideoStream]) -> None:
        assert self._output is not None and self._tracks is not None
        packet.duration = self._durations.pop(packet.pts or 0, 0)
        self._tracks.mux_until((packet.dts or 0) * packet.time_base, self._shift_seconds)
        self._output.mux(packet)

    @property
    def _shift_seconds(self) -> Fraction:
        return self._shift * self._like.time_base

    def finish(self) -> None:
        assert self._output is not None and self._tracks is not None
        for packet in self._stream.encode(None):
            self._mux(packet)
        whole = self._start == 0 and self._stop == len(self._like)
        end = None if whole else (self._tail - self._shift) * self._like.time_base
        self._tracks.mux_until(end, self._shift_seconds)
        self._output.close()
        self._tracks.close()
        self._check()
        os.replace(self._part, self._target)

    def _check(self) -> None:
        """Read the result's times back: a file that lost a frame is not put in place."""
        wanted = self._like.pts[self._start : self._stop]
        with VideoReader(self._part) as result:
            unit = max(result.time_base, self._like.time_base)
            kept = len(result.pts) == len(wanted) and all(
                abs(was * result.time_base - (pts - self._shift) * self._like.time_base) <= unit
                for was, pts in zip(result.pts, wanted, strict=True)
            )
        if not kept:
            raise VideoEncodeError(
                f"{self._target} was not written: the encoder lost frames or their times",
                "Try another codec or container",
            )

    def discard(self) -> None:
        if self._tracks is not None:
            self._tracks.close()
        if self._output is not None:
            with suppress(av.error.FFmpegError, OSError, ValueError):
                self._output.close()
        with suppress(OSError):
            self._part.unlink()


def _nearest_format(layout: Layout, formats: list[str], *, full_chroma: bool) -> str:
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


def _container_and_codec(target: Path, options: WriteOptions) -> tuple[str, str]:
    container = _CONTAINERS.get(target.suffix.lower())
    if container is None:
        raise OptionError(
            f"{target.name} ends in {target.suffix or 'nothing'}, which cannot be written",
            f"Take {', '.join(_CONTAINERS)}, or end it in / for a folder of pictures",
        )
    codec = options.codec
    if codec == "auto":
        codec = "vp9" if container == "webm" else "h264"
    if container not in _CODECS[codec].containers:
        endings = [end for end, name in _CONTAINERS.items() if name in _CODECS[codec].containers]
        raise OptionError(
            f"{codec} does not go into {target.suffix}", f"It goes into {', '.join(endings)}"
        )
    return container, codec


def _muxer_options(container: str, time_base: Fraction) -> dict[str, str]:
    if container in ("mp4", "mov"):
        # a beginning other than 0 is written in the movie's own unit, by default 1 ms
        unit = time_base.denominator * max(1, 90_000 // time_base.denominator)
        unit = min(unit, 1_000_000)
        return {"movflags": "+faststart", "movie_timescale": str(unit)}
    # sound that begins a little before 0, as AAC does, must not push the pictures back
    return {"avoid_negative_ts": "disabled"}


def _encoder_options(codec: str, options: WriteOptions) -> dict[str, str]:
    crf = str(_CODECS[codec].crf if options.crf is None else options.crf)
    vpx, svt = _PRESETS[options.preset]
    return {
        "h264": {"crf": crf, "preset": options.preset},
        "hevc": {"crf": crf, "preset": options.preset, "x265-params": "log-level=none"},
        "vp9": {"crf": crf, "b": "0", "cpu-used": str(vpx), "row-mt": "1"},
        "av1": {"crf": crf, "preset": str(svt)},
        "prores": {"vendor": "apl0"},
        "ffv1": {"level": "3", "slicecrc": "1", "g": "1"},
    }[codec]


def _kept(metadata: dict[str, str], keep_location: bool) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STRUCTURAL
        and (keep_location or not any(word in key.lower() for word in _LOCATION))
    }


class _Tracks:
    """The source's other streams, read packet by packet and muxed alongside the video."""

    def __init__(
        self,
        like: VideoReader,
        output: av.container.OutputContainer,
        container: str,
        keep_location: bool,
    ) -> None:
        self.dropped: list[str] = []
        self._output, self._container, self._keep_location = output, container, keep_location
        self._path = like.path
        self._source = open_container(like.path)
        self.templates: tuple[av.stream.Stream, ...] = tuple(self._source.streams)
        self.metadata = _kept(self._source.metadata, keep_location)
        self._chapters = self._source.chapters()
        self._targets: dict[int, av.stream.Stream] = {}
        self._packets: Iterator[av.Packet[av.stream.Stream]] | None = None
        self._held: av.Packet[av.stream.Stream] | None = None

    def add(self, template: av.stream.Stream) -> None:
        """Add a stream to the output if its container takes it."""
        what = f"{template.type} stream {template.index}"
        if template.type == "video":
            self.dropped.append(f"{what} (another picture) is not kept")
            return
        if self._chapters and getattr(template, "name", None) == "bin_data":
            return  # MP4 keeps the chapters' titles as a stream; the muxer makes a new one
        try:
            if not self._carried(template):
                raise ValueError("the container does not take it")
            target = self._add(self._output, template)
        except (av.error.FFmpegError, ValueError) as error:
            _log.debug("%s: %s", what, error)
            name = getattr(template.codec_context, "name", None) or "unknown"
            self.dropped.append(f"{what} ({name}) does not go into {self._container}")
            return
        target.metadata.update(_kept(template.metadata, self._keep_location))
        target.disposition = template.disposition
        self._targets[template.index] = target

    def _add(
        self, output: av.container.OutputContainer, template: av.stream.Stream
    ) -> av.stream.Stream:
        target = output.add_stream_from_template(template)
        if isinstance(target, av.AudioStream):
            # AVI and WAV say how many channels there are, not which; MP4 wants to know
            usual = {1: "mono", 2: "stereo"}.get(target.codec_context.channels)
            if usual and "channels" in target.codec_context.layout.name:
                target.codec_context.layout = usual
        return target

    def _carried(self, template: av.stream.Stream) -> bool:
        """Whether the container takes a stream: a file with its first packet is written, to see."""
        try:
            with av.open(io.BytesIO(), "w", format=self._container) as trial:
                target = self._add(trial, template)
                with open_container(self._path) as source:
                    stream = source.streams[template.index]
                    if template.type != "attachment":
                        packet = next((p for p in source.demux(stream) if p.size), None)
                        if packet is not None:
                            packet.stream = target
                            trial.mux(packet)
                trial.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:
            _log.debug("%s stream %d: %s", template.type, template.index, error)
            return False
        return True

    def add_chapters(self, start: Fraction, end: Fraction) -> None:
        """Copy the chapters that lie between `start` and `end` seconds, `start` seconds earlier."""
        kept = []
        for chapter in self._chapters:
            base = chapter["time_base"] or Fraction(1)
            first, last = chapter["start"] * base, chapter["end"] * base
            if last <= start or first >= end:
                continue
            shift = round(start / base)
            chapter["start"] = max(0, chapter["start"] - shift)
            chapter["end"] = chapter["end"] - shift
            kept.append(chapter)
        if kept:
            self._output.set_chapters(kept)

    def mux_until(self, end: Fraction | None, shift: Fraction) -> None:
        """Mux what comes before `end` seconds (None: everything), `shift` seconds earlier.

        Packets before `shift` are left out.
        """
        if not self._targets:
            return
        if self._packets is None:
            self._packets = self._source.demux(
                *[s for s in self.templates if s.index in self._targets]
            )
        while True:
            packet = self._held or self._next_packet()
            self._held = None
            if packet is None:
                return
            time = packet.dts if packet.dts is not None else packet.pts
            if time is None:
                continue
            seconds = time * packet.time_base - shift
            if end is not None and seconds > end:
                self._held = packet
                return
            if shift:
                if seconds < 0:
                    continue
                ticks = round(shift / packet.time_base)
                packet.dts = None if packet.dts is None else packet.dts - ticks
                packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.stream = self._targets[packet.stream_index]
            self._output.mux(packet)

    def _next_packet(self) -> av.Packet[av.stream.Stream] | None:
        assert self._packets is not None
        try:
            for packet in self._packets:
                if packet.size:
                    return packet
        except av.error.FFmpegError as error:
            raise VideoDecodeError("the sound of the source is damaged") from error
        return None

    def close(self) -> None:
        self._source.close()
