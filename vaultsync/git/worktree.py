"""The working copy: what people and scripts changed in it, and its way from one commit to another."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from core.git.command import BRANCH, GITLINK, SYMLINK, Change, Changes, Entry, Git
from vaultsync.git.files import Blocked, Files, conflict_name, is_placeable
from vaultsync.models import Kind, Problems
from vaultsync.notes.layout import OVERVIEW, TASK_FOLDERS, TASKS, task_of_note, task_of_path
from vaultsync.notes.merge import copy_beside, has_conflict_markers, merge_file

_MANY_DELETIONS = 5
_LOOKS = 20  # at a file that somebody keeps writing into
_MOST_BYTES = 2 * 2**20  # of a text that is looked at
_UNREADABLE = re.compile(r"unable to index file '(.+)'")
OURS = "refs/lobwife/"
# The commit of the last checkout.
WRITTEN = f"{OURS}written"
# While a checkout is under way: where from and to, and what the refs are to be. The next sync does one that is killed.
JOURNAL = f"{OURS}checkout/"


class Worktree:
    """The files of the vault beside git's index and branch. `on_step` hears of each step of a checkout."""

    def __init__(self, git: Git, files: Files, problems: Problems, on_step: Callable[[str], None]) -> None:
        self.git = git
        self.files = files
        self.on_step = on_step
        self.problems = problems
        self.edited: set[str] = set()  # into which a checkout merged what was written meanwhile: not committed yet
        self._moved_here: set[str] = set()

    # --- changes
    def edits(
        self, head: str | None, placed: str | None, *, paths: Collection[str] = (), marked: bool = False
    ) -> Changes:
        """Return what people changed since the commit `head`, files with conflict markers only if `marked`.

        With `paths` only these files are looked at, if all of them are there. A deletion is somebody's only if the file
        lay there after our last checkout, of the commit `placed`, and is no note. Anything else is put back.
        """
        self.edited.clear()
        if paths and all(self.files.kind(path) == "file" for path in paths):
            self._stage(paths)
        else:
            self.git.run("add", "--all", "--ignore-errors", accept=(0, 1))
            for path in _UNREADABLE.findall(self.git.stderr):
                self.problems.add(path, "it can't be read")
        diff = self.git.index_diff(head)
        changes: Changes = {path: new for path, old, new in diff if self._may_be_committed(path, old, new, marked)}
        missing = {path: old for path, old, new in diff if old and not new and old.mode != GITLINK}
        deleted = self._deleted(missing, changes, placed) if missing and placed else set()
        self.put_back({path: old for path, old in missing.items() if path not in deleted})
        self._set_entries({path: old for path, old, _ in diff if path not in changes and path not in missing})
        return changes | dict.fromkeys(deleted)

    def look_around(self, head: str | None) -> None:
        """Place what could not be placed before, and report what git does not look into."""
        unplaced = []
        for line in self.git.run("ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard").split(b"\0"):
            if line.startswith(b"S "):
                unplaced.append(os.fsdecode(line[2:]))
            elif line.endswith(b"/"):
                self.problems.add(os.fsdecode(line[2:]), "a repository within the vault; it is left alone")
        if unplaced:
            self.put_back(self.git.entries(head, unplaced, recursive=True))

    def _deleted(self, missing: Collection[str], edited: Collection[str], placed: str) -> set[str]:
        """Return which of the missing files somebody deleted, or moved, on purpose."""
        tracked = self.git.entries(placed, recursive=True)
        if len(missing) >= _MANY_DELETIONS and len(missing) * 2 >= len(tracked):
            return set()
        tasks = set(map(task_of_path, missing)) - {None}
        moved = {self._task_of(path) for path in edited} & tasks if tasks else set()
        there = [path for path in missing if path in tracked and path != OVERVIEW and is_placeable(path)]
        return {path for path in there if task_of_path(path) in {None, *moved}}

    def _task_of(self, path: str) -> int | None:
        """Return the task whose note an edited file is, by its name or by the id that it holds."""
        task = task_of_path(path)
        with contextlib.suppress(Blocked, OSError):
            return task or (task_of_note(self.files.read(path, _MOST_BYTES)) if path.endswith(".md") else None)
        return None

    def put_back(self, entries: Mapping[str, Entry]) -> None:
        """Restore files as a commit has them; those that can't be placed are for git as if they were there."""
        unplaced = set(self._place_all([Change(path, None, entry) for path, entry in entries.items()]))
        settled = {path: entry for path, entry in entries.items() if path not in unplaced or not self.files.kind(path)}
        self._set_entries(settled)
        self._stage(settled.keys() - unplaced)
        self._update_index(settled.keys() & unplaced, "--skip-worktree")

    def _content(self, entry: Entry, contents: Mapping[str, bytes]) -> bytes:
        if entry.id not in contents:
            size = self.git.sizes([entry.id]).get(entry.id)
            if size is None:
                raise Blocked("its content is missing from the repository")
            most = self.git.largest / 2**20
            raise Blocked(f"it has {size / 2**20:.1f} MiB; what is larger than {most:.1f} MiB is not placed")
        return contents[entry.id]

    def _may_be_committed(self, path: str, old: Entry | None, new: Entry | None, marked: bool) -> bool:
        """Return False for other repositories, and for files with conflict markers: a person is at work there."""
        if new is None or GITLINK in (new.mode, old and old.mode) or path == OVERVIEW:
            return False
        try:
            if new.mode == SYMLINK and path in (TASKS, *TASK_FOLDERS):
                raise Blocked("it is a symlink; it is left alone")
            if new.is_file and not marked and has_conflict_markers(self.files.read(path, _MOST_BYTES)):
                raise Blocked("it holds conflict markers; it is not committed")
        except (Blocked, OSError) as error:
            self.problems.add(path, str(error))
            return False
        return True

    # --- checkout
    def checkout(self, *, tree: str, head: str | None, to: str, refs: Mapping[str, str]) -> None:
        """Go from a tree (what the working copy holds, whatever HEAD is) to a commit; branch and `refs` follow last.

        git's own checkout writes files in place: a kill in mid-file would leave half a note that looks like an edit,
        and what is written into a file meanwhile would be lost.
        """
        journal = {"tree": tree, "to": to, **({"head": head} if head else {})}
        journal |= {name.removeprefix(OURS): value for name, value in refs.items()}
        self.git.set_refs({f"{JOURNAL}{name}": value for name, value in journal.items()})
        self.on_step("journal")
        self._run_checkout(journal)

    def finish_checkout(self, refs: Mapping[str, str], head: str | None) -> None:
        """Complete the checkout of a killed sync, unless someone has moved the branch since: the files are theirs."""
        journal = {name.removeprefix(JOURNAL): value for name, value in refs.items() if name.startswith(JOURNAL)}
        if head in (journal.get("head"), journal.get("to")):
            self._run_checkout(journal)
            self.set_index(journal["to"])
        else:
            self.git.set_refs({}, delete=[f"{JOURNAL}{name}" for name in journal])

    def _run_checkout(self, journal: Mapping[str, str]) -> None:
        tree, to = journal["tree"], journal["to"]
        changes = self.git.diff(tree, to)
        unplaced = self._place_all(changes)
        self._set_index({change.path: change.new for change in changes})
        self._update_index(unplaced, "--skip-worktree")  # that they are missing deletes nothing
        self.on_step("checked-out")
        refs = {f"{OURS}{name}": value for name, value in journal.items() if name not in ("tree", "to", "head")}
        refs |= {f"refs/heads/{BRANCH}": to, WRITTEN: to}
        self.git.set_refs(refs, delete=[f"{JOURNAL}{name}" for name in journal])
        if not is_on_branch(self.files):
            self.git.run("symbolic-ref", "-m", "sync", "HEAD", f"refs/heads/{BRANCH}")
        self.on_step("committed")

    def set_index(self, commit: str) -> None:
        """Bring the index to a commit, but for paths that it refuses."""
        self._set_index({change.path: change.old for change in self.git.index_diff(commit)})

    def _set_index(self, entries: Mapping[str, Entry | None]) -> None:
        present = {path for path in entries if path not in self.edited and self.files.kind(path) in ("file", "link")}
        self._set_entries(entries)  # of all of them: git would not stage what is still marked as not placed
        self._stage(present)

    def _set_entries(self, entries: Mapping[str, Entry | None]) -> None:
        lines = []
        for path, entry in sorted(entries.items(), key=lambda item: bool(item[1])):  # what goes before what comes
            mode, blob = entry or ("0", "0" * len(self.git.blob_id(b"")))
            lines += [f"{mode} {blob}\t".encode() + os.fsencode(path) + b"\0"] if is_placeable(path) else []
        if lines:
            self.git.run("update-index", "--add", "--replace", "-z", "--index-info", stdin=b"".join(lines))

    def _stage(self, paths: Iterable[str]) -> None:
        """Put files into the index as they are, so that git knows their times and need not read them."""
        self._update_index(paths, "--add", "--replace")

    def _update_index(self, paths: Iterable[str], *flags: str) -> None:
        stdin = b"".join(os.fsencode(path) + b"\0" for path in paths if is_placeable(path))
        if stdin:
            self.git.run("update-index", *flags, "-z", "--stdin", stdin=stdin)

    # --- paths
    def _place_all(self, changes: Sequence[Change]) -> list[str]:
        """Bring paths where they go; returns those of the files that can't be placed, which are reported."""
        tasks = {change.path: task_of_path(change.path) or 0 for change in changes}
        places = {task: change for change in changes if change.new and (task := tasks[change.path])}
        unplaced = []
        self._moved_here.clear()
        # What a note moves from and to side by side, and what goes before what comes.
        ordered = sorted(changes, key=lambda change: (tasks[change.path], bool(change.new)))
        for part, contents in self.git.batches(ordered, _blobs_of):
            for change in part:
                try:
                    self._place(change, places.get(tasks[change.path], change), contents)
                except (Blocked, FileNotFoundError, IsADirectoryError) as error:
                    self.problems.add(change.path, str(error))
                    unplaced += [change.path] if change.new else []
            self.on_step("checkout-part")
        return unplaced

    def _place(self, change: Change, target: Change, contents: Mapping[str, bytes]) -> None:
        """Bring one path where it goes, of a note that moves to `target`; an edited file that goes for good stays."""
        path, old, new = change
        base, kind = contents.get(old.id) if old else None, self.files.kind(path)
        if new and new.mode == GITLINK:
            raise Blocked("a submodule; it is left alone")
        if path in self._moved_here or (kind in ("folder", "other") and not new):
            return
        if kind in ("folder", "other"):
            with contextlib.suppress(OSError):  # an empty one, of which git knows nothing
                os.rmdir(self.files.absolute(path))
            if self.files.kind(path):
                raise Blocked("a folder is where the remote has a file")
        if kind == "link" and (there := os.fsencode(os.readlink(self.files.absolute(path)))) != base:
            if new and (new.mode, contents.get(new.id)) != (SYMLINK, there):
                raise Blocked("a link was changed on both sides; the local one is kept")
            return
        if old and kind == "file" and base is None and path != OVERVIEW and self._is_large_and_unedited(path, old.id):
            self.files.remove(path)  # too large to be merged with
            kind = ""
        theirs = self._content(new, contents) if new else None
        if not new and target.new and kind == "file" and not self.files.kind(target.path):
            held = contents if target.new.id in contents else self.git.blobs([target.new.id])
            theirs = self._content(target.new, held)
            self._moved_here.add(target.path)
            self._bring(path, target, base, theirs)
        elif new and theirs is not None and not kind:
            self.files.write(path, theirs, new.mode)
        else:
            self._bring(path, change, base, theirs)

    def _bring(self, source: str, target: Change, base: bytes | None, theirs: bytes | None) -> None:
        """Put their version in the place of a file, None removes it, with what was edited there since `base`.

        What is written into the file while it is replaced is an edit as well, and so on.
        """
        path, entry = target.path, target.new or target.old
        mode = entry.mode if entry else ""
        with contextlib.ExitStack() as stack:
            file = self._opened(source, stack)
            ours = there = file.read() if file else base
            for _ in range(_LOOKS):
                content = self._merged(path, mode, base, ours, theirs)
                if content is not None:
                    self.files.write(path, content, mode)
                if content is None or source != path:
                    self.files.remove(source)
                if file:
                    file.seek(0)
                if not file or (now := file.read()) == there:
                    return
                base, ours, source = there, now, path
                file = self._opened(path, stack)
                there = theirs = file.read() if file else None

    def _opened(self, path: str, stack: contextlib.ExitStack) -> io.FileIO | None:
        return stack.enter_context(self.files.open(path)) if self.files.kind(path) == "file" else None

    def _merged(
        self, path: str, mode: str, base: bytes | None, ours: bytes | None, theirs: bytes | None
    ) -> bytes | None:
        if ours is None or ours in (base, theirs) or path == OVERVIEW:
            return theirs
        self.edited.add(path)
        if theirs is None:
            return ours
        if mode == SYMLINK:
            raise Blocked("a link was changed on both sides; the local one is kept")
        if base and ours.startswith(base):  # lines were appended, maybe on both sides
            return theirs + ours[len(base) :]
        merged = merge_file(path, base, ours, theirs, self.git.merge_text)
        if merged.is_conflict:
            beside = copy_beside(path, ours)
            name = conflict_name(path, lambda name: not self.files.kind(name) or self._holds(name, beside))
            self.files.write(name, beside)
            self.edited.add(name)
            self.problems.add(path, f"edited on both sides; ours is in {name}", Kind.CONFLICT)
        return merged.content

    def _is_large_and_unedited(self, path: str, blob: str) -> bool:
        is_large = self.git.sizes([blob]).get(blob, 0) > self.git.largest
        return is_large and self.git.text("hash-object", "--no-filters", "--", path) == blob

    def _holds(self, path: str, content: bytes) -> bool:
        return self.files.kind(path) == "file" and self.files.read(path) == content


def _blobs_of(change: Change) -> list[str]:
    """Return what is needed to place a path; the overview is written anew, never merged."""
    entries = (change.new, None if change.path == OVERVIEW else change.old)
    return [entry.id for entry in entries if entry and entry.mode != GITLINK]


def is_on_branch(files: Files) -> bool:
    """Return True when HEAD is on our branch, False when it is detached; raises Blocked on another branch."""
    name = (files.root / ".git" / "HEAD").read_text().strip()
    if name.startswith("ref: ") and name != f"ref: refs/heads/{BRANCH}":
        raise Blocked(f"the vault is on the branch {name.removeprefix('ref: refs/heads/')}; check out {BRANCH}")
    return name.startswith("ref: ")
