"""What a database file is: ours and complete, to be migrated, or to be refused."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3

from core.errors import Conflict, Unavailable
from core.sqlite.copy_reader import Migrations

SCHEMA_VERSION = 2


def is_complete(database: pathlib.Path, known: Migrations) -> bool:
    """Whether the file has all our migrations already, told without leaving a trace on it or its WAL.

    A file that can't be read so (half checkpointed, damaged) is not. Raises Conflict for a newer one.
    """
    try:
        # Immutable: SQLite takes no lock, reads no WAL and so has nothing to checkpoint on closing.
        applied = _applied(_read_only(database, "immutable=1"))
        if applied != known:
            return False
        if _has_wal(database):
            # Ours for certain, so its WAL may be read; a read-only connection does not checkpoint either.
            applied = _applied(_read_only(database, ""))
    except sqlite3.Error:
        return False
    _refuse_newer(database, applied or frozenset(), known)
    return applied == known


def examine(copy: pathlib.Path, database: pathlib.Path, known: Migrations) -> bool:
    """Judge a copy, merging its WAL into it; true for a file of the older service that was never migrated.

    Raises Conflict, about `database`, when it is damaged or newer than this code, Unavailable for want of room.
    """
    if _has_wal(copy) and (not copy.exists() or not copy.stat().st_size):
        raise _damaged(database, f"{database.name}-wal is there without its database")
    try:
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            findings = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
            if findings != ["ok"]:
                raise _damaged(database, findings[0].splitlines()[0])
            tables = _tables(connection)
            if "schema_version" in tables:
                _refuse_newer_version(connection, database)
            applied = _applied_over(connection, tables)
            _refuse_newer(database, applied or frozenset(), known)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:  # no room for the WAL's pages, say; damage is another error
        raise Unavailable(
            f"{database} can't be looked at ({error}) and was left as it is: see that the state directory's disk has"
            " room, then start again"
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(database, str(error)) from error
    return applied is None and bool(tables)


def _read_only(database: pathlib.Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.as_uri()}?mode=ro&{options}", uri=True, isolation_level=None)


def _has_wal(database: pathlib.Path) -> bool:
    wal = database.with_name(f"{database.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def _applied(opened: sqlite3.Connection) -> Migrations | None:
    with contextlib.closing(opened) as connection:
        return _applied_over(connection, _tables(connection))


def _tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows}


def _applied_over(connection: sqlite3.Connection, tables: set[str]) -> Migrations | None:
    """The migrations that the file says it has; None when it was never migrated by Django."""
    if "django_migrations" not in tables:
        return None
    return frozenset((app, name) for app, name in connection.execute("SELECT app, name FROM django_migrations"))


def _refuse_newer_version(connection: sqlite3.Connection, database: pathlib.Path) -> None:
    query = "SELECT max(version) FROM schema_version WHERE typeof(version) = 'integer'"
    (version,) = connection.execute(query).fetchone()
    if version is not None and version > SCHEMA_VERSION:
        raise _newer(database, f"schema version {version}")


def _refuse_newer(database: pathlib.Path, applied: Migrations, known: Migrations) -> None:
    unknown = sorted(applied - known)
    if unknown:
        raise _newer(database, f"migration {'.'.join(unknown[0])}")


def _newer(database: pathlib.Path, what: str) -> Conflict:
    return Conflict(
        f"{database} is from a newer version than this one ({what}) and was left as it is: start the newer version,"
        " or put a copy from before that upgrade in its place"
    )


def _damaged(database: pathlib.Path, reason: str) -> Conflict:
    return Conflict(
        f"{database} is damaged ({reason}) and was left as it is: put a whole copy in its place, such as"
        f" {database.name}.bak, or move it and its -wal file away to start with an empty database"
    )
