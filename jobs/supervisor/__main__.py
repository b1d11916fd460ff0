"""The supervisor of one run: a program of its own that starts the script, keeps its output and leaves nothing behind.

The daemon starts it with the run's id as its only argument and talks to it over two pipes. On stdin comes one line of
JSON with what to do; the script starts only then, so that a daemon that dies before it has recorded the run starts
nothing. `stop N` on stdin ends the script with N seconds of grace; the end of stdin means that the daemon is gone, and
does the same. On stdout goes one line of JSON with the result; the same is left in a file first, for a daemon that
comes later. SIGTERM ends the script without grace.

It is two processes, each of which ends the script when the other is killed: whatever a script starts, however hidden,
descends from both.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time

import process_tree
from capture import Capture

TYPE_CHECKING = False  # importing typing would take a tenth of the start
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536
_IDLE_SECONDS = 0.25
_LEFTOVER_GRACE = 0.5
_ORDERS = 0  # stdin


class Stop(Exception):
    """The script is to be ended, with an outcome and a note for the result."""

    def __init__(self, outcome: str, note: str, grace: float) -> None:
        super().__init__(note)
        self.outcome, self.note, self.grace = outcome, note, grace


class Run:
    """One execution of a script, from its start to the last of its processes."""

    def __init__(self, spec: dict[str, Any], orders: bytes) -> None:
        """`orders`: what the daemon wrote after the spec already. Raises OSError when the script can't be started."""
        self.spec = spec
        self.orders = orders
        self.hurry = False
        signal.signal(signal.SIGTERM, self._on_sigterm)
        secrets = [os.fsencode(secret) for secret in spec["secrets"]]
        self.capture = Capture(spec["output"], spec["output_limit"], secrets)
        self.start = time.monotonic()
        self.script = process_tree.start(spec["command"], spec["environment"], spec["directory"])
        self.pipe = self.script.stdout.fileno()
        os.set_blocking(self.pipe, False)
        self.pipe_open = True
        self.exited = os.pidfd_open(self.script.pid)

    def wait(self) -> dict[str, Any]:
        """Wait for the end, or bring it about; return the result."""
        limit = self.spec["timeout"]
        try:
            result = self._follow(self.start + limit if limit else None)
        except Stop as stop:
            result = {"outcome": stop.outcome, "note": stop.note}
            left = process_tree.end(stop.grace, self._meanwhile)
            if left:
                result = {"outcome": "error", "note": f"could not be ended: process {', '.join(map(str, left))}"}
        duration = result.pop("duration", time.monotonic() - self.start)
        self._copy(until_empty=True)
        self.capture.close()
        if self.capture.failure:
            result |= {"outcome": "error", "note": f"the output could not be written: {self.capture.failure}"}
        return {**result, "duration": duration, "bytes": self.capture.size}

    def _follow(self, deadline: float | None) -> dict[str, Any]:
        """Copy output and watch the daemon until the script's own process ended; raises Stop."""
        grace = self.spec["grace"]
        poll = select.poll()
        for descriptor in (self.pipe, _ORDERS, self.exited):
            poll.register(descriptor, select.POLLIN)
        while True:
            if self.orders:
                _obey(self.orders)
            wait = _IDLE_SECONDS if deadline is None else min(_IDLE_SECONDS, max(0.0, deadline - time.monotonic()))
            ready = {descriptor for descriptor, _ in poll.poll(wait * 1000)}
            if self.pipe in ready:
                self._copy()
                if not self.pipe_open:
                    poll.unregister(self.pipe)
            elif not ready:
                process_tree.reap_orphans(self.script.pid)
            if self.exited in ready:
                return self._exited()
            if self.capture.failure:
                raise Stop("error", "", grace)
            if _ORDERS in ready:
                self.orders = os.read(_ORDERS, _CHUNK)
                if not self.orders:
                    raise Stop("orphaned", "the daemon died; the script was ended", grace)
            if self.hurry:
                raise Stop("orphaned", "ended by a new daemon that found it running", 0.0)
            if deadline is not None and time.monotonic() >= deadline:
                raise Stop("timeout", f"ended after its limit of {self.spec['timeout']} s", grace)

    def _exited(self) -> dict[str, Any]:
        """Return how the script's own process ended; end what it left running, as a container's end would."""
        _, status = os.waitpid(self.script.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        duration = time.monotonic() - self.start  # what the script left behind takes longer to end
        result: dict[str, Any] = {"outcome": "exited", "note": "", "exit_code": code, "duration": duration}
        if code < 0:
            result |= {"exit_code": None, "signal": -code, "note": f"ended by signal {_signal_name(-code)}"}
        left = process_tree.end(_LEFTOVER_GRACE, self._meanwhile)
        if left:
            result["note"] = f"left behind what could not be ended: process {', '.join(map(str, left))}"
        return result

    def _meanwhile(self) -> bool:
        """While processes have their grace, copy their output; return True to wait no longer."""
        self._copy()
        return self.hurry

    def _copy(self, *, until_empty: bool = False) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.pipe_open:
                data = os.read(self.pipe, _CHUNK)
                self.pipe_open = bool(data)
                self.capture.write(data)
                if not until_empty:
                    return

    def _on_sigterm(self, number: int, frame: object) -> None:
        self.hurry = True


def _obey(orders: bytes) -> None:
    words = orders.split()
    if words[0] == b"stop":
        raise Stop("aborted", "", float(words[1]))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return str(number)


def main() -> int:
    process_tree.become_subreaper()
    line, orders = _first_line()
    if not line:
        return 0
    worker = process_tree.fork_guarded()
    if worker:
        return process_tree.guard(worker)
    spec = json.loads(line)
    try:
        result = Run(spec, orders).wait()
    except OSError as error:
        result = {"outcome": "error", "note": f"could not start: {error.strerror or error}", "duration": 0, "bytes": 0}
    text = json.dumps(result)
    with contextlib.suppress(OSError):
        _write_result(spec["result"], text)
    with contextlib.suppress(OSError):
        os.write(1, text.encode() + b"\n")
    return 0


def _first_line() -> tuple[bytes, bytes]:
    """Return the daemon's spec and what came after it; empty when the daemon went away before it sent one."""
    data = b""
    while b"\n" not in data:
        more = os.read(_ORDERS, _CHUNK)
        if not more:
            return b"", b""
        data += more
    line, _, rest = data.partition(b"\n")
    return line, rest


def _write_result(path: str, text: str) -> None:
    """Write the result file, whole or not at all."""
    with open(f"{path}.new", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)


if __name__ == "__main__":
    os._exit(main())  # at once: nothing is buffered, and taking Python down takes longer than the rest of the end
