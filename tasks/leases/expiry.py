"""The daemon's part: leases whose holder gave no sign of life in time end."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import DateTimeField, ExpressionWrapper, F, Min

from core.database.clock import database_now
from tasks.leases.services import OnFailed, expire_leases
from tasks.models import TaskLease

_CLOCK_TOLERANCE = timedelta(seconds=2)
_SHORTEST_WAIT = 0.05


class Expiry:
    """Ends leases; `tick()` does one bounded step. `on_failed` is called in the transaction that fails a task."""

    def __init__(self, on_failed: OnFailed) -> None:
        self._on_failed = on_failed
        self._seen: tuple[datetime, float] | None = None

    def tick(self) -> bool | float:
        """Do one step; returns whether there may be more to do at once, else the seconds until the next lease ends."""
        self._follow_clock()
        if expire_leases(self._on_failed):
            return True
        soonest = TaskLease.objects.filter(ended_at=None).aggregate(soonest=Min("expires_at"))["soonest"]
        return False if soonest is None else max(_SHORTEST_WAIT, (soonest - database_now()).total_seconds())

    def _follow_clock(self) -> None:
        """Move the leases along when the clock was set, since no agent lost time by that.

        What was set back while no daemon ran shows too: no lease lasts longer than it was taken for.
        """
        now, ticks = database_now(), time.monotonic()
        if self._seen is not None:
            before, ticks_before = self._seen
            jump = now - before - timedelta(seconds=ticks - ticks_before)
            if jump > _CLOCK_TOLERANCE:
                _move(jump, beaten_until=before + _CLOCK_TOLERANCE)
        self._seen = now, ticks
        _shorten(now)


def _move(jump: timedelta, *, beaten_until: datetime) -> None:
    """Move leases of before the jump; one that was taken or renewed since then knows the new time."""
    with transaction.atomic():
        leases = TaskLease.objects.filter(ended_at=None, beat_at__lte=beaten_until)
        moved = {name: ExpressionWrapper(F(name) + jump, DateTimeField()) for name in ("beat_at", "expires_at")}
        leases.update(**moved)


def _shorten(now: datetime) -> None:
    ahead = TaskLease.objects.filter(ended_at=None, beat_at__gt=now + _CLOCK_TOLERANCE)
    for lease in ahead:
        with transaction.atomic():
            TaskLease.objects.filter(pk=lease.pk, beat_at=lease.beat_at).update(
                beat_at=now, expires_at=now + timedelta(seconds=lease.seconds)
            )
