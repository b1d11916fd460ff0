"""The daemon's side of the vault: decides when a sync is due, and does it. Called a few times a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from core.errors import Unavailable
from core.timestamps import utc_now
from tasks.services import newest_event_id
from vaultsync import services
from vaultsync.models import SyncRequest, VaultState
from vaultsync.sync import FULL_EVERY, Sync
from vaultsync.vault import SyncObserver, TokenProvider, Vault, no_token

log = logging.getLogger(__name__)
QUIET_SECONDS = 0.8  # with the daemon's tick a sync begins within a second of a lone event
GATHER_SECONDS = 5.0
_GATHERING_SECONDS = 0.15
_BEAT_SECONDS = 5.0


@dataclass(frozen=True)
class Due:
    """Why to sync now, whether to compare everything, whether to fetch, whether to leave a failing remote alone."""

    reason: str
    full: bool = False
    fetch: bool = True
    patient: bool = True


class VaultFollower:
    """Follows the tasks' events into the vault. `tick()` does at most one sync."""

    def __init__(
        self,
        token: TokenProvider = no_token,
        *,
        vault: Vault | None = None,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.vault = vault or Vault.from_settings(token)
        self.interval = timedelta(seconds=interval if interval is not None else settings.VAULT_SYNC_INTERVAL)
        self.clock = clock
        self._beaten = 0.0
        self._seen = 0
        self._first_at = 0.0
        self._last_at = 0.0
        self._started = False

    def tick(self) -> bool | float:
        """Sync if something asks for it; the first tick always does, and compares everything.

        True after a sync; else the seconds after which to look again while events gather, or False.
        """
        clock = self.clock()
        if clock - self._beaten > _BEAT_SECONDS or not self._beaten:
            services.beat()
            self._beaten = clock
        state = services.vault_state()
        due = self._due(state, clock)
        if due is None:
            return _GATHERING_SECONDS if self._first_at else False
        try:
            observer = SyncObserver(on_wait=self._on_wait, on_step=self._on_step)
            Sync(self.vault, observer).run(reason=due.reason, full=due.full, fetch=due.fetch, patient=due.patient)
        except Unavailable:
            return False  # `manage.py sync` or a script is at work; what is due stays due
        services.beat()
        self._started = True
        self._first_at = 0.0
        return True

    def _due(self, state: VaultState, clock: float) -> Due | None:
        now = utc_now()
        request = SyncRequest.objects.last()
        resting = services.rests(until=state.retry_at, now=now)
        if request is not None and not (resting and state.last_error_at and state.last_error_at > request.requested_at):
            full = SyncRequest.objects.filter(full=True).exists()
            return Due(f"a request by {request.requested_by or 'someone'}", full=full, patient=False)
        if resting:
            return None
        if not self._started or state.committed is None:
            return Due("the start of the daemon", full=True)
        if _elapsed(state.last_full_at, FULL_EVERY, now):
            return Due("the periodic reconcile", full=True)
        if state.remote_retry_at and not services.rests(until=state.remote_retry_at, now=now):
            return Due("another try at the remote")
        if state.retry_at or _elapsed(state.last_sync_at, self.interval, now):
            return Due("the interval")
        if self._burst_is_over(state.committed, clock):
            return Due("changed tasks", fetch=False)
        return None

    def _burst_is_over(self, committed: int, clock: float) -> bool:
        """Whether events wait and have been quiet for a moment, or have waited for long enough."""
        newest = newest_event_id()
        if newest <= committed:
            self._first_at = 0.0
            return False
        if newest != self._seen or not self._first_at:
            self._seen, self._last_at = newest, clock
            self._first_at = self._first_at or clock
        return clock - self._last_at >= QUIET_SECONDS or clock - self._first_at >= GATHER_SECONDS

    def _on_wait(self, seconds: float) -> None:
        services.beat(busy_seconds=seconds)
        self._beaten = self.clock()

    def _on_step(self, step: str) -> None:
        if self.clock() - self._beaten > _BEAT_SECONDS:
            services.beat()
            self._beaten = self.clock()


def _elapsed(since: datetime | None, span: timedelta, now: datetime) -> bool:
    return since is None or since > now or now - since >= span
