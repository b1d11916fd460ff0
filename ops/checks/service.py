"""Checks of the running service: web, daemon, GitHub, the vault, the clock."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx2
from django.conf import settings
from django.core import checks
from django.db import connection
from django.db.utils import DatabaseError

import vaultsync.queries
from broker.github import app
from core.errors import LobwifeError
from core.timestamps import utc_now
from jobs.models import Daemon
from ops.checks import storage
from ops.checks.finding import Finding
from ops.health import daemon_summary
from ops.write_diagnosis import obstacle

_SECONDS = 8.0
_MOST_SKEW = 30


def configuration() -> Iterator[Finding]:
    """Django's and our own checks of the settings."""
    found = [each for each in checks.run_checks() if each.level >= checks.WARNING and not each.is_silenced()]
    for each in found:
        yield Finding("configuration", str(each.msg), str(each.hint or "see docs/configuration.md"))
    if not found:
        yield Finding("configuration", f"lobwife {settings.VERSION}, {settings.ENVIRONMENT}")


def daemon() -> Iterator[Finding]:
    """Its heartbeat, and what it says that it can't do."""
    if not _has_database():
        yield Finding("daemon", "not known without the database", "see to the database first")
        return
    try:
        summary = daemon_summary()
        row = Daemon.load()
    except DatabaseError:
        yield Finding("daemon", "not known without the database", "see to the database first")
        return
    finally:
        connection.close()
    if not summary["alive"]:
        if sentence := obstacle():
            yield Finding("daemon", "its sign of life can't be written", sentence)
            return
        age = summary["heartbeat_age"]
        found = "it never ran" if age is None else f"its last sign of life is {age:.0f} s old"
        yield Finding("daemon", found, "start it; daemon.log in the state directory says why it ended")
        return
    if row.version != settings.VERSION:
        todo = f"restart it: the code is {settings.VERSION}"
        yield Finding("daemon", f"it runs version {row.version}", todo)
    elif summary["trouble"]:
        yield Finding("daemon", f"alive, but {summary['trouble']}", "daemon.log in the state directory has the reason")
    else:
        paused = "; starts of scripts are paused: `manage.py resume`" if summary["paused"] else ""
        yield Finding("daemon", f"alive, pid {row.pid}{paused}")


def web() -> Iterator[Finding]:
    """Both ports answer."""
    for variable, local_url in (
        ("LOBWIFE_WEB_PORT", settings.LOCAL_WEB_URL),
        ("LOBWIFE_API_PORT", settings.LOCAL_API_URL),
    ):
        url = f"{local_url}/health"
        try:
            answer = httpx2.get(url, timeout=_SECONDS, trust_env=False)
        except httpx2.HTTPError as error:
            yield Finding("web", f"{url} does not answer ({type(error).__name__})", f"start web, or check {variable}")
            continue
        well = answer.status_code == 200
        yield Finding("web", f"{url} answers {answer.status_code}", "" if well else "the answer's body has the reason")


def broker_and_clock() -> Iterator[Finding]:
    """A real handshake with GitHub, which also tells the time."""
    try:
        github = app.configured()
    except LobwifeError as error:
        todo = "follow docs/broker.md" if settings.GH_APP_ID or settings.GH_APP_INSTALL_ID else ""
        yield Finding("broker", f"off: {error}", todo)
        return
    try:
        owner = github.owner(until=time.monotonic() + _SECONDS)
    except LobwifeError as error:
        yield Finding("broker", str(error), "check the App's settings, its key and the way to GitHub: docs/broker.md")
        return
    yield Finding("broker", f"GitHub knows the App; its installation is {owner}'s")
    skew = github.clock_skew
    todo = "set this machine's clock, by NTP" if abs(skew) > _MOST_SKEW else ""
    yield Finding("clock", f"{abs(skew)} s {'behind' if skew > 0 else 'ahead of'} GitHub's" if skew else "right", todo)


def clock() -> Iterator[Finding]:
    """The database's newest sign of life must not be in the future."""
    if not _has_database():
        return
    try:
        row = Daemon.load()
    except DatabaseError:
        return
    finally:
        connection.close()
    ahead = row.beat_at - utc_now() if row.beat_at else timedelta()
    if ahead > timedelta(seconds=_MOST_SKEW):
        found = f"the daemon's last sign of life is {ahead.total_seconds():.0f} s in the future"
        yield Finding("clock", found, "set this machine's clock, by NTP, then restart the daemon")
    else:
        yield Finding("clock", f"{utc_now():%Y-%m-%d %H:%M:%S} UTC")


def vault() -> Iterator[Finding]:
    """A git repository that this user can work in."""
    path = settings.VAULT_PATH
    if not (path / ".git").exists():
        todo = "" if not path.exists() else "let VAULT_PATH name the top of a clone of the vault's repository"
        yield Finding("vault", f"there is no git repository at {path}, so tasks are not mirrored", todo)
        return
    try:
        done = subprocess.run(
            ["git", "-C", str(path), "status", "--porcelain", "--branch", "--untracked-files=no"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=_SECONDS * 4,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("vault", f"git can't be run: {error}", "install git")
        return
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        full = "space" in said
        todo = "make room on its disk" if full else f"repair {path}, or move it away and clone it again"
        yield Finding("vault", f"git says: {said}", todo)
        return
    branch = done.stdout.splitlines()[0].removeprefix("## ")
    yield Finding("vault", f"a git repository at {path}, on {branch}")
    if _has_database():
        yield from _sync()


def _sync() -> Iterator[Finding]:
    try:
        shown = vaultsync.queries.sync_status()
    except DatabaseError:
        return  # the look at the database told
    finally:
        connection.close()
    if not shown["enabled"]:
        found = f"off: {shown['reason']}" if shown.get("reason") else "off"
        yield Finding("sync", found, "docs/vault.md says how it is mended")
        return
    remote = shown["remote"]
    if remote["error"] and remote["failures"]:
        todo = "see that the remote can be reached and may be written; commits wait here meanwhile"
        yield Finding("sync", f"the remote: {remote['error']}", todo)
    last = f"last at {shown['last_sync']} UTC" if shown["last_sync"] else "not yet"
    yield Finding("sync", f"{last}, {shown['pending_events']} events to go, {shown['problems']} odd notes")


def _has_database() -> bool:
    """A look must not make one."""
    return os.path.exists(settings.STATE_DIR / settings.DATABASE_FILE)


# In this order: what comes later depends on what comes before.
MACHINE: tuple[Callable[[], Iterator[Finding]], ...] = (
    configuration,
    storage.permissions,
    storage.disk,
    storage.database,
    storage.copies,
    daemon,
    web,
    clock,
    broker_and_clock,
    vault,
)
