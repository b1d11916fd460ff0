"""The writes to tasks and their events. Each change and its event are one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.http import parse_etags

from core.callers import Caller, Role
from core.errors import Conflict, Invalid, NotFound, PreconditionFailed, TooLarge
from core.timestamps import seconds_text
from tasks import queries
from tasks.events import FeedEvent, append_event
from tasks.leases import ends
from tasks.leases.queries import live_lease
from tasks.models import OVER, Status, Task, TaskEvent, TaskPlan, field_values
from tasks.notes import first_text, save_request
from tasks.relations import check_subtask, follow_status, set_relations, split_relations

_STATUSES = frozenset(Status.values)
UNCANCELLABLE = (Status.COMPLETED, Status.CANCELLED)
_MOST_QUOTED_CHARACTERS = 100
# Agents and services may send texts of so many bytes; others are bound by the size of a body alone.
_LIMITED_ROLES = (Role.AGENT, Role.SERVICE, Role.RUNNER)
_LONGEST_TEXT = 64 * 1024
# So much more than events may changes add to a history, so that a task whose history is full can still be ended.
_HISTORY_RESERVE_BYTES = 2**20
_LONGEST_RECORDED = 200  # characters of a value in the history


def get_task(task_id: int) -> Task:
    """Return the task; raises NotFound."""
    task = Task.objects.filter(pk=task_id).first()
    if task is None:
        raise NotFound(f"Task T{task_id} not found")
    return task


def create_task(
    *,
    fields: Mapping[str, Any],
    actor: str | None,
    body: str | None = None,
    detail: str | None = None,
    created_at: str | None = None,
    caller: Caller | None = None,
) -> Task:
    """Create a task and its `created` event; raises Invalid for a missing name or an unknown status, TooLarge.

    `body` is Markdown for its note. `created_at`, in the form of `seconds_text()`, is for a task that is older than its
    row. An agent creates tasks under its own, a runner under one that it holds, of the same priority unless they say a
    lower one; raises Conflict when they have made enough of them.
    """
    name = (fields.get("name") or "").strip()
    if not name:
        raise Invalid("name is required")
    check_status(fields.get("status", Status.QUEUED))
    check_texts({**fields, "body": body}, caller)
    now = seconds_text()
    columns, relations = split_relations(fields)
    parent_id = None
    if caller is not None and caller.role in (Role.AGENT, Role.RUNNER):
        parent_id = (caller.task_id if caller.is_agent else relations.get("parent")) or 0
    if parent_id is not None:
        relations["parent"] = parent_id
        columns.setdefault("priority", queries.stored_task(parent_id).get("priority") or "normal")
    relations = {key: value for key, value in relations.items() if value}
    values = field_values(**{**columns, "name": name, "repos": fields.get("repos") or None})
    task = Task(**values, created_at=created_at or now, updated_at=now, queued_at=now)
    with transaction.atomic():
        if parent_id is not None:
            _check_agent(parent_id, queries.task_status(parent_id), caller)
            check_subtask(parent_id)
        queries.insert_row(task)
        detail = detail or f"Task created with status={task.status}"
        made = {"name": name, "type": task.type, "priority": task.priority, "repos": fields.get("repos") or None}
        tells = FeedEvent("task.created", made)
        append_event(task.pk, "created", detail, actor, now, task.status, caller, tells=tells)
        set_relations(task.pk, relations, caller)
        if body and body.strip():
            save_request(task.pk, first_text(name, body), [], caller.name if caller is not None else "")
    return task


def update_task(
    *,
    task_id: int,
    changes: Mapping[str, Any],
    actor: str | None,
    caller: Caller | None = None,
    registration: Mapping[str, Any] | None = None,
) -> list[str]:
    """Set fields and log `updated`; returns the names in the order given. Raises Invalid, NotFound.

    Raises Conflict for an agent whose task or lease is over, TooLarge for agents and services. The end of a task ends
    its registration for tokens; a status other than active, or another assignee, ends its lease.
    `registration` holds the broker fields to store in place of those in `changes`; only the broker passes it.
    """
    if not changes:
        raise Invalid("no valid fields to update")
    if "name" in changes and not changes["name"].strip():
        raise Invalid("name must not be empty")
    if "status" in changes:
        check_status(changes["status"])
    check_texts(changes, caller)
    _check_history(task_id, caller, settings.TASK_HISTORY_BYTES + _HISTORY_RESERVE_BYTES)
    now = seconds_text()
    columns, relations = split_relations(changes)
    with transaction.atomic(savepoint=False):
        before = queries.stored_task(task_id)
        _check_agent(task_id, before.get("status"), caller)
        values = field_values(**{**columns, **(registration or {})})
        status = queries.update_row(task_id, {**values, "updated_at": now})
        if status is None:
            raise NotFound(f"Task T{task_id} not found")
        if status in OVER:
            ends.end_registration(task_id)
        detail = f"Updated: {', '.join(changes)}"
        differences = _differences(before, values)
        changes_text = json.dumps(differences) if differences else None
        tells = FeedEvent("task.updated", {"changes": differences or None})
        append_event(task_id, "updated", detail, actor, now, status, caller, changes=changes_text, tells=tells)
        ends.follow_change(task_id, columns, status, actor, now, caller)
        if "status" in columns:
            if status == Status.QUEUED:
                TaskPlan.objects.filter(pk=task_id).update(expiries=0, retry_at=None)  # whoever queues it starts anew
            follow_status(task_id, status, now)
        set_relations(task_id, relations, caller)
    return list(changes)


def cancel_task(
    *, task_id: int, actor: str | None, detail: str = "Task cancelled via API", caller: Caller | None = None
) -> None:
    """Cancel a task, which keeps its row; raises NotFound, or Conflict when it is already completed or cancelled."""
    now = seconds_text()
    with transaction.atomic():
        open_or_failed = Task.objects.filter(pk=task_id).exclude(status__in=UNCANCELLABLE)
        if not open_or_failed.update(status=Status.CANCELLED, updated_at=now):
            raise Conflict(f"Task T{task_id} is already {get_task(task_id).status}")
        ends.end_registration(task_id)
        tells = FeedEvent("task.cancelled")
        append_event(task_id, "cancelled", detail, actor, now, Status.CANCELLED, caller, tells=tells)
        lease = live_lease(task_id)
        if lease is not None:
            ends.end_by_status(lease, Status.CANCELLED, actor or "", now, caller)
        follow_status(task_id, Status.CANCELLED, now)


def log_event(
    *,
    task_id: int,
    event_type: str,
    detail: str | None,
    actor: str | None,
    caller: Caller | None = None,
    tells: FeedEvent | None = None,
) -> None:
    """Append an event to a task's history, and what `tells` says to the feed; raises Invalid, NotFound.

    Raises Conflict for an agent whose task or lease is over, TooLarge for agents and services.
    """
    event_type = event_type.strip()
    if not event_type:
        raise Invalid("event_type is required")
    check_texts({"detail": detail}, caller)
    _check_history(task_id, caller, settings.TASK_HISTORY_BYTES)
    with transaction.atomic():
        status = queries.task_status(task_id)
        if status is None:
            raise NotFound(f"Task T{task_id} not found")
        _check_agent(task_id, status, caller)
        append_event(task_id, event_type, detail, actor, seconds_text(), status, caller, tells=tells)


def check_version(task_id: int, if_match: str) -> None:
    """Raise PreconditionFailed unless the header If-Match names the task as it is; raises NotFound.

    Call it in the transaction of the change.
    """
    task = queries.task_detail(task_id)
    if task is None:
        raise NotFound(f"Task T{task_id} not found")
    if not {"*", queries.version(task)} & set(parse_etags(if_match)):
        raise PreconditionFailed(f"Task T{task_id} is not what If-Match names: read it again, then decide anew")


def events_after(event_id: int, *, limit: int = 500) -> list[TaskEvent]:
    """Return the next events past a follower's cursor, oldest first.

    The one place that followers read from: with SQLite's single writer ids appear in order, so none can come later
    below the cursor. A database with several writers would have to be guarded here.
    """
    return list(TaskEvent.objects.filter(pk__gt=event_id).order_by("pk")[:limit])


def newest_event_id() -> int:
    """Return the id of the newest event, where a new follower starts; 0 without events."""
    return TaskEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def check_status(status: str) -> None:
    """Raise Invalid for a status that is none of the six."""
    if status not in _STATUSES:
        raise Invalid(f"invalid status: {status[:_MOST_QUOTED_CHARACTERS]}")


def _check_agent(task_id: int, status: str | None, caller: Caller | None) -> None:
    """Raise Conflict for an agent whose task or lease is over, and for a runner that doesn't hold the task."""
    if caller is None or caller.role not in (Role.AGENT, Role.RUNNER):
        return
    if status in OVER:
        raise Conflict(f"Task T{task_id} is {status}: an agent changes nothing on a task that is over")
    ends.check_lease(caller, task_id)


