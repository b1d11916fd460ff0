"""Copies of the database: `lobmob.db.bak`, made every hour, and the same compressed in `backups/`; others by hand."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import pathlib
import re
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db import connection

from core.errors import Conflict, Unavailable
from core.files import locked, replace_durably, sync_file

HOURLY, DAILY = 24, 7
MOST_BYTES = 200 * 10**6
_NAME = re.compile(r"lobmob-(\d{8}T\d{6}Z)(-by-hand)?\.db\.gz", re.ASCII)
_STAMP = "%Y%m%dT%H%M%SZ"
_EVERY_SECONDS = 3600
_BUSY_SECONDS = 0.25


@dataclass(frozen=True, order=True)
class Copy:
    """A compressed copy: the moment whose state it holds, its path and size; one made by hand stays until removed."""

    moment: datetime
    path: pathlib.Path
    size: int
    by_hand: bool = False


def refuse_on_server() -> None:
    """Raise Conflict where the database has a server: its copies are not made here."""
    if connection.vendor != "sqlite":
        raise Conflict(
            "the database is PostgreSQL, whose copies are made and put back with its own tools: docs/postgres.md"
        )


def folder() -> pathlib.Path:
    return pathlib.Path(settings.STATE_DIR) / "backups"


def newest_copy() -> pathlib.Path:
    """Return the path of `lobmob.db.bak`, which may not exist yet."""
    return pathlib.Path(f"{_database()}.bak")


def keep_copy() -> pathlib.Path:
    """Copy the database now, compressed, into `backups/`, where only a person removes the copy; return its path.

    A copy is one moment's state, checked and durable before it replaces the one before. Raises Unavailable when it
    can't be made (earlier copies stay), Conflict while another process is making one.
    """
    with _locked():
        _back_up()
        return _compress(_compressed_path("-by-hand"))


def copy_to(target: pathlib.Path) -> None:
    """Copy the database into a new file, compressed when its name ends in .gz.

    Raises Conflict when there is such a file, Unavailable when it can't be made.
    """
    refuse_on_server()
    if target.exists():
        raise Conflict(f"{target} is there already: name another file, or remove it")
    plain = target.with_name(f"{target.name}.part")
    try:
        _remove(plain)
        copy_database(_database(), plain)
        _compress_file(plain, target) if target.suffix == ".gz" else replace_durably(plain, target)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unavailable(
            f"{target} can't be made ({reason}): see that its folder can be written and has room"
        ) from error
    finally:
        _remove(plain)


def keep_when_due() -> bool:
    """Make the hourly copy when it is due, and compress what was not compressed yet. Raises as `keep_copy`."""
    with _locked():
        copy = newest_copy()
        if not copy.exists() or not 0 <= time.time() - copy.stat().st_mtime < _EVERY_SECONDS:
            _back_up()
        if not any(_compressed_path(suffix).exists() for suffix in ("", "-by-hand")):
            _compress(_compressed_path())
    return False


def kept_copies() -> list[Copy]:
    """Return the compressed copies, oldest first; other files in the folder are not ours."""
    copies: list[Copy] = []
    with contextlib.suppress(FileNotFoundError):
        for path in folder().iterdir():
            if name := _NAME.fullmatch(path.name):
                with contextlib.suppress(ValueError, FileNotFoundError):
                    moment = datetime.strptime(name[1], _STAMP).replace(tzinfo=UTC)
                    copies.append(Copy(moment, path, path.stat().st_size, bool(name[2])))
    return sorted(copies)


def expired(copies: Iterable[Copy], most_bytes: int = MOST_BYTES) -> list[Copy]:
    """Return all but the newest of each of the last 24 hours and 7 days that have any, and the oldest above the limit.

    The newest of all stays, however large it is. Those made by hand are none of these.
    """
    newest_first = sorted((copy for copy in copies if not copy.by_hand), reverse=True)
    wanted = _newest_of_each(newest_first, "%Y%m%d%H", HOURLY) | _newest_of_each(newest_first, "%Y%m%d", DAILY)
    removed: list[Copy] = []
    total = 0
    for copy in newest_first:
        if copy is not newest_first[0] and (copy not in wanted or total + copy.size > most_bytes):
            removed.append(copy)
        else:
            total += copy.size
    return removed


def copy_database(database: pathlib.Path, part: pathlib.Path) -> None:
    """Copy one moment's state of a database in use into a private file and check it; raises sqlite3.Error, OSError.

    VACUUM INTO is one read transaction, so it delays no writer, only the end of a checkpoint.
    """
    part.touch(mode=0o600)
    uri = f"{database.as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as source:
        source.execute("VACUUM INTO ?", [str(part)])
    with contextlib.closing(sqlite3.connect(part)) as copy:
        (result,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {result}")
    sync_file(part)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Hold the lock of the copies; turn errors into sentences."""
    refuse_on_server()
    target = newest_copy()
    try:
        with locked(target.with_name(f"{target.name}.lock"), wait=False):
            yield
    except BlockingIOError:
        raise Conflict(f"{target} is being made by another process: wait for it") from None
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(
            f"{target} can't be made ({error}): see that the state directory can be written and its disk has room;"
            " earlier copies are as they were"
        ) from error


def _back_up() -> None:
    target = newest_copy()
    part = target.with_name(f"{target.name}.part")
    try:
        _remove(part)  # of a process that was killed
        copy_database(_database(), part)
        replace_durably(part, target)
    finally:
        _remove(part)


def _compress(target: pathlib.Path) -> pathlib.Path:
    folder().mkdir(mode=0o700, exist_ok=True)
    for leftover in folder().glob("*.part"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    _compress_file(newest_copy(), target)
    for copy in expired(kept_copies()):
        copy.path.unlink(missing_ok=True)
    return target


def _compress_file(plain: pathlib.Path, target: pathlib.Path) -> None:
    part = target.with_name(f"{target.name}.gz.part")
    try:
        part.touch(mode=0o600)
        with gzip.open(part, "wb", compresslevel=6) as compressed, plain.open("rb") as source:
            shutil.copyfileobj(source, compressed, 2**20)
        sync_file(part)
        replace_durably(part, target)
    finally:
        part.unlink(missing_ok=True)


def _compressed_path(suffix: str = "") -> pathlib.Path:
    """Return the name under which `lobmob.db.bak` is compressed: by its moment, so that it is compressed once."""
    moment = datetime.fromtimestamp(int(newest_copy().stat().st_mtime), UTC)
    return folder() / f"lobmob-{moment.strftime(_STAMP)}{suffix}.db.gz"


def _newest_of_each(newest_first: Iterable[Copy], period: str, count: int) -> set[Copy]:
    """Return the newest copy of each of the last `count` periods that have any."""
    newest: dict[str, Copy] = {}
    for copy in newest_first:
        newest.setdefault(copy.moment.strftime(period), copy)
    return set(itertools.islice(newest.values(), count))


def _remove(part: pathlib.Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        part.with_name(part.name + suffix).unlink(missing_ok=True)


def _database() -> pathlib.Path:
    return pathlib.Path(str(connection.settings_dict["NAME"]))
