"""Tell a Matroska file how wide its pixels are, which FFmpeg's muxer is not told through PyAV.

The ratio stands in the header of the pictures' track. The header grows by a few bytes, for which
the muxer's own padding behind the list of contents gives way: nothing behind the header moves.

Sources: RFC 8794 (EBML: variable-size integers, CRC-32), RFC 9559 (Matroska: SeekHead, Tracks,
DisplayWidth, DisplayHeight, DisplayUnit).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

_SEGMENT, _SEEK_HEAD, _TRACKS, _VOID, _CRC = 0x18538067, 0x114D9B74, 0x1654AE6B, 0xEC, 0xBF
_SEEK, _SEEK_POSITION = 0x4DBB, 0x53AC
_TRACK, _TRACK_TYPE, _VIDEO = 0xAE, 0x83, 0xE0
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_HEAD_BYTES = 2**22  # in which the header lies; attachments come behind it
_PIXELS, _RATIO = 0, 3  # units


@dataclass(frozen=True, slots=True)
class _Element:
    number: int
    start: int
    """Of its number."""
    content: int
    end: int

    def size_bytes(self, data: bytes) -> int:
        """How many bytes its size is written in."""
        return self.content - self.start - _width(data[self.start])


def _width(first: int) -> int:
    return 9 - first.bit_length() if first else 9


def _elements(data: bytes, at: int, end: int) -> Iterator[_Element]:
    while at < end:
        number_end = at + _width(data[at])
        number = int.from_bytes(data[at:number_end], "big")
        content = number_end + _width(data[number_end])
        size = int.from_bytes(data[number_end:content], "big")
        size &= (1 << 7 * (content - number_end)) - 1
        yield _Element(number, at, content, content + size)
        at = content + size


def _made(number: int, content: bytes, size_bytes: int = 0) -> bytes:
    """An element; its size in at least so many bytes."""
    width = max(1, size_bytes)
    while len(content) >= (1 << 7 * width) - 1:
        width += 1
    size = (len(content) | 1 << 7 * width).to_bytes(width, "big")
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + size + content


def _number(number: int, value: int) -> bytes:
    return _made(number, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _checked(content: bytes) -> bytes:
    """A master's content with its checksum, if it begins with one, made right."""
    if content[:2] != bytes((_CRC, 0x84)):
        return content
    return content[:2] + zlib.crc32(content[6:]).to_bytes(4, "little") + content[6:]


def set_pixel_aspect(path: Path, size: tuple[int, int], aspect: Fraction) -> bool:
    """Write how wide a pixel is over its height into a file that FFmpeg made.

    Args:
        path: a Matroska or WebM file, complete; it is changed in place.
        size: (height, width) as stored.
        aspect: width of a pixel over its height.

    Returns:
        Whether it could be written: there must be padding enough.
    """
    with path.open("r+b") as file:
        data = file.read(_HEAD_BYTES)
        changed = _with_aspect(data, size, aspect)
        if changed is None:
            return False
        file.seek(0)
        file.write(changed)
    return True


def _with_aspect(data: bytes, size: tuple[int, int], aspect: Fraction) -> bytes | None:
    segment = next((e for e in _elements(data, 0, len(data)) if e.number == _SEGMENT), None)
    if segment is None:
        return None
    found: dict[int, _Element] = {}
    for element in _elements(data, segment.content, min(segment.end, len(data))):
        found.setdefault(element.number, element)
        if element.number == _TRACKS:
            break
    if not {_SEEK_HEAD, _VOID, _TRACKS} <= found.keys() or found[_TRACKS].end > len(data):
        return None
    seek_head, void, tracks = found[_SEEK_HEAD], found[_VOID], found[_TRACKS]
    if not seek_head.end <= void.start < void.end <= tracks.start:
        return None
    new_tracks = _new_tracks(data, tracks, size, aspect)
    growth = len(new_tracks) - (tracks.end - tracks.start)
    padding = void.end - void.content - growth
    if padding < 0:
        return None
    positions = bytearray(data[seek_head.content : seek_head.end])
    for entry in _elements(data, seek_head.content, seek_head.end):
        if entry.number != _SEEK:
            continue
        for part in _elements(data, entry.content, entry.end):
            place = int.from_bytes(data[part.content : part.end], "big")
            moved = void.end <= segment.content + place <= tracks.start
            if part.number == _SEEK_POSITION and moved:
                at = part.content - seek_head.content
                width = part.end - part.content
                positions[at : at + width] = (place - growth).to_bytes(width, "big")
    parts = (
        data[: seek_head.content],
        _checked(bytes(positions)),
        data[seek_head.end : void.start],
        _made(_VOID, bytes(padding), void.size_bytes(data)),
        data[void.end : tracks.start],
        new_tracks,
    )
    result = b"".join(parts)
    return result if len(result) == tracks.end else None


def _new_tracks(data: bytes, tracks: _Element, size: tuple[int, int], aspect: Fraction) -> bytes:
    out = []
    for track in _elements(data, tracks.content, tracks.end):
        parts = list(_elements(data, track.content, track.end)) if track.number == _TRACK else []
        kinds = [data[p.content] for p in parts if p.number == _TRACK_TYPE]
        if kinds != [1]:  # not the pictures
            out.append(data[track.start : track.end])
            continue
        content = b"".join(
            _new_video(data, part, size, aspect)
            if part.number == _VIDEO
            else data[part.start : part.end]
            for part in parts
        )
        out.append(_made(_TRACK, content, track.size_bytes(data)))
    return _made(_TRACKS, _checked(b"".join(out)), tracks.size_bytes(data))


def _new_video(data: bytes, video: _Element, size: tuple[int, int], aspect: Fraction) -> bytes:
    height, width = size
    replaced = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
    kept = [
        data[part.start : part.end]
        for part in _elements(data, video.content, video.end)
        if part.number not in replaced
    ]
    shown = width * aspect
    if shown.denominator == 1:
        numbers = (shown.numerator, height, _PIXELS)
    else:
        ratio = Fraction(width, height) * aspect
        numbers = (ratio.numerator, ratio.denominator, _RATIO)
    told = [_number(n, v) for n, v in zip(replaced, numbers, strict=True) if v]
    return _made(_VIDEO, b"".join([*kept, *told]), video.size_bytes(data))
