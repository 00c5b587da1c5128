"""A factory of clips whose answer is known: every pixel, every time, every stream.

Nothing is committed: PyAV encodes them while the tests run, in memory sizes of a few kilobytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np

from inpainterz.types import Image, Mask
from inpainterz.video.codecs import ordinary_threads


@cache
def texture(height: int, width: int, seed: int, low: int = 0, high: int = 255) -> Image:
    """Smooth random colours: something to follow at every scale, and kind to an encoder."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((16, 0.6), (5, 0.4)):
        coarse = rng.random((max(2, height // cell), max(2, width // cell), 3), np.float32)
        image += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image -= image.min()
    image *= (high - low) / max(1e-6, float(image.max()))
    result = (image + low).astype(np.uint8)
    result.setflags(write=False)
    return result


@dataclass(frozen=True)
class Scene:
    """A textured square that crosses a textured plate from left to right, and the answer to it."""

    width: int = 96
    height: int = 64
    frames: int = 24
    seed: int = 0
    cuts: tuple[int, ...] = ()
    """Frames where another plate begins."""

    @property
    def side(self) -> int:
        """Of the square, pixels."""
        return max(1, min(self.height, self.width) // 3)

    def plate(self, index: int) -> Image:
        """What is behind the square in frame `index`."""
        shot = sum(index >= cut for cut in self.cuts)
        low, high = ((30, 160), (90, 250), (10, 90))[shot % 3]
        return texture(self.height, self.width, self.seed + 10 * shot, low, high)

    def mask(self, index: int) -> Mask:
        """Where the square is in frame `index`."""
        x = (self.width - self.side) * index // max(1, self.frames - 1)
        y = (self.height - self.side) // 2
        mask = np.zeros((self.height, self.width), np.bool_)
        mask[y : y + self.side, x : x + self.side] = True
        return mask

    def image(self, index: int) -> Image:
        """Frame `index`."""
        image = self.plate(index).copy()
        mask = self.mask(index)
        image[mask] = texture(self.side, self.side, self.seed + 5, 120, 255).reshape(-1, 3)
        return image


@dataclass(frozen=True)
class Coding:
    """How a scene becomes a file."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    rate: Fraction = Fraction(25)
    time_base: Fraction | None = None
    """Default: 1 / (rate x 512), as MP4 files have it."""
    times: tuple[Fraction, ...] | None = None
    """Presentation times in seconds; default: 0, 1/rate, ..."""
    start: Fraction = Fraction(0)
    """Added to all times, of the sound too."""
    options: dict[str, str] = field(default_factory=dict)
    sound: str | None = "aac"
    sounds: int = 1
    subtitles: str | None = None
    rotation: int = 0
    """Degrees counter-clockwise that a player shall turn the picture."""
    mirror: bool = False
    interlaced: bool = False
    colours: tuple[int, int, int, int] = (0, 2, 2, 2)
    """Range, primaries, transfer, matrix: 0 and 2 = not said."""
    aspect: Fraction | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    chapters: int = 0
    attachment: bool = False
    muxer: dict[str, str] = field(default_factory=dict)
    format: str | None = None


@dataclass(frozen=True)
class Clip:
    """A file and what it must give."""

    path: Path
    scene: Scene
    coding: Coding
    times: tuple[Fraction, ...]
    """Seconds, one a frame, as they were asked for; a container may round them."""


_MATRICES = {1: 1, 6: 5, 9: 9}  # H.273 to swscale; everything else is BT.601


def native(image: Image, coding: Coding) -> av.VideoFrame:
    """Convert an RGB image to the coding's pixel format, matrix and range."""
    if coding.pix_fmt == "rgb24":
        return av.VideoFrame.from_ndarray(image, "rgb24")
    color_range, primaries, transfer, matrix = coding.colours
    full = color_range == 2 or coding.pix_fmt.startswith("yuvj")
    picture = av.VideoFrame.from_ndarray(image, "rgb24")
    if matrix in _MATRICES:
        picture.colorspace = matrix  # PyAV 17 knows no name for BT.2020 but keeps the tag
    frame = picture.reformat(
        format=coding.pix_fmt,
        dst_colorspace=_MATRICES.get(matrix, 5),
        src_color_range=2,
        dst_color_range=2 if full else 1,
    )
    frame.colorspace, frame.color_range = matrix, color_range
    frame.color_primaries, frame.color_trc = primaries, transfer
    return frame


def make(path: Path, scene: Scene = Scene(), coding: Coding = Coding()) -> Clip:
    """Encode a scene; the sound is a tone as long as the pictures."""
    rate, base = coding.rate, coding.time_base or 1 / (coding.rate * 512)
    times = coding.times or tuple(i / rate for i in range(scene.frames))
    times = tuple(t + coding.start for t in times)
    assert len(times) == scene.frames
    with av.open(str(path), "w", format=coding.format, container_options=coding.muxer) as output:
        output.metadata.update(coding.metadata)
        stream = output.add_stream(coding.codec, rate)
        stream.width, stream.height = scene.width, scene.height
        stream.pix_fmt = coding.pix_fmt
        stream.codec_context.time_base = base
        stream.codec_context.options = dict(coding.options)
        context = stream.codec_context
        context.color_range, context.color_primaries = coding.colours[:2]
        context.color_trc, context.colorspace = coding.colours[2:]
        if coding.aspect is not None:
            context.sample_aspect_ratio = coding.aspect
        if coding.rotation or coding.mirror:
            stream.set_display_rotation(coding.rotation, hflip=coding.mirror)
        if coding.interlaced:
            context.flags |= 1 << 18 | 1 << 29  # AV_CODEC_FLAG_INTERLACED_DCT, _ME
        tones = [Tone(output, coding, i) for i in range(coding.sounds if coding.sound else 0)]
        texts = output.add_mux_stream(coding.subtitles) if coding.subtitles else None
        if coding.attachment:
            output.add_attachment("font.ttf", "font/ttf", b"not really a font")
        if coding.chapters:
            length = round(1000 * (times[-1] - times[0]) / coding.chapters)
            output.set_chapters(
                [
                    {
                        "id": i + 1,
                        "start": i * length,
                        "end": (i + 1) * length,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": f"part {i}"},
                    }
                    for i in range(coding.chapters)
                ]
            )
        for index, time in enumerate(times):
            frame = native(scene.image(index), coding)
            frame.pts, frame.time_base = round(time / base), base
            with ordinary_threads():
                made = stream.encode(frame)
            output.mux(made)
            if texts is not None and index == 0:
                packet = av.Packet(_subtitle(coding.subtitles or "", "hello"))
                packet.stream = texts
                packet.time_base = Fraction(1, 1000)
                packet.pts = packet.dts = round(1000 * time)
                packet.duration = 400
                output.mux(packet)
            for tone in tones:
                tone.play(coding.start, time)
        output.mux(stream.encode(None))
        for tone in tones:
            tone.play(coding.start, times[-1] + 1 / rate)
            output.mux(tone.stream.encode(None))
    return Clip(path, scene, coding, times)


def _subtitle(codec: str, text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data if codec == "mov_text" else data


class Tone:
    """A sine, each stream at a pitch of its own."""

    def __init__(self, output: av.container.OutputContainer, coding: Coding, number: int) -> None:
        assert coding.sound is not None
        self.rate = 48000 if coding.sound in ("libopus", "mp2") else 44100
        self.stream = output.add_stream(coding.sound, self.rate)
        self.stream.layout = "stereo"
        self.stream.bit_rate = 128_000  # which one codec wants to be told
        self.output, self.pitch, self.done = output, 330 * (number + 1), 0
        if number:
            self.stream.metadata["language"] = ("deu", "fra")[number % 2]

    def play(self, start: Fraction, end: Fraction) -> None:
        """Encode up to `end` seconds."""
        size = self.stream.codec_context.frame_size or 1024
        while Fraction(self.done, self.rate) < end - start:
            at = (self.done + np.arange(size)) / self.rate
            wave = 0.4 * np.sin(2 * np.pi * self.pitch * at)
            layout = self.stream.codec_context.format.name
            if "flt" in layout:
                samples = wave.astype(np.float32)
            else:
                samples = (wave * 32767).astype(np.int16)
            both = np.stack([samples, samples])
            if not layout.endswith("p"):
                both = both.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(both, layout, "stereo")
            frame.sample_rate = self.rate
            frame.time_base = Fraction(1, self.rate)
            frame.pts = round(start * self.rate) + self.done
            with ordinary_threads():
                made = self.stream.encode(frame)
            self.output.mux(made)
            self.done += size


def uneven(frames: int, seed: int = 0) -> tuple[Fraction, ...]:
    """Times of a variable rate, whole milliseconds, 10 to 90 ms apart."""
    steps = np.random.default_rng(seed).integers(10, 90, frames)
    return tuple(Fraction(int(t), 1000) for t in np.cumsum(steps) - steps[0])


@dataclass(frozen=True)
class Packets:
    """A copied stream, as it lies in the file."""

    codec: str
    language: str | None
    times: tuple[Fraction, ...]
    data: tuple[bytes, ...]


def packets(path: Path, kind: str) -> list[Packets]:
    """All streams of a kind, packet by packet."""
    found = []
    with av.open(str(path)) as container:
        for index in [s.index for s in container.streams if s.type == kind]:
            with av.open(str(path)) as again:
                stream = again.streams[index]
                items = [p for p in again.demux(stream) if p.size]
                found.append(
                    Packets(
                        stream.codec_context.codec.canonical_name,
                        stream.language,
                        tuple((p.pts or 0) * p.time_base for p in items),
                        tuple(bytes(p) for p in items),
                    )
                )
    return found


def cut_short(path: Path, share: float = 0.6) -> Path:
    """Cut the end of a file off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def damage(path: Path, seed: int = 0, places: int = 20, skip: float = 0.3) -> Path:
    """Overwrite a few bytes after the first `skip` of a file."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(int(len(data) * skip), len(data), places):
        data[at] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(data))
    return path


def matrix_of(rotation: int) -> Sequence[int]:
    """The nine numbers of a display matrix (16.16 and 2.30) for a right angle, clockwise."""
    c, s = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation % 360]
    one = 1 << 16
    return (c * one, s * one, 0, -s * one, c * one, 0, 0, 0, 1 << 30)
