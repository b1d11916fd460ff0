"""What operators see, read past the ORM where that was measured to matter, and counts over histories that only grow.

Those are read from the first row of their time on, not from the beginning.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.core.cache import cache
from django.db import connection, models
from django.db.models import Count, Sum
from django.db.models.functions import Coalesce

from broker.models import Action, TokenAudit
from core.database.statements import epoch, index_hint, read_one
from core.timestamps import iso_text, seconds_text, utc_now
from tasks.models import TaskEvent

_DAY_SECONDS = 86_400
_TOKEN_REQUESTS = (Action.TOKEN, Action.SERVICE_TOKEN, Action.TOKEN_REFUSED)
# Probes come often and give up after a second: one statement, each count from an index alone. A retry that waits for
# its time does not count as running.
_COUNTS = """
    SELECT (SELECT COUNT(*) FROM tasks), (SELECT COUNT(*) FROM jobs_jobrun
    WHERE state IN ('queued', 'running') AND (not_before IS NULL OR not_before <= %s))
"""
# A model made of one row takes a quarter of the time of `/health`.
_DAEMON = """
    SELECT pid, version, started_at, beat_at, paused_at, paused_by, trouble FROM jobs_daemon ORDER BY id LIMIT 1
"""
# For each job its newest runs: index seeks, where a window function would read the whole history.
_NEWEST_RUNS = """
    SELECT run.job_id, run.id, run.state, run.duration, run.queued_at
    FROM (SELECT id, (SELECT id FROM jobs_jobrun WHERE job_id = job.id ORDER BY id DESC LIMIT 1 OFFSET %s) AS older
        FROM jobs_job AS job WHERE id IN ({jobs})) AS job
    JOIN jobs_jobrun AS run ON run.job_id = job.id AND run.id > coalesce(job.older, 0)
    ORDER BY run.id
"""
# The state is compared as an expression: by its index SQLite would read a job's whole history to find the newest run.
_FAILING_JOBS = """
    SELECT job.id, job.name, job.failing_since
    FROM jobs_job AS job LEFT JOIN job_state AS state ON state.name = job.name
    WHERE coalesce(state.enabled, TRUE) AND
        (SELECT state IN ('failed', 'timeout', 'error', 'lost') FROM jobs_jobrun
         WHERE job_id = job.id AND state || '' NOT IN ('queued', 'running', 'skipped', 'aborted')
         ORDER BY id DESC LIMIT 1)
    ORDER BY job.id
"""
# A task counts when it got there: events after that have the same status, and don't count.
_TASKS_SINCE = """
    SELECT 'created', count(*) FROM task_events WHERE id >= %s AND created_at >= %s AND event_type = 'created'
    UNION ALL
    SELECT event.status, count(DISTINCT event.task_id) FROM task_events AS event
    WHERE event.id >= %s AND event.created_at >= %s AND event.status IN ('completed', 'failed') AND event.status <>
        coalesce((SELECT earlier.status FROM task_events AS earlier WHERE earlier.task_id = event.task_id
                  AND earlier.id < event.id ORDER BY earlier.id DESC LIMIT 1), '')
    GROUP BY 1
"""
# By an index alone, a range of it for each step: to compute the step of each of 200,000 rows took twice as long.
# Durations are rounded to a tenth of their logarithm, which is near enough for a percentile.
_RUNS_BY_STEP = """
    WITH steps (number, begin, finish) AS (VALUES {steps})
    SELECT steps.number, state,
        CAST(trunc(ln(CASE WHEN duration < 0.001 THEN 0.001 ELSE duration END) * 10) AS INTEGER), count(*)
    FROM steps CROSS JOIN jobs_jobrun WHERE queued_at >= steps.begin AND queued_at < steps.finish {of_job}
    GROUP BY 1, 2, 3
