"""The write gate: writers of all processes queue on a lock file instead of polling SQLite's own lock unfairly."""

import contextlib
import fcntl
import functools
import os
import threading
import time
from collections.abc import Iterator

from core import waits

_STALLED_SECONDS = 0.6
_WAITERS_WHEN_STALLED = 1
_LOOK_SECONDS = 0.1
_PATIENT_SECONDS = 8.0
_MOMENT_SECONDS = 0.001
_POLL_SECONDS = 0.0001
_SLOW_POLL_SECONDS = 0.01


class GateTimeout(Exception):
    """The gate did not open in time."""


class WriteGate:
    """One flock for all processes and one lock for this process's threads, which share the descriptor.

    Once the gate has not moved for 0.6 s only the thread that came first waits on; the others are refused, so that a
    stuck writer never takes the threads that answer reads and `/health`, which probes give a second. Who came with a
    timeout longer than any call has, as the daemon does, waits on all the same.
    """

    def __init__(self, path: str) -> None:
        self._threads = threading.Lock()
        self._counts = threading.Lock()
        self._waiting: list[object] = []
        self._moved = time.monotonic()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self, timeout: float) -> float:
        """Take the gate within `timeout` seconds and return the seconds waited; raises GateTimeout."""
        if self._threads.acquire(blocking=False):
            if self._flock() or self._flock_soon(timeout):
                self._moved = time.monotonic()
                return 0.0
            self._threads.release()
        waits.about_to_wait()
        start, ticket = time.monotonic(), object()
        with self._counts:
            if not self._waiting:
                self._moved = start
            self._waiting.append(ticket)
        try:
            self._wait(None if timeout > _PATIENT_SECONDS else ticket, start + timeout)
        finally:
            with self._counts:
                self._waiting.remove(ticket)
        self._moved = time.monotonic()
        return self._moved - start

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._moved = time.monotonic()
        self._threads.release()

    @contextlib.contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Have the gate for a block; raises GateTimeout when it can't be taken within `timeout` seconds."""
        self.acquire(timeout)
        try:
            yield
        finally:
            self.release()

    def _wait(self, ticket: object | None, deadline: float) -> None:
        while True:
            self._stay(ticket, deadline)
            if self._threads.acquire(timeout=_LOOK_SECONDS):
                break
        start = time.monotonic()
        try:
            while not self._flock():
                self._stay(ticket, deadline)
                waited = time.monotonic() - start
                time.sleep(_POLL_SECONDS if waited < _STALLED_SECONDS else _SLOW_POLL_SECONDS)
        except BaseException:
            self._threads.release()
            raise

    def _stay(self, ticket: object | None, deadline: float) -> None:
        """Raises GateTimeout for a thread that must not wait any longer."""
        now = time.monotonic()
        if now > deadline:
            raise GateTimeout
        if ticket is not None and now - self._moved > _STALLED_SECONDS:
            with self._counts:
                place = self._waiting.index(ticket)
            if place >= _WAITERS_WHEN_STALLED:
                raise GateTimeout

    def _flock_soon(self, timeout: float) -> bool:
        """Most transactions take less than a millisecond: less than to let another thread lead meanwhile."""
        deadline = time.monotonic() + min(timeout, _MOMENT_SECONDS)
        while time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            if self._flock():
                return True
        return False

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
