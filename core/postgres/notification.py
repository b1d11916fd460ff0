"""Notification of commits by LISTEN and NOTIFY, on one channel of the database.

It carries no news: who is notified looks for what changed. NOTIFY is the last statement of a transaction: after it, it
would be a commit of its own, which waits for the disk once more. That it keeps other commits waiting changes nothing,
since transactions are one after the other anyway.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from core.processes import backoff

log = logging.getLogger(__name__)
CHANNEL = "lobwife_commits"
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 10.0


class Listener:
    """A connection of its own for select(): readable after a commit, until `drain()`, which also opens it again.

    While the database can't be reached its descriptor is one that never becomes readable.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = {**parameters, "application_name": "lobwife, listening", "autocommit": True}
        self._connection: psycopg.Connection[Any] | None = None
        self._idle_ends = os.pipe2(os.O_CLOEXEC)
        self._failures, self._retry_at = 0, 0.0
        self._open()

    def fileno(self) -> int:
        return self._idle_ends[0] if self._connection is None else self._connection.fileno()

    def drain(self) -> None:
        if self._connection is None:
            if time.monotonic() >= self._retry_at:
                self._open()
            return
        try:
            self._connection.pgconn.consume_input()
            while self._connection.pgconn.notifies():
                pass
        except psycopg.Error as error:
            self._fail(error)

    def close(self) -> None:
        self._disconnect()
        for end in self._idle_ends:
            os.close(end)

    def _open(self) -> None:
        try:
            self._connection = psycopg.connect(**self._parameters)
            self._connection.execute(f"LISTEN {CHANNEL}")
        except psycopg.Error as error:
            self._fail(error)
            return
        if self._failures:
            log.info("commits are listened for again")
        self._failures = 0

    def _fail(self, error: psycopg.Error) -> None:
        self._disconnect()
        self._failures += 1
        self._retry_at = time.monotonic() + backoff(self._failures, _SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        if self._failures == 1:
            log.warning("changes are noticed a moment later: commits can't be listened for (%s)", str(error).strip())

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()
