"""The database, its copies, the disk and who may read and write there. Nothing is changed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import DatabaseError

from core.sqlite.copies import kept_copies
from core.sqlite.restore_test import EVERY, last_restore_test
from core.timestamps import parse, utc_now
from ops.checks.finding import Finding
from tasks.models import Task, TaskEvent

_SCARCE_BYTES = 200 * 2**20
_LARGE_WAL_BYTES = 64 * 2**20
_LATE_COPY = timedelta(hours=3)
_SHOWN = 5
_NOTHING_THERE = (
    "set LOBWIFE_STATE_DIR to the state directory of the installation that you mean, or make this one:"
    " `manage.py migrate`"
)


def database() -> Iterator[Finding]:
    """Whole, up to date, its WAL small; and what the older service stored that can't be read."""
    path = settings.STATE_DIR / settings.DATABASE_FILE
    if not path.is_file():
        yield Finding("database", f"there is no {path}", _NOTHING_THERE)
        return
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as opened:
            (finding,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        yield Finding("database", f"{path} can't be read: {error}", "see to the disk, its rights and what else uses it")
        return
    except sqlite3.Error as error:
        finding = str(error)
    if finding != "ok":
        yield Finding("database", f"{path} is damaged: {finding}", "put a copy back: docs/operating.md, Restore")
        return
    try:
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if pending:
            yield Finding("database", f"{len(pending)} migrations are missing", "run `manage.py migrate`")
            return
        yield Finding("database", f"whole and up to date, {_mb(path.stat().st_size)}, SQLite {sqlite3.sqlite_version}")
        yield _wal(path)
        yield from _unreadable()
    except DatabaseError as error:
        yield Finding("database", f"can't be used: {error}", "see the log of web and daemon")
    finally:
        connection.close()


def copies() -> Iterator[Finding]:
    """Is the newest one young, and did the last trial pass."""
    kept = kept_copies()
    if not kept:
        yield Finding("copies", "none is kept yet", "start the daemon, which keeps one an hour, or `manage.py backup`")
        return
    age = utc_now() - kept[-1].moment
    found = f"{len(kept)} kept, the newest {_hours(age)} old, {_mb(sum(each.size for each in kept))} together"
    yield Finding(
        "copies", found, "" if age < _LATE_COPY else "see that the daemon runs; its log says why none was made"
    )
    trial = last_restore_test()
    if trial is None:
        yield Finding("trial of a copy", "not made yet; the daemon makes one a week")
    elif not trial.passed:
        yield Finding("trial of a copy", f"{trial.copy}: {trial.result}", "`manage.py backup` now, and check the disk")
    else:
        late = utc_now() - trial.tested_at > 2 * EVERY
        found = f"{trial.copy} was restored on {trial.tested_at:%Y-%m-%d}: {trial.result}"
        yield Finding("trial of a copy", found, "see that the daemon runs" if late else "")


def disk() -> Iterator[Finding]:
    """Room where things are written."""
    for folder in dict.fromkeys((settings.STATE_DIR, settings.VAULT_PATH)):
        if folder.exists():
            free = shutil.disk_usage(folder).free
            scarce = free < _SCARCE_BYTES
            todo = "make room: lower LOBWIFE_KEEP_OUTPUT_BYTES, or enlarge the disk" if scarce else ""
            yield Finding("disk", f"{_mb(free)} are free at {folder}", todo)


def permissions() -> Iterator[Finding]:
    """Everything in the state directory is this user's to read and write, and nobody else's."""
    state = pathlib.Path(settings.STATE_DIR)
    if not state.is_dir():
        yield Finding("permissions", f"there is no {state}", _NOTHING_THERE)
        return
    if not os.access(state, os.R_OK | os.W_OK | os.X_OK):
        todo = f"chown -R {os.getuid()}:{os.getgid()} {state} && chmod 700 {state}, for the user that runs lobwife"
        yield Finding("permissions", f"{state} can't be read or written by this user", todo)
        return
    refused = [str(path) for path in state.iterdir() if not os.access(path, os.R_OK | os.W_OK)]
    if refused:
        todo = f"give them to the user that runs lobwife: chown -R {os.getuid()}:{os.getgid()} {state}"
        yield Finding("permissions", f"can't be read or written: {', '.join(refused[:_SHOWN])}", todo)
    open_to_all = [
        path.name
        for path in (state / "secret-key", state / settings.DATABASE_FILE)
        if path.exists() and state.stat().st_mode & stat.S_IXOTH and path.stat().st_mode & stat.S_IRWXO
    ]
    if open_to_all:
        found = f"every user of this machine can read {' and '.join(open_to_all)}"
        yield Finding("permissions", found, f"chmod 700 {state}")
    if not refused and not open_to_all:
        yield Finding("permissions", f"{state} is this user's alone")


def _wal(path: pathlib.Path) -> Finding:
    wal = path.with_name(f"{path.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    todo = (
        "something reads for very long: end sqlite3 shells that sit in a transaction" if size > _LARGE_WAL_BYTES else ""
    )
    return Finding("WAL", f"{_mb(size)} wait to be moved into the database", todo)


def _unreadable() -> Iterator[Finding]:
    """Times that nobody validated when they were stored: shown as null, kept as they are, nothing to be done."""
    times = ("created_at", "updated_at", "queued_at", "assigned_at", "completed_at")
    odd = [
        f"T{pk}"
        for pk, *texts in Task.objects.order_by("pk").values_list("pk", *times).iterator()
        if any(text not in (None, "") and parse(text) is None for text in texts)
    ]
    events = TaskEvent.objects.filter(task__isnull=True).count()
    if odd or events:
        shown = ", ".join(odd[:_SHOWN]) + (" and others" if len(odd) > _SHOWN else "")
        parts = [f"{len(odd)} tasks have times that can't be read ({shown})"] if odd else []
        parts += [f"{events} events are of tasks that are gone"] if events else []
        yield Finding("old rows", f"{'; '.join(parts)}: kept as they are, shown as null")


def _mb(size: int) -> str:
    return f"{size / 10**6:.1f} MB"


def _hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3600:.1f} h"
