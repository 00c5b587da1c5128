"""Downloads one file in a way that may be interrupted and gone on with; knows no weights.

With urllib: pooch cannot resume, and all else that can is a package more. Google Drive asks
questions before it gives a large file away; gdown knows the answers, and resumes.
"""

from __future__ import annotations

import http.client
import logging
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

DRIVE = "gdrive:"
"""How an address on Google Drive begins; the id of the file follows."""
DRIVE_URL = "https://drive.google.com/uc?id={}"
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30

Progress: TypeAlias = Callable[[int, int | None], None]
"""Is told the bytes done and the bytes in all, None where that is not known."""

logger = logging.getLogger(__name__)


class WrongSize(OSError):
    """The address serves a file of another size; nothing of it was kept."""

    def __init__(self, url: str, size: int) -> None:
        self.size = size
        super().__init__(f"{url} is a file of {size:,} bytes")


def download(
    url: str,
    part: Path,
    *,
    progress: Progress,
    retries: int,
    size: int = 0,
    checked_later: bool = False,
) -> None:
    """Fetch a file into `part`, going on with what is there.

    Args:
        url: https address, or gdrive:<id>.
        part: the file to write, and only that when the call returns; beside it may lie notes of
            an unfinished download.
        progress: see `Progress`.
        retries: how many tries in a row may bring nothing new after the connection was cut.
        size: bytes that the file must have, 0 where that is not known.
        checked_later: whether the caller holds a hash against the file. If not, an unfinished
            file is gone on with only where the server says that it is still the same.

    Raises:
        WrongSize: as it says.
        ModuleNotFoundError: gdown is missing.
        OSError: the network or the disk fails; one line says how.
    """
    if url.startswith(DRIVE):
        place, pull = "Google Drive", partial(_pull_drive, url.removeprefix(DRIVE), part)
    else:
        place = urllib.parse.urlsplit(url).netloc
        pull = partial(_pull_https, url, part, size, checked_later)
    _persist(pull, progress, place=place, retries=retries)


class _Interrupted(Exception):
    """The connection failed in a way that may pass."""


def _persist(
    once: Callable[[Progress], None], progress: Progress, *, place: str, retries: int
) -> None:
    """Call `once` until it comes through; each call goes on where the one before it stopped."""
    seen, tries, reached = 0, 0, False

    def watch(done: int, total: int | None) -> None:
        nonlocal seen, reached
        seen, reached = max(seen, done), True
        progress(done, total)

    while True:
        before = seen
        try:
            return once(watch)
        except _Interrupted as reason:
            tries = 0 if seen - before >= CHUNK_BYTES else tries + 1
            if tries > retries:
                raise ConnectionError(str(reason)) from reason
            logger.info("going on at byte %d of %s: %s", seen, place, reason)
        except (urllib.error.URLError, ConnectionError) as error:
            tries += 1
            if not reached or tries > retries:  # there is no network, and waiting will not help
                raise ConnectionError(f"{place} cannot be reached") from error
        time.sleep(min(2.0**tries - 2, 30) if tries else 0)


def _pull_https(url: str, part: Path, size: int, checked_later: bool, tell: Progress) -> None:
    """Go on with `part`, in one request."""
    try:
        whole = _request(url, part, size, checked_later, tell)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code < 500 and error.code != 429:
            raise OSError(f"{url} answers {error.code} {error.reason}") from error
        raise _Interrupted(f"{url} answers {error.code} {error.reason}") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Interrupted("the connection was cut") from error
    if not whole:
        raise _Interrupted("the connection was cut")


def _request(url: str, part: Path, size: int, checked_later: bool, tell: Progress) -> bool:
    """Ask for what is missing; True when all of the file is there."""
    mark = part.with_name(part.name + ".etag")  # which version of the file the part is of
    etag = mark.read_text("utf-8") if mark.exists() else ""
    have = part.stat().st_size if part.exists() else 0
    if not etag and not checked_later:
        have = 0  # nothing could tell whether the rest belongs to the same file
    request = urllib.request.Request(url, headers={"User-Agent": "inpainterz"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if etag:
            request.add_header("If-Range", etag)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        if error.headers.get("Content-Range", "") == f"bytes */{have}":
            mark.unlink(missing_ok=True)
            return True  # it was complete already
        part.unlink()  # longer than the file is now
        return False
    with response:
        if url.startswith("https:") and not response.url.startswith("https:"):
            raise OSError(f"it is passed on to an address that is not safe, {response.url}")
        if response.status != 206:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise OSError(f"{url} sends another part of the file than was asked for")
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if size and total not in (None, size):
            part.unlink(missing_ok=True)
            mark.unlink(missing_ok=True)
            raise WrongSize(url, total or 0)
        strong = response.headers.get("ETag", "")
        mark.write_text("" if strong.startswith("W/") else strong, "utf-8")
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            tell(have, total)
            while block := response.read(CHUNK_BYTES):
                file.write(block)
                have += len(block)
                tell(have, total)
    if total is not None and have < total:
        return False
    mark.unlink()
    return True


def _pull_drive(file_id: str, part: Path, tell: Progress) -> None:
    """Go on with `part` from Google Drive."""
    import gdown
    from gdown.exceptions import DownloadError, FileURLRetrievalError

    try:
        gdown.download(
            url=DRIVE_URL.format(file_id),
            output=str(part),
            quiet=True,
            use_cookies=False,  # keeps no file in the user's home
            resume=True,
            progress=tell,
            timeout=TIMEOUT_S,
        )
    except FileURLRetrievalError as error:
        raise OSError(f"Google Drive does not give the file away: {error}") from error
    except DownloadError as error:
        raise _Interrupted("the connection was cut") from error
    except OSError as error:  # those of requests, which gdown uses, have no errno
        if error.errno is not None or getattr(error, "response", None) is not None:
            raise
        raise ConnectionError(str(error)) from error


@contextmanager
def one_at_a_time(part: Path) -> Iterator[None]:
    """Keep two processes from writing into one download.

    Raises:
        BlockingIOError: another one is at it.
    """
    if sys.platform == "win32":  # an open file cannot be replaced there: the second one fails
        yield
        return
    import fcntl

    lock = part.with_name(part.name + ".lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"{part.name} is being fetched by another process") from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
