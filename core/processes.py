"""Processes and threads: ending with a parent, private files, open files, native threads under gevent, back-off."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
SUPERVISOR_VARIABLE = "LOBWIFE_SUPERVISOR_PID"
UMASK_VARIABLE = "LOBWIFE_UMASK"  # of whoever started us; jobs/supervisor gives it to scripts
_PR_SET_PDEATHSIG = 1  # on Linux only


def keep_files_private() -> None:
    """Have all files of this process and its children readable by its user alone; scripts get the former umask."""
    os.environ.setdefault(UMASK_VARIABLE, f"{os.umask(0o077):03o}")


def stop_with_supervisor() -> None:
    """Under `manage.py serve`, have this process terminated when the supervisor ends.

    The variable is removed from the environment, so that no script inherits it.
    """
    supervisor = os.environ.pop(SUPERVISOR_VARIABLE, "")
    if supervisor.isdigit():
        stop_with_parent(int(supervisor))


def stop_with_parent(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent ends, and at once if `parent` has ended already."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:  # it ended before prctl
        os.kill(os.getpid(), signal.SIGTERM)


def raise_open_files() -> int:
    """Raise the soft limit of open files to the hard one and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def is_under_gevent() -> bool:
    """Return whether threads of this process are greenlets."""
    monkey = sys.modules.get("gevent.monkey")  # only web imports it: that takes 30 ms
    return monkey is not None and monkey.is_module_patched("threading")


def in_native_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call the function in gevent's thread pool; directly in processes that don't run under gevent."""
    if not is_under_gevent():
        return function(*arguments)
    result, error = sys.modules["gevent"].get_hub().threadpool.apply(_outcome, (function, arguments))
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _outcome(function: Callable[..., T], arguments: tuple[Any, ...]) -> tuple[T | None, Exception | None]:
    """Return the result or the exception: the pool itself would print a traceback of each."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


def backoff(attempt: int, first: float, most: float) -> float:
    """Return the seconds to wait after a failed attempt: `first` after attempt 0, doubled each time, at most `most`."""
    return min(most, first * 2.0 ** min(attempt, 30))  # beyond 30 every `most` is reached, and no number grows huge
