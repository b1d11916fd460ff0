"""Lines of the log, as text or as JSON, and the id of the request that they are about."""

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

_current: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
_USABLE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

# What a line may say besides its message, given as `extra=`.
_EXTRA = ("run", "job")


class Writable(Protocol):
    """A command's own output."""

    def write(self, text: str, /) -> object: ...


def configuration() -> dict[str, Any]:
    """For `logging.config`: everything to stdout, in the format and from the level that the environment names."""
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
        },
    }


def configure() -> None:
    """For processes that are not Django's."""
    logging.config.dictConfig(configuration())


def announce(text: str, stream: Writable) -> None:
    """What a start tells people: as it is, or as one line of the log where every line must be JSON."""
    if _format() == "json":
        said = {"name": "lobwife", "levelno": logging.INFO, "levelname": "INFO", "msg": text}
        text = JsonFormatter().format(logging.makeLogRecord(said))
    stream.write(text)


@contextlib.contextmanager
def request_id_of(sent: str) -> Iterator[str]:
    """Within, every line carries the id that the caller sent, or one made up here where that can't be used."""
    identifier = sent if _USABLE.fullmatch(sent) else uuid.uuid4().hex
    token = _current.set(identifier)
    try:
        yield identifier
    finally:
        _current.reset(token)


def current_request_id() -> str:
    """The id of the request that is being answered; empty outside of one."""
    return _current.get()


class LineFormatter(logging.Formatter):
    """Text, with the request's id at its end where there is one; a message is one line, whatever it quotes."""

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
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: getattr(record, name) for name in _EXTRA if hasattr(record, name)}
        identifier = _identifier(record)
        if identifier:
            said["request_id"] = identifier
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str).encode(errors="replace").decode()


def _format() -> str:
    return env.choice("LOBWIFE_LOG_FORMAT", "text", ("text", "json"))


def _identifier(record: logging.LogRecord) -> str:
    return str(getattr(record, "request_id", "") or _current.get())
