"""Encode the result as the same file: the source's size, times, colours, sound and subtitles.

The pictures come from the source, not from the engine: each frame is decoded once more, and only
the hole is replaced, in the source's own planes (`planes.composite`). What nobody touched goes to
the encoder with the source's very bits, and comes out with them where the codec is lossless.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, cast

import av
import av.container
import av.error
import cv2
import numpy as np
from av.codec.context import Flags
from av.stream import Discard

from inpainterz.errors import (
    InputError,
    OptionError,
    VideoDecodeError,
    VideoEncodeError,
    VideoError,
)
from inpainterz.types import Frame, Mask
from inpainterz.video import splice
from inpainterz.video.codecs import (
    CODEC_TABLE,
    CODECS,
    PRESETS,
    PRORES_TAGS,
    WriteOptions,
    codec_for,
    container_of,
    encoder_options,
    formats_of,
    nearest_format,
    ordinary_threads,
    prores_tag,
)
from inpainterz.video.fidelity import Fidelity, HoleFile, compare
from inpainterz.video.matroska import set_pixel_aspect
from inpainterz.video.parameter_sets import ParameterSetError
from inpainterz.video.planes import (
    Orientation,
    composite,
    layout_of,
    upright,
    workable,
)
from inpainterz.video.reader import VideoReader, open_container, packets_of
from inpainterz.video.targets import cannot_write, check_target, part_of
from inpainterz.video.tracks import Tracks, kept

__all__ = ["CODECS", "PRESETS", "VideoWriter", "WriteOptions", "Written"]

_CHROMA_LEFT = ("h264", "hevc", "mpeg2video", "mpeg4")
"""Codecs whose chroma lies between the lines and on the left pixel, when they do not say."""

_MP4_TAGS = ("avc1", "hvc1", "hev1")

_TEMPLATED = ("h264", "hevc", "vp9", "av1")
"""Codecs whose result takes over what the source's container says of the pictures."""

_NOT_CARRIED = {  # of a frame's side data: what no encoder here writes
    "DYNAMIC_HDR_PLUS": "the dynamic HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "the dynamic HDR Vivid metadata",
    "DOVI_METADATA": "the Dolby Vision metadata; what remains is its base layer",
    "DOVI_RPU_BUFFER": "the Dolby Vision metadata; what remains is its base layer",
}
_CONTAINED = {  # what the container says, which only a template takes over
    "SPHERICAL": "the mark of a spherical picture",
    "STEREO3D": "the mark of a stereoscopic picture",
    "ICC_PROFILE": "the ICC profile",
    "AMBIENT_VIEWING_ENVIRONMENT": "the ambient viewing environment",
}
_DEFAULTS = WriteOptions()


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer made."""

    container: str
    codec: str
    pix_fmt: str
    copied_frames: int
    """Frames whose packets are the source's."""
    encoded_frames: int
    not_copied: str | None
    """Why no packet was copied; None where some could be."""
    fidelity: Fidelity | None = None
    """How near the pixels outside the holes are to the source's, where that was asked for."""


class _Sink(Protocol):
    """Where frames go; a file or a folder that nobody sees until it is complete."""

    dropped: list[str]

    def write(self, frame: Frame, hole: Mask) -> None: ...
    def finish(self) -> Written: ...
    def discard(self) -> None: ...


