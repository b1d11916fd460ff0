"""Waiting for the disk after a COMMIT: at once, or by whoever promises that nobody is told before it is done."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from django.db import OperationalError

from core import waits

Promise = Callable[[str], bool]


def sync(wal: str) -> None:
    """Return when all that was committed is on the disk; raises OperationalError.

    SQLite takes no locks on the file, and removes it when the last connection is closed, after a sync of its own.
    """
    try:
        descriptor = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperationalError(f"the change is made, but may not survive a power cut: {error}") from error


class _OfThread(threading.local):
    promise: Promise | None = None
    promised = ""


_of_thread = _OfThread()


@contextlib.contextmanager
def left_to(promise: Promise) -> Iterator[None]:
    """A commit of this thread asks `promise` with the path of its WAL; when that is True, it does not sync."""
    _of_thread.promise = promise
    try:
        yield
    finally:
        _of_thread.promise, _of_thread.promised = None, ""


def after_commit(wal: str) -> None:
    """Sync what this thread has just committed, unless somebody promises to; raises OperationalError."""
    if _of_thread.promise is not None and _of_thread.promise(wal):
        _of_thread.promised = wal
        return
    _of_thread.promised = ""  # what was promised before is synced along with this
    waits.about_to_wait()
    sync(wal)


def redeem() -> None:
    """Sync what was promised, now that this thread is to talk to somebody else than its caller."""
    if _of_thread.promised:
        sync(_of_thread.promised)
        _of_thread.promised = ""
