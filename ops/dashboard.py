"""The dashboard: is everything all right, and if not, what isn't."""

from __future__ import annotations

from typing import Any

from django.db.utils import DatabaseError

from core.timestamps import utc_now
from ops import panels
from ops.checks import fleet
from ops.checks.finding import Finding, Severity, worst


def context() -> dict[str, Any]:
    """Everything the dashboard's template needs. A database in trouble is a finding, not an error."""
    now = utc_now()
    try:
        rows = panels.jobs(now)
        shown = {
            "daemon": panels.daemon(now),
            "jobs": rows,
            "timeline": panels.timeline(rows, now),
            "tasks": panels.tasks(now),
            "broker": panels.broker(now),
            "vault": panels.vault(),
            "database": panels.database(),
            "runs": panels.recent_runs(),
            "events": panels.recent_events(),
        }
        findings = fleet.findings(shown, now)
    except DatabaseError as error:
        shown, findings = {}, [Finding("database", f"The database can't be read: {error}", severity=Severity.BAD)]
    return {**shown, "findings": findings, "worst": worst(findings), "now": now}
