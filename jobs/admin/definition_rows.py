"""Rows of a run's page about the job as it ran, whatever was edited since."""

from __future__ import annotations

import shlex
from typing import Any

from core.display import duration
from jobs.models import Concurrency
from jobs.scheduling import cron
from jobs.secret_fields import is_secret

_MASK = "[masked]"
_CONCURRENCY: dict[Any, str] = dict(Concurrency.choices)

Row = tuple[str, list[str]]


def rows(definition: object) -> list[Row]:
    """Labels, each with the lines of its value; of what was broken by hand, what can be read."""
    if not isinstance(definition, dict):
        return []
    told: list[Row] = []
    for name, (label, lines_of) in _SHOWN.items():
        if name in definition:
            told.append((label, lines_of(definition[name], definition)))
    return told


def _as_it_is(value: object, _: dict[str, Any]) -> list[str]:
    return [str(value)]


def _words(value: object, _: dict[str, Any]) -> list[str]:
    if not isinstance(value, list):
        return [str(value)]
    return [shlex.join(map(str, value)) or "none"]


def _variables(value: object, _: dict[str, Any]) -> list[str]:
    if not isinstance(value, dict):
        return [str(value)]
    return [f"{name}={_MASK if is_secret(name) else text}" for name, text in value.items()] or ["none of its own"]


def _directory(value: object, _: dict[str, Any]) -> list[str]:
    return [str(value or "the home directory")]


def _when(value: object, definition: dict[str, Any]) -> list[str]:
    words = cron.describe_safely(value) if isinstance(value, str) and value else ""
    zone = definition.get("timezone")
    return [str(value), f"{words} ({zone})" if words and zone else words]


def _limit(value: object, _: dict[str, Any]) -> list[str]:
    return [duration(value) if isinstance(value, int | float) else str(value)]


def _while_running(value: object, _: dict[str, Any]) -> list[str]:
    return [str(_CONCURRENCY.get(value, value))]


_SHOWN = {
    "script": ("Script", _as_it_is),
    "arguments": ("Arguments", _words),
    "environment": ("Environment", _variables),
    "working_directory": ("Working directory", _directory),
    "schedule": ("Schedule", _when),
    "timeout_seconds": ("Time limit", _limit),
    "concurrency": ("Concurrency", _while_running),
}
