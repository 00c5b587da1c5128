"""The temporary folder of a page: held while it lives; others delete it when it was killed."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path
from typing import IO

FOLDER_PREFIX = "inpainterz-page-"
"""What the name of a page's temporary folder begins with."""

ALIVE = "alive"
"""Name of the file in it that is locked as long as the page lives."""

BEGINNING_SECONDS = 120.0
"""A folder younger than that may be of a page that just begins."""


def hold(folder: Path) -> IO[bytes]:
    """Say that the page of a folder lives, until what is returned is closed."""
    alive = (folder / ALIVE).open("ab")
    _lock(alive)
    return alive


def clean_up(parent: Path) -> int:
    """Delete what pages that were killed left in a folder of temporary files; how many they were.

    A page that lives holds a lock in its folder; one that begins is left alone.
    """
    gone = 0
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        try:
            state = folder.lstat()
            mine = stat.S_ISDIR(state.st_mode) and (
                not hasattr(os, "getuid") or state.st_uid == os.getuid()
            )
            if not mine or time.time() - state.st_mtime < BEGINNING_SECONDS:
                continue
            with (folder / ALIVE).open("ab") as alive:
                if not _lock(alive):
                    continue
            shutil.rmtree(folder)
            gone += 1
        except OSError:
            continue  # somebody else was faster
    return gone


def _lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed or the process ends; False: another one holds it."""
    if os.name != "posix":
        return True  # Windows itself keeps an open file from being deleted
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
