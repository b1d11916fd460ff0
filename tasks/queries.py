"""Reads of tasks, and the SQL that REST runs most, prepared once from the models.

Compiling a statement over 22 columns takes longer than running it: one task was read 2,460 times a second through a
queryset and 5,420 times so; 640 tasks a second were created and 1,900 so, while all other writers waited.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connection, models
from django.db.models import Exists, F, Func, OuterRef
from django.db.models.functions import Coalesce

from core.timestamps import whole_seconds
from tasks.leases.queries import QUEUE_ORDER
from tasks.models import BROKER_FIELDS, Status, Task, TaskEvent, TaskPlan, read_repos

_DETAIL_COLUMNS = tuple(str(field.column) for field in Task._meta.concrete_fields)
_LIST_COLUMNS = tuple(name for name in _DETAIL_COLUMNS if name not in BROKER_FIELDS)
_EVENT_COLUMNS = ("id", "task_id", "event_type", "detail", "actor", "created_at")

EVENTS_MOST = 5_000
_EVENTS_CHARACTERS = 4 * 2**20
_RELATIONS = """
SELECT p.parent_id, p."group", p.not_before, p.attempt,
(SELECT json_group_array(depends_on_id) FROM (SELECT depends_on_id FROM tasks_taskdependency
WHERE task_id = p.task_id ORDER BY id)),
(SELECT json_object('fence', fence, 'expires_at', strftime('%%Y-%%m-%%dT%%H:%%M:%%SZ', expires_at))
FROM tasks_tasklease WHERE task_id = p.task_id AND ended_at IS NULL)
FROM tasks_taskplan p WHERE p.task_id = %s
"""
_ROW_BYTES = 500  # of an event besides its texts, so that small ones don't make a history long


class EventPage(NamedTuple):
    """Events, newest first; `before_id` is the id to go on below, None on the last page."""

    events: list[dict[str, Any]]
    before_id: int | None


# --- reads
def task_detail(task_id: int) -> dict[str, Any] | None:
    """Return all fields of a task as REST answers them; None when there is no such task.

    A task that has relations, or had a lease, has these besides.
    """
    with connection.cursor() as cursor:
        sql, parameters = _select_detail()
        cursor.execute(sql, (*parameters, task_id))
        row = cursor.fetchone()
    if row is None:
        return None
    task = _as_json(_DETAIL_COLUMNS, row[:-1])
    task["token_count"] = _int_or_none(task["token_count"])
    return {**task, **_relations(task_id)} if row[-1] else task


def task_list(
    *,
    status: str | None,
    type: str | None,
    limit: int,
    only_id: int | None = None,
    before_id: int | None = None,
    is_queue: bool = False,
) -> list[dict[str, Any]]:
    """Return tasks without their broker fields, newest first: all of them, or those that fit each filter.

    With `is_queue`, in the order in which they are claimed.
    """
    filters = {"status": status or None, "type": type or None, "id": only_id, "id__lt": before_id}
    values = {lookup: value for lookup, value in sorted(filters.items()) if value is not None}
    with connection.cursor() as cursor:
        cursor.execute(f"{_select(_LIST_COLUMNS, tuple(values), is_queue)} LIMIT %s", (*values.values(), limit))
        return [_as_json(_LIST_COLUMNS, row) for row in cursor.fetchall()]


def dependants(task_id: int) -> list[int]:
    """Return the tasks that depend on a task."""
    return _numbers("SELECT task_id FROM tasks_taskdependency WHERE depends_on_id = %s ORDER BY id", task_id)


def blocked_by(task_id: int) -> list[int]:
    """Return the tasks that a task blocks, since it failed or was cancelled."""
    return _numbers("SELECT task_id FROM tasks_taskplan WHERE blocked_by = %s ORDER BY task_id", task_id)


def _numbers(sql: str, value: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(sql, (value,))
        return [number for (number,) in cursor.fetchall()]


def task_status(task_id: int) -> str | None:
    """Return the status of a task; None when there is no such task."""
    with connection.cursor() as cursor:
        cursor.execute(_select(("status",), ("id",)), (task_id,))
        row = cursor.fetchone()
    return row[0] if row else None


def task_counts() -> dict[str, Any]:
    """Return the number of tasks, in all and of each status; a status without tasks is 0."""
    counts = dict(Task.objects.order_by().values_list("status").annotate(models.Count("id")))
    by_status = {str(status): counts.get(status, 0) for status in Status.values}
    return {"total": sum(counts.values()), "by_status": by_status}


def task_events(task_id: int, *, limit: int = EVENTS_MOST, before_id: int | None = None) -> EventPage:
    """Return a page of a task's history, newest first: `limit` events at most, and 4 MiB of their texts."""
    rows = TaskEvent.objects.filter(task_id=task_id).order_by("-id")
    if before_id is not None:
        rows = rows.filter(pk__lt=before_id)
    events: list[dict[str, Any]] = []
    characters = 0
    for event in rows.values(*_EVENT_COLUMNS)[: limit + 1].iterator(chunk_size=16):
        characters += len(event["detail"] or "")
        if events and (len(events) == limit or characters > _EVENTS_CHARACTERS):
            return EventPage(events, before_id=events[-1]["id"])
        event["created_at"] = whole_seconds(event["created_at"])
        events.append(event)
    return EventPage(events[:limit], before_id=None)


