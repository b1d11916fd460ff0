"""Questions of agents to people."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

APPROVAL = ("Approve", "Reject")  # the choices of a question that is an approval
_OPEN = Q(answered_at__isnull=True, withdrawn_at__isnull=True)


class QuestionQuerySet(models.QuerySet["Question"]):
    def open(self) -> QuestionQuerySet:
        """Return the questions that wait for an answer."""
        return self.filter(_OPEN)


class Question(models.Model):
    """A question about a task: open, answered, or withdrawn because the task ended first."""

    task_id = models.PositiveBigIntegerField(db_index=True)
    text = models.TextField()
    choices = models.JSONField(default=list)  # answers that are offered as buttons; any other may be given too
    asked_by = models.TextField()
    asked_at = models.DateTimeField()
    asking_identity = models.TextField()  # who was identified as it was asked
    answer = models.TextField(null=True)
    answered_by = models.TextField(blank=True, default="")
    answered_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)  # of the first heartbeat that had the answer
    withdrawn_at = models.DateTimeField(null=True)

    objects: ClassVar[QuestionQuerySet] = QuestionQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["id"], name="tasks_questions_open", condition=_OPEN)]

    def __str__(self) -> str:
        return f"question {self.pk} of T{self.task_id}"

    @property
    def is_open(self) -> bool:
        return self.answered_at is None and self.withdrawn_at is None

    @property
    def state(self) -> str:
        if self.answered_at is not None:
            return "answered"
        return "open" if self.withdrawn_at is None else "withdrawn"

    @property
    def is_approval(self) -> bool:
        return tuple(self.choices) == APPROVAL
