"""The write gate: writers of all processes queue on a lock file instead of polling SQLite's own lock unfairly."""

import contextlib
import fcntl
import functools
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.0005, 0.005
_NAME_BYTES = 8
# Where in the file the name is of who waits for the flock, and of who waits for the turn.
_FOR_FLOCK, _FOR_TURN = 0, _NAME_BYTES
_NOBODY = bytes(_NAME_BYTES)


class GateTimeout(Exception):
    """The gate did not open in time."""


def _datagram_socket(address: bytes | None = None) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.setblocking(False)
    if address is not None:
        opened.bind(address)
    return opened


class WriteGate:
    """An flock for all processes, and a lock for the threads or greenlets of this one, which share the descriptor.

    The flock is for whoever has the turn, a second lock on the file, which is let go of with the flock in hand: so no
    process with many writers keeps the others out. Who waits for one of the two writes its name into the file, and gets
    a datagram when that is free; a wait of which nobody knew ends after some milliseconds.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self.disk_is_slow_until = 0.0  # monotonic; commits wait for the disk in a native thread until then
        self._path = path
        self._descriptor: int | None = None
        self._has_turn = self._is_locked = False
        self._name = secrets.token_bytes(_NAME_BYTES)
        self._waits_for: int | None = None  # what the file says
        self._addresses = b""  # what they begin with
        self._sender = _datagram_socket()
        self._receiver: socket.socket | None = None

    def acquire(self, timeout: float) -> bool:
        """Return whether the gate was taken within `timeout` seconds; raises OSError."""
        deadline = time.monotonic() + timeout
        if not (self._lock.acquire(timeout=timeout) if timeout else self._lock.acquire(blocking=False)):
            return False
        pause = _SHORTEST_PAUSE_SECONDS
        try:
            while not self._take() and time.monotonic() < deadline:
                self._wait(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
            self._leave_turn()
        except BaseException:
            self._close()
            self._lock.release()
            raise
        if not self._is_locked:
            self._lock.release()
        return self._is_locked

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
            self._wake(self._descriptor, _FOR_FLOCK)
        except OSError:  # what it guarded is done all the same, and a file that is closed is not locked
            self._close()

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
            if not self._has_turn:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._has_turn = True
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._is_locked = True
        return True

    def _wait(self, pause: float) -> None:
        """Wait for a datagram, or for a pause; under gevent only the greenlet waits."""
        assert self._descriptor is not None  # noqa: S101 - for the type checker
        wanted = _FOR_FLOCK if self._has_turn else _FOR_TURN
        try:
            if self._receiver is None:
                self._receiver = _datagram_socket(self._addresses + self._name)
            if self._waits_for != wanted:
                os.pwrite(self._descriptor, self._name, wanted)
                self._waits_for = wanted
                return  # it may have become free a moment ago
            self._receiver.settimeout(pause)
            self._receiver.recv(1)
            self._waits_for = None
        except TimeoutError:
            return
        except OSError:  # the disk is full, say
            time.sleep(pause)

    def _wake(self, descriptor: int, wanted: int) -> None:
        """Send a datagram to whoever waits for this."""
        name = os.pread(descriptor, _NAME_BYTES, wanted)
        if name.strip(b"\0"):
            with contextlib.suppress(OSError):  # it does not wait any more, or the disk is full
                os.pwrite(descriptor, _NOBODY, wanted)
                self._sender.sendto(b"", self._addresses + name)

    def _leave_turn(self) -> None:
        self._waits_for = None
        if self._has_turn and self._descriptor is not None:
            self._has_turn = False
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
            self._wake(self._descriptor, _FOR_TURN)

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        status = os.fstat(descriptor)
        self._addresses = b"\0lobwife-gate-%x-%x-" % (status.st_dev, status.st_ino)
        self._descriptor = descriptor
        return descriptor

    def _close(self) -> None:
        """Let go of both locks, whatever state they are in: the next one to come opens the file anew."""
        descriptor, self._descriptor = self._descriptor, None
        self._has_turn = self._is_locked = False
        self._waits_for = None
        if descriptor is not None:
            os.close(descriptor)


@functools.cache
def _gate_of_process(path: str, process: int) -> WriteGate:
    return WriteGate(path)


def gate_for(database: str) -> WriteGate:
    """This process's gate for a database file; a forked child opens its own."""
    return _gate_of_process(f"{database}.gate", os.getpid())
