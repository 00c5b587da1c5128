"""Parameter sets of H.264 and HEVC: two encoders' pictures in one stream, each with its own sets.

A stream that is partly copied and partly encoded holds the pictures of two encoders. Each picture
names its parameter sets by number, so both live in one header as long as the numbers differ. x264
can be told a number. x265 cannot, so its own are renumbered here: in the sets themselves, and in
the slices by one inserted byte (see `renumber_hevc_slice`).

Sources: ITU-T H.264 (7.3.2.1, 7.3.2.2), ITU-T H.265 (7.3.1.2, 7.3.2.1 to 7.3.2.3, 7.3.6.1),
ISO/IEC 14496-15 (5.3.3 AVCDecoderConfigurationRecord, 8.3.3 HEVCDecoderConfigurationRecord).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from inpainterz.video.planes import Layout

AVC_IDR, AVC_SPS, AVC_PPS = 5, 7, 8
HEVC_IDR = (19, 20)
HEVC_SETS = HEVC_VPS, HEVC_SPS, HEVC_PPS = 32, 33, 34

_HEVC_HEADER = 22  # bytes of an hvcC before the number of its arrays
# of PPS ids whose code has nine bits, those that leave no byte of zeros behind
_HEVC_PPS_IDS = tuple(i for i in range(30, 14, -1) if (i + 1) & 3)


class ParameterSetError(ValueError):
    """The header or a packet is not laid out as the standard says."""


def units(data: bytes, length_size: int) -> Iterator[bytes]:
    """The NAL units of a packet in which each follows its length.

    Raises:
        ParameterSetError: a length points outside the packet.
    """
    at = 0
    while at < len(data):
        end = at + length_size
        size = int.from_bytes(data[at:end], "big")
        if end + size > len(data) or not size:
            raise ParameterSetError("a unit ends outside its packet")
        yield data[end : end + size]
        at = end + size


def units_of_stream(data: bytes) -> list[bytes]:
    """The NAL units of a packet in which each follows a start code (Annex B)."""
    found = []
    for part in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1"):
        # zeros before the next start code are not part of the unit
        if unit := part.rstrip(b"\0"):
            found.append(unit)
    return found


def packed(nal_units: Sequence[bytes], length_size: int) -> bytes:
    """The packet in which each unit follows its length."""
    return b"".join(len(u).to_bytes(length_size, "big") + u for u in nal_units)


def avc_kind(unit: bytes) -> int:
    """nal_unit_type of an H.264 unit."""
    return unit[0] & 31


def hevc_kind(unit: bytes) -> int:
    """nal_unit_type of an HEVC unit."""
    return unit[0] >> 1 & 63


# ---------------------------------------------------------------- bits


class _Bits:
    """A unit's payload as a string of bits, without the bytes that prevent start codes."""

    def __init__(self, unit: bytes) -> None:
        payload = bytearray()
        zeros = 0
        for byte in unit:
            if zeros >= 2 and byte == 3:
                zeros = 0
                continue
            zeros = zeros + 1 if byte == 0 else 0
            payload.append(byte)
        text = "".join(f"{byte:08b}" for byte in payload)
        self.text = text[: text.rindex("1")]  # without rbsp_trailing_bits
        self.at = 0

    def ue(self) -> int:
        """Read an Exp-Golomb number (H.264 9.1)."""
        one = self.text.find("1", self.at)
        width = one - self.at
        if one < 0 or width > 31:
            raise ParameterSetError("a parameter set ends too early")
        self.at = one + width + 1
        return int(self.text[one : self.at], 2) - 1


