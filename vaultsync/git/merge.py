"""The merge of people's commits with the remote's, by `git merge-tree`, without touching the working copy.

What git can't merge stays as the remote has it, with ours beside it; nothing is merged by markers. The database decides
where a task's note lies and that there is one: both sides' moves and deletions of notes are undone before the merge, so
that a note keeps its identity by its id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from core.git.command import GITLINK, SYMLINK, Changes, Entry, Git
from vaultsync.git.files import conflict_name
from vaultsync.models import Kind, Problems
from vaultsync.notes.layout import NOTE_BYTES, OVERVIEW, is_copy_beside, task_of_note, task_of_path
from vaultsync.notes.merge import copy_beside, merge_file, without_conflict_markers


def merge_commits(git: Git, ours: str | None, theirs: str | None, problems: Problems) -> str | None:
    """Return a commit of both histories; where they conflict theirs stays, with ours beside it, which is reported."""
    if ours is None or theirs is None:
        return ours or theirs
    if git.is_ancestor(theirs, ours) or git.is_ancestor(ours, theirs):
        return ours if git.is_ancestor(theirs, ours) else theirs
    common = git.merge_base(ours, theirs)
    base = git.commit_tree(git.tree_of(common), [])
    left, right = (
        git.commit_files(_undone(git, common, side), [base], "", tree=git.tree_of(side)) for side in (ours, theirs)
    )
    merge = _Merge(git, left, right, problems)
    return git.commit_files(merge.changes, [ours, theirs], "[sync] Merge the remote\n", tree=merge.tree)


def put_beside(git: Git, path: str, new: bytes | Entry, changes: Changes, present: Mapping[str, Entry]) -> str:
    """Add a version of a file to changes of a tree, under a name where nothing lies, or the same; returns the name."""

    def id_of(content: bytes | Entry | None) -> str | None:
        return git.blob_id(content) if isinstance(content, bytes) else content and content.id

    name = conflict_name(path, lambda name: id_of(changes.get(name, present.get(name))) in (None, id_of(new)))
    changes[name] = new
    return name


def _undone(git: Git, base: str | None, side: str) -> Changes:
    """Return the changes that put a side's notes back to where they lie in the base, as the side has them."""
    diff = git.diff(base, side)
    gone = {task: (path, old) for path, old, new in diff if old and not new and (task := task_of_path(path))}
    if not gone:
        return {}
    added = {path: new for path, old, new in diff if new and not old and path.endswith(".md")}
    tasks = {path: task for path in added if (task := task_of_path(path))}
    others = [path for path in added if path not in tasks and added[path].is_file and not is_copy_beside(path)]
    for part, contents in git.batches(others, lambda path: [added[path].id], NOTE_BYTES):
        tasks |= {path: task for path in part if (task := task_of_note(contents.get(added[path].id, b"")))}
    changes: Changes = {}
    for path, task in tasks.items():
        if task in gone:
            changes |= {path: None, gone.pop(task)[0]: added[path]}
    last = last_versions(git, base, side) if gone else {}
    return changes | {path: Entry(old.mode, last.get(task, old.id)) for task, (path, old) in gone.items()}


def last_versions(git: Git, since: str | None, commit: str) -> dict[int, str]:
    """Return the last blob that each note got in the commits after `since`, by task, wherever it lay then."""
    blobs = git.last_blobs(since, commit)
    paths = [path for path in blobs if path.endswith(".md") and not is_copy_beside(path)]
    versions: dict[int, str] = {}
    for part, contents in git.batches(paths, lambda path: [blobs[path]], NOTE_BYTES):
        for path in part:
            task = task_of_path(path) or task_of_note(contents.get(blobs[path], b""))
            versions |= {task: blobs[path]} if task and task not in versions else {}
    return versions


