"""What APScheduler calls, and when: at the next firing of any job."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from apscheduler.triggers.base import BaseTrigger
from django.db import close_old_connections

from jobs.scheduling import due

_LONGEST = timedelta(hours=1)
_SHORTEST = timedelta(seconds=1)
# The stored wake names a function, so what keeps two of them apart lives here.
_one_at_a_time = threading.Lock()


def wake() -> None:
    """Queue what is due; nothing while an earlier wake is still at it, since the next one comes within a second."""
    if _one_at_a_time.acquire(blocking=False):
        try:
            close_old_connections()
            due.settle_due()
        finally:
            _one_at_a_time.release()


class NextFiring(BaseTrigger):  # type: ignore[misc]
    """Fires at the next firing of any job, and once an hour whatever happens."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Strictly later than now, unless it is the first time: what is due then is being settled already."""
        wanted = due.next_wake(now)
        if previous_fire_time is None and wanted is not None:
            return min(max(wanted, now), now + _LONGEST)
        return now + _LONGEST if wanted is None else min(max(wanted, now + _SHORTEST), now + _LONGEST)