class VideoWriter:
    """Writes a clip like `like`. A context manager.

    It writes beside the target; leaving the context without an exception renames the result onto
    it, anything else deletes it. Everything that can be known is checked before the first frame.

    Frames must come in order, each once, from `start` up to, not including, `stop`. A part of a
    clip begins at time 0; a whole clip keeps the source's times, its beginning too.

    An odd width or height cannot go with halved chroma in H.264 and HEVC: such a clip is written
    as 4:4:4, each chroma sample repeated, so that the size is kept and no colour changes. Pixels
    stay as the source stores them, and the tag that turns them upright is kept with them.

    Groups of pictures without a hole are copied from the source where that is possible; see
    `splice`. `written` tells what was done once the file is complete.

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
        options: WriteOptions = _DEFAULTS,
        overwrite: bool = False,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.written: Written | None = None
        is_folder = str(target).endswith(("/", os.sep)) or options.codec == "png"
        self.target = Path(target)
        self._like, self._start = like, start
        self._stop = len(like) if stop is None else stop
        if not 0 <= start < self._stop <= len(like):
            raise OptionError(
                f"frames {start} to {self._stop} do not lie in the clip, which has {len(like)}",
                "Frames count from 0",
            )
        check_target(self.target, like.path, is_folder=is_folder, overwrite=overwrite)
        self._next = start
        self._closed = False
        self._sink: _Sink = (
            _Pictures(self.target, like, options)
            if is_folder
            else _Movie(self.target, like, options, start, self._stop)
        )

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
        if hole is None:
            hole = np.ones(self._like.size, np.bool_)
        try:
            self._sink.write(frame, hole)
        except (av.error.FFmpegError, OSError) as error:
            self.close()
            if isinstance(error, VideoError):
                raise
            raise cannot_write(self.target, error) from error
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
            self.written = self._sink.finish()
        except (av.error.FFmpegError, OSError) as error:
            self._sink.discard()
            if isinstance(error, VideoError):
                raise
            raise cannot_write(self.target, error) from error
        except BaseException:
            self._sink.discard()
            raise

    def close(self) -> None:
        """Give up: delete what was written. After `finish` it does nothing."""
        if not self._closed:
            self._closed = True
            self._sink.discard()


class _Pictures:
    """A folder of 8-bit RGB PNGs, 000000.png and so on; the numbers are the source's frames."""

    def __init__(self, target: Path, like: VideoReader, options: WriteOptions) -> None:
        if options.codec not in ("auto", "png"):
            raise OptionError(
                f"{options.codec} does not go into a folder", "A folder holds PNG pictures"
            )
        if options.crf is not None:
            raise OptionError("png has no crf", "Leave --crf out")
        self.dropped: list[str] = ["a folder of pictures holds no times, sound or subtitles"]
        layout = workable(like.info.pix_fmt)
        if layout.bits > 8:
            self.dropped.append(f"{layout.bits} bits become 8")
        if layout.alpha:
            self.dropped.append("the pictures hold no transparency")
        self._count = 0
        self._target, self._part = target, part_of(target)
        try:
            self._part.mkdir()
        except OSError as error:
            raise cannot_write(target, error) from error

    def write(self, frame: Frame, hole: Mask) -> None:
        bgr = np.ascontiguousarray(frame.image[..., ::-1])  # OpenCV writes BGR
        data = cv2.imencode(".png", bgr)[1].tobytes()
        (self._part / f"{frame.index:06d}.png").write_bytes(data)
        self._count += 1

    def finish(self) -> Written:
        if self._target.is_dir() and any(self._target.iterdir()):
            old = part_of(self._target)
            self._target.rename(old)
            self._part.rename(self._target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            self._part.replace(self._target)
        return Written("folder", "png", "rgb24", 0, self._count, "pictures are encoded one by one")

    def discard(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)


class _Movie:
    """One stream of pictures, copied where it can be and else encoded, and the source's others."""

    def __init__(
        self, target: Path, like: VideoReader, options: WriteOptions, start: int, stop: int
    ) -> None:
        self.dropped: list[str] = []
        self._target, self._like, self._options = target, like, options
        self._start, self._stop = start, stop
        whole = start == 0 and stop == len(like)
        self._shift = 0 if whole else like.pts[start]
        self._container = container_of(target)
        self._codec, note = codec_for(
            options.codec,
            like.info.codec,
            target,
            self._container,
            like.size,
            workable(like.info.pix_fmt),
        )
        if note is not None:
            self.dropped.append(note)
        self._tail = like.pts[stop - 1] + like.duration_of(stop - 1)
        self._part = part_of(target)
        self._durations: dict[int, int] = {}  # of the frames that are in the encoder
        self._holes = HoleFile() if options.measure else None
        self._tracks: Tracks | None = None
        self._output: av.container.OutputContainer | None = None
        self._encoder: av.VideoCodecContext | None = None
        self._natives: Generator[av.VideoFrame, None, None] | None = None
        self._native_next = -1
        self._splicer: _Splicer | None = None
        self._is_running = False  # whether the encoder has been given frames
        self._copied = self._encoded = 0
        try:
            # made here, and not by FFmpeg, so that it never follows a link
            os.close(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            self._output = av.open(
                os.path.abspath(self._part),
                "w",
                format=self._container,
                container_options=_muxer_options(self._container, like),
            )
            self._open(self._output, whole)
        except BaseException as error:
            self.discard()
            if isinstance(error, (VideoError, InputError)):
                raise
            if isinstance(error, (av.error.FFmpegError, ValueError)) and not isinstance(
                error, OSError
            ):
                raise VideoEncodeError(
                    f"{self._codec} cannot encode {like.width}x{like.height} pictures for "
                    f"{self._container}",
                    "Try another codec",
                ) from error
            if isinstance(error, OSError):
                raise cannot_write(target, error) from error
            raise

    # ------------------------------------------------------------ setting up

    def _open(self, output: av.container.OutputContainer, whole: bool) -> None:
        like, info, codec = self._like, self._like.info, self._codec
        self._format = self._pixel_format()
        now = layout_of(self._format)
        assert now is not None, self._format
        self._limited = CODEC_TABLE[codec].limited
        # FFmpeg and OpenCV interpolate chroma at odd sizes and between the lines of more than 8
        # bits, over two samples; a lossless file promises that nothing changes outside the hole
        odd = info.width % 2 or info.height % 2
        smooth = now.is_subsampled and (odd or (now.bits > 8 and now.shift_y > 0))
        self._chroma_margin = 2 if codec == "ffv1" and smooth else 0

        plan, self._not_copied = self._plan(whole)
        self._joint = None if plan is None else plan.joint
        self._may_reorder = plan is None or plan.may_reorder
        header = None
        if plan is not None:
            try:
                self._encoder = self._new_encoder()
                header = plan.joint.header(self._encoder.extradata)
            except (splice.CannotSplice, ParameterSetError, av.error.FFmpegError) as reason:
                told = isinstance(reason, splice.CannotSplice)
                why = str(reason) if told else "the encoder does not keep the source's profile"
                self._not_copied, plan, self._joint = why, None, None
                self._encoder, self._may_reorder = None, True
        if plan is not None:
            self._splicer = _Splicer(plan, like)

        self._tracks = Tracks(like, output, self._container, self._options.keep_location)
        stream = None
        for template in self._tracks.templates:  # in the source's order
            if template.index == like.stream_index:
                assert isinstance(template, av.VideoStream)
                stream = self._add_pictures(output, template, header)
            else:
                self._tracks.add(template)
        assert stream is not None
        self._stream = stream
        self.dropped += self._tracks.dropped
        if info.interlaced:
            self.dropped.append("the fields of interlaced pictures, which are deinterlaced")
        output.metadata.update(self._tracks.metadata)
        self._tracks.add_chapters(self._shift_seconds, self._tail * like.time_base)
        with ordinary_threads():
            output.start_encoding()

    def _plan(self, whole: bool) -> tuple[splice.Plan | None, str | None]:
        """How packets of the source can be copied, or why they cannot."""
        like = self._like
        if not self._options.smart_copy:
            return None, "it was not wanted"
        if not whole:
            return None, "only a part of the clip is written"
        # of ProRes 4444 decoders give 12 bits, and the encoder takes 10; the packets tell neither
        given = like.info.pix_fmt
        if self._format != (given.replace("12le", "10le") if self._codec == "prores" else given):
            return None, f"the source's pictures are {given}, not {self._format}"
        if self._container in ("mp4", "mov") and like.info.container == "flv":
            return None, "the source's times are rounded"
        if like.info.is_dolby_vision:
            return None, "its Dolby Vision metadata stands in every picture"
        try:
            return splice.plan(like, self._codec), None
        except splice.CannotSplice as reason:
            return None, str(reason)

    def _add_pictures(
        self,
        output: av.container.OutputContainer,
        template: av.VideoStream,
        header: bytes | None,
    ) -> av.VideoStream:
        """Add the stream of pictures.

        Where the codec stays the same, the source's own stream is the template: it tells of HDR, of
        spherical pictures and more, for which there are no other words. Its encoder is another one.
        """
        like, info, spliced = self._like, self._like.info, self._splicer is not None
        is_templated = spliced or (
            self._codec == info.codec
            and self._codec in _TEMPLATED
            and self._format == info.pix_fmt
            and not info.is_dolby_vision
            and not info.interlaced  # which the container says too, and is no longer true
        )
        if is_templated:
            self._encoder = self._encoder or self._new_encoder()
            stream = output.add_stream_from_template(template, opaque=True)
            context = stream.codec_context
            if not spliced:
                context.extradata = self._encoder.extradata
                if hasattr(context, "level"):  # PyAV 18; before it the header tells it alone
                    context.level = self._encoder.level
            elif header is not None:
                context.extradata = header
            _copy_settings(self._encoder, context)
            if template.average_rate:  # what the source says, be it that times are uneven
                context.framerate = template.average_rate
            context.bit_rate = 0
        else:
            rate = (info.fps or Fraction(25)).limit_denominator(1_000_000)
            added = output.add_stream(CODEC_TABLE[self._codec].encoder, rate)
            assert isinstance(added, av.VideoStream)
            stream, self._encoder = added, added.codec_context
            self._configure(stream.codec_context)
            if info.display_matrix:
                stream.set_display_matrix(info.display_matrix)
        stream.time_base = like.time_base
        if self._container in ("mp4", "mov"):
            if spliced and self._codec in ("h264", "hevc") and info.codec_tag in _MP4_TAGS:
                context.codec_tag = info.codec_tag
            elif spliced and self._codec == "prores":
                tag = info.codec_tag  # of most pictures, whatever the profile of the others is
                context.codec_tag = tag if tag in PRORES_TAGS else prores_tag(tag, self._format)
            elif self._codec == "hevc":
                # Apple's players want the parameter sets in the header
                stream.codec_context.codec_tag = "hvc1"
        self._encoder_header = self._encoder.extradata
        stream.metadata.update(kept(template.metadata, self._options.keep_location))
        stream.disposition = template.disposition
        self._tell_what_is_lost(is_templated)
        return stream

    def _tell_what_is_lost(self, same: bool) -> None:
        info = self._like.info
        lost = {text for name, text in _NOT_CARRIED.items() if name in info.side_data}
        if not same:
            lost |= {text for name, text in _CONTAINED.items() if name in info.side_data}
            if info.hdr and not info.hdr.options(self._codec):
                lost.add("the HDR metadata of the mastering display and the light level")
        self.dropped += sorted(lost)

    def _new_encoder(self) -> av.VideoCodecContext:
        """An encoder for the whole clip, or for one run of groups that are not copied."""
        context = av.CodecContext.create(CODEC_TABLE[self._codec].encoder, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.flags |= Flags.global_header
        self._configure(context)
        with ordinary_threads():
            context.open()
        return context

    def _configure(self, context: av.VideoCodecContext) -> None:
        like, info, codec = self._like, self._like.info, self._codec
        width, height = like.width, like.height
        aspect = info.sample_aspect_ratio
        if like.orientation.transpose:
            width, height, aspect = height, width, 1 / aspect
        context.width, context.height = width, height
        context.pix_fmt = self._format
        context.time_base = like.time_base
        context.framerate = (info.fps or Fraction(25)).limit_denominator(1_000_000)
        if info.tells_aspect:
            context.sample_aspect_ratio = aspect
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
        if self._limited:
            context.color_range = 1
        options = encoder_options(
            codec,
            self._options,
            hdr=info.hdr,
            source_tag=info.codec_tag,
            pix_fmt=self._format,
        )
        if codec == "hevc" and self._joint is None and self._stop - self._start < 8:
            # x265 makes up decoding times of clips that are shorter than its reordering
            options["x265-params"] += ":bframes=0"
        if self._joint is not None:
            added = dict(self._joint.encoder_options)
            for name in ("x264-params", "x265-params"):
                if name in added and name in options:
                    added[name] = f"{options[name]}:{added[name]}"
            options.update(added)
            # no more than one picture is kept back, or none: see `splice.Plan.may_reorder`
            if codec == "h264":
                options |= {"b-pyramid": "none"} if self._may_reorder else {"bf": "0"}
            elif codec == "hevc":
                options["x265-params"] += ":b-pyramid=0" if self._may_reorder else ":bframes=0"
        if info.codec in _CHROMA_LEFT and now.is_subsampled:
            options["chroma_sample_location"] = "left"  # FFV1 has no word for it of its own
        context.options = options
        if codec == "av1":
            os.environ.setdefault("SVT_LOG", "1")  # it has no other way not to write to stderr

    def _pixel_format(self) -> str:
        info, codec, options = self._like.info, self._codec, self._options
        chosen = CODEC_TABLE[codec]
        known = formats_of(codec)
        if codec == "vp9" and self._container == "mp4":  # it has no place for transparency
            known = [name for name in known if "yuva" not in name]
        layout = workable(info.pix_fmt)
        odd = bool(info.width % 2 or info.height % 2) and not chosen.odd_subsampled
        if options.pix_fmt is not None:
            wanted = layout_of(options.pix_fmt)
            encoder = av.Codec(chosen.encoder, "w")
            available = [f.name for f in encoder.video_formats or []]
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
            name = nearest_format(layout, known, full_chroma=odd)
        result = layout_of(name)
        assert result is not None, name
        if layout.alpha and not result.alpha:
            self.dropped.append(f"{codec} in {name} holds no transparency")
        if result.bits < layout.bits:
            self.dropped.append(f"{layout.bits} bits become {result.bits} in {name}")
        return name

    # ------------------------------------------------------------ frames

    def write(self, frame: Frame, hole: Mask) -> None:
        if self._holes is not None:
            self._holes.put(hole)
        if self._splicer is None:
            self._encode(frame, hole)
            return
        group = self._splicer.group
        if not self._splicer.is_touched and hole.any():
            # of the frames before it in its group, which were left to be copied, those are encoded
            # that need what comes after
            self._splicer.is_touched = True
            cut = self._splicer.cut_before(frame.index)
            if cut > group[0]:
                self._end_run()
                self._copy(self._splicer, group[0], cut)
            for index in range(cut, frame.index):
                self._encode_native(index)
        if self._splicer.is_touched:
            self._encode(frame, hole)
        if frame.index + 1 == group[1]:
            if not self._splicer.is_touched:
                self._end_run()
                self._copy(self._splicer, *group)
            self._splicer.next_group()

    def _copy(self, splicer: _Splicer, first: int, end: int) -> None:
        try:
            for packet in splicer.packets(first, end):
                packet.stream = self._stream
                self._mux(packet)
                self._copied += 1
        except ParameterSetError as error:
            raise self._not_joined(error) from error

    def _not_joined(self, error: ParameterSetError) -> VideoEncodeError:
        return VideoEncodeError(
            f"{self._target} was not written: {error}", "Run it again with --no-smart-copy"
        )

    def _native(self, index: int) -> av.VideoFrame:
        """The source's frame, decoded in order where it can be."""
        if self._native_next != index or self._natives is None:
            if self._natives is not None:
                self._natives.close()
            self._natives = self._like.natives(index, self._stop)
        self._native_next = index + 1
        return next(self._natives)

    def _encode(self, frame: Frame, hole: Mask) -> None:
        picture = self._picture(self._native(frame.index))
        image = frame.image
        if not self._like.orientation.is_identity:
            image = np.ascontiguousarray(self._like.orientation.revert(image))
            hole = np.ascontiguousarray(self._like.orientation.revert(hole))
        composite(picture, image, hole, chroma_margin=self._chroma_margin)
        self._send(picture, frame.index)

    def _encode_native(self, index: int) -> None:
        self._send(self._picture(self._native(index)), index)

    def _picture(self, native: av.VideoFrame) -> av.VideoFrame:
        """A frame of the source in the result's pixel format, as it is stored."""
        return upright(native, Orientation(), self._format, limited=self._limited)

    def _send(self, picture: av.VideoFrame, index: int) -> None:
        picture.pts = self._like.pts[index] - self._shift
        picture.time_base = self._like.time_base
        picture.pict_type = av.video.frame.PictureType.NONE  # the encoder decides
        self._durations[picture.pts] = self._like.duration_of(index)
        if self._encoder is None:
            self._encoder = self._new_encoder()
            if self._encoder.extradata != self._encoder_header:
                raise VideoEncodeError(
                    f"{self._target} was not written: the encoder changed its header on the way",
                    "Run it again with --no-smart-copy",
                )
        self._is_running = True
        for packet in self._encoder.encode(picture):
            self._take(packet)

    def _take(self, packet: av.Packet[av.VideoStream]) -> None:
        """Mux a packet of the encoder."""
        duration = self._durations.pop(packet.pts or 0, 0)
        if self._splicer is not None:
            try:
                packet = self._splicer.joined(packet)
            except ParameterSetError as error:
                raise self._not_joined(error) from error
        packet.duration = duration
        packet.stream = self._stream
        self._encoded += 1
        self._mux(packet)

    def _mux(self, packet: av.Packet[av.VideoStream]) -> None:
        assert self._output is not None and self._tracks is not None
        self._tracks.mux_until((packet.dts or 0) * packet.time_base, self._shift_seconds)
        self._output.mux(packet)

    def _end_run(self) -> None:
        """Have the encoder give what it still holds; the next run gets another one."""
        if self._encoder is None or not self._is_running:
            return
        for packet in self._encoder.encode(None):
            self._take(packet)
        self._encoder, self._is_running = None, False

    @property
    def _shift_seconds(self) -> Fraction:
        return self._shift * self._like.time_base

    # ------------------------------------------------------------ the end

    def finish(self) -> Written:
        assert self._output is not None and self._tracks is not None
        self._end_run()
        whole = self._start == 0 and self._stop == len(self._like)
        end = None if whole else (self._tail - self._shift) * self._like.time_base
        self._tracks.mux_until(end, self._shift_seconds)
        self._output.close()
        self._release()
        self._set_aspect()
        self._check()
        if lost := self._tracks.lost_words(self._part):
            words = ", ".join(lost[:10]) + (" ..." if len(lost) > 10 else "")
            self.dropped.append(f"words that {self._container} has no place for: {words}")
        written = Written(
            container=self._container,
            codec=self._codec,
            pix_fmt=self._format,
            copied_frames=self._copied,
            encoded_frames=self._encoded,
            not_copied=self._not_copied,
        )
        if self._splicer is not None and not self._copied:
            written = replace(written, not_copied="every group of pictures has a hole")
        if self._like.repeated:
            many = len(self._like.repeated)
            self.dropped.append(
                f"{many} damaged frames of the source, which repeat the one before them: "
                f"{', '.join(map(str, self._like.repeated[:10]))}{' ...' if many > 10 else ''}"
            )
        if self._holes is not None:
            written = replace(written, fidelity=self._measured(self._holes))
        os.replace(self._part, self._target)
        return written

    def _set_aspect(self) -> None:
        """Matroska's muxer asks the stream, not the codec, how wide a pixel is: tell the file."""
        aspect, (height, width) = self._like.info.sample_aspect_ratio, self._like.size
        if self._like.orientation.transpose:
            height, width, aspect = width, height, 1 / aspect
        if not self._like.info.tells_aspect or self._container not in ("matroska", "webm"):
            return
        told = set_pixel_aspect(self._part, (height, width), aspect)
        in_pictures = self._codec in ("h264", "hevc")
        if not told and aspect != 1 and not in_pictures:
            self.dropped.append("the pixels' aspect ratio")

    def _measured(self, holes: HoleFile) -> Fidelity:
        """Decode the result and hold it against the source."""

        with (
            holes,
            VideoReader(self._part, limits=self._like.limits) as result,
            closing(self._like.natives(self._start, self._stop)) as was,
            closing(result.natives()) as now,
        ):
            turn = self._like.orientation.revert
            masks = (np.asarray(turn(mask)) for mask in holes.masks(self._like.size))
            # a decoder of ProRes 4444 gives 12 bits, of which 10 were encoded
            return compare(map(self._picture, was), map(self._picture, now), masks)

    def _check(self) -> None:
        """Read the result's times back: a file that lost a frame is not put in place."""
        wanted = self._like.pts[self._start : self._stop]
        with VideoReader(self._part, limits=self._like.limits) as result:
            unit = max(result.time_base, self._like.time_base)
            same = len(result.pts) == len(wanted) and all(
                abs(was * result.time_base - (pts - self._shift) * self._like.time_base) <= unit
                for was, pts in zip(result.pts, wanted, strict=True)
            )
        if not same:
            raise VideoEncodeError(
                f"{self._target} was not written: the encoder lost frames or their times",
                "Try another codec or container",
            )

    def _release(self) -> None:
        if self._natives is not None:
            self._natives.close()
        if self._splicer is not None:
            self._splicer.close()
        if self._tracks is not None:
            self._tracks.close()

    def discard(self) -> None:
        self._release()
        if self._holes is not None:
            self._holes.close()
        if self._output is not None:
            with suppress(av.error.FFmpegError, OSError, ValueError):
                self._output.close()
        with suppress(OSError):
            self._part.unlink()


class _Splicer:
    """Where the writer is among the groups of the source, and the source's packets."""

    def __init__(self, plan: splice.Plan, like: VideoReader) -> None:
        self._plan, self._like = plan, like
        self._number = 0
        self.is_touched = False
        self._stored = 0  # how many packets are muxed: the times of storing go on from there
        self._source = open_container(like.path, like.limits)
        stream = self._source.streams[like.stream_index]
        for other in self._source.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        assert isinstance(stream, av.VideoStream)
        self._packets = (p for p in packets_of(self._source, stream) if p.size)
        self._read = 0
        self._step = int(like.pts[-1] - like.pts[-2]) if len(like.pts) > 1 else 0

    @property
    def group(self) -> tuple[int, int]:
        """First frame of the group that is being written, and the one after its last."""
        return self._plan.group(self._number)

    def next_group(self) -> None:
        """Go on to the next group; behind the last there is none, and nobody asks."""
        self.is_touched = False
        self._number = min(self._number + 1, len(self._plan.starts) - 1)

    def cut_before(self, frame: int) -> int:
        """Where the copy of the group ends, if `frame` is its first with a hole."""
        return self._plan.cut_before(frame, self.group[0])

    def packets(self, first: int, end: int) -> Iterator[av.Packet[av.VideoStream]]:
        """Packets as the source has them."""
        if self._stored != first:
            raise ParameterSetError(f"the encoder gave {self._stored} packets for {first} frames")
        while self._read < end:
            packet = next(self._packets, None)
            if packet is None:
                raise VideoDecodeError(
                    f"{self._like.path} changed while it was read", "Start again"
                )
            self._read += 1
            if self._read > first:
                data = self._plan.joint.copied(bytes(packet))
                if data is not None:
                    packet = _of_bytes(data, packet)
                packet.dts = int(self._plan.dts[self._read - 1])
                if not packet.duration and self._step:  # the last one of a transport stream
                    packet.duration = self._step
                self._stored = self._read
                yield packet

    def joined(self, packet: av.Packet[av.VideoStream]) -> av.Packet[av.VideoStream]:
        """A packet of the encoder, made to fit, with the next of the source's times of storing."""
        if self._stored == len(self._plan.dts):
            raise ParameterSetError("the encoder gave more packets than frames")
        result = _of_bytes(self._plan.joint.converted(bytes(packet)), packet)
        result.time_base = self._like.time_base
        result.dts = int(self._plan.dts[self._stored])
        self._stored += 1
        return result

    def close(self) -> None:
        self._source.close()


def _copy_settings(encoder: av.VideoCodecContext, context: av.VideoCodecContext) -> None:
    """Have a stream's header say of the pictures what their encoder says."""
    context.width, context.height = encoder.width, encoder.height
    context.pix_fmt = encoder.pix_fmt
    context.framerate = encoder.framerate
    if encoder.sample_aspect_ratio:
        context.sample_aspect_ratio = encoder.sample_aspect_ratio
    context.color_range, context.color_primaries = encoder.color_range, encoder.color_primaries
    context.color_trc, context.colorspace = encoder.color_trc, encoder.colorspace


def _of_bytes(data: bytes, packet: av.Packet[av.VideoStream]) -> av.Packet[av.VideoStream]:
    """Another content in a packet like `packet`."""
    result = cast("av.Packet[av.VideoStream]", av.Packet(data))
    result.pts, result.dts, result.time_base = packet.pts, packet.dts, packet.time_base
    result.duration = packet.duration or 0
    result.is_keyframe = packet.is_keyframe
    for side_data in packet.iter_sidedata():
        result.set_sidedata(side_data)
    return result


def _muxer_options(container: str, like: VideoReader) -> dict[str, str]:
    if container in ("mp4", "mov"):
        # a beginning other than 0 is written in the movie's own unit, by default 1 ms
        time_base = like.time_base
        unit = time_base.denominator * max(1, 90_000 // time_base.denominator)
        unit = min(unit, 1_000_000)
        # QuickTime's keys, as phones write them, go into a box of their own
        keys = "+use_metadata_tags" if like.info.has_quicktime_keys else ""
        return {"movflags": f"+faststart{keys}", "movie_timescale": str(unit)}
    # sound that begins a little before 0, as AAC does, must not push the pictures back;
    # Matroska numbers files at random otherwise, and equal clips shall be equal files
    return {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
