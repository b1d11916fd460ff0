"""The audit: who asked for what, and the outcome. Rows are added and trimmed by age here, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction

from broker.models import Action, Outcome, TokenAudit
from core.callers import Caller, Role
from core.timestamps import iso_text, parse, utc_now
from events import services as feed

SYSTEM = Caller("lobwife", Role.SERVICE)
_TRIM_BATCH = 500
_LONGEST_TEXT = 500
_FEED_TYPES = {
    Action.TOKEN: "token.issued",
    Action.SERVICE_TOKEN: "token.issued",
    Action.TOKEN_REFUSED: "token.refused",
    Action.TOKEN_REVOKED: "token.revoked",
    Action.REGISTERED: "registration.made",
    Action.DEREGISTERED: "registration.ended",
    Action.ACCESS_REFUSED: "access.refused",
}


def record(
    *,
    action: Action,
    outcome: Outcome,
    requested_id: str,
    caller: Caller,
    task_number: int | None = None,
    repos: Sequence[str] | None = None,
    permissions: Mapping[str, str] | None = None,
    expires_at: str | None = None,
    token_sha256: str | None = None,
    reason: str | None = None,
) -> None:
    """Add an entry, and the event of it, within the transaction of what it is about where there is one."""
    with transaction.atomic(savepoint=False):
        TokenAudit.objects.create(
            task_id=requested_id[:_LONGEST_TEXT],
            task_number=task_number,
            action=action,
            outcome=outcome,
            identity=caller.name[:_LONGEST_TEXT],
            address=caller.address,
            repos=json.dumps(list(repos)) if repos is not None else None,
            permissions=json.dumps(dict(permissions)) if permissions is not None else None,
            expires_at=expires_at,
            token_sha256=token_sha256,
            reason=reason,
            created_at=iso_text(),
        )
        data = {
            "requested_id": requested_id[:_LONGEST_TEXT],
            "task_id": task_number,
            "outcome": outcome,
            "repos": list(repos) if repos is not None else None,
            "permissions": dict(permissions) if permissions is not None else None,
            "expires_at": expires_at,
            "reason": reason,
        }
        feed.append(_FEED_TYPES[action], requested_id[:_LONGEST_TEXT], data, caller=caller.name[:_LONGEST_TEXT])


def trim() -> bool:
    """Remove a batch of entries older than the retention; returns whether there may be more.

    Goes from the oldest id and stops at the first entry that must stay, or whose time can't be read.
    """
    limit = utc_now() - timedelta(days=settings.BROKER_AUDIT_DAYS)
    oldest = TokenAudit.objects.order_by("pk").values_list("pk", "created_at")[:_TRIM_BATCH]
    last = None
    for pk, created_at in oldest:
        moment = parse(created_at)
        if moment is None or moment >= limit:
            break
        last = pk
    if last is None:
        return False
    with transaction.atomic():
        deleted, _ = TokenAudit.objects.filter(pk__lte=last).delete()
    return deleted >= _TRIM_BATCH


def is_deregistered(task_number: int) -> bool:
    """Return whether the registration of a task was ended by somebody, or expired, and not made anew since."""
    entries = TokenAudit.objects.filter(task_number=task_number, action__in=(Action.REGISTERED, Action.DEREGISTERED))
    return entries.order_by("-pk").values_list("action", flat=True).first() == Action.DEREGISTERED
