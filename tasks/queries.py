"""Reads of tasks, and the SQL that REST runs most, prepared once from the models.

Compiling a statement over 22 columns takes longer than running it: one task was read 2,460 times a second through a
queryset and 5,420 times so; 640 tasks a second were created and 1,900 so, while all other writers waited.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from django.db import connection, models
from django.db.models import Case, Q, Value, When

from core.database.statements import read_all, read_one, write_returning
from core.errors import Invalid
from core.timestamps import seconds_text, whole_seconds
from tasks.ids import parse_typed_id
from tasks.models import BROKER_FIELDS, Status, Task, TaskEvent, read_repos
from tasks.results import queries as results

_DETAIL_COLUMNS = tuple(str(field.column) for field in Task._meta.concrete_fields)
_LIST_COLUMNS = tuple(name for name in _DETAIL_COLUMNS if name not in BROKER_FIELDS)
_VERSION_COLUMNS = tuple(name for name in _DETAIL_COLUMNS if name != "token_count")
_EVENT_COLUMNS = ("id", "task_id", "event_type", "detail", "actor", "created_at")

_NEWEST_CURSOR = re.compile(r"(\d{1,18})", re.ASCII)
_QUEUE_CURSOR = re.compile(r"([0-3])\.(\d{1,18})\.(.*)", re.ASCII | re.DOTALL)
_WRONG_CURSOR = "cursor must be one that the header Link has on a list in the same order"
EVENTS_MOST = 5_000
_EVENTS_CHARACTERS = 4 * 2**20
_DETAIL = """
SELECT {columns},
EXISTS (SELECT 1 FROM tasks_tasklink WHERE task_id = t.id),
EXISTS (SELECT 1 FROM tasks_taskresult WHERE task_id = t.id),
p.task_id, p.parent_id, p."group", p.not_before, p.attempt
FROM tasks t LEFT JOIN tasks_taskplan p ON p.task_id = t.id WHERE t.id = %s
"""
_DEPENDENCIES = "SELECT depends_on_id FROM tasks_taskdependency WHERE task_id = %s ORDER BY id"
_LEASE = "SELECT fence, expires_at FROM tasks_tasklease WHERE task_id = %s AND ended_at IS NULL"
_HISTORY_BYTES = """
SELECT COALESCE(SUM(COALESCE(octet_length(event_type), 0) + COALESCE(octet_length(detail), 0)
+ COALESCE(octet_length(actor), 0) + COALESCE(octet_length(changes), 0) + {row}), 0) FROM task_events WHERE task_id = %s
"""
_ROW_BYTES = 500  # of an event besides its texts, so that small ones don't make a history long


ORDERS = ("newest", "queue")
# The place of a priority in the queue; any other word counts as normal.
_RANKS = {"critical": 0, "high": 1, "low": 3}
_NORMAL_RANK = 2
_RANK = Case(
    *(When(priority=name, then=Value(rank)) for name, rank in _RANKS.items()),
    default=Value(_NORMAL_RANK),
    output_field=models.IntegerField(),
)


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a list has; None is any."""

    status: str | None = None
    type: str | None = None
    priority: str | None = None
    assigned_to: str | None = None
    repo: str | None = None  # one of its repositories, in any case
    q: str | None = None  # its id, or a part of its name, slug or assignee
    updated_since: datetime | None = None
    only_id: int | None = None
    before_id: int | None = None

    def equal(self) -> dict[str, Any]:
        """Return the conditions that compare a column with a value, by Django's lookups."""
        since = seconds_text(self.updated_since) if self.updated_since is not None else None
        lookups = {
            "status": self.status,
            "type": self.type,
            "priority": self.priority,
            "assigned_to": self.assigned_to,
            "updated_at__gte": since,
            "id": self.only_id,
            "id__lt": self.before_id,
        }
        return {lookup: value for lookup, value in sorted(lookups.items()) if value is not None}

    def others(self) -> Q:
        """Return the conditions that look into texts."""
        condition = Q()
        if self.repo is not None:
            condition &= with_repository(self.repo)
        if self.q is not None:
            names = Q(name__icontains=self.q) | Q(slug__icontains=self.q) | Q(assigned_to__icontains=self.q)
            number = parse_typed_id(self.q)
            condition &= names if number is None else names | Q(pk=number)
        return condition


