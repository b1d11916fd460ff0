"""Whether the database was written: the cheapest look at it."""

from typing import Any

from django.db import connection


def data_version() -> tuple[int, int]:
    """Changes when another connection has written, or this one. Past Django's cursors: 3 µs instead of 30."""
    if connection.connection is None:
        connection.connect()
    raw: Any = connection.connection
    with connection.wrap_database_errors:
        others: int = raw.execute("PRAGMA data_version").fetchone()[0]
    own: int = raw.total_changes
    return others, own
