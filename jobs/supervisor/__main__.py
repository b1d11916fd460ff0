"""The parent of one run: a program of its own that starts the script, keeps its output and leaves nothing behind.

The daemon starts it with the run's id as its only argument and talks to it over two pipes. On stdin comes one line of
JSON with what to do; the script starts only then, so that a daemon that dies before it has recorded the run starts
nothing. `stop N` on stdin ends the script with N seconds of grace; the end of stdin means that the daemon is gone, and
does the same. On stdout goes one line of JSON with how it ended; the same is left in a file first, for a daemon that
comes later. SIGTERM ends the script without grace.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import Any

from capture import Capture
from process_tree import become_subreaper, end_family, reap_orphans
from spawn import spawn

_CHUNK = 65536
_IDLE_SECONDS = 0.25
_LEFTOVER_GRACE = 0.5
_ORDERS = 0  # stdin


class Ending(Exception):
    """The script is to be ended, and why."""

    def __init__(self, outcome: str, note: str, grace: float) -> None:
        super().__init__(note)
        self.outcome, self.note, self.grace = outcome, note, grace


class Run:
    """One execution of a script, from its start to the last of its processes."""

    def __init__(self, spec: dict[str, Any], orders: bytes) -> None:
        """`orders`: what the daemon said after the spec already."""
        self.spec = spec
        self.orders = orders
        self.hurry = False
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self.capture = Capture(spec["output"], spec["output_limit"], [os.fsencode(each) for each in spec["secrets"]])
        self.start = time.monotonic()
        self.script, self.pipe = spawn(spec["command"], spec["environment"], spec["directory"])
        os.set_blocking(self.pipe, False)
        self.pipe_open = True
        self.exited = os.pidfd_open(self.script)

    def to_its_end(self) -> dict[str, Any]:
        """Wait for the end, or bring it about; returns how it ended."""
        limit = self.spec["timeout"]
        try:
            result = self._follow(self.start + limit if limit else None)
        except Ending as ending:
            result = {"outcome": ending.outcome, "note": ending.note}
            left = end_family(ending.grace, self._meanwhile)
            if left:
                result = {"outcome": "error", "note": f"could not be ended: process {', '.join(map(str, left))}"}
        duration = result.pop("duration", time.monotonic() - self.start)
        self._copy(until_empty=True)
        self.capture.close()
        if self.capture.failure:
            result |= {"outcome": "error", "note": f"the output could not be written: {self.capture.failure}"}
        return {**result, "duration": duration, "bytes": self.capture.size}

    def _follow(self, deadline: float | None) -> dict[str, Any]:
        """Copy output and watch the daemon until the script's own process ended; raises Ending."""
        grace = self.spec["grace"]
        watched = select.poll()
        for descriptor in (self.pipe, _ORDERS, self.exited):
            watched.register(descriptor, select.POLLIN)
        while True:
            if self.orders:
                _obey(self.orders)
            wait = _IDLE_SECONDS if deadline is None else min(_IDLE_SECONDS, max(0.0, deadline - time.monotonic()))
            ready = {descriptor for descriptor, _ in watched.poll(wait * 1000)}
            if self.pipe in ready:
                self._copy()
                if not self.pipe_open:
                    watched.unregister(self.pipe)
            elif not ready:
                self.capture.flush()
                reap_orphans(self.script)
            if self.exited in ready:
                return self._ended()
            if self.capture.failure:
                raise Ending("error", "", grace)
            if _ORDERS in ready:
                self.orders = os.read(_ORDERS, _CHUNK)
                if not self.orders:
                    raise Ending("orphaned", "the daemon died; the script was ended", grace)
            if self.hurry:
                raise Ending("orphaned", "ended by a new daemon that found it running", 0.0)
            if deadline is not None and time.monotonic() >= deadline:
                raise Ending("timeout", f"ended after its limit of {self.spec['timeout']} s", grace)

    def _ended(self) -> dict[str, Any]:
        """How the script's own process ended; what it left running is ended too, as a container's end would."""
        _, status = os.waitpid(self.script, 0)
        code = os.waitstatus_to_exitcode(status)
        duration = time.monotonic() - self.start  # what the script left behind takes longer to end
        result: dict[str, Any] = {"outcome": "exited", "note": "", "exit_code": code, "duration": duration}
        if code < 0:
            result |= {"exit_code": None, "signal": -code, "note": f"ended by signal {_signal_name(-code)}"}
        left = end_family(_LEFTOVER_GRACE, self._meanwhile)
        if left:
            result["note"] = f"left behind what could not be ended: process {', '.join(map(str, left))}"
        return result

    def _meanwhile(self) -> bool:
        """While processes are given their grace: copy what they say; true to wait no longer."""
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
        raise Ending("aborted", "", float(words[1]))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return str(number)


def main() -> int:
    become_subreaper()
    line, orders = _first_line()
    if not line:
        return 0
    spec = json.loads(line)
    try:
        result = Run(spec, orders).to_its_end()
    except OSError as error:
        result = {"outcome": "error", "note": f"could not start: {error.strerror or error}", "duration": 0, "bytes": 0}
    text = json.dumps(result)
    with contextlib.suppress(OSError):
        _leave(spec["result"], text)
    with contextlib.suppress(OSError):
        os.write(1, text.encode() + b"\n")
    return 0


def _first_line() -> tuple[bytes, bytes]:
    """The daemon's order, and what came after it; empty when the daemon went away before it gave one."""
    data = b""
    while b"\n" not in data:
        more = os.read(_ORDERS, _CHUNK)
        if not more:
            return b"", b""
        data += more
    line, _, rest = data.partition(b"\n")
    return line, rest


def _leave(path: str, text: str) -> None:
    """The result in its file, whole or not at all."""
    with open(f"{path}.new", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)


if __name__ == "__main__":
    sys.exit(main())
