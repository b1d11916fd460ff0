"""Appending to the history of a task, within the transaction of the change."""

from __future__ import annotations

from core.callers import Caller
from tasks import queries
from tasks.models import TaskEvent


def append_event(
    task_id: int,
    event_type: str,
    detail: str | None,
    actor: str | None,
    now: str,
    status: str | None,
    caller: Caller | None,
    *,
    changes: str | None = None,
) -> TaskEvent:
    """Append an event; `now` is in the form of `seconds_text()`, `status` the task's after the change.

    `changes` is JSON with the old and the new value of each field that it changed.
    """
    event = TaskEvent(task_id=task_id, event_type=event_type, detail=detail, actor=actor, created_at=now, status=status)
    event.changes = changes
    event.caller = caller.name if caller is not None else None
    queries.insert_row(event)
    return event
