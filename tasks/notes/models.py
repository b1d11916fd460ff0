"""The text that a task's note is to have. The vault is its home: the row goes once the vault has pushed it."""

from __future__ import annotations

from django.db import models


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
