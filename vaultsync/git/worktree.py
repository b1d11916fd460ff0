"""What people and scripts changed in the working copy itself: found, restored or staged."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable

from vaultsync.git.command import Git
from vaultsync.git.files import Blocked, Files, blob_id
from vaultsync.git.merge import LINK, index_lines
from vaultsync.models import Kind
from vaultsync.notes.layout import OVERVIEW, TASK_FOLDERS, TASKS, task_of_path
from vaultsync.services import Report

_MARKERS = re.compile(rb"^<<<<<<< .*^=======\r?$.*^>>>>>>> ", re.MULTILINE | re.DOTALL)
_MANY = 5
_AT_ONCE = 200
_MANY_AT_ONCE = 100
_PACKED_AT_ONCE = 1000
_PACKED_BYTES = 64 * 1024


class WorkingCopy:
    """The difference between the index and the files."""

    def __init__(self, git: Git, files: Files) -> None:
        self.git = git
        self.files = files
        self.reports: list[Report] = []

    def dirty(self) -> list[str]:
        """Paths to stage: edited, new, or deleted on purpose. Lost files are put back first."""
        edited, deleted, unmerged = self._status()
        if unmerged:
            raise UnmergedIndex
        tracked = len(self.git.run("ls-files", "-z").split(b"\0")) - 1 if deleted else 0
        emptied = len(deleted) >= _MANY and len(deleted) * 2 >= tracked
        moved = {task_of_path(path) for path in edited}
        lost = {
            path
            for path in deleted
            if emptied or path == OVERVIEW or (task_of_path(path) is not None and task_of_path(path) not in moved)
        }
        if lost:
            self._restore(lost)
        kept = [path for path in edited if self._may_be_committed(path)]
        return kept + [path for path in deleted if path not in lost]

    def stage(self, paths: Iterable[str]) -> int:
        """Put exactly these paths into the index as they lie there; returns how many."""
        wanted = sorted(set(paths))
        gone = [path for path in wanted if not self._lies_there(path)]
        if gone:
            lines = index_lines([(path, ("", "")) for path in gone], self.files.no_id)
            self.git.run("update-index", "-z", "--index-info", stdin=b"".join(lines))
        present = sorted(set(wanted) - set(gone))
        if len(present) >= _MANY_AT_ONCE:
            present = self._stage_as_pack(present)
        if present:
            stdin = b"".join(os.fsencode(path) + b"\0" for path in present)
            self.git.run("update-index", "--add", "--replace", "-z", "--stdin", stdin=stdin)
        return len(wanted)

    def _stage_as_pack(self, paths: list[str]) -> list[str]:
        """Stage the small plain files among many paths as a pack of blobs; returns the paths that are left."""
        left = []
        for start in range(0, len(paths), _PACKED_AT_ONCE):
            found: dict[str, bytes] = {}
            for path in paths[start : start + _PACKED_AT_ONCE]:
                mode = os.lstat(self.files.at(path))
                if stat.S_ISREG(mode.st_mode) and not mode.st_mode & 0o111 and mode.st_size < _PACKED_BYTES:
                    found[path] = self.files.read(path)
                else:
                    left.append(path)
            self.git.import_blobs(found.values())
            none = self.files.no_id
            entries = [(path, ("100644", blob_id(content, none))) for path, content in found.items()]
            self.git.run("update-index", "-z", "--add", "--index-info", stdin=b"".join(index_lines(entries, none)))
        self.git.run("update-index", "-q", "--refresh", accept=(0, 1))
        return left

    def _lies_there(self, path: str) -> bool:
        try:
            self.files.check_folder(path)
        except Blocked:
            return False
        return self.files.kind(path) in ("file", "link")

    def _status(self) -> tuple[list[str], list[str], bool]:
        fields = self.git.run("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all").split(b"\0")
        edited, deleted, unmerged = [], [], False
        for field in fields:
            if not field:
                continue
            code, path = field[:2].decode(), os.fsdecode(field[3:])
            unmerged = unmerged or "U" in code or code in ("AA", "DD")
            if path.endswith("/"):
                self.reports.append(Report(path, Kind.BLOCKED, "a repository within the vault; it is left alone"))
            elif code[1] == "D" or (code == "D " and not self.files.kind(path)):
                deleted.append(path)
            else:
                edited.append(path)
        return edited, deleted, unmerged

    def _restore(self, paths: set[str]) -> None:
        """Write files again as the last commit has them."""
        found: list[tuple[str, str, str]] = []
        for line in self.git.run("ls-tree", "-r", "-z", "HEAD").split(b"\0"):
            about, _, name = line.partition(b"\t")
            path = os.fsdecode(name)
            if path in paths and not self.files.kind(path):
                mode, kind, blob = about.decode().split(" ")
                found += [(path, mode, blob)] if kind == "blob" else []
        for start in range(0, len(found), _AT_ONCE):
            part = found[start : start + _AT_ONCE]
            contents = self.git.blobs(blob for _, _, blob in part)
            for path, mode, blob in part:
                self._put(path, mode, contents[blob])

    def _put(self, path: str, mode: str, content: bytes) -> None:
        try:
            if mode == LINK:
                self.files.link(path, content)
            else:
                self.files.write(path, content, 0o755 if mode == "100755" else 0o644)
        except Blocked as error:
            self.reports.append(Report(path, Kind.BLOCKED, str(error)))

    def _may_be_committed(self, path: str) -> bool:
        """Not with conflict markers in it: someone has not finished there."""
        if self.files.kind(path) != "file":
            if self.files.kind(path) == "link" and path not in (TASKS, *TASK_FOLDERS):
                return True
            self.reports.append(Report(path, Kind.BLOCKED, "it is neither a file nor a folder; it is left alone"))
            return False
        try:
            content = self.files.read(path)
        except (Blocked, OSError) as error:
            self.reports.append(Report(path, Kind.BLOCKED, str(error)))
            return False
        if path.endswith(".md") and _MARKERS.search(content):
            self.reports.append(Report(path, Kind.BLOCKED, "it holds conflict markers; it is not committed"))
            return False
        return True


class UnmergedIndex(Exception):
    """The index holds an unfinished merge."""
