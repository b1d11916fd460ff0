"""A pool of open connections, for a process in which thousands of clients are connected and few are at work."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

from django.db.utils import OperationalError


class ConnectionPool:
    """At most `size` connections are in use at once; the one that was used last is used first."""

    def __init__(self, size: int) -> None:
        self._places = threading.BoundedSemaphore(size)
        self._idle: list[Any] = []

    def take(self, opened: Callable[[], Any], timeout: float) -> Any:
        """Return an idle connection or a newly opened one; raises OperationalError when none is free in time."""
        if not self._places.acquire(timeout=timeout):
            raise OperationalError("all connections to it are in use")
        try:
            return self._idle.pop() if self._idle else opened()
        except BaseException:
            self._places.release()
            raise

    def give_back(self, connection: Any | None) -> None:
        """Take a connection back; None for one that was closed."""
        if connection is not None:
            self._idle.append(connection)
        self._places.release()


@functools.cache
def _pool_of_process(path: str, size: int, process: int) -> ConnectionPool:
    return ConnectionPool(size)


def pool_for(database: str, size: int) -> ConnectionPool | None:
    """This process's pool for a database file, None without a size; a forked child has its own."""
    return _pool_of_process(database, size, os.getpid()) if size else None
