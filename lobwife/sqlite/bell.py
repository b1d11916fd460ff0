"""A bell that commits ring and the daemon listens to, so that it need not look at the database all the time.

A FIFO beside the database. It carries no news: who hears it looks for what changed. Writers that don't ring, such as
the sqlite3 shell, are noticed by whoever also looks now and then.
"""

import contextlib
import errno
import logging
import os
import stat

log = logging.getLogger(__name__)


def _path(database: str) -> str:
    return f"{database}.bell"


def ring(database: str) -> None:
    """Tell who listens that something was committed; nothing when nobody does."""
    with contextlib.suppress(OSError):
        descriptor = os.open(_path(database), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"\0")
        finally:
            os.close(descriptor)


class Bell:
    """To be waited on with select(): readable once it was rung, until `hush()`; never, where there can be no FIFO."""

    def __init__(self, database: str) -> None:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(_path(database), 0o600)
            # For writing too: else it would be at its end, and readable, whenever no commit is at it.
            self._descriptor = os.open(_path(database), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):  # as a copy of the folder may have made of it
                os.close(self._descriptor)
                raise FileExistsError(errno.EEXIST, "something else has its name")
        except OSError as error:
            log.warning("%s can't be made (%s): changes are noticed a moment later", _path(database), error.strerror)
            self._descriptor, self._never_written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._descriptor

    def hush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 65536)
