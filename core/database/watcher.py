"""One watcher for each process, which lets those who wait look at the database when something was committed.

It runs only while somebody waits. Under gevent it is a greenlet.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import threading
import time
from typing import Protocol

from django.db import connection
from django.db.utils import DatabaseError

from core.database.backend import Listener, listener

log = logging.getLogger(__name__)
# Time alone may bring what somebody waits for, and a commit of a shell notifies nobody.
_LOOK_SECONDS = 1.0
_TOGETHER_SECONDS = 0.005  # what is committed so soon after a commit is looked at with it
_BETWEEN_LOOKS_SECONDS = 0.025  # where commits come one after the other, looks must not take the processor from them


class Party(Protocol):
    """Some who wait for the same kind of thing."""

    def is_empty(self) -> bool:
        """Return whether nobody waits."""

    def look(self) -> None:
        """Look at the database, and wake whom it concerns."""

    def close(self) -> None:
        """Have everybody go: the process stops."""


class Watcher:
    """Lets its parties look after each commit, and once a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parties: list[Party] = []
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_running = False
        self._looked_at = 0.0

    def watch_for(self, party: Party) -> None:
        """Let a party look from now on, until nobody of it waits."""
        with self._lock:
            if party not in self._parties:
                self._parties.append(party)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="watcher of commits", daemon=True).start()

    def look_soon(self) -> None:
        """Let the parties look without a commit."""
        try:
            os.write(self._write_end, b"\0")
        except BlockingIOError:  # it is full: a look is due anyway
            return

    def close(self) -> None:
        """Have all who wait go: the process stops."""
        for party in list(self._parties):
            party.close()

    def _run(self) -> None:
        while True:
            try:
                with contextlib.closing(listener(is_web=True)) as commits:
                    self._look_after_commits(commits)
                    return
            except Exception:  # without this thread nobody who waits would ever be woken
                log.exception("those who wait are looked after again in a second")
                time.sleep(_LOOK_SECONDS)

    def _look_after_commits(self, commits: Listener) -> None:
        while parties := self._waiting_parties():
            self._pause(commits)
            try:
                for party in parties:
                    party.look()
            except DatabaseError as error:
                log.warning("those who wait: the database can't be read: %s", error)
                time.sleep(_LOOK_SECONDS)
            finally:
                connection.close()

    def _waiting_parties(self) -> list[Party]:
        with self._lock:
            self._parties = [party for party in self._parties if not party.is_empty()]
            self._is_running = bool(self._parties)
            return list(self._parties)

    def _pause(self, commits: Listener) -> None:
        """Wait for a commit, at most for a second; commits in a row are looked at together."""
        select.select([commits.fileno(), self._read_end], [], [], _LOOK_SECONDS)
        time.sleep(max(_TOGETHER_SECONDS, self._looked_at + _BETWEEN_LOOKS_SECONDS - time.monotonic()))
        self._looked_at = time.monotonic()
        commits.drain()
        try:
            while os.read(self._read_end, 4096):
                pass
        except BlockingIOError:
            return


@functools.cache
def _watcher_of_process(database: str, process: int) -> Watcher:
    return Watcher()


def watcher() -> Watcher:
    """Return this process's watcher; a forked child has its own."""
    return _watcher_of_process(str(connection.settings_dict["NAME"]), os.getpid())
