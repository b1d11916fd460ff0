"""Tasks and their events, over the tables that existing installations have."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, ClassVar

from django.db import models
from django.db.models import Case, Q, Value, When

from core.timestamps import UtcNow, parse, seconds_text, utc_now
from tasks.costs.models import Budget as Budget
from tasks.costs.models import Cost as Cost
from tasks.costs.models import DailySpend as DailySpend
from tasks.costs.models import SpentBudget as SpentBudget
from tasks.notes import TaskNote as TaskNote
from tasks.questions.models import Question as Question
from tasks.results.models import TaskLink as TaskLink
from tasks.results.models import TaskResult as TaskResult


def read_repos(text: object) -> list[str] | None:
    """Return the repositories that a tolerant text column holds; None when there are none or they can't be read."""
    if not isinstance(text, str) or not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


class Status(models.TextChoices):
    """The status of a task."""

    QUEUED = "queued"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"


OVER = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
# Set by the broker alone; of its states, the end of a task knows these two.
REGISTRATION_ACTIVE, REGISTRATION_ENDED = "active", "ended"
BROKER_FIELDS = frozenset({"broker_repos", "broker_status", "token_count", "broker_registered_at"})
# The place of a priority in the queue; any other is a normal one.
RANK = Case(
    When(priority="critical", then=Value(0)),
    When(priority="high", then=Value(1)),
    When(priority="low", then=Value(3)),
    default=Value(2),
    output_field=models.IntegerField(),
)
_QUEUED = Q(status=Status.QUEUED)
# The type of the event with which a lease ends while its task goes on: the tokens of the task end there too.
LEASE_ENDED = "lease_ended"


class TaskQuerySet(models.QuerySet["Task"]):
    def open(self) -> TaskQuerySet:
        """Return the tasks that are not over."""
        return self.exclude(status__in=OVER)

    def current(self) -> Task | None:
        """Return the newest that is not over, else the newest: the task that an ambiguous name or assignee means."""
        return self.open().order_by("-pk").first() or self.order_by("-pk").first()


class Task(models.Model):
    """A unit of an agent's work. Times are text in UTC, as the contract's table has them."""

    id = models.AutoField(primary_key=True)
    name = models.TextField()
    slug = models.TextField(null=True, blank=True)
    type = models.TextField(default="swe", db_default="swe")
    status = models.TextField(default=Status.QUEUED, db_default=Status.QUEUED)
    priority = models.TextField(default="normal", db_default="normal")
    model = models.TextField(null=True, blank=True)
    assigned_to = models.TextField(null=True, blank=True)
    repos = models.TextField(null=True, blank=True)
    discord_thread_id = models.TextField(null=True, blank=True)
    estimate_minutes = models.IntegerField(null=True, blank=True)
    requires_qa = models.BooleanField(default=False, db_default=False)
    workflow = models.TextField(null=True, blank=True)
    created_at = models.TextField(default=seconds_text, db_default=UtcNow(), editable=False)
    updated_at = models.TextField(default=seconds_text, db_default=UtcNow(), editable=False)
    queued_at = models.TextField(default=seconds_text, db_default=UtcNow(), editable=False)
    assigned_at = models.TextField(null=True, blank=True)
    completed_at = models.TextField(null=True, blank=True)
    broker_repos = models.TextField(null=True, blank=True, editable=False)
    broker_status = models.TextField(null=True, blank=True, editable=False)
    token_count = models.IntegerField(default=0, db_default=0, editable=False)
    broker_registered_at = models.TextField(null=True, blank=True, editable=False)

    objects: ClassVar[TaskQuerySet] = TaskQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "tasks"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["status"], name="idx_tasks_status"),
            models.Index(fields=["type"], name="idx_tasks_type"),
            # For `/health`, which counts the registrations of open tasks without a look at the tasks.
            models.Index(
                fields=["broker_status", "status"],
                name="idx_tasks_registration",
                condition=Q(broker_status__isnull=False),
            ),
            models.Index(fields=["token_count"], name="idx_tasks_token_count", condition=Q(token_count__gt=0)),
            # The queue in its order: of all tasks, of a type, of a type and repositories. With the status, which is the
            # same in all of their rows, they hold all that a claim looks at, and need no look at the table. It is the
            # last: PostgreSQL, which knows it from the condition, would read an index from its beginning for a type.
            models.Index(RANK, "queued_at", "id", "status", name="idx_tasks_queue", condition=_QUEUED),
            models.Index("type", RANK, "queued_at", "id", "status", name="idx_tasks_queue_type", condition=_QUEUED),
            models.Index(
                "repos", "type", RANK, "queued_at", "id", "status", name="idx_tasks_queue_repos", condition=_QUEUED
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_id} {self.name}"

    @property
    def task_id(self) -> str:
        """Return the id as callers write it, `T42`."""
        return f"T{self.pk}"

    @property
    def repo_list(self) -> list[str] | None:
        return read_repos(self.repos)

    @property
    def created(self) -> datetime | None:
        """Return the time of creation; None when the stored text can't be read."""
        return parse(self.created_at)

    @property
    def is_over(self) -> bool:
        return self.status in OVER