def _unit(bits: str) -> bytes:
    """The bytes of a payload: trailing bits added, start codes prevented."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    out = bytearray()
    zeros = 0
    for at in range(0, len(bits), 8):
        byte = int(bits[at : at + 8], 2)
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        zeros = zeros + 1 if byte == 0 else 0
        out.append(byte)
    return bytes(out)


def _code(number: int) -> str:
    word = f"{number + 1:b}"
    return "0" * (len(word) - 1) + word


# ---------------------------------------------------------------- H.264


@dataclass(frozen=True, slots=True)
class AvcHeader:
    """An avcC box."""

    profile: int
    compatibility: int
    level: int
    length_size: int
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]
    rest: bytes
    """Chroma format and bit depths of the high profiles."""

    @staticmethod
    def of(data: bytes) -> AvcHeader:
        """Read an avcC.

        Raises:
            ParameterSetError: it is not one.
        """
        if len(data) < 7 or data[0] != 1:
            raise ParameterSetError("not an avcC")
        at = 5
        lists: list[list[bytes]] = []
        for mask in (31, 255):
            if at >= len(data):
                raise ParameterSetError("an avcC ends too early")
            count, at = data[at] & mask, at + 1
            found = []
            for _ in range(count):
                size = int.from_bytes(data[at : at + 2], "big")
                unit = data[at + 2 : at + 2 + size]
                if len(unit) < max(size, 4 if mask == 31 else 2):
                    raise ParameterSetError("an avcC ends too early")
                found.append(unit)
                at += 2 + size
            lists.append(found)
        sps, pps = lists
        return AvcHeader(
            data[1], data[2], data[3], (data[4] & 3) + 1, tuple(sps), tuple(pps), data[at:]
        )

    def boxed(self) -> bytes:
        """The box's content."""
        out = bytearray(
            (1, self.profile, self.compatibility, self.level, 252 | self.length_size - 1)
        )
        for top, found in ((224, self.sps), (0, self.pps)):
            out.append(top | len(found))
            for unit in found:
                out += len(unit).to_bytes(2, "big") + unit
        return bytes(out) + self.rest

    @staticmethod
    def of_stream(data: bytes, layout: Layout) -> AvcHeader:
        """The avcC for parameter sets that follow start codes.

        Args:
            data: they.
            layout: of the pictures, for what the high profiles add.

        Raises:
            ParameterSetError: one is missing.
        """
        found = units_of_stream(data)
        sps = tuple(u for u in found if avc_kind(u) == AVC_SPS and len(u) > 3)
        pps = tuple(u for u in found if avc_kind(u) == AVC_PPS)
        if not sps or not pps:
            raise ParameterSetError("there is no parameter set")
        rest = b""
        if sps[0][1] not in (66, 77, 88):
            chroma = 0 if layout.colours == "grey" else 3 - layout.shift_x - layout.shift_y
            rest = bytes((252 | chroma, 248 | layout.bits - 8, 248 | layout.bits - 8, 0))
        return AvcHeader(sps[0][1], sps[0][2], max(u[3] for u in sps), 4, sps, pps, rest)

    def free_id(self) -> int:
        """A number that is taken neither by a sequence's set nor by a picture's.

        Raises:
            ParameterSetError: all are taken.
        """
        taken = {avc_sps_id(u) for u in self.sps} | {avc_pps_id(u) for u in self.pps}
        free = [i for i in range(1, 32) if i not in taken]
        if not free or len(self.sps) > 30 or len(self.pps) > 254:
            raise ParameterSetError("no number is free for another parameter set")
        return free[0]

    def with_sets(self, extra: Sequence[bytes]) -> AvcHeader:
        """The header that also holds another encoder's sets."""
        sps = [u for u in extra if avc_kind(u) == AVC_SPS]
        pps = [u for u in extra if avc_kind(u) == AVC_PPS]
        compatibility = self.compatibility
        for unit in sps:  # a constraint is told where all keep it
            compatibility &= unit[2]
        return replace(
            self,
            compatibility=compatibility,
            level=max([self.level, *(u[3] for u in sps)]),
            sps=(*self.sps, *sps),
            pps=(*self.pps, *pps),
        )


def avc_sps_id(unit: bytes) -> int:
    """seq_parameter_set_id of a sequence's set."""
    bits = _Bits(unit[:40])
    bits.at = 32  # the unit's header, profile, constraints and level
    return bits.ue()


