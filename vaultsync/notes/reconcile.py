"""Everything compared with everything: every task has its note, in one place, and no note is without a task."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from tasks.models import Task
from vaultsync.git.files import Files
from vaultsync.models import Kind
from vaultsync.notes.layout import TASK_FOLDERS, task_of_path
from vaultsync.notes.writer import NoteWriter
from vaultsync.services import Report

_AT_ONCE = 500


def reconcile(files: Files, notes: NoteWriter, progress: Callable[[int, int], None]) -> None:
    """Bring every note in line; notes of tasks that don't exist are reported and left alone."""
    listed = _listed(files)
    ids = list(Task.objects.order_by("pk").values_list("pk", flat=True))

    def where(task: Task) -> list[str]:
        return listed.get(task.pk, [])

    for start in range(0, len(ids), _AT_ONCE):
        notes.write(ids[start : start + _AT_ONCE], where)
        progress(min(start + _AT_ONCE, len(ids)), len(ids))
    unknown = sorted(set(listed) - set(ids))
    notes.reports += [
        Report(path, Kind.UNREADABLE, f"there is no task T{task}") for task in unknown for path in listed[task]
    ]


def _listed(files: Files) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path in note_files(files):
        task = task_of_path(path)
        if task is not None:
            found.setdefault(task, []).append(path)
    return found


def note_files(files: Files) -> Iterable[str]:
    """The paths of everything named `*.md` in the tasks' folders."""
    for folder in TASK_FOLDERS:
        if files.kind(folder) != "folder":
            continue
        with os.scandir(files.at(folder)) as entries:
            for entry in entries:
                if entry.name.endswith(".md"):
                    yield f"{folder}/{entry.name}"
