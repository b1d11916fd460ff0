"""The files of the working copy: replaced in one step, never through a symlink, never outside the vault."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import pathlib
import re
import stat
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

SCRATCH = ".git/lobwife"
_MOST_BYTES = 255  # of a file's name
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL})
_UNPLACEABLE = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR})
# Also as Windows and macOS read it: a short name, blanks and dots behind it, characters that show nothing.
_DOT_GIT = re.compile(r"(?:.*\\)?(?:\.git|git~1)[ .]*(?:[:\\].*)?", re.IGNORECASE | re.DOTALL)
_SHA256 = re.compile(r"^\s*objectformat\s*=\s*\"?sha256", re.IGNORECASE | re.MULTILINE)


class Blocked(Exception):
    """A path can't be written or read safely; the text is a sentence for people."""


class FileProblem(NamedTuple):
    """A file that was left alone, and the reason as a sentence."""

    path: str
    sentence: str


class Files:
    """The files of one vault, by their paths relative to it."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.scratch = root / SCRATCH
        self._root = f"{root}/"  # joined as text: pathlib took a tenth of a large sync
        self._scratch = f"{self.scratch}/{os.getpid()}-"
        self._number = 0
        self._safe: set[str] = set()

    @functools.cached_property
    def null_id(self) -> str:
        """Return git's id of nothing: as many zeros as an id of this repository has digits."""
        configuration = (self.root / ".git" / "config").read_text(errors="replace")
        return "0" * (64 if _SHA256.search(configuration) else 40)

    def absolute(self, path: str) -> pathlib.Path:
        return self.root / path

    def kind(self, path: str) -> str:
        """Return `file`, `link`, `folder`, `other` or, for nothing at all, the empty string."""
        try:
            mode = os.lstat(self._root + path).st_mode
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return ""
            raise
        if stat.S_ISREG(mode):
            return "file"
        if stat.S_ISLNK(mode):
            return "link"
        return "folder" if stat.S_ISDIR(mode) else "other"

    def open(self, path: str) -> BinaryIO:
        """Open a regular file to read; raises Blocked for anything else, FileNotFoundError for nothing."""
        self.check_folder(path)
        try:
            descriptor = os.open(self._root + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(path) from None
        except OSError as error:
            raise Blocked(f"it can't be read: {_reason(self, path, error)}") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # open() fails on a folder and leaves the descriptor open
            os.close(descriptor)
            raise Blocked("it is not a regular file")
        return open(descriptor, "rb")

    def read(self, path: str, most: int = -1) -> bytes:
        """Return a file's content, or its first `most` bytes; raises as `open` does."""
        with self.open(path) as file:
            return file.read(most)

    def blob_at(self, path: str) -> str | None:
        """Return the id of what lies at a path; None for nothing."""
        kind = self.kind(path)
        return blob_id(self.read(path), self.null_id) if kind == "file" else kind or None

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Replace a file in one step; a reader sees the old one or the new one."""
        self.make_folder(path)
        self._number += 1
        temporary = f"{self._scratch}{self._number}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(descriptor, mode)
            self._put(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _put(self, temporary: str, path: str) -> None:
        try:
            os.replace(temporary, self._root + path)
        except OSError as error:
            if error.errno in _UNPLACEABLE:
                raise Blocked(f"it can't be written here: {(error.strerror or str(error)).lower()}") from None
            raise

    def write_scratch(self, name: str, content: bytes) -> None:
        """Replace a file of our own, durably."""
        temporary = self.scratch / f"{name}.new"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.scratch / name)

    def link(self, path: str, target: bytes) -> None:
        """Replace a path by a symlink in one step."""
        self.make_folder(path)
        self._number += 1
        temporary = f"{self._scratch}{self._number}"
        os.symlink(os.fsdecode(target), temporary)
        self._put(temporary, path)

    def remove(self, path: str) -> None:
        """Delete a file and the folders that it leaves empty."""
        self.check_folder(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._root + path)
        self._safe.clear()
        folder = os.path.dirname(path)
        while folder:
            try:
                os.rmdir(self._root + folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def check_folder(self, path: str) -> None:
        """Raise Blocked when a folder on the way is a symlink, or the path leaves the vault or leads into a .git."""
        folder = os.path.dirname(path)
        if folder in self._safe and is_placeable(path):
            return
        if not is_placeable(path):
            raise Blocked("its path is none that a file of the vault can have")
        parts = path.split("/")
        current = ""
        for part in parts[:-1]:
            current = f"{current}/{part}" if current else part
            if self.kind(current) == "link":
                raise Blocked(f"the folder {current} is a symlink")
        self._safe.add(folder)

    def make_folder(self, path: str) -> None:
        """Create the folder of a path; raises Blocked when a file or a symlink is in the way."""
        folder = os.path.dirname(path)
        was_checked = folder in self._safe
        self.check_folder(path)
        if was_checked and os.path.isdir(self._root + folder):
            return
        try:
            os.makedirs(self._root + folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            self._safe.discard(folder)
            raise Blocked(f"a file is where the folder {folder} should be") from None
        except OSError as error:
            if error.errno in _UNPLACEABLE:
                raise Blocked(f"its folder can't be made: {(error.strerror or str(error)).lower()}") from None
            raise

    def prepare_scratch(self) -> None:
        """Create the folder for files that are being written, and empty it of what a killed sync left."""
        os.makedirs(self.scratch, exist_ok=True)
        for entry in os.scandir(self.scratch):
            if entry.name[0].isdigit() or entry.name in ("ours", "base", "theirs"):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
        self._safe.clear()


def is_placeable(path: str) -> bool:
    """Return False for a path that git's index refuses: out of the vault, or into a `.git`, however it is written."""
    return bool(path) and not any(part in ("", ".", "..") or _DOT_GIT.fullmatch(part) for part in path.split("/"))


def conflict_name(path: str, blob: str, blob_at: Callable[[str], str | None]) -> str:
    """Return the name for a version that could not be merged: `T42.conflict.md`, `T42.conflict-2.md` and so on.

    It is the first that is free, or where the same `blob` lies. Raises Blocked when there is none.
    """
    folder, _, name = path.rpartition("/")
    stem, extension = os.path.splitext(name)
    for number in range(1, 1000):
        ending = f".conflict{f'-{number}' if number > 1 else ''}{extension}"
        short = os.fsencode(stem)[: _MOST_BYTES - len(os.fsencode(ending))].decode(errors="ignore")
        name = f"{folder}/{short}{ending}" if folder else f"{short}{ending}"
        if blob_at(name) in (None, blob):
            return name
    raise Blocked("it has a thousand conflicts beside it")


def blob_id(content: bytes, example: str = "") -> str:
    """Return the id that git gives to a content, by the hash of the id `example`; SHA-1 without one."""
    algorithm = "sha256" if len(example) == 64 else "sha1"
    return hashlib.new(algorithm, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _reason(files: Files, path: str, error: OSError) -> str:
    return "it is a symlink" if files.kind(path) == "link" else (error.strerror or str(error)).lower()
