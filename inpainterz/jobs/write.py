"""The clip of a job: the pieces put together, encoded in one go, and put in its place."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inpainterz.jobs.pieces import Piece, PieceReader
from inpainterz.jobs.scope import Scope, is_folder
from inpainterz.masks import MaskStore
from inpainterz.outputs import SideOutputs
from inpainterz.overlap import Behind, prefetch
from inpainterz.types import Frame, Mask, Origin, Step
from inpainterz.video.reader import VideoReader
from inpainterz.video.writer import VideoWriter


@dataclass(slots=True)
class Counts:
    """What was filled."""

    frames_with_hole: int = 0
    seen_px: int = 0
    invented_px: int = 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """What lies in `out/` of a scope, complete."""

    writer: VideoWriter
    """Of the clip."""
    made: list[tuple[Path, Path]]
    """From where to where things are to be put, the clip last."""
    counts: Counts


def encode(scope: Scope, pieces: Sequence[tuple[Piece, Path]], masks: MaskStore) -> Encoded:
    """Encode everything into the job's folder.

    Args:
        scope: what is worked on.
        pieces: what was filled, each with its file.
        masks: for the outputs beside the clip.
    """
    target, options, counts = scope.target, scope.order.options, Counts()
    start, stop = scope.preview or (0, len(scope.video))
    out = scope.folder / "out"
    out.mkdir(exist_ok=True)
    made: list[tuple[Path, Path]] = []
    also = []
    for number, wanted in enumerate(() if scope.preview else options.also):
        part = out / f"also-{number}{Path(wanted.target).suffix}"
        slash = "/" if is_folder(wanted.target) else ""
        also.append(replace(wanted, target=f"{part}{slash}"))
        made.append((part, Path(wanted.target)))
    if options.save_masks is not None and scope.preview is None:
        masks.export_zip(out / "masks.zip")
        made.append((out / "masks.zip", options.save_masks))
    folder = is_folder(target) or options.write.codec == "png"
    part = out / f"clip{'' if folder else Path(target).suffix}"
    made.append((part, Path(target)))
    writer = VideoWriter(
        f"{part}/" if folder else part,
        like=scope.video,
        options=options.write,
        start=start,
        stop=stop,
    )
    extra = SideOutputs(
        scope.video, masks, also, objects=options.fill.objects, start=start, stop=stop
    )

    def write(item: tuple[Frame, Mask]) -> None:
        writer.write(*item)
        extra.write(*item)

    with (
        writer,
        extra,
        Behind[tuple[Frame, Mask]](write) as encoder,
        closing(
            _composed(scope, pieces, counts, start, stop, whole=folder or bool(also))
        ) as frames,
    ):
        for frame, hole in frames:
            encoder.put((frame, hole))
            scope.progress(Step("write", frame.index - start + 1, stop - start))
    return Encoded(writer, made, counts)


def _composed(
    scope: Scope,
    pieces: Sequence[tuple[Piece, Path]],
    counts: Counts,
    start: int,
    stop: int,
    *,
    whole: bool,
) -> Generator[tuple[Frame, Mask]]:
    """Every frame with the pieces' patches in it, and its hole.

    Args:
        scope: what is worked on.
        pieces: what was filled.
        counts: are added to.
        start, stop: the frames.
        whole: whether the picture around the holes is wanted too. The writer of a clip does
            without, as it takes that from the source itself.
    """
    nothing = np.zeros(scope.video.size, np.bool_)
    waiting = list(pieces)
    opened: list[tuple[Piece, PieceReader]] = []
    source = scope.video.frames(start, stop) if whole else _blank(scope.video, start, stop)
    with ExitStack() as readers, closing(prefetch(source)) as frames:
        for frame in frames:
            index = frame.index
            while waiting and waiting[0][0].start <= index:
                piece, path = waiting.pop(0)
                opened.append((piece, readers.enter_context(PieceReader(path))))
            while opened and opened[0][0].filled.stop <= index:
                opened.pop(0)[1].close()
            here = [(p, r.get(index)) for p, r in opened if index in p.filled]
            if not here or here[-1][1] is None:
                yield frame, nothing
                continue
            main = here[-1][1]
            image = frame.image.copy()
            main.paste(image)
            for piece, fading in here[:-1]:
                if fading is not None:
                    share = (index - piece.stop + 1) / (piece.tail + 1)
                    fading.paste(image, 1 - share)
            hole = nothing.copy()
            h, w = main.origin.shape
            part = np.s_[main.top : main.top + h, main.left : main.left + w]
            hole[part] = main.origin > 0
            counts.frames_with_hole += 1
            counts.seen_px += int((main.origin == Origin.SEEN).sum())
            counts.invented_px += int((main.origin == Origin.INVENTED).sum())
            yield replace(frame, image=image), hole


def _blank(video: VideoReader, start: int, stop: int) -> Generator[Frame]:
    size = (*video.size, 3)
    for index in range(start, stop):
        image = np.zeros(size, np.uint8)
        yield Frame(image, index, video.pts[index], video.time_base)


def put_in_place(scope: Scope, made: Sequence[tuple[Path, Path]]) -> None:
    """Put what was encoded where it goes; what is there already is skipped."""
    for part, place in made:
        if part.exists():
            _publish(part, place)
    shutil.rmtree(scope.folder / "out", ignore_errors=True)


def is_there(target: Path) -> bool:
    """Whether there is such a file, or a folder with something in it."""
    return target.is_file() or (target.is_dir() and any(target.iterdir()))


def _publish(made: Path, target: Path) -> None:
    """Put a finished file, or folder of pictures, in its place, whole."""
    beside = target.with_name(f".inpainterz-{secrets.token_hex(8)}{target.suffix[:8]}")
    filled = target.is_dir() and is_there(target)
    try:
        if filled:
            target.rename(beside)
        made.replace(target)
    except OSError:  # another file system: moved beside it first
        if filled:
            beside.rename(target)
        shutil.move(made, beside)
        if filled:
            shutil.rmtree(target)
        beside.replace(target)
    else:
        shutil.rmtree(beside, ignore_errors=True)
