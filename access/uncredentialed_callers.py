"""Who calls without credentials while access is open, so that an operator knows what closing it would break."""

from __future__ import annotations

import contextlib
import threading
import time

from django.db import transaction
from django.db.utils import DatabaseError

from access.models import UncredentialedCaller
from core.timestamps import utc_now

_AGAIN_SECONDS = 600
_MOST = 2000


class Sightings:
    """Notes each caller and route once in ten minutes and process: an ordinary call writes nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str, str], float] = {}

    def note(self, *, address: str, program: str, route: str) -> None:
        """Never fails: a call is worth more than its trace."""
        key = (address[:60], program.partition(" ")[0][:100], route[:100])
        now = time.monotonic()
        with self._lock:
            if now - self._seen.get(key, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
                return
            if len(self._seen) >= _MOST:
                self._seen.clear()
            self._seen[key] = now
        with contextlib.suppress(DatabaseError):
            _store(*key)


def _store(address: str, program: str, route: str) -> None:
    with transaction.atomic():
        same = UncredentialedCaller.objects.filter(address=address, program=program, route=route)
        if not same.update(last_seen=utc_now()) and UncredentialedCaller.objects.count() < _MOST:
            UncredentialedCaller.objects.create(address=address, program=program, route=route)
