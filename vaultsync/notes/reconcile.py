"""Comparison of every note with its task: each task has one note, and each note a task."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from tasks.models import Task
from vaultsync.git.files import Files
from vaultsync.models import Kind, NoteProblem
from vaultsync.notes.layout import TASK_FOLDERS, task_of_path
from vaultsync.notes.writer import NoteWriter

_BATCH = 500


def reconcile(files: Files, notes: NoteWriter, progress: Callable[[int, int], None]) -> None:
    """Bring every note in line; notes of tasks that don't exist are reported and left alone."""
    paths_by_task = _paths_by_task(files)
    ids = list(Task.objects.order_by("pk").values_list("pk", flat=True))

    def where(task: Task) -> list[str]:
        return paths_by_task.get(task.pk, [])

    for start in range(0, len(ids), _BATCH):
        notes.write(ids[start : start + _BATCH], where)
        progress(min(start + _BATCH, len(ids)), len(ids))
    for task in sorted(set(paths_by_task) - set(ids)):
        sentence = f"there is no task T{task}"
        notes.problems += [NoteProblem.new(path, Kind.UNREADABLE, sentence) for path in paths_by_task[task]]


def _paths_by_task(files: Files) -> dict[int, list[str]]:
    paths: dict[int, list[str]] = {}
    for path in note_files(files):
        task = task_of_path(path)
        if task is not None:
            paths.setdefault(task, []).append(path)
    return paths


def note_files(files: Files) -> Iterable[str]:
    """Yield the paths of everything named `*.md` in the tasks' folders."""
    for folder in TASK_FOLDERS:
        if files.kind(folder) != "folder":
            continue
        with os.scandir(files.absolute(folder)) as entries:
            for entry in entries:
                if entry.name.endswith(".md"):
                    yield f"{folder}/{entry.name}"
