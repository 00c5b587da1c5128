"""Label maps on disk, and what becomes of a mask before it is a hole."""

from __future__ import annotations

import io
import json
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from inpainterz.errors import InputError, PromptError, VideoEncodeError
from inpainterz.types import Frame, LabelMap, Mask

PALETTE: tuple[tuple[int, int, int], ...] = (
    (0, 0, 0),
    (230, 57, 70),
    (29, 132, 226),
    (42, 157, 92),
    (244, 162, 36),
    (142, 68, 200),
    (20, 184, 184),
    (240, 98, 170),
    (140, 160, 40),
)
"""RGB of background and of objects 1, 2, ...; repeats from object 9 on."""

DOUBTFUL = 0.5
"""A mask whose confidence is below this is listed for the user to look at."""

PIXEL_LIMIT = 100_000_000
"""A mask picture larger than this is refused before it is decoded."""

_FORMATS = (
    "PNG",
    "BMP",
    "TIFF",
    "JPEG",
    "WEBP",
    "GIF",
)  # others run programs or are rarely looked at
_ENTRY_BYTES = 2**16  # what a PNG may have beyond its pixels
_ZIP_RATIO = 1000  # more than any way of packing a PNG comes to
_OTHER_ENTRIES = 1000  # folders and such


def colour_of(label: int) -> tuple[int, int, int]:
    """The colour that object `label` (1..255) is shown in, everywhere."""
    return PALETTE[1 + (label - 1) % (len(PALETTE) - 1)]


def _palette_bytes() -> bytes:
    colours = [PALETTE[0], *(colour_of(k) for k in range(1, 256))]
    return bytes(channel for colour in colours for channel in colour)


_PALETTE_BYTES = _palette_bytes()


