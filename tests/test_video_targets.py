"""Files that are written as a whole, or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from inpainterz.errors import VideoEncodeError
from inpainterz.video.targets import write_whole


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "list.json"
    target.write_bytes(b"before")
    write_whole(target, b"after")
    assert target.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [target]


def test_on_a_full_disk_what_was_there_stays_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "list.json"
    target.write_bytes(b"before")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(VideoEncodeError, match="the disk is full"):
            write_whole(target, b"after")
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_without_a_folder_it_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VideoEncodeError, match="cannot be written"):
        write_whole(tmp_path / "missing" / "list.json", b"data")
