"""System tasks are claimed and ended in the vault: what their agent writes there becomes the row's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from core.errors import LobwifeError
from core.timestamps import parse as parse_time
from tasks.models import Status, Task
from tasks.services import update_task
from vaultsync.models import NoteRecord
from vaultsync.notes.frontmatter import Document
from vaultsync.notes.layout import CLAIMED, SYSTEM_ACTIVE

ACTOR = "lobsigliere"
BOTH_CHANGED = "it was claimed or ended here while its row changed too; the row decides"
_FIRST_SEEN: dict[str, set[str]] = {
    Status.QUEUED: {SYSTEM_ACTIVE, "active", "completed", "failed"},
    Status.ACTIVE: {"completed", "failed"},
}


@dataclass
class Judgement:
    """The meaning of the four keys of a system task's note: changes for the row, or a sentence why not."""

    changes: dict[str, str | None] = field(default_factory=dict)
    sentence: str = ""
    shown_status: str = ""


def claim_of(task: Task, record: NoteRecord | None, document: Document) -> Judgement:
    """Compare the note with what we last wrote and with the row.

    Changed in the note alone: to be taken over. Changed in both: the row stays, and a sentence says so.
    """
    row = {key: getattr(task, key) or None for key in CLAIMED}
    note = {key: _text(document.value(key)) for key in CLAIMED}
    shown = SYSTEM_ACTIVE if note["status"] == SYSTEM_ACTIVE else ""
    if note["status"] == SYSTEM_ACTIVE:
        note["status"] = Status.ACTIVE.value
    if note == row:
        return Judgement(shown_status=shown)
    if record is None or not record.blob:
        # A note of the older service, which never took a claim over: its rows stayed as they were. Without a blob we
        # were about to write it for the first time: it may say what we meant to write, or still what it said.
        if record is not None and record.intended is not None and note == _written(record.intended):
            return Judgement(shown_status=shown)
        if document.value("status") not in _FIRST_SEEN.get(task.status, set()):
            return Judgement(shown_status=shown)
        written = [row]
    else:
        written = [_written(values) for values in (record.written, record.intended) if values is not None]
    if note in written:
        return Judgement(shown_status=shown)
    if row not in written:
        return Judgement(sentence=BOTH_CHANGED)
    wrong = _refused(note)
    if wrong:
        return Judgement(sentence=wrong)
    changes = {key: note[key] for key in CLAIMED if note[key] != row[key]}
    return Judgement(changes=changes, shown_status=shown)


def take_over(task: Task, changes: dict[str, str | None]) -> bool:
    """Write a claim into the row, unless the row changed since `task` was read."""
    with transaction.atomic():
        now = Task.objects.filter(pk=task.pk).values(*CLAIMED).first()
        if now != {key: getattr(task, key) for key in CLAIMED}:
            return False
        try:
            update_task(task_id=task.pk, changes=changes, actor=ACTOR)
        except LobwifeError:
            return False
    return True


def _refused(note: dict[str, str | None]) -> str:
    if note["status"] not in Status.values:
        return f"its status {str(note['status'])[:50]!r} is none that there is; the row decides"
    for key in ("assigned_at", "completed_at"):
        if note[key] is not None and parse_time(note[key]) is None:
            return f"its {key} is not a time; the row decides"
    return ""


def _written(values: dict[str, Any]) -> dict[str, str | None]:
    found = {key: values.get(key) or None for key in CLAIMED}
    if found["status"] == SYSTEM_ACTIVE:
        found["status"] = Status.ACTIVE.value
    return found


def _text(value: str | list[str] | None) -> str | None:
    return value if isinstance(value, str) and value else None
