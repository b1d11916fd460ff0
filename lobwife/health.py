"""Is the service well: `/health` for probes, `/api/status` for dashboards."""

from __future__ import annotations

import os
import time
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse
from ninja import Router

from broker.models import LegacyRegistration, TokenAudit
from jobs.models import ACTIVE, Daemon, JobRun
from lobwife import __version__
from lobwife.base.rest import answer
from lobwife.base.timestamps import utc_now
from tasks.models import Task

router = Router(tags=["health"])
STALE_SECONDS = 20
_STARTED = time.monotonic()
_TASKS, _LEGACY = Task._meta.db_table, LegacyRegistration._meta.db_table
_ACTIVE_STATES = ", ".join(f"'{state}'" for state in ACTIVE)
# Each is answered from an index alone. COALESCE: the sum of nothing is null.
_COUNTED = {
    "tasks": f"SELECT COUNT(*) FROM {_TASKS}",
    "active_tasks": f"SELECT COUNT(*) FROM {_TASKS} WHERE broker_status = 'active'",
    "task_tokens": f"SELECT COALESCE(SUM(token_count), 0) FROM {_TASKS} WHERE token_count > 0",
    "active_legacy": f"SELECT COUNT(*) FROM {_LEGACY} WHERE status = 'active'",
    "legacy_tokens": f"SELECT COALESCE(SUM(token_count), 0) FROM {_LEGACY}",
    "audit_entries": f"SELECT COUNT(*) FROM {TokenAudit._meta.db_table}",
    "jobs_running": f"SELECT COUNT(*) FROM {JobRun._meta.db_table} WHERE state IN ({_ACTIVE_STATES})",
}
_DAEMON = f"SELECT * FROM {Daemon._meta.db_table} ORDER BY id LIMIT 1"
_COUNTS = "SELECT " + ", ".join(f"({select})" for select in _COUNTED.values())


@router.get("/health")
def health(request: HttpRequest) -> HttpResponse:
    """Whether the database can be read and the daemon is alive."""
    shown: dict[str, Any] = {"status": "ok", "uptime": uptime(), "version": __version__}
    try:
        counts = _counts()
        shown |= {
            "jobs_running": counts["jobs_running"],
            "broker": _broker(counts),
            "db": {"ok": True, "size_bytes": database_bytes(), "task_count": counts["tasks"]},
            "daemon": daemon_summary(),
        }
    except (DatabaseError, OSError) as error:
        shown |= {"status": "error", "jobs_running": 0, "broker": None, "db": {"ok": False, "error": str(error)}}
        return answer(shown, 503)
    if not shown["daemon"]["alive"]:
        shown["status"] = "degraded"
    return answer(shown)


def uptime() -> float:
    """Seconds since this web process started."""
    return round(time.monotonic() - _STARTED, 1)


def database_bytes() -> int:
    return os.stat(str(connection.settings_dict["NAME"])).st_size


def daemon_summary() -> dict[str, Any]:
    """Who the daemon is and whether its heartbeat is fresh."""
    daemon = next(iter(Daemon.objects.raw(_DAEMON)), None)
    age = (utc_now() - daemon.beat_at).total_seconds() if daemon and daemon.beat_at else None
    alive = age is not None and age < STALE_SECONDS
    return {
        "alive": alive,
        "heartbeat_age": round(age, 1) if age is not None else None,
        "paused": bool(daemon and daemon.paused_at),
        "trouble": (daemon.trouble or None) if daemon else None,
    }


def broker_summary() -> dict[str, Any]:
    """Counts over registrations on tasks and legacy ones together."""
    return _broker(_counts())


def _broker(counts: dict[str, int]) -> dict[str, Any]:
    return {
        "enabled": bool(settings.GH_APP_ID),
        "app_id": settings.GH_APP_ID or None,
        "active_tasks": counts["active_tasks"] + counts["active_legacy"],
        "total_tokens_issued": counts["task_tokens"] + counts["legacy_tokens"],
        "audit_entries": counts["audit_entries"],
    }


def _counts() -> dict[str, int]:
    """Everything that is counted, in one statement: probes come often and give up after a second."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS)
        return {name: int(count) for name, count in zip(_COUNTED, cursor.fetchone(), strict=True)}
