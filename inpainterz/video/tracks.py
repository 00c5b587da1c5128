"""The source's other streams: sound, subtitles, data and attachments, muxed beside the pictures.

They are copied packet by packet. Sound that the container does not take is encoded anew, as Opus
in WebM and as AAC elsewhere; what cannot be carried at all is told in a sentence.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
from av.stream import Disposition

from inpainterz.errors import VideoDecodeError
from inpainterz.video.reader import VideoReader, open_container, packets_of

_log = logging.getLogger(__name__)

_LOCATION = ("location", "com.apple.quicktime.location", "gps", "xyz")
_LOCATED_DATA = ("gopro met", "camm", "dji meta")  # handlers of telemetry: positions in time
_STRUCTURAL = (
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "software",
    "duration",
)
_SUBSTITUTES = {
    "webm": ("libopus", "opus"),
    "mp4": ("aac", "aac"),
    "mov": ("aac", "aac"),
    "matroska": ("aac", "aac"),
}
_BITS_PER_CHANNEL = 128_000  # a second: no difference to be heard in either codec


def kept(metadata: dict[str, str], keep_location: bool) -> dict[str, str]:
    """The entries of a container's or stream's metadata that go into the result."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STRUCTURAL
        and (keep_location or not any(word in key.lower() for word in _LOCATION))
    }


class Tracks:
    """The source's other streams, read as the pictures are written."""

    def __init__(
        self,
        like: VideoReader,
        output: av.container.OutputContainer,
        container: str,
        keep_location: bool,
    ) -> None:
        self.dropped: list[str] = []
        """What could not be carried over, a sentence each."""
        self._output, self._container, self._keep_location = output, container, keep_location
        self._like = like
        self._source = open_container(like.path, like.limits)
        self.templates: tuple[av.stream.Stream, ...] = tuple(self._source.streams)
        self.metadata = kept(self._source.metadata, keep_location)
        if not keep_location and len(kept(self._source.metadata, True)) > len(self.metadata):
            self.dropped.append("the place where it was filmed, which is private")
        self._chapters = self._source.chapters()
        self._targets: dict[int, av.stream.Stream] = {}
        self._encoders: dict[int, _Sound] = {}
        self._packets: Iterator[av.Packet[av.stream.Stream]] | None = None
        self._held: av.Packet[av.stream.Stream] | None = None

    def add(self, template: av.stream.Stream) -> None:
        """Add a stream to the output if its container takes it."""
        what = f"{template.type} stream {template.index}"
        name = getattr(template.codec_context, "name", None) or _name(template) or "unknown"
        if isinstance(template, av.VideoStream):
            if not self._add_cover(template):
                self.dropped.append(f"{what} (another picture) is not kept")
            return
        if self._chapters and _name(template) == "bin_data":
            return  # MP4 keeps the chapters' titles as a stream; the muxer makes a new one
        if template.type == "data" and self._is_timecode(template):
            return  # likewise: the pictures' metadata has it, and the muxer makes a stream of that
        handler = template.metadata.get("handler_name", "").strip()
        located = any(word in handler.lower() for word in _LOCATED_DATA)
        if template.type == "data" and located and not self._keep_location:
            self.dropped.append(f"{what} ({handler}), which tells where it was filmed: private")
            return
        try:
            if not self._carried(template):
                raise ValueError("the container does not take it")
            target = self._add(self._output, template)
        except (av.error.FFmpegError, ValueError) as error:
            _log.debug("%s: %s", what, error)
            self.dropped.append(f"{what} ({name}) does not go into {self._container}")
            self._encode(template)
            return
        target.metadata.update(kept(template.metadata, self._keep_location))
        target.disposition = template.disposition
        self._targets[template.index] = target

    def _add_cover(self, template: av.VideoStream) -> bool:
        """Carry a still picture that belongs to the file; False: it is not one, or has no place."""
        codec = getattr(template.codec_context, "name", "")
        ending = {"mjpeg": "jpg", "png": "png"}.get(codec)
        if not template.disposition & Disposition.attached_pic or ending is None:
            return False
        if self._container == "matroska":
            with open_container(self._like.path, self._like.limits) as source:
                stream = source.streams[template.index]
                packet = next((p for p in packets_of(source, stream) if p.size), None)
            if packet is None:
                return False
            kind = "jpeg" if ending == "jpg" else ending
            self._output.add_attachment(f"cover.{ending}", f"image/{kind}", bytes(packet))
            return True
        if self._container != "mp4":
            return False
        target = self._output.add_stream_from_template(template, opaque=True)
        target.disposition = template.disposition
        self._targets[template.index] = target
        return True

    def lost_words(self, result: Path) -> tuple[str, ...]:
        """Which entries of the source's metadata a file has not."""
        with open_container(result, self._like.limits) as container:
            there = {key.lower() for key in container.metadata}
            for stream in container.streams.video:  # which MOV keeps the timecode with
                there |= {key.lower() for key in stream.metadata}
        return tuple(
            sorted(
                key
                for key in self.metadata
                if key.lower() not in there and key.lower().partition("-")[0] not in there
            )
        )

    def _is_timecode(self, template: av.stream.Stream) -> bool:
        start = template.metadata.get("timecode")
        pictures = self.templates[self._like.stream_index]
        return start is not None and pictures.metadata.get("timecode") == start

    def _encode(self, template: av.stream.Stream) -> None:
        """Have a sound that cannot be copied encoded anew, where it can be decoded."""
        encoder, name = _SUBSTITUTES.get(self._container, (None, None))
        if encoder is None or not isinstance(template, av.AudioStream):
            return
        if getattr(template.codec_context, "codec", None) is None or not template.rate:
            return
        target = self._output.add_stream(encoder, 48_000 if name == "opus" else template.rate)
        assert isinstance(target, av.AudioStream)
        channels = template.codec_context.channels
        target.layout = {1: "mono", 2: "stereo"}.get(channels, template.layout.name)
        if target.layout.nb_channels != channels or (name == "opus" and channels > 2):
            target.layout = "stereo"
        target.bit_rate = _BITS_PER_CHANNEL * target.layout.nb_channels
        target.metadata.update(kept(template.metadata, self._keep_location))
        target.disposition = template.disposition
        self._targets[template.index] = target
        self._encoders[template.index] = _Sound(template, target)
        self.dropped[-1] += f": it is encoded as {name}"

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
                with open_container(self._like.path, self._like.limits) as source:
                    stream = source.streams[template.index]
                    if template.type != "attachment":
                        packet = next((p for p in packets_of(source, stream) if p.size), None)
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
        lying = []
        for chapter in self._chapters:
            base = chapter["time_base"] or Fraction(1)
            first, last = chapter["start"] * base, chapter["end"] * base
            if last <= start or first >= end:
                continue
            shift = round(start / base)
            chapter["start"] = max(0, chapter["start"] - shift)
            chapter["end"] = chapter["end"] - shift
            lying.append(chapter)
        if lying:
            self._output.set_chapters(lying)

    def mux_until(self, end: Fraction | None, shift: Fraction) -> None:
        """Mux what comes before `end` seconds (None: everything), `shift` seconds earlier.

        Packets before `shift` are left out.
        """
        if not self._targets:
            return
        if self._packets is None:
            self._packets = packets_of(
                self._source, *[s for s in self.templates if s.index in self._targets]
            )
        while True:
            packet = self._held or self._next_packet()
            self._held = None
            if packet is None:
                for last in self._encoders.values():
                    self._output.mux(last.encoded(None, Fraction(0)))
                self._encoders.clear()
                return
            time = packet.dts if packet.dts is not None else packet.pts
            is_cover = self.templates[packet.stream_index].type == "video"
            if is_cover:
                packet.pts = packet.dts = 0
                packet.stream = self._targets[packet.stream_index]
                self._output.mux(packet)
                continue
            if time is None:
                continue
            seconds = time * packet.time_base - shift
            if end is not None and seconds > end:
                self._held = packet
                return
            if shift and seconds < 0:
                continue
            if sound := self._encoders.get(packet.stream_index):
                self._output.mux(sound.encoded(packet, shift))
                continue
            if shift:
                ticks = round(shift / packet.time_base)
                packet.dts = None if packet.dts is None else packet.dts - ticks
                packet.pts = None if packet.pts is None else packet.pts - ticks
            target = self._targets[packet.stream_index]
            if target.type == "data" and not packet.duration:
                packet.duration = 1  # MOV's edit list would end before a last packet without one
            packet.stream = target
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
        """Close the source."""
        self._source.close()


