"""Notification of commits by a datagram, so that nobody needs to look at the database all the time.

The daemon listens, and each web process while claims wait in it. Each has an address of its own, and a commit sends to
all of them: to one where nobody listens costs two microseconds.

The socket is the machine's, or the pod's, and named after the database's folder. It carries no news: who gets a
datagram looks for what changed. Writers that send none, such as the sqlite3 shell, are noticed by whoever also looks
now and then.
"""

import contextlib
import functools
import logging
import os
import socket
from typing import Any

from django.conf import settings
from django.db import connection

log = logging.getLogger(__name__)


def _opened() -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.setblocking(False)
    return opened


def _address(database: str) -> bytes:
    """In the abstract namespace: no file, and nothing left of a process that was killed. Raises OSError."""
    folder = os.stat(os.path.dirname(database))
    return b"\0lobwife-commits-%x-%x" % (folder.st_dev, folder.st_ino)


def _web_addresses(address: bytes) -> list[bytes]:
    return [b"%s-web-%d" % (address, number) for number in range(settings.WEB_WORKERS)]


def notify(database: str) -> None:
    """Tell the listeners that something was committed; nothing when there is none."""
    with contextlib.suppress(OSError):
        address = _address(database)
        for each in (address, *_web_addresses(address)):
            with contextlib.suppress(OSError):
                _sender().sendto(b"\0", each)


@functools.cache
def _sender() -> socket.socket:
    """One for all threads, and for children of a fork: what is sent on it goes to whoever it is sent to."""
    return _opened()


class Listener:
    """A socket for select(): readable after a commit, until `drain()`; never, where another has the address."""

    def __init__(self, database: str, *, is_web: bool = False) -> None:
        self._socket = _opened()
        try:
            address = _address(database)
            self._bind(_web_addresses(address) if is_web else [address])
        except OSError as error:
            log.warning("changes are noticed a moment later: commits can't be listened for (%s)", error.strerror)

    def _bind(self, addresses: list[bytes]) -> None:
        """Take the first address that is free; raises OSError."""
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                self._socket.bind(address)
                return
        self._socket.bind(addresses[-1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(16):
                pass

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


def data_version() -> tuple[int, int]:
    """Return a pair that changes when any connection has written. Past Django's cursors: 3 µs instead of 30."""
    if connection.connection is None:
        connection.ensure_connection()
    raw: Any = connection.connection
    with connection.wrap_database_errors:
        others: int = raw.execute("PRAGMA data_version").fetchone()[0]
    own: int = raw.total_changes
    return others, own
