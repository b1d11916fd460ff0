"""Restoring a copy into the live database, while web goes on answering.

Through SQLite's backup interface, in one transaction: a file that is swapped under web would lose web's later writes.
The copy is made ready in a temporary folder first, so that the live file changes once, or not at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.utils import DatabaseError, OperationalError

from core.errors import Conflict, LobwifeError, Unavailable
from core.files import locked, replace_with_numbered_backup
from core.sqlite.copies import copy_database, folder, kept_copies, newest_copy, refuse_on_server
from core.sqlite.copy_reader import check_schema, known_migrations, unpacked
from core.sqlite.gate import GateTimeout, gate_for
from lobwife.backups import carry_over
from lobwife.backups.carry_over import Present
from lobwife.takeover.database import is_complete
from tasks.models import Task

log = logging.getLogger(__name__)
BEFORE_SUFFIX = ".before-restore"
_WAIT_SECONDS = 20.0
_SPARE_IDS = 1000  # left out when nobody can tell which ids were given out since the newest copy


@dataclass(frozen=True)
class Restored:
    """The number of tasks now, where the replaced state was kept (None: it was unreadable), and what was left out.

    `left_out` names triggers and views of the copy, which are not lobwife's.
    """

    tasks: int
    kept_as: pathlib.Path | None
    left_out: list[str]


def restore(
    *, file: pathlib.Path, actor: str, trusted: bool = False, confirm: Callable[[list[str]], bool] = lambda _: True
) -> Restored:
    """Make the live database what the copy holds; no id that was ever given out is given out again.

    Accounts, keys and what services may do stay as they are, unless the copy is `trusted`. `confirm` is asked what
    to do about changes: a list of sentences, if there are any. Raises Conflict when it refuses or the daemon runs,
    NotFound, Invalid or Conflict for a copy that can't be used, Unavailable when the live file can't be written; the
    live file is then as it was.
    """
    refuse_on_server()
    state = pathlib.Path(settings.STATE_DIR)
    database = state / settings.DATABASE_FILE
    connection.close()
    with _daemon_lock(state), unpacked(file, state) as copy:
        _migrate(copy, file)
        with contextlib.closing(sqlite3.connect(copy.as_uri(), uri=True, isolation_level=None)) as raw:
            left_out = check_schema(raw, file)
            changes = _changes(raw, database, trusted)
        if changes and not confirm(changes):
            raise Conflict(f"{file} was not restored; nothing was changed")
        with _write_gate(database):
            present = _read_live(database)
            kept_as = _keep_replaced(database) if present is not None else None
            try:
                with _reference(database, present) as (reference, present_values):
                    spare_ids = 0 if present is not None else _SPARE_IDS
                    tasks = _make_ready(copy, present_values, spare_ids, None if trusted else reference)
            except (DatabaseError, sqlite3.Error) as error:
                raise Conflict(f"{file} can't be made ready ({error}); nothing was changed") from error
            _write_into(database, copy)
    log.warning("%s restored %s into %s", actor, file, database)
    return Restored(tasks, kept_as, left_out)


def _changes(copy: sqlite3.Connection, database: pathlib.Path, trusted: bool) -> list[str]:
    """Return what a person should know before: who is left out or comes in, which jobs and receivers change."""
    try:
        if not database.exists() or not carry_over.has_access(database):
            return []  # nothing to compare with
        how = "comes in with the copy" if trusted else "is only in the copy and left out"
        people = [f"{name} {how}" for name in carry_over.left_out(copy, database)]
        jobs = carry_over.changed_jobs(copy, database)
        return people + jobs + carry_over.changed_receivers(copy, database)
    except sqlite3.Error:
        return []  # damaged, or of an earlier version


def _make_ready(copy: pathlib.Path, present: Present, spare_ids: int, reference: pathlib.Path | None) -> int:
    """Write what is carried over into the copy; return the number of its tasks."""
    if reference is not None and carry_over.has_access(reference):
        with contextlib.closing(sqlite3.connect(copy.as_uri(), uri=True, isolation_level=None)) as raw:
            carry_over.keep_access(raw, reference)
    with carry_over.opened(copy) as alias:
        carry_over.write(alias, present, spare_ids=spare_ids)
        return Task.objects.using(alias).count()


@contextlib.contextmanager
def _reference(database: pathlib.Path, present: Present | None) -> Iterator[tuple[pathlib.Path | None, Present]]:
    """Yield the database from which is carried over: the live one, else the newest copy that can be read."""
    if present is not None:
        yield database, present
        return
    folder().mkdir(mode=0o700, exist_ok=True)
    for path in (newest_copy(), *(copy.path for copy in kept_copies()[-1:])):
        with contextlib.ExitStack() as stack:
            try:
                # Not in the state directory, where the copy to restore is unpacked.
                copy = stack.enter_context(unpacked(path, folder()))
                with carry_over.opened(copy) as alias:
                    present = carry_over.read(alias)
            except (LobwifeError, DatabaseError):
                continue
            yield copy, present
            return
    yield None, Present()


@contextlib.contextmanager
def _daemon_lock(state: pathlib.Path) -> Iterator[None]:
    """Hold the daemon's lock, so that it neither runs nor starts meanwhile."""
    path = state / "daemon.lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path, wait=False))
        except BlockingIOError:
            raise Conflict("the daemon runs: stop it first, web may go on; nothing was changed") from None
        except OSError as error:
            raise Unavailable(f"{path} can't be opened ({error.strerror}): check LOBWIFE_STATE_DIR") from None
        yield


