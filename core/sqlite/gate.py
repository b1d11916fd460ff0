"""The write gate: writers of all processes queue on a lock file instead of polling SQLite's own lock unfairly."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.sqlite.group_commit import Group

_PAUSE_SECONDS = 0.005  # after which who waits looks by itself: a process that is killed wakes nobody
# What the file has: of each who waits the name, and since when by the machine's monotonic clock. The first place is for
# whoever has the turn and waits for the flock, the others are for those who wait for the turn.
_PLACE = struct.Struct("=8sd")
_FOR_FLOCK, _FOR_TURN, _ALL = range(1), range(1, 17), range(17)
_NOBODY = bytes(8)


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
    process with many writers keeps the others out. Who waits for one of the two writes its name into the file. When the
    flock is free, who has the turn gets a datagram; when the turn is, who has waited longest does. A wait of which
    nobody knew ends after some milliseconds.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self.waiting: list[None] = []  # an item for each writer of this process who waits for it
        self.group: Group | None = None  # whose transaction is open, while the file stays locked
        self.disk_is_slow_until = 0.0  # monotonic; commits wait for the disk in a native thread until then
        self._path = path
        self._descriptor: int | None = None
        self._has_turn = self._is_locked = False
        self._name = secrets.token_bytes(len(_NOBODY))
        self._place: int | None = None  # in the file
        self._since, self._is_new = 0.0, True  # since when it waits, and whether it has not waited yet
        self._addresses = b""  # what they begin with
        self._sender = _datagram_socket()
        self._receiver: socket.socket | None = None

    def acquire(self, timeout: float) -> bool:
        """Return whether the gate was taken within `timeout` seconds; raises OSError."""
        began = time.monotonic()
        if not self._acquire_lock(timeout):
            return False
        self._since, self._is_new = time.monotonic(), True
        try:
            while not self._is_locked and not self._take() and time.monotonic() < began + timeout:
                self._wait()
            self._leave_turn()
        except BaseException:
            self._close()
            self._lock.release()
            raise
        is_locked = self._is_locked
        if not is_locked:
            self._lock.release()
        return is_locked

    def _acquire_lock(self, timeout: float) -> bool:
        if not timeout:
            return self._lock.acquire(blocking=False)
        self.waiting.append(None)
        try:
            return self._lock.acquire(timeout=timeout)
        finally:
            self.waiting.pop()

    def hand_on(self) -> None:
        """Let in another writer of this process, with the file still locked."""
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
            self._wake(_FOR_FLOCK)
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
                if self._is_new and any(name != self._name for _, _, name in self._waiting(_FOR_TURN)):
                    return False  # they were here first
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._has_turn = True
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._is_locked = True
        return True

    def _wait(self) -> None:
        """Wait for a datagram, or for a pause without one; under gevent only the greenlet waits."""
        try:
            if self._receiver is None:
                self._receiver = _datagram_socket(self._addresses + self._name)
            wanted = _FOR_FLOCK if self._has_turn else _FOR_TURN
            if self._place not in wanted and self._take_place(wanted):
                return  # what it waits for may have become free a moment ago
            self._is_new = False
            self._receiver.settimeout(_PAUSE_SECONDS)
            self._receiver.recv(1)
            self._place = None
        except TimeoutError:
            if not self._has_place():  # another took it at the same time
                self._place = None
        except OSError:  # the disk is full, say
            time.sleep(_PAUSE_SECONDS)

    def _take_place(self, places: range) -> bool:
        """Write who waits, and since when, into the first place that nobody has."""
        self._leave_place()
        taken = {place for _, place, _ in self._waiting(places)}
        self._place = next((place for place in places if place not in taken), None)
        if self._place is not None:
            self._write(self._place, self._name, self._since)
        return self._place is not None

    def _leave_place(self) -> None:
        if self._place is not None and self._has_place():  # else somebody has it who came later
            self._write(self._place, _NOBODY, 0)
        self._place = None

    def _has_place(self) -> bool:
        return any(place == self._place and name == self._name for _, place, name in self._waiting(_ALL))

    def _wake(self, places: range) -> None:
        """Send a datagram to whoever has waited longest in these places, and is still there."""
        for _, place, name in sorted(self._waiting(places)):
            with contextlib.suppress(OSError):
                self._write(place, _NOBODY, 0)
                self._sender.sendto(b"", self._addresses + name)
                return

    def _waiting(self, places: range) -> list[tuple[float, int, bytes]]:
        """Return who waits in these places: since when, the place, and the name."""
        assert self._descriptor is not None  # noqa: S101 - for the type checker
        table = os.pread(self._descriptor, len(places) * _PLACE.size, places.start * _PLACE.size)
        if not table.strip(b"\0"):  # as almost always
            return []
        whole = table[: len(table) // _PLACE.size * _PLACE.size]
        entries = zip(places, _PLACE.iter_unpack(whole), strict=False)
        return [(since, place, name) for place, (name, since) in entries if name != _NOBODY]

    def _write(self, place: int, name: bytes, since: float) -> None:
        assert self._descriptor is not None  # noqa: S101 - for the type checker
        os.pwrite(self._descriptor, _PLACE.pack(name, since), place * _PLACE.size)

    def _leave_turn(self) -> None:
        self._leave_place()
        if self._has_turn and self._descriptor is not None:
            self._has_turn = False
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
            self._wake(_FOR_TURN)

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        status = os.fstat(descriptor)
        self._addresses = b"\0lobwife-gate-%x-%x-" % (status.st_dev, status.st_ino)
        self._descriptor = descriptor
        if self._receiver is not None:  # its address is that of the file that was opened before
            self._receiver.close()
            self._receiver = None
        return descriptor

    def _close(self) -> None:
        """Let go of both locks, whatever state they are in: the next one to come opens the file anew."""
        descriptor, self._descriptor = self._descriptor, None
        self._has_turn = self._is_locked = False
        self._place = None
        if descriptor is not None:
            os.close(descriptor)


@functools.cache
def _gate_of_process(path: str, process: int) -> WriteGate:
    return WriteGate(path)


def gate_for(database: str) -> WriteGate:
    """This process's gate for a database file; a forked child opens its own."""
    return _gate_of_process(f"{database}.gate", os.getpid())
