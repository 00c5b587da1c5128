"""Which parts of a clip can be copied as they lie in the source, and how the others join them.

A clip is cut into groups of pictures that need nothing from outside: each begins with a key frame
that clears the decoder, and holds all frames shown from there up to the next. Groups without a hole
are copied packet by packet. Of a group with a hole, what comes before the first hole is copied as
far as it needs nothing after it; the rest is encoded anew, up to the next group. The encoder's
pictures must mean the same to a decoder wherever they stand, which each codec's `Joint` sees to.
Where that cannot be had, `plan` says why, and everything is encoded.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import av
import av.container
import av.error
import numpy as np
import numpy.typing as npt
from av.stream import Discard

from inpainterz.video import parameter_sets as sets
from inpainterz.video.parameter_sets import AvcHeader, HevcHeader, ParameterSetError
from inpainterz.video.planes import workable
from inpainterz.video.reader import VideoInfo, VideoReader, open_container, packets_of

Times: TypeAlias = npt.NDArray[np.int64]
"""(N,) int64: a time for each packet in the clip's time base, or numbers of packets."""

_H264_PROFILES = {
    66: "baseline",
    77: "main",
    100: "high",
    110: "high10",
    122: "high422",
    244: "high444",
}
_PREFIXED = ("mov", "matroska", "flv")
"""Containers in which a unit follows its length, and the parameter sets stand in the header."""


class CannotSplice(Exception):
    """Why nothing can be copied, as the end of a sentence."""


class Joint(Protocol):
    """How one codec's encoded pictures stand among copied ones."""

    encoder_options: Mapping[str, str]
    """Added to the encoder's; those in "x264-params" and "x265-params" are joined by ":"."""

    def is_entry(self, packet: bytes) -> bool:
        """Whether a key frame's packet clears the decoder, so that a group may begin with it."""
        ...

    def watch(self, packet: bytes) -> None:
        """Look at a packet of the source. Raises CannotSplice where it rules copying out."""
        ...

    def header(self, encoder: bytes | None) -> bytes | None:
        """The joint file's header from the encoder's. Raises CannotSplice if there is none."""
        ...

    def copied(self, packet: bytes) -> bytes | None:
        """A packet of the source as it must stand in the joint file; None = as it is."""
        ...

    def converted(self, packet: bytes) -> bytes:
        """An encoder's packet as it must stand in the joint file."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The groups of a clip. Packets are counted in the order of the file."""

    starts: Times
    """First packet of each group, which is its first frame too: a group's frames are as many as
    its packets, and are shown before the next group's."""
    dts: Times
    """Time of storing of each packet; the encoder's packets take over those of the ones they
    replace."""
    cuts: Times
    """Packets before which the copy of a group may end: all stored so far is shown before it."""
    joint: Joint
    may_reorder: bool
    """Whether the encoder may keep one picture back: its times of storing leave room for it."""

    def cut_before(self, frame: int, first: int) -> int:
        """Where the copy of the group that begins with `first` ends, if `frame` has a hole."""
        at = int(np.searchsorted(self.cuts, frame, "right")) - 1
        return max(first, int(self.cuts[at])) if at >= 0 else first

    def group(self, number: int) -> tuple[int, int]:
        """First frame, and the one after the last, of a group."""
        after = number + 1
        stop = self.starts[after] if after < len(self.starts) else len(self.dts)
        return int(self.starts[number]), int(stop)


def plan(like: VideoReader, codec: str) -> Plan:
    """Cut a clip into groups that can be copied.

    Args:
        like: the source.
        codec: what the result is encoded with.

    Raises:
        CannotSplice: nothing can be copied; it says why.
        VideoError: the source cannot be read.
    """
    if codec != like.info.codec:
        raise CannotSplice(f"the source is {like.info.codec} and the result {codec}")
    if like.interlaced:
        raise CannotSplice("the source is interlaced, and is deinterlaced")
    if not like.has_exact_times:
        raise CannotSplice(f"{like.info.container} does not tell when each picture is shown")
    shown_at, stored_at = array("q"), array("q")  # a list would take four times as much
    has_stored = True
    entries = array("q")
    with open_container(like.path) as container:
        stream = container.streams[like.stream_index]
        assert isinstance(stream, av.VideoStream)
        joint = _joint(codec, like.info, stream.codec_context.extradata)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        try:
            for packet in packets_of(container, stream):
                if not packet.size:
                    continue
                if packet.is_discard:
                    raise CannotSplice("an edit list hides some of its frames")
                if packet.has_sidedata("new_extradata"):
                    raise CannotSplice("its header changes on the way")
                if packet.pts is None:
                    raise CannotSplice("some of its frames have no time")
                data = bytes(packet)
                joint.watch(data)
                if packet.is_keyframe and joint.is_entry(data):
                    entries.append(len(shown_at))
                shown_at.append(packet.pts)
                has_stored = has_stored and packet.dts is not None
                stored_at.append(packet.dts or 0)
        except (av.error.FFmpegError, ParameterSetError) as error:
            raise CannotSplice("its packets are damaged") from error
    pts = np.array(shown_at, np.int64)
    shown = np.sort(pts)
    if not np.array_equal(shown, like.pts):
        raise CannotSplice("it holds frames that are not shown")
    starts, cuts = _closed(entries, pts, apart=codec == "h264")
    if not len(starts) or (len(starts) < 2 and not len(cuts)):
        raise CannotSplice("it has no group of pictures that stands for itself")
    dts = _storing_times(pts, np.array(stored_at, np.int64) if has_stored else None, shown)
    return Plan(starts, dts, cuts, joint, bool((dts[1:] <= shown[:-1]).all()))


