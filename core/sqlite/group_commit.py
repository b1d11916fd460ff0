"""Group commit: writers of one process that meet at the write gate share a transaction, and its COMMIT.

Each has a savepoint, so that it undoes only what it wrote. None goes on before the COMMIT; when that fails, all fail.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db.backends.sqlite3.base import Database  # type: ignore[attr-defined]
from django.db.utils import OperationalError

from core.errors import Unavailable
from core.sqlite.gate import WriteGate
from core.sqlite.messages import FAILED_TOGETHER, INTERRUPTED

log = logging.getLogger(__name__)
_MOST = 16  # writers of a transaction: those of other processes wait for them
_LONGEST_SECONDS = 0.05  # after which nobody joins it; who has joined takes as long as it takes
_PAUSE_SECONDS = 0.005  # after which who waits looks whether anybody is left to commit


class Group:
    """A transaction, from the end of its first writer's part to its COMMIT; whoever holds the gate may write in it.

    It has the connection of its first writer. `commit` commits that; `on_end` gets it back, or None when it is closed.
    """

    def __init__(
        self,
        gate: WriteGate,
        connection: Any,
        *,
        commit: Callable[[], Any],
        on_end: Callable[[Any], None],
    ) -> None:
        self.connection = connection
        self._gate = gate
        self._commit = commit
        self._on_end = on_end
        self._waiting: list[threading.Lock] = []  # of each writer who waits for the COMMIT
        self._began = time.monotonic()
        self._error = ""
        gate.group = self

    def begin(self) -> None:
        """Begin the part of another writer."""
        self.connection.execute("SAVEPOINT writer")

    def release(self) -> None:
        """End the part of another writer: from now on it is committed with the others'."""
        self.connection.execute("RELEASE writer")

    def roll_back(self) -> None:
        """Undo the part of another writer, commit the others', and release the gate."""
        try:
            self.connection.execute("ROLLBACK TO writer")
            self.release()
        except Exception:  # SQLite undoes everything when the disk is full, say
            self._error = FAILED_TOGETHER
        self._end_and_release()

    def commit(self) -> None:
        """Commit the part that was written last, and go on when it is on the disk; raises OperationalError.

        It is left to the next writer of this process who waits for the gate, if there is one.
        """
        is_open = len(self._waiting) < _MOST and time.monotonic() < self._began + _LONGEST_SECONDS
        if is_open and self._gate.waiting:
            self._wait()
        else:
            self._end_and_release()
        if self._error:
            raise OperationalError(self._error)

    def raise_undone(self) -> None:
        """Raise Unavailable where a writer has read what others had written, and that is undone.

        It is no database error: Django takes no notice of those of a rollback.
        """
        if self._error:
            raise Unavailable("what this call found was not saved after all; try again")

    def end(self) -> None:
        """Commit what all have written; the gate stays taken."""
        is_undone, self._error = bool(self._error), self._error or INTERRUPTED
        try:
            if not is_undone:
                self._commit()
                self._error = ""
        except Database.OperationalError as error:
            self._error = str(error) or FAILED_TOGETHER
        except Database.Error as error:  # whose fault it is can't be told
            log.warning("writes failed together: %s", error)
            self._error = FAILED_TOGETHER
        finally:
            if self._error:
                with contextlib.suppress(Exception):
                    self.connection.rollback()
                with contextlib.suppress(Exception):
                    self.connection.close()
            self._gate.group = None
            self._on_end(None if self._error else self.connection)
            for ended in self._waiting:
                ended.release()

    def _end_and_release(self) -> None:
        try:
            self.end()
        finally:
            self._gate.release()

    def _wait(self) -> None:
        ended = threading.Lock()
        ended.acquire()
        self._waiting.append(ended)
        self._gate.hand_on()
        while not ended.acquire(timeout=_PAUSE_SECONDS):
            if self._gate.acquire(0):  # the next writer has given up
                if self._gate.group is self:
                    self._end_and_release()
                else:
                    self._gate.release()
