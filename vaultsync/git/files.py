"""The files of the working copy: replaced in one step, never through a symlink, never outside the vault."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import pathlib
import re
import stat
from collections.abc import Callable

from core.git.command import SYMLINK

SCRATCH = ".git/lobwife"
_MOST_BYTES = 255  # of a file's name
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL})
_UNPLACEABLE = frozenset(
    {*(errno.ENAMETOOLONG, errno.EINVAL, errno.EACCES, errno.EPERM), *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST)}
)
# Also as Windows reads it: a short name, blanks and dots behind it, a stream of the folder.
_DOT_GIT = re.compile(r"(?:.*\\)?(?:\.git|git~1)[ .]*(?:[:\\].*)?", re.IGNORECASE | re.DOTALL)
_NO_NAMES = frozenset({"", ".", ".."})


class Blocked(Exception):
    """A path can't be written or read safely; the text is a sentence for people."""


class Files:
    """The files of one vault, by their paths relative to it."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.scratch = root / SCRATCH
        self._root = f"{root}/"  # joined as text: pathlib took a tenth of a large sync
        self._real_root = os.path.realpath(root)
        self._temporary = f"{self.scratch}/new"
        self._safe: set[str] = set()

    def absolute(self, path: str) -> str:
        return self._root + path

    def kind(self, path: str) -> str:
        """Return `file`, `link`, `folder` or `other`; the empty string for nothing, also behind a symlink."""
        try:
            mode = os.lstat(self._root + path).st_mode if self._is_inside(path.rpartition("/")[0]) else 0
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return ""
            raise
        kinds = {0: "", stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFDIR: "folder"}
        return kinds.get(stat.S_IFMT(mode), "other")

    def open(self, path: str) -> io.FileIO:
        """Open a regular file to read; raises Blocked for anything else, FileNotFoundError for nothing."""
        self.check(path)
        kind = self.kind(path)
        if kind not in ("", "file"):
            raise Blocked("it is a symlink" if kind == "link" else "it is not a regular file")
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # in case it has become something else
            return open(os.open(self._root + path, flags), "rb", buffering=0)
        except PermissionError:
            raise Blocked("it can't be read: permission denied") from None

    def read(self, path: str, most: int = -1) -> bytes:
        """Return a file's content, or its first `most` bytes; raises as `open` does."""
        with self.open(path) as file:
            return file.read(most)

    def write(self, path: str, content: bytes, mode: str = "100644") -> None:
        """Replace a path in one step by a file, or by a symlink; a reader sees the old one or the new one."""
        self.check(path)
        try:
            self._write_temporary(content, mode)
            try:
                os.replace(self._temporary, self._root + path)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self._root + path), exist_ok=True)
                os.replace(self._temporary, self._root + path)
        except OSError as error:
            if error.errno in _UNPLACEABLE:
                raise Blocked(f"it can't be written here: {(error.strerror or str(error)).lower()}") from None
            raise

    def _write_temporary(self, content: bytes, mode: str) -> None:
        try:
            if mode == SYMLINK:
                os.symlink(os.fsdecode(content), self._temporary)
                self._safe.clear()
                return
            with open(self._temporary, "xb") as file:
                file.write(content)
                os.fchmod(file.fileno(), 0o755 if mode == "100755" else 0o644)
        except FileExistsError:  # of a sync that was killed
            os.unlink(self._temporary)
            self._write_temporary(content, mode)

    def remove(self, path: str) -> None:
        """Delete a file and the folders that it leaves empty."""
        self.check(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._root + path)
        self._safe.clear()
        with contextlib.suppress(OSError):
            while path := os.path.dirname(path):
                os.rmdir(self._root + path)

    def check(self, path: str) -> None:
        """Raise Blocked when a folder on the way is a symlink, or the path leaves the vault or leads into a .git."""
        if not is_placeable(path):
            raise Blocked("its path is none that a file of the vault can have")
        if not self._is_inside(path.rpartition("/")[0]):
            raise Blocked("a folder on its way is a symlink")

    def _is_inside(self, folder: str) -> bool:
        if folder not in self._safe:
            if os.path.realpath(self._root + folder) != f"{self._real_root}/{folder}".rstrip("/"):
                return False
            self._safe.add(folder)
        return True


def is_placeable(path: str) -> bool:
    """Return False for a path that git's index refuses: out of the vault, or into a `.git`, however it is written."""
    parts = path.split("/")
    if "git" in path.lower() and any(map(_DOT_GIT.fullmatch, parts)):
        return False
    return not _NO_NAMES.intersection(parts)


def conflict_name(path: str, is_free: Callable[[str], bool]) -> str:
    """Return the first free name for a version that could not be merged: `T42.conflict.md`, `T42.conflict-2.md`, …"""
    folder, slash, name = path.rpartition("/")
    stem, extension = os.path.splitext(name)
    for number in itertools.count(1):
        ending = f".conflict{f'-{number}' if number > 1 else ''}{extension}"
        short = os.fsencode(stem)[: _MOST_BYTES - len(os.fsencode(ending))].decode(errors="ignore")
        if is_free(f"{folder}{slash}{short}{ending}"):
            break
    return f"{folder}{slash}{short}{ending}"
