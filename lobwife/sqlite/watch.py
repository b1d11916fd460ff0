"""Whether another connection has written: the cheapest look at a database."""

from typing import Any

from django.db import connection


def data_version() -> int:
    """Changes when another connection has written. Past Django's cursors: 3 µs instead of 30, many times a second."""
    if connection.connection is None:
        connection.connect()
    raw: Any = connection.connection
    with connection.wrap_database_errors:
        version: int = raw.execute("PRAGMA data_version").fetchone()[0]
    return version
