"""Is the service well: `/health` for probes, `/api/status` for dashboards."""

from __future__ import annotations

import os
import time
from typing import Any

from django.db import connection
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse
from ninja import Router

import broker.reads
from jobs.models import Daemon
from jobs.reads import STALE_SECONDS, job_list, running_count
from lobwife import __version__
from lobwife.base.rest import answer
from lobwife.base.timestamps import utc_now
from tasks.models import Task

router = Router(tags=["health"])
_STARTED = time.monotonic()


@router.get("/api/status")
def status(request: HttpRequest) -> HttpResponse:
    """All jobs, and the broker in numbers."""
    daemon = daemon_summary()
    state = "ok" if daemon["alive"] and not daemon["trouble"] else "degraded"
    return answer({"status": state, "uptime": uptime(), "jobs": job_list(), "broker": broker.reads.summary()})


@router.get("/health")
def health(request: HttpRequest) -> HttpResponse:
    """Whether the database can be read and the daemon is alive."""
    shown: dict[str, Any] = {"status": "ok", "uptime": uptime(), "version": __version__}
    try:
        shown |= {
            "jobs_running": running_count(),
            "broker": broker.reads.summary(),
            "db": {"ok": True, "size_bytes": database_bytes(), "task_count": Task.objects.count()},
            "daemon": daemon_summary(),
        }
    except (DatabaseError, OSError) as error:
        shown |= {"status": "error", "jobs_running": 0, "broker": None, "db": {"ok": False, "error": str(error)}}
        return answer(shown, 503)
    if not shown["daemon"]["alive"] or shown["daemon"]["trouble"]:
        shown["status"] = "degraded"
    return answer(shown)


def uptime() -> float:
    """Seconds since this web process started."""
    return round(time.monotonic() - _STARTED, 1)


def database_bytes() -> int:
    return os.stat(str(connection.settings_dict["NAME"])).st_size


def daemon_summary() -> dict[str, Any]:
    """Who the daemon is and whether its heartbeat is fresh."""
    daemon = Daemon.objects.first()
    age = (utc_now() - daemon.beat_at).total_seconds() if daemon and daemon.beat_at else None
    alive = bool(daemon and daemon.pid) and age is not None and age < STALE_SECONDS
    return {
        "alive": alive,
        "heartbeat_age": round(age, 1) if age is not None else None,
        "paused": bool(daemon and daemon.paused_at),
        "trouble": (daemon.trouble or None) if daemon else None,
    }
