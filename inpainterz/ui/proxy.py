"""A copy of a clip that every browser plays, for looking at only; it is never downloaded."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

import av
import av.audio.stream
import av.error
import cv2
import numpy as np

from inpainterz.errors import VideoEncodeError
from inpainterz.types import Frame, Image
from inpainterz.video.reader import VideoInfo, VideoReader, open_container

SIDE_PX = 1280
"""Longest side of the copy."""

_PLAYS = {
    "mov": {"h264", "av1"},
    "matroska": {"vp8", "vp9", "av1"},  # as WebM
}
_SOUNDS = {"aac", "mp3"}


def plays(info: VideoInfo) -> bool:
    """Whether the browsers of today play a file as it is: 8 bits, 4:2:0, a common codec."""
    known = info.codec in _PLAYS.get(info.container, set())
    ending = info.path.suffix.lower() in (".mp4", ".m4v", ".webm")
    return known and ending and info.pix_fmt in ("yuv420p", "yuvj420p")


class Film:
    """Writes a copy frame by frame. It gets its name when it is complete; else nothing stays."""

    def __init__(self, target: Path, like: VideoReader, *, sound: bool = True) -> None:
        """Begin.

        Args:
            target: an .mp4 that is not there yet.
            like: the clip whose size, times and sound the copy has; smaller where it is larger
                than `SIDE_PX`, even in both directions. Sound is copied where it is AAC or MP3.
            sound: whether it has any.
        """
        self._target = target
        self._like = like
        self._sound = sound
        self._part = target.with_name(target.name + ".part")
        scale = min(1.0, SIDE_PX / max(like.size))
        height, width = (max(2, round(side * scale / 2) * 2) for side in like.size)
        self._size = height, width
        self._open = ExitStack()

    def __enter__(self) -> Film:
        try:
            with ExitStack() as opening:
                self._out = opening.enter_context(
                    av.open(str(self._part), "w", format="mp4", options={"movflags": "faststart"})
                )
                self._source = opening.enter_context(open_container(self._like.path))
                rate = self._like.info.fps or Fraction(25)
                stream = self._out.add_stream("libx264", rate=rate.limit_denominator(1001))
                stream.height, stream.width = self._size
                stream.pix_fmt = "yuv420p"
                stream.options = {"preset": "veryfast", "crf": "21", "g": "24"}
                stream.time_base = stream.codec_context.time_base = self._like.time_base
                self._stream = stream
                self._heard = [
                    s
                    for s in self._source.streams
                    if self._sound
                    and isinstance(s, av.audio.stream.AudioStream)
                    and s.codec_context.name in _SOUNDS
                ][:1]
                self._sounds = {s.index: self._out.add_stream_from_template(s) for s in self._heard}
                self._open = opening.pop_all()
        except (av.error.FFmpegError, OSError) as error:
            self._part.unlink(missing_ok=True)
            raise _cannot(error) from error
        return self

    def write(self, frame: Frame, image: Image) -> None:
        """Add a picture (H, W, 3) at a frame's time.

        Raises:
            VideoEncodeError: it cannot be written.
        """
        height, width = self._size
        if image.shape[:2] != self._size:
            small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            image = np.asarray(small, np.uint8)
        native = av.VideoFrame.from_ndarray(image, format="rgb24")
        native.pts, native.time_base = frame.pts, frame.time_base
        try:
            self._out.mux(self._stream.encode(native))
        except (av.error.FFmpegError, OSError) as error:
            raise _cannot(error) from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._out.mux(self._stream.encode())
                if self._heard:
                    for packet in self._source.demux(self._heard):
                        if packet.size and packet.dts is not None:
                            packet.stream = self._sounds[packet.stream.index]
                            self._out.mux(packet)
            self._open.close()
            if kind is None:
                self._part.replace(self._target)
        except (av.error.FFmpegError, OSError) as error:
            if kind is None:
                raise _cannot(error) from error
        finally:
            self._open.close()
            self._part.unlink(missing_ok=True)


def _cannot(error: Exception) -> VideoEncodeError:
    reason = getattr(error, "strerror", None) or str(error)
    return VideoEncodeError(f"the preview cannot be written: {reason}")


def write(video: VideoReader, target: Path) -> Generator[int]:
    """Write the copy, yielding the number of frames that are done; closed early, nothing stays.

    Args:
        video: the clip.
        target: an .mp4 that is not there yet.

    Raises:
        VideoDecodeError: the clip is damaged.
        VideoEncodeError: the target cannot be written.
    """
    with Film(target, video) as film, closing(video.frames()) as frames:
        for frame in frames:
            film.write(frame, frame.image)
            yield frame.index + 1
