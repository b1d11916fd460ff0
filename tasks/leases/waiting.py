"""Claims that wait for a task: a waiting one holds no thread, no connection to the database and no lock.

Under gevent each is a greenlet. One more greenlet listens for commits while anybody waits, looks how many tasks each
kind of claim could take, and wakes as many of those that wait longest.
"""

from __future__ import annotations

import functools
import logging
import os
import select
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.db import close_old_connections, connection
from django.db.utils import DatabaseError

from core.errors import TooManyRequests
from core.sqlite.notification import Listener
from core.timestamps import utc_now
from tasks.leases import queries
from tasks.leases.queries import Wanted

log = logging.getLogger(__name__)
T = TypeVar("T")
# Time alone makes tasks ready (a back-off that is over), and a commit of the sqlite3 shell notifies nobody.
_LOOK_SECONDS = 1.0
_BETWEEN_LOOKS_SECONDS = 0.005
_RETRY_AFTER_SECONDS = 5


class _Waiter:
    def __init__(self, caller: str, wanted: Wanted) -> None:
        self.caller, self.wanted = caller, wanted
        self.is_woken = threading.Event()


class WaitingRoom:
    """The claims that wait in this process."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()  # who waits longest is first
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_watched = self._is_closed = False

    def wait(self, wanted: Wanted, caller: str, seconds: float, attempt: Callable[[], T | None]) -> T | None:
        """Return what `attempt` returns once there is a task for it; None when there was none in time.

        Raises TooManyRequests when too many wait already.
        """
        deadline = time.monotonic() + seconds
        waiter = self._enter(wanted, caller)
        try:
            self._look_again()  # a task may have come since the caller looked
            while (left := deadline - time.monotonic()) > 0 and not self._is_closed:
                close_old_connections()
                if waiter.is_woken.wait(left):
                    result = None if self._is_closed else attempt()
                    waiter.is_woken.clear()
                    if result is not None:
                        return result
            return None
        finally:
            self._leave(waiter)

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
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name="waiting claims", daemon=True).start()
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            del self._waiters[waiter]
        if waiter.is_woken.is_set():
            self._look_again()  # what it was woken for is there for another

    def _look_again(self) -> None:
        try:
            os.write(self._write_end, b"\0")
        except BlockingIOError:  # it is full: a look is due anyway
            return

    # --- the greenlet that wakes them
    def _watch(self) -> None:
        listener = Listener(self._database, is_web=True)
        try:
            while True:
                with self._lock:
                    if not self._waiters:
                        self._is_watched = False
                        return
                self._pause(listener)
                try:
                    self._look()
                except DatabaseError as error:
                    log.warning("waiting claims: the database can't be read: %s", error)
                    time.sleep(_LOOK_SECONDS)
                finally:
                    connection.close()
        finally:
            listener.close()

    def _pause(self, listener: Listener) -> None:
        """Wait for a commit, at most for a second; commits in a row are looked at together."""
        select.select([listener.fileno(), self._read_end], [], [], _LOOK_SECONDS)
        time.sleep(_BETWEEN_LOOKS_SECONDS)
        listener.drain()
        try:
            while os.read(self._read_end, 4096):
                pass
        except BlockingIOError:
            return

    def _look(self) -> None:
        groups: dict[Wanted, list[_Waiter]] = {}
        for waiter in list(self._waiters):
            groups.setdefault(waiter.wanted, []).append(waiter)
        for wanted, waiters in groups.items():
            asleep = [waiter for waiter in waiters if not waiter.is_woken.is_set()]
            if not asleep:
                continue
            ready = queries.ready_count(wanted, utc_now(), most=len(waiters))
            for waiter in asleep[: max(0, ready - (len(waiters) - len(asleep)))]:
                waiter.is_woken.set()


@functools.cache
def _room_of_process(database: str, process: int) -> WaitingRoom:
    return WaitingRoom(database)


def waiting_room() -> WaitingRoom:
    """Return this process's waiting room; a forked child has its own."""
    return _room_of_process(str(connection.settings_dict["NAME"]), os.getpid())
