"""API keys, the policy whether a credential is required, and the callers that came without one."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from core.callers import Role
from core.timestamps import utc_now

CALLER_LENGTH = 300  # of the name under which a caller's answers are kept; a longer one is hashed


class ApiKey(models.Model):
    """A credential of a program. The key itself is not stored; `digest` is its SHA-256."""

    ROLES: ClassVar = [(role.value, role.value) for role in Role]

    name = models.CharField(max_length=100, unique=True, help_text="Who uses it; appears in histories and the audit.")
    role = models.CharField(max_length=10, choices=ROLES)
    task_number = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="The one task that a key of role agent is for, as a number: 42 for T42."
    )
    service = models.CharField(
        max_length=100, blank=True, help_text="As which service a key of role service gets tokens; its name, if empty."
    )
    prefix = models.CharField(max_length=8, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(default=utc_now, editable=False)
    created_by = models.CharField(max_length=200, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)
    revoked_by = models.CharField(max_length=200, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def state(self) -> str:
        """One of `revoked`, `expired`, `in use`, `not used yet`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= utc_now():
            return "expired"
        return "in use" if self.last_used_at else "not used yet"


class LeaseKey(models.Model):
    """The key that a claim hands out, of role agent for one task: it is good for as long as its lease.

    Keys of leases that are over are removed after a day; until then they are told apart from made-up ones.
    """

    lease_id = models.BigIntegerField()
    prefix = models.CharField(max_length=8, unique=True)
    digest = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"key of lease {self.lease_id}"


class Mode(models.TextChoices):
    """The modes of access: credentials are required, or not."""

    REQUIRED = "required", "required: only callers that can be identified"
    OPEN = "open", "open: everything from everywhere"


class AccessPolicy(models.Model):
    """The only row: the mode that an operator decided on, and the one that holds until then."""

    SINGLE = 1

    initial = models.CharField(max_length=10, choices=Mode.choices, default=Mode.REQUIRED, editable=False)
    decided = models.CharField(
        "API credentials", max_length=10, choices=Mode.choices, blank=True, help_text="LOBWIFE_API_AUTH overrides this."
    )
    decided_by = models.CharField(max_length=200, blank=True, editable=False)
    decided_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = verbose_name_plural = "API access"
        constraints: ClassVar = [models.CheckConstraint(condition=Q(pk=1), name="access_policy_is_one_row")]

    def __str__(self) -> str:
        return f"API access: {self.mode}"

    @property
    def mode(self) -> str:
        return self.decided or self.initial


class KeptAnswer(models.Model):
    """The answer to a POST with an Idempotency-Key, for its repeats."""

    caller = models.CharField(max_length=CALLER_LENGTH)
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64)  # of the path and the body
    status = models.PositiveSmallIntegerField(null=True)
    body = models.TextField(default="")
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["caller", "key"], name="answer_kept_once")]

    def __str__(self) -> str:
        return f"{self.key} of {self.caller}"


class UncredentialedCaller(models.Model):
    """A caller and route that access let in while it was open, and would refuse when credentials are required."""

    address = models.CharField(max_length=60)
    program = models.CharField(max_length=100, blank=True, help_text="Its User-Agent.")
    route = models.CharField(max_length=100)
    first_seen = models.DateTimeField(default=utc_now)
    last_seen = models.DateTimeField(default=utc_now)

    class Meta:
        verbose_name = "caller without credentials"
        verbose_name_plural = "callers without credentials"
        ordering: ClassVar = ["-last_seen"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["address", "program", "route"], name="uncredentialed_caller_once")
        ]

    def __str__(self) -> str:
        return f"{self.address} {self.route}"
