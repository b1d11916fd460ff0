"""A script's family: every process that came of it, wherever it went."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable

_PR_SET_CHILD_SUBREAPER = 36
_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.02


def become_subreaper() -> None:
    """Orphans among our descendants become our children, so none can leave by a double fork or a new session."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_family(grace: float, meanwhile: Callable[[], bool]) -> list[int]:
    """SIGTERM to all descendants, SIGKILL after the grace in seconds; returns the pids that are still there.

    `meanwhile` is called while waiting, and cuts the grace short when it answers true.
    """
    deadline = time.monotonic() + grace
    if grace > 0 and _signal_all(signal.SIGTERM):
        while _descendants() and not meanwhile() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    deadline = time.monotonic() + _KILL_SECONDS
    while _signal_all(signal.SIGKILL) and time.monotonic() < deadline:
        meanwhile()
        time.sleep(_POLL_SECONDS)
    return _descendants()


def reap_orphans(script: int) -> None:
    """Wait for adopted processes that ended, so that they don't pile up; the script's own end is left to be read."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == script:
                return
            os.waitpid(ended.si_pid, 0)


def _signal_all(number: signal.Signals) -> bool:
    """Signal every living descendant; whether there was any."""
    found = _descendants()
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(found)


def _descendants() -> list[int]:
    """The living, after those that ended have been waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    rest = [os.getpid()]
    while rest:
        below = children.get(rest.pop(), [])
        found += below
        rest += below
    return found
