"""The hottest reads: SELECTs made once from the models' columns, rows straight to what REST answers.

A one-row read through a queryset spends its time compiling 22 columns: 2,460/s against 5,420/s so.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, models

from core.timestamps import shown_in_seconds
from tasks.models import Status, Task, TaskEvent, read_repos
from tasks.services import BROKER_FIELDS

LIMIT_DEFAULT, LIMIT_MOST = 100, 500
_DETAIL = tuple(str(field.column) for field in Task._meta.concrete_fields)
_LISTED = tuple(name for name in _DETAIL if name not in BROKER_FIELDS)
_EVENT = ("id", "task_id", "event_type", "detail", "actor", "created_at")


def task_detail(task_id: int) -> dict[str, Any] | None:
    """All fields of a task as REST answers them; None when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(_select(Task._meta.db_table, _DETAIL, ("id",)), (task_id,))
        row = cursor.fetchone()
    if row is None:
        return None
    shown = _shown(_DETAIL, row)
    shown["token_count"] = _whole(shown["token_count"])
    return shown


def task_list(
    *, status: str | None, type: str | None, limit: int, only: int | None = None, before_id: int | None = None
) -> list[dict[str, Any]]:
    """Tasks without their broker fields, newest id first; `only` one of them, if it has the status and type.

    `before_id` continues a list: only what is older than that task.
    """
    given: dict[str, Any] = {name: value for name, value in (("status", status), ("type", type)) if value}
    if only is not None:
        given["id"] = only
    sql = _select(Task._meta.db_table, _LISTED, tuple(given))
    values = list(given.values())
    if before_id is not None:
        sql += f" {'AND' if given else 'WHERE'} {connection.ops.quote_name('id')} < %s"
        values.append(before_id)
    with connection.cursor() as cursor:
        cursor.execute(sql + " ORDER BY id DESC LIMIT %s", (*values, limit))
        return [_shown(_LISTED, row) for row in cursor.fetchall()]


def task_counts() -> dict[str, Any]:
    """How many tasks there are, and how many of each status; a status without tasks is 0."""
    found = dict(Task.objects.order_by().values_list("status").annotate(models.Count("id")))
    by_status = {str(status): found.get(status, 0) for status in Status.values}
    return {"total": sum(found.values()), "by_status": by_status}


def task_events(task_id: int) -> list[dict[str, Any]]:
    """A task's history, newest first."""
    with connection.cursor() as cursor:
        cursor.execute(_select(TaskEvent._meta.db_table, _EVENT, ("task_id",)) + " ORDER BY id DESC", (task_id,))
        events = [dict(zip(_EVENT, row, strict=True)) for row in cursor.fetchall()]
    for event in events:
        event["created_at"] = shown_in_seconds(event["created_at"])
    return events


@functools.cache
def _select(table: str, columns: Sequence[str], where: Sequence[str]) -> str:
    quoted = ", ".join(connection.ops.quote_name(column) for column in columns)
    condition = " AND ".join(f"{connection.ops.quote_name(name)} = %s" for name in where)
    source = connection.ops.quote_name(table)
    return f"SELECT {quoted} FROM {source}" + (f" WHERE {condition}" if where else "")  # noqa: S608 names are our own


def _shown(columns: Iterable[str], row: Sequence[Any]) -> dict[str, Any]:
    """A row as REST answers it: what an old file holds and can't be read in a typed place is null."""
    task = dict(zip(columns, row, strict=True))
    task["task_id"] = f"T{task['id']}"
    task["repos"] = read_repos(task["repos"]) if task["repos"] else None
    task["requires_qa"] = bool(task["requires_qa"]) if isinstance(task["requires_qa"], int) else None
    task["estimate_minutes"] = _whole(task["estimate_minutes"])
    for name in ("created_at", "updated_at", "queued_at"):
        task[name] = shown_in_seconds(task[name])
    return task


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None