class _Merge:
    """The merge of two commits: a tree with changes to it, which resolve what git reports as conflicts."""

    def __init__(self, git: Git, ours: str, theirs: str, problems: Problems) -> None:
        self.git = git
        self.changes: Changes = {}
        self.problems = problems
        self._labels = (ours, theirs)
        output = git.run("merge-tree", "--write-tree", "-z", "--no-messages", ours, theirs, accept=(0, 1)).split(b"\0")
        self.tree = output[0].decode()
        stages: dict[str, dict[str, Entry]] = {}  # of a path by their numbers: 1 base, 2 ours, 3 theirs
        for line in filter(None, output[1:]):
            attributes, _, name = line.partition(b"\t")
            mode, blob, stage = attributes.decode().split(" ")
            stages.setdefault(os.fsdecode(name), {})[stage] = Entry(mode, blob)
        self._present = git.entries(self.tree, recursive=True) if stages else {}
        self._contents: dict[str, bytes] = {}

        def ids_of(path: str) -> list[str]:
            entries = [*stages[path].values(), *filter(None, [self._present.get(path)])]
            return [entry.id for entry in entries if entry.mode != GITLINK]

        for part, self._contents in git.batches(sorted(stages), ids_of):
            for path in part:
                self._settle(path, stages)

    def _settle(self, path: str, stages: Mapping[str, Mapping[str, Entry]]) -> None:
        versions = stages[path]
        original, ours_entry, theirs_entry = self._without_label(path), versions.get("2"), versions.get("3")
        if original != path:  # a file where the other side has a folder, which git put beside it
            self.changes[path] = None
            self._put_beside(original, self._present[path], None)
        elif ours_entry and len(versions) == 1 and {"3": ours_entry} in stages.values():
            self.changes[path] = None  # both renamed it: it has their name, and what both wrote
        elif ours_entry and theirs_entry:
            self._resolve(path, versions.get("1"), ours_entry, theirs_entry)
        elif path in self._present:
            self._strip_markers(path, self._present[path])

    def _without_label(self, path: str) -> str:
        for label in self._labels:
            name, mark, rest = path.rpartition(f"~{label}")
            if mark and not rest.strip("_0123456789") and path in self._present:
                return name
        return path

    def _resolve(self, path: str, base: Entry | None, ours: Entry, theirs: Entry) -> None:
        mine, other = self._contents.get(ours.id), self._contents.get(theirs.id)
        if ours.id == theirs.id or path == OVERVIEW:
            self.changes[path] = theirs
        elif mine is None or other is None or SYMLINK in (ours.mode, theirs.mode):
            self.changes[path] = theirs
            if ours.mode != GITLINK:
                self._put_beside(path, ours, None)
        else:
            # Of a file that was renamed and edited, git's versions are merged already.
            mine, other = (without_conflict_markers(content, self._labels) for content in (mine, other))
            merged = merge_file(path, self._contents.get(base.id) if base else None, mine, other, self.git.merge_text)
            self.changes[path] = self._file(theirs.mode, merged.content)
            if merged.is_conflict:
                self._put_beside(path, ours, copy_beside(path, mine))

    def _file(self, mode: str, content: bytes) -> bytes | Entry:
        return content if mode == "100644" else Entry(mode, self.git.write_blob(content))

    def _put_beside(self, path: str, entry: Entry, content: bytes | None) -> None:
        new = entry if content is None else self._file(entry.mode, content)
        name = put_beside(self.git, path, new, self.changes, self._present)
        self.problems.add(path, f"edited on both sides; ours is in {name}", Kind.CONFLICT)

    def _strip_markers(self, path: str, entry: Entry) -> None:
        """Keep both sides' lines of a file that git merged with markers under one of two names."""
        content = self._contents.get(entry.id, b"")
        both = without_conflict_markers(content, self._labels)
        if both != content:
            self.changes[path] = self._file(entry.mode, both)
            self.problems.add(path, f"edited on both sides; ours is in {path}", Kind.CONFLICT)
