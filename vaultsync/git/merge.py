"""The merge of people's commits with the remote's, by `git merge-tree`, without touching the working copy.

What git can't merge stays as the remote has it, with ours beside it; nothing is merged by markers. The database decides
where a task's note lies and that there is one: both sides' moves and deletions of notes are undone before the merge, so
that a note keeps its identity by its id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vaultsync.git.command import GITLINK, SYMLINK, Change, Entry, Git
from vaultsync.git.files import Files, blob_id, conflict_name
from vaultsync.notes.layout import OVERVIEW, is_copy_beside, task_of_note, task_of_path
from vaultsync.notes.merge import copy_beside, merge_file, without_conflict_markers

Changes = dict[str, bytes | Entry | None]


@dataclass(frozen=True)
class Sides:
    """The trees of a three-way merge, and the commits whose histories know the notes that were deleted."""

    base: str
    ours: str
    theirs: str
    our_commit: str | None = None
    their_commit: str | None = None


@dataclass
class TreeMerge:
    """A merged tree with changes to it, and the conflicts: the path of a file and of our version beside it."""

    tree: str
    changes: Changes = field(default_factory=dict)
    conflicts: list[tuple[str, str]] = field(default_factory=list)


def merge_trees(git: Git, files: Files, sides: Sides) -> TreeMerge:
    """Merge; a file that conflicts stays as it is in theirs, with ours beside it."""
    if sides.ours in (sides.base, sides.theirs):
        return TreeMerge(sides.theirs)
    if sides.theirs == sides.base:
        return TreeMerge(sides.ours)
    base = git.commit_tree(sides.base, [])
    ours = git.commit_files(_undone(git, sides.base, sides.ours, sides.our_commit), [base], "ours", tree=sides.ours)
    undone = _undone(git, sides.base, sides.theirs, sides.their_commit)
    theirs = git.commit_files(undone, [base], "theirs", tree=sides.theirs)
    output = git.run("merge-tree", "--write-tree", "-z", "--no-messages", ours, theirs, accept=(0, 1)).split(b"\0")
    stages: dict[str, dict[int, Entry]] = {}
    for line in filter(None, output[1:]):
        attributes, _, path = line.partition(b"\t")
        mode, blob, stage = attributes.decode().split(" ")
        stages.setdefault(os.fsdecode(path), {})[int(stage)] = (mode, blob)
    merge = TreeMerge(output[0].decode())
    if stages:
        _Resolver(git, files, merge, (ours, theirs), stages).run()
    return merge


def _undone(git: Git, base: str, side: str, commit: str | None) -> Changes:
    """Return the changes that put a side's notes back to where they lie in the base, as the side has them."""
    diff = git.diff(base, side)
    gone = {task: change for change in diff if change.old and not change.new and (task := task_of_path(change.path))}
    if not gone:
        return {}
    new = _new_places(git, [change for change in diff if change.new and not change.old], set(gone))
    changes: Changes = {}
    deleted = {}
    for task, change in gone.items():
        place = new.get(task)
        if place is None:
            deleted[change.path] = change
        elif isinstance(place, Change):
            changes |= {place.path: None, change.path: (place.new_mode, place.new)}
    last = git.last_blobs(commit, list(deleted)) if commit else {}
    for path, change in deleted.items():
        changes[path] = (change.old_mode, last.get(path, change.old))
    return changes


def _new_places(git: Git, added: Sequence[Change], tasks: set[int]) -> dict[int, Change]:
    """Return where a side has the notes that are gone from their paths: in another folder, or under another name."""
    places = {task: change for change in added if (task := task_of_path(change.path)) in tasks}
    others = [
        change
        for change in added
        if change.path.endswith(".md") and task_of_path(change.path) is None and not is_copy_beside(change.path)
    ]
    contents = git.blobs(change.new for change in others if change.new_mode not in (GITLINK, SYMLINK))
    for change in others:
        task = task_of_note(contents.get(change.new, b""))
        if task in tasks:
            places.setdefault(task, change)
    return {task: change for task, change in places.items() if task is not None}


