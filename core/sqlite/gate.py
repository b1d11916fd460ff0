"""The write gate: writers of all processes queue on a lock file instead of polling SQLite's own lock unfairly."""

import contextlib
import fcntl
import functools
import os
import threading
import time
from collections.abc import Iterator

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.0001, 0.005


class GateTimeout(Exception):
    """The gate did not open in time."""


class WriteGate:
    """An flock for all processes, and a lock for the threads or greenlets of this one, which share the descriptor.

    Whoever waits for the flock has the turn, a second lock on the file, so that a process with many writers can't take
    the flock again and again while another waits.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self.disk_is_slow_until = 0.0  # monotonic; commits wait for the disk in a native thread until then
        self._path = path
        self._descriptor: int | None = None
        self._has_turn = False

    def acquire(self, timeout: float) -> bool:
        """Return whether the gate was taken within `timeout` seconds; raises OSError."""
        deadline = time.monotonic() + timeout
        if not (self._lock.acquire(timeout=timeout) if timeout else self._lock.acquire(blocking=False)):
            return False
        pause, taken = _SHORTEST_PAUSE_SECONDS, False
        try:
            while not (taken := self._take()) and time.monotonic() < deadline:
                time.sleep(pause)  # under gevent only the greenlet sleeps
                pause = min(pause * 1.2, _LONGEST_PAUSE_SECONDS)
            return taken
        finally:
            self._leave_turn()
            if not taken:
                self._lock.release()

    def release(self) -> None:
        assert self._descriptor is not None  # noqa: S101 - for the type checker
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        except OSError:  # what it guarded is done all the same, and a file that is closed is not locked
            os.close(self._descriptor)
            self._descriptor = None
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Have the gate for a block; raises GateTimeout when it can't be taken within `timeout` seconds."""
        if not self.acquire(timeout):
            raise GateTimeout
        try:
            yield
        finally:
            self.release()

    def _take(self) -> bool:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not self._has_turn:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._has_turn = True
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _leave_turn(self) -> None:
        if self._has_turn and self._descriptor is not None:
            self._has_turn = False
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


@functools.cache
def _gate_of_process(path: str, process: int) -> WriteGate:
    return WriteGate(path)


def gate_for(database: str) -> WriteGate:
    """This process's gate for a database file; a forked child opens its own."""
    return _gate_of_process(f"{database}.gate", os.getpid())