def _name(stream: av.stream.Stream) -> str | None:
    name = getattr(stream, "name", None)  # streams of sound that nothing decodes have none
    return None if name is None else str(name)


class _Sound:
    """One stream of sound, decoded and encoded anew at the source's times."""

    def __init__(self, source: av.AudioStream, target: av.AudioStream) -> None:
        self._source, self._target = source, target
        self._resampler: Any = None

    def encoded(
        self, packet: av.Packet[av.stream.Stream] | None, shift: Fraction
    ) -> list[av.Packet[av.AudioStream]]:
        """The packets that a packet of the source gives, `shift` seconds earlier; None ends it."""
        context = self._target.codec_context
        if self._resampler is None:
            context.open(strict=False)
            self._resampler = av.AudioResampler(
                context.format, context.layout, context.sample_rate, context.frame_size or 1024
            )
        found: list[av.Packet[av.AudioStream]] = []
        try:
            frames = self._source.decode(packet)
        except av.error.FFmpegError as error:
            _log.debug("sound: %s", error)  # a packet that is lost is a gap
            frames = []
        for frame in [*frames, *([None] if packet is None else [])]:
            if frame is not None and frame.pts is not None and frame.time_base:
                frame.pts -= round(shift / frame.time_base)
            for resampled in self._resampler.resample(frame):
                found += self._target.encode(resampled)
        if packet is None:
            found += self._target.encode(None)
        return found
