"""Putting a copy back into the live file, while web goes on answering.

Through SQLite's backup interface, in one transaction: a file that is swapped under web would lose web's later writes
without a word. The copy is made ready in a folder of its own first, so that the live file changes once, or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pathlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import connection

from core.errors import Conflict, LobwifeError, Unavailable
from core.files import replace_with_numbered_backup, sync_file
from core.sqlite import upkeep
from core.sqlite.copies import kept_copies
from core.sqlite.copy_reader import judge_schema, known_migrations, unpacked
from core.sqlite.gate import GateTimeout, gate_for
from lobwife.backups import carry_over
from lobwife.takeover.inspection import is_complete

log = logging.getLogger(__name__)
BEFORE_SUFFIX = ".before-restore"
_WAIT_SECONDS = 20.0
_UNKNOWN_IDS = 1000  # left out when nobody can tell which ids were given out since the newest copy


@dataclass(frozen=True)
class Restored:
    """What was done: how many tasks there are now, and where the replaced state was kept (None: it was unreadable).

    `left_out` names triggers and views of the copy, which are not lobwife's.
    """

    tasks: int
    kept_as: pathlib.Path | None
    left_out: list[str]


def restore(*, file: pathlib.Path, actor: str) -> Restored:
    """Make the live database what the copy holds; no id that was ever given out is given out again.

    Raises Conflict while the daemon runs, NotFound, Invalid or Conflict for a copy that can't be used, Unavailable when
    the live file can't be written; the live file is then as it was.
    """
    state = pathlib.Path(settings.STATE_DIR)
    database = state / settings.DATABASE_FILE
    connection.close()
    with _daemon_kept_out(state), unpacked(file, state) as copy:
        _bring_up_to_date(copy, file)
        with _web_kept_waiting(database):
            given = _given_out(database)
            kept_as = _keep_replaced(database) if given is not None else None
            with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as made_ready:
                try:
                    left_out = judge_schema(made_ready, file)
                    carry_over.carry_over(made_ready, given or _best_guess(state))
                    (tasks,) = made_ready.execute("SELECT count(*) FROM tasks").fetchone()
                except sqlite3.Error as error:
                    raise Conflict(f"{file} can't be made ready ({error}); nothing was changed") from error
                _write_into(database, made_ready)
    log.warning("%s restored %s into %s", actor, file, database)
    return Restored(tasks, kept_as, left_out)


@contextlib.contextmanager
def _daemon_kept_out(state: pathlib.Path) -> Iterator[None]:
    """Hold the daemon's lock, so that it neither runs nor starts meanwhile."""
    path = state / "daemon.lock"
    try:
        lock = path.open("a+")
    except OSError as error:
        raise Unavailable(f"{path} can't be opened ({error.strerror}): check LOBWIFE_STATE_DIR") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("the daemon runs: stop it first, web may go on; nothing was changed") from None
        yield


@contextlib.contextmanager
def _web_kept_waiting(database: pathlib.Path) -> Iterator[None]:
    try:
        with gate_for(str(database)).held(_WAIT_SECONDS):
            yield
    except GateTimeout:
        raise Unavailable(f"{database} is being written by another program: try again") from None


def _bring_up_to_date(copy: pathlib.Path, file: pathlib.Path) -> None:
    """Migrate a copy of an earlier version, the older service's included, before the live file gets it."""
    if is_complete(copy, known_migrations()):
        return
    done = subprocess.run(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "migrate", "--no-input", "-v0"],
        env={**os.environ, "LOBWIFE_STATE_DIR": str(copy.parent), "LOBWIFE_SECRET_KEY": settings.SECRET_KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise Conflict(f"{file} can't be brought up to this version ({said}); nothing was changed")
    with contextlib.closing(sqlite3.connect(copy)) as migrated:
        migrated.execute("PRAGMA journal_mode = DELETE").fetchone()


def _given_out(database: pathlib.Path) -> carry_over.Given | None:
    """What the live file knows; None when it is missing or can't be read."""
    if not database.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as live:
            return carry_over.read(live)
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{database} can't be read ({error}); nothing was changed") from error
    except sqlite3.DatabaseError:
        return None


def _best_guess(state: pathlib.Path) -> carry_over.Given:
    """What the other copies know, and some room for what came after them."""
    known = carry_over.Given({}, [], [])
    newest = [*(each.path for each in kept_copies()[-1:]), upkeep.newest_copy()]
    for each in newest:  # the newer one last: of two passwords the last counts
        with (
            contextlib.suppress(LobwifeError, sqlite3.Error),
            _unpacked_beside(each, state) as other,
            contextlib.closing(sqlite3.connect(other)) as opened,
        ):
            known = known.joined(carry_over.read(opened))
    return known.widened(_UNKNOWN_IDS)


@contextlib.contextmanager
def _unpacked_beside(file: pathlib.Path, state: pathlib.Path) -> Iterator[pathlib.Path]:
    """As unpacked, while another copy is unpacked in the state directory."""
    folder = state / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    with unpacked(file, folder) as made:
        yield made


def _keep_replaced(database: pathlib.Path) -> pathlib.Path | None:
    """The state that is replaced, under a name of its own; earlier ones are moved aside, not overwritten."""
    target = database.with_name(f"{database.name}{BEFORE_SUFFIX}")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        upkeep.copy_whole(database, part)
        sync_file(part)
        replace_with_numbered_backup(part, target)
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{target} can't be kept ({error}); nothing was changed") from error
    except sqlite3.DatabaseError:
        return None  # damaged in a part that the ids are not in
    except OSError as error:
        raise Unavailable(f"{target} can't be kept ({error.strerror}); nothing was changed") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _write_into(database: pathlib.Path, copy: sqlite3.Connection) -> None:
    try:
        if not database.exists():
            os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with contextlib.closing(sqlite3.connect(database, timeout=_WAIT_SECONDS)) as live:
            live.execute("PRAGMA journal_mode = WAL").fetchone()
            live.execute("PRAGMA synchronous = FULL")
            copy.backup(live)  # all pages in one step, so in one transaction
            live.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{database} can't be written ({error}); it is as it was") from error
    except sqlite3.DatabaseError as error:
        raise Conflict(
            f"{database} is so damaged that nothing can be written into it ({error}): stop web too, move it and its"
            " -wal and -shm files away, then restore again"
        ) from error
