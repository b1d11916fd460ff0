"""How old the daemon's last sign of life may be."""

from __future__ import annotations

from datetime import timedelta

# A daemon beats every 5 seconds; after so long without one it counts as gone.
_STALE_AFTER = timedelta(seconds=20)


def is_fresh(age: timedelta) -> bool:
    """Whether a heartbeat of that age says that the daemon is alive."""
    return abs(age) < _STALE_AFTER
