"""Answers that are kept until what they tell of is on the disk, so that one sync does for all that came together.

To wait for the disk after each commit costs as much as the rest of a request: the processor goes to another thread and
comes back to cold caches. So the commits of REST calls don't wait (core.sqlite.syncing), the answers do: the thread
that leads goes on with the next request, syncs when there is none or some wait already, and sends them all.
"""

from __future__ import annotations

import contextlib
import logging
import time
from functools import partial

from django.db import OperationalError

from core import waits
from core.sqlite import syncing
from core.sqlite.messages import in_words
from lobwife.web.gunicorn_connection import Connection, refusal
from lobwife.web.relay import Relay

log = logging.getLogger(__name__)
_MOST = 8
_LONGEST_SECONDS = 0.002
_SLOW_DISK_SECONDS = 0.001


class KeptAnswers:
    """Of one worker. All but the commit itself happens in the thread that leads."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._kept: list[tuple[Connection, bool]] = []
        self._since = 0.0
        self._wal = ""
        self._last_sync_seconds = 0.0

    def of(self, conn: Connection) -> contextlib.AbstractContextManager[None]:
        """Commits of this thread meanwhile leave the sync to us, and nothing is sent on the connection before."""
        return syncing.left_to(partial(self._promise, conn))

    def add(self, conn: Connection, again: bool) -> bool:
        """Whether the answer on this connection is kept; `again` is for whoever takes it over when it was sent."""
        if not conn.sock.keeps:
            return False
        if not self._kept:
            self._since = time.monotonic()
        self._kept.append((conn, again))
        return True

    def __bool__(self) -> bool:
        return bool(self._kept)

    @property
    def are_due(self) -> bool:
        """Whether to settle though there are requests to answer."""
        return len(self._kept) >= _MOST or (bool(self._kept) and time.monotonic() - self._since > _LONGEST_SECONDS)

    def take(self) -> list[tuple[Connection, bool]]:
        """What is to be settled now; others may be kept meanwhile."""
        kept, self._kept = self._kept, []
        return kept

    def settle(self, kept: list[tuple[Connection, bool]]) -> list[tuple[Connection, bool]]:
        """Wait for the disk and send the answers; those connections whose client can't be told are not used again."""
        if self._last_sync_seconds > _SLOW_DISK_SECONDS:
            waits.about_to_wait()
        started, instead = time.monotonic(), b""
        try:
            syncing.sync(self._wal)
        except OperationalError as error:
            log.error("%d changes can't be waited for: %s", len(kept), error)
            instead = refusal("503 Service Unavailable", in_words(error), "Retry-After: 5")
        self._last_sync_seconds = time.monotonic() - started
        return [(conn, conn.sock.let_go(instead) and again and not instead) for conn, again in kept]

    def _promise(self, conn: Connection, wal: str) -> bool:
        if not self._relay.leads:  # it waits for nobody, nobody waits for it: it may as well sync
            return False
        self._wal = wal
        conn.sock.keep(partial(syncing.sync, wal))
        return True
