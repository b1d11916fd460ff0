"""Checks of the fleet, for the dashboard: jobs, tasks, tokens, the vault, copies and the daemon."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse

from broker.models import GitHubState
from ops.checks.finding import Finding, Severity
from ops.write_diagnosis import obstacle
from tasks import overdue

_OLDEST_COPY = timedelta(hours=3)
_LISTED = 8


def findings(panels: dict[str, Any], now: datetime) -> list[Finding]:
    """Run all of these checks on what the dashboard's panels have read already."""
    return [
        *daemon(panels["daemon"]),
        *jobs(panels["jobs"]),
        *tasks(now),
        *broker(panels["broker"], now),
        *vault(panels["vault"]),
        *copies(panels["database"], now),
    ]


def daemon(daemon: dict[str, Any]) -> list[Finding]:
    found = []
    if not daemon["alive"] and (sentence := obstacle()):
        found.append(_bad("daemon", sentence))
    elif not daemon["alive"]:
        what = "has not given a sign of life" if daemon["row"] and daemon["row"].pid else "is not running"
        found.append(
            _bad("daemon", f"The daemon {what}: no script starts. Start it with “make run” or “manage.py daemon”.")
        )
    elif daemon["row"].trouble:
        found.append(_bad("daemon", daemon["row"].trouble))
    if daemon["paused"]:
        found.append(_warn("daemon", f"Starts are paused by {daemon['row'].paused_by or 'a caller over REST'}."))
    return found


def jobs(rows: list[dict[str, Any]]) -> list[Finding]:
    return [
        _bad("jobs", f"Job {row['job'].name} {_failed(row)}.", row["url"])
        for row in rows
        if row["state"].enabled and row["failures"]
    ]


def _failed(row: dict[str, Any]) -> str:
    return "failed" if row["failures"] == 1 else f"failed {row['failures']} times in a row"


def tasks(now: datetime) -> list[Finding]:
    found = []
    url = reverse("admin:tasks_task_changelist")
    slow, waiting = overdue.active_too_long(now), overdue.queued_too_long(now)
    for task in slow[:_LISTED]:
        found.append(_warn("tasks", f"{task} is active too long.", reverse("admin:tasks_task_change", args=[task.pk])))
    if len(slow) > _LISTED:
        more = len(slow) - _LISTED
        found.append(_warn("tasks", f"{more} more tasks are active too long.", f"{url}?attention=active"))
    if waiting:
        many = f"{len(waiting)} tasks wait" if len(waiting) > 1 else f"{waiting[0]} waits"
        found.append(_warn("tasks", f"{many} for longer than an hour.", f"{url}?attention=queued"))
    return found


def broker(broker: dict[str, Any], now: datetime) -> list[Finding]:
    state, found = broker["state"], []
    if state and state.blocked_until and state.blocked_until > now:
        url = reverse("admin:broker_githubstate_changelist")
        found.append(_warn("broker", f"GitHub said to wait until {state.blocked_until:%H:%M} UTC with tokens.", url))
    elif not broker["trouble"] and state and _failed_last(state):
        url = reverse("admin:broker_githubstate_changelist")
        found.append(_warn("broker", f"GitHub gave no token when it was last asked: {state.last_error}", url))
    if broker["failed"] or broker["refused"]:
        url = reverse("admin:broker_tokenaudit_changelist")
        for outcome in ("failed", "refused"):
            if broker[outcome]:
                many = broker[outcome] > 1
                noun = "requests for tokens" if many else "request for a token"
                verb = outcome if outcome == "failed" else "were refused" if many else "was refused"
                sentence = f"{broker[outcome]} {noun} {verb} today."
                found.append(_warn("broker", sentence, f"{url}?outcome={outcome}"))
    return found


def _failed_last(state: GitHubState) -> bool:
    """Return True when GitHub's newest answer was an error."""
    return bool(state.last_error_at and (state.last_mint_at is None or state.last_mint_at < state.last_error_at))


def vault(vault: dict[str, Any]) -> list[Finding]:
    url, state, found = reverse("admin:vaultsync_vaultstate_changelist"), vault["state"], []
    if vault.get("reason"):
        found.append(_bad("vault", f"The vault is not synced: {vault['reason']}", url))
    if vault["enabled"] and state:
        if state.failures:
            found.append(_bad("vault", f"The vault could not be synced: {state.last_error}", url))
        if state.remote_failures:
            found.append(_warn("vault", f"The vault could not be pushed: {state.remote_error}", url))
        if vault["problems"]:
            noun = "file of the vault needs" if vault["problems"] == 1 else "files of the vault need"
            found.append(_warn("vault", f"{vault['problems']} {noun} a look.", url))
    return found


def copies(database: dict[str, Any], now: datetime) -> list[Finding]:
    """Check that the last copy of the database is not too old."""
    copied_at = database["backup_at"]
    if copied_at and now - copied_at > _OLDEST_COPY:
        return [_warn("copies", "The last copy of the database is older than three hours.")]
    return []


def _bad(check: str, sentence: str, url: str = "") -> Finding:
    return Finding(check, sentence, severity=Severity.BAD, url=url)


def _warn(check: str, sentence: str, url: str = "") -> Finding:
    return Finding(check, sentence, severity=Severity.WARN, url=url)
