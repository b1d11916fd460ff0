"""Appending to the history of a task, within the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from core.callers import Caller
from events import services as feed
from tasks import queries
from tasks.models import TaskLease


class FeedEvent(NamedTuple):
    """What the feed of events gets of a change: the type, and the fields that it has besides those of each task."""

    type: str
    fields: Mapping[str, Any] = {}


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
    tells: FeedEvent | None = None,
) -> None:
    """Append an event; `now` is in the form of `seconds_text()`, `status` the task's after the change.

    The feed of events gets it as what `tells` says, else as any entry of a history. `changes` is JSON with the old and
    the new value of each field that it changed.
    """
    name = caller.name if caller is not None else None
    event_id = queries.insert_event((task_id, event_type, detail, actor, now, status, name, changes))
    what = tells or FeedEvent("task.logged", {"event_type": event_type})
    common = {"task_id": task_id, "event_id": event_id, "status": status, "detail": detail}
    feed.append(what.type, f"T{task_id}", {**common, **what.fields}, actor=actor, caller=name)


def append_lease_end(type: str, lease: TaskLease, status: str, caller: Caller | None, **fields: str) -> None:
    """Append the end of a lease to the feed, where the history of its task has no entry of its own for it."""
    common = {"task_id": lease.task_id, "event_id": None, "status": status, "detail": None}
    name = caller.name if caller is not None else None
    feed.append(type, f"T{lease.task_id}", {**common, **lease_fields(lease), **fields}, caller=name)


def lease_fields(lease: TaskLease, **fields: str) -> dict[str, Any]:
    """Return the fields of an event about a lease."""
    names = ("fence", "attempt", "holder", "runner", "expires_at")
    return {name: getattr(lease, name) for name in names} | fields
