"""Files that are whole or absent, whenever the power goes."""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import itertools
import os
import pathlib
from collections.abc import Iterator


def sync_directory(folder: pathlib.Path) -> None:
    """Make the names in a folder durable: a rename is not, until this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: pathlib.Path) -> None:
    """Make a file's content durable. Never on a file that this process has open in SQLite: closing drops its locks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: pathlib.Path, text: str) -> None:
    """Put a file of mode 0600 in place, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def put_in_place(part: pathlib.Path, target: pathlib.Path) -> None:
    """Rename, durably, over what is there."""
    os.replace(part, target)
    sync_directory(target.parent)


def keep_in_place(part: pathlib.Path, target: pathlib.Path) -> None:
    """Rename, durably; a different file that is there is first moved to the first free of `target.1`, `target.2`…"""
    if target.exists() and not filecmp.cmp(part, target, shallow=False):
        numbered = (target.with_name(f"{target.name}.{number}") for number in itertools.count(1))
        os.rename(target, next(each for each in numbered if not os.path.lexists(each)))
    put_in_place(part, target)


@contextlib.contextmanager
def locked(path: pathlib.Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file against other processes; raises BlockingIOError at once when not to wait."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