def check_texts(values: Mapping[str, Any], caller: Caller | None) -> None:
    """Raise TooLarge for a text that is longer than the caller's role may send."""
    if caller is None or caller.role not in _LIMITED_ROLES:
        return
    for name, value in values.items():
        parts = value if isinstance(value, list) else [value]
        if sum(len(part.encode()) for part in parts if isinstance(part, str)) > _LONGEST_TEXT:
            raise TooLarge(f"{name} must be at most {_LONGEST_TEXT // 1024} KiB from the role {caller.role}")


def _check_history(task_id: int, caller: Caller | None, most_bytes: int) -> None:
    if caller is not None and caller.role in _LIMITED_ROLES and queries.history_bytes(task_id) >= most_bytes:
        raise TooLarge(
            f"the history of task T{task_id} has reached {settings.TASK_HISTORY_BYTES / 2**20:.3g} MiB, the most that"
            " agents and services may write: an operator raises LOBWIFE_TASK_HISTORY_BYTES"
        )


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the old and the new value of each field that changed."""
    return {name: [_shortened(before[name]), _shortened(new)] for name, new in after.items() if before[name] != new}


def _shortened(value: Any) -> Any:
    return value if not isinstance(value, str) or len(value) <= _LONGEST_RECORDED else f"{value[:_LONGEST_RECORDED]}…"