def history_bytes(task_id: int) -> int:
    """Return how many bytes the events of a task take, those of each row included."""
    lengths = (
        Coalesce(Func(F(name), function="OCTET_LENGTH", output_field=models.IntegerField()), 0)
        for name in ("event_type", "detail", "actor")
    )
    rows = TaskEvent.objects.filter(task_id=task_id)
    total = rows.aggregate(total=models.Sum(functools.reduce(operator.add, lengths) + _ROW_BYTES))["total"]
    return int(total or 0)


# --- writes
def insert_row(row: models.Model) -> None:
    """Insert a new row and set its id, as `save(force_insert=True)` would."""
    columns, sql = _insert(type(row))
    with connection.cursor() as cursor:
        cursor.execute(sql, [getattr(row, column) for column in columns])
        row.pk = cursor.fetchone()[0]
    row._state.adding = False


def update_row(task_id: int, values: Mapping[str, Any]) -> str | None:
    """Set columns of a task; returns its status afterwards, None when there is no such task."""
    with connection.cursor() as cursor:
        cursor.execute(_update(tuple(values)), [*values.values(), task_id])
        row = cursor.fetchone()
    return row[0] if row else None


# --- statements
@functools.cache
def _select_detail() -> tuple[str, tuple[Any, ...]]:
    """Compile the SELECT of one task, and of whether it has a plan; its last parameter, the id, is left out."""
    plan = Exists(TaskPlan.objects.filter(pk=OuterRef("pk")))
    sql, parameters = Task.objects.filter(id=0).order_by().values_list(*_DETAIL_COLUMNS, plan).query.sql_with_params()
    return sql, tuple(parameters[:-1])


@functools.cache
def _select(columns: Sequence[str], lookups: Sequence[str], is_queue: bool = False) -> str:
    """Compile a SELECT of tasks, newest first; its parameters are the values of the lookups, sorted by name."""
    queryset = Task.objects.filter(**dict.fromkeys(lookups, 0)).values_list(*columns)
    if is_queue:  # the status is written out, as the index of the queue is for that one
        sql = str(queryset.order_by().query.sql_with_params()[0])
        return f"{sql} {'AND' if lookups else 'WHERE'} status = '{Status.QUEUED}' ORDER BY {QUEUE_ORDER}"
    queryset = queryset.order_by("-id")
    return queryset.query.sql_with_params()[0]


@functools.cache
def _insert(model: type[models.Model]) -> tuple[list[str], str]:
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    names = ", ".join(_quote(str(field.column)) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    table = _quote(model._meta.db_table)
    sql = f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING {_quote('id')}"  # noqa: S608 names of a model
    return [field.attname for field in fields], sql


@functools.lru_cache(maxsize=256)
def _update(names: Sequence[str]) -> str:
    fields = {field.name: field for field in Task._meta.concrete_fields}
    columns = [_quote(str(fields[name].column)) for name in names]
    changes = ", ".join(f"{column} = %s" for column in columns)
    table = _quote(Task._meta.db_table)
    return f"UPDATE {table} SET {changes} WHERE {_quote('id')} = %s RETURNING {_quote('status')}"  # noqa: S608


def _quote(name: str) -> str:
    return connection.ops.quote_name(name)


# --- answers
def _relations(task_id: int) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(_RELATIONS, (task_id,))
        parent, group, not_before, attempt, depends_on, lease = cursor.fetchone()
    return {
        "depends_on": json.loads(depends_on),
        "parent": parent,
        "group": group,
        "not_before": whole_seconds(str(not_before)) if not_before else None,
        "attempt": attempt,
        "lease": json.loads(lease) if lease else None,
    }


def _as_json(columns: Iterable[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return a row as REST answers it: a value that an old file holds in a column of another type is null."""
    task = dict(zip(columns, row, strict=True))
    task["task_id"] = f"T{task['id']}"
    task["repos"] = read_repos(task["repos"]) if task["repos"] else None
    task["requires_qa"] = bool(task["requires_qa"]) if isinstance(task["requires_qa"], int) else None
    if not isinstance(task["estimate_minutes"], int | float):
        task["estimate_minutes"] = None
    for name in ("created_at", "updated_at", "queued_at"):
        task[name] = whole_seconds(task[name])
    return task


def _int_or_none(value: Any) -> int | None:
    return value if isinstance(value, int) else None
