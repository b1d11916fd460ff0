"""What a command used, as it writes it: a line of JSON for each report, with the fields of a report of costs.

{"model": "claude-sonnet-4-5", "input_tokens": 1200, "output_tokens": 800, "cost_usd": 0.0306}
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import stat
import threading
from typing import Any

from lobwife_client.client import Client
from lobwife_client.errors import LobwifeError, Unreachable

log = logging.getLogger(__name__)
_FIELDS = (
    *("model", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("cost_usd", "repo"),
)
_MOST_BYTES = 256 * 1024


class UsageFile:
    """The file of one command, read again and again as it grows. Threads may share it."""

    def __init__(self, path: pathlib.Path, name: str) -> None:
        """`name` tells its lines from those of other files."""
        self._path, self._name = path, name
        self._offset = 0
        self._line = 0
        self._pending: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def report(self, client: Client, task_id: str) -> None:
        """Report the complete lines that were not reported yet; those that nobody answers to are for the next call."""
        with self._lock:
            self._report(client, task_id)

    def _report(self, client: Client, task_id: str) -> None:
        for line in self._new_lines():
            self._line += 1
            with contextlib.suppress(ValueError, RecursionError):
                report = json.loads(line)
                if isinstance(report, dict) and "model" in report:
                    fields = {name: report[name] for name in _FIELDS if name in report}
                    self._pending.append({**fields, "source": f"{self._name}/{self._line}"})
        while self._pending:
            try:
                client.report_cost(task_id, **self._pending[0])
            except Unreachable:
                return
            except LobwifeError as error:
                log.warning("%s: a line of its usage could not be reported: %s", task_id, error)
            del self._pending[0]

    def _new_lines(self) -> list[bytes]:
        try:
            # The command may have put anything in its place.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return []
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode) or self._offset >= _MOST_BYTES:
                return []
            file.seek(self._offset)
            data = file.read(_MOST_BYTES - self._offset)
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return complete.splitlines()