"""
_RUNS_BY_DAY = """
    SELECT job.name, count(CASE WHEN run.state = 'success' THEN 1 END),
        count(CASE WHEN run.state IN ('failed', 'timeout', 'error', 'lost') THEN 1 END),
        min(CASE WHEN run.state = 'success' THEN run.queued_at END),
        max(CASE WHEN run.state = 'success' THEN run.queued_at END) AS last
    FROM jobs_jobrun AS run {index} JOIN jobs_job AS job ON job.id = run.job_id
    WHERE run.queued_at >= %s AND run.queued_at < %s GROUP BY date(run.queued_at), job.name
    HAVING count(CASE WHEN run.state = 'success' THEN 1 END) > 0 ORDER BY last DESC LIMIT %s
"""
_TOKENS_BY_STEP = """
    SELECT ({created} - %s) / %s AS step, CAST(sum(1 + coalesce(repeats, 0)) AS bigint) FROM token_audit
    WHERE id >= %s AND created_at >= %s AND action IN ('token_issued', 'service_token_issued')
        AND coalesce(outcome, 'issued') IN ('issued', 'cached') GROUP BY 1
"""
# A task that is over and says not when ended with its last change; one that nobody took left the queue then.
_TASK_TIMES = """
    SELECT {queued}, {assigned},
        CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN {ended} END,
        status, type, assigned_to, repos, %s
    FROM tasks WHERE updated_at >= %s OR status IN ('queued', 'active', 'blocked')
