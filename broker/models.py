"""Registrations that no task holds, the audit, and the tokens that are out. The first two are old tables."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.text import capfirst

from core import encryption
from core.timestamps import iso_text
from tasks.models import Task


class LegacyRegistration(models.Model):
    """A permission to get tokens under an id that no task has."""

    task_id = models.TextField(primary_key=True)
    repos = models.TextField()
    lobster_type = models.TextField(default="unknown", db_default="unknown")
    registered_at = models.TextField(default=iso_text)
    status = models.TextField(default="active", db_default="active")
    token_count = models.IntegerField(default=0, db_default=0)

    class Meta:
        db_table = "broker_tasks"
        ordering: ClassVar = ["-registered_at"]

    def __str__(self) -> str:
        return self.task_id


class TaskRegistration(Task):
    """A task, as the admin lists of registrations has it."""

    class Meta:
        proxy = True
        ordering: ClassVar = ["-id"]


class Grant(models.Model):
    """The columns of a registration that the old tables lack. The key is `task:42` or `legacy:ID`."""

    key = models.TextField(primary_key=True)
    # Grows whenever tokens that are out stop being this registration's.
    generation = models.IntegerField(default=0)
    lobster_type = models.TextField(default="unknown")

    def __str__(self) -> str:
        return self.key


class Outcome(models.TextChoices):
    """The result of something that was asked of the broker."""

    DONE = "done"
    ISSUED = "issued"
    CACHED = "cached", "from cache"
    REFUSED = "refused"
    FAILED = "failed"
    REVOKED = "revoked"


class Action(models.TextChoices):
    """The subject matter of an audit entry. The first four are the contract's."""

    REGISTERED = "task_registered"
    DEREGISTERED = "task_deregistered"
    TOKEN = "token_issued"  # noqa: S105 a name, not a secret
    SERVICE_TOKEN = "service_token_issued"  # noqa: S105
    TOKEN_REFUSED = "token_refused"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    ACCESS_REFUSED = "access_refused"


CONTRACT_ACTIONS = (Action.REGISTERED, Action.DEREGISTERED, Action.TOKEN, Action.SERVICE_TOKEN)


class TokenAudit(models.Model):
    """An entry of the audit. Rows are only added; the older service left most columns empty."""

    id = models.AutoField(primary_key=True)
    task_id = models.TextField(help_text="As the caller named it.")
    repos = models.TextField(null=True, blank=True)
    action = models.TextField(choices=Action.choices)
    created_at = models.TextField(default=iso_text)
    task_number = models.BigIntegerField(null=True, blank=True)
    outcome = models.TextField(null=True, blank=True, choices=Outcome.choices)
    reason = models.TextField(null=True, blank=True)
    identity = models.TextField(null=True, blank=True)
    address = models.TextField(null=True, blank=True)
    permissions = models.TextField(null=True, blank=True)
    expires_at = models.TextField(null=True, blank=True)
    token_sha256 = models.TextField(
        null=True, blank=True, help_text="base64(SHA-256(token)), as in GitHub's audit log."
    )
    repeats = models.IntegerField(
        null=True, blank=True, help_text="How often the caller was served the same token again within this minute."
    )

    class Meta:
        db_table = "token_audit"
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "token audit"
        indexes: ClassVar = [
            models.Index(fields=["task_id"], name="idx_token_audit_task_id"),
            models.Index(fields=["task_number"], name="token_audit_of_task", condition=Q(task_number__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{capfirst(self.get_action_display().lower())} {self.task_id}"

    @property
    def who(self) -> str:
        """The identity of the caller as pages show it: of a Kubernetes account namespace and name."""
        return (self.identity or "unidentified").removeprefix("system:serviceaccount:")


class IssuedToken(models.Model):
    """A token that GitHub made, stored encrypted until it expires: to serve it again, and to revoke it."""

    class State(models.TextChoices):
        LIVE = "live"
        ENDED = "ended", "ended, to be revoked"
        REVOKED = "revoked"
        LEFT = "left", "left to expire"

    PURPOSE: ClassVar = "lobwife broker tokens"

    key = models.TextField()
    requested_id = models.TextField()
    generation = models.IntegerField()
    scope_digest = models.TextField()
    encrypted = models.TextField()
    sha256 = models.TextField()
    repos = models.TextField()
    permissions = models.TextField()
    minted_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="By GitHub's clock.")
    refresh_at = models.DateTimeField(help_text="By our clock: from then on a new one is made.")
    # The newest task event when it was stored: an end of the task that came later ends this token, an earlier does not.
    event_id = models.BigIntegerField()
    state = models.TextField(choices=State.choices, default=State.LIVE)
    reason = models.TextField(blank=True, default="")
    attempts = models.PositiveIntegerField(default=0)
    retry_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["key", "state"], name="tokens_by_key"),
            models.Index(fields=["retry_at"], name="tokens_to_revoke", condition=Q(state="ended")),
            models.Index(fields=["refresh_at"], name="tokens_by_age"),
        ]

    def __str__(self) -> str:
        return f"token {self.pk} of {self.requested_id}"

    @property
    def token(self) -> str | None:
        """The token; None when the secret key that encrypted it is gone."""
        return encryption.decrypt(self.encrypted, purpose=self.PURPOSE)


class GitHubState(models.Model):
    """The one row about GitHub: owner, limits, last error; and the cursor of the follower of task events."""

    installation_id = models.TextField(blank=True, default="", help_text="Whose owner is known.")
    owner = models.TextField(blank=True, default="")
    last_mint_at = models.DateTimeField(null=True)
    rate_left = models.IntegerField(null=True)
    rate_reset_at = models.DateTimeField(null=True)
    blocked_until = models.DateTimeField(null=True, help_text="GitHub said to wait until then.")
    last_error = models.TextField(blank=True, default="")
    last_error_at = models.DateTimeField(null=True)
    clock_skew = models.IntegerField(default=0, help_text="Seconds that GitHub's clock is ahead.")
    cursor = models.BigIntegerField(null=True, help_text="The last task event that was dealt with.")

    class Meta:
        verbose_name = "GitHub App"
        verbose_name_plural = "GitHub App"

    def __str__(self) -> str:
        return "GitHub App"

    @classmethod
    def load(cls) -> GitHubState:
        """Return the one row; creates it when it is missing."""
        return cls.objects.filter(pk=1).first() or cls.objects.get_or_create(pk=1)[0]

    @classmethod
    def known_owner(cls) -> str | None:
        """Return the installation's owner; None while it is unknown."""
        row = cls.objects.filter(pk=1, installation_id=settings.GH_APP_INSTALL_ID).first()
        return row.owner or None if row else None


class AllowedService(models.Model):
    """A service that may have tokens for all repositories, besides those in the settings."""

    name = models.TextField(unique=True)
    note = models.TextField(blank=True, default="")

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name
