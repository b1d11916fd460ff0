"""Is the service well: `/health` for probes, `/api/status` for dashboards."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema

import broker.queries
from core.rest import Problem, json_response
from jobs.queries import job_list
from ops import queries
from ops.checks import state

router = Router(tags=["health"])
_STARTED = time.monotonic()


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
    """`status` is ok, degraded (the daemon gives no sign of life, or can't do something) or error (no database)."""

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
    daemon = state.daemon()
    answer = {"uptime": uptime(), "jobs": job_list(), "broker": broker.queries.summary()}
    return json_response({"status": _status(daemon), **answer})


@router.get("/health", response={200: Health, 503: Health})
def health(request: HttpRequest) -> HttpResponse:
    """Say whether the database can be read and the daemon is alive."""
    answer: dict[str, Any] = {"status": "ok", "uptime": uptime(), "version": settings.VERSION}
    try:
        tasks, active_runs = queries.counts()
        daemon = state.daemon()
        answer |= {
            "jobs_running": active_runs,
            "broker": broker.queries.summary(),
            "db": {"ok": True, "size_bytes": state.bytes_on_disk(), "task_count": tasks},
            "daemon": _summary(daemon),
        }
    except (DatabaseError, OSError) as error:
        answer |= {"status": "error", "jobs_running": 0, "broker": None, "db": {"ok": False, "error": str(error)}}
        return json_response(answer, 503)
    return json_response({**answer, "status": _status(daemon)})


def uptime() -> float:
    """Return the seconds since this web process started."""
    return round(time.monotonic() - _STARTED, 1)


def _status(daemon: state.DaemonState) -> str:
    return "ok" if daemon.is_alive and not daemon.trouble else "degraded"


def _summary(daemon: state.DaemonState) -> dict[str, Any]:
    return {
        "alive": daemon.is_alive,
        "heartbeat_age": round(daemon.age.total_seconds(), 1) if daemon.age is not None else None,
        "paused": daemon.paused_at is not None,
        "trouble": daemon.trouble or None,
    }