def _closed(entries: Sequence[int], pts: Times, *, apart: bool) -> tuple[Times, Times]:
    """Where groups begin, and where their copies may end.

    Before either, everything shown earlier is stored, and nothing shown later.

    H.264 wants key frames that clear the decoder `apart`: of two in a row each must have a number
    (idr_pic_id) other than the other's, and two encoders do not agree on them.
    """
    after = np.minimum.accumulate(pts[::-1])[::-1]  # least time from here on
    before = np.maximum.accumulate(pts)  # greatest time up to here
    none = np.zeros(0, np.int64)
    if not entries or entries[0] != 0 or after[0] != pts[0]:
        return none, none
    keys = np.asarray(entries, np.int64)
    clean = np.concatenate([[False], before[:-1] < after[1:]])
    joins = clean & (after == pts)
    if apart:
        clean[keys[keys + 1 < len(pts)] + 1] = False
        joins &= clean
        joins[keys[keys > 0] - 1] = False
    joins[0] = True
    return keys[joins[keys]], np.flatnonzero(clean)


def _storing_times(pts: Times, dts: Times | None, shown: Times) -> Times:
    """When each packet is stored: as the source says, or made up where it does not say it well."""
    if dts is not None and (dts[1:] > dts[:-1]).all() and (dts <= pts).all():
        return dts
    delay = int((np.arange(len(pts)) - np.searchsorted(shown, pts)).max())
    step = max(1, int(shown[1] - shown[0])) if len(shown) > 1 else 1
    lead = shown[0] - step * np.arange(delay, 0, -1)
    return np.concatenate([lead, shown])[: len(pts)]


def _joint(codec: str, info: VideoInfo, extradata: bytes | None) -> Joint:
    container = info.container
    if codec in ("h264", "hevc"):
        is_stream = (extradata or b"")[:3] in (b"\0\0\1", b"\0\0\0")
        is_prefixed = container in _PREFIXED and (extradata or b"")[:1] == b"\x01"
        if not extradata or not (is_stream or is_prefixed):
            raise CannotSplice(f"{codec} in {container} lies in another form than in the result")
        try:
            layout = workable(info.pix_fmt)
            if codec == "h264" and is_stream:
                return _Avc(AvcHeader.of_stream(extradata, layout), is_prefixed=False)
            if codec == "h264":
                return _Avc(AvcHeader.of(extradata), is_prefixed=True)
            if is_stream:
                return _Hevc(HevcHeader.of_stream(extradata, layout), is_prefixed=False)
            return _Hevc(HevcHeader.of(extradata), is_prefixed=True)
        except (ParameterSetError, IndexError, ValueError) as error:
            raise CannotSplice("its header cannot be read") from error
    if codec == "vp9":
        return _SelfContained({})
    if codec == "prores":
        return _SelfContained({})
    if codec == "av1":
        return _Av1(extradata or b"")
    raise CannotSplice(f"{codec} keeps what a decoder must know in one header for all pictures")


