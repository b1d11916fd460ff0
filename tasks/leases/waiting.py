"""Claims that wait for a task: a waiting one holds no thread, no connection to the database and no lock.

Under gevent each is a greenlet. After a commit it is looked how many tasks each kind of claim could take, and as many
of those that wait longest are woken.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.db import close_old_connections

from core.database.clock import database_now
from core.database.watcher import Watcher, watcher
from core.errors import TooManyRequests
from tasks.leases import queries
from tasks.leases.queries import Wanted

T = TypeVar("T")
_RETRY_AFTER_SECONDS = 5


class _Waiter:
    def __init__(self, caller: str, wanted: Wanted) -> None:
        self.caller, self.wanted = caller, wanted
        self.is_woken = threading.Event()


class WaitingRoom:
    """The claims that wait in this process."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._lock = threading.Lock()
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()  # who waits longest is first
        self._is_closed = False

    def wait(
        self, wanted: Wanted, caller: str, seconds: float, attempt: Callable[[], T | None], is_gone: Callable[[], bool]
    ) -> T | None:
        """Return what `attempt` returns once there is a task for it; None when there was none in time.

        Who is woken and is gone leaves its place to the next. Raises TooManyRequests when too many wait already.
        """
        deadline = time.monotonic() + seconds
        waiter = self._enter(wanted, caller)
        try:
            self._watcher.look_soon()  # a task may have come since the caller looked
            while (left := deadline - time.monotonic()) > 0 and not self._is_closed:
                close_old_connections()
                if waiter.is_woken.wait(left):
                    if is_gone():
                        return None
                    result = None if self._is_closed else attempt()
                    waiter.is_woken.clear()
                    if result is not None:
                        return result
            return None
        finally:
            self._leave(waiter)

    def is_empty(self) -> bool:
        """Return whether no claim waits."""
        return not self._waiters

    def look(self) -> None:
        """Wake as many claims as there are tasks for them."""
        groups: dict[Wanted, list[_Waiter]] = {}
        for waiter in list(self._waiters):
            groups.setdefault(waiter.wanted, []).append(waiter)
        for wanted, waiters in groups.items():
            asleep = [waiter for waiter in waiters if not waiter.is_woken.is_set()]
            if not asleep:
                continue
            ready = queries.ready_count(wanted, database_now(), most=len(waiters))
            for waiter in asleep[: max(0, ready - (len(waiters) - len(asleep)))]:
                waiter.is_woken.set()

    def close(self) -> None:
        """Have everybody go, and nobody wait any more: the process stops."""
        self._is_closed = True
        for waiter in list(self._waiters):
            waiter.is_woken.set()

    def _enter(self, wanted: Wanted, caller: str) -> _Waiter:
        with self._lock:
            own = sum(waiter.caller == caller for waiter in self._waiters)
            if len(self._waiters) >= settings.WAITING_CLAIMS or own >= settings.WAITING_CLAIMS_PER_CALLER:
                who = f"claims of {caller or 'unidentified callers'}" if own else "claims"
                raise TooManyRequests(
                    f"too many {who} wait already; try again in {_RETRY_AFTER_SECONDS} s",
                    retry_after=_RETRY_AFTER_SECONDS,
                )
            waiter = _Waiter(caller, wanted)
            self._waiters[waiter] = None
        self._watcher.watch_for(self)
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            del self._waiters[waiter]
        if waiter.is_woken.is_set():
            self._watcher.look_soon()  # what it was woken for is there for another


@functools.cache
def _room_beside(watcher: Watcher) -> WaitingRoom:
    return WaitingRoom(watcher)


def waiting_room() -> WaitingRoom:
    """Return this process's waiting room; a forked child has its own."""
    return _room_beside(watcher())
