"""The tasks that are overdue: active or queued for longer than is usual."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from core.timestamps import parse, seconds_text
from tasks.models import Status, Task

# Until operators decide otherwise, under Alerts.
ACTIVE_MINUTES = 90
QUEUED_MINUTES = 60
_MOST_TASKS = 2000
_FIELDS = ("id", "name", "assigned_at", "estimate_minutes", "status")


class Limits(NamedTuple):
    """The minutes after which a task without an estimate is active too long, and any is queued too long."""

    active: int = ACTIVE_MINUTES
    queued: int = QUEUED_MINUTES


def is_active_too_long(task: Task, now: datetime, minutes: int) -> bool:
    """Return True for a task that is active for twice its estimate, or for so long without one."""
    since = parse(task.assigned_at)
    estimate = task.estimate_minutes if isinstance(task.estimate_minutes, int) else None
    limit = timedelta(minutes=estimate * 2 if estimate else minutes)
    return task.status == Status.ACTIVE and since is not None and now - since > limit


def active_too_long(now: datetime, minutes: int) -> list[Task]:
    """Return the active tasks that are overdue, oldest first, among the oldest 2,000."""
    active = Task.objects.filter(status=Status.ACTIVE).order_by("id").only(*_FIELDS)[:_MOST_TASKS]
    return [task for task in active if is_active_too_long(task, now, minutes)]


def queued_too_long(now: datetime, minutes: int) -> list[Task]:
    """Return the tasks that are queued for so long or longer, oldest first, among the oldest 2,000."""
    limit = seconds_text(now - timedelta(minutes=minutes))
    queued = Task.objects.filter(status=Status.QUEUED).order_by("id").only("id", "name", "queued_at", "status")
    return [task for task in queued[:_MOST_TASKS] if task.queued_at < limit]
