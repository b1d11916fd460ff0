"""Ending tokens at GitHub before their time."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q

from broker import audit, registration_keys
from broker.audit import SYSTEM
from broker.github import app
from broker.models import Action, IssuedToken, Outcome
from broker.tokens import encryption
from core.errors import LobwifeError
from core.timestamps import iso_text, utc_now
from tasks.models import read_repos

log = logging.getLogger(__name__)
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5, 300
_LONGEST_LIFE = timedelta(hours=1)
State = IssuedToken.State


def next_due() -> IssuedToken | None:
    """The token whose revocation has waited longest; None when none is due.

    One that waits for longer than a token lives is from before the clock was set back.
    """
    now = utc_now()
    due = Q(retry_at__lte=now) | Q(retry_at__gt=now + _LONGEST_LIFE)
    return IssuedToken.objects.filter(due, state=State.ENDED).order_by("retry_at").first()


def revoke(row: IssuedToken, *, seconds: float = 3.0) -> bool:
    """End one token at GitHub; False when GitHub did not, and it is to be tried again later."""
    token = encryption.unseal(row.sealed)
    if token is None:
        _settle(row, State.LEFT, Outcome.FAILED, "the secret key that sealed it is gone; it ends by itself")
        return True
    try:
        app.keyless().revoke(token, until=time.monotonic() + seconds)
    except LobwifeError as error:
        pause = min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * 2 ** min(row.attempts, 8))
        wait = timedelta(seconds=max(pause, error.retry_after or 0))
        with transaction.atomic():
            IssuedToken.objects.filter(pk=row.pk).update(attempts=F("attempts") + 1, retry_at=utc_now() + wait)
        log.warning("%s was not revoked, tried again in %s s: %s", row, wait.seconds, error)
        return False
    _settle(row, State.REVOKED, Outcome.REVOKED, row.reason)
    return True


def _settle(row: IssuedToken, state: IssuedToken.State, outcome: Outcome, reason: str) -> None:
    with transaction.atomic():
        if not IssuedToken.objects.filter(pk=row.pk, state=State.ENDED).update(state=state, sealed="", retry_at=None):
            return
        audit.record(
            action=Action.TOKEN_REVOKED,
            outcome=outcome,
            shown_id=row.shown_id,
            task_number=registration_keys.task_number(row.subject),
            repos=read_repos(row.repos),
            expires_at=iso_text(row.expires_at),
            token_sha256=row.sha256,
            reason=reason,
            caller=SYSTEM,
        )
