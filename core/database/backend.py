"""The database's backend: which it is, its errors as sentences, its notification of commits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import OperationalError

from core.text import as_sentence


def is_postgres() -> bool:
    """Return whether the database is PostgreSQL; else it is SQLite."""
    return bool(_connection().vendor == "postgresql")


def server() -> Any | None:
    """Return the connection where the database has a server, with what `core.postgres.base` adds to Django's."""
    return _connection() if is_postgres() else None


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Hold a lock of this name for a block, wherever else it is asked for; on SQLite a file does that."""
    database = server()
    with database.one_at_a_time(name) if database is not None else contextlib.nullcontext():
        yield


# --- errors
def in_words(error: OperationalError) -> str:
    """Return a sentence for whoever called; it names no path, no host and no account."""
    return str(_connection().messages.in_words(error))


def in_words_for_the_console(error: OperationalError) -> str:
    """Return a sentence for whoever typed a command, who mostly means another installation than the one named."""
    return str(_connection().messages.in_words_for_the_console(error)) or as_sentence(in_words(error))


def is_about_a_lock(error: OperationalError) -> bool:
    """Return whether another writer, or another program, held what was to be written for too long."""
    return bool(_connection().messages.is_about_a_lock(error))


# --- commits
class Listener(Protocol):
    """For select(): readable after a commit, until `drain()`. A commit may be missed: look now and then as well."""

    def fileno(self) -> int:
        """Return the descriptor to wait for; another one after a `drain()`, maybe."""

    def drain(self) -> None:
        """Take what was received, so that the next commit makes it readable again."""

    def close(self) -> None:
        """Listen no more."""


def listener(*, is_web: bool = False) -> Listener:
    """Listen for commits from now on, as the daemon or as a process of web."""
    listening: Listener = _connection().listen(is_web=is_web)
    return listening


def data_version() -> tuple[object, int]:
    """Return a pair that changes when any connection has written; where it can be told, the second by own writes."""
    version: tuple[object, int] = _connection().data_version()
    return version


def _connection() -> Any:
    return connections[DEFAULT_DB_ALIAS]