class TaskEvent(models.Model):
    """One entry of a task's history, and of the outbox that followers read: ids only grow."""

    id = models.AutoField(primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.PROTECT, related_name="events", db_index=False)
    event_type = models.TextField()
    detail = models.TextField(null=True, blank=True)
    actor = models.TextField(null=True, blank=True)
    created_at = models.TextField(default=seconds_text, db_default=UtcNow(), editable=False)
    # The task's status after the event; null on events that the older service wrote.
    status = models.TextField(null=True, blank=True)
    # Who was identified, whatever the body calls its `actor`; null where nobody called, and on older events.
    caller = models.TextField(null=True, blank=True)
    # JSON of what an `updated` changed: for each field its old and its new value; null on others, and on older ones.
    changes = models.TextField(null=True, blank=True)

    class Meta:
        db_table = "task_events"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["task"], name="idx_task_events_task_id")]

    def __str__(self) -> str:
        return f"{self.event_type} of T{self.task_id}"

    @property
    def who(self) -> str:
        """The actor that a body claimed, and in brackets who was identified, where that is somebody else."""
        if not self.caller or self.caller == self.actor:
            return self.actor or ""
        caller = self.caller.removeprefix("system:serviceaccount:")
        return f"{self.actor} ({caller})" if self.actor else caller

    @property
    def created(self) -> datetime | None:
        return parse(self.created_at)

    @property
    def field_changes(self) -> list[tuple[str, str, str]]:
        """The fields that it changed, each with its old and its new value as people read them."""
        try:
            changes = json.loads(self.changes or "{}")
        except (ValueError, RecursionError):
            return []
        items = changes.items() if isinstance(changes, dict) else ()
        return [(name, *map(_readable, pair)) for name, pair in items if isinstance(pair, list) and len(pair) == 2]


def _readable(value: object) -> str:
    listed = read_repos(value)
    if listed is not None:
        return ", ".join(listed)
    return "–" if value is None or value == "" else str(value)


class TaskPlan(models.Model):
    """What the queue knows of a task besides its columns. A task without a row has no relations and had no lease."""

    task_id = models.IntegerField(primary_key=True)  # SQLite's own row id: no index of its own
    parent_id = models.BigIntegerField(null=True)
    group = models.TextField(null=True)  # of tasks with the same group one is active at a time
    not_before = models.DateTimeField(null=True)
    blocked_by = models.BigIntegerField(null=True)  # the dependency that failed or was cancelled, while it blocks this
    fence = models.BigIntegerField(default=0)  # of the newest lease; it only grows
    attempt = models.IntegerField(default=0)  # the number of leases that there were
    expiries = models.IntegerField(default=0)  # leases that expired in a row
    retry_at = models.DateTimeField(null=True)  # the end of the back-off after an expiry

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["parent_id"], name="task_plans_by_parent", condition=Q(parent_id__isnull=False)),
            models.Index(fields=["blocked_by"], name="task_plans_blocked", condition=Q(blocked_by__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"plan of T{self.task_id}"


class TaskDependency(models.Model):
    """A task that must be completed before another may be claimed."""

    task_id = models.BigIntegerField()
    depends_on_id = models.BigIntegerField(db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["task_id", "depends_on_id"], name="task_depends_on_another_once")
        ]

    def __str__(self) -> str:
        return f"T{self.task_id} depends on T{self.depends_on_id}"


class LeaseEnd(models.TextChoices):
    """The way in which a lease ended."""

    RELEASED = "released"
    EXPIRED = "expired"
    TAKEN_AWAY = "taken away"
    CANCELLED = "cancelled", "the task was cancelled"


class TaskLease(models.Model):
    """A claim of a task: alive until `ended_at` is set or `expires_at` has passed, whichever comes first."""

    task_id = models.BigIntegerField()
    fence = models.BigIntegerField()
    attempt = models.IntegerField()
    holder = models.TextField()  # the identity that claimed it
    runner = models.TextField(blank=True, default="")  # what the holder calls itself
    assigned_to = models.TextField()  # what the task's own column got
    seconds = models.IntegerField()
    taken_at = models.DateTimeField(default=utc_now)
    beat_at = models.DateTimeField(default=utc_now)
    expires_at = models.DateTimeField()
    progress = models.TextField(blank=True, default="")
    ended_at = models.DateTimeField(null=True)
    end = models.TextField(choices=LeaseEnd.choices, blank=True, default="")
    outcome = models.TextField(blank=True, default="")  # the task's status that its release asked for
    reason = models.TextField(blank=True, default="")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["task_id", "fence"], name="task_lease_has_own_fence")]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], name="task_leases_alive", condition=Q(ended_at__isnull=True)),
            models.Index(fields=["ended_at"], name="task_leases_ended", condition=Q(ended_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"lease {self.fence} of T{self.task_id}"

    @property
    def who(self) -> str:
        """The runner's name for itself and, in brackets, who was identified."""
        return f"{self.runner} ({self.holder})" if self.runner else self.holder

    def is_alive(self, now: datetime) -> bool:
        return self.ended_at is None and self.expires_at > now


def field_values(**fields: Any) -> dict[str, Any]:
    """Return fields as the columns hold them: a list becomes its JSON text."""
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in fields.items()}
