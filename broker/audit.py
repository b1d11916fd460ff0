"""The audit: who asked for what, and the outcome. Rows are added, counted up and trimmed by age here, nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce

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
_REPEATS_RECORDED, _REPEATS_LOOKED_AT = 10, 1000


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
    """Add an entry, and the event of it, within the transaction of what it is about where there is one.

    A token that one caller was served again ten times within a minute is counted on the newest of those entries.
    """
    requested_id = requested_id[:_LONGEST_TEXT]
    with transaction.atomic(savepoint=False):
        if outcome == Outcome.CACHED and _count_repeat(requested_id, caller, token_sha256):
            return
        TokenAudit.objects.create(
            task_id=requested_id,
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
            "requested_id": requested_id,
            "task_id": task_number,
            "outcome": outcome,
            "repos": list(repos) if repos is not None else None,
            "permissions": dict(permissions) if permissions is not None else None,
            "expires_at": expires_at,
            "reason": reason,
        }
        feed.append(_FEED_TYPES[action], requested_id, data, caller=caller.name)


def _count_repeat(requested_id: str, caller: Caller, token_sha256: str | None) -> bool:
    """Count a token on the entry that has it already; returns whether there was one. Looks at the newest rows alone."""
    newest = TokenAudit.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    same = TokenAudit.objects.filter(
        pk__gt=newest - _REPEATS_LOOKED_AT,
        created_at__gt=iso_text(utc_now() - timedelta(minutes=1)),
        task_id=requested_id,
        outcome=Outcome.CACHED,
        identity=caller.name[:_LONGEST_TEXT],
        address=caller.address,
        token_sha256=token_sha256,
    ).order_by("-pk")
    recorded = list(same.values_list("pk", flat=True)[:_REPEATS_RECORDED])
    if len(recorded) < _REPEATS_RECORDED:
        return False
    return TokenAudit.objects.filter(pk=recorded[0]).update(repeats=Coalesce(F("repeats"), 0) + 1) == 1


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
