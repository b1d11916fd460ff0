"""A process that ends with its parent, however the parent ends (Linux; elsewhere it carries on)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

SUPERVISOR_VARIABLE = "LOBWIFE_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1


def stop_with_supervisor() -> None:
    """For web and daemon at their start: under `manage.py serve`, SIGTERM comes when the supervisor is no more.

    The variable is taken out of the environment, so that no script gets to see it.
    """
    supervisor = os.environ.pop(SUPERVISOR_VARIABLE, "")
    if supervisor.isdigit():
        stop_with_parent(int(supervisor))


def stop_with_parent(parent: int) -> None:
    """SIGTERM reaches this process when its parent ends, and at once if `parent` is not its parent any more."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGTERM)
