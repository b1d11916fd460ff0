"""The daemon's part: revoke tokens of tasks that ended, expire registrations by age, remove old rows."""

from __future__ import annotations

import time

from django.conf import settings
from django.db import transaction

from broker import audit, registrations, services
from broker.models import GitHubState, IssuedToken, LegacyRegistration
from broker.registrations import task_key, task_number_of_key
from broker.tokens import mint, revoke
from core.timestamps import utc_now
from tasks.costs.budgets import SPENT
from tasks.costs.spent import spent_budget_of
from tasks.models import LEASE_ENDED, OVER, Task, TaskEvent
from tasks.services import events_after, newest_event_id

_BATCH = 500
_HOUSEKEEPING_SECONDS = 60
_PAUSE_SECONDS = 5
State = IssuedToken.State


class Follower:
    """Follows task events with a cursor and revokes tokens; `tick()` does one bounded step."""

    def __init__(self) -> None:
        self._reconciled = False
        self._housekeeping_at = 0.0
        self._paused_until = 0.0

    def tick(self) -> bool:
        """Do one step; returns whether there may be more to do at once."""
        if not self._reconciled:
            reconcile()
            self._reconciled = True
        if time.monotonic() >= self._housekeeping_at and not housekeep():
            self._housekeeping_at = time.monotonic() + _HOUSEKEEPING_SECONDS
        more = follow()
        return self._revoke_one() or more

    def _revoke_one(self) -> bool:
        if time.monotonic() < self._paused_until:
            return False
        row = revoke.next_due()
        if row is None:
            return False
        if not revoke.revoke(row):
            self._paused_until = time.monotonic() + _PAUSE_SECONDS  # others would fail the same way
            return False
        return True


def follow() -> bool:
    """End the tokens of tasks that the next events report as over, out of budget or without a lease any more."""
    state = GitHubState.load()
    events = events_after(state.cursor or 0, limit=_BATCH)
    if not events:
        return False
    reasons = {event: reason for event in events if (reason := _reason_to_end(event)) is not None}
    # Most tasks end without a token. One that is stored later is of a later event.
    keys = {task_key(event.task_id) for event in reasons}
    live = set(IssuedToken.objects.filter(state=State.LIVE, key__in=keys).values_list("key", flat=True))
    with transaction.atomic():
        for event, reason in reasons.items():
            if (key := task_key(event.task_id)) in live:
                services.end_tokens(key=key, reason=reason, before_event=event.pk)
        GitHubState.objects.filter(pk=1).update(cursor=events[-1].pk)
    return len(events) == _BATCH


def _reason_to_end(event: TaskEvent) -> str | None:
    """Return why an event ends the tokens of its task; None for one that doesn't. Anybody may log one named so."""
    if event.status in OVER:
        return f"the task is {event.status}"
    if event.event_type == LEASE_ENDED:
        return "the lease of the task ended"
    return spent_budget_of(event.task_id) if event.event_type == SPENT else None


def reconcile() -> None:
    """Catch up with what no event tells: a new follower, a restored database, tasks changed by hand."""
    newest = newest_event_id()
    state = GitHubState.load()
    with transaction.atomic():
        over = Task.objects.filter(broker_status=registrations.ACTIVE, status__in=OVER)
        over.update(broker_status=registrations.ENDED)
        if state.cursor is None or state.cursor > newest:
            GitHubState.objects.filter(pk=1).update(cursor=newest)
        for key in IssuedToken.objects.filter(state=State.LIVE).values_list("key", flat=True).distinct():
            number = task_number_of_key(key)
            if number is None:
                continue
            is_open = Task.objects.open().filter(pk=number).exists()
            reason = spent_budget_of(number) if is_open else "the task is over"
            if reason is not None:
                services.end_tokens(key=key, reason=reason)


def housekeep() -> bool:
    """Expire registrations by age, remove tokens and entries that are over; returns whether there may be more."""
    for legacy in LegacyRegistration.objects.filter(status=registrations.ACTIVE):
        _expire_if_due(legacy)
    if settings.BROKER_TASK_HOURS:
        for task in Task.objects.filter(broker_status=registrations.ACTIVE):
            _expire_if_due(task)
    expired = IssuedToken.objects.filter(refresh_at__lte=utc_now() - mint.REFRESH_BEFORE)
    with transaction.atomic():
        expired.filter(pk__in=list(expired.values_list("pk", flat=True)[:_BATCH])).delete()
    return audit.trim()


def _expire_if_due(row: Task | LegacyRegistration) -> None:
    registration = registrations.from_row(row)
    if registration.is_expired:
        services.expire(registration=registration)