class TaskPage(NamedTuple):
    """Tasks of a list; `cursor` is where the next page begins, None on the last one."""

    tasks: list[dict[str, Any]]
    cursor: str | None


class EventPage(NamedTuple):
    """Events, newest first; `before_id` is the id to go on below, None on the last page."""

    events: list[dict[str, Any]]
    before_id: int | None


# --- reads
def with_repository(name: str) -> Q:
    """Return the condition for tasks that have a repository, in any case."""
    return Q(repos__icontains=json.dumps(name))


def task_detail(task_id: int) -> dict[str, Any] | None:
    """Return all fields of a task as REST answers them, its links and result; None when there is no such task.

    A task that has relations, or had a lease, has these besides.
    """
    row = read_one(_select_detail(), (task_id,))
    if row is None:
        return None
    count = len(_DETAIL_COLUMNS)
    task = _as_json(_DETAIL_COLUMNS, row[:count])
    has_links, has_result, has_plan, *relations = row[count:]
    task["token_count"] = _int_or_none(task["token_count"])
    task["links"] = [results.link_as_json(link) for link in results.links_of(task_id)] if has_links else []
    result = results.result_of(task_id) if has_result else None
    task["result"] = results.result_as_json(result) if result is not None else None
    return {**task, **_relations(task_id, *relations)} if has_plan else task


def version(task: Mapping[str, Any]) -> str:
    """Return the ETag of a task that `task_detail` returned: another after each change, but for tokens it was given."""
    values = orjson.dumps([task[name] for name in _VERSION_COLUMNS])
    return f'"{hashlib.blake2b(values, digest_size=8).hexdigest()}"'


def task_list(where: TaskFilter, *, limit: int, order: str = "newest", cursor: str | None = None) -> TaskPage:
    """Return a page of tasks without their broker fields, in one of ORDERS; raises Invalid for a wrong cursor.

    `queue` has the queued ones in the order in which they are claimed: by priority, then by when they were queued.
    """
    others = where.others()
    if order == "newest" and not others:
        if cursor is not None:
            below = _newest_cursor(cursor)
            where = replace(where, before_id=below if where.before_id is None else min(below, where.before_id))
        values = where.equal()
        rows = read_all(f"{_select(_LIST_COLUMNS, tuple(values))} LIMIT %s", (*values.values(), limit + 1))
    else:
        queryset = Task.objects.filter(others, **where.equal())
        if order == "newest":
            queryset = queryset.filter(Q() if cursor is None else Q(pk__lt=_newest_cursor(cursor))).order_by("-id")
        else:
            behind = Q() if cursor is None else _behind(cursor)
            queryset = (
                queryset.filter(status=Status.QUEUED)
                .alias(rank=_RANK)
                .filter(behind)
                .order_by("rank", "queued_at", "id")
            )
        rows = list(queryset.values_list(*_LIST_COLUMNS)[: limit + 1])
    following = (
        _cursor(dict(zip(_LIST_COLUMNS, rows[limit - 1], strict=True)), order) if 0 < limit < len(rows) else None
    )
    return TaskPage([_as_json(_LIST_COLUMNS, row) for row in rows[:limit]], following)


def priority_rank(priority: str) -> int:
    """Return the place of a priority in the queue, 0 the first; any word that is none of the four is normal."""
    return _RANKS.get(priority, _NORMAL_RANK)


def _cursor(task: Mapping[str, Any], order: str) -> str:
    if order == "newest":
        return str(task["id"])
    return f"{priority_rank(task['priority'])}.{task['id']}.{task['queued_at']}"


def _newest_cursor(cursor: str) -> int:
    match = _NEWEST_CURSOR.fullmatch(cursor)
    if match is None:
        raise Invalid(_WRONG_CURSOR)
    return int(match[1])


def _behind(cursor: str) -> Q:
    """Return the condition for what comes after a place in the queue; raises Invalid."""
    match = _QUEUE_CURSOR.fullmatch(cursor)
    if match is None:
        raise Invalid(_WRONG_CURSOR)
    rank, number, queued_at = int(match[1]), int(match[2]), match[3]
    later = Q(queued_at__gt=queued_at) | Q(queued_at=queued_at, pk__gt=number)
    return Q(rank__gt=rank) | Q(rank=rank) & later