@contextlib.contextmanager
def _write_gate(database: pathlib.Path) -> Iterator[None]:
    """Hold the write gate, so that web's writes wait."""
    try:
        with gate_for(str(database)).held(_WAIT_SECONDS):
            yield
    except GateTimeout:
        raise Unavailable(f"{database} is being written by another program: try again") from None


def _migrate(copy: pathlib.Path, file: pathlib.Path) -> None:
    """Migrate a copy of an earlier version, the older service's included, before the live file gets it."""
    if is_complete(copy, known_migrations()):
        return
    process = subprocess.run(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "migrate", "--no-input", "-v0"],
        env={**os.environ, "LOBWIFE_STATE_DIR": str(copy.parent), "LOBWIFE_SECRET_KEY": settings.SECRET_KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise Conflict(f"{file} can't be brought up to this version ({reason}); nothing was changed")


def _read_live(database: pathlib.Path) -> Present | None:
    """Read what is carried over from the live file; None when it is missing or damaged."""
    if not database.exists():
        return None
    try:
        return carry_over.read(DEFAULT_DB_ALIAS)
    except OperationalError as error:
        raise Unavailable(f"{database} can't be read ({error}); nothing was changed") from error
    except DatabaseError:
        return None
    finally:
        connection.close()


def _keep_replaced(database: pathlib.Path) -> pathlib.Path | None:
    """Keep the state that is replaced, and return its path; earlier ones are moved aside. None when it is damaged."""
    target = database.with_name(f"{database.name}{BEFORE_SUFFIX}")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        copy_database(database, part)
        replace_with_numbered_backup(part, target)
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{target} can't be kept ({error}); nothing was changed") from error
    except sqlite3.DatabaseError:
        return None  # damaged in a part that carry_over did not read
    except OSError as error:
        raise Unavailable(f"{target} can't be kept ({error.strerror}); nothing was changed") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _write_into(database: pathlib.Path, copy: pathlib.Path) -> None:
    try:
        database.touch(mode=0o600)
        with (
            contextlib.closing(sqlite3.connect(copy)) as source,
            contextlib.closing(sqlite3.connect(database, timeout=_WAIT_SECONDS)) as live,
        ):
            live.execute("PRAGMA journal_mode = WAL").fetchone()
            live.execute("PRAGMA synchronous = FULL")
            source.backup(live)  # all pages in one step, so in one transaction
            live.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{database} can't be written ({error}); it is as it was") from error
    except sqlite3.DatabaseError as error:
        raise Conflict(
            f"{database} is so damaged that nothing can be written into it ({error}): stop web too, move it and its"
            " -wal and -shm files away, then restore again"
        ) from error
