"""The write gate: writers of all processes queue on a lock file instead of polling SQLite's own lock unfairly."""

import contextlib
import fcntl
import functools
import os
import socket
import threading
import time
from collections.abc import Iterator

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.0005, 0.005
_SLICE_SECONDS = 0.01


class GateTimeout(Exception):
    """The gate did not open in time."""


def _datagram_socket() -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.setblocking(False)
    return opened


class WriteGate:
    """An flock for all processes, and a lock for the threads or greenlets of this one, which share the descriptor.

    Whoever waits for the flock has the turn, a second lock on the file, and gets a datagram when the flock is released.
    A process that had the turn may take the flock again for a hundredth of a second, then it needs the turn anew: so
    the disk does not wait for a process that is busy otherwise, and none with many writers keeps the others out.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self.disk_is_slow_until = 0.0  # monotonic; commits wait for the disk in a native thread until then
        self._path = path
        self._descriptor: int | None = None
        self._has_turn = self._is_locked = False
        self._slice_ends = 0.0
        self._address = b""
        self._sender = _datagram_socket()
        self._receiver: socket.socket | None = None

    def acquire(self, timeout: float) -> bool:
        """Return whether the gate was taken within `timeout` seconds; raises OSError."""
        deadline = time.monotonic() + timeout
        if not (self._lock.acquire(timeout=timeout) if timeout else self._lock.acquire(blocking=False)):
            return False
        pause, taken = _SHORTEST_PAUSE_SECONDS, False
        try:
            while not (taken := self._take()) and time.monotonic() < deadline:
                self._wait(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
            return taken
        finally:
            self._leave_turn()
            if not taken:
                self._lock.release()

    def release(self) -> None:
        try:
            self.release_file()
        finally:
            self._lock.release()

    def release_file(self) -> None:
        """Let other processes in, from any thread; release() lets this one's other writers in too."""
        if not self._is_locked:
            return
        assert self._descriptor is not None  # noqa: S101 - for the type checker
        self._is_locked = False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        except OSError:  # what it guarded is done all the same, and a file that is closed is not locked
            os.close(self._descriptor)
            self._descriptor, self._slice_ends = None, 0.0
        with contextlib.suppress(OSError):  # mostly nobody waits
            self._sender.sendto(b"", self._address)

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
        descriptor = self._open() if self._descriptor is None else self._descriptor
        try:
            now = time.monotonic()
            if not self._has_turn and now >= self._slice_ends:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._has_turn = True
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._is_locked = True
        if self._has_turn:
            self._slice_ends = now + _SLICE_SECONDS
        return True

    def _wait(self, pause: float) -> None:
        """Wait for the flock to be released, or for a pause; under gevent only the greenlet waits."""
        if not self._has_turn:
            time.sleep(pause)
            return
        try:
            if self._receiver is None:
                self._receiver = _datagram_socket()
                self._receiver.bind(self._address)
                return  # it may have been released a moment ago
            self._receiver.settimeout(pause)
            self._receiver.recv(1)
        except TimeoutError:
            return
        except OSError:  # somebody else has the address
            time.sleep(pause)

    def _leave_turn(self) -> None:
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
        if self._has_turn and self._descriptor is not None:
            self._has_turn = False
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        status = os.fstat(descriptor)
        self._address = b"\0lobwife-gate-%x-%x" % (status.st_dev, status.st_ino)
        self._descriptor = descriptor
        return descriptor


@functools.cache
def _gate_of_process(path: str, process: int) -> WriteGate:
    return WriteGate(path)


def gate_for(database: str) -> WriteGate:
    """This process's gate for a database file; a forked child opens its own."""
    return _gate_of_process(f"{database}.gate", os.getpid())
