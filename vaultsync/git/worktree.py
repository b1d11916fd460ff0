"""The working copy: what people and scripts changed in it, and its way from one commit to another."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable

from vaultsync.git.command import BRANCH, GITLINK, SYMLINK, Change, Git, index_lines
from vaultsync.git.files import Blocked, FileProblem, Files, blob_id, free_conflict_name
from vaultsync.notes.layout import OVERVIEW, OWNED, TASK_FOLDERS, TASKS, task_of_path
from vaultsync.notes.merge import merge_note, merge_plain

_CONFLICT_MARKERS = re.compile(rb"^<<<<<<< .*^=======\r?$.*^>>>>>>> ", re.MULTILINE | re.DOTALL)
_MANY_DELETIONS = 5
_BATCH = 200
_PACK_FROM = 100  # files
_PACK_BATCH = 1000
_PACK_MOST_BYTES = 64 * 1024
_JOURNAL = "checkout.json"


class UnmergedIndex(Exception):
    """The index holds an unfinished merge."""


class Worktree:
    """The files of the vault beside git's index and branch. `on_step` hears of each step of a checkout."""

    def __init__(self, git: Git, files: Files, on_step: Callable[[str], None]) -> None:
        self.git = git
        self.files = files
        self.on_step = on_step
        self.problems: list[FileProblem] = []

    # --- changes
    def changed_paths(self) -> list[str]:
        """Return the paths to stage: edited, new, or deleted on purpose. Lost files are restored first."""
        edited, deleted, unmerged = self._status()
        if unmerged:
            raise UnmergedIndex
        tracked = len(self.git.run("ls-files", "-z").split(b"\0")) - 1 if deleted else 0
        is_emptied = len(deleted) >= _MANY_DELETIONS and len(deleted) * 2 >= tracked
        moved = {task_of_path(path) for path in edited}
        lost = {
            path
            for path in deleted
            if is_emptied or path == OVERVIEW or (task_of_path(path) is not None and task_of_path(path) not in moved)
        }
        if lost:
            self._restore(lost)
        committable = [path for path in edited if self._may_be_committed(path)]
        return committable + [path for path in deleted if path not in lost]

    def stage(self, paths: Iterable[str]) -> int:
        """Put exactly these paths into the index as they are; returns how many."""
        distinct = set(paths)
        gone = sorted(path for path in distinct if not self._is_present(path))
        if gone:
            lines = index_lines([(path, ("", "")) for path in gone], self.files.null_id)
            self.git.run("update-index", "-z", "--index-info", stdin=b"".join(lines))
        present = sorted(distinct.difference(gone))
        if len(present) >= _PACK_FROM:
            present = self._stage_as_pack(present)
        if present:
            stdin = b"".join(os.fsencode(path) + b"\0" for path in present)
            self.git.run("update-index", "--add", "--replace", "-z", "--stdin", stdin=stdin)
        return len(distinct)

    def _stage_as_pack(self, paths: list[str]) -> list[str]:
        """Stage the small plain files among many paths as a pack of blobs; returns the paths that are left."""
        left = []
        for start in range(0, len(paths), _PACK_BATCH):
            contents: dict[str, bytes] = {}
            for path in paths[start : start + _PACK_BATCH]:
                mode = os.lstat(self.files.absolute(path))
                if stat.S_ISREG(mode.st_mode) and not mode.st_mode & 0o111 and mode.st_size < _PACK_MOST_BYTES:
                    contents[path] = self.files.read(path)
                else:
                    left.append(path)
            self.git.import_blobs(contents.values())
            null_id = self.files.null_id
            entries = [(path, ("100644", blob_id(content, null_id))) for path, content in contents.items()]
            self.git.run("update-index", "-z", "--add", "--index-info", stdin=b"".join(index_lines(entries, null_id)))
        self.git.run("update-index", "-q", "--refresh", accept=(0, 1))
        return left

    def _is_present(self, path: str) -> bool:
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
                self.problems.append(FileProblem(path, "a repository within the vault; it is left alone"))
            elif code[1] == "D" or (code == "D " and not self.files.kind(path)):
                deleted.append(path)
            else:
                edited.append(path)
        return edited, deleted, unmerged

    def _restore(self, paths: set[str]) -> None:
        """Restore files as the last commit has them."""
        entries: list[tuple[str, str, str]] = []
        for line in self.git.run("ls-tree", "-r", "-z", "HEAD").split(b"\0"):
            attributes, _, name = line.partition(b"\t")
            path = os.fsdecode(name)
            if path in paths and not self.files.kind(path):
                mode, kind, blob = attributes.decode().split(" ")
                if kind == "blob":
                    entries.append((path, mode, blob))
        for start in range(0, len(entries), _BATCH):
            part = entries[start : start + _BATCH]
            contents = self.git.blobs(blob for _, _, blob in part)
            for path, mode, blob in part:
                self._restore_file(path, mode, contents[blob])

    def _restore_file(self, path: str, mode: str, content: bytes) -> None:
        try:
            self._write_mode(path, mode, content)
        except Blocked as error:
            self.problems.append(FileProblem(path, str(error)))

    def _may_be_committed(self, path: str) -> bool:
        """Return False for what git can't hold, and for files with conflict markers: a person is at work there."""
        if self.files.kind(path) != "file":
            if self.files.kind(path) == "link" and path not in (TASKS, *TASK_FOLDERS):
                return True
            self.problems.append(FileProblem(path, "it is neither a file nor a folder; it is left alone"))
            return False
        try:
            content = self.files.read(path)
        except (Blocked, OSError) as error:
            self.problems.append(FileProblem(path, str(error)))
            return False
        if path.endswith(".md") and _CONFLICT_MARKERS.search(content):
            self.problems.append(FileProblem(path, "it holds conflict markers; it is not committed"))
            return False
        return True

    def _write_mode(self, path: str, mode: str, content: bytes) -> None:
        if mode == SYMLINK:
            self.files.link(path, content)
        else:
            self.files.write(path, content, 0o755 if mode == "100755" else 0o644)

    # --- checkout
    def checkout(self, *, tree: str, head: str | None, to: str) -> None:
        """Go from a tree (what the working copy holds, whatever HEAD is) to a commit, with index and branch.

        git's own checkout writes files in place: a kill in mid-file would leave half a note that looks like an edit.
        A journal says where to while this is under way.
        """
        self.files.write_scratch(_JOURNAL, json.dumps({"tree": tree, "head": head, "to": to}).encode())
        self._run_checkout(tree, to)

    def finish_checkout(self) -> None:
        """Complete the checkout of a killed sync."""
        journal = self.files.scratch / _JOURNAL
        try:
            entry = json.loads(journal.read_bytes())
            tree, head, to = entry["tree"], entry["head"], entry["to"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            journal.unlink()
            return
        if self.git.resolve("HEAD") not in (head, to):
            journal.unlink()  # someone has moved the branch since: the files are theirs
            return
        self._run_checkout(tree, to)

    def _run_checkout(self, tree: str, to: str) -> None:
        self.on_step("journal")
        changes = self.git.diff(tree, to)
        for start in range(0, len(changes), _BATCH):
            batch = changes[start : start + _BATCH]
            contents = self.git.blobs(
                blob for change in batch for blob in (change.old, change.new) if change.new_mode != GITLINK
            )
            for change in sorted(batch, key=lambda change: bool(change.new)):
                try:
                    self._apply(change, contents)
                except (Blocked, FileNotFoundError, IsADirectoryError) as error:
                    self.problems.append(FileProblem(change.path, str(error)))
            self.on_step("checkout-part")
        entries = [(change.path, (change.new_mode, change.new)) for change in changes]
        self.git.run("update-index", "-z", "--index-info", stdin=b"".join(index_lines(entries, self.files.null_id)))
        self.git.run("update-index", "-q", "--refresh", accept=(0, 1))
        self.on_step("checked-out")
        self.git.run("update-ref", "-m", "sync", f"refs/heads/{BRANCH}", to)
        self.git.run("symbolic-ref", "-m", "sync", "HEAD", f"refs/heads/{BRANCH}")
        (self.files.scratch / _JOURNAL).unlink(missing_ok=True)

    def _apply(self, change: Change, contents: dict[str, bytes]) -> None:
        path = change.path
        if GITLINK in (change.new_mode, change.old_mode):
            return
        kind = self.files.kind(path)
        current: bytes | None = None
        if kind == "file":
            current = self.files.read(path)
        elif kind == "link":
            current = os.fsencode(os.readlink(self.files.absolute(path)))
        elif kind:
            if not change.new:
                return
            with contextlib.suppress(OSError):  # an empty one, of which git knows nothing
                os.rmdir(self.files.absolute(path))
            if self.files.kind(path):
                raise Blocked("a folder is where the remote has a file")
        blob = blob_id(current, change.new or change.old) if current is not None else ""
        if blob == change.new and (kind == "link") == (change.new_mode == SYMLINK):
            return
        if current is None or blob == change.old:
            self._replace(change, contents.get(change.new))
        elif change.new:
            self._merge_edit(change, current, contents, kind)

    def _replace(self, change: Change, content: bytes | None) -> None:
        if not change.new:
            self.files.remove(change.path)
        elif content is None:
            raise Blocked("its content is missing from the repository")
        else:
            self._write_mode(change.path, change.new_mode, content)

    def _merge_edit(self, change: Change, current: bytes, contents: dict[str, bytes], kind: str) -> None:
        """Merge an edit that was made since the last commit into the incoming version."""
        incoming = contents.get(change.new, b"")
        if kind == "link" or change.new_mode == SYMLINK:
            raise Blocked("a link was changed on both sides; the local one is kept")

        def text_merge(first: bytes, second: bytes, third: bytes) -> bytes | None:
            return self.git.merge_text(self.files.scratch, first, second, third)

        base = contents.get(change.old)
        if task_of_path(change.path) is not None:
            merged = merge_note(base, current, incoming, owned=OWNED)
        else:
            merged = merge_plain(base, current, incoming, text_merge=text_merge)
        if merged.conflict_copy is not None:
            name = free_conflict_name(self.files, change.path, merged.conflict_copy)
            self.files.write(name, merged.conflict_copy)
            self.problems.append(FileProblem(change.path, f"edited on both sides; the local version is in {name}"))
        self.files.write(change.path, merged.content)
