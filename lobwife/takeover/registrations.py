"""`tasks.json` and `token-audit.json` of installations from before the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from django.db import transaction

from broker.models import LegacyRegistration, TokenAudit
from core import coerce
from core.errors import Invalid

_AUDITED = ("task_id", "repos", "action", "created_at")


def read_registrations(data: object) -> list[LegacyRegistration]:
    """The rows that `tasks.json` stands for; raises Invalid unless it is an object of objects."""
    if not isinstance(data, dict):
        raise Invalid("it is not an object of registrations")
    rows = []
    for task_id, entry in data.items():
        if not isinstance(entry, dict):
            raise Invalid(f"the registration of {task_id[:100]!r} is not an object")
        rows.append(
            LegacyRegistration(
                task_id=coerce.text(task_id) or "",
                repos=coerce.text(entry.get("repos")) or "[]",
                lobster_type=coerce.text(entry.get("lobster_type")) or "unknown",
                registered_at=coerce.text(entry.get("registered_at")) or "",
                status=coerce.text(entry.get("status")) or "active",
                token_count=coerce.count(entry.get("token_count")),
            )
        )
    return rows


def import_registrations(*, rows: Sequence[LegacyRegistration]) -> int:
    """Add the registrations whose ids have none yet; returns how many."""
    with transaction.atomic():
        before = LegacyRegistration.objects.count()
        LegacyRegistration.objects.bulk_create(rows, ignore_conflicts=True)
        return LegacyRegistration.objects.count() - before


def read_audit(data: object) -> list[TokenAudit]:
    """The rows that `token-audit.json` stands for; raises Invalid unless it is a list of objects."""
    if not isinstance(data, list):
        raise Invalid("it is not a list of entries")
    rows = []
    for position, entry in enumerate(data, 1):
        if not isinstance(entry, dict):
            raise Invalid(f"entry {position} is not an object")
        rows.append(
            TokenAudit(
                task_id=coerce.text(entry.get("task_id")) or "",
                repos=coerce.text(entry.get("repos")),
                action=coerce.text(entry.get("action")) or "",
                created_at=coerce.text(entry.get("timestamp")) or "",
            )
        )
    return rows


def import_audit(*, rows: Sequence[TokenAudit]) -> int:
    """Add the entries that are not there yet, each as often as the file has it; returns how many.

    An entry has no key, so what a start that was interrupted had stored is told by counting equal ones.
    """
    with transaction.atomic():
        present = Counter(TokenAudit.objects.values_list(*_AUDITED))
        missing = []
        for row in rows:
            key = tuple(getattr(row, name) for name in _AUDITED)
            if present[key]:
                present[key] -= 1
            else:
                missing.append(row)
        TokenAudit.objects.bulk_create(missing)
        return len(missing)
