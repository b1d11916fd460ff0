"""Is the service well: `/health` for probes, `/api/status` for dashboards."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema

import broker.queries
from core.rest import Problem, json_response
from core.timestamps import utc_now
from jobs.models import ACTIVE, Daemon, JobRun, is_fresh
from jobs.queries import job_list
from ops.write_diagnosis import obstacle
from tasks.models import Task

router = Router(tags=["health"])
_STARTED = time.monotonic()
_ACTIVE_STATES = ", ".join(f"'{state}'" for state in ACTIVE)
# Each is answered from an index alone. A retry that waits for its time does not count as running.
_COUNTED = {
    "tasks": f"SELECT COUNT(*) FROM {Task._meta.db_table}",
    "jobs_running": f"SELECT COUNT(*) FROM {JobRun._meta.db_table}"
    f" WHERE state IN ({_ACTIVE_STATES}) AND (not_before IS NULL OR not_before <= %s)",
}
# Read without the ORM: a model made of one row is a quarter of the time that `/health` takes.
_DAEMON = f"SELECT pid, beat_at, paused_at, trouble FROM {Daemon._meta.db_table} ORDER BY id LIMIT 1"
_COUNTS = "SELECT " + ", ".join(f"({select})" for select in _COUNTED.values())


class BrokerSummary(Schema):
    enabled: bool
    app_id: str | None
    active_tasks: int
    total_tokens_issued: int
    audit_entries: int


class DatabaseHealth(Schema):
    ok: bool
    size_bytes: int | None = None
    task_count: int | None = None
    error: str | None = None


class DaemonSummary(Schema):
    alive: bool
    heartbeat_age: float | None
    paused: bool
    trouble: str | None


class Health(Schema):
    """`status` is ok, degraded (the daemon gives no sign of life) or error (the database can't be read)."""

    status: str
    uptime: float
    version: str
    jobs_running: int
    broker: BrokerSummary | None
    db: DatabaseHealth
    daemon: DaemonSummary | None = None


class StatusShown(Schema):
    status: str
    uptime: float
    jobs: dict[str, dict[str, Any]]
    broker: BrokerSummary


@router.get("/api/status", response={200: StatusShown, 503: Problem})
def status(request: HttpRequest) -> HttpResponse:
    """All jobs, and the broker in numbers."""
    daemon = daemon_summary()
    state = "ok" if daemon["alive"] and not daemon["trouble"] else "degraded"
    return json_response({"status": state, "uptime": uptime(), "jobs": job_list(), "broker": broker.queries.summary()})


@router.get("/health", response={200: Health, 503: Health})
def health(request: HttpRequest) -> HttpResponse:
    """Say whether the database can be read and the daemon is alive."""
    shown: dict[str, Any] = {"status": "ok", "uptime": uptime(), "version": settings.VERSION}
    try:
        counts = _counts()
        shown |= {
            "jobs_running": counts["jobs_running"],
            "broker": broker.queries.summary(),
            "db": {"ok": True, "size_bytes": database_bytes(), "task_count": counts["tasks"]},
            "daemon": daemon_summary(),
        }
    except (DatabaseError, OSError) as error:
        shown |= {"status": "error", "jobs_running": 0, "broker": None, "db": {"ok": False, "error": str(error)}}
        return json_response(shown, 503)
    if not shown["daemon"]["alive"] or shown["daemon"]["trouble"]:
        shown["status"] = "degraded"
    return json_response(shown)


def uptime() -> float:
    """Seconds since this web process started."""
    return round(time.monotonic() - _STARTED, 1)


def database_bytes() -> int:
    return os.stat(str(connection.settings_dict["NAME"])).st_size


def daemon_summary() -> dict[str, Any]:
    """Return the daemon's state: its heartbeat, whether starts are paused, what troubles it."""
    with connection.cursor() as cursor:
        cursor.execute(_DAEMON)
        pid, beat_at, paused_at, trouble = cursor.fetchone() or (None, None, None, None)
    if isinstance(beat_at, datetime) and beat_at.tzinfo is None:
        beat_at = beat_at.replace(tzinfo=UTC)  # SQLite holds it in UTC without saying so
    age = utc_now() - beat_at if beat_at else None
    is_alive = bool(pid) and age is not None and is_fresh(age)
    if pid and not is_alive:  # what keeps everybody from writing keeps it from a sign of life, and from telling why
        trouble = obstacle() or trouble
    return {
        "alive": is_alive,
        "heartbeat_age": round(age.total_seconds(), 1) if age is not None else None,
        "paused": bool(paused_at),
        "trouble": trouble or None,
    }


def _counts() -> dict[str, int]:
    """Return the counts, in one statement: probes come often and give up after a second."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, [utc_now()])
        return {name: int(count) for name, count in zip(_COUNTED, cursor.fetchone(), strict=True)}
