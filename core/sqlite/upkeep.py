"""Looking after the database while it is in use: checkpoints and statistics."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3

from django.db import connection, transaction
from django.db.utils import DatabaseError

from core.errors import Unavailable
from core.sqlite.gate import GateTimeout, gate_for

_BUSY_SECONDS = 0.25
_ROWS_SAMPLED = 1000


def checkpoint() -> bool:
    """Move the WAL's pages into the database and empty it; false when readers or a writer prevented that.

    Never waits for long, so that no writer has to, and uses a connection of its own. Raises Unavailable when the
    database can't be opened or written.
    """
    database = _database()
    uri = f"{database.as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as opened:
            opened.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # most of the work, in nobody's way
            with gate_for(str(database)).held(_BUSY_SECONDS):
                (busy, _, _) = opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except GateTimeout:
        return False
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return False
        raise Unavailable(f"the WAL of {database} can't be checkpointed: {error}") from error
    return not busy


def optimize() -> None:
    """Let SQLite renew the statistics that it thinks are stale, on a sample; raises Unavailable when it can't."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"PRAGMA analysis_limit = {_ROWS_SAMPLED}")
            cursor.execute("PRAGMA optimize(0x10002)")  # all tables, not only those that this connection has queried
    except DatabaseError as error:
        raise Unavailable(f"the statistics of {_database()} can't be renewed: {error}") from error


def _database() -> pathlib.Path:
    return pathlib.Path(str(connection.settings_dict["NAME"]))