class _SelfContained:
    """A codec whose key frames tell everything: VP9, ProRes."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.encoder_options = options

    def is_entry(self, packet: bytes) -> bool:
        return True

    def watch(self, packet: bytes) -> None:
        return

    def header(self, encoder: bytes | None) -> bytes | None:
        return None

    def copied(self, packet: bytes) -> bytes | None:
        return None

    def converted(self, packet: bytes) -> bytes:
        return packet


class _Av1(_SelfContained):
    """AV1: a track has one sequence header (AV1 in ISOBMFF 2.3, in Matroska 4.1), so the encoder
    must happen to write the very same one."""

    def __init__(self, extradata: bytes) -> None:
        super().__init__({})
        self._own = extradata[4:] if extradata[:1] == b"\x81" else extradata  # without the av1C

    def header(self, encoder: bytes | None) -> bytes | None:
        theirs = encoder or b""
        theirs = theirs[4:] if theirs[:1] == b"\x81" else theirs
        if not self._own or self._own != theirs:
            raise CannotSplice("an AV1 track has one sequence header, and the encoder's is another")
        return None


class _Avc:
    """H.264: both encoders' parameter sets stand in the header, under different numbers.

    In a transport stream units follow start codes; their copies follow their lengths, as in all
    that is written here. The units themselves stay as they are.
    """

    def __init__(self, header: AvcHeader, *, is_prefixed: bool) -> None:
        self._own, self._is_prefixed = header, is_prefixed
        profile = _H264_PROFILES.get(self._own.profile)
        if profile is None:
            raise CannotSplice(f"its H.264 profile {self._own.profile} is not encoded here")
        self.encoder_options: Mapping[str, str] = {
            "profile": profile,
            "x264-params": f"sps-id={self._own.free_id()}",
        }

    def _units(self, packet: bytes) -> Iterable[bytes]:
        if self._is_prefixed:
            return sets.units(packet, self._own.length_size)
        return sets.units_of_stream(packet)

    def copied(self, packet: bytes) -> bytes | None:
        if self._is_prefixed:
            return None
        return sets.packed(sets.units_of_stream(packet), self._own.length_size)

    def is_entry(self, packet: bytes) -> bool:
        for unit in self._units(packet):
            if 1 <= sets.avc_kind(unit) <= 5:
                return sets.avc_kind(unit) == sets.AVC_IDR
        return False

    def watch(self, packet: bytes) -> None:
        known = (*self._own.sps, *self._own.pps)
        for unit in self._units(packet):
            if sets.avc_kind(unit) in (sets.AVC_SPS, sets.AVC_PPS) and unit not in known:
                raise CannotSplice("its parameter sets change on the way")

    def header(self, encoder: bytes | None) -> bytes | None:
        extra = sets.units_of_stream(encoder or b"")
        if any(sets.avc_kind(u) == sets.AVC_SPS and u[1] > self._own.profile for u in extra):
            raise CannotSplice("the encoder needs another H.264 profile")
        return self._own.with_sets(extra).boxed()

    def converted(self, packet: bytes) -> bytes:
        return sets.packed(sets.units_of_stream(packet), self._own.length_size)


class _Hevc:
    """HEVC: as for H.264, but the encoder's numbers are changed here."""

    def __init__(self, header: HevcHeader, *, is_prefixed: bool) -> None:
        self._own, self._is_prefixed = header, is_prefixed
        self._ids = sets.hevc_free_ids(self._own)
        # a group must not need the one before it, and no message may name a parameter set
        self.encoder_options: Mapping[str, str] = {"x265-params": "open-gop=0:info=0:hrd=0"}

    def _units(self, packet: bytes) -> Iterable[bytes]:
        if self._is_prefixed:
            return sets.units(packet, self._own.length_size)
        return sets.units_of_stream(packet)

    def is_entry(self, packet: bytes) -> bool:
        for unit in self._units(packet):
            if sets.hevc_kind(unit) < 32:
                return sets.hevc_kind(unit) in sets.HEVC_IDR
        return False

    def watch(self, packet: bytes) -> None:
        for unit in self._units(packet):
            if sets.hevc_kind(unit) in sets.HEVC_SETS and unit not in self._own.sets():
                raise CannotSplice("its parameter sets change on the way")

    def header(self, encoder: bytes | None) -> bytes | None:
        extra = [
            sets.renumber_hevc_set(unit, self._ids)
            for unit in sets.units_of_stream(encoder or b"")
            if sets.hevc_kind(unit) in sets.HEVC_SETS
        ]
        return self._own.with_sets(extra).boxed()

    def copied(self, packet: bytes) -> bytes | None:
        if self._is_prefixed:
            return None
        # the sets stand in the header, which "hvc1" means to be the only place
        kept = [u for u in self._units(packet) if sets.hevc_kind(u) not in sets.HEVC_SETS]
        return sets.packed(kept, self._own.length_size)

    def converted(self, packet: bytes) -> bytes:
        units = [
            sets.renumber_hevc_slice(unit, self._ids.pps) if sets.hevc_kind(unit) < 32 else unit
            for unit in sets.units_of_stream(packet)
        ]
        return sets.packed(units, self._own.length_size)
