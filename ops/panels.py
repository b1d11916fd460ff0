"""The panels of the dashboard, each in a constant number of queries that stay cheap on a full database."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count
from django.urls import reverse

import vaultsync.queries
from broker.github import app
from broker.models import GitHubState, Outcome
from broker.registrations import ACTIVE
from core.errors import Invalid
from core.timestamps import parse, utc_now
from jobs.models import FAILURES, Daemon, Job, JobRun, JobState, State
from jobs.scheduling import cron
from ops import charts, history
from tasks.models import Status, Task, TaskEvent
from vaultsync.models import VaultState

DAYS = 14
TIMELINE_HOURS = 6
# For each job its newest runs: index seeks, where a window function would read the whole history.
_STRIPS = """
    SELECT run.job_id, run.id, run.state, run.duration, run.queued_at
    FROM jobs_job AS job JOIN jobs_jobrun AS run ON run.id IN
        (SELECT id FROM jobs_jobrun WHERE job_id = job.id ORDER BY id DESC LIMIT %s)
    ORDER BY run.id
"""


def daemon(now: datetime) -> dict[str, Any]:
    """The daemon's sign of life."""
    row = Daemon.load()
    age = (now - row.beat_at).total_seconds() if row.beat_at else None
    return {"row": row, "alive": row.is_alive(now), "age": age, "paused": row.paused_at is not None}


def jobs(now: datetime) -> list[dict[str, Any]]:
    """Every job with its last runs and its next firing."""
    states = {state.name: state for state in JobState.objects.defer("last_output")}
    runs = _runs_by_job()
    active = dict(JobRun.objects.active().values_list("job_id", "id"))
    shown = []
    for job in Job.objects.all():
        state = states.get(job.name) or JobState(name=job.name)
        own = runs.get(job.pk, [])
        shown.append(
            {
                "job": job,
                "state": state,
                "url": reverse("admin:jobs_job_change", args=[job.pk]),
                "strip": charts.run_strip(own),
                "failures": _failures_in_a_row(own),
                "active_run": active.get(job.pk),
                "next": job.next_firing if state.enabled else None,
            }
        )
    return shown


def timeline(rows: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    """Return the firings of the next hours; moments at which several jobs fire are marked."""
    end = now + timedelta(hours=TIMELINE_HOURS)
    minute = now.replace(second=0, microsecond=0)
    firings: dict[str, list[datetime]] = {}
    for row in rows:
        job = row["job"]
        if row["state"].enabled:
            try:
                ahead = cron.firings_between(job.schedule, job.timezone, minute, minute + (end - now))
            except Invalid:
                continue
            firings[job.name] = [moment for moment in ahead if moment > now]
    together = Counter(moment for moments in firings.values() for moment in moments)
    crowded = sorted(moment for moment, count in together.items() if count > 1)
    hours = [now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=n + 1) for n in range(TIMELINE_HOURS)]
    return {
        "rows": [
            {"name": name, "count": len(moments), "places": charts.timeline(moments, now, end)}
            for name, moments in firings.items()
        ],
        "crowded": charts.timeline(crowded, now, end),
        "most_at_once": max(together.values(), default=0),
        "hours": [(x, hour) for x, hour in zip(charts.timeline(hours, now, end), hours, strict=True)],
    }


def tasks(now: datetime) -> dict[str, Any]:
    """Tasks by status, two weeks of their history, and the ones that wait or work longest."""
    counts = dict(Task.objects.order_by().values_list("status").annotate(count=Count("pk")))
    return {
        "counts": [(status, counts.get(status, 0)) for status in Status.values],
        "total": sum(counts.values()),
        "chart": charts.day_columns(history.days(now, DAYS), history.KINDS),
        "oldest_queued": Task.objects.filter(status=Status.QUEUED).order_by("id").first(),
        "longest_active": min(
            Task.objects.filter(status=Status.ACTIVE, assigned_at__isnull=False)[:500],
            key=lambda task: parse(task.assigned_at) or now,
            default=None,
        ),
    }


def broker(now: datetime) -> dict[str, Any]:
    """Return today's requests to the broker, and GitHub's state."""
    state = GitHubState.objects.first()
    counts = history.token_outcomes(now)
    issued, cached = counts.get(Outcome.ISSUED, 0), counts.get(Outcome.CACHED, 0)
    served = issued + cached
    return {
        "trouble": app.problem(),
        "state": state,
        "served": served,
        "cached_percent": round(100 * cached / served) if served else None,
        "refused": counts.get(Outcome.REFUSED, 0),
        "failed": counts.get(Outcome.FAILED, 0),
        "registered": Task.objects.filter(broker_status=ACTIVE).count(),
    }


def vault() -> dict[str, Any]:
    """Return the state of the vault's sync."""
    return {**vaultsync.queries.sync_status(), "state": VaultState.objects.first()}


def database() -> dict[str, Any]:
    """Sizes of the file and its log, and the age of the last copy."""
    path = str(connection.settings_dict["NAME"])
    return {"bytes": _size(path), "wal_bytes": _size(f"{path}-wal"), "backup_at": _changed(f"{path}.bak")}


def recent_runs(limit: int = 12) -> list[JobRun]:
    return list(JobRun.objects.select_related("job").order_by("-id")[:limit])


def recent_events(limit: int = 12) -> list[TaskEvent]:
    return list(TaskEvent.objects.select_related("task").order_by("-id")[:limit])


def _runs_by_job() -> dict[int, list[tuple[str, float | None, str, str]]]:
    runs: dict[int, list[tuple[str, float | None, str, str]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_STRIPS, [charts.STRIP_RUNS])
        for job_id, pk, state, duration, queued in cursor.fetchall():
            runs[job_id].append(charts.as_bar(pk, state, duration, queued))
    return runs


def _failures_in_a_row(runs: list[tuple[str, float | None, str, str]]) -> int:
    count = 0
    for state, *_ in reversed(runs):
        if state in FAILURES:
            count += 1
        elif state == State.SUCCESS:
            break
    return count


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _changed(path: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(os.stat(path).st_mtime, tz=utc_now().tzinfo)
    except OSError:
        return None
