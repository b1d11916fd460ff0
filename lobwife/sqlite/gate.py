"""The write gate: writers of all processes queue on a lock file instead of polling SQLite's own lock unfairly."""

import fcntl
import functools
import os
import threading
import time

_STALLED_SECONDS = 1.0
_WAITERS_WHEN_STALLED = 2
_POLL_SECONDS = 0.0002
_SLOW_POLL_SECONDS = 0.01


class GateTimeout(Exception):
    """The gate did not open in time."""


class WriteGate:
    """One flock for all processes and one lock for this process's threads, which share the descriptor.

    Once a holder has kept the gate for a second, only a few threads of a process may wait on; the others are refused
    at once, so that a stuck writer never takes the threads that answer reads and `/health`.
    """

    def __init__(self, path: str) -> None:
        self._threads = threading.Lock()
        self._counts = threading.Lock()
        self._waiting_since: list[float] = []
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self, timeout: float) -> float:
        """Take the gate within `timeout` seconds and return the seconds waited; raises GateTimeout."""
        if self._threads.acquire(blocking=False):
            if self._flock():
                return 0.0
            self._threads.release()
        start = time.monotonic()
        with self._counts:
            stalled = bool(self._waiting_since) and start - self._waiting_since[0] > _STALLED_SECONDS
            if stalled and len(self._waiting_since) >= _WAITERS_WHEN_STALLED:
                raise GateTimeout
            self._waiting_since.append(start)
        try:
            self._wait(start + timeout)
        finally:
            with self._counts:
                self._waiting_since.remove(start)
        return time.monotonic() - start

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._threads.release()

    def _wait(self, deadline: float) -> None:
        if not self._threads.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise GateTimeout
        start = time.monotonic()
        while not self._flock():
            now = time.monotonic()
            if now > deadline:
                self._threads.release()
                raise GateTimeout
            time.sleep(_POLL_SECONDS if now - start < _STALLED_SECONDS else _SLOW_POLL_SECONDS)

    def _flock(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@functools.cache
def _gate_of_process(path: str, process: int) -> WriteGate:
    return WriteGate(path)


def gate_for(database: str) -> WriteGate:
    """This process's gate for a database file; a forked child opens its own."""
    return _gate_of_process(f"{database}.gate", os.getpid())
