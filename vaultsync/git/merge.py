"""The merge of two histories of the vault into one tree, file by file, without touching the working copy.

A file keeps its identity through a move: a task's note by its id, others as git's rename detection has it. Nothing is
merged by markers: what can't be merged stays as the remote has it, with ours beside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from vaultsync.git.command import GITLINK, SYMLINK, Change, Git, index_lines
from vaultsync.git.files import Files, conflict_names
from vaultsync.notes.layout import OVERVIEW, OWNED, task_of_path
from vaultsync.notes.merge import Merged, merge_note, merge_plain


@dataclass(frozen=True)
class Place:
    """A file of a tree."""

    path: str
    mode: str
    blob: str


@dataclass
class _Sides:
    base: Place | None = None
    ours: Place | None = None
    theirs: Place | None = None
    by_us: bool = False
    by_them: bool = False


@dataclass
class TreeMerge:
    """The merged tree, and the conflicts: the path of a file and of our version beside it."""

    tree: str = ""
    conflicts: list[tuple[str, str]] = field(default_factory=list)


def merge_trees(git: Git, files: Files, *, base: str, ours: str, theirs: str) -> TreeMerge:
    """Merge; `base`, `ours` and `theirs` are trees."""
    if ours in (base, theirs):
        return TreeMerge(theirs)
    if theirs == base:
        return TreeMerge(ours)
    sides = _sides(_changes(git, base, ours), _changes(git, base, theirs))
    return _Merger(git, files, theirs).merge([each for each in sides if each.by_us])


def _changes(git: Git, base: str, side: str) -> list[Change]:
    changes = git.diff(base, side)
    others = [each for each in changes if task_of_path(each.path) is None]
    if any(each.old and not each.new for each in others) and any(each.new and not each.old for each in others):
        moved = [each for each in git.diff(base, side, renames=True) if each.source]
        moved = [each for each in moved if task_of_path(each.path) is None and task_of_path(each.source) is None]
        gone = {each.source for each in moved} | {each.path for each in moved}
        changes = [each for each in changes if each.path not in gone] + moved
    return changes


def _sides(ours: list[Change], theirs: list[Change]) -> list[_Sides]:
    """The changes of both sides brought together by the identity of the file."""
    by_task = _unambiguous(ours, theirs)
    found: dict[str, _Sides] = {}
    for changes, us in ((ours, True), (theirs, False)):
        for change in changes:
            task = task_of_path(change.path)
            name = f"T{task}" if task in by_task else (change.source or change.path)
            sides = found.setdefault(name, _Sides())
            if change.old:
                sides.base = Place(change.source or change.path, change.old_mode, change.old)
            place = Place(change.path, change.new_mode, change.new) if change.new else None
            if us:
                sides.ours, sides.by_us = place or (sides.ours if task in by_task else None), True
            else:
                sides.theirs, sides.by_them = place or (sides.theirs if task in by_task else None), True
    for sides in found.values():
        sides.ours = sides.ours if sides.by_us else sides.base
        sides.theirs = sides.theirs if sides.by_them else sides.base
    return list(found.values())


def _unambiguous(ours: list[Change], theirs: list[Change]) -> set[int]:
    """Tasks with at most one note on each side and before: only those are followed by their id."""
    before: dict[int, set[str]] = {}
    for change in (*ours, *theirs):
        task = task_of_path(change.path)
        if task is not None:
            before.setdefault(task, set()).update({change.path} if change.old else ())
    doubtful = {task for task, paths in before.items() if len(paths) > 1}
    for changes in (ours, theirs):
        present = {task: set(paths) for task, paths in before.items()}
        for change in changes:
            task = task_of_path(change.path)
            if task is not None:
                if change.new:
                    present[task].add(change.path)
                else:
                    present[task].discard(change.path)
        doubtful |= {task for task, paths in present.items() if len(paths) > 1}
    return set(before) - doubtful


class _Merger:
    def __init__(self, git: Git, files: Files, theirs: str) -> None:
        self.git = git
        self.files = files
        listed = (line.partition(b"\t") for line in git.run("ls-tree", "-r", "-z", theirs).split(b"\0") if line)
        self.theirs = theirs
        self.paths = {os.fsdecode(path): _mode_and_id(about) for about, _, path in listed}
        self.index: dict[str, tuple[str, str]] = {}  # relative to their tree; an empty mode removes
        self.conflicts: list[tuple[str, str]] = []

    def merge(self, changed: list[_Sides]) -> TreeMerge:
        """`changed` are the files that we changed; the rest is as theirs has it."""
        contents = self.git.blobs(
            place.blob
            for each in changed
            if each.by_them
            for place in (each.base, each.ours, each.theirs)
            if place and place.mode != GITLINK
        )
        for each in changed:
            if not each.by_them:
                self._take_ours(each)
            else:
                self._both(each, contents)
        return TreeMerge(self._tree(), self.conflicts)

    def _take_ours(self, sides: _Sides) -> None:
        if sides.base and (sides.ours is None or sides.ours.path != sides.base.path):
            self._remove(sides.base.path)
        if sides.ours:
            self._put(sides.ours, over=sides.base.path if sides.base else "")

    def _both(self, sides: _Sides, contents: dict[str, bytes]) -> None:
        base, ours, theirs = sides.base, sides.ours, sides.theirs
        if ours is None and (theirs is None or (base and (theirs.mode, theirs.blob) == (base.mode, base.blob))):
            if theirs:
                self._remove(theirs.path)
        elif theirs is None and ours:
            if not (base and (ours.mode, ours.blob) == (base.mode, base.blob)):
                self._put(ours)  # deleted there, changed here: the change is kept
        elif ours and theirs:
            self._combine(base, ours, theirs, contents)

    def _combine(self, base: Place | None, ours: Place, theirs: Place, contents: dict[str, bytes]) -> None:
        path = ours.path if base and theirs.path == base.path else theirs.path
        if path != theirs.path:
            self._remove(theirs.path)
        if {ours.mode, theirs.mode} & {SYMLINK, GITLINK} or not {ours.blob, theirs.blob} <= contents.keys():
            kept = ours if base and (theirs.mode, theirs.blob) == (base.mode, base.blob) else theirs
            self._put(Place(path, kept.mode, kept.blob), over=theirs.path)
            if kept is theirs and (ours.mode, ours.blob) != (theirs.mode, theirs.blob) and ours.mode != GITLINK:
                self._keep_copy(path, ours.mode, ours.blob)
            return
        mode = ours.mode if base and theirs.mode == base.mode else theirs.mode
        merged = self._contents(path, contents.get(base.blob) if base else None, contents, ours, theirs)
        known = {contents[ours.blob]: ours.blob, contents[theirs.blob]: theirs.blob}
        blob = known.get(merged.content) or self.git.write_blob(merged.content)
        self._put(Place(path, mode, blob), over=theirs.path)
        if merged.conflict_copy is not None and path != OVERVIEW:
            self._keep_copy(path, mode, ours.blob)

    def _contents(
        self, path: str, base: bytes | None, contents: dict[str, bytes], ours: Place, theirs: Place
    ) -> Merged:
        def text_merge(first: bytes, second: bytes, third: bytes) -> bytes | None:
            return self.git.merge_text(self.files.scratch, first, second, third)

        mine, other = contents[ours.blob], contents[theirs.blob]
        if task_of_path(path) is not None:
            return merge_note(base, mine, other, owned=OWNED)
        if path.endswith(".md"):
            return merge_note(base, mine, other, owned=(), text_merge=text_merge)
        return merge_plain(base, mine, other, text_merge=text_merge)

    def _keep_copy(self, path: str, mode: str, blob: str) -> None:
        for name in conflict_names(path):
            there = self.index.get(name)
            if there == (mode, blob) or not (name in self.paths if there is None else there[0]):
                self._put(Place(name, mode, blob))
                self.conflicts.append((path, name))
                return

    def _remove(self, path: str) -> None:
        if path in self.paths:
            self.index[path] = ("", "")

    def _put(self, place: Place, *, over: str = "") -> None:
        """Put a file where it belongs; where theirs has a folder, or a file for a folder, beside that.

        `over` is where theirs has this very file: another one that lies in its way stays, with ours beside it.
        """
        path = place.path
        parents = _parents(path)
        if any(self._is_file(parent) for parent in parents) or self._is_folder(path):
            path = f"{path}.conflict" if not parents else f"{parents[0]}.conflict/{path[len(parents[0]) + 1 :]}"
            self.conflicts.append((place.path, path))
        there = self.index.get(path) or (self.paths.get(path) if path != over else None)
        if there and there[0] and there != (place.mode, place.blob):
            self._keep_copy(path, place.mode, place.blob)
        else:
            self.index[path] = (place.mode, place.blob)

    def _is_folder(self, path: str) -> bool:
        return any(other.startswith(f"{path}/") for other in self.paths if self._is_file(other))

    def _is_file(self, path: str) -> bool:
        """Return True for a path of their tree that is not removed by the merge."""
        return path in self.paths and (path not in self.index or bool(self.index[path][0]))

    def _tree(self) -> str:
        index = self.files.scratch / "merge-index"
        environment = {"GIT_INDEX_FILE": str(index)}
        try:
            self.git.run("read-tree", self.theirs, environment=environment)
            self.git.run(
                "update-index",
                "-z",
                "--index-info",
                stdin=b"".join(index_lines(self.index.items(), self.files.null_id)),
                environment=environment,
            )
            return self.git.text("write-tree", environment=environment)
        finally:
            index.unlink(missing_ok=True)


def _mode_and_id(about: bytes) -> tuple[str, str]:
    mode, _, blob = about.decode().split(" ")
    return mode, blob


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]
