"""Taking over the database file: it is complete, is to be migrated, or is refused; the older service's is kept."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator

from core import env
from core.errors import Conflict, Unavailable
from core.files import locked, replace_with_numbered_backup, sync_file, write_private
from core.sqlite.copy_reader import (
    Migrations,
    applied_migrations,
    damage,
    known_migrations,
    tables,
    unknown_migration,
)
from core.sqlite.gate import GateTimeout, gate_for

SCHEMA_VERSION = 2
COPY_SUFFIX = ".pre-migration"
_FILES = ("", "-wal", "-journal")
_ATTEMPTS = 5
_GATE_SECONDS = 10.0
_FOLDER = ".take-over-"
_PRIVATE = ("lobmob.db*", "daemon.log*", "*.lock", "backups", "runs", "*.json*")


@contextlib.contextmanager
def prepared(state: pathlib.Path) -> Iterator[None]:
    """Hold the state directory, made with its secret key where they are missing, against another start.

    Raises Unavailable when it can't be made or written.
    """
    with contextlib.ExitStack() as stack:
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(locked(state / "migrate.lock"))
            key = state / "secret-key"
            if not env.text("LOBWIFE_SECRET_KEY") and not (key.exists() and key.stat().st_size):
                write_private(key, secrets.token_urlsafe(50) + "\n")
        except OSError as error:
            raise Unavailable(
                f"the state directory {state} can't be written ({error.strerror}): make it writable and see that its"
                " disk has room, or set LOBWIFE_STATE_DIR to another"
            ) from error
        yield


def make_ready(database: pathlib.Path) -> None:
    """Inspect the file before it is migrated; one that the older service left is copied to `….pre-migration` first.

    Inside `prepared()`. Raises Conflict for a damaged or newer file, Unavailable when it can't be copied; the file and
    its WAL are then as they were.
    """
    ours = known_migrations()
    if not any(os.path.lexists(f"{database}{suffix}") for suffix in _FILES):
        return
    if database.is_file() and is_complete(database, ours):
        return
    with _copied(database) as copy:
        if examine(copy, database, ours):
            _keep(copy, database.with_name(database.name + COPY_SUFFIX))


def make_file(database: pathlib.Path) -> None:
    """Make an empty file where there is none, for SQLite to fill; raises Unavailable when it can't be made."""
    try:
        if not database.exists():
            database.touch(mode=0o600)
    except OSError as error:
        raise Unavailable(
            f"{database} can't be made ({error.strerror}): make its directory writable and see that its disk has room,"
            " then start again"
        ) from error


def make_private(state: pathlib.Path) -> None:
    """Take from others what an earlier start left for them to read: the database and its copies, logs, output."""
    for path in (path for pattern in _PRIVATE for path in state.glob(pattern)):
        with contextlib.suppress(OSError):  # another user's, who has to do it
            path.chmod(path.stat().st_mode & ~0o077)


@contextlib.contextmanager
def _copied(database: pathlib.Path) -> Iterator[pathlib.Path]:
    """Copy the file with its WAL or hot journal, unopened, into a temporary folder.

    To open and close the original would checkpoint its WAL. No connection of this process may be open: closing any
    descriptor of the file drops the POSIX locks that SQLite holds. Raises Unavailable when there is no room, or the
    file goes on changing.
    """
    for leftover in database.parent.glob(f"{_FOLDER}*"):  # of a start that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        try:
            temporary = tempfile.TemporaryDirectory(prefix=_FOLDER, dir=database.parent, ignore_cleanup_errors=True)
            folder = pathlib.Path(stack.enter_context(temporary))
            _copy_while_still(database, folder)
        except OSError as error:
            raise Unavailable(
                f"{database} can't be copied to be looked at ({error.strerror}) and was left as it is: it needs as"
                " much room again in the state directory"
            ) from error
        yield folder / database.name


def _keep(copy: pathlib.Path, target: pathlib.Path) -> None:
    """Keep a closed copy durably under a name; an earlier file there that differs is moved aside, never overwritten."""
    try:
        os.chmod(copy, 0o600)
        sync_file(copy)
        replace_with_numbered_backup(copy, target)
    except OSError as error:
        raise Unavailable(f"the copy {target} can't be kept ({error.strerror}): nothing was changed") from error


def _copy_while_still(database: pathlib.Path, folder: pathlib.Path) -> None:
    """Copy until nothing has changed meanwhile; web or daemon, which may be at work already, wait at the write gate."""
    busy = Unavailable(f"{database} is being written by another program: stop it, then start again")
    for _ in range(_ATTEMPTS):
        with contextlib.ExitStack() as stack:
            if os.path.exists(f"{database}.gate"):
                try:
                    stack.enter_context(gate_for(str(database)).held(_GATE_SECONDS))
                except GateTimeout:
                    raise busy from None
            before = [_stamp(f"{database}{suffix}") for suffix in _FILES]
            for suffix, stamp in zip(_FILES, before, strict=True):
                target = folder / f"{database.name}{suffix}"
                target.unlink(missing_ok=True)
                if stamp is not None:
                    with contextlib.suppress(FileNotFoundError):  # a WAL that its last user just removed
                        shutil.copyfile(f"{database}{suffix}", target)
            if before == [_stamp(f"{database}{suffix}") for suffix in _FILES]:
                return
    raise busy


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what changes when a file is written or replaced; None without a file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def is_complete(database: pathlib.Path, ours: Migrations) -> bool:
    """Return whether the file has all our migrations, without leaving a trace on it or its WAL.

    False for a file that can't be read so (half checkpointed, damaged). Raises Conflict for a newer one.
    """
    try:
        # Immutable: SQLite takes no lock, reads no WAL and so has nothing to checkpoint on closing.
        applied = _applied(database, "immutable=1")
        if applied != ours:
            return False
        if _has_wal(database):
            # Ours for certain, so its WAL may be read; a read-only connection does not checkpoint either.
            applied = _applied(database)
    except sqlite3.Error:
        return False
    _refuse_unknown(database, applied, ours)
    return applied == ours


def examine(copy: pathlib.Path, database: pathlib.Path, ours: Migrations) -> bool:
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
            _refuse_unknown(database, applied, ours)
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


def _refuse_unknown(database: pathlib.Path, applied: Migrations | None, ours: Migrations) -> None:
    if unknown := unknown_migration(applied, ours):
        raise _newer(database, f"migration {unknown}")


def _newer(database: pathlib.Path, what: str) -> Conflict:
    return Conflict(
        f"{database} is from a newer version than this one ({what}) and was left as it is: start the newer version,"
        " or run `manage.py restore` with a copy from before that upgrade"
    )


def _damaged(database: pathlib.Path, reason: str) -> Conflict:
    return Conflict(
        f"{database} is damaged ({reason}) and was left as it is: stop lobwife and run `manage.py restore`"
        f" with {database.name}.bak or a file of backups/, or move it and its -wal file away to start with an empty one"
    )
