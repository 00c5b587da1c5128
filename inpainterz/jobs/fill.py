"""The holes of a job, filled in pieces (see `pieces`), each kept when it is done."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import cv2

from inpainterz import pipeline
from inpainterz.jobs.folder import log, read_json, write_json
from inpainterz.jobs.memory import release
from inpainterz.jobs.order import EngineChoice
from inpainterz.jobs.pieces import Piece, PieceWriter, divide, patch_of
from inpainterz.jobs.run_engines import RunEngines
from inpainterz.jobs.scope import Scope
from inpainterz.leftover import GHOST_REACH, LOOKAHEAD
from inpainterz.masks import MaskStore
from inpainterz.overlap import Behind
from inpainterz.types import Step


def context_frames(scope: Scope, engines: RunEngines) -> int:
    """How far around itself a piece looks."""
    boxes = GHOST_REACH if scope.order.options.fill.second_pass == "box" else 0
    return int(engines.engine("inpaint").lookahead) + LOOKAHEAD + boxes


class Filling:
    """Fills the pieces of a scope.

    Attributes:
        ghosts: frames where more of an object moves than its mask covers.
    """

    def __init__(self, scope: Scope, engines: RunEngines) -> None:
        self._scope, self._engines = scope, engines
        self._video = scope.video
        self.ghosts: set[int] = set()

    def fill(
        self,
        masks: MaskStore,
        cuts: tuple[int, ...],
        known: tuple[int, int],
        marked: Sequence[tuple[int, int]],
    ) -> list[tuple[Piece, Path]]:
        """Fill all pieces that are not filled yet.

        Args:
            masks: of the frames of `known`.
            cuts: where shots begin.
            known: the frames whose masks are known, [start, stop).
            marked: runs of frames with something to remove, [start, stop).

        Returns:
            all pieces with their files.
        """
        sizes = self._scope.sizes
        previews = [self._scope.preview] if self._scope.preview else self._previews()
        pieces = divide(
            marked,
            cuts,
            self._scope.order.part or (0, len(self._video)),
            known,
            context_frames(self._scope, self._engines),
            given=previews,
            length=sizes.piece_frames,
            blend=sizes.blend_frames,
        )
        if self._scope.preview is not None:  # the piece is what it will be in the whole
            first, end = self._scope.preview
            pieces = [p for p in pieces if first <= p.start and p.stop <= end]
        total, done = sum(p.high - p.low for p in pieces), 0
        made: list[tuple[Piece, Path]] = []
        for piece in pieces:
            inputs = self._inputs(piece, masks, cuts)
            paths = [self._piece_path(piece, inputs, choice) for choice in self._engines.choices]
            path = next((p for p in reversed(paths) if p.is_file()), None)
            if path is None:
                began = time.perf_counter()
                path = self._engines.within_memory(
                    "inpaint",
                    lambda piece=piece, inputs=inputs, done=done: self._fill_piece(  # type: ignore[misc]
                        piece, inputs, masks, cuts, done, total
                    ),
                )
                log(
                    self._scope.job,
                    f"filled frames {piece.start} to {piece.stop - 1} in "
                    f"{time.perf_counter() - began:.1f} s",
                )
            release()
            told = path.with_suffix(".json")
            if told.is_file():
                self.ghosts.update(int(i) for i in read_json(told)["ghosts"])
            made.append((piece, path))
            done += piece.high - piece.low
            self._scope.progress(Step("inpaint", done, total))
        self._engines.drop("inpaint")
        return made

    def _inputs(self, piece: Piece, masks: MaskStore, cuts: tuple[int, ...]) -> str:
        """A hash of all that a piece is made from, but the engine and the source."""
        hashed = hashlib.sha256()
        fill = self._scope.order.as_json()["options"]["fill"]
        near = [c for c in cuts if piece.low < c < piece.high]
        frame = (piece.start, piece.stop, piece.tail, piece.low, piece.high)
        hashed.update(json.dumps([frame, near, fill], sort_keys=True).encode())
        for index in range(piece.low, piece.high):
            path = masks.folder / f"{index:06d}.png"
            if path.is_file():
                hashed.update(index.to_bytes(4, "big") + hashlib.sha256(path.read_bytes()).digest())
        return hashed.hexdigest()

    def _piece_path(self, piece: Piece, inputs: str, choice: EngineChoice) -> Path:
        told = json.dumps(
            [choice.names["inpaint"], dict(choice.options.get("inpaint", {})), choice.device],
            sort_keys=True,
        )
        name = hashlib.sha256(f"{inputs} {told}".encode()).hexdigest()[:24]
        return self._scope.job / "fill" / f"{piece.start:06d}-{piece.stop:06d}-{name}.zip"

    def _fill_piece(
        self,
        piece: Piece,
        inputs: str,
        masks: MaskStore,
        cuts: tuple[int, ...],
        done: int,
        total: int,
    ) -> Path:
        path = self._piece_path(piece, inputs, self._engines.choices[-1])
        cv2.setRNGSeed(0)
        ghosts: list[int] = []
        with ExitStack() as opened:
            filled = opened.enter_context(
                closing(
                    pipeline.fill(
                        self._video,
                        masks,
                        self._engines.engine("inpaint"),
                        options=self._scope.order.options.fill,
                        cuts=cuts,
                        start=piece.low,
                        stop=piece.high,
                        ghost=ghosts.append,
                    )
                )
            )
            writer = opened.enter_context(PieceWriter(path))
            behind = opened.enter_context(Behind[tuple[int, Any]](lambda item: writer.add(*item)))
            for item in filled:
                index = item.frame.index
                self._scope.progress(Step("inpaint", done + index - piece.low + 1, total))
                if index % 8 == 0:
                    self._engines.watch("inpaint")
                if index >= piece.filled.stop:
                    break
                if index >= piece.start and (patch := patch_of(item)) is not None:
                    behind.put((index, patch))
                if index == piece.filled.stop - 1:
                    break
            here = [i for i in ghosts if piece.start <= i < piece.stop]
            if here:  # before the piece is there, so that a resumed run finds both
                write_json(path.with_suffix(".json"), {"ghosts": here})
        return path

    def _previews(self) -> list[tuple[int, int]]:
        """Stretches that were previewed: they stay pieces, so that their work is taken over."""
        found: list[tuple[int, int]] = []
        for path in sorted(self._scope.job.glob("preview-*")):
            _, start, stop = path.name.split("-")
            if (path / "followed.json").is_file() and all(
                int(stop) <= a or b <= int(start) for a, b in found
            ):
                found.append((int(start), int(stop)))
        return found