def avc_pps_id(unit: bytes) -> int:
    """pic_parameter_set_id of a picture's set."""
    bits = _Bits(unit[:40])
    bits.at = 8
    return bits.ue()


# ---------------------------------------------------------------- HEVC


@dataclass(frozen=True, slots=True)
class HevcHeader:
    """An hvcC box."""

    head: bytes
    """All before the arrays."""
    arrays: tuple[tuple[int, tuple[bytes, ...]], ...]
    """(completeness and kind as stored, units)."""

    @staticmethod
    def of(data: bytes) -> HevcHeader:
        """Read an hvcC.

        Raises:
            ParameterSetError: it is not one.
        """
        if len(data) <= _HEVC_HEADER or data[0] != 1:
            raise ParameterSetError("not an hvcC")
        at = _HEVC_HEADER + 1
        arrays = []
        for _ in range(data[_HEVC_HEADER]):
            kind, count = data[at : at + 1], int.from_bytes(data[at + 1 : at + 3], "big")
            at += 3
            found = []
            for _ in range(count):
                size = int.from_bytes(data[at : at + 2], "big")
                unit = data[at + 2 : at + 2 + size]
                if len(unit) < max(size, 3):
                    raise ParameterSetError("an hvcC ends too early")
                found.append(unit)
                at += 2 + size
            if not kind:
                raise ParameterSetError("an hvcC ends too early")
            arrays.append((kind[0], tuple(found)))
        return HevcHeader(data[:_HEVC_HEADER], tuple(arrays))

    @staticmethod
    def of_stream(data: bytes, layout: Layout) -> HevcHeader:
        """The hvcC for parameter sets that follow start codes.

        Args:
            data: they.
            layout: of the pictures.

        Raises:
            ParameterSetError: one is missing.
        """
        found = units_of_stream(data)
        arrays = tuple(
            (128 | kind, tuple(u for u in found if hevc_kind(u) == kind))
            for kind in (HEVC_VPS, HEVC_SPS, HEVC_PPS)
        )
        if not all(kept for _, kept in arrays):
            raise ParameterSetError("a parameter set is missing")
        text = _Bits(arrays[1][1][0]).text
        if len(text) < 24 + 96:
            raise ParameterSetError("a parameter set ends too early")
        profile_to_level = int(text[24 : 24 + 96], 2).to_bytes(12, "big")
        chroma = 0 if layout.colours == "grey" else 3 - layout.shift_x - layout.shift_y
        layers, nested = int(text[20:23], 2) + 1, int(text[23])
        depth = 248 | layout.bits - 8
        head = (
            b"\x01"
            + profile_to_level
            # no least segmentation, no parallelism, no rate told; lengths of four bytes
            + bytes((240, 0, 252, 252 | chroma, depth, depth, 0, 0, layers << 3 | nested << 2 | 3))
        )
        return HevcHeader(head, arrays)

    def boxed(self) -> bytes:
        """The box's content."""
        out = bytearray(self.head)
        out.append(len(self.arrays))
        for kind, found in self.arrays:
            out += bytes((kind,)) + len(found).to_bytes(2, "big")
            for unit in found:
                out += len(unit).to_bytes(2, "big") + unit
        return bytes(out)

    @property
    def length_size(self) -> int:
        """Bytes of a unit's length."""
        return (self.head[21] & 3) + 1

    def sets(self) -> tuple[bytes, ...]:
        """All its units."""
        return tuple(unit for _, found in self.arrays for unit in found)

    def with_sets(self, extra: Sequence[bytes]) -> HevcHeader:
        """The header that also holds another encoder's sets."""
        left = list(extra)
        arrays = []
        for kind, found in self.arrays:
            same = [u for u in left if hevc_kind(u) == kind & 63]
            left = [u for u in left if u not in same]
            arrays.append((kind, (*found, *same)))
        for unit in left:
            arrays.append((128 | hevc_kind(unit), (unit,)))
        head = bytearray(self.head)
        for unit in extra:
            if hevc_kind(unit) == HEVC_SPS:  # general_level_idc, before the set's number
                head[12] = max(head[12], _hevc_level(unit))
        return replace(self, head=bytes(head), arrays=tuple(arrays))


