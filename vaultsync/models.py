"""The state of the vault's sync. No foreign keys: the six old tables must stay free of them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from core.text import one_line
from core.timestamps import utc_now

_MOST_CHARACTERS = 1000


class VaultState(models.Model):
    """The one row about the vault: the follower's two cursors, its heartbeat, and errors."""

    # The last event whose effect is in a commit, and in a push; null before the first reconcile.
    committed = models.BigIntegerField(null=True)
    pushed = models.BigIntegerField(null=True)
    beat_at = models.DateTimeField(null=True, help_text="The sync loop's last sign of life.")
    busy_until = models.DateTimeField(null=True, help_text="A sync that waits for the network is alive until then.")
    last_sync_at = models.DateTimeField(null=True)
    last_full_at = models.DateTimeField(null=True)
    last_commit = models.TextField(blank=True, default="")
    disabled_reason = models.TextField(blank=True, default="")
    last_error = models.TextField(blank=True, default="")
    last_error_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    retry_at = models.DateTimeField(null=True)
    # ok, none, or the kind of a RemoteError: unreachable, denied, declined, rewritten
    remote_state = models.TextField(blank=True, default="")
    remote_error = models.TextField(blank=True, default="")
    remote_failures = models.PositiveIntegerField(default=0)
    remote_retry_at = models.DateTimeField(null=True)
    ahead = models.PositiveIntegerField(default=0, help_text="Commits that the remote does not have.")
    gc_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "vault"
        verbose_name_plural = "vault"

    def __str__(self) -> str:
        return "the vault"


class SyncRequest(models.Model):
    """A request for a sync; one sync serves all that wait when it begins."""

    full = models.BooleanField(default=False)
    requested_by = models.TextField(blank=True, default="")
    requested_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"request {self.pk} by {self.requested_by or 'someone'}"


class SyncRun(models.Model):
    """A sync that changed something, was requested, or failed."""

    started_at = models.DateTimeField()
    seconds = models.FloatField(default=0)
    reason = models.TextField()
    full = models.BooleanField(default=False)
    files = models.PositiveIntegerField(default=0)
    commit = models.TextField(blank=True, default="")
    pushed = models.BooleanField(default=False)
    error = models.TextField(blank=True, default="")

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = "sync"

    def __str__(self) -> str:
        return f"sync {self.pk}"


class NoteRecord(models.Model):
    """The last content of a task's note that we wrote."""

    task_id = models.BigIntegerField(primary_key=True)
    path = models.TextField()
    blob = models.TextField()
    written = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.path


class Kind(models.TextChoices):
    """The kind of a problem with a file."""

    UNREADABLE = "unreadable", "can't be synced"
    CONFLICT = "conflict", "edited on both sides"
    DRIFT = "drift", "a key of the database was edited"
    BLOCKED = "blocked", "not touched"


class NoteProblem(models.Model):
    """A problem with a file that people should know of. Unreadable ones go when the file is repaired."""

    path = models.TextField()
    kind = models.TextField(choices=Kind.choices)
    sentence = models.TextField()
    since = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["-since", "path"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["path", "kind"], name="one_report_of_a_kind")]

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}"


class Problems(list[NoteProblem]):
    """What a sync is to report; control characters of file names and git's messages are replaced."""

    def add(self, path: str, sentence: str, kind: str = Kind.BLOCKED) -> None:
        sentence = one_line(sentence)[:_MOST_CHARACTERS]
        self.append(NoteProblem(path=one_line(path), kind=kind, sentence=sentence, since=utc_now()))
