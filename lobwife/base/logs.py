"""Lines of the log, as text or as JSON, and the id of the request that they are about."""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

from lobwife.base.text import one_line

_current: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
_USABLE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# What a line may say besides its message, given as `extra=`.
_EXTRA = ("run", "job")


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


def _identifier(record: logging.LogRecord) -> str:
    return str(getattr(record, "request_id", "") or _current.get())
