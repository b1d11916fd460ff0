"""Links and results of tasks, in tables of their own: those that installations have keep their columns."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class LinkKind(models.TextChoices):
    """What a link leads to."""

    PULL = "pull", "Pull request"
    BRANCH = "branch"
    COMMIT = "commit"
    ISSUE = "issue"
    OTHER = "other"


class TaskLink(models.Model):
    """An address that belongs to a task."""

    task_id = models.PositiveBigIntegerField()
    kind = models.TextField(choices=LinkKind.choices)
    url = models.TextField()
    added_at = models.DateTimeField()
    added_by = models.TextField(blank=True, default="")

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["task_id", "url"], name="one_link_per_url")]

    def __str__(self) -> str:
        return f"{self.kind} of T{self.task_id}"


class TaskResult(models.Model):
    """What a task ended with: a summary for people, and data for programs."""

    task_id = models.PositiveBigIntegerField(primary_key=True)
    summary = models.TextField()
    data = models.JSONField(null=True)
    written_at = models.DateTimeField()
    written_by = models.TextField(blank=True, default="")

    def __str__(self) -> str:
        return f"result of T{self.task_id}"
