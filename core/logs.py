"""Logging as text or JSON, each line with the id of the request that caused it."""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import logging.config
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

from core import env
from core.text import one_line

_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
_USABLE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

# Fields that callers add by `extra=`.
_EXTRA = ("run", "job")


class Writable(Protocol):
    """The stdout or stderr of a command."""

    def write(self, text: str, /) -> object: ...


def configuration() -> dict[str, Any]:
    """Return the `LOGGING` setting: everything to stdout, in the format and from the level of the environment."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {
                "()": "core.logs.LineFormatter",
                "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
                "datefmt": "%Y-%m-%dT%H:%M:%S%z",
            },
            "json": {"()": "core.logs.JsonFormatter"},
        },
        "handlers": {
            "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": _format()}
        },
        "root": {
            "handlers": ["stdout"],
            "level": env.choice("LOBWIFE_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING")),
        },
        "loggers": {
            "apscheduler": {"level": "WARNING"},
            "django.request": {"level": "ERROR"},
            "django.security.DisallowedHost": {"level": "CRITICAL"},  # a traceback for each is a stranger's to cause
            "httpx2": {"level": "WARNING"},
            "procrastinate": {"level": "WARNING"},
        },
    }


def configure() -> None:
    """Set logging up in a process that does not run Django."""
    logging.config.dictConfig(configuration())


def announce(text: str, stream: Writable) -> None:
    """Write what a start tells people: as it is, or as a line of the log where every line must be JSON."""
    if _format() == "json":
        record = {"name": "lobwife", "levelno": logging.INFO, "levelname": "INFO", "msg": text}
        text = JsonFormatter().format(logging.makeLogRecord(record))
    stream.write(text)


@contextlib.contextmanager
def request_id(sent: str) -> Iterator[str]:
    """Put an id on every line that is logged within: the one that the caller sent, if it can be used, or a new one."""
    identifier = sent if _USABLE.fullmatch(sent) else uuid.uuid4().hex
    token = _request_id.set(identifier)
    try:
        yield identifier
    finally:
        _request_id.reset(token)


def current_request_id() -> str:
    """Return the id of the current request; empty outside of one."""
    return _request_id.get()


class LineFormatter(logging.Formatter):
    """Text, with the request's id at its end if there is one; line breaks in a message become blanks."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        identifier = _identifier(record)
        line = super().format(record)
        if not identifier:
            return line
        first, newline, rest = line.partition("\n")
        return f"{first} [{identifier}]{newline}{rest}"


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record, a traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: getattr(record, name) for name in _EXTRA if hasattr(record, name)}
        identifier = _identifier(record)
        if identifier:
            entry["request_id"] = identifier
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str).encode(errors="replace").decode()


def _format() -> str:
    return env.choice("LOBWIFE_LOG_FORMAT", "text", ("text", "json"))


def _identifier(record: logging.LogRecord) -> str:
    return str(getattr(record, "request_id", "") or _request_id.get())
