"""Inspecting a database file: it is complete, is to be migrated, or is refused."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3

from core.errors import Conflict, Unavailable
from core.sqlite.copy_reader import Migrations, applied_migrations, damage, tables, unknown_migration

SCHEMA_VERSION = 2


def is_complete(database: pathlib.Path, known: Migrations) -> bool:
    """Return whether the file has all our migrations, without leaving a trace on it or its WAL.

    False for a file that can't be read so (half checkpointed, damaged). Raises Conflict for a newer one.
    """
    try:
        # Immutable: SQLite takes no lock, reads no WAL and so has nothing to checkpoint on closing.
        applied = _applied(database, "immutable=1")
        if applied != known:
            return False
        if _has_wal(database):
            # Ours for certain, so its WAL may be read; a read-only connection does not checkpoint either.
            applied = _applied(database)
    except sqlite3.Error:
        return False
    _refuse_unknown(database, applied, known)
    return applied == known


def examine(copy: pathlib.Path, database: pathlib.Path, known: Migrations) -> bool:
    """Check a copy, merging its WAL into it; return whether the older service left it, never migrated.

    Raises Conflict, about `database`, when it is damaged or newer than this code, Unavailable for want of room.
    """
    if _has_wal(copy) and (not copy.exists() or not copy.stat().st_size):
        raise _damaged(database, f"{database.name}-wal is there without its database")
    try:
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            if error := damage(connection):
                raise _damaged(database, error)
            present = tables(connection)
            if "schema_version" in present:
                _refuse_newer_schema(connection, database)
            applied = applied_migrations(connection)
            _refuse_unknown(database, applied, known)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:  # no room for the WAL's pages, say; damage is another error
        raise Unavailable(
            f"{database} can't be looked at ({error}) and was left as it is: see that the state directory's disk has"
            " room, then start again"
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(database, str(error)) from error
    return applied is None and bool(present)


def _applied(database: pathlib.Path, options: str = "") -> Migrations | None:
    uri = f"{database.as_uri()}?mode=ro&{options}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        return applied_migrations(connection)


def _has_wal(database: pathlib.Path) -> bool:
    wal = database.with_name(f"{database.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def _refuse_newer_schema(connection: sqlite3.Connection, database: pathlib.Path) -> None:
    query = "SELECT max(version) FROM schema_version WHERE typeof(version) = 'integer'"
    (version,) = connection.execute(query).fetchone()
    if version is not None and version > SCHEMA_VERSION:
        raise _newer(database, f"schema version {version}")


def _refuse_unknown(database: pathlib.Path, applied: Migrations | None, known: Migrations) -> None:
    if unknown := unknown_migration(applied, known):
        raise _newer(database, f"migration {unknown}")


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
