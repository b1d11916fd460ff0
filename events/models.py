"""The feed: everything that happened, in one order."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from core.timestamps import utc_now


class Event(models.Model):
    """Something that happened. Rows are only added; events/types.py says what `data` of each type holds.

    No foreign keys: an event stays when what it is about is deleted, and the six old tables must stay free of them.
    """

    type = models.TextField()
    at = models.DateTimeField(default=utc_now)
    subject = models.TextField(help_text="What it is about, as people write it: T42, run 17.")
    actor = models.TextField(null=True)  # who did it, by its own account
    caller = models.TextField(null=True)  # who was identified; null where nobody called
    data = models.JSONField(default=dict)
    task_id = models.BigIntegerField(null=True)  # for readers who follow one task, and for agents

    class Meta:
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [
            models.Index(fields=["task_id", "id"], name="events_of_task", condition=Q(task_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.type} of {self.subject}"
