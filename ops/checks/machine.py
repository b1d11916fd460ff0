"""Checks for the doctor of what the service stands on: settings, disk, database, ports, GitHub, git. All only read."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2
from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from broker.github.client import GitHub
from core.database.backend import is_postgres, server
from core.display import duration
from core.errors import LobwifeError
from core.git.command import Git, GitError
from core.postgres import dump
from core.sqlite.copies import folder
from core.timestamps import parse, utc_now
from jobs.alerts import kinds
from ops.checks import Finding, bad, fleet, good, state, warn
from tasks.models import Task, TaskEvent

_SECONDS = 8.0
_MOST_SKEW_SECONDS = 30
_LARGE_WAL_BYTES = 64 * 2**20
_MOST_NAMED = 5
_NOTHING_THERE = (
    "set LOBWIFE_STATE_DIR to the state directory of the installation that you mean, or make this one:"
    " `manage.py migrate`"
)


def configuration() -> Iterator[Finding]:
    """Run Django's system checks, ours among them."""
    messages = [message for message in checks.run_checks() if message.level >= checks.WARNING]
    messages = [message for message in messages if not message.is_silenced()]
    for message in messages:
        yield bad("configuration", str(message.msg), str(message.hint or "see docs/configuration.md"))
    if not messages:
        yield good("configuration", f"lobwife {settings.VERSION}, {settings.ENVIRONMENT}")


def permissions() -> Iterator[Finding]:
    """Check that this user can read and write everything in the state directory."""
    folder = pathlib.Path(settings.STATE_DIR)
    if not folder.is_dir():
        yield bad("permissions", f"there is no {folder}", _NOTHING_THERE)
        return
    refused = [str(path) for path in folder.iterdir() if not os.access(path, os.R_OK | os.W_OK)]
    if refused:
        remedy = f"give them to the user that runs lobwife: chown -R {os.getuid()}:{os.getgid()} {folder}"
        yield bad("permissions", f"can't be read or written: {', '.join(refused[:_MOST_NAMED])}", remedy)
    else:
        yield good("permissions", f"{folder} can be read and written")


def disk() -> Iterator[Finding]:
    """Check for room where things are written."""
    yield from fleet.disk(_limits())


