"""Revoking tokens at GitHub before they expire."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q

from broker import audit
from broker.audit import SYSTEM
from broker.github.client import GitHub
from broker.models import Action, IssuedToken, Outcome
from broker.registrations import task_number_of_key
from core import processes
from core.errors import LobwifeError
from core.timestamps import iso_text, utc_now
from tasks.models import read_repos

log = logging.getLogger(__name__)
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 5, 300
_LONGEST_LIFE = timedelta(hours=1)
State = IssuedToken.State


def next_due() -> IssuedToken | None:
    """Return the token whose revocation has waited longest; None when none is due.

    A retry further away than a token lives was set before the clock was set back.
    """
    now = utc_now()
    due = Q(retry_at__lte=now) | Q(retry_at__gt=now + _LONGEST_LIFE)
    return IssuedToken.objects.filter(due, state=State.ENDED).order_by("retry_at").first()


def revoke(row: IssuedToken, *, seconds: float = 3.0) -> bool:
    """Revoke one token at GitHub; returns False when that failed, and it is to be tried again later."""
    token = row.token
    if token is None:
        _finish(row, State.LEFT, Outcome.FAILED, "the secret key that encrypted it is gone; it expires by itself")
        return True
    try:
        GitHub.without_key().revoke(token, until=time.monotonic() + seconds)
    except LobwifeError as error:
        delay = processes.backoff(row.attempts, _FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
        wait = timedelta(seconds=max(delay, error.retry_after or 0))
        with transaction.atomic():
            IssuedToken.objects.filter(pk=row.pk).update(attempts=F("attempts") + 1, retry_at=utc_now() + wait)
        log.warning("%s was not revoked, tried again in %s s: %s", row, wait.seconds, error)
        return False
    _finish(row, State.REVOKED, Outcome.REVOKED, row.reason)
    return True


def _finish(row: IssuedToken, state: IssuedToken.State, outcome: Outcome, reason: str) -> None:
    """Forget the token and audit its end, unless another process has done so."""
    with transaction.atomic():
        if not IssuedToken.objects.filter(pk=row.pk, state=State.ENDED).update(
            state=state, encrypted="", retry_at=None
        ):
            return
        audit.record(
            action=Action.TOKEN_REVOKED,
            outcome=outcome,
            requested_id=row.requested_id,
            task_number=task_number_of_key(row.key),
            repos=read_repos(row.repos),
            expires_at=iso_text(row.expires_at),
            token_sha256=row.sha256,
            reason=reason,
            caller=SYSTEM,
        )
