"""Opening a copy, whatever its form: into a file of its own, judged before it is used."""

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

_GZIP = b"\x1f\x8b"
_SQLITE = b"SQLite format 3\0"
_FOLDER = ".restore-"
_AT_ONCE = 2**20
_LEFT_FREE = 64 * 2**20
Migrations = frozenset[tuple[str, str]]


@contextlib.contextmanager
def unpacked(file: pathlib.Path, into: pathlib.Path) -> Iterator[pathlib.Path]:
    """A whole database that stands alone, made of the copy, in a folder of its own below `into`; gone afterwards.

    Raises NotFound, Invalid for a file that is no copy, Conflict for one that is damaged or from a newer version,
    Unavailable for want of room.
    """
    for left_behind in into.glob(f"{_FOLDER}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_FOLDER, dir=into) as folder:
        made = pathlib.Path(folder) / "lobmob.db"
        try:
            _unpack(file, made)
            _judge(made, file)
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
        yield made


def _unpack(file: pathlib.Path, made: pathlib.Path) -> None:
    if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
        raise Invalid(f"{file} is not a file: name one of backups/, or lobmob.db.bak")
    with file.open("rb") as source:
        is_packed = source.read(len(_GZIP)) == _GZIP
    with gzip.open(file) if is_packed else file.open("rb") as source, made.open("xb") as target:
        start = source.read(len(_SQLITE))
        if start != _SQLITE:
            raise Invalid(f"{file} is not a copy of the database: name one of backups/, or lobmob.db.bak")
        target.write(start)
        while part := source.read(_AT_ONCE):
            if shutil.disk_usage(made.parent).free < _LEFT_FREE:  # a small file can unpack to any size
                raise _no_room(file, "the disk would be full")
            target.write(part)
    wal = file.with_name(f"{file.name}-wal")
    if not is_packed and wal.exists():
        shutil.copyfile(wal, made.with_name(f"{made.name}-wal"))


def _judge(made: pathlib.Path, file: pathlib.Path) -> None:
    with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as copy:
        (finding,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if finding != "ok":
            raise _damaged(file, finding.splitlines()[0])
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "tasks" not in tables:
            raise Invalid(f"{file} is a database, but not of lobwife: it has no tasks")
        if "django_migrations" in tables:
            applied = set(copy.execute("SELECT CAST(app AS TEXT), CAST(name AS TEXT) FROM django_migrations"))
            unknown = sorted(f"{app}.{name}" for app, name in applied - known_migrations())
            if unknown:
                raise Conflict(
                    f"{file} is from a newer version than this one (migration {unknown[0]}): restore it with that"
                    " version"
                )


def known_migrations() -> Migrations:
    """Every migration that this code has, as (app, name), the ones that squashed ones replace included."""
    on_disk = MigrationLoader(None).disk_migrations
    replaced = {each for migration in on_disk.values() for each in migration.replaces}
    return frozenset({*on_disk, *replaced})


def judge_schema(copy: sqlite3.Connection, file: pathlib.Path) -> list[str]:
    """Raises Conflict unless an up-to-date copy has every table and column; returns what it has besides that acts.

    Triggers and views are none of ours, and would do to all later writes and reads whatever they say: they are taken
    out of the copy.
    """
    tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for model in apps.get_models(include_auto_created=True):
        table = model._meta.db_table
        if table not in tables:
            raise _damaged(file, f"it has no table {table}")
        columns = {name for (name,) in copy.execute("SELECT name FROM pragma_table_info(?)", [table])}
        missing = sorted({str(field.column) for field in model._meta.concrete_fields} - columns)
        if missing:
            raise _damaged(file, f"its table {table} has no {missing[0]}")
    acting = copy.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchall()
    for kind, name in acting:
        quoted = name.replace('"', '""')
        copy.execute(f'DROP {kind} IF EXISTS "{quoted}"')
    return [f"{kind} {name}" for kind, name in acting]


def _damaged(file: pathlib.Path, reason: str) -> LobwifeError:
    return Conflict(f"{file} is damaged ({reason}): take another copy")


def _no_room(file: pathlib.Path, reason: str) -> LobwifeError:
    return Unavailable(f"{file} can't be unpacked ({reason}): see that the state directory's disk has room")
