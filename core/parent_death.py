"""PR_SET_PDEATHSIG: a process is terminated when its parent ends (on Linux only)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

SUPERVISOR_VARIABLE = "LOBWIFE_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1


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