"""


class TaskTimes(NamedTuple):
    """When a task was queued, taken and ended, in seconds since 1970; None for what did not happen."""

    queued: int | None
    assigned: int | None
    ended: int | None
    status: str
    type: str | None
    agent: str | None
    repos: str | None
    now: int

    @property
    def left_queue(self) -> int | None:
        if self.status == "queued":
            return None
        times = [moment for moment in (self.assigned, self.ended) if moment is not None]
        return min(times, default=self.queued)


class RunsOfDay(NamedTuple):
    """How many runs of a job ended well and failed on a day, and when the first and last good one was asked for."""

    job: str
    succeeded: int
    failed: int
    first: datetime
    last: datetime


def runs_by_day(since: datetime, before: datetime, limit: int) -> list[RunsOfDay]:
    """Count runs by job and day, those first whose last good run is newest."""
    with connection.cursor() as cursor:
        cursor.execute(_RUNS_BY_DAY.format(index=index_hint("runs_by_time")), [since, before, limit])
        return [
            RunsOfDay(name, succeeded, failed, _in_utc(first) or since, _in_utc(last) or before)
            for name, succeeded, failed, first, last in cursor.fetchall()
        ]


def runs_by_step(
    start: datetime, seconds: int, steps: int, job_id: int | None
) -> list[tuple[int, str, float | None, int]]:
    """Return for each step after start, state and duration the number of runs; durations are rounded."""
    moments = [start + timedelta(seconds=seconds * number) for number in range(steps + 1)]
    times = [connection.ops.adapt_datetimefield_value(moment.replace(microsecond=0)) for moment in moments]
    parameters: list[Any] = [value for number in range(steps) for value in (number, times[number], times[number + 1])]
    sql = _RUNS_BY_STEP.format(
        steps=", ".join(["(%s, %s, %s)"] * steps), of_job="" if job_id is None else "AND job_id = %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters if job_id is None else [*parameters, job_id])
        return [
            (step, state, None if size is None else math.exp(size / 10), count)
            for step, state, size, count in cursor.fetchall()
        ]


def tokens_by_step(start: datetime, seconds: int) -> list[tuple[int, int]]:
    """Return for each step after start the number of tokens that were handed out."""
    begin = _first_id(TokenAudit, start.strftime("%Y-%m-%d"))
    with connection.cursor() as cursor:
        cursor.execute(
            _TOKENS_BY_STEP.format(created=epoch("created_at")),
            [int(start.timestamp()), seconds, begin, iso_text(start)],
        )
        return list(cursor.fetchall())


def task_times(start: datetime) -> list[TaskTimes]:
    """Return the times of tasks that are open, or were after start."""
    with connection.cursor() as cursor:
        ended = epoch("coalesce(completed_at, updated_at)")
        sql = _TASK_TIMES.format(queued=epoch("queued_at"), assigned=epoch("assigned_at"), ended=ended)
        cursor.execute(sql, [int(time.time()), seconds_text(start)])
        return [TaskTimes(*row) for row in cursor.fetchall() if row[0] is not None]


def counts() -> tuple[int, int]:
    """Return the number of tasks, and of runs that are active."""
    now = connection.ops.adapt_datetimefield_value(utc_now())
    tasks, active_runs = read_one(_COUNTS, [now]) or (0, 0)
    return tasks, active_runs


def daemon_row() -> tuple[Any, ...] | None:
    """Return pid, version, started_at, beat_at, paused_at, paused_by, trouble; the times have no time zone."""
    return read_one(_DAEMON)


def newest_runs(limit: int, jobs: Sequence[int]) -> list[tuple[int, int, str, float | None, datetime]]:
    """Return job, id, state, duration and queued_at of the newest runs of each of some jobs, oldest first."""
    if not jobs:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST_RUNS.format(jobs=", ".join(["%s"] * len(jobs))), [limit, *jobs])
        return list(cursor.fetchall())


def failing_jobs() -> dict[int, tuple[str, datetime | None]]:
    """Return name and `failing_since` of each enabled job whose newest run that counts has failed, by its id."""
    with connection.cursor() as cursor:
        cursor.execute(_FAILING_JOBS)
        return {pk: (name, _in_utc(since)) for pk, name, since in cursor.fetchall()}


def tasks_since(moment: datetime) -> dict[str, int]:
    """Count the tasks that were created, completed and failed since."""
    since = seconds_text(moment)
    begin = _first_id(TaskEvent, since)
    with connection.cursor() as cursor:
        cursor.execute(_TASKS_SINCE, [begin, since, begin, since])
        return dict(cursor.fetchall())


def token_outcomes(now: datetime) -> dict[str, int]:
    """Count the requests for tokens since midnight by their outcome."""
    since = now.strftime("%Y-%m-%d")
    rows = TokenAudit.objects.filter(pk__gte=_first_id(TokenAudit, since), created_at__gte=since)
    asked = rows.filter(action__in=_TOKEN_REQUESTS).order_by()
    served = asked.values_list("outcome").annotate(count=Count("pk") + Coalesce(Sum("repeats"), 0))
    return {outcome or "": count for outcome, count in served}


def newest_token_requests(count: int) -> list[tuple[str, str]]:
    """Return outcome and reason of the newest requests for tokens, among the newest entries of the audit."""
    newest = TokenAudit.objects.order_by("-pk").values_list("action", "outcome", "reason")[: count * 10]
    asked = [(outcome or "", reason or "") for action, outcome, reason in newest if action in _TOKEN_REQUESTS]
    return asked[:count]


def _first_id(model: type[models.Model], since: str) -> int:
    """Return the first row of a time's day: looked for once a day, since ids and times grow together."""
    since = since[:10]
    key = f"ops.first.{connection.settings_dict['NAME']}.{model.__name__}.{since}"
    first: int | None = cache.get(key)
    if first is None:
        rows = model._default_manager.filter(created_at__gte=since).order_by("pk").values_list("pk", flat=True)
        first = rows.first()
        if first is None:  # nothing yet: look again next time, from the newest row on
            return int(model._default_manager.order_by("-pk").values_list("pk", flat=True).first() or 0)
        cache.set(key, first, _DAY_SECONDS)
    return first


def _in_utc(value: Any) -> datetime | None:
    """Return a time as the ORM would: SQLite's has no time zone, and is text where no column says what it is."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) and moment.tzinfo is None else moment