def database() -> Iterator[Finding]:
    """Check that it is whole and up to date, and its WAL small; name what the older service stored oddly."""
    server_database = server()
    if server_database is not None:
        yield from _server(server_database)
        return
    path = settings.STATE_DIR / settings.DATABASE_FILE
    if not path.is_file():
        yield bad("database", f"there is no {path}", _NOTHING_THERE)
        return
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as opened:
            (damage,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        yield bad("database", f"{path} can't be read: {error}", "see to the disk, its rights and what else uses it")
        return
    except sqlite3.Error as error:
        damage = str(error)
    if damage != "ok":
        yield bad("database", f"{path} is damaged: {damage}", "put a copy back: docs/operating.md, Restore")
        return
    missing = _missing_migrations()
    if missing:
        yield missing
        return
    size = _mb(path.stat().st_size)
    yield good("database", f"whole and up to date, {size}, SQLite {sqlite3.sqlite_version}")
    sentence = f"{_mb(state.wal_bytes())} wait to be moved into the database"
    if state.wal_bytes() > _LARGE_WAL_BYTES:
        yield warn("WAL", sentence, "something reads for very long: end sqlite3 shells that sit in a transaction")
    else:
        yield good("WAL", sentence)
    yield from _unreadable_rows()


def _server(connection: Any) -> Iterator[Finding]:
    """Check a database that has a server: what it lacks, and that it is up to date."""
    obstacles = connection.obstacles()
    for obstacle in obstacles:
        yield bad("database", obstacle.sentence, obstacle.hint)
    missing = None if obstacles else _missing_migrations()
    if missing:
        yield missing
    elif not obstacles:
        size = _mb(state.database_bytes())
        yield good("database", f"up to date, {size}, {connection.display_name} {connection.server_version()}")
        yield from _unreadable_rows()


def _missing_migrations() -> Finding | None:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return bad("database", f"{len(missing)} migrations are missing", "run `manage.py migrate`") if missing else None


def _unreadable_rows() -> Iterator[Finding]:
    """Name the times that nobody validated when they were stored; there is nothing to be done about them."""
    times = ("created_at", "updated_at", "queued_at", "assigned_at", "completed_at")
    odd = [
        f"T{pk}"
        for pk, *texts in Task.objects.order_by("pk").values_list("pk", *times).iterator()
        if any(text not in (None, "") and parse(text) is None for text in texts)
    ]
    events = TaskEvent.objects.filter(task__isnull=True).count()
    if odd or events:
        named = ", ".join(odd[:_MOST_NAMED]) + (" and others" if len(odd) > _MOST_NAMED else "")
        parts = [f"{len(odd)} tasks have times that can't be read ({named})"] if odd else []
        parts += [f"{events} events are of tasks that are gone"] if events else []
        yield good("old rows", f"{'; '.join(parts)}: kept as they are, shown as null")


def copies() -> Iterator[Finding]:
    """Check the copies of the database; an installation that runs has at least one."""
    if is_postgres():
        yield _dump()
        return
    kept = state.copies()
    if not kept.kept:
        remedy = "start the daemon, which keeps one an hour, or run `manage.py backup`"
        yield bad("copies", "none is kept yet", remedy)
    yield from fleet.copies(kept, _limits())


def _dump() -> Finding:
    own = "made with the database's own tools (docs/postgres.md)"
    newest = dump.newest(folder())
    if newest is None:
        return good("copies", f"{own}; none by `manage.py backup` is here")
    age = (utc_now() - datetime.fromtimestamp(newest.stat().st_mtime, UTC)).total_seconds()
    return good("copies", f"{own}; the newest by `manage.py backup` is {duration(age)} old")


def daemon() -> Iterator[Finding]:
    current = state.daemon()
    yield from fleet.daemon(current)
    yield from fleet.clock(current)
    nodes = state.nodes()
    yield from fleet.nodes(nodes)
    yield from fleet.labels(nodes)


def alerts() -> Iterator[Finding]:
    """Check where alerts go, by the environment of whoever asks."""
    yield from fleet.alerts(state.alerts())


def web() -> Iterator[Finding]:
    """Check that both ports answer."""
    urls = {"LOBWIFE_WEB_PORT": settings.LOCAL_WEB_URL, "LOBWIFE_API_PORT": settings.LOCAL_API_URL}
    for variable, local_url in urls.items():
        url = f"{local_url}/health"
        try:
            response = httpx2.get(url, timeout=_SECONDS, trust_env=False)
        except httpx2.HTTPError as error:
            yield bad("web", f"{url} does not answer ({type(error).__name__})", f"start web, or check {variable}")
            continue
        sentence = f"{url} answers {response.status_code}"
        is_well = response.status_code == 200
        yield good("web", sentence) if is_well else bad("web", sentence, "the answer's body has the reason")


def broker() -> Iterator[Finding]:
    """Ask GitHub for the App's installation, which also tells the time."""
    try:
        github = GitHub.configured()
    except LobwifeError as error:
        is_meant = settings.GH_APP_ID or settings.GH_APP_INSTALL_ID
        yield bad("broker", f"off: {error}", "follow docs/broker.md") if is_meant else good("broker", f"off: {error}")
        return
    try:
        owner = github.owner(until=time.monotonic() + _SECONDS)
    except LobwifeError as error:
        yield bad("broker", str(error), "check the App's settings, its key and the way to GitHub: docs/broker.md")
        return
    yield good("broker", f"GitHub knows the App; its installation is {owner}'s")
    skew = github.clock_skew
    if abs(skew) > _MOST_SKEW_SECONDS:
        direction = "behind" if skew > 0 else "ahead of"
        yield bad("clock", f"{abs(skew)} s {direction} GitHub's", "set this machine's clock, by NTP")


def vault() -> Iterator[Finding]:
    """Check that the vault is a git repository in which this user can work, and its sync."""
    path = settings.VAULT_PATH
    if not (path / ".git").exists():
        yield good("vault", f"there is no git repository at {path}, so tasks are not mirrored")
        return
    try:
        status = Git(path).text("status", "--porcelain", "--branch", "--untracked-files=no", timeout=_SECONDS * 4)
    except GitError as error:
        repair = f"repair {path}, or move it away and clone it again"
        yield bad("vault", f"git says: {error}", "make room on its disk" if "space" in error.stderr else repair)
        return
    branch = status.splitlines()[0].removeprefix("## ")
    yield good("vault", f"a git repository at {path}, on {branch}")
    yield from fleet.vault(state.vault(), _limits())


def _limits() -> fleet.Limits:
    """Return what operators decided; the defaults where the database can't say, which another check is about."""
    try:
        return kinds.thresholds()
    except DatabaseError:
        return {name: kind.threshold or 0 for name, kind in kinds.KINDS.items()}


def _mb(size: int) -> str:
    return f"{size / 10**6:.1f} MB"


# In this order: what comes later depends on what comes before.
CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    configuration,
    permissions,
    disk,
    database,
    copies,
    daemon,
    alerts,
    web,
    broker,
    vault,
)
