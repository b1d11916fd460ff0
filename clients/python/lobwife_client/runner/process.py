"""A command under a supervisor: a small program that ends the command, and all that it started, when this one ends.

The program is that of lobwife's own jobs (`supervisor/`): it takes the orphans of the command, so that nothing leaves
by a double fork or a session of its own, and keeps the output bounded, its head and its tail.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SUPERVISOR = pathlib.Path(__file__).parent / "supervisor"
_PR_SET_DUMPABLE = 4
_KILL_SECONDS = 10.0  # that a supervisor may take beyond the grace
_FOR_PYTHON = ("PATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Ending:
    """How a command ended. `outcome` is exited, aborted (by stop()), timeout, or error: it could not be run."""

    outcome: str
    exit_code: int | None = None
    note: str = ""
    seconds: float = 0.0

    @property
    def is_success(self) -> bool:
        return self.outcome == "exited" and self.exit_code == 0

    def __str__(self) -> str:
        return self.note or f"exit {self.exit_code}"


def hide_from_children() -> None:
    """Keep other processes of this account from reading this one's environment and memory; root's still can."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def start_supervisor() -> subprocess.Popen[bytes]:
    """Start a supervisor, which waits for its command: half of the time that it takes to start one. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(SUPERVISOR)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: os.environ[name] for name in _FOR_PYTHON if name in os.environ},
        start_new_session=True,
        cwd="/",
    )


class Process:
    """A command that runs."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: pathlib.Path,
        output: pathlib.Path,
        output_limit: int,
        grace: float,
        timeout: float | None = None,
        secrets: Sequence[str] = (),
        supervisor: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Start it, under a supervisor that waits or a new one; `secrets` are masked in its output. Raises OSError."""
        self._grace = grace
        self._ending: Ending | None = None
        self._supervisor = supervisor or start_supervisor()
        self._send(
            json.dumps(
                {
                    "command": list(command),
                    "environment": dict(environment),
                    "directory": str(directory),
                    "timeout": timeout,
                    "grace": grace,
                    "output": str(output),
                    "output_limit": output_limit,
                    "result": str(output.with_suffix(".result")),
                    "secrets": list(secrets),
                }
            )
        )

    def wait(self, seconds: float) -> Ending | None:
        """Wait at most so long; None while it runs."""
        stdout = self._supervisor.stdout
        if self._ending is not None or stdout is None:
            return self._ending
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        line = stdout.read()
        code = self._supervisor.wait()
        for pipe in (self._supervisor.stdin, stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._ending = _ending(line, code)
        return self._ending

    def stop(self, *, at_once: bool = False) -> None:
        """Order it to end: SIGTERM to all its processes, SIGKILL after the grace, or at once."""
        if at_once:
            with contextlib.suppress(ProcessLookupError):
                self._supervisor.terminate()
        else:
            self._send(f"stop {self._grace}")

    def end(self) -> Ending:
        """Stop it and wait until nothing of it is left."""
        self.stop()
        ending = self.wait(self._grace + _KILL_SECONDS)
        while ending is None:
            self._supervisor.kill()
            ending = self.wait(_KILL_SECONDS)
        return ending

    def _send(self, line: str) -> None:
        if self._supervisor.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended
                self._supervisor.stdin.write(line.encode() + b"\n")
                self._supervisor.stdin.flush()


def _ending(line: bytes, code: int) -> Ending:
    try:
        result = json.loads(line)
    except ValueError:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Ending("error", note=f"the supervisor of the command ended unexpectedly ({how})")
    return Ending(result["outcome"], result.get("exit_code"), result["note"], result["duration"])
