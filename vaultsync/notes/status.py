"""What a task's page says of its note."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tasks.models import Task, TaskEvent
from vaultsync.models import NoteProblem, NoteRecord, VaultState
from vaultsync.notes.layout import note_path
from vaultsync.services import is_enabled


@dataclass(frozen=True)
class NoteShown:
    """Where the note lies; `state` is off, waiting, committed or synced; what people should know of the file."""

    path: str
    state: str
    synced_at: datetime | None
    problems: list[NoteProblem]


def note_of(task: Task) -> NoteShown:
    """The note of a task and whether the vault has the task's last change."""
    record = NoteRecord.objects.filter(pk=task.pk).first()
    belongs = note_path(task)
    path = record.path if record else belongs
    problems = list(NoteProblem.objects.filter(path__in={path, belongs}))
    if not is_enabled():
        return NoteShown(path, "off", None, problems)
    vault = VaultState.objects.first() or VaultState()
    newest = TaskEvent.objects.filter(task=task).order_by("-id").values_list("id", flat=True).first() or 0
    if record is None or vault.committed is None or newest > vault.committed:
        state = "waiting"
    elif vault.ahead and (vault.pushed is None or newest > vault.pushed):
        state = "committed"
    else:
        state = "synced"
    return NoteShown(path, state, vault.last_sync_at if state == "synced" else None, problems)
