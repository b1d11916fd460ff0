"""Single flight: of the calls of this process that need the same new token, one asks GitHub and the others wait."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from django.db import close_old_connections

from core.errors import Unavailable

_MOST_FLIGHTS = 8
_LONGEST_WAIT_FOR_SLOT = 1.0
ResultT = TypeVar("ResultT")


class SingleFlight:
    """Calls in progress by key, at most `limit` of them at once."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._flights: dict[str, Future[None]] = {}
        self._slots = threading.BoundedSemaphore(limit)

    def run(self, key: str, call: Callable[[], ResultT], *, until: float) -> ResultT | None:
        """Return the result of `call`; None when a call with this key was in progress, once it has succeeded.

        Raises what that call raised, and Unavailable at `until` (a monotonic time) or while all slots stay taken.
        """
        close_old_connections()  # other requests use it while this one waits
        with self._lock:
            running = self._flights.get(key)
            if running is None:
                future: Future[None] = Future()
                self._flights[key] = future
        if running is not None:
            try:
                return running.result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                raise Unavailable("GitHub is slow to make a token for this", retry_after=2) from None
        try:
            result = self._in_slot(call)
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            future.set_result(None)
            return result
        finally:
            with self._lock:
                del self._flights[key]

    def _in_slot(self, call: Callable[[], ResultT]) -> ResultT:
        if not self._slots.acquire(timeout=_LONGEST_WAIT_FOR_SLOT):
            raise Unavailable("GitHub is slow and other calls wait for it already", retry_after=2)
        try:
            return call()
        finally:
            self._slots.release()


@functools.cache
def single_flight() -> SingleFlight:
    """Return the calls to GitHub of this process."""
    return SingleFlight(_MOST_FLIGHTS)
