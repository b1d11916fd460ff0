"""Reading a copy of the database, compressed or not: unpacked into a temporary folder and checked before it is used."""

from __future__ import annotations

import contextlib
import gzip
import pathlib
import shutil
import sqlite3
import stat
import tempfile
import zlib
from collections.abc import Iterator

from django.apps import apps
from django.db.migrations.loader import MigrationLoader

from core.errors import Conflict, Invalid, LobwifeError, NotFound, Unavailable

_GZIP_MAGIC = b"\x1f\x8b"
_SQLITE_MAGIC = b"SQLite format 3\0"
_FOLDER = ".restore-"
_CHUNK_BYTES = 2**20
_RESERVED_BYTES = 64 * 2**20
Migrations = frozenset[tuple[str, str]]


@contextlib.contextmanager
def unpacked(file: pathlib.Path, into: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a whole database made of the copy, in a temporary folder below `into`.

    Raises NotFound, Invalid for a file that is no copy, Conflict for one that is damaged or from a newer version,
    Unavailable for want of room.
    """
    for leftover in into.glob(f"{_FOLDER}*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_FOLDER, dir=into) as folder:
        database = pathlib.Path(folder) / "lobmob.db"
        try:
            _unpack(file, database)
            _check(database, file)
        except FileNotFoundError:
            raise NotFound(f"there is no {file}") from None
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise _damaged(file, str(error)) from error
        except sqlite3.OperationalError as error:
            raise _no_room(file, str(error)) from error
        except sqlite3.DatabaseError as error:
            raise _damaged(file, str(error)) from error
        except OSError as error:
            raise _no_room(file, error.strerror or str(error)) from error
        yield database


def check_schema(copy: sqlite3.Connection, file: pathlib.Path) -> list[str]:
    """Raise Conflict unless an up-to-date copy has every table and column; drop its triggers and views, and name them.

    lobwife has none of its own, and those of a stranger would act on all later writes and reads.
    """
    present = tables(copy)
    for model in apps.get_models(include_auto_created=True):
        table = model._meta.db_table
        if table not in present:
            raise _damaged(file, f"it has no table {table}")
        columns = {name for (name,) in copy.execute("SELECT name FROM pragma_table_info(?)", [table])}
        missing = sorted({str(field.column) for field in model._meta.concrete_fields} - columns)
        if missing:
            raise _damaged(file, f"its table {table} has no {missing[0]}")
    extras = copy.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchall()
    for kind, name in extras:
        quoted = name.replace('"', '""')
        copy.execute(f'DROP {kind} IF EXISTS "{quoted}"')
    return [f"{kind} {name}" for kind, name in extras]


def known_migrations() -> Migrations:
    """Return every migration of this code as (app, name), those that squashed ones replace included."""
    on_disk = MigrationLoader(None).disk_migrations
    replaced = {key for migration in on_disk.values() for key in migration.replaces}
    return frozenset({*on_disk, *replaced})


def applied_migrations(opened: sqlite3.Connection) -> Migrations | None:
    """Return the migrations that a database has; None when Django never migrated it."""
    if "django_migrations" not in tables(opened):
        return None
    return frozenset(opened.execute("SELECT CAST(app AS TEXT), CAST(name AS TEXT) FROM django_migrations"))


def unknown_migration(applied: Migrations | None, ours: Migrations) -> str | None:
    """Return the name of a migration that this code lacks, which makes a database one of a newer version."""
    unknown = sorted((applied or frozenset()) - ours)
    return ".".join(unknown[0]) if unknown else None


def tables(opened: sqlite3.Connection) -> set[str]:
    return {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def damage(opened: sqlite3.Connection) -> str | None:
    """Return the first error that SQLite's integrity check finds."""
    (result,) = opened.execute("PRAGMA integrity_check(1)").fetchone()
    return None if result == "ok" else str(result).splitlines()[0]


def _unpack(file: pathlib.Path, database: pathlib.Path) -> None:
    if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
        raise Invalid(f"{file} is not a file: name one of backups/, or lobmob.db.bak")
    with file.open("rb") as source:
        is_compressed = source.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    with gzip.open(file) if is_compressed else file.open("rb") as source, database.open("xb") as target:
        start = source.read(len(_SQLITE_MAGIC))
        if start != _SQLITE_MAGIC:
            raise Invalid(f"{file} is not a copy of the database: name one of backups/, or lobmob.db.bak")
        target.write(start)
        while chunk := source.read(_CHUNK_BYTES):
            if shutil.disk_usage(database.parent).free < _RESERVED_BYTES:  # a small file can unpack to any size
                raise _no_room(file, "the disk would be full")
            target.write(chunk)
    wal = file.with_name(f"{file.name}-wal")
    if not is_compressed and wal.exists():
        shutil.copyfile(wal, database.with_name(f"{database.name}-wal"))


def _check(database: pathlib.Path, file: pathlib.Path) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as copy:
        if error := damage(copy):
            raise _damaged(file, error)
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        if "tasks" not in tables(copy):
            raise Invalid(f"{file} is a database, but not of lobwife: it has no tasks")
        if forged := _forged_table(copy):
            raise Invalid(f"{file} is no copy that lobwife made: its table {forged} acts by itself")
        unknown = unknown_migration(applied_migrations(copy), known_migrations())
    if unknown:
        raise Conflict(
            f"{file} is from a newer version than this one (migration {unknown}): restore it with that version"
        )


def _forged_table(copy: sqlite3.Connection) -> str | None:
    """Return a table that answers with rows of its own making, or changes rows by its foreign keys; ours do neither."""
    row = copy.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND (rootpage = 0 OR EXISTS (SELECT 1 FROM"
        " pragma_foreign_key_list(name) WHERE on_update <> 'NO ACTION' OR on_delete <> 'NO ACTION'))"
    ).fetchone()
    return str(row[0]) if row else None


def _damaged(file: pathlib.Path, reason: str) -> LobwifeError:
    return Conflict(f"{file} is damaged ({reason}): take another copy")


def _no_room(file: pathlib.Path, reason: str) -> LobwifeError:
    return Unavailable(f"{file} can't be unpacked ({reason}): see that the state directory's disk has room")
