"""The process tree of a script: started in a session of its own, ended with all its descendants."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.02
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Orphans among our descendants become our children, so none can leave by a double fork or a new session."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def fork_guarded() -> int:
    """Fork; the child gets SIGTERM when this process ends, and takes the orphans. Return its pid, 0 in the child."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        become_subreaper()  # a child does not inherit it
        if os.getppid() != parent:
            os._exit(0)
    return child


def guard(child: int) -> int:
    """Pass SIGTERM on to the child until it ends; return its exit code. End all that it leaves when it is killed."""

    def pass_on(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    signal.signal(signal.SIGTERM, pass_on)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        end(0.0, lambda: True)
    return code if code >= 0 else 128 - code


def start(command: list[str], environment: dict[str, str], directory: str) -> subprocess.Popen[bytes]:
    """Start a script, its output and errors in one pipe; raises OSError with a sentence when it can't be."""
    supervisor = os.getpid()
    umask = int(environment.pop("LOBWIFE_UMASK", "-1"), 8)  # the daemon's own keeps files private; -1 changes nothing

    def die_with_the_supervisor() -> None:
        """Also when that is killed; what the script started is found by its environment."""
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(127)

    try:
        return subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_the_supervisor,  # safe, since this process has one thread
            cwd=directory,
            env=environment,
            start_new_session=True,
            umask=umask,
        )
    except OSError as error:
        path = f"its working directory {directory}" if error.filename == directory else command[0]
        raise OSError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise OSError(f"{command[0]}: {error}") from None


def end(grace: float, meanwhile: Callable[[], bool]) -> list[int]:
    """SIGTERM to all descendants, SIGKILL after the grace in seconds; return the pids that are still there.

    `meanwhile` is called while waiting, and cuts the grace short when it returns True.
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
    """Signal every living descendant; return whether there was any."""
    pids = _descendants()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(pids)


def _descendants() -> list[int]:
    """Return the pids of the living, after those that ended have been waited for."""
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
    descendants: list[int] = []
    rest = [os.getpid()]
    while rest:
        below = children.get(rest.pop(), [])
        descendants += below
        rest += below
    return descendants
