"""Decode a clip: an exact index of times, seeking, both directions, rotation, colour.

A file is demuxed once when it is opened, which lists every frame's presentation time without
decoding; count, seek and variable frame rate follow from that list. Files are not trusted: only
the demuxers named here are allowed, so that nothing a file says can make FFmpeg open a second one.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import math
import os
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar, cast

import av
import av.container
import av.error
import av.filter
import numpy as np
import numpy.typing as npt
from av.codec.context import ThreadType
from av.stream import Discard, Disposition

from inpainterz.errors import InputError, OptionError, VideoDecodeError, VideoOpenError
from inpainterz.types import Frame
from inpainterz.video.hdr import HdrMetadata
from inpainterz.video.planes import (
    Orientation,
    copy_of,
    matrix_of,
    orientation_of,
    side_data_of,
    to_rgb,
)

_log = logging.getLogger(__name__)

DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif,apng,ivf,obu,h264,hevc,m4v,mpegvideo,mxf,nut,"
    "dv,yuv4mpegpipe,rm,wtv,swf"
)
"""What may be opened: containers that hold their own data. No playlists, no concat lists, no
image patterns: those name other files."""

_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
_NO_PRESENTATION_TIMES = ("avi", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "obu")
_NO_SEEKING = ("mpeg", "mpegvideo", "h264", "hevc", "m4v", "obu")  # times go wrong after one
_REORDERED = ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video")  # may have B-frames
_BACKWARDS_BYTES = 64 * 2**20  # what backwards() may keep decoded, beyond `chunk` frames
_BACKWARDS_FRAMES = 128  # and how many: a short clip takes no less memory than a long one
_EVEN_SECONDS = Fraction(1, 1000)  # Matroska and FLV round times to this
_DECODER_THREADS = min(4, os.cpu_count() or 1)  # each thread of a frame-threaded decoder holds one


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may be; it is not trusted, and told from what it says before it is decoded."""

    pixels: int = 2**27
    """Of one frame, width times height: 16384 x 8192."""
    frames: int = 2_000_000
    seconds: float = 24 * 3600.0
    """From the first frame's beginning to the last one's end."""
    streams: int = 100
    """Pictures, sound, subtitles and all else."""
    bytes: int = 2**40
    """Of the file."""
    damaged_frames: int = 30
    """How many frames that cannot be decoded are shown as the one before them; one more and the
    clip is refused."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            none = limit.name == "damaged_frames" and value == 0
            if not (none or 0 < value <= 2**62):  # NaN is neither
                raise OptionError(f"the limit {limit.name} is {value}", "It must be more than 0")


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of a file."""

    index: int
    kind: str
    """"video", "audio", "subtitle", "data" or "attachment"."""
    codec: str
    language: str | None = None
    channels: int | None = None
    sample_rate: int | None = None
    """Hz."""
    is_cover: bool = False
    """A still picture that belongs to the file, not a video."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a clip is."""

    path: Path
    container: str
    width: int
    """Pixels, upright: after rotation."""
    height: int
    frames: int
    fps: Fraction | None
    """Average frames per second; None for a single frame that does not say."""
    variable_rate: bool
    time_base: Fraction
    """Seconds in one unit of presentation time."""
    start: float
    """Presentation time of the first frame, seconds."""
    duration: float
    """Seconds from the first frame's start to the last frame's end."""
    rotation: int
    """Degrees clockwise that the stored pixels are turned by: 0, 90, 180 or 270."""
    interlaced: bool
    """Whether the file holds fields; frames are deinterlaced when they are read."""
    codec: str
    pix_fmt: str
    color_range: int
    """FFmpeg's AVCOL_RANGE: 0 = not said, 1 = 16..235, 2 = 0..255."""
    color_space: int
    """ITU-T H.273 MatrixCoefficients; 2 = not said."""
    color_primaries: int
    """ITU-T H.273 ColourPrimaries; 2 = not said."""
    color_transfer: int
    """ITU-T H.273 TransferCharacteristics; 2 = not said."""
    sample_aspect_ratio: Fraction
    """Width of a pixel over its height, upright; 1 where the file does not say."""
    streams: tuple[StreamInfo, ...]
    codec_tag: str = ""
    """The four characters by which the container calls the codec; empty where it has none."""
    hdr: HdrMetadata = field(default_factory=HdrMetadata)
    side_data: frozenset[str] = frozenset()
    """What else the first frame carries, by FFmpeg's names (AV_FRAME_DATA without the prefix)."""
    has_quicktime_keys: bool = False
    """Whether the file's metadata has keys that begin with "com.", as phones write them."""
    display_matrix: tuple[int, ...] = ()
    """The nine numbers that turn stored pixels upright, as the file has them; empty without."""
    tells_aspect: bool = False
    """Whether the file says how wide a pixel is, be it that it is square."""

    @property
    def is_dolby_vision(self) -> bool:
        """Whether pictures carry Dolby Vision's metadata."""
        return bool(self.side_data & {"DOVI_METADATA", "DOVI_RPU_BUFFER"})


