"""psycopg's connection under gevent, which waits for the server by a watcher of gevent's loop.

psycopg itself waits by poll(), of which gevent makes a new one for each statement: that takes as long as the statement.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from gevent.socket import wait_read, wait_readwrite, wait_write
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

_Result = TypeVar("_Result")
_WAITS = {Wait.R: (wait_read, Ready.R), Wait.W: (wait_write, Ready.W), Wait.RW: (wait_readwrite, Ready.RW)}


class GeventConnection(psycopg.Connection[Any]):
    """A connection of a pool. What is between the server and us is bound by TCP alone (core/postgres/url.py)."""

    def wait(self, gen: PQGen[_Result], interval: float = 0.0, timeout: float | None = None) -> _Result:
        """Let the greenlet wait for the server, and other greenlets go on."""
        if timeout is not None:
            return super().wait(gen, timeout=timeout)
        try:
            waits_for = next(gen)
            while True:
                wait, ready = _WAITS[waits_for]
                wait(self.pgconn.socket)
                waits_for = gen.send(ready)
        except StopIteration as end:
            result: _Result = end.value
            return result
