"""What an HDR clip tells a display: the mastering display and how bright its content is.

Sources: SMPTE ST 2086 (mastering display), CTA-861.3 (content light level), and the structures of
libavutil/mastering_display_metadata.h; the words are those of the encoders' own options.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import Any

import av


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """What a display must know of an HDR clip, in the units of the standards."""

    primaries: tuple[tuple[float, float], ...] = ()
    """CIE 1931 x, y of red, green, blue and white; empty where the file does not say."""
    luminance: tuple[float, float] | None = None
    """Least and greatest of the mastering display, cd/m2."""
    light: tuple[int, int] | None = None
    """MaxCLL and MaxFALL, cd/m2."""

    @staticmethod
    def of(frame: av.VideoFrame) -> HdrMetadata:
        """Read what a decoded frame carries (libavutil/mastering_display_metadata.h)."""
        side_data: Any = frame.side_data  # PyAV's stubs list one of its keys only
        found = {data.type.name: data for data in side_data}
        primaries: tuple[tuple[float, float], ...] = ()
        luminance = light = None
        if (mastering := found.get("MASTERING_DISPLAY_METADATA")) is not None:
            numbers = struct.unpack_from("<22i", bytes(mastering))
            ratios = [a / b if b else 0.0 for a, b in itertools.pairwise(numbers[:20])][::2]
            has_primaries, has_luminance = numbers[20:22]
            if has_primaries:
                primaries = tuple(itertools.pairwise(ratios[:8]))[::2]
            if has_luminance:
                luminance = ratios[8], ratios[9]
        if (level := found.get("CONTENT_LIGHT_LEVEL")) is not None:
            most, average = struct.unpack_from("<2I", bytes(level))
            light = (most, average) if most or average else None
        return HdrMetadata(primaries, luminance, light)

    def __bool__(self) -> bool:
        return bool(self.primaries or self.luminance or self.light)

    @property
    def is_mastered(self) -> bool:
        """Whether the mastering display is told in full: encoders take all of it or nothing."""
        return bool(self.primaries and self.luminance)

    def _display(self, unit: float, light_unit: float) -> str:
        """ "G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)" in units of `unit` and `light_unit`."""
        assert self.luminance is not None

        def number(value: float, step: float) -> str:
            return str(round(value / step)) if step != 1 else f"{value:.5f}"

        red, green, blue, white = self.primaries
        words = [
            f"{name}({number(x, unit)},{number(y, unit)})"
            for name, (x, y) in (("G", green), ("B", blue), ("R", red), ("WP", white))
        ]
        low, high = (number(value, light_unit) for value in self.luminance)
        return f"{''.join(words)}L({high},{low})"

    def options(self, codec: str) -> list[str]:
        """Words for x264-params, x265-params or svtav1-params; none for other codecs."""
        names = {
            "h264": ("mastering-display", "cll"),
            "hevc": ("master-display", "max-cll"),
            "av1": ("mastering-display", "content-light"),
        }.get(codec)
        if names is None:
            return []
        words = []
        if self.is_mastered:
            units = (1.0, 1.0) if codec == "av1" else (0.00002, 0.0001)
            words.append(f"{names[0]}={self._display(*units)}")
        if self.light is not None:
            words.append(f"{names[1]}={self.light[0]},{self.light[1]}")
        return words