def _no_times() -> array[int]:
    """Times of frames, whole numbers; a list would take five times as much."""
    return array("q")


def open_container(path: Path, limits: Limits = Limits()) -> av.container.InputContainer:
    """Open a media file safely, or say in one sentence why not.

    Raises:
        VideoOpenError: it is missing, not a file, not readable, not a video, or cut short.
    """
    try:
        is_there = path.exists()
    except (OSError, ValueError):  # a name that no file can have
        is_there = False
    if not is_there:
        raise VideoOpenError(f"{path} does not exist", "Check the name")
    if not path.is_file():
        raise VideoOpenError(f"{path} is not a file", "Name a video file")
    try:
        size = path.stat().st_size
        if size > limits.bytes:
            raise _too_much(path, "bytes", size, limits.bytes)
        # an absolute path starts with "/": no part of a name is read as a protocol
        container = av.open(
            os.path.abspath(path),
            "r",
            # one more than allowed, so that too many are seen to be
            container_options={**_OPEN_OPTIONS, "max_streams": str(limits.streams + 1)},
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, VideoOpenError):
            raise
        if isinstance(error, PermissionError):
            raise VideoOpenError(f"{path} may not be read", "Check its permissions") from error
        if not size:
            raise VideoOpenError(f"{path} is empty", "Name a video file") from error
        if missing := missing_bytes(path):
            raise _cut_short(path, missing) from error
        raise VideoOpenError(
            f"{path} is not a video file that can be read",
            "MP4, MOV, MKV, WebM, AVI, MPEG-TS and GIF can, if they are whole",
        ) from error
    if (many := len(container.streams)) > limits.streams:
        container.close()
        raise _too_much(path, "streams", many, limits.streams)
    return container


def _too_much(path: Path, what: str, found: float, limit: float) -> VideoOpenError:
    return VideoOpenError(
        f"{path} has {found:.0f} {what}, and {limit:.0f} are allowed",
        f"If you trust the file, raise the limit: --limit {what}={found:.0f}",
    )


StreamT = TypeVar("StreamT", bound=av.stream.Stream)


def packets_of(
    container: av.container.InputContainer, *streams: StreamT
) -> Generator[av.Packet[StreamT], None, None]:
    """Demux streams, to the last packet and no further.

    PyAV ends with an empty packet for each stream, and looks for streams that appeared on the way
    in a list that it made before: an IndexError then stands for the end.

    Raises:
        FFmpegError: the file is damaged.
    """
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets, None)
        except IndexError:
            return
        if packet is None:
            return
        if packet.size or packet.dts is not None:
            yield cast("av.Packet[StreamT]", packet)


