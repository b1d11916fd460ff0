"""What operators see, read past the ORM where that was measured to matter, and counts over histories that only grow.

Those are read from the first row of their time on, not from the beginning.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import connection, models
from django.db.models import Count

from broker.models import Action, TokenAudit
from core.timestamps import seconds_text, utc_now
from tasks.models import TaskEvent

KINDS = ("created", "completed", "failed")
_DAY_SECONDS = 86_400
_FRESH_SECONDS = 20
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
    FROM jobs_job AS job JOIN jobs_jobrun AS run ON run.id IN
        (SELECT id FROM jobs_jobrun WHERE job_id = job.id ORDER BY id DESC LIMIT %s)
    ORDER BY run.id
"""
# A task counts on the day on which it got there: events after that have the same status, and don't count.
_DAYS = """
    SELECT substr(created_at, 1, 10), 'created', count(*) FROM task_events
    WHERE id >= %s AND created_at >= %s AND event_type = 'created' GROUP BY 1
    UNION ALL
    SELECT substr(event.created_at, 1, 10), event.status, count(DISTINCT event.task_id) FROM task_events AS event
    WHERE event.id >= %s AND event.created_at >= %s AND event.status IN ('completed', 'failed') AND event.status <>
        coalesce((SELECT earlier.status FROM task_events AS earlier WHERE earlier.task_id = event.task_id
                  AND earlier.id < event.id ORDER BY earlier.id DESC LIMIT 1), '')
    GROUP BY 1, 2
"""


def counts() -> tuple[int, int]:
    """Return the number of tasks, and of runs that are active."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, [utc_now()])
        tasks, active_runs = cursor.fetchone()
    return tasks, active_runs


def daemon_row() -> tuple[Any, ...] | None:
    """Return pid, version, started_at, beat_at, paused_at, paused_by, trouble; the times have no time zone."""
    with connection.cursor() as cursor:
        cursor.execute(_DAEMON)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def newest_runs(limit: int) -> list[tuple[int, int, str, float | None, datetime]]:
    """Return job, id, state, duration and queued_at of each job's newest runs, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST_RUNS, [limit])
        return list(cursor.fetchall())


def days(now: datetime, count: int) -> list[tuple[str, dict[str, int]]]:
    """Return for each of the last days, the newest last, how many tasks were created, completed and failed."""
    first = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=count - 1)
    key = f"ops.days.{connection.settings_dict['NAME']}.{first:%Y%m%d}"
    days: list[tuple[str, dict[str, int]]] | None = cache.get(key)
    if days is None:
        days = _count_days(first, count)
        cache.set(key, days, _FRESH_SECONDS)
    return days


def token_outcomes(now: datetime) -> dict[str, int]:
    """Count the requests for tokens since midnight by their outcome."""
    since = now.strftime("%Y-%m-%d")
    rows = TokenAudit.objects.filter(pk__gte=_first_id(TokenAudit, since), created_at__gte=since)
    asked = rows.filter(action__in=(Action.TOKEN, Action.SERVICE_TOKEN, Action.TOKEN_REFUSED)).order_by()
    return {outcome or "": count for outcome, count in asked.values_list("outcome").annotate(count=Count("pk"))}


def _count_days(first: datetime, count: int) -> list[tuple[str, dict[str, int]]]:
    names = [(first + timedelta(days=number)).strftime("%Y-%m-%d") for number in range(count)]
    counts = {name: dict.fromkeys(KINDS, 0) for name in names}
    since = seconds_text(first)
    begin = _first_id(TaskEvent, since)
    with connection.cursor() as cursor:
        cursor.execute(_DAYS, [begin, since, begin, since])
        for day, kind, number in cursor.fetchall():
            if day in counts:
                counts[day][kind] += number
    return [(day[5:], by_kind) for day, by_kind in counts.items()]


def _first_id(model: type[models.Model], since: str) -> int:
    """Return the first row of a day's time: looked for once a day, since ids and times grow together."""
    key = f"ops.first.{connection.settings_dict['NAME']}.{model.__name__}.{since[:10]}"
    first: int | None = cache.get(key)
    if first is None:
        rows = model._default_manager.filter(created_at__gte=since).order_by("pk").values_list("pk", flat=True)
        first = rows.first()
        if first is None:  # nothing yet: look again next time, from the newest row on
            return int(model._default_manager.order_by("-pk").values_list("pk", flat=True).first() or 0)
        cache.set(key, first, _DAY_SECONDS)
    return first
