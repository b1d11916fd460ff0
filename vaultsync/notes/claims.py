"""System tasks are claimed and ended in the vault: what their agent writes there becomes the row's."""

from __future__ import annotations

from django.db import transaction

from core.errors import LobwifeError
from core.frontmatter import Document
from core.timestamps import parse as parse_time
from tasks.models import Status, Task
from tasks.services import update_task
from vaultsync.notes.layout import CLAIMED, SYSTEM_ACTIVE

ACTOR = "lobsigliere"
BOTH_CHANGED = "it was claimed or ended here while its row changed too; the row decides"
_FIRST_SEEN: dict[str, set[str]] = {
    Status.QUEUED: {SYSTEM_ACTIVE, "active", "completed", "failed"},
    Status.ACTIVE: {"completed", "failed"},
}


def claim_of(task: Task, base: Document | None, document: Document) -> tuple[dict[str, str | None], str]:
    """Return what an agent wrote into the four keys of a note: changes for the row, and a sentence for the rest.

    The note is compared with the row, and with what it was when the agent saw it (`base`). Changed in the note alone:
    to be taken over. Changed in both: the row stays as a whole, and a sentence says so.
    Without a base the note is of the older service, which never took a claim over: its rows stayed as they were.
    """
    row = {key: getattr(task, key) or None for key in CLAIMED}
    note = _values(document)
    before = row if base is None else _values(base)
    is_claim = document.value("status") in _FIRST_SEEN.get(task.status, set()) if base is None else note != before
    if note == row or not is_claim:
        return {}, ""
    if row != before:
        return {}, BOTH_CHANGED
    if note["status"] not in Status.values:
        return {}, f"its status {str(note['status'])[:50]!r} is none that there is; the row decides"
    unreadable = [key for key in ("assigned_at", "completed_at") if note[key] and parse_time(note[key]) is None]
    changes = {key: note[key] for key in CLAIMED if note[key] != row[key] and key not in unreadable}
    return changes, f"its {' and '.join(unreadable)} is not a time; the rest was taken over" if unreadable else ""


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


def _values(document: Document) -> dict[str, str | None]:
    texts = {key: document.value(key) for key in CLAIMED}
    values = {key: text if isinstance(text, str) and text else None for key, text in texts.items()}
    if values["status"] == SYSTEM_ACTIVE:
        values["status"] = Status.ACTIVE.value
    return values
