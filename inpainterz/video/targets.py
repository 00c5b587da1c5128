"""Where results go: what is refused before any work, and names for what is not complete."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from inpainterz.errors import InputError, OutputExists, VideoEncodeError


def check_target(target: Path, source: Path, *, is_folder: bool, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before any work.

    Raises:
        OutputExists: it is there and may not be replaced.
        InputError: it is the source, or a folder where a file is wanted.
        VideoEncodeError: its folder cannot be written to.
    """
    try:
        is_there = target.exists()
    except (OSError, ValueError) as error:
        raise VideoEncodeError(f"no file can be called {target.name[:60]!r}") from error
    if is_there:
        if target.samefile(source):
            raise InputError(f"{target} is the source itself", "Name another file to write to")
        if is_folder and not target.is_dir():
            raise OutputExists(f"{target} is there and is not a folder", "Name another folder")
        if not is_folder and target.is_dir():
            raise InputError(
                f"{target} is a folder", "Name a file, or end it in / for a folder of pictures"
            )
        if is_folder and any(target.iterdir()):
            if not overwrite:
                raise OutputExists(f"{target} is not empty", "Name another folder")
            if any(not _is_picture(path) for path in target.iterdir()):
                raise OutputExists(
                    f"{target} holds other things than numbered pictures", "Name another folder"
                )
        if not is_folder and not overwrite:
            raise OutputExists(f"{target} is there already", "Allow it with --overwrite")
    folder = target.parent
    if not folder.is_dir():
        raise VideoEncodeError(f"the folder {folder} does not exist", "Make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise VideoEncodeError(f"the folder {folder} may not be written to", "Name another one")


def _is_picture(path: Path) -> bool:
    return path.suffix == ".png" and path.stem.isdigit() and len(path.stem) >= 6


def write_whole(target: Path, data: bytes) -> None:
    """Write a file as a whole: it is there and right, or as it was before.

    Raises:
        VideoEncodeError: the system refuses; nothing is left behind.
    """
    part = target.with_name(target.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise cannot_write(target, error) from error


def cannot_write(target: Path, error: BaseException) -> VideoEncodeError:
    """What is said when the system refuses."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return VideoEncodeError(
            f"{target} cannot be written: the disk is full", "Free some space and run it again"
        )
    reason = getattr(error, "strerror", None) or str(error)
    return VideoEncodeError(f"{target} cannot be written: {reason}")


def part_of(target: Path) -> Path:
    """A name beside the target that nobody else uses, short whatever the target's is."""
    return target.parent / f".inpainterz-{secrets.token_hex(8)}{target.suffix[:8]}"
