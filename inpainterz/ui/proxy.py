"""A copy of a clip that every browser plays, for looking at only; it is never downloaded."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import av.audio.stream
import av.error
import cv2
import numpy as np

from inpainterz.errors import VideoEncodeError
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


def write(video: VideoReader, target: Path) -> Generator[int]:
    """Write the copy, yielding the number of frames that are done; closed early, nothing stays.

    Frames keep their times. Sound is copied where it is AAC or MP3, and left out elsewhere.

    Args:
        video: the clip.
        target: an .mp4 that is not there yet.

    Raises:
        VideoDecodeError: the clip is damaged.
        VideoEncodeError: the target cannot be written.
    """
    scale = min(1.0, SIDE_PX / max(video.size))
    height, width = (max(2, round(side * scale / 2) * 2) for side in video.size)
    part = target.with_name(target.name + ".part")
    try:
        with (
            av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as out,
            open_container(video.path) as source,
        ):
            rate = video.info.fps or Fraction(25)
            stream = out.add_stream("libx264", rate=rate.limit_denominator(1001))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"preset": "veryfast", "crf": "21", "g": "24"}
            stream.time_base = stream.codec_context.time_base = video.time_base
            heard = [
                s
                for s in source.streams
                if isinstance(s, av.audio.stream.AudioStream) and s.codec_context.name in _SOUNDS
            ][:1]
            sounds = {s.index: out.add_stream_from_template(s) for s in heard}
            with closing(video.frames()) as frames:
                for frame in frames:
                    image = frame.image
                    if (height, width) != video.size:
                        image = np.asarray(
                            cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA),
                            np.uint8,
                        )
                    native = av.VideoFrame.from_ndarray(image, format="rgb24")
                    native.pts, native.time_base = frame.pts, frame.time_base
                    out.mux(stream.encode(native))
                    yield frame.index + 1
            out.mux(stream.encode())
            if heard:
                for packet in source.demux(heard):
                    if packet.size and packet.dts is not None:
                        packet.stream = sounds[packet.stream.index]
                        out.mux(packet)
        part.replace(target)
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoEncodeError(f"the preview cannot be written: {reason}") from error
    finally:
        part.unlink(missing_ok=True)
