"""A database that has a server, which is PostgreSQL, or none: a file of SQLite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections


def is_postgres() -> bool:
    """Return whether the database is PostgreSQL; else it is SQLite."""
    return bool(connections[DEFAULT_DB_ALIAS].vendor == "postgresql")


def server() -> Any | None:
    """Return the connection where the database has a server, with what `core.postgres.base` adds to Django's."""
    return connections[DEFAULT_DB_ALIAS] if is_postgres() else None


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Hold a lock of this name for a block, wherever else it is asked for; on SQLite a file does that."""
    database = server()
    with database.one_at_a_time(name) if database is not None else contextlib.nullcontext():
        yield
