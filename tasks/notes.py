"""The texts that notes of tasks are to have. The vault is their home: a row goes once the vault has pushed it."""

from __future__ import annotations

import hashlib
from datetime import datetime

from django.db import models

from core.database.statements import read_one
from core.text import escape_markdown
from core.timestamps import utc_now

_LONGEST_HEADING = 300
# Every claim asks it: 10 microseconds, through the ORM 400.
_REQUESTED = "SELECT text, committed_at FROM tasks_tasknote WHERE task_id = %s AND refusal = ''"


class TaskNote(models.Model):
    """A text to be written into a note; kept for good where there is no vault."""

    task_id = models.PositiveBigIntegerField(primary_key=True)
    text = models.TextField()
    # Digests of the texts in whose place it is written; empty: of any. Another one is somebody's work, and stays.
    replaces = models.JSONField(default=list)
    version = models.PositiveIntegerField(default=1)
    written_at = models.DateTimeField()
    written_by = models.TextField(blank=True, default="")
    committed_at = models.DateTimeField(null=True)
    refusal = models.TextField(blank=True, default="", help_text="Why it was not written, in a sentence.")

    def __str__(self) -> str:
        return f"text for the note of T{self.task_id}"


def digest(text: str) -> str:
    """Return what tells a text from others: its ETag without the quotes."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def heading(name: str) -> str:
    """Return the first line of a task's note."""
    return f"# {escape_markdown(' '.join(name.split())[:_LONGEST_HEADING])}"


def first_text(name: str, body: str) -> str:
    """Return the text of a new note: the body, below a heading unless it begins with one."""
    body = body.strip("\n")
    return f"\n{body}\n" if body.startswith("# ") else f"\n{heading(name)}\n\n{body}\n"


def requested_text(task_id: int) -> tuple[str, datetime | None] | None:
    """Return the text that a note is to have, and when the vault got it; None for a note as the vault has it."""
    row = read_one(_REQUESTED, (task_id,))
    return (row[0], row[1]) if row is not None else None


def save_request(task_id: int, text: str, replaces: list[str], written_by: str) -> TaskNote:
    """Save a text to be written, in the place of one that waits; call it in the transaction of its event."""
    earlier = TaskNote.objects.filter(pk=task_id).first()
    row = TaskNote(task_id=task_id, text=text, replaces=replaces, written_at=utc_now(), written_by=written_by)
    row.version = earlier.version + 1 if earlier is not None else 1
    row.save()
    return row
