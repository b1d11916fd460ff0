"""Processes told apart for certain: by boot, pid and start time; and those of a run pids by their environment."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import signal
import time
from collections.abc import Callable

from jobs.execution.runs import Process

RUN_ID_VARIABLE = "LOBWIFE_RUN_ID"
# A path that no other run of any installation on this machine has: it tells whose a process is.
OUTPUT_VARIABLE = "LOBWIFE_RUN_OUTPUT"
_POLL_SECONDS = 0.02


@functools.cache
def boot_id() -> str:
    """This boot of the machine; in a container, also this container's first process."""
    kernel = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{kernel}/{_start_of(1)}/{os.readlink('/proc/self/ns/pid')}"


def identify(pid: int) -> Process:
    """Return the running process; raises ProcessLookupError."""
    started = _start_of(pid)
    if started is None:
        raise ProcessLookupError(pid)
    return Process(pid, started, boot_id())


def is_alive(process: Process) -> bool:
    """Return True while that very process runs: a reused pid does not count."""
    return process.boot_id == boot_id() and _start_of(process.pid) == process.started


def end_run(output_path: pathlib.Path, process: Process | None, *, grace: float) -> list[int]:
    """End whatever a run left on this machine; return the pids that could not be ended.

    Its supervisor is asked first, which ends the script's whole process tree; after the grace in seconds, or when the
    supervisor is gone, everything that carries the run's mark in its environment is killed.
    """
    if process and is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        _wait(lambda: not is_alive(process), grace)
        if is_alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + max(1.0, grace)
    while (pids := _of_run(output_path)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return pids


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _of_run(output_path: pathlib.Path) -> list[int]:
    """Return living processes, other than this one, that were started by the run."""
    mark = f"{OUTPUT_VARIABLE}={output_path}".encode()
    pids = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                variables = pathlib.Path("/proc", entry, "environ").read_bytes().split(b"\0")
                if mark in variables and _start_of(int(entry)) is not None:
                    pids.append(int(entry))
    return pids


def _start_of(pid: int) -> int | None:
    """Start time in clock ticks since boot; None when there is no such process, or only its remains."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else int(fields[19])
