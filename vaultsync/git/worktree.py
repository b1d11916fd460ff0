"""The working copy: what people and scripts changed in it, and its way from one commit to another."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence

from vaultsync.git.command import BRANCH, GITLINK, SYMLINK, Change, Entry, Git, index_lines, quote_path
from vaultsync.git.files import Blocked, FileProblem, Files, blob_id, conflict_name, is_placeable
from vaultsync.notes.layout import OVERVIEW, TASK_FOLDERS, TASKS, task_of_note, task_of_path
from vaultsync.notes.merge import copy_beside, has_conflict_markers, merge_file

_MANY_DELETIONS = 5
_BATCH = 200
_LOOKS = 20  # at a file that somebody keeps writing into
_MOST_BYTES = 2 * 2**20  # of a text that is looked at
_UNMERGED = re.compile(r"\d{6} [0-9a-f]{40,64} [123]\t")
_JOURNAL = "checkout.json"
_UNPLACED = "unplaced.json"


class UnmergedIndex(Exception):
    """The index holds an unfinished merge."""


class Worktree:
    """The files of the vault beside git's index and branch. `on_step` hears of each step of a checkout."""

    def __init__(self, git: Git, files: Files, on_step: Callable[[str], None]) -> None:
        self.git = git
        self.files = files
        self.on_step = on_step
        self.problems: list[FileProblem] = []
        self._places: dict[int, Change] = {}  # where a checkout puts notes
        self.late: list[str] = []  # what a checkout merged, or put beside, since it was edited meanwhile

    # --- changes
    def changes(self, head: str | None, *, placed: str | None, paths: Sequence[str] = ()) -> dict[str, Entry | None]:
        """Return what people changed since the commit `head`, here or only at `paths`; None for a file they deleted.

        A deletion is somebody's only if the file lay there after our last checkout, of the commit `placed`, and is no
        note. Anything else that is missing is put back. Raises UnmergedIndex.
        """
        before, missing, edited = self._differing(head, paths)
        if paths and any(task_of_path(path) is not None for path in missing):
            before, missing, edited = self._differing(head, ())  # a note that is not there may lie anywhere
        tasks = {task for task in map(task_of_path, missing) if task is not None}
        moved = {task for path in edited if (task := self._task_of(path, bool(tasks))) is not None}
        deleted = self._deleted(missing, moved, placed)
        self._put_back({path: before[path] for path in missing if path not in deleted})
        changed: dict[str, Entry | None] = dict.fromkeys(deleted)
        entries = self._hashed([path for path in edited if self._may_be_committed(path)])
        return changed | {path: entry for path, entry in entries.items() if entry != before.get(path)}

    def _differing(self, head: str | None, paths: Sequence[str]) -> tuple[dict[str, Entry], list[str], list[str]]:
        """Return the entries of `head` that differ here, which of them are missing, and the paths that are edited."""
        tree = head or self.git.tree_of(None)
        diff = ("diff-index", "-z", "--no-renames", "--ignore-submodules=all", tree, "--", *paths)
        fields = self.git.run(*diff).split(b"\0")
        before: dict[str, Entry] = {}
        missing, edited = [], []
        for attributes, name in zip(fields[::2], fields[1::2], strict=False):
            path = os.fsdecode(name)
            old_mode, mode, old, _, kind = attributes[1:].decode().split(" ")
            if GITLINK in (old_mode, mode):
                continue
            if kind != "A":
                before[path] = (old_mode, old)
            if kind == "D" and self._is_present(path):
                edited.append(path)  # only taken out of the index
            elif kind == "D":
                missing.append(path)
            elif path != OVERVIEW:
                edited.append(path)
        listed = ("-z", "--others", "--unmerged", "--exclude-standard")
        untracked = self.git.run("ls-files", *listed, "--", *paths).split(b"\0")
        for path in map(os.fsdecode, filter(None, untracked)):
            if _UNMERGED.match(path):
                raise UnmergedIndex
            if path.endswith("/"):
                self.problems.append(FileProblem(path, "a repository within the vault; it is left alone"))
            elif path not in before:
                edited.append(path)
        return before, missing, edited

    def _task_of(self, path: str, look: bool) -> int | None:
        """Return the task whose note an edited file is: by its name or, if `look`, by the id that it holds."""
        task = task_of_path(path)
        if task is not None or not look or not path.endswith(".md") or self.files.kind(path) != "file":
            return task
        with contextlib.suppress(Blocked, OSError):
            return task_of_note(self.files.read(path))
        return None

    def _deleted(self, missing: Sequence[str], moved: set[int], placed: str | None) -> set[str]:
        """Return which of the missing files somebody deleted, or moved, on purpose."""
        if not missing:
            return set()
        tracked = len(self.git.run("ls-files", "-z").split(b"\0")) - 1
        if placed is None or (len(missing) >= _MANY_DELETIONS and len(missing) * 2 >= tracked):
            return set()
        there = self.git.entries(placed, missing, recursive=True).keys() - self._unplaced().keys()
        return {path for path in there.intersection(missing) - {OVERVIEW} if task_of_path(path) in (None, *moved)}

    def _is_present(self, path: str) -> bool:
        try:
            self.files.check_folder(path)
        except Blocked:
            return False
        return self.files.kind(path) in ("file", "link")

    def _put_back(self, entries: Mapping[str, Entry]) -> None:
        """Restore files as a commit has them."""
        unplaced, paths = self._unplaced(), list(entries)
        for start in range(0, len(paths), _BATCH):
            part = paths[start : start + _BATCH]
            contents = self.git.blobs(entries[path][1] for path in part)
            for path in part:
                mode, blob = entries[path]
                try:
                    if self.files.kind(path) == "folder":
                        raise Blocked("a folder is where the file should be")
                    self._write_mode(path, mode, contents[blob])
                    unplaced.pop(path, None)
                except Blocked as error:
                    unplaced[path] = str(error)
        if entries:
            self.set_index(entries.items())
            self._save_unplaced(unplaced)

    def _may_be_committed(self, path: str) -> bool:
        """Return False for what git can't hold, and for files with conflict markers: a person is at work there."""
        kind = self.files.kind(path)
        if kind != "file":
            if kind == "link" and path not in (TASKS, *TASK_FOLDERS):
                return True
            self.problems.append(FileProblem(path, "it is neither a file nor a folder; it is left alone"))
            return False
        try:
            content = self.files.read(path, most=_MOST_BYTES)
        except (Blocked, OSError) as error:
            self.problems.append(FileProblem(path, str(error)))
            return False
        if has_conflict_markers(content):
            self.problems.append(FileProblem(path, "it holds conflict markers; it is not committed"))
            return False
        return True

    def _hashed(self, paths: Sequence[str]) -> dict[str, Entry]:
        """Write files as blobs, and return their entries."""
        modes = {path: os.lstat(self.files.absolute(path)).st_mode for path in paths}
        plain = [path for path in paths if stat.S_ISREG(modes[path])]
        stdin = b"".join(quote_path(path) + b"\n" for path in plain)
        ids = self.git.text("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=stdin) if plain else ""
        entries = {
            path: ("100755" if modes[path] & 0o111 else "100644", blob)
            for path, blob in zip(plain, ids.split(), strict=True)
        }
        for path in paths:
            if stat.S_ISLNK(modes[path]):
                entries[path] = (SYMLINK, self.git.write_blob(os.fsencode(os.readlink(self.files.absolute(path)))))
        return entries

    def _write_mode(self, path: str, mode: str, content: bytes) -> None:
        if mode == SYMLINK:
            self.files.link(path, content)
        else:
            self.files.write(path, content, 0o755 if mode == "100755" else 0o644)

    # --- files that could not be placed
    def _unplaced(self) -> dict[str, str]:
        """Return the paths that a checkout could not write, with the reason: that they are missing means nothing."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.files.scratch / _UNPLACED).read_bytes()))
        return {}

    def _save_unplaced(self, unplaced: Mapping[str, str]) -> None:
        if unplaced != self._unplaced():
            self.files.write_scratch(_UNPLACED, json.dumps(unplaced).encode())

    def report_unplaced(self, head: str | None) -> None:
        """Report what could not be placed and is still in the commit `head`; forget the rest."""
        unplaced = self._unplaced()
        if unplaced:
            present = self.git.entries(head, list(unplaced), recursive=True)
            unplaced = {path: sentence for path, sentence in unplaced.items() if path in present}
            self._save_unplaced(unplaced)
            self.problems += [FileProblem(path, sentence) for path, sentence in unplaced.items()]

    # --- checkout
    def checkout(self, *, tree: str, head: str | None, to: str, refs: Mapping[str, str]) -> None:
        """Go from a tree (what the working copy holds, whatever HEAD is) to a commit, with index, branch and `refs`.

        git's own checkout writes files in place: a kill in mid-file would leave half a note that looks like an edit.
        A journal says where to while this is under way.
        """
        journal = {"tree": tree, "head": head, "to": to, "refs": dict(refs)}
        self.files.write_scratch(_JOURNAL, json.dumps(journal).encode())
        self._run_checkout(tree, head, to, refs)

    def finish_checkout(self) -> None:
        """Complete the checkout of a killed sync."""
        journal = self.files.scratch / _JOURNAL
        try:
            entry = json.loads(journal.read_bytes())
            tree, head, to, refs = entry["tree"], entry["head"], entry["to"], entry.get("refs", {})
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            journal.unlink()
            return
        if self.git.resolve("HEAD") not in (head, to):
            journal.unlink()  # someone has moved the branch since: the files are theirs
            return
        self._run_checkout(tree, head, to, refs)

    def _run_checkout(self, tree: str, head: str | None, to: str, refs: Mapping[str, str]) -> None:
        self.on_step("journal")
        changes = self.git.diff(tree, to)
        self._places = {task: change for change in changes if change.new and (task := task_of_path(change.path))}
        unplaced = self._unplaced()
        for start in range(0, len(changes), _BATCH):
            batch = changes[start : start + _BATCH]
            contents = self.git.blobs(
                blob for change in batch for blob in (change.old, change.new) if change.new_mode != GITLINK
            )
            for change in sorted(batch, key=lambda change: bool(change.new)):
                unplaced.pop(change.path, None)
                try:
                    self._apply(change, contents)
                except (Blocked, FileNotFoundError, IsADirectoryError) as error:
                    unplaced[change.path] = str(error)
            self.on_step("checkout-part")
        self._save_unplaced(unplaced)
        staged = self.git.diff(head or self.git.tree_of(None), to) if head != tree else []
        self.set_index((change.path, (change.new_mode, change.new)) for change in (*changes, *staged))
        self.on_step("checked-out")
        self.git.set_refs({f"refs/heads/{BRANCH}": to, **refs})
        if not is_on_branch(self.files):
            self.git.run("symbolic-ref", "-m", "sync", "HEAD", f"refs/heads/{BRANCH}")
        (self.files.scratch / _JOURNAL).unlink(missing_ok=True)
        self.on_step("committed")

    def set_index(self, entries: Iterable[tuple[str, Entry]]) -> None:
        """Put entries into the index, but for paths that it refuses; an empty mode removes."""
        accepted = [
            (path, entry)
            for path, entry in dict(entries).items()
            if is_placeable(path) and not _is_refused(path, entry)
        ]
        lines = index_lines(accepted, self.files.null_id)
        self.git.run("update-index", "--add", "--replace", "-z", "--index-info", stdin=b"".join(lines))
        self.git.run("update-index", "-q", "--refresh", accept=(0, 1))

    def _apply(self, change: Change, contents: Mapping[str, bytes]) -> None:
        path = change.path
        if change.new_mode == GITLINK:
            raise Blocked("a submodule; it is left alone")
        if change.old_mode == GITLINK and not change.new:
            return
        if not change.old and path in self.late:
            return  # an edited note that moved here
        kind = self.files.kind(path)
        current: bytes | None = None
        with contextlib.ExitStack() as stack:
            if kind == "file":
                file = stack.enter_context(self.files.open(path))
                current = file.read()
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
            if current is None or blob == change.old or path == OVERVIEW:
                self._replace(change, contents.get(change.new))
            elif change.new:
                self._merge_edit(change, current, contents.get(change.old), contents.get(change.new, b""), kind)
            else:
                self._follow(change, current)
            if kind == "file" and path != OVERVIEW:
                file.seek(0)
                self._merge_late(change, current or b"", file.read())

    def _follow(self, change: Change, current: bytes) -> None:
        """Take an edit of a note along to where the note moves; one of another file that goes stays."""
        target = self._places.get(task_of_path(change.path) or 0)
        if target is None or target.path == change.path:
            return
        contents = self.git.blobs([change.old, target.new])
        self.files.write(target.path, current)
        self._merge_edit(target, current, contents.get(change.old), contents.get(target.new, b""), "file")
        self.files.remove(change.path)
        del self._places[task_of_path(change.path) or 0]
        self.late.append(target.path)

    def _merge_late(self, change: Change, before: bytes, now: bytes) -> None:
        """Merge what was written into a file while it was replaced, and into that one while it was, and so on."""
        for _ in range(_LOOKS):
            if now == before:
                return
            if not self.files.kind(change.path):
                self.files.write(change.path, before)  # it was removed, and somebody writes on
            with self.files.open(change.path) as file:
                present = file.read()
                if now.startswith(before):
                    self._write_mode(change.path, change.new_mode or change.old_mode, present + now[len(before) :])
                    self.late.append(change.path)
                else:
                    self._merge_edit(change, now, before, present, "file")
                file.seek(0)
                before, now = present, file.read()

    def _replace(self, change: Change, content: bytes | None) -> None:
        if not change.new:
            self.files.remove(change.path)
        elif content is None:
            raise Blocked("its content is missing from the repository")
        else:
            self._write_mode(change.path, change.new_mode, content)

    def _merge_edit(self, change: Change, edited: bytes, base: bytes | None, incoming: bytes, kind: str) -> None:
        """Write an edit that was made since the last commit, merged into the incoming version."""
        if kind == "link" or change.new_mode == SYMLINK:
            raise Blocked("a link was changed on both sides; the local one is kept")

        def merge_text(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
            return self.git.merge_text(self.files.scratch, base, ours, theirs)

        merged = merge_file(change.path, base, edited, incoming, merge_text)
        if merged.is_conflict:
            beside = copy_beside(change.path, edited)
            name = conflict_name(change.path, blob_id(beside, self.files.null_id), self.files.blob_at)
            self.files.write(name, beside)
            self.late.append(name)
            self.problems.append(FileProblem(change.path, f"edited on both sides; the local version is in {name}"))
        self._write_mode(change.path, change.new_mode or change.old_mode, merged.content)
        self.late.append(change.path)


def _is_refused(path: str, entry: Entry) -> bool:
    """Return True for a symlink that git refuses in its index."""
    return entry[0] == SYMLINK and path.rpartition("/")[2].lower().startswith(".git")


def is_on_branch(files: Files) -> bool:
    """Return True when HEAD is on our branch, False when it is detached; raises Blocked on another branch."""
    name = (files.root / ".git" / "HEAD").read_text().strip()
    if name.startswith("ref: ") and name != f"ref: refs/heads/{BRANCH}":
        raise Blocked(f"the vault is on the branch {name.removeprefix('ref: refs/heads/')}; check out {BRANCH}")
    return name.startswith("ref: ")
