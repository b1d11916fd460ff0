"""What REST, pages and commands show of the broker. No token is ever among it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Q, QuerySet

from broker.github import app
from broker.models import CONTRACT_ACTIONS, LegacyRegistration, TokenAudit
from broker.registrations import ACTIVE
from core.timestamps import iso_text, parse
from tasks.ids import parse_task_id
from tasks.models import Task, read_repos

CONTRACT_LIMIT = 200
PAGE_DEFAULT, PAGE_MOST = 100, 500
_TASKS, _LEGACY = Task._meta.db_table, LegacyRegistration._meta.db_table
_COUNTED = (
    f"SELECT COUNT(*) FROM {_TASKS} WHERE broker_status = %s",
    f"SELECT COALESCE(SUM(token_count), 0) FROM {_TASKS} WHERE token_count > 0",
    f"SELECT COUNT(*) FROM {_LEGACY} WHERE status = %s",
    f"SELECT COALESCE(SUM(token_count), 0) FROM {_LEGACY}",
    f"SELECT COUNT(*) FROM {TokenAudit._meta.db_table}",
)
_COUNTS = "SELECT " + ", ".join(f"({select})" for select in _COUNTED)
_EXACT = ("action", "outcome", "identity", "address", "token_sha256")


def summary() -> dict[str, Any]:
    """Counts over registrations on tasks and legacy ones together; one statement, answered from indexes alone."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, [ACTIVE, ACTIVE])
        held, issued, legacy_held, legacy_issued, entries = cursor.fetchone()
    return {
        "enabled": not app.trouble(),
        "app_id": settings.GH_APP_ID or None,
        "active_tasks": held + legacy_held,
        "total_tokens_issued": issued + legacy_issued,
        "audit_entries": entries,
    }


def legacy_registrations() -> dict[str, dict[str, Any]]:
    """The registrations that no task holds, keyed by id."""
    return {
        row.task_id: {
            "repos": read_repos(row.repos),
            "lobster_type": row.lobster_type,
            "registered_at": _iso(row.registered_at),
            "status": row.status,
            "token_count": row.token_count,
        }
        for row in LegacyRegistration.objects.order_by("registered_at", "task_id")
    }


def contract_audit(task_id: str | None) -> list[dict[str, Any]]:
    """The newest entries of the contract's four actions, in its shape."""
    entries = _about(task_id).filter(action__in=CONTRACT_ACTIONS).order_by("-pk")
    return [_short(entry) for entry in entries[:CONTRACT_LIMIT]]


def audit_page(filters: Mapping[str, str | None], *, before: int | None, limit: int) -> dict[str, Any]:
    """All entries that the filters leave, newest first, one page."""
    entries = _about(filters.get("task_id"))
    entries = entries.filter(**{name: filters[name] for name in _EXACT if filters.get(name)})
    if before is not None:
        entries = entries.filter(pk__lt=before)
    found = list(entries.order_by("-pk")[: limit + 1])
    shown = found[:limit]
    return {
        "entries": [_whole(entry) for entry in shown],
        "next": shown[-1].pk if shown and len(found) > limit else None,
    }


def _about(task_id: str | None) -> QuerySet[TokenAudit]:
    """Entries under an id as callers named it; `T42` finds that task whatever it was called."""
    if task_id is None:
        return TokenAudit.objects.all()
    number = parse_task_id(task_id)
    by_name = Q(task_id=task_id)
    return TokenAudit.objects.filter(by_name if number is None else by_name | Q(task_number=number))


def _short(entry: TokenAudit) -> dict[str, Any]:
    return {
        "timestamp": _iso(entry.created_at),
        "task_id": entry.task_id,
        "repos": read_repos(entry.repos),
        "action": entry.action,
    }


def _whole(entry: TokenAudit) -> dict[str, Any]:
    names = ("id", "task_number", "outcome", "reason", "identity", "address", "expires_at", "token_sha256")
    return {
        **_short(entry),
        **{name: getattr(entry, name) for name in names},
        "permissions": json.loads(entry.permissions) if entry.permissions else None,
    }


def _iso(text: str) -> str | None:
    moment = parse(text)
    return iso_text(moment) if moment else None
