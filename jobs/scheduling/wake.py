"""The function that APScheduler calls, and its trigger: the next firing of any job."""

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
    """Queue what is due; do nothing while an earlier wake is at work, since the next one comes within a second."""
    if _one_at_a_time.acquire(blocking=False):
        try:
            close_old_connections()
            due.enqueue_due()
        finally:
            _one_at_a_time.release()


class NextFiring(BaseTrigger):  # type: ignore[misc]
    """Fires at the next firing of any job, and once an hour whatever happens."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return a time strictly later than now, but for the first: what is due then is being queued already."""
        earliest = now if previous_fire_time is None else now + _SHORTEST
        wanted = due.next_wake(now) or now + _LONGEST
        return min(max(wanted, earliest), now + _LONGEST)