def id_at(path: str, changes: Changes, present: Mapping[str, Entry], example: str) -> str | None:
    """Return the id of what a tree with changes has at a path; None for nothing. `example` is any id."""
    new = changes[path] if path in changes else present.get(path)
    return blob_id(new, example) if isinstance(new, bytes) else new and new[1]


class _Resolver:
    """Resolves what git reports as conflicts; `stages` are the versions of each path: 1 base, 2 ours, 3 theirs."""

    def __init__(
        self,
        git: Git,
        files: Files,
        merge: TreeMerge,
        labels: tuple[str, str],
        stages: Mapping[str, Mapping[int, Entry]],
    ) -> None:
        self.git = git
        self.files = files
        self.merge = merge
        self.labels = labels
        self.stages = stages
        self.present = git.entries(merge.tree, recursive=True)
        self.contents = git.blobs(
            blob for versions in stages.values() for mode, blob in versions.values() if mode != GITLINK
        )

    def run(self) -> None:
        for path, versions in sorted(self.stages.items()):
            original = self._without_label(path)
            if original != path:  # a file where the other side has a folder, which git put beside it
                self._move_beside(path, original)
            elif versions.keys() == {2} and {3: versions[2]} in self.stages.values():
                self.merge.changes[path] = None  # both renamed it: it has their name, and what both wrote
            elif 2 in versions and 3 in versions:
                self._resolve(path, versions.get(1), versions[2], versions[3])
            else:
                self._strip_markers(path)

    def _without_label(self, path: str) -> str:
        for label in self.labels:
            name, mark, rest = path.rpartition(f"~{label}")
            if mark and not rest.strip("_0123456789"):
                return name
        return path

    def _move_beside(self, path: str, original: str) -> None:
        entry = self.present.get(path)
        if entry is not None:
            self.merge.changes[path] = None
            self._put_beside(original, entry, self.contents.get(entry[1]))

    def _resolve(self, path: str, base: Entry | None, ours: Entry, theirs: Entry) -> None:
        if ours[1] == theirs[1] or path == OVERVIEW:
            self.merge.changes[path] = theirs
            return
        mine, other = self.contents.get(ours[1]), self.contents.get(theirs[1])
        if mine is None or other is None or SYMLINK in (ours[0], theirs[0]):
            self.merge.changes[path] = theirs
            if ours[0] != GITLINK:
                self._put_beside(path, ours, None)
            return
        mine = without_conflict_markers(mine, self.labels)  # of a file that was renamed and edited
        other = without_conflict_markers(other, self.labels)
        before = self.contents.get(base[1]) if base else None
        merged = merge_file(path, before, mine, other, self._merge_text)
        self.merge.changes[path] = self._file(theirs[0], merged.content)
        if merged.is_conflict:
            self._put_beside(path, ours, copy_beside(path, mine))

    def _file(self, mode: str, content: bytes) -> bytes | Entry:
        return content if mode == "100644" else (mode, self.git.write_blob(content))

    def _merge_text(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        return self.git.merge_text(self.files.scratch, base, ours, theirs)

    def _put_beside(self, path: str, entry: Entry, content: bytes | None) -> None:
        blob = blob_id(content, entry[1]) if content is not None else entry[1]
        name = conflict_name(path, blob, lambda name: id_at(name, self.merge.changes, self.present, entry[1]))
        self.merge.changes[name] = entry if content is None else self._file(entry[0], content)
        self.merge.conflicts.append((path, name))

    def _strip_markers(self, path: str) -> None:
        """Keep both sides' lines of a file that git merged with markers under one of two names."""
        entry = self.present.get(path)
        content = self.contents.get(entry[1]) if entry else None
        if entry is None or content is None:
            return
        both = without_conflict_markers(content, self.labels)
        if both != content:
            self.merge.changes[path] = self._file(entry[0], both)
            self.merge.conflicts.append((path, path))
