"""The database's clock, where a server has one: leases are judged by it, since those of machines may differ."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta

from core.database.backend import server
from core.timestamps import utc_now

_TOLERANCE = timedelta(seconds=1)  # clocks that are kept by NTP differ by less: nothing is put right then
_LONGEST_ANSWER = timedelta(seconds=2)


class Clock:
    """How far the database's clock is ahead of this process's, as of the last comparison."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def compare(self) -> None:
        """Compare the two; every node does it with each sign of life. On SQLite there is one clock."""
        database = server()
        if database is None:
            return
        asked = utc_now()
        theirs: datetime = database.server_time()
        took = utc_now() - asked
        if timedelta(0) <= took < _LONGEST_ANSWER:  # else it says little
            ahead = theirs - asked - took / 2
            self.ahead = ahead if abs(ahead) > _TOLERANCE else timedelta(0)


@functools.cache
def clock() -> Clock:
    """Return what this process knows of the database's clock."""
    return Clock()


def database_now() -> datetime:
    """Return the time by the database's clock, without asking it."""
    return utc_now() + clock().ahead
