"""What every script has: its arguments, lobwife, its report, times, and other programs with a time limit."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from lobwife_client import Client

_RETRY_SECONDS = 4  # the next run is in minutes
_NOT_FOUND = 127
_GH_NEEDS_LOGIN = 4
_QUIET = {"GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1", "LC_ALL": "C"}
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]*@")
_NO_CLUSTER = re.compile(r"localhost:8080|no configuration has been provided|current-context is not set", re.IGNORECASE)


class ToolError(Exception):
    """A program gave no answer that can be used; the sentence is for people."""


class Missing(ToolError):
    """The program is not there, or not set up: what needs it is skipped."""


class Failed(ToolError):
    """The program is there and failed."""


class Report:
    """Lines for people while a script works, and one last line that sums up."""

    def __init__(self, *, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self.failed = False
        self._counts: dict[str, int] = {}
        self._printed: set[str] = set()

    def did(self, what: str, line: str) -> None:
        """Count and print what was done, or would be."""
        self._counts[what] = self._counts.get(what, 0) + 1
        print(f"{'would: ' if self.dry_run else ''}{line}")

    def note(self, line: str) -> None:
        """Print a line, once a run."""
        self._print_once(line, sys.stdout)

    def fail(self, line: str) -> None:
        """Print what went wrong; the script goes on and ends with 1."""
        self.failed = True
        self._print_once(line, sys.stderr)

    def skip(self, error: ToolError, consequence: str) -> None:
        """Print what an error keeps from being done: a failure, unless the program is missing."""
        tell = self.note if isinstance(error, Missing) else self.fail
        tell(f"{consequence}: {error}")

    def last_line(self, name: str) -> int:
        """Sum up; return the exit code."""
        done = ", ".join(f"{count} {what}" for what, count in self._counts.items()) or "nothing to do"
        print(f"{name}: {done}{' (dry run)' if self.dry_run else ''}{'; with failures' if self.failed else ''}")
        return 1 if self.failed else 0

    def _print_once(self, line: str, stream: Any) -> None:
        if line not in self._printed:
            self._printed.add(line)
            print(line, file=stream)


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a script's arguments, with `--dry-run`."""
    arguments = argparse.ArgumentParser(prog=name, description=description)
    arguments.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    return arguments


def connect() -> Client:
    """Return a client of LOBWIFE_URL; raises LobwifeError for settings that can't be used."""
    return Client(retry_seconds=_RETRY_SECONDS)


def now() -> datetime:
    return datetime.now(UTC)


def parse(text: object) -> datetime | None:
    """Parse an ISO 8601 time of lobwife's REST; without an offset it is UTC. None for what is none."""
    try:
        moment = datetime.fromisoformat(text)  # type: ignore[arg-type]
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def minutes_since(moment: datetime) -> float:
    return (now() - moment).total_seconds() / 60


def run(name: str, *arguments: str, timeout: float = 60, stdin: str | None = None) -> str:
    """Return a program's output; raises Missing or Failed."""
    path = shutil.which(name)
    if path is None:
        raise Missing(f"{name} is not installed")
    try:
        process = subprocess.Popen(
            [path, *arguments],
            env={**os.environ, **_QUIET},
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise Missing(f"{name} can't be run: {error.strerror}") from None
    try:
        out, err = process.communicate(None if stdin is None else stdin.encode(), timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Failed(f"{name} {arguments[0]} took longer than {timeout:g} s") from None
    if process.returncode:
        lines = _USERINFO.sub("", err.decode(errors="replace").strip()).splitlines()
        sentence = f"{name} {arguments[0]}: {lines[-1][:300] if lines else f'exit code {process.returncode}'}"
        absent = process.returncode == _NOT_FOUND or (name == "gh" and process.returncode == _GH_NEEDS_LOGIN)
        raise Missing(sentence) if absent or (name == "kubectl" and _NO_CLUSTER.search(sentence)) else Failed(sentence)
    return out.decode(errors="replace")


def run_json(name: str, *arguments: str, kind: type, timeout: float = 60) -> Any:
    """Return a program's answer as JSON of a kind, list or dict; raises Missing or Failed."""
    try:
        value = json.loads(run(name, *arguments, timeout=timeout))
    except (ValueError, RecursionError):
        raise Failed(f"{name} {arguments[0]} answered something that is not JSON") from None
    if not isinstance(value, kind):
        raise Failed(f"{name} {arguments[0]} answered something unexpected")
    return value
