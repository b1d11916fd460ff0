"""A bell that commits ring and the daemon listens to, so that it need not look at the database all the time.

A socket of the machine's, or of the pod's, named after the database's folder. It carries no news: who hears it looks
for what changed. Writers that don't ring, such as the sqlite3 shell, are noticed by whoever also looks now and then.
"""

import contextlib
import functools
import logging
import os
import socket

log = logging.getLogger(__name__)


def _opened() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


def _name(database: str) -> bytes:
    """In the abstract namespace: no file, and nothing left of a process that was killed. Raises OSError."""
    folder = os.stat(os.path.dirname(database))
    return b"\0lobwife-bell-%x-%x" % (folder.st_dev, folder.st_ino)


def ring(database: str) -> None:
    """Tell who listens that something was committed; nothing when nobody does."""
    with contextlib.suppress(OSError):
        _caller().sendto(b"\0", _name(database))


@functools.cache
def _caller() -> socket.socket:
    """One for all threads, and for children of a fork: what is sent on it goes to whoever it is sent to."""
    return _opened()


class Bell:
    """To be waited on with select(): readable once it was rung, until `hush()`; never, where its name is taken."""

    def __init__(self, database: str) -> None:
        self._socket = _opened()
        try:
            self._socket.bind(_name(database))
        except OSError as error:
            log.warning("changes are noticed a moment later: no bell can be made (%s)", error.strerror)

    def fileno(self) -> int:
        return self._socket.fileno()

    def hush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(16):
                pass

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
