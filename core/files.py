"""Durable files: complete or absent after a power cut. And lock files."""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import itertools
import os
import pathlib
from collections.abc import Iterator


def sync_directory(folder: pathlib.Path) -> None:
    """Fsync a folder, which makes renames in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: pathlib.Path) -> None:
    """Fsync a file. Never one that this process has open in SQLite: closing it drops SQLite's locks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: pathlib.Path, text: str) -> None:
    """Write a file of mode 0600, completely or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        replace_durably(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def replace_durably(part: pathlib.Path, target: pathlib.Path) -> None:
    """Rename over the target, durably."""
    os.replace(part, target)
    sync_directory(target.parent)


def replace_with_numbered_backup(part: pathlib.Path, target: pathlib.Path) -> None:
    """Rename, durably; a different file that is there first becomes `target.1`, or the next free number."""
    if target.exists() and not filecmp.cmp(part, target, shallow=False):
        numbered = (target.with_name(f"{target.name}.{number}") for number in itertools.count(1))
        os.rename(target, next(path for path in numbered if not os.path.lexists(path)))
    replace_durably(part, target)


@contextlib.contextmanager
def locked(path: pathlib.Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file against other processes; raises BlockingIOError if it is held and `wait` is false."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def is_read_only(folder: str | os.PathLike[str]) -> bool:
    """Return whether the file system of a folder is mounted read-only."""
    with contextlib.suppress(OSError):
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    return False