class MaskStore:
    """A folder of indexed PNG label maps, 000000.png and so on, one for each frame.

    Memory holds one mask at a time. `confidence.json` keeps what the tracker thought of its own
    masks. A store made by `temporary` deletes its folder when it closes.
    """

    def __init__(self, folder: Path, *, delete_on_close: bool = False) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._delete = delete_on_close
        self._confidence: dict[int, dict[int, float]] = {}
        kept = self.folder / "confidence.json"
        if kept.is_file():
            self._confidence = {
                int(i): {int(k): float(c) for k, c in row.items()}
                for i, row in json.loads(kept.read_text("utf-8")).items()
            }

    @classmethod
    def temporary(cls) -> MaskStore:
        """A store in a new temporary folder."""
        return cls(Path(tempfile.mkdtemp(prefix="inpainterz-masks-")), delete_on_close=True)

    def __enter__(self) -> MaskStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep the confidences; delete the folder if the store is temporary.

        Raises:
            VideoEncodeError: the system refuses to write.
        """
        if self._delete:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self._confidence and self.folder.is_dir():
            self._write("confidence.json", json.dumps(self._confidence).encode())

    def _write(self, name: str, data: bytes) -> None:
        """Write a file whole, whoever kills or reads meanwhile."""
        part = (self.folder / name).with_suffix(".part")
        try:
            part.write_bytes(data)
            part.replace(self.folder / name)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise VideoEncodeError(
                f"the masks cannot be written: {error.strerror}", "Make room and run it again"
            ) from error

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.png"

    def put(
        self, index: int, labels: LabelMap, confidence: Mapping[int, float] | None = None
    ) -> None:
        """Write the label map (H, W) uint8 of frame `index`, replacing what was there.

        Raises:
            VideoEncodeError: the system refuses to write.
        """
        self._write(f"{index:06d}.png", encode_labels(labels))
        if confidence is not None:
            self._confidence[index] = dict(confidence)

    def get(self, index: int) -> LabelMap | None:
        """The label map of frame `index`, None if there is none."""
        path = self._path(index)
        return decode_labels(path.read_bytes(), path.name) if path.is_file() else None

    def confidence(self, index: int) -> dict[int, float]:
        """Object id -> 0..1 for frame `index`; empty where nothing was said."""
        return dict(self._confidence.get(index, {}))

    def doubtful(self) -> tuple[int, ...]:
        """The frames whose masks the tracker does not trust; see `doubtful_frames`."""
        return tuple(doubtful_frames((i, m, self.confidence(i)) for i, m in self.items()))

    def clear(self) -> None:
        """Forget all masks."""
        for path in self.folder.glob("*.png"):
            path.unlink()
        self._confidence.clear()
        (self.folder / "confidence.json").unlink(missing_ok=True)

    def indices(self) -> list[int]:
        """The frames that have a label map, ascending."""
        return sorted(int(p.stem) for p in self.folder.glob("[0-9]*.png"))

    def items(self) -> Iterator[tuple[int, LabelMap]]:
        """Each frame index that has a label map, ascending, with it."""
        for index in self.indices():
            labels = self.get(index)
            if labels is not None:
                yield index, labels

    def replay(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, LabelMap]]:
        """Each frame with its label map; an empty one where none was put."""
        for frame in frames:
            labels = self.get(frame.index)
            if labels is None:
                labels = np.zeros(frame.image.shape[:2], np.uint8)
            yield frame, labels

    def export_zip(self, target: Path) -> None:
        """Write all label maps as a zip, beside the target first, then renamed."""
        part = target.with_name(target.name + ".part")
        try:
            with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as bundle:  # PNGs are packed
                for index in self.indices():
                    # without the time of writing: equal masks are equal files
                    name = zipfile.ZipInfo(f"{index:06d}.png")
                    name.external_attr = 0o644 << 16
                    bundle.writestr(name, self._path(index).read_bytes())
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise VideoEncodeError(f"{target} cannot be written: {error.strerror}") from error

    def take(self, source: Path, count: int, size: tuple[int, int]) -> None:
        """Fill the store from a zip or folder of label PNGs, or from one PNG for all frames.

        Files are matched to frames by the number in their name, or, where names are not plain
        numbers, by their order.

        Args:
            source: what the user named.
            count: number of frames of the clip.
            size: (height, width) that every mask must have.

        Raises:
            InputError: not readable, no PNG inside, a number past the end, another size.
        """
        entry_bytes = _ENTRY_BYTES + 8 * size[0] * size[1]  # no PNG of that size is larger
        if source.is_dir():
            files = sorted(p for p in source.glob("*.png") if not p.name.startswith("."))
            self._take_named(
                ((p.name, _read_file(p, entry_bytes)) for p in files), count, size, len(files)
            )
        elif zipfile.is_zipfile(source):
            with _open_zip(source, entry_bytes * (count + 1)) as bundle:
                entries = _png_entries(bundle, source.name, count)
                self._take_named(
                    ((e.filename, _read_entry(bundle, e, entry_bytes)) for e in entries),
                    count,
                    size,
                    len(entries),
                )
        else:
            labels = decode_labels(_read_file(source, entry_bytes), source.name, size)
            for index in range(count):
                self.put(index, labels)

    def _take_named(
        self,
        items: Iterable[tuple[str, bytes]],
        count: int,
        size: tuple[int, int],
        total: int,
    ) -> None:
        if total > count:
            raise InputError(
                f"there are {total} masks, and the clip has {count} frames",
                "Give one label map a frame",
            )
        taken: dict[int, str] = {}
        for order, (name, data) in enumerate(items):
            stem = Path(name).stem
            # a number of ten digits or more is no frame's, and may take long to read
            index = int(stem[:10]) if stem.isdecimal() else order
            if index >= count:
                raise InputError(
                    f"the mask {name} is for frame {index}, the clip ends at frame {count - 1}",
                    "Number masks from 0, as frames are",
                )
            if index in taken:
                raise InputError(f"{taken[index]} and {name} are both for frame {index}")
            taken[index] = name
            self.put(index, decode_labels(data, name, size))
        if not taken:
            raise InputError("there are no PNG masks in there", "Name them 000000.png and so on")


def _read_file(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", "Name a zip, a folder or a PNG"
        ) from error
    return _not_above(data, limit, path.name)


def _not_above(data: bytes, limit: int, name: str) -> bytes:
    if len(data) > limit:
        raise InputError(f"{name} is too large for a mask of this clip", "Give PNGs of its size")
    return data


def _open_zip(source: Path, limit: int) -> zipfile.ZipFile:
    try:
        if source.stat().st_size > limit:
            raise InputError(f"{source.name} is too large to be masks of this clip")
        return zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.name} is not a zip that can be read", "Pack it again") from error


def _png_entries(bundle: zipfile.ZipFile, name: str, count: int) -> list[zipfile.ZipInfo]:
    """The pictures of a zip that is not trusted: nothing is unpacked by name, links are refused."""
    entries = bundle.infolist()
    if len(entries) > 2 * count + _OTHER_ENTRIES:
        raise InputError(f"{name} has {len(entries)} entries, the clip {count} frames")
    found = []
    for entry in sorted(entries, key=lambda e: e.filename):
        path = entry.filename.replace("\\", "/")
        if path.startswith("/") or ".." in path.split("/") or path[1:2] == ":":
            raise InputError(
                f"the entry {entry.filename} of {name} points outside of it", "Pack it again"
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InputError(f"the entry {entry.filename} of {name} is a link", "Pack it again")
        # the Mac packs a copy of each file's attributes as ._name
        if path.lower().endswith(".png") and not path.split("/")[-1].startswith("."):
            found.append(entry)
    return found


def _read_entry(bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    try:
        if entry.file_size > _ZIP_RATIO * max(entry.compress_size, _ENTRY_BYTES):
            raise InputError(f"{entry.filename} is packed beyond measure", "Pack it again")
        with bundle.open(entry) as file:  # what it says of its own size is not trusted
            return _not_above(file.read(limit + 1), limit, entry.filename)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        if isinstance(error, InputError):
            raise
        # RuntimeError: a password; NotImplementedError, one of these, another way of packing
        raise InputError(f"{entry.filename} cannot be unpacked", "Pack it again") from error


def doubtful_frames(
    rows: Iterable[tuple[int, LabelMap, Mapping[int, float]]],
) -> Iterator[int]:
    """The frames whose masks the tracker does not trust.

    A frame without an object counts only where the object has just gone: that it is absent is
    rarely wrong later on, where it was right at first.

    Args:
        rows: frames in order of time, each with its label map and confidences by object.
    """
    before: set[int] = set()
    for index, labels, confidence in rows:
        here = {int(k) for k in np.unique(labels)}
        unsure = {k for k, c in confidence.items() if c < DOUBTFUL}
        if unsure & (here | before):
            yield index
        before = here


def encode_labels(labels: LabelMap) -> bytes:
    """An indexed PNG of a label map (H, W) uint8; looks coloured, reads back exactly."""
    height, width = labels.shape
    indexed = PilImage.frombytes("P", (width, height), np.ascontiguousarray(labels).tobytes())
    indexed.putpalette(_PALETTE_BYTES)
    out = io.BytesIO()
    indexed.save(out, "PNG", compress_level=1)
    return out.getvalue()


def decode_labels(
    data: bytes, name: str = "the mask", size: tuple[int, int] | None = None
) -> LabelMap:
    """A label map from a PNG: palette indices as they are, else grey or colour as one object.

    A grey picture whose only values are 0 and one other is one object, so are 0 and 255 with soft
    edges (cut at 128); grey values below 32 are taken as labels.

    Args:
        data: the file.
        name: what it is called in messages.
        size: (height, width) that it must have; None = any.

    Raises:
        InputError: not a picture, of another size, or larger than `PIXEL_LIMIT`; told before the
            pixels are decoded.
    """
    try:
        with PilImage.open(io.BytesIO(data), formats=_FORMATS) as picture:
            if picture.width * picture.height > PIXEL_LIMIT:
                raise InputError(f"{name} is too large for a mask")
            if size is not None and (picture.height, picture.width) != size:
                raise _other_size((picture.height, picture.width), size, name)
            if picture.mode == "P":
                return np.array(picture, np.uint8)
            if picture.mode in ("RGBA", "LA"):
                values = np.array(picture.convert("RGBA"), np.uint8)
                solid = values[..., 3] >= 128
                return np.asarray(solid & (values[..., :3].max(-1) >= 128), np.uint8)
            values = np.array(picture.convert("L"), np.uint8)
    except (OSError, ValueError, SyntaxError, zlib.error, struct.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} is not a picture that can be read", "Give a PNG") from error
    except PilImage.DecompressionBombError as error:
        raise InputError(f"{name} is too large for a mask") from error
    if values.size and values.max() < 32:
        return values
    return (values >= 128).astype(np.uint8)


def checked(labels: LabelMap, size: tuple[int, int], name: str) -> LabelMap:
    """The label map itself if it has `size` (height, width).

    Raises:
        InputError: it has another size.
    """
    if labels.shape != size:
        raise _other_size((labels.shape[0], labels.shape[1]), size, name)
    return labels


def _other_size(found: tuple[int, int], size: tuple[int, int], name: str) -> InputError:
    return InputError(
        f"{name} is {found[1]}x{found[0]}, the clip is {size[1]}x{size[0]}",
        "Give masks at the clip's own size",
    )


def stack(masks: Mapping[int, Mask], size: tuple[int, int]) -> LabelMap:
    """One label map (H, W) from object id -> mask; a later id lies on top.

    Raises:
        PromptError: an id is outside 1..255.
    """
    labels = np.zeros(size, np.uint8)
    for label, mask in sorted(masks.items()):
        if not 1 <= label <= 255:
            raise PromptError(f"object {label} is outside 1..255")
        labels[mask] = label
    return labels


def chosen(labels: LabelMap, objects: frozenset[int] | None) -> Mask:
    """The union of the chosen objects; None means all."""
    if objects is None:
        return np.asarray(labels > 0)
    return np.isin(labels, np.fromiter(objects, np.uint8, len(objects)))


def grow(mask: Mask, px: int) -> Mask:
    """The mask (H, W) with a disc of radius `px` around each of its pixels."""
    if px <= 0 or not mask.any():
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * px + 1, 2 * px + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def auto_grow_px(mask: Mask) -> int:
    """How far a tracked mask is grown before filling, when the user did not say.

    Masks miss soft edges, motion blur and codec ringing, all of which grow with the picture and a
    little with the object: 0.5 % of the diagonal plus 2 % of the object's equivalent diameter.
    """
    area = int(mask.sum())
    if area == 0:
        return 0
    return round(2 + 0.005 * float(np.hypot(*mask.shape)) + 0.02 * float(np.sqrt(area)))


def feather(mask: Mask, hole: Mask, px: int) -> npt.NDArray[np.float32]:
    """How much of the fill is shown, (H, W) float32 0..1: 1 on the mask, a ramp to the hole's rim.

    Only the ring between mask and hole is softened, so nothing of the object shines through.
    """
    alpha = hole.astype(np.float32)
    if px <= 0 or not hole.any():
        return alpha
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)
    alpha *= np.clip(depth / (px + 1), 0, 1)
    alpha[mask] = 1
    return alpha
