"""The dashboard: is everything all right, and if not, what isn't."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.utils import DatabaseError
from django.urls import reverse

from broker.models import GitHubState
from core.timestamps import utc_now
from ops import panels
from ops.write_diagnosis import obstacle
from tasks import overdue

_BACKUP_TOO_OLD_HOURS = 3
_LISTED = 8


@dataclass(frozen=True)
class Finding:
    """Something that needs a person: bad is broken now, warn is to be looked at."""

    level: str
    sentence: str
    url: str = ""


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
        findings = _findings(shown, now)
    except DatabaseError as error:
        shown, findings = {}, [Finding("bad", f"The database can't be read: {error}")]
    worst = "bad" if any(each.level == "bad" for each in findings) else "warn" if findings else "good"
    return {**shown, "findings": findings, "worst": worst, "now": now}


def _findings(shown: dict[str, Any], now: datetime) -> list[Finding]:
    found = [*_of_daemon(shown["daemon"]), *_of_jobs(shown["jobs"]), *_of_tasks(now), *_of_broker(shown["broker"], now)]
    found += _of_vault(shown["vault"])
    backup = shown["database"]["backup_at"]
    if backup and (now - backup).total_seconds() > _BACKUP_TOO_OLD_HOURS * 3600:
        found.append(Finding("warn", "The last copy of the database is older than three hours."))
    return found


def _of_daemon(daemon: dict[str, Any]) -> list[Finding]:
    found = []
    if not daemon["alive"] and (sentence := obstacle()):
        found.append(Finding("bad", sentence))
    elif not daemon["alive"]:
        what = "has not given a sign of life" if daemon["row"] and daemon["row"].pid else "is not running"
        found.append(
            Finding("bad", f"The daemon {what}: no script starts. Start it with “make run” or “manage.py daemon”.")
        )
    elif daemon["row"].trouble:
        found.append(Finding("bad", daemon["row"].trouble))
    if daemon["paused"]:
        found.append(Finding("warn", f"Starts are paused by {daemon['row'].paused_by or 'a caller over REST'}."))
    return found


def _of_jobs(rows: list[dict[str, Any]]) -> list[Finding]:
    return [
        Finding("bad", f"Job {row['job'].name} {_failed(row)}.", row["url"])
        for row in rows
        if row["state"].enabled and row["failures"]
    ]


def _failed(row: dict[str, Any]) -> str:
    return "failed" if row["failures"] == 1 else f"failed {row['failures']} times in a row"


def _of_tasks(now: datetime) -> list[Finding]:
    found = []
    url = reverse("admin:tasks_task_changelist")
    slow, waiting = overdue.active_too_long(now), overdue.queued_too_long(now)
    for task in slow[:_LISTED]:
        found.append(Finding("warn", f"{task} is active too long.", reverse("admin:tasks_task_change", args=[task.pk])))
    if len(slow) > _LISTED:
        more = len(slow) - _LISTED
        found.append(Finding("warn", f"{more} more tasks are active too long.", f"{url}?attention=active"))
    if waiting:
        many = f"{len(waiting)} tasks wait" if len(waiting) > 1 else f"{waiting[0]} waits"
        found.append(Finding("warn", f"{many} for longer than an hour.", f"{url}?attention=queued"))
    return found


def _of_broker(broker: dict[str, Any], now: datetime) -> list[Finding]:
    state, found = broker["state"], []
    if state and state.blocked_until and state.blocked_until > now:
        url = reverse("admin:broker_githubstate_changelist")
        found.append(Finding("warn", f"GitHub said to wait until {state.blocked_until:%H:%M} UTC with tokens.", url))
    elif not broker["trouble"] and state and _failed_last(state):
        url = reverse("admin:broker_githubstate_changelist")
        found.append(Finding("warn", f"GitHub gave no token when it was last asked: {state.last_error}", url))
    if broker["failed"] or broker["refused"]:
        url = reverse("admin:broker_tokenaudit_changelist")
        for outcome in ("failed", "refused"):
            if broker[outcome]:
                many = broker[outcome] > 1
                noun = "requests for tokens" if many else "request for a token"
                verb = outcome if outcome == "failed" else "were refused" if many else "was refused"
                sentence = f"{broker[outcome]} {noun} {verb} today."
                found.append(Finding("warn", sentence, f"{url}?outcome={outcome}"))
    return found


def _failed_last(state: GitHubState) -> bool:
    """Return True when GitHub's newest answer was an error."""
    return bool(state.last_error_at and (state.last_mint_at is None or state.last_mint_at < state.last_error_at))


def _of_vault(vault: dict[str, Any]) -> list[Finding]:
    url, state, found = reverse("admin:vaultsync_vaultstate_changelist"), vault["state"], []
    if vault.get("reason"):
        found.append(Finding("bad", f"The vault is not synced: {vault['reason']}", url))
    if vault["enabled"] and state:
        if state.failures:
            found.append(Finding("bad", f"The vault could not be synced: {state.last_error}", url))
        if state.remote_failures:
            found.append(Finding("warn", f"The vault could not be pushed: {state.remote_error}", url))
        if vault["problems"]:
            noun = "file of the vault needs" if vault["problems"] == 1 else "files of the vault need"
            found.append(Finding("warn", f"{vault['problems']} {noun} a look.", url))
    return found
