"""The lock of the daemon that leads: an advisory lock of the database."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import pq

log = logging.getLogger(__name__)
_KEY = 0x6C6F626C656164  # "loblead" in ASCII
_ANSWER_SECONDS = 3.0
# The server ends the connection of a leader that is stopped or out of reach, whatever is between, and so its lock.
_SILENT_SECONDS = 8


class LeaderLock:
    """A lock that one process of all has, on a connection of its own: who is dead, stopped or cut off loses it.

    A process may believe for a few seconds more that it has it: what it writes then is kept out by its fence.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        options = f"{parameters.get('options', '')} -c idle_session_timeout={_SILENT_SECONDS}s"
        names = {"application_name": "lobwife, leading or waiting to", "autocommit": True, "options": options}
        self._parameters = {**parameters, **names}
        self._connection: psycopg.Connection[Any] | None = None
        self._is_reachable = True

    def acquire(self) -> bool:
        """Take the lock; return False when another has it, or the database can't be reached."""
        return self._ask(f"SELECT pg_try_advisory_lock({_KEY})") == b"t"

    def is_held(self, query: str) -> bool:
        """Return whether it is still ours, once it was acquired: its connection lives, and the query answers 1."""
        return self._connection is not None and self._ask(query) == b"1"

    def release(self) -> None:
        """Let go of it, without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ask(self, sql: str) -> bytes | None:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(**self._parameters)
            answer = _answer(self._connection.pgconn, sql.encode())
        except psycopg.Error as error:
            if self._is_reachable:
                log.warning("the lock of the daemon that leads can't be asked for: %s", " ".join(str(error).split()))
            self._is_reachable = False
            self.release()
            return None
        self._is_reachable = True
        return answer


def _answer(connection: pq.abc.PGconn, sql: bytes) -> bytes | None:
    """Return the one value that a query answers; raises psycopg.Error, also when it comes too late."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    connection.send_query(sql)
    connection.flush()
    value: bytes | None = None
    while True:
        connection.consume_input()
        while not connection.is_busy():
            result = connection.get_result()
            if result is None:
                return value
            if result.status != pq.ExecStatus.TUPLES_OK:
                raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
            value = result.get_value(0, 0)
        if not select.select([connection.socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise psycopg.OperationalError(f"the server did not answer within {_ANSWER_SECONDS:.0f} s")
