"""Label maps on disk, and what becomes of a mask before it is a hole."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
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
        """Keep the confidences; delete the folder if the store is temporary."""
        if self._delete:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self._confidence and self.folder.is_dir():
            (self.folder / "confidence.json").write_text(json.dumps(self._confidence), "utf-8")

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.png"

    def put(
        self, index: int, labels: LabelMap, confidence: Mapping[int, float] | None = None
    ) -> None:
        """Write the label map (H, W) uint8 of frame `index`, replacing what was there."""
        part = self.folder / f"{index:06d}.part"
        try:
            part.write_bytes(encode_labels(labels))
            part.replace(self._path(index))
        except OSError as error:
            raise VideoEncodeError(f"the masks cannot be written: {error.strerror}") from error
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
        """The frames whose masks the tracker does not trust.

        A frame without an object counts only where the object has just gone: that it is absent is
        rarely wrong later on, where it was right at first.
        """
        found = []
        before: set[int] = set()
        for index, labels in self.items():
            here = {int(k) for k in np.unique(labels)}
            unsure = {k for k, c in self.confidence(index).items() if c < DOUBTFUL}
            if unsure & (here | before):
                found.append(index)
            before = here
        return tuple(found)

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
                    bundle.write(self._path(index), f"{index:06d}.png")
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
        if source.is_dir():
            files = {p.name: p for p in source.glob("*.png") if not p.name.startswith(".")}
            self._take_named(
                {n: p.read_bytes() for n, p in sorted(files.items())}.items(), count, size
            )
        elif zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as bundle:
                names = sorted(
                    n
                    for n in bundle.namelist()
                    if n.lower().endswith(".png") and not Path(n).name.startswith(".")
                )
                self._take_named(((n, bundle.read(n)) for n in names), count, size, len(names))
        else:
            try:
                data = source.read_bytes()
            except OSError as error:
                raise InputError(
                    f"{source} cannot be read: {error.strerror}", "Name a zip, a folder or a PNG"
                ) from error
            labels = checked(decode_labels(data, source.name), size, source.name)
            for index in range(count):
                self.put(index, labels)

    def _take_named(
        self,
        items: Iterable[tuple[str, bytes]],
        count: int,
        size: tuple[int, int],
        total: int | None = None,
    ) -> None:
        any_found = False
        for order, (name, data) in enumerate(items):
            any_found = True
            stem = Path(name).stem
            index = int(stem) if stem.isdecimal() else order
            if index >= count:
                raise InputError(
                    f"the mask {name} is for frame {index}, the clip ends at frame {count - 1}",
                    "Number masks from 0, as frames are",
                )
            self.put(index, checked(decode_labels(data, name), size, name))
        if not any_found:
            raise InputError("there are no PNG masks in there", "Name them 000000.png and so on")


def encode_labels(labels: LabelMap) -> bytes:
    """An indexed PNG of a label map (H, W) uint8; looks coloured, reads back exactly."""
    height, width = labels.shape
    indexed = PilImage.frombytes("P", (width, height), np.ascontiguousarray(labels).tobytes())
    indexed.putpalette(_PALETTE_BYTES)
    out = io.BytesIO()
    indexed.save(out, "PNG", compress_level=1)
    return out.getvalue()


def decode_labels(data: bytes, name: str = "the mask") -> LabelMap:
    """A label map from a PNG: palette indices as they are, else grey or colour as one object.

    A grey picture whose only values are 0 and one other is one object, so are 0 and 255 with soft
    edges (cut at 128); grey values below 32 are taken as labels.

    Raises:
        InputError: not a picture, or larger than `PIXEL_LIMIT`.
    """
    try:
        with PilImage.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > PIXEL_LIMIT:
                raise InputError(f"{name} is too large for a mask")
            if picture.mode == "P":
                return np.array(picture, np.uint8)
            if picture.mode in ("RGBA", "LA"):
                values = np.array(picture.convert("RGBA"), np.uint8)
                solid = values[..., 3] >= 128
                return np.asarray(solid & (values[..., :3].max(-1) >= 128), np.uint8)
            values = np.array(picture.convert("L"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} is not a picture that can be read", "Give a PNG") from error
    if values.size and values.max() < 32:
        return values
    return (values >= 128).astype(np.uint8)


def checked(labels: LabelMap, size: tuple[int, int], name: str) -> LabelMap:
    """The label map itself if it has `size` (height, width).

    Raises:
        InputError: it has another size.
    """
    if labels.shape != size:
        raise InputError(
            f"{name} is {labels.shape[1]}x{labels.shape[0]}, the clip is {size[1]}x{size[0]}",
            "Give masks at the clip's own size",
        )
    return labels


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