def dependants(task_id: int) -> list[int]:
    """Return the tasks that depend on a task."""
    return _numbers("SELECT task_id FROM tasks_taskdependency WHERE depends_on_id = %s ORDER BY id", task_id)


def blocked_by(task_id: int) -> list[int]:
    """Return the tasks that a task blocks, since it failed or was cancelled."""
    return _numbers("SELECT task_id FROM tasks_taskplan WHERE blocked_by = %s ORDER BY task_id", task_id)


def _numbers(sql: str, value: int) -> list[int]:
    return [number for (number,) in read_all(sql, (value,))]


def task_status(task_id: int) -> str | None:
    """Return the status of a task; None when there is no such task."""
    row = read_one(_select(("status",), ("id",)), (task_id,))
    return row[0] if row else None


def stored_task(task_id: int) -> dict[str, Any]:
    """Return the columns of a task as they are stored; empty when there is no such task."""
    row = read_one(_select(_DETAIL_COLUMNS, ("id",)), (task_id,))
    return dict(zip(_DETAIL_COLUMNS, row, strict=True)) if row else {}


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
    row = read_one(_HISTORY_BYTES.format(row=_ROW_BYTES), (task_id,))
    return int(row[0]) if row else 0


# --- writes
def insert_row(row: models.Model) -> None:
    """Insert a new row and set its id, as `save(force_insert=True)` would."""
    columns, sql = _insert(type(row))
    (row.pk,) = write_returning(sql, [getattr(row, column) for column in columns]) or (None,)
    row._state.adding = False


def insert_event(values: Sequence[Any]) -> int:
    """Insert an entry of a history, of the values of its columns in their order; return its id.

    Without a model, which takes as long as the INSERT, while all other writers wait.
    """
    (number,) = write_returning(_insert(TaskEvent)[1], values) or (0,)
    return int(number)


def update_row(task_id: int, values: Mapping[str, Any]) -> str | None:
    """Set columns of a task; returns its status afterwards, None when there is no such task."""
    row = write_returning(_update(tuple(values)), (*values.values(), task_id))
    return row[0] if row else None


# --- statements
@functools.cache
def _select(columns: Sequence[str], lookups: Sequence[str]) -> str:
    """Compile a SELECT of tasks, newest first; its parameters are the values of the lookups, sorted by name."""
    queryset = Task.objects.filter(**dict.fromkeys(lookups, 0)).order_by("-id").values_list(*columns)
    return queryset.query.sql_with_params()[0]


@functools.cache
def _select_detail() -> str:
    """Return the SELECT of a task by its id, of whether it has links and a result, and of its relations."""
    return _DETAIL.format(columns=", ".join(f"t.{_quote(name)}" for name in _DETAIL_COLUMNS))


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
def _relations(
    task_id: int, parent: int | None, group: str | None, not_before: datetime | None, attempt: int
) -> dict[str, Any]:
    lease = read_one(_LEASE, (task_id,))
    return {
        "depends_on": _numbers(_DEPENDENCIES, task_id),
        "parent": parent,
        "group": group,
        "not_before": seconds_text(not_before.replace(tzinfo=UTC)) if not_before else None,
        "attempt": attempt,
        "lease": {"fence": lease[0], "expires_at": f"{lease[1]:%Y-%m-%dT%H:%M:%SZ}"} if lease else None,
    }


def _as_json(columns: Iterable[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return a row as REST answers it: a value that an old file holds in a column of another type is null."""
    task = dict(zip(columns, row, strict=True))
    task["task_id"] = f"T{task['id']}"
    task["repos"] = _repos(task["repos"]) if task["repos"] else None
    task["requires_qa"] = bool(task["requires_qa"]) if isinstance(task["requires_qa"], int) else None
    if not isinstance(task["estimate_minutes"], int | float):
        task["estimate_minutes"] = None
    for name in ("created_at", "updated_at", "queued_at"):
        task[name] = whole_seconds(task[name])
    return task


# Most tasks of a list name the same few repositories: reading them took a third of its time.
_repos = functools.lru_cache(maxsize=1024)(read_repos)


def _int_or_none(value: Any) -> int | None:
    return value if isinstance(value, int) else None
