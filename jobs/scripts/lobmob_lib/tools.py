"""Other programs, called without a shell and with a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from typing import Any

_NOT_FOUND = 127
_GH_NEEDS_LOGIN = 4
_QUIET = {"GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1", "LC_ALL": "C"}
_IN_URL = re.compile(r"(?<=://)[^/\s@'\"]*@")
_NO_CLUSTER = re.compile(r"localhost:8080|no configuration has been provided|current-context is not set", re.IGNORECASE)


class ToolError(Exception):
    """A tool gave no answer that can be used; the sentence is for people."""


class Missing(ToolError):
    """The tool is not there, or not set up: what needs it is skipped."""


class Failed(ToolError):
    """The tool is there and failed."""


def run(name: str, *arguments: str, timeout: float = 60, stdin: str | None = None) -> str:
    """Return the program's output; raises Missing or Failed."""
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
        words = _IN_URL.sub("", err.decode(errors="replace").strip()).splitlines()
        sentence = f"{name} {arguments[0]}: {words[-1][:300] if words else f'exit code {process.returncode}'}"
        absent = process.returncode == _NOT_FOUND or (name == "gh" and process.returncode == _GH_NEEDS_LOGIN)
        raise Missing(sentence) if absent or (name == "kubectl" and _NO_CLUSTER.search(sentence)) else Failed(sentence)
    return out.decode(errors="replace")


def run_json(name: str, *arguments: str, kind: type, timeout: float = 60, stdin: str | None = None) -> Any:
    """The program's answer as JSON of a kind, list or dict; raises Missing or Failed."""
    try:
        value = json.loads(run(name, *arguments, timeout=timeout, stdin=stdin))
    except (ValueError, RecursionError):
        raise Failed(f"{name} {arguments[0]} answered something that is not JSON") from None
    if not isinstance(value, kind):
        raise Failed(f"{name} {arguments[0]} answered something unexpected")
    return value
