"""Write pictures of our own making as a clip, at a source's times and with its sound.

For overlays, comparisons and layers: what `VideoWriter` writes is the source's pictures, these are
RGB images of any size.
"""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.container
import av.error
import cv2
import numpy as np
import numpy.typing as npt

from inpainterz.errors import OptionError, VideoEncodeError, VideoError
from inpainterz.video.codecs import container_of, ordinary_threads
from inpainterz.video.matroska import set_pixel_aspect
from inpainterz.video.reader import VideoReader
from inpainterz.video.targets import cannot_write, check_target, part_of
from inpainterz.video.tracks import Tracks

_MATRICES = (1, 5, 6, 7, 9)  # H.273 codes of what swscale knows by the same number, but 6
_BT709 = 1


class ImageWriter:
    """Writes images as a clip. A context manager, as `VideoWriter` is.

    RGB becomes H.264, VP9 in WebM; grey becomes FFV1 in Matroska, bit for bit, and else H.264; RGBA
    becomes ProRes 4444 in MOV. A target that ends in "/" is a folder of numbered PNG pictures.

    Args:
        target: .mp4, .m4v, .mov, .mkv, .webm, or a folder.
        like: whose times, sound and aspect ratio of pixels it has.
        size: (height, width) of the images.
        channels: 1, 3 or 4.
        overwrite: replace the target if it is there.
        start, stop: the source's frames that the images stand for; a part begins at time 0.

    Raises:
        OutputExists, InputError, OptionError, VideoEncodeError: see `VideoWriter`.
    """

    def __init__(
        self,
        target: Path | str,
        like: VideoReader,
        size: tuple[int, int],
        channels: int,
        *,
        overwrite: bool = False,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self._is_folder = str(target).endswith(("/", os.sep))
        self.target, self._like, self._channels = Path(target), like, channels
        self._start, self._stop = start, len(like) if stop is None else stop
        whole = start == 0 and self._stop == len(like)
        self._shift = 0 if whole else like.pts[start]
        self._next, self._closed = start, False
        self._output: av.container.OutputContainer | None = None
        self._tracks: Tracks | None = None
        check_target(self.target, like.path, is_folder=self._is_folder, overwrite=overwrite)
        self._part = part_of(self.target)
        try:
            if self._is_folder:
                self._part.mkdir()
            else:
                self._open(size)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, VideoError):
                raise cannot_write(self.target, error) from error
            raise

    def _open(self, size: tuple[int, int]) -> None:
        container = container_of(self.target)
        if self._channels == 4 and container != "mov":
            raise OptionError(
                f"{self.target.name} cannot hold transparency", "Take .mov, or a folder ending in /"
            )
        encoder, pix_fmt, options = {
            1: ("libx264", "yuv420p", {"crf": "10", "preset": "medium"}),
            3: ("libx264", "yuv420p", {"crf": "18", "preset": "medium"}),
            4: ("prores_ks", "yuva444p10le", {"profile": "4", "alpha_bits": "16"}),
        }[self._channels]
        if container == "webm":
            encoder, options = "libvpx-vp9", {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}
        elif self._channels == 1 and container == "matroska":
            encoder, pix_fmt, options = "ffv1", "gray", {"level": "3", "slicecrc": "1", "g": "1"}
        if pix_fmt == "yuv420p" and (size[0] % 2 or size[1] % 2) and encoder == "libx264":
            pix_fmt = "yuv444p"
        os.close(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        self._output = av.open(os.path.abspath(self._part), "w", format=container)
        info = self._like.info
        self._tracks = Tracks(self._like, self._output, container, False)
        rate = (info.fps or Fraction(25)).limit_denominator(1_000_000)
        stream = self._output.add_stream(encoder, rate)
        assert isinstance(stream, av.VideoStream)
        self._stream, context = stream, stream.codec_context
        context.height, context.width = self._size = size
        context.pix_fmt, self._pix_fmt = pix_fmt, pix_fmt
        context.time_base = stream.time_base = self._like.time_base
        context.sample_aspect_ratio = info.sample_aspect_ratio
        context.options = options
        self._matrix = info.color_space if info.color_space in _MATRICES else _BT709
        if pix_fmt != "gray":
            context.color_range, context.colorspace = 1, self._matrix
            context.color_primaries, context.color_trc = info.color_primaries, info.color_transfer
        for template in self._tracks.templates:
            if template.type == "audio":
                self._tracks.add(template)
        with ordinary_threads():
            self._output.start_encoding()

    def __enter__(self) -> ImageWriter:
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

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Write the next image, (H, W) or (H, W, channels) uint8.

        Raises:
            VideoEncodeError: the disk is full or the target cannot be written.
        """
        try:
            if self._is_folder:
                self._write_picture(image)
            else:
                self._encode(image)
        except (av.error.FFmpegError, OSError) as error:
            self.close()
            if isinstance(error, VideoError):
                raise
            raise cannot_write(self.target, error) from error
        self._next += 1

    def _write_picture(self, image: npt.NDArray[np.uint8]) -> None:
        if image.ndim == 3:  # OpenCV's order is blue, green, red
            image = image[..., [2, 1, 0, 3][: image.shape[2]]]
        data = cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes()
        (self._part / f"{self._next:06d}.png").write_bytes(data)

    def _encode(self, image: npt.NDArray[np.uint8]) -> None:
        assert self._output is not None and self._tracks is not None
        name = {1: "gray", 3: "rgb24", 4: "rgba"}[self._channels]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), name)
        if self._pix_fmt != name:
            frame = frame.reformat(
                format=self._pix_fmt,
                dst_colorspace=5 if self._matrix == 6 else self._matrix,
                src_color_range=2,
                dst_color_range=1,
                threads=1,  # see `planes`
            )
            info = self._like.info
            frame.colorspace, frame.color_range = self._matrix, 1
            frame.color_primaries, frame.color_trc = info.color_primaries, info.color_transfer
        frame.pts = self._like.pts[self._next] - self._shift
        frame.time_base = self._like.time_base
        for packet in self._stream.encode(frame):
            self._mux(packet)

    def _mux(self, packet: av.Packet[av.VideoStream]) -> None:
        assert self._output is not None and self._tracks is not None
        shift = self._shift * self._like.time_base
        self._tracks.mux_until((packet.dts or 0) * packet.time_base, shift)
        self._output.mux(packet)

    def finish(self) -> None:
        """Complete the target and put it in its place.

        Raises:
            VideoEncodeError: the target cannot be written, or images are missing.
        """
        if self._closed:
            return
        if self._next != self._stop:
            self.close()
            raise VideoEncodeError(f"{self.target} was not written: frame {self._next} is missing")
        try:
            if self._output is not None and self._tracks is not None:
                for packet in self._stream.encode(None):
                    self._mux(packet)
                base = self._like.time_base
                last = self._stop - 1
                end = self._like.pts[last] + self._like.duration_of(last) - self._shift
                self._tracks.mux_until(end * base, self._shift * base)
                self._output.close()
                self._tracks.close()
                self._set_aspect()
            if self._is_folder and self.target.is_dir():
                for path in self.target.iterdir():  # pictures: `check_target` has looked
                    path.unlink()
            os.replace(self._part, self.target)
        except (av.error.FFmpegError, OSError) as error:
            self.close()
            if isinstance(error, VideoError):
                raise
            raise cannot_write(self.target, error) from error
        self._closed = True

    def _set_aspect(self) -> None:
        aspect = self._like.info.sample_aspect_ratio
        if aspect != 1 and container_of(self.target) in ("matroska", "webm"):
            set_pixel_aspect(self._part, self._size, aspect)

    def close(self) -> None:
        """Give up: delete what was written. After `finish` it does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._tracks is not None:
            self._tracks.close()
        if self._output is not None:
            with suppress(av.error.FFmpegError, OSError, ValueError):
                self._output.close()
        if self._is_folder:
            for path in self._part.glob("*"):
                path.unlink()
            with suppress(OSError):
                self._part.rmdir()
        with suppress(OSError):
            self._part.unlink()
