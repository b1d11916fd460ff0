"""Reads of the broker for REST, pages and commands. No token is ever among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from django.conf import settings
from django.db.models import Q, QuerySet

from broker.github import app
from broker.models import CONTRACT_ACTIONS, Action, LegacyRegistration, Outcome, TokenAudit
from broker.registrations import ACTIVE, EXPIRED, from_row
from core.database.statements import read_one
from core.timestamps import iso_text, parse, utc_now
from tasks.ids import parse_task_id
from tasks.models import OVER, Status, Task, read_repos

CONTRACT_LIMIT = 200
PAGE_DEFAULT, PAGE_MOST = 100, 500
_TASKS, _LEGACY = Task._meta.db_table, LegacyRegistration._meta.db_table
_OPEN = ", ".join(f"'{status}'" for status in Status.values if status not in OVER)
# `/health` asks this on every probe: as five querysets it takes 0.6 ms, of the 0.3 ms that all of `/health` takes.
_COUNTS = f"""
SELECT (SELECT COUNT(*) FROM {_TASKS} WHERE status IN ({_OPEN}) AND broker_status = %s),
       (SELECT COALESCE(SUM(token_count), 0) FROM {_TASKS} WHERE token_count > 0),
       (SELECT COUNT(*) FROM {_LEGACY} WHERE status = %s),
       (SELECT COALESCE(SUM(token_count), 0) FROM {_LEGACY}),
       (SELECT COUNT(*) FROM {TokenAudit._meta.db_table})
"""
_EXACT_FILTERS = ("action", "outcome", "identity", "address", "token_sha256")
_TOKENS_LISTED = 12
_ASKED = (Action.TOKEN, Action.TOKEN_REFUSED, Action.ACCESS_REFUSED)
_DETAILS = ("id", "task_number", "outcome", "reason", "identity", "address", "expires_at", "token_sha256", "repeats")


class AskedToken(NamedTuple):
    """A token that somebody asked for, as pages show it; the state is valid, expired, revoked, refused or failed."""

    who: str
    what: str
    at: datetime | None
    until: datetime | None
    state: str
    reason: str


class Summary(TypedDict):
    """The broker in numbers, as `/health` answers them."""

    enabled: bool
    app_id: str | None
    active_tasks: int
    total_tokens_issued: int
    audit_entries: int


def summary() -> Summary:
    """Return counts over registrations on tasks and legacy ones together, answered from indexes alone."""
    counts = read_one(_COUNTS, [ACTIVE, ACTIVE]) or (0,) * 5
    tasks, issued, legacy, legacy_issued, entries = counts
    return {
        "enabled": app.problem() is None,
        "app_id": settings.GH_APP_ID or None,
        "active_tasks": tasks + legacy,
        "total_tokens_issued": issued + legacy_issued,
        "audit_entries": entries,
    }


def legacy_registrations() -> dict[str, dict[str, Any]]:
    """Return the registrations that no task holds and that have not expired, keyed by id, as schemas.LegacyEntry."""
    return {
        row.task_id: {
            "repos": read_repos(row.repos),
            "lobster_type": row.lobster_type,
            "registered_at": _iso(row.registered_at),
            "status": row.status,
            "token_count": row.token_count,
        }
        for row in LegacyRegistration.objects.order_by("registered_at", "task_id")
        if from_row(row).current_status != EXPIRED
    }


def contract_audit(task_id: str | None) -> list[dict[str, Any]]:
    """Return the newest entries of the contract's four actions, as schemas.AuditEntry."""
    entries = _entries_about(task_id).filter(action__in=CONTRACT_ACTIONS).order_by("-pk")
    return [_entry(entry) for entry in entries[:CONTRACT_LIMIT]]


def tokens_of_task(number: int) -> list[AskedToken]:
    """Return the newest tokens that were asked for on a task, newest first, and what became of each."""
    entries = list(TokenAudit.objects.filter(task_number=number, action__in=_ASKED).order_by("-pk")[:_TOKENS_LISTED])
    hashes = [entry.token_sha256 for entry in entries if entry.token_sha256]
    ends = TokenAudit.objects.filter(
        task_number=number, action=Action.TOKEN_REVOKED, outcome=Outcome.REVOKED, token_sha256__in=hashes
    )
    revoked = dict(ends.values_list("token_sha256", "reason"))
    return [_asked(entry, revoked) for entry in entries]


def _asked(entry: TokenAudit, revoked: Mapping[str | None, str | None]) -> AskedToken:
    until = parse(entry.expires_at)
    state, reason = entry.outcome or "", entry.reason or ""
    if entry.token_sha256 in revoked:
        state, reason = "revoked", revoked[entry.token_sha256] or ""
    elif entry.action == Action.TOKEN and entry.outcome in (Outcome.ISSUED, Outcome.CACHED, None):
        state = "expired" if until is None or until <= utc_now() else "valid"
    return AskedToken(
        who=entry.who,
        what=", ".join(read_repos(entry.repos) or ()) or "–",
        at=parse(entry.created_at),
        until=until if state in ("valid", "expired", "revoked") else None,
        state=state,
        reason=reason,
    )


def audit_page(filters: Mapping[str, str | None], *, before: int | None, limit: int) -> dict[str, Any]:
    """Return one page of the entries that match the filters, newest first, as schemas.AuditPage."""
    entries = _entries_about(filters.get("task_id"))
    entries = entries.filter(**{name: filters[name] for name in _EXACT_FILTERS if filters.get(name)})
    if before is not None:
        entries = entries.filter(pk__lt=before)
    rows = list(entries.order_by("-pk")[: limit + 1])
    page = rows[:limit]
    return {
        "entries": [_detailed_entry(entry) for entry in page],
        "next": page[-1].pk if page and len(rows) > limit else None,
    }


def _entries_about(task_id: str | None) -> QuerySet[TokenAudit]:
    """Return entries under an id as callers named it; `T42` finds that task whatever it was called."""
    if task_id is None:
        return TokenAudit.objects.all()
    number = parse_task_id(task_id)
    by_name = Q(task_id=task_id)
    return TokenAudit.objects.filter(by_name if number is None else by_name | Q(task_number=number))


def _entry(entry: TokenAudit) -> dict[str, Any]:
    return {
        "timestamp": _iso(entry.created_at),
        "task_id": entry.task_id,
        "repos": read_repos(entry.repos),
        "action": entry.action,
    }


def _detailed_entry(entry: TokenAudit) -> dict[str, Any]:
    return {
        **_entry(entry),
        **{name: getattr(entry, name) for name in _DETAILS},
        "permissions": json.loads(entry.permissions) if entry.permissions else None,
    }


def _iso(text: str) -> str | None:
    moment = parse(text)
    return iso_text(moment) if moment else None
