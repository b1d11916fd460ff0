"""Looking after the database while it is in use: the hourly copy, checkpoints, statistics.

Each function opens a connection of its own and closes it, never one that a request or a tick is using.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import time
from collections.abc import Iterator

from django.db import connection, transaction
from django.db.utils import DatabaseError

from core.errors import Conflict, LobwifeError, Unavailable
from core.files import locked, replace_durably, sync_file
from core.sqlite.gate import GateTimeout, gate_for

_PAGES_A_STEP = 256
_PAUSE_SECONDS = 0.005
_BUSY_SECONDS = 0.25
_ROWS_LOOKED_AT = 1000
_BACK_UP_SECONDS = 3600


def back_up() -> pathlib.Path:
    """Copy the database to `lobmob.db.bak` while it is written to, and return the copy's path.

    The copy is one moment's state, checked and durable before it replaces the one before. Raises Unavailable when it
    can't be made (the earlier copy stays), Conflict while another process is making one.
    """
    database = _database()
    target = database.with_name(f"{database.name}.bak")
    part = database.with_name(f"{database.name}.bak.part")
    try:
        with locked(database.with_name(f"{database.name}.bak.lock"), wait=False):
            try:
                _remove(part)  # of a process that was killed
                copy_whole(database, part)
                sync_file(part)
                replace_durably(part, target)
            finally:
                _remove(part)
    except BlockingIOError:
        raise Conflict(f"{target} is being made by another process: wait for it") from None
    except (OSError, sqlite3.Error) as error:
        raise _unavailable(target, error) from error
    return target


def back_up_when_due() -> bool:
    """Make the hourly copy when there is none, or when it is an hour old; asks for no other tick. Raises as back_up."""
    copy = newest_copy()
    age = time.time() - copy.stat().st_mtime if copy.exists() else _BACK_UP_SECONDS
    if not 0 <= age < _BACK_UP_SECONDS:
        back_up()
    return False


def newest_copy() -> pathlib.Path:
    """Where back_up puts its copy; there may be none yet."""
    return pathlib.Path(f"{_database()}.bak")


def checkpoint() -> bool:
    """Move the WAL's pages into the database and empty it; false when readers or a writer kept it from being emptied.

    Never waits for long, so that no writer has to. Raises Unavailable when the database can't be opened or written.
    """
    database = _database()
    try:
        with _opened(database, timeout=_BUSY_SECONDS) as opened:
            opened.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # most of the work, in nobody's way
            with gate_for(str(database)).held(_BUSY_SECONDS):
                (busy, _, _) = opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except GateTimeout:
        return False
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return False
        raise Unavailable(f"the WAL of {database} can't be checkpointed: {error}") from error
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"the WAL of {database} can't be checkpointed: {error}") from error
    return not busy


def optimize() -> None:
    """Let SQLite renew the statistics that it thinks are stale, on a sample; raises Unavailable when it can't."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"PRAGMA analysis_limit = {_ROWS_LOOKED_AT}")
            cursor.execute("PRAGMA optimize(0x10002)")  # all tables, not only those that this connection has queried
    except DatabaseError as error:
        raise Unavailable(f"the statistics of {_database()} can't be renewed: {error}") from error


def copy_whole(database: pathlib.Path, part: pathlib.Path) -> None:
    """Copy one moment's state of a database in use into a new file of mode 0600; raises sqlite3.Error, OSError."""
    with _opened(database, timeout=_BUSY_SECONDS) as source, contextlib.closing(sqlite3.connect(part)) as copy:
        os.chmod(part, 0o600)
        copy.execute("PRAGMA synchronous = OFF")  # made durable once, when it is whole
        # One read transaction, one moment: without it every commit of another process starts the copy over. It holds
        # up no writer, only the end of a checkpoint.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(copy, pages=_PAGES_A_STEP, sleep=_PAUSE_SECONDS)
        source.execute("ROLLBACK")
        copy.execute("PRAGMA journal_mode = DELETE")  # a file that stands alone
        (finding,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise sqlite3.DatabaseError(f"the copy is not whole: {finding}")


@contextlib.contextmanager
def _opened(database: pathlib.Path, timeout: float) -> Iterator[sqlite3.Connection]:
    """The file that is there; it is not made where it is missing."""
    uri = f"{database.as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)) as opened:
        yield opened


def _remove(part: pathlib.Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        part.with_name(part.name + suffix).unlink(missing_ok=True)


def _database() -> pathlib.Path:
    return pathlib.Path(str(connection.settings_dict["NAME"]))


def _unavailable(target: pathlib.Path, error: Exception) -> LobwifeError:
    return Unavailable(
        f"{target} can't be made ({error}): see that the state directory can be written and its disk has room; an"
        " earlier copy is as it was"
    )
