"""The follower of the tasks' events that keeps the vault in sync; the daemon calls it a few times a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from core.errors import Unavailable
from core.timestamps import utc_now
from tasks.services import newest_event_id
from vaultsync import services
from vaultsync.models import SyncRequest, VaultState
from vaultsync.sync import FULL_EVERY, Sync
from vaultsync.vault import SyncObserver, TokenProvider, Vault

QUIET_SECONDS = 0.8  # with the daemon's tick a sync begins within a second of a lone event
MOST_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.15
_HEARTBEAT_SECONDS = 15.0  # each is a write, which wakes all loops


class VaultFollower:
    """Follows the tasks' events into the vault. `tick()` does at most one sync."""

    def __init__(
        self,
        token: TokenProvider = lambda: None,
        *,
        vault: Vault | None = None,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.vault = vault or Vault.from_settings(token)
        self.interval = timedelta(seconds=interval if interval is not None else settings.VAULT_SYNC_INTERVAL)
        self.clock = clock
        self._last_beat = -math.inf
        self._newest = 0
        self._first_at = 0.0
        self._last_at = 0.0
        self._started = False

    def tick(self) -> bool | float:
        """Sync if one is due; the first tick always does, and compares everything.

        Returns True after a sync; else the seconds after which to look again while events gather, or False.
        """
        self._on_step("tick")
        due = self._due(services.vault_state(), self.clock())
        if due is None:
            return _POLL_SECONDS if self._first_at else False
        try:
            Sync(self.vault, SyncObserver(on_wait=self._beat, on_step=self._on_step)).run(**due)
        except Unavailable:
            return False  # `manage.py sync` or a script is at work; what is due stays due
        self._beat()
        self._started = True
        self._first_at = 0.0
        return True

    def _due(self, state: VaultState, clock: float) -> dict[str, Any] | None:
        """Return how `Sync.run` is to be called; None when nothing is due."""
        now = utc_now()
        request = SyncRequest.objects.last()
        is_backing_off = services.is_backing_off(until=state.retry_at, now=now)
        failed_since = request is not None and state.last_error_at and state.last_error_at > request.requested_at
        if request is not None and not (is_backing_off and failed_since):
            full = SyncRequest.objects.filter(full=True).exists()
            return {"reason": f"a request by {request.requested_by or 'someone'}", "full": full}
        if is_backing_off:
            return None
        due: dict[str, Any] | None = None
        if not self._started or state.committed is None:
            due = {"reason": "the start of the daemon", "full": True}
        elif _elapsed(state.last_full_at, FULL_EVERY, now):
            due = {"reason": "the periodic reconcile", "full": True}
        elif state.remote_retry_at and not services.is_backing_off(until=state.remote_retry_at, now=now):
            due = {"reason": "another try at the remote"}
        elif state.retry_at or _elapsed(state.last_sync_at, self.interval, now):
            due = {"reason": "the interval"}
        elif self._burst_is_over(state.committed, clock):
            due = {"reason": "changed tasks", "fetch": False}
        return due and {**due, "respect_back_off": True}

    def _burst_is_over(self, committed: int, clock: float) -> bool:
        """Return True when events wait and none came for a moment, or they have waited for long enough."""
        newest = newest_event_id()
        if newest <= committed:
            self._first_at = 0.0
            return False
        if newest != self._newest or not self._first_at:
            self._newest, self._last_at = newest, clock
            self._first_at = self._first_at or clock
        return clock - self._last_at >= QUIET_SECONDS or clock - self._first_at >= MOST_WAIT_SECONDS

    def _beat(self, busy_seconds: float = 0) -> None:
        services.beat(busy_seconds=busy_seconds)
        self._last_beat = self.clock()

    def _on_step(self, step: str) -> None:
        if self.clock() - self._last_beat > _HEARTBEAT_SECONDS:
            self._beat()


def _elapsed(since: datetime | None, span: timedelta, now: datetime) -> bool:
    return since is None or since > now or now - since >= span
