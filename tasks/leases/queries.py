"""The SQL of the queue and of leases, kept ready: every claim runs it while all other writers wait.

The queue's order is priority (critical, high, normal, low; any other is normal), then the oldest `queued_at`, then the
id. A claim reads the first row of an index, whatever the number of tasks: the planner is told which index, since it
would rather sort all queued tasks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import connection

from core.database.statements import index_hint, read_all, read_one, write, write_alone, write_returning
from core.timestamps import iso_text, seconds_text
from tasks.models import Task, TaskLease, read_repos

_RANK = (
    "CASE WHEN {0}priority = 'critical' THEN 0 WHEN {0}priority = 'high' THEN 1 WHEN {0}priority = 'low' THEN 3"
    " ELSE 2 END"
)

# The one place that says why a queued task may not be claimed now: `t` is the task, `now` the time, `today` its day.
NOT_NOW = (
    # a dependency is not completed
    "EXISTS (SELECT 1 FROM tasks_taskdependency d LEFT JOIN tasks o ON o.id = d.depends_on_id"
    " WHERE d.task_id = t.id AND o.status IS DISTINCT FROM 'completed')",
    # it is put off, its back-off is not over, or a task of its group is active
    "EXISTS (SELECT 1 FROM tasks_taskplan p WHERE p.task_id = t.id AND (p.not_before > %(now)s OR p.retry_at > %(now)s"
    ' OR p."group" IS NOT NULL AND p."group" IN (SELECT g."group" FROM tasks a CROSS JOIN tasks_taskplan g'
    " WHERE g.task_id = a.id AND a.status = 'active' AND g.\"group\" IS NOT NULL)))",
    # a budget of it is spent
    "EXISTS (SELECT 1 FROM tasks_spentbudget s JOIN tasks_budget b ON b.id = s.budget_id"
    " WHERE (s.until IS NULL OR s.until > %(today)s)"
    " AND CASE b.scope WHEN 'task' THEN s.name = 'T' || t.id WHEN 'type' THEN s.name = t.type"
    " WHEN 'repo' THEN replace(lower(t.repos), '\"' || s.name || '\"', '') <> lower(t.repos)"
    " ELSE TRUE END)",
)
_READY = " AND ".join(f"NOT {condition}" for condition in NOT_NOW)
_LANE = f"""
SELECT * FROM (SELECT t.id AS id, {_RANK.format("t.")} AS rank, t.queued_at AS queued_at
FROM tasks t {{index}} WHERE t.status = 'queued' {{conditions}} AND {_READY}
ORDER BY {_RANK.format("t.")}, t.queued_at, t.id LIMIT %(most)s) AS lane
"""
_CANDIDATE = f"SELECT t.id FROM tasks t WHERE t.id = %(candidate)s AND t.status = 'queued' AND ({{fits}}) AND {_READY}"
_TAKE = """
UPDATE tasks SET status = 'active', assigned_to = %(assigned_to)s, assigned_at = %(assigned_at)s,
updated_at = %(updated_at)s WHERE id = ({pick}) RETURNING id
"""
# Each different value once, by a look-up in the index for each.
_DISTINCT = """
WITH RECURSIVE each(value) AS (
SELECT (SELECT {column} FROM tasks {index} WHERE status = 'queued' {conditions}
AND {column} > %(after)s ORDER BY {column} LIMIT 1)
UNION ALL SELECT (SELECT {column} FROM tasks {index} WHERE status = 'queued' {conditions}
AND {column} > each.value ORDER BY {column} LIMIT 1) FROM each WHERE each.value IS NOT NULL
) SELECT value FROM each WHERE value IS NOT NULL LIMIT %(most)s
"""
_NEXT_FENCE = """
INSERT INTO tasks_taskplan (task_id, fence, attempt, expiries) VALUES (%s, 1, 1, 0)
ON CONFLICT (task_id) DO UPDATE SET fence = tasks_taskplan.fence + 1, attempt = tasks_taskplan.attempt + 1,
retry_at = NULL, blocked_by = NULL
RETURNING fence, attempt
"""
_INSERT = """
INSERT INTO tasks_tasklease (task_id, fence, attempt, holder, runner, assigned_to, seconds, taken_at, beat_at,
expires_at, progress, "end", outcome, reason) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, '', '', '', '')
RETURNING id
"""
_BEAT = """
UPDATE tasks_tasklease SET beat_at = %s, expires_at = %s, progress = COALESCE(%s, progress)
WHERE id = %s AND ended_at IS NULL AND expires_at > %s
"""
_END = """
UPDATE tasks_tasklease SET ended_at = %s, "end" = %s, outcome = %s, reason = %s WHERE id = %s AND ended_at IS NULL
"""
_SET_STATUS = """
UPDATE tasks SET status = %(status)s, updated_at = %(updated_at)s,
completed_at = CASE %(status)s WHEN 'completed' THEN %(time)s ELSE completed_at END,
assigned_to = CASE %(status)s WHEN 'queued' THEN NULL ELSE assigned_to END,
assigned_at = CASE %(status)s WHEN 'queued' THEN NULL ELSE assigned_at END,
broker_status = CASE broker_status WHEN 'active' THEN 'ended' ELSE broker_status END
WHERE id = %(task_id)s AND status = 'active'
"""
_FORGET_EXPIRIES = "UPDATE tasks_taskplan SET expiries = 0 WHERE task_id = %s AND expiries > 0"
_LEASE_COLUMNS = [field.attname for field in TaskLease._meta.concrete_fields]
_TIMES = "SELECT task_id, fence, seconds, beat_at, expires_at, ended_at FROM tasks_tasklease WHERE id = %s"
_MOST_LANES = 200
_DISTINCT_AT_ONCE = 1000


class Wanted(NamedTuple):
    """What a claim asks for: any of these types, and no repositories but these. Empty: all."""

    types: tuple[str, ...] = ()
    repos: tuple[str, ...] = ()


class Lanes(NamedTuple):
    """What a claim asks for as SQL: the SELECT of its queue, the condition for one task, and their parameters."""

    queue: str
    fits: str
    parameters: dict[str, str]


class NewLease(NamedTuple):
    """A lease that was just taken."""

    id: int
    task_id: int
    fence: int
    attempt: int
    expires_at: datetime


class LeaseTimes(NamedTuple):
    """What every call with the key of a lease asks for."""

    task_id: int
    fence: int
    seconds: int
    beat_at: datetime
    expires_at: datetime
    ended_at: datetime | None


class CurrentLease(NamedTuple):
    """A lease that has not ended, with the name of its task; `who`, `taken_at`, `beat_at`, `expires_at` are its."""

    lease: TaskLease
    task_name: str


# --- the queue
def ready_count(wanted: Wanted, now: datetime, most: int) -> int:
    """Return how many tasks such a claim could take now, at most so many."""
    lanes = lanes_of(wanted)
    return len(_ready_ids(lanes, now, most)) if lanes is not None else 0


def first_ready(lanes: Lanes, now: datetime) -> int | None:
    """Return the task that a claim of these lanes would take now."""
    ready = _ready_ids(lanes, now, 1)
    return ready[0] if ready else None


def _ready_ids(lanes: Lanes, now: datetime, most: int) -> list[int]:
    values = {**lanes.parameters, **_times(now), "most": most}
    return [number for (number,) in read_all(f"{lanes.queue} LIMIT %(most)s", values)]


def take(lanes: Lanes, candidate: int, assigned_to: str, now: datetime) -> int | None:
    """Make a task active and return its id; None when none is ready.

    It is the candidate, which was the first a moment ago, or the first now if somebody took that. So what is held up is
    not read through once more while all other writers wait.
    """
    values = {
        **_times(now),
        "most": 1,
        "candidate": candidate,
        "assigned_to": assigned_to,
        "assigned_at": iso_text(now),
        "updated_at": seconds_text(now),
    }
    for pick in (_CANDIDATE.format(fits=lanes.fits), f"{lanes.queue} LIMIT 1"):
        row = write_returning(_TAKE.format(pick=pick), {**lanes.parameters, **values})
        if row is not None:
            return int(row[0])
    return None


def lanes_of(wanted: Wanted) -> Lanes | None:
    """Return the lanes of the queue for such a claim; None when nothing fits.

    Each type, or type and repositories, is a lane that has its own order in the index.
    """
    if not wanted.repos:
        types = {f"type{place}": name for place, name in enumerate(wanted.types)}
        return Lanes(*_select("type", len(wanted.types)), types)
    own = {name.lower() for name in wanted.repos}
    fitting = [text for text in _distinct("repos", "", {}) if _fits(text, own)]
    pairs = [
        (text, name)
        for text in fitting
        for name in wanted.types or _distinct("type", "AND repos = %(repos)s", {"repos": text})
    ][:_MOST_LANES]
    if not pairs:
        return None
    parameters = {f"repos{place}": text for place, (text, _) in enumerate(pairs)}
    parameters |= {f"type{place}": name for place, (_, name) in enumerate(pairs)}
    return Lanes(*_select("repos", len(pairs)), parameters)


def _fits(text: str, own: set[str]) -> bool:
    """Return whether a task with these repositories, as stored, needs some, and none but our own."""
    names = read_repos(text)
    return bool(names) and all(name.lower() in own for name in names or ())


def _distinct(column: str, conditions: str, parameters: dict[str, str]) -> list[str]:
    sql = _DISTINCT.format(column=column, conditions=conditions, index=index_hint("idx_tasks_queue_repos"))
    values: list[Any] = []
    while True:
        after = values[-1] if values else ""
        page = [value for (value,) in read_all(sql, {**parameters, "after": after, "most": _DISTINCT_AT_ONCE})]
        values += page
        if len(page) < _DISTINCT_AT_ONCE:
            return [value for value in values if isinstance(value, str)]


@functools.lru_cache(maxsize=256)
def _select(kind: str, count: int) -> tuple[str, str]:
    """Return the SELECT of so many lanes, and the condition for one task."""
    conditions = {
        "type": [f"t.type = %(type{place})s" for place in range(count)],
        "repos": [f"t.repos = %(repos{place})s AND t.type = %(type{place})s" for place in range(count)],
    }[kind]
    if conditions:
        lanes = [
            _LANE.format(index=index_hint(f"idx_tasks_queue_{kind}"), conditions=f"AND {each}") for each in conditions
        ]
    else:
        lanes = [_LANE.format(index=index_hint("idx_tasks_queue"), conditions="")]
    fits = " OR ".join(f"({each})" for each in conditions) or "TRUE"
    return f"SELECT id FROM ({' UNION ALL '.join(lanes)}) AS lanes ORDER BY rank, queued_at, id", fits


# --- leases
def insert_lease(
    task_id: int, *, holder: str, runner: str, assigned_to: str, seconds: int, now: datetime, expires_at: datetime
) -> NewLease:
    """Give a task its next lease; its fence is one more than that of the lease before."""
    moment = _moment(now)
    fence, attempt = write_returning(_NEXT_FENCE, (task_id,)) or (0, 0)
    values = (task_id, fence, attempt, holder, runner, assigned_to, seconds, moment, moment, _moment(expires_at))
    (number,) = write_returning(_INSERT, values) or (0,)
    return NewLease(number, task_id, fence, attempt, expires_at)


def beat(lease_id: int, *, now: datetime, expires_at: datetime, progress: str | None = None) -> bool:
    """Renew a lease, in a transaction of its own; returns whether it was alive."""
    moment = _moment(now)
    return bool(write_alone(_BEAT, (moment, _moment(expires_at), progress, lease_id, moment)))


def end(lease_id: int, *, now: datetime, how: str, outcome: str = "", reason: str = "") -> bool:
    """End a lease; returns False when it had ended."""
    return bool(write(_END, (_moment(now), str(how), str(outcome), reason, lease_id)))


def set_status(task_id: int, status: str, now: datetime) -> bool:
    """Give an active task the status that it has after its lease, and end its registration; False if it isn't active.

    A task that is queued again is nobody's.
    """
    values: dict[str, str | int] = {
        "task_id": task_id,
        "status": str(status),
        "updated_at": seconds_text(now),
        "time": iso_text(now),
    }
    return bool(write(_SET_STATUS, values))


def forget_expiries(task_id: int) -> None:
    """Begin to count the leases anew that expire in a row."""
    write(_FORGET_EXPIRIES, (task_id,))


def lease_times(lease_id: int) -> LeaseTimes | None:
    """Return the task, fence and times of a lease; None for one that there is not."""
    row = read_one(_TIMES, (lease_id,))
    if row is None:
        return None
    lease = LeaseTimes(*row)
    return lease._replace(beat_at=lease.beat_at.replace(tzinfo=UTC), expires_at=lease.expires_at.replace(tzinfo=UTC))


def live_lease(task_id: int) -> TaskLease | None:
    """Return the lease of a task that was not ended, though its time may be over; None for most tasks."""
    return _lease(_select_lease(ended_at=None), (task_id,))


def lease_of(task_id: int, fence: int) -> TaskLease | None:
    """Return the lease of a task with this fence."""
    return _lease(_select_lease(fence=0), (fence, task_id))


def _lease(sql: str, values: Sequence[int]) -> TaskLease | None:
    row = read_one(sql, values)
    if row is None:
        return None
    columns = [value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for value in row]
    return TaskLease.from_db(None, _LEASE_COLUMNS, columns)


@functools.cache
def _select_lease(**lookup: int | None) -> str:
    """Compile the SELECT of a task's lease; its parameters are the values of the lookup and the task."""
    queryset = TaskLease.objects.filter(**lookup).filter(task_id=0).order_by()
    return queryset.values_list(*_LEASE_COLUMNS).query.sql_with_params()[0]


def current_leases() -> list[CurrentLease]:
    """Return who holds which task now, the longest holder first."""
    leases = list(TaskLease.objects.filter(ended_at=None).order_by("taken_at", "pk"))
    names = dict(Task.objects.filter(pk__in=[lease.task_id for lease in leases]).values_list("pk", "name"))
    return [CurrentLease(lease, names.get(lease.task_id, "")) for lease in leases]


def _times(now: datetime) -> dict[str, Any]:
    return {"now": _moment(now), "today": now.date().isoformat()}


def _moment(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)
