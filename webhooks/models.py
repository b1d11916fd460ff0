"""Subscriptions, and what was sent to each."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from core.timestamps import utc_now

_is_a_name = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z", "Use up to 100 letters, digits, dots, dashes, underscores."
)


def every_type() -> list[str]:
    return ["*"]


class Subscription(models.Model):
    """A receiver and the events that it wants. Its secret is encrypted and can't be read back."""

    name = models.TextField(unique=True, validators=[_is_a_name])
    url = models.TextField("URL", help_text="https://…, or http:// on this machine. No secret belongs in it.")
    types = models.JSONField(default=every_type, help_text="Types of events, or beginnings such as run.*")
    task_id = models.BigIntegerField("task", null=True, blank=True, help_text="Events of this task alone.")
    job = models.TextField(blank=True, default="", help_text="Events of this job's runs alone.")
    repository = models.TextField(blank=True, default="", help_text="Events of this repository's tasks: org/app.")
    is_enabled = models.BooleanField("enabled", default=True, db_default=True)
    encrypted = models.TextField(editable=False)
    # The last event of the feed that was dealt with, sent or not wanted.
    cursor = models.BigIntegerField(default=0, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)  # in a row
    failing_since = models.DateTimeField(null=True, editable=False)
    next_attempt_at = models.DateTimeField(null=True, editable=False)
    paused_at = models.DateTimeField(null=True, editable=False)
    note = models.TextField(blank=True, default="", editable=False, help_text="Why it stands where it does.")
    created_at = models.DateTimeField(default=utc_now, editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name = "webhook"

    def __str__(self) -> str:
        return self.name

    @property
    def state(self) -> str:
        """One of `disabled`, `paused`, `failing`, `enabled`."""
        if not self.is_enabled:
            return "disabled"
        if self.paused_at is not None:
            return "paused"
        return "failing" if self.failures else "enabled"


class State(models.TextChoices):
    """The state of a delivery."""

    SENT = "sent"
    FAILING = "failing", "failing: it is tried again"
    AGAIN = "again", "to be sent again"


class Delivery(models.Model):
    """An event for a subscription: the body as it was sent, and the last answer."""

    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="deliveries")
    event_id = models.BigIntegerField()
    type = models.TextField()
    subject = models.TextField()
    message_id = models.TextField(help_text="The header webhook-id: the same whenever this event is sent.")
    body = models.TextField()
    state = models.TextField(choices=State.choices)
    attempts = models.PositiveIntegerField(default=0)
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status of the last answer.")
    answer = models.TextField(blank=True, default="", help_text="The beginning of the last answer.")
    error = models.TextField(blank=True, default="", help_text="Why the last attempt failed.")
    seconds = models.FloatField(null=True, help_text="How long the last attempt took.")
    created_at = models.DateTimeField(default=utc_now, db_index=True)
    attempted_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [models.UniqueConstraint(fields=["subscription", "event_id"], name="delivered_once")]
        indexes: ClassVar = [
            models.Index(fields=["subscription"], name="deliveries_again", condition=Q(state="again")),
        ]

    def __str__(self) -> str:
        return f"{self.type} of {self.subject}"
