"""What the runners of this account do, in files: each writes its own, `lobwife-agent status` reads them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

from .folders import OwnFolder, is_in_use, prune

_FILE = "status.json"


def state_directory(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Return LOBWIFE_AGENT_STATE, else the place that XDG has for it."""
    named = environment.get("LOBWIFE_AGENT_STATE")
    if named:
        return pathlib.Path(named)
    base = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return pathlib.Path(base) / "lobwife-agent"


class StateFile:
    """The file of one runner, from its start to its end."""

    def __init__(self, directory: pathlib.Path, about: Mapping[str, Any]) -> None:
        """`about`: what the runner says of itself. Raises OSError."""
        parent = directory / "runners"
        prune(parent, 0)
        self._folder = OwnFolder(parent, "runner-")
        self._about = dict(about)
        self._tasks: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()
        with self._lock:
            self._write()

    def set(self, number: int, task: dict[str, Any] | None) -> None:
        """Say what a task does; None: it is over. A disk that is full costs the file alone."""
        with self._lock:
            if task is None:
                self._tasks.pop(number, None)
            else:
                self._tasks[number] = task
            with contextlib.suppress(OSError):
                self._write()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder.path / _FILE).unlink()
            self._folder.path.rmdir()
        self._folder.close()

    def _write(self) -> None:
        path = self._folder.path / _FILE
        text = json.dumps({**self._about, "tasks": list(self._tasks.values())})
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)


def read_runners(directory: pathlib.Path) -> list[dict[str, Any]]:
    """Return what all runners wrote, oldest first; `alive` is False for one that was killed."""
    runners = []
    for path in (directory / "runners").glob(f"*/{_FILE}"):
        with contextlib.suppress(OSError, ValueError):
            runners.append({**json.loads(path.read_text()), "alive": is_in_use(path.parent)})
    return sorted(runners, key=lambda runner: str(runner.get("since")))