@dataclass(frozen=True, slots=True)
class HevcIds:
    """The numbers that another encoder's sets are given."""

    vps: int
    sps: int
    pps: int


def hevc_id(unit: bytes) -> int:
    """The number of a video's, sequence's or picture's set."""
    bits = _Bits(unit)
    kind = hevc_kind(unit)
    if kind == HEVC_VPS:
        return int(bits.text[16:20], 2)
    bits.at = 16 if kind == HEVC_PPS else _hevc_sps_at(bits)
    return bits.ue()


def _hevc_sps_at(bits: _Bits) -> int:
    """Where sps_seq_parameter_set_id begins: after the profile, tier and levels."""
    layers = int(bits.text[20:23], 2)  # sps_max_sub_layers_minus1
    at = 24 + 88 + 8
    if not layers:
        return at
    flags = bits.text[at : at + 2 * layers]
    at += 16  # the flags, filled up to eight pairs
    for layer in range(layers):
        at += 88 * int(flags[2 * layer]) + 8 * int(flags[2 * layer + 1])
    return at


def _hevc_level(unit: bytes) -> int:
    return int(_Bits(unit).text[24 + 88 : 24 + 96], 2)


def hevc_free_ids(header: HevcHeader) -> HevcIds:
    """Numbers that none of the header's sets has.

    Raises:
        ParameterSetError: all are taken.
    """
    taken: dict[int, set[int]] = {HEVC_VPS: set(), HEVC_SPS: set(), HEVC_PPS: set()}
    for unit in header.sets():
        if (kind := hevc_kind(unit)) in taken:
            taken[kind].add(hevc_id(unit))
    choices = ((HEVC_VPS, range(1, 16)), (HEVC_SPS, range(1, 16)), (HEVC_PPS, _HEVC_PPS_IDS))
    free = [next((i for i in ids if i not in taken[kind]), None) for kind, ids in choices]
    vps, sps, pps = free
    if vps is None or sps is None or pps is None:
        raise ParameterSetError("no number is free for another parameter set")
    return HevcIds(vps, sps, pps)


def renumber_hevc_set(unit: bytes, ids: HevcIds) -> bytes:
    """A set of x265's, whose numbers are all 0, with other numbers."""
    bits = _Bits(unit)
    text, kind = bits.text, hevc_kind(unit)
    if kind == HEVC_VPS:
        return _unit(text[:16] + f"{ids.vps:04b}" + text[20:])
    if kind == HEVC_SPS:
        at = _hevc_sps_at(bits)
        _expect_zero(text, at)
        return _unit(text[:16] + f"{ids.vps:04b}" + text[20:at] + _code(ids.sps) + text[at + 1 :])
    _expect_zero(text, 16)
    _expect_zero(text, 17)
    return _unit(text[:16] + _code(ids.pps) + _code(ids.sps) + text[18:])


def renumber_hevc_slice(unit: bytes, pps: int) -> bytes:
    """A slice of x265's, which names picture set 0, made to name set `pps`.

    The number 0 has a code of one bit and the numbers 15 to 30 one of nine, so exactly one byte
    more stands in the header and all that follows keeps its place within the bytes: neither the
    alignment of the slice's data nor its entry points change. The two new bytes are not 0, so no
    start code can come of them.
    """
    before = 2 if 16 <= hevc_kind(unit) <= 23 else 1  # no_output_of_prior_pics_flag of an IRAP
    text = f"{unit[2]:08b}"
    _expect_zero(text, before)
    text = text[:before] + _code(pps) + text[before + 1 :]
    return unit[:2] + int(text, 2).to_bytes(2, "big") + unit[3:]


def _expect_zero(text: str, at: int) -> None:
    if text[at : at + 1] != "1":
        raise ParameterSetError("the encoder gave its parameter sets other numbers than 0")
