"""Which daemon leads: on SQLite the only one, on PostgreSQL the one that has the database's lock."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from typing import IO, Any

from django.conf import settings
from django.db import connection
from django.db.utils import DatabaseError

from core.database.backend import server
from core.errors import Conflict, Unavailable
from jobs import nodes

log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


class Lead:
    """The time for which a daemon leads, until `over` is set. Without a term no other daemon can lead meanwhile."""

    def __init__(self, term: int | None = None) -> None:
        self.term = term
        self.over = threading.Event()

    def bind_thread(self) -> None:
        """Have all transactions of this thread committed only while no other daemon has led since."""
        if self.term is not None:
            connection.set_fence(nodes.fence(self.term))  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def bound(self) -> Iterator[None]:
        """Have the transactions of a block committed only while no other daemon has led since."""
        self.bind_thread()
        try:
            yield
        finally:
            if self.term is not None:
                connection.set_fence("")  # type: ignore[attr-defined]


class Candidacy:
    """What makes a daemon the leader. As it is here it never leads: a runner."""

    lead: Lead | None = None

    def stand(self) -> None:
        """Begin; raises LobwifeError when this daemon can't run at all."""

    def resign(self) -> None:
        """Let others lead: nothing runs here any more that the leader does. Stand again."""

    def withdraw(self) -> None:
        """Let others lead, and stand no more: the daemon ends."""


def candidacy() -> Candidacy:
    """Return what decides who leads on this database."""
    database = server()
    return SingleDaemon() if database is None else Election(database.leader_lock())


class SingleDaemon(Candidacy):
    """The daemon of a state directory, of which there is one; it leads as long as it runs, and has the lock as long."""

    def __init__(self) -> None:
        self.lead: Lead | None = None
        self._file: IO[str] | None = None

    def stand(self) -> None:
        path = settings.STATE_DIR / "daemon.lock"
        try:
            self._file = open(path, "a+")  # noqa: SIM115 held for the life of the process
        except OSError as error:
            raise Unavailable(f"{path} can't be opened: {error.strerror}; check LOBWIFE_STATE_DIR") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = self._file.read().strip() or "unknown"
            raise Conflict(
                f"another daemon (pid {pid}) works on {settings.STATE_DIR}: stop it first, or set LOBWIFE_STATE_DIR"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        self.lead = Lead()


class Election(Candidacy):
    """Stands for leader in a thread of its own, which keeps the lock while this daemon has it.

    A lead that is over stays here until `resign()`: so this daemon never leads twice at once.
    """

    def __init__(self, lock: Any) -> None:
        self.lead: Lead | None = None
        self._lock = lock
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    def stand(self) -> None:
        self._turn()  # at once, so that the first daemon leads from its start
        self._thread.start()

    def resign(self) -> None:
        self.lead = None

    def withdraw(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            try:
                self._turn()
            except Exception:  # without this thread nobody would notice that the lock is lost
                log.exception("the election failed; it is tried again")
                self._lose()
        self._lose()
        connection.close()

    def _turn(self) -> None:
        if self.lead is None:
            if self._lock.acquire():
                self._begin()
        elif not self.lead.over.is_set() and not self._lock.is_held(nodes.fence(self.lead.term)):
            log.warning("this daemon leads no longer: another does, it lost its lock, or the database does not answer")
            self._lose()

    def _begin(self) -> None:
        try:
            term = nodes.begin_term()
        except DatabaseError as error:
            log.error("this daemon can't lead yet: %s", error)
            self._lock.release()
            connection.close()
            return
        log.info("this daemon leads (term %s)", term)
        self.lead = Lead(term)

    def _lose(self) -> None:
        if self.lead is not None:
            self.lead.over.set()
        self._lock.release()