def missing_bytes(path: Path) -> int:
    """How many bytes a container says it has beyond the end of the file; 0 if it is whole.

    Walks the top-level boxes of MP4 and MOV (ISO/IEC 14496-12, 4.2), the segment of Matroska (RFC
    9559, RFC 8794) and the RIFF chunks of AVI; other containers do not say how long they are.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            at = 0
            while at + 8 <= size:
                file.seek(at)
                box = file.read(16)
                length = int.from_bytes(box[:4], "big")
                if length == 1:
                    length = int.from_bytes(box[8:16], "big")
                if length == 0:  # to the end of the file
                    return 0
                if length < 8 or not box[4:8].isascii():
                    return 0  # not a box: trailing rubbish is the demuxer's to judge
                at += length
            return max(0, at - size)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            begin, header = _ebml_size(head, 4)
            at = begin + (header or 0)
            if at >= size:  # it says nonsense: the demuxer's to judge
                return 0
            file.seek(at)
            segment = file.read(16)
            if segment[:4] != b"\x18\x53\x80\x67":
                return 0
            begin, content = _ebml_size(segment, 4)
            return 0 if content is None else max(0, at + begin + content - size)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            length = int.from_bytes(head[4:8], "little")
            return max(0, 8 + length - size) if length else 0
    return 0


def _ebml_size(data: bytes, at: int) -> tuple[int, int | None]:
    """Where the content begins and its length; None where the length is unknown."""
    if at >= len(data):
        return at, None
    width = 9 - data[at].bit_length() if data[at] else 9
    value = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
    return at + width, None if value == (1 << 7 * width) - 1 else value


def _cut_short(path: Path, missing: int) -> VideoOpenError:
    return VideoOpenError(
        f"{path} is cut short: its last {missing} bytes are missing", "Copy or download it again"
    )


class VideoReader:
    """A clip, open for reading. A context manager.

    Each iterator opens the file for itself, so several can run at once and closing one closes its
    file. Nothing but the list of times grows with the length of the clip.

    Raises:
        VideoOpenError: the file is missing, not a video, cut short, or has no frame.
        VideoDecodeError: it is damaged at its first frame.
    """

    def __init__(self, path: Path | str, *, limits: Limits = Limits()) -> None:
        self.path, self.limits = Path(path), limits
        self._repeated: set[int] = set()
        with open_container(self.path, limits) as container:
            if missing := missing_bytes(self.path):
                raise _cut_short(self.path, missing)
            stream = _video_stream(container, self.path, limits)
            self._stream_index = stream.index
            self._streams = tuple(_stream_info(s) for s in container.streams)
            self._container = container.format.name.split(",")[0]
            time_base = stream.time_base
            self.time_base: Fraction = time_base or Fraction(1, 1000)
            declared_rate = stream.average_rate or stream.guessed_rate
            aspect = stream.sample_aspect_ratio
            codec_tag = _codec_tag(stream)
            keyed = any(key.lower().startswith("com.") for key in container.metadata)
            # FFmpeg's own VP8 and VP9 decoders leave the transparency out
            self._decoder: str | None = None
            if {k.lower(): v for k, v in stream.metadata.items()}.get("alpha_mode") == "1":
                self._decoder = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(
                    stream.codec_context.codec.canonical_name
                )
            stored = _demux(container, stream, self.path, limits)
        if not stored.count:
            raise VideoOpenError(f"{self.path} has no frames", "Name a video with pictures in it")
        self._by_ordinal = False
        first = self._first_native()
        self.orientation: Orientation = orientation_of(first)
        self.interlaced: bool = first.interlaced_frame

        self.has_exact_times: bool = stored.is_certain and not (
            self.interlaced and stored.may_hold_fields
        )
        """Whether the container tells when each frame is shown, one packet a frame."""
        if self.has_exact_times:
            stored = self._without_lead(stored, first)
        else:
            stored = self._scan(stored, declared_rate)
        self.pts: Sequence[int] = stored.pts
        self._keys = _Keys() if self._container in _NO_SEEKING else stored.keys
        if not self.pts:
            raise self._damaged(0)

        width, height = first.width, first.height
        if self.orientation.transpose:
            width, height = height, width
            aspect = 1 / aspect if aspect else aspect
        last = stored.last_duration or _typical_step(self.pts, declared_rate, self.time_base)
        self.end_pts: int = self.pts[-1] + last
        seconds = float((self.end_pts - self.pts[0]) * self.time_base)
        if seconds > limits.seconds:
            raise _too_much(self.path, "seconds", seconds, limits.seconds)
        fps, variable = _rate(self.pts, self.end_pts, self.time_base, declared_rate)
        self.info = VideoInfo(
            path=self.path,
            container=self._container,
            width=width,
            height=height,
            frames=len(self.pts),
            fps=fps,
            variable_rate=variable,
            time_base=self.time_base,
            start=float(self.pts[0] * self.time_base),
            duration=seconds,
            rotation=self.orientation.rotation,
            interlaced=self.interlaced,
            codec=self._streams[self._stream_index].codec,
            pix_fmt=first.format.name,
            color_range=first.color_range,
            color_space=first.colorspace,
            color_primaries=first.color_primaries,
            color_transfer=first.color_trc,
            sample_aspect_ratio=Fraction(aspect) if aspect else Fraction(1),
            streams=self._streams,
            codec_tag=codec_tag,
            has_quicktime_keys=keyed,
            hdr=HdrMetadata.of(first),
            side_data=side_data_of(first),
            display_matrix=matrix_of(first),
            tells_aspect=bool(aspect),
        )

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between calls; iterators close their own files."""

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def width(self) -> int:
        """Pixels, upright."""
        return self.info.width

    @property
    def height(self) -> int:
        """Pixels, upright."""
        return self.info.height

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), upright: the shape of a mask."""
        return self.info.height, self.info.width

    @property
    def stream_index(self) -> int:
        """Which of the file's streams the frames come from."""
        return self._stream_index

    @property
    def repeated(self) -> tuple[int, ...]:
        """The frames met so far that cannot be decoded, ascending; others stand in for them."""
        return tuple(sorted(self._repeated))

    def duration_of(self, index: int) -> int:
        """How long frame `index` is shown, in units of `time_base`."""
        end = self.pts[index + 1] if index + 1 < len(self.pts) else self.end_pts
        return end - self.pts[index]

    def frame(self, index: int) -> Frame:
        """Frame `index`, by seeking.

        Raises:
            InputError: there is no such frame.
            VideoDecodeError: the file is damaged there.
        """
        if not 0 <= index < len(self):
            raise InputError(
                f"there is no frame {index}: the clip has {len(self)} frames",
                f"Frames count from 0 to {len(self) - 1}",
            )
        with closing(self.frames(index, index + 1)) as frames:
            return next(frames)

    def frames(self, start: int = 0, stop: int | None = None) -> Generator[Frame, None, None]:
        """Yield frames `start` up to, not including, `stop`, in order of presentation.

        Raises:
            OptionError: the range does not lie in the clip.
            VideoDecodeError: the file is damaged.
        """
        with closing(self.natives(start, stop)) as natives:
            for index, native in enumerate(natives, start):
                yield self._frame(index, native)

    def backwards(
        self, start: int | None = None, stop: int = 0, chunk: int = 16
    ) -> Generator[Frame, None, None]:
        """Yield frames from `start` (the last where None) down to `stop`, both included.

        Decoders run forwards only, so a stretch is decoded and handed out in reverse. It is
        `chunk` frames long, or up to 128 where they fit in 64 MB.

        Raises:
            OptionError: the range does not lie in the clip, or `chunk` is less than 1.
            VideoDecodeError: the file is damaged.
        """
        if chunk < 1:
            raise OptionError(f"chunk is {chunk}", "It must be 1 or more")
        high = len(self) - 1 if start is None else start
        self._check_range(stop, high + 1)
        while high >= stop:
            low = max(stop, high + 1 - chunk)
            held: list[av.VideoFrame] = []
            if self._bytes_per_frame:
                fit = min(_BACKWARDS_FRAMES, _BACKWARDS_BYTES // self._bytes_per_frame)
                low = max(stop, min(low, high + 1 - fit))
            with closing(self.natives(low, high + 1)) as natives:
                held.extend(natives)
            for index in range(high, low - 1, -1):
                yield self._frame(index, held.pop())
            high = low - 1

    def natives(
        self, start: int = 0, stop: int | None = None
    ) -> Generator[av.VideoFrame, None, None]:
        """Yield frames as the decoder gives them, in stored orientation, for the writer.

        Their `pts` and `time_base` are those of the index. They belong to the decoder: call
        `make_writable` before changing one.

        Raises:
            OptionError: the range does not lie in the clip.
            VideoDecodeError: the file is damaged.
        """
        stop = len(self) if stop is None else stop
        self._check_range(start, stop)
        return self._natives(start, stop)

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= len(self):
            raise OptionError(
                f"frames {start} to {stop} do not lie in the clip, which has {len(self)}",
                "Frames count from 0",
            )

    @property
    def _bytes_per_frame(self) -> int:
        bits = av.VideoFormat(self.info.pix_fmt, 64, 64).padded_bits_per_pixel or 24
        return self.width * self.height * bits // 8

    def _frame(self, index: int, native: av.VideoFrame) -> Frame:
        image = np.ascontiguousarray(self.orientation.apply(to_rgb(native)))
        return Frame(image, index, self.pts[index], self.time_base)

    def _natives(self, start: int, stop: int) -> Generator[av.VideoFrame, None, None]:
        if start == stop:
            return
        # deinterlacing looks at the frame before, so that one is decoded too
        for key in self._entries(max(0, start - 1) if self.interlaced else start):
            with closing(self._progressive(self._decode(key))) as decoded:
                listed = self._listed(decoded)
                first = next(listed, None)
                if key is not None and (first is None or first[0] > start):
                    continue  # the seek went past the frame: start further back
                yield from self._complete(first, listed, start, stop)
                return

    def _listed(
        self, decoded: Generator[av.VideoFrame, None, None]
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """The decoded frames that the index lists, in order, with their numbers there."""
        last = -1
        for native in decoded:
            if self._by_ordinal:
                index = last + 1
                if index == len(self.pts):
                    return
                native.pts = self.pts[index]
            elif native.pts is None:
                continue
            else:
                index = bisect.bisect_left(self.pts, native.pts, lo=last + 1)
                if index == len(self.pts) or self.pts[index] != native.pts:
                    continue  # a frame that the index does not list is not shown
            last = index
            yield index, native

    def _complete(
        self,
        ahead: tuple[int, av.VideoFrame] | None,
        listed: Iterator[tuple[int, av.VideoFrame]],
        start: int,
        stop: int,
    ) -> Iterator[av.VideoFrame]:
        """Frames `start` to `stop`; for one that is lost, the last before it, or the first after.

        It looks one frame ahead: a frame that was handed out may be changed by whoever has it, so
        the one to be repeated is copied before.
        """
        held: av.VideoFrame | None = None
        for index in range(start, stop):
            while ahead is not None and ahead[0] < index:
                before, ahead = ahead, next(listed, None)
                if ahead is None or ahead[0] > index:
                    held = before[1]
            if ahead is None or ahead[0] > index:
                held = held if held is not None else ahead and ahead[1]
                if held is None:
                    raise self._damaged(index)
                self._repeat(index)
                native = copy_of(held)
                native.pts = self.pts[index]
            else:
                native = ahead[1]
                self._check_native(index, native)
                if index + 1 < stop:
                    ahead = next(listed, None)
                    if ahead is None or ahead[0] > index + 1:
                        held = copy_of(native)
            native.time_base = self.time_base
            yield native

    def _repeat(self, index: int) -> None:
        self._repeated.add(index)
        if len(self._repeated) > self.limits.damaged_frames:
            raise self._damaged(index)

    def _check_native(self, index: int, native: av.VideoFrame) -> None:
        if native.interlaced_frame and not self.interlaced:
            raise VideoDecodeError(
                f"{self.path} becomes interlaced at frame {index}",
                "Deinterlace it first: ffmpeg -i IN -vf bwdif=0 OUT",
            )
        if (native.height, native.width) != self._stored_size:
            raise VideoDecodeError(
                f"{self.path} changes its size at frame {index}", "Convert it to one size first"
            )

    @property
    def _stored_size(self) -> tuple[int, int]:
        height, width = self.size
        return (width, height) if self.orientation.transpose else (height, width)

    def _damaged(self, index: int) -> VideoDecodeError:
        many = len(self._repeated) - 1
        return VideoDecodeError(
            f"frame {index} of {self.path} cannot be decoded: the file is damaged"
            + (f", and {many} frames before it are lost too" if many > 0 else ""),
            "Copy or download it again, or repair it with ffmpeg -i IN -c copy OUT",
        )

    def _entries(self, index: int) -> Iterator[int | None]:
        """Times to seek to, to reach frame `index`, nearest first; None = the beginning."""
        if not self._by_ordinal:
            at = bisect.bisect_right(self._keys.pts, self.pts[index]) - 1
            for back in (0, 1, 3):
                if at - back > 0:
                    yield self._keys.seek_to[at - back]
        yield None

    def _decode(self, key: int | None) -> Generator[av.VideoFrame, None, None]:
        """Decode to the end; a packet that cannot be decoded gives no frame.

        Args:
            key: a keyframe's time to seek to; None: from the beginning.
        """
        with open_container(self.path, self.limits) as container:
            if self._stream_index >= len(container.streams):
                raise VideoDecodeError(f"{self.path} changed while it was read", "Start again")
            stream = container.streams[self._stream_index]
            assert isinstance(stream, av.VideoStream)
            decoder = stream.codec_context
            if self._decoder is not None:
                named = av.CodecContext.create(self._decoder, "r")
                assert isinstance(named, av.VideoCodecContext)
                decoder = named
            decoder.options = {"max_pixels": str(self.limits.pixels)}
            decoder.thread_type = ThreadType.AUTO
            decoder.thread_count = _DECODER_THREADS
            for other in container.streams:
                if other.index != stream.index:
                    other.discard = Discard.all
            if key is not None:
                try:
                    container.seek(key, stream=stream)
                except av.error.FFmpegError:
                    return
            packets = packets_of(container, stream)
            while True:
                try:
                    packet = next(packets, None)
                except av.error.FFmpegError as error:
                    _log.debug("%s: %s", self.path, error)
                    packet = None  # what is left is lost; the frames' count tells
                try:
                    yield from decoder.decode(packet)
                except av.error.FFmpegError as error:
                    _log.debug("%s: %s", self.path, error)
                if packet is None:
                    return

    def _progressive(
        self, decoded: Generator[av.VideoFrame, None, None]
    ) -> Generator[av.VideoFrame, None, None]:
        """Make whole pictures of fields, one for one, where the clip is interlaced (bwdif)."""
        with closing(decoded):
            if not self.interlaced:
                yield from decoded
                return
            graph: av.filter.Graph | None = None
            for native in itertools.chain(decoded, [None]):
                if graph is None:
                    if native is None:
                        return
                    graph = av.filter.Graph()
                    source = graph.add_buffer(
                        width=native.width,
                        height=native.height,
                        format=native.format,
                        time_base=self.time_base,
                    )
                    # a picture for each frame, not for each field; whole pictures pass through
                    bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
                    sink = graph.add("buffersink")
                    source.link_to(bwdif)
                    bwdif.link_to(sink)
                    graph.configure()
                graph.push(native)
                while True:
                    try:
                        result = graph.pull()
                    except (BlockingIOError, EOFError):
                        break
                    assert isinstance(result, av.VideoFrame)
                    if result.pts is not None and result.time_base is not None:
                        # the filter counts in halves
                        result.pts = round(result.pts * result.time_base / self.time_base)
                    result.time_base = self.time_base
                    yield result

    def _first_native(self) -> av.VideoFrame:
        with closing(self._decode(None)) as decoded:
            native = next(decoded, None)
        if native is None:
            raise VideoDecodeError(
                f"{self.path} has no frame that can be decoded",
                "The file is damaged, or its codec is not supported",
            )
        return native

    def _without_lead(self, stored: _Stored, first: av.VideoFrame) -> _Stored:
        """Leave out what is shown before the first keyframe and needs frames the file has not."""
        if first.pts is None or not stored.pts or stored.pts[0] >= first.pts:
            return stored
        if stored.keys.pts and stored.keys.pts[0] < first.pts:
            return stored  # the first ones are lost: the first after them stands in
        return stored.beginning_at(first.pts)

    def _scan(self, stored: _Stored, rate: Fraction | None) -> _Stored:
        """List the times by decoding everything, where the container does not tell them.

        Raw streams have none and AVI has those of storing, not of showing. If the decoder does not
        know better, frames are shown in order, each when the packet is stored with which the
        decoder gives it; that lies as far behind its own packet as pictures are reordered.
        """
        with closing(self._decode(None)) as decoded:
            times = [(native.pts, native.dts) for native in decoded]
        known = [pts for pts, _ in times if pts is not None]
        if len(known) == len(times) and _rises(known):
            return replace(stored, pts=array("q", known), is_certain=True)
        self._by_ordinal = True
        given = [dts for _, dts in times if dts is not None]
        held = len(times) - len(given)  # what the decoder still had when the packets ended
        grid = stored.stored_at
        if len(given) > 1 and _rises(given) and all(d is not None for _, d in times[: len(given)]):
            steps = sorted(b - a for a, b in itertools.pairwise(given))
            step = steps[len(steps) // 2]
            grid = array("q", [*given, *(given[-1] + step * i for i in range(1, held + 1))])
        if len(grid) != len(times) or not _rises(grid):
            even = 1 / ((rate or Fraction(25)) * self.time_base)
            grid = array("q", [round(i * even) for i in range(len(times))])
        return replace(stored, pts=grid, keys=_Keys(), last_duration=0)


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keyframes that decoding can start from, in order of presentation."""

    pts: array[int] = field(default_factory=_no_times)
    seek_to: array[int] = field(default_factory=_no_times)
    """When each is stored, or shown where the file does not say."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """What demuxing tells of the frames."""

    count: int
    pts: array[int]
    """In order of presentation."""
    stored_at: array[int]
    """The times of storing, in the order of the file; empty where they are known to be useless."""
    keys: _Keys
    last_duration: int
    """Of the last frame; 0 if the file does not say."""
    is_certain: bool
    """Whether `pts` are the presentation times of all frames."""
    may_hold_fields: bool
    """Whether a packet of this codec may hold one field, not a frame."""

    def beginning_at(self, pts: int) -> _Stored:
        """Forget what is shown before `pts`."""
        if not self.pts or self.pts[0] >= pts:
            return self
        key = bisect.bisect_left(self.keys.pts, pts)
        return replace(
            self,
            pts=self.pts[bisect.bisect_left(self.pts, pts) :],
            keys=_Keys(self.keys.pts[key:], self.keys.seek_to[key:]),
        )


def _rises(values: Sequence[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))


def _demux(
    container: av.container.InputContainer, stream: av.VideoStream, path: Path, limits: Limits
) -> _Stored:
    """List the times of all frames without decoding."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    codec = stream.codec_context.codec.canonical_name
    count = 0
    times, stored_at, key_times, key_places = (_no_times() for _ in range(4))
    last: tuple[int, int] | None = None
    try:
        for packet in packets_of(container, stream):
            if not packet.size or packet.is_discard:  # outside the edit list: decoded, not shown
                continue
            if codec == "vp8" and not bytes(packet)[0] & 0x10:  # RFC 6386, 9.1: show_frame
                continue
            if count == limits.frames:
                raise _too_much(path, "frames", stream.frames or limits.frames + 1, limits.frames)
            count += 1
            if packet.dts is not None:
                stored_at.append(packet.dts)
            if packet.pts is None:
                continue
            times.append(packet.pts)
            if packet.is_keyframe:
                key_times.append(packet.pts)
                key_places.append(packet.pts if packet.dts is None else packet.dts)
            if last is None or packet.pts > last[0]:
                last = (packet.pts, packet.duration or 0)
    except av.error.FFmpegError as error:
        raise VideoDecodeError(
            f"{path} is damaged after frame {count}", "Copy or download it again"
        ) from error
    shown = _reordered(times, np.argsort(times, kind="stable"))
    order = np.argsort(key_times, kind="stable")
    guessed = container.format.name in _NO_PRESENTATION_TIMES and codec in _REORDERED
    return _Stored(
        count=count,
        pts=shown,
        stored_at=stored_at,
        keys=_Keys(_reordered(key_times, order), _reordered(key_places, order)),
        last_duration=last[1] if last else 0,
        is_certain=len(shown) == count and _rises(shown) and not guessed,
        may_hold_fields=codec in ("h264", "hevc", "mpeg2video"),
    )


def _reordered(times: array[int], order: npt.NDArray[np.intp]) -> array[int]:
    return array("q", np.asarray(times, np.int64)[order].tobytes())


def _video_stream(
    container: av.container.InputContainer, path: Path, limits: Limits
) -> av.VideoStream:
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        if stream.codec_context is None:
            raise VideoOpenError(
                f"the video in {path} is coded in a way that cannot be decoded here",
                "Convert it to H.264 first",
            )
        if stream.width * stream.height > limits.pixels:
            raise _too_much(path, "pixels", stream.width * stream.height, limits.pixels)
        return stream
    raise VideoOpenError(f"{path} has no video stream", "Name a file with pictures in it")


def _stream_info(stream: av.stream.Stream) -> StreamInfo:
    context = stream.codec_context
    # a stream that nothing here decodes has no context, whatever PyAV's stubs say
    decoder = getattr(context, "codec", None)
    codec = getattr(decoder, "canonical_name", None) or getattr(stream, "name", None) or "unknown"
    channels = sample_rate = None
    if isinstance(stream, av.AudioStream) and decoder is not None:
        channels, sample_rate = stream.codec_context.channels, stream.codec_context.sample_rate
    return StreamInfo(
        stream.index,
        stream.type,
        codec,
        stream.language,
        channels,
        sample_rate,
        bool(stream.disposition & Disposition.attached_pic),
    )


def _codec_tag(stream: av.VideoStream) -> str:
    try:
        tag = stream.codec_context.codec_tag
    except UnicodeDecodeError:  # a number, in containers that count codecs
        return ""
    return tag if tag.isprintable() else ""


def _typical_step(pts: Sequence[int], rate: Fraction | None, time_base: Fraction) -> int:
    """How long the last frame is shown, when the file does not say: as long as most are."""
    if len(pts) > 1:
        steps = sorted(b - a for a, b in itertools.pairwise(pts))
        return steps[len(steps) // 2]
    return max(1, round(1 / (rate * time_base))) if rate else max(1, round(1 / (25 * time_base)))


def _rate(
    pts: Sequence[int], end: int, time_base: Fraction, declared: Fraction | None
) -> tuple[Fraction | None, bool]:
    """Average frames per second, and whether the times leave the even grid by more than 1 ms."""
    if len(pts) < 2:
        return declared, False
    span = pts[-1] - pts[0]
    step = Fraction(span, len(pts) - 1)
    slack = max(1, math.ceil(_EVEN_SECONDS / time_base))
    # in whole numbers: i * span / (n - 1), without a fraction for every frame
    even = (len(pts) - 1) * slack
    variable = any(abs((p - pts[0]) * (len(pts) - 1) - i * span) > even for i, p in enumerate(pts))
    measured = 1 / (step * time_base)
    if not variable and declared and abs(declared / measured - 1) < Fraction(1, 1000):
        return declared, variable  # 30000/1001, where the times are rounded
    return measured.limit_denominator(100_000), variable
