"""The tasks that are overdue: active or queued for longer than is usual."""

from __future__ import annotations

from datetime import datetime, timedelta

from core.timestamps import parse, seconds_text
from tasks.models import Status, Task

ACTIVE_MINUTES = 90
QUEUED_MINUTES = 60
_MOST_TASKS = 2000
_FIELDS = ("id", "name", "assigned_at", "estimate_minutes", "status")


def is_active_too_long(task: Task, now: datetime, minutes: int = ACTIVE_MINUTES) -> bool:
    """Return True for a task that is active for twice its estimate, or for so long without one."""
    since = parse(task.assigned_at)
    estimate = task.estimate_minutes if isinstance(task.estimate_minutes, int) else None
    limit = timedelta(minutes=estimate * 2 if estimate else minutes)
    return task.status == Status.ACTIVE and since is not None and now - since > limit


def active_too_long(now: datetime, minutes: int = ACTIVE_MINUTES) -> list[Task]:
    """Return the active tasks that are overdue, oldest first, among the oldest 2,000."""
    active = Task.objects.filter(status=Status.ACTIVE).order_by("id").only(*_FIELDS)[:_MOST_TASKS]
    return [task for task in active if is_active_too_long(task, now, minutes)]


def queued_too_long(now: datetime, minutes: int = QUEUED_MINUTES) -> list[Task]:
    """Return the tasks that are queued for so long or longer, oldest first, among the oldest 2,000."""
    limit = seconds_text(now - timedelta(minutes=minutes))
    queued = Task.objects.filter(status=Status.QUEUED).order_by("id").only("id", "name", "queued_at", "status")
    return [task for task in queued[:_MOST_TASKS] if task.queued_at < limit]
