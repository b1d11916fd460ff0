"""The state of the service, each fact read in one place: for health, dashboard, doctor and metrics."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

from django.conf import settings
from django.core.cache import cache
from django.db import connection, models, transaction
from django.db.models import Q
from django.db.utils import OperationalError

import vaultsync.queries
from broker.github import app
from broker.models import GitHubState
from core.database.backend import in_words, is_about_a_lock, is_postgres, server
from core.sqlite.copies import Copy, kept_copies
from core.sqlite.restore_test import RestoreTest, last_restore_test
from core.text import as_sentence
from core.timestamps import utc_now
from core.write_deadline import writing_until
from jobs.alerts.rules import destinations
from jobs.execution import reasons
from jobs.models import DEFAULT_LABEL, FAILURES, Alert, Delivery, Job, JobRun, JobState, Node, State, is_fresh
from ops import queries
from tasks.models import LeaseEnd, Status, Task, TaskLease
from vaultsync.models import VaultState

Row = TypeVar("Row", bound=models.Model)
_FULL_BYTES = 2**20
_SIZE_SECONDS = 60
_MOST_UNSENT = 1000
_MOST_TASKS, _MOST_LEASES = 8, 2000
_MOST_IN_A_ROW, _MOST_REASONS = 30, 20
_LOCKED = (
    "The database is locked by another program: nothing can be written and no script starts. Look for a shell"
    " or a backup that holds it open."
)


@dataclass(frozen=True)
class DaemonState:
    """The daemon's heartbeat, whether starts are paused, and what it reported that it can't do."""

    pid: int | None = None
    version: str = ""
    started_at: datetime | None = None
    beat_at: datetime | None = None
    paused_at: datetime | None = None
    paused_by: str = ""
    reported: str = ""

    @cached_property
    def age(self) -> timedelta | None:
        return utc_now() - self.beat_at if self.beat_at else None

    @property
    def is_alive(self) -> bool:
        return bool(self.pid) and self.age is not None and is_fresh(self.age)

    @cached_property
    def obstacle(self) -> str:
        """Return what keeps everybody from writing, and so the daemon from a sign of life."""
        return "" if self.is_alive else obstacle()

    @property
    def trouble(self) -> str:
        """Return what the daemon can't do: as it reported, or what keeps it from reporting."""
        return (self.obstacle if self.pid else "") or self.reported


@dataclass(frozen=True)
class GitHub:
    """GitHub as the broker knows it; `problem` is what the App's settings lack."""

    problem: str | None
    row: GitHubState

    @property
    def failed_last(self) -> bool:
        """Return whether GitHub's newest answer was an error."""
        minted, failed = self.row.last_mint_at, self.row.last_error_at
        return failed is not None and (minted is None or minted < failed)


@dataclass(frozen=True)
class Vault:
    """The sync's status as REST has it, and its row."""

    status: dict[str, Any]
    row: VaultState


@dataclass(frozen=True)
class Copies:
    """The kept copies of the database, oldest first, and the last restore test."""

    kept: list[Copy]
    test: RestoreTest | None

    @property
    def newest_at(self) -> datetime | None:
        return self.kept[-1].moment if self.kept else None

    @property
    def bytes(self) -> int:
        return sum(copy.size for copy in self.kept)


@dataclass(frozen=True)
class Alerts:
    """Jobs that ask for alerts which nobody would get, and alerts that nobody got."""

    nowhere: list[Job]
    unsent: list[Alert]  # oldest first
    dropped: int  # in the last day

    @property
    def has_destination(self) -> bool:
        return bool(settings.ALERT_URLS)


@dataclass(frozen=True)
class FailingJob:
    """An enabled job whose newest run failed: how often in a row, since when, and why the last time."""

    pk: int
    name: str
    count: int
    since: datetime | None = None
    run_id: int | None = None
    reason: str = ""


def failing_jobs() -> list[FailingJob]:
    """Return the enabled jobs whose newest run failed; an aborted one neither counts nor ends a row of failures."""
    names = queries.failing_jobs()
    judged: dict[int, list[tuple[int, str, datetime]]] = {pk: [] for pk in names}
    for job, run, state, _, queued_at in reversed(queries.newest_runs(_MOST_IN_A_ROW, list(names))):
        if state == State.SUCCESS or state in FAILURES:
            judged[job].append((run, state, queued_at))
    failures = {pk: list(itertools.takewhile(lambda run: run[1] in FAILURES, runs)) for pk, runs in judged.items()}
    explained = [runs[0][0] for runs in failures.values() if runs][:_MOST_REASONS]  # each reads a file
    words = reasons.by_run(JobRun.objects.filter(pk__in=explained).defer("definition"))
    return [
        FailingJob(pk, name, len(runs), since or _in_utc(runs[-1][2]), runs[0][0], words.get(runs[0][0], ""))
        for pk, (name, since) in names.items()
        if (runs := failures[pk])
    ]


def alerts() -> Alerts:
    asks = Q(late_after_seconds__isnull=False) | Q(long_after_seconds__isnull=False) | Q(alert_after_failures__gt=1)
    tried = Alert.objects.filter(state=Delivery.PENDING, attempts__gt=0).order_by("id")
    dropped = Alert.objects.filter(state=Delivery.DROPPED, created_at__gt=utc_now() - timedelta(days=1))
    nowhere = [job for job in Job.objects.filter(asks) if not destinations(job)]
    return Alerts(nowhere, list(tried.defer("body")[:_MOST_UNSENT]), dropped.count())


def daemon() -> DaemonState:
    row = queries.daemon_row()
    return DaemonState(*(_in_utc(value) for value in row)) if row else DaemonState()


def nodes() -> list[Any]:
    """Return the nodes, each with `is_alive`; none on SQLite, where there is one daemon."""
    return list(Node.objects.with_life()) if is_postgres() else []


def jobs_by_label() -> dict[str, list[str]]:
    """Return the names of enabled jobs by the label that they run on."""
    disabled = JobState.objects.filter(enabled=False).values("name")
    names: dict[str, list[str]] = {}
    for label, name in Job.objects.exclude(name__in=disabled).order_by("id").values_list("runs_on", "name"):
        names.setdefault(label or DEFAULT_LABEL, []).append(name)
    return names


def github() -> GitHub:
    return GitHub(app.problem(), _one_row(GitHubState))


def vault() -> Vault:
    return Vault(vaultsync.queries.sync_status(), _one_row(VaultState))


def copies() -> Copies:
    """Return the copies that this service keeps: of a file, since a server's are made with its own tools."""
    if is_postgres():
        return Copies([], None)
    return Copies(kept_copies(), last_restore_test())


def failed_leases(now: datetime) -> list[TaskLease]:
    """Return the leases of a day that expired, or whose holder said that the task failed, the newest first."""
    failed = Q(end=LeaseEnd.EXPIRED) | Q(end=LeaseEnd.RELEASED, outcome=Status.FAILED)
    leases = TaskLease.objects.filter(failed, ended_at__gte=now - timedelta(days=1))
    return list(leases.order_by("-ended_at")[:_MOST_LEASES])


def tasks_failed_again(leases: Iterable[TaskLease], times: int) -> list[tuple[Task, int]]:
    """Return tasks that are not done and on which agents failed so often, each with the number."""
    counts = Counter(lease.task_id for lease in leases)
    often = [task_id for task_id, count in counts.items() if count >= max(1, times)]
    over = (Status.COMPLETED, Status.CANCELLED)
    tasks = Task.objects.filter(pk__in=often).exclude(status__in=over).only("id", "name", "status").order_by("-id")
    return [(task, counts[task.pk]) for task in tasks[:_MOST_TASKS]]


def free_bytes() -> list[tuple[pathlib.Path, int]]:
    """Return the room on each disk that is written to, with the first folder on it."""
    disks: dict[int, tuple[pathlib.Path, int]] = {}
    for folder in (settings.STATE_DIR, settings.VAULT_PATH):
        with contextlib.suppress(OSError):
            disks.setdefault(folder.stat().st_dev, (folder, shutil.disk_usage(folder).free))
    return list(disks.values())


def database_bytes() -> int:
    """Return the size of the database; raises OSError where it is a file that is not there."""
    database = server()
    if database is None:
        return os.stat(str(connection.settings_dict["NAME"])).st_size
    return int(cache.get_or_set("ops.database_bytes", database.size_bytes, _SIZE_SECONDS) or 0)


def wal_bytes() -> int:
    """Return the size of SQLite's write-ahead log; 0 without one."""
    if is_postgres():
        return 0
    try:
        return os.stat(f"{connection.settings_dict['NAME']}-wal").st_size
    except FileNotFoundError:
        return 0


def obstacle() -> str:
    """Return why nobody can write, and what to do; "" when the database can be written.

    Waits a fifth of a second for a lock.
    """
    try:
        is_full = shutil.disk_usage(settings.STATE_DIR).free < _FULL_BYTES
    except OSError as error:
        return f"{settings.STATE_DIR} can't be read ({error.strerror}): nothing can be written and no script starts."
    if is_full:
        return (
            f"The disk of {settings.STATE_DIR} is full: nothing can be written and no script starts. Make room; the"
            " daemon goes on by itself."
        )
    try:
        with writing_until(time.monotonic()), transaction.atomic():
            transaction.set_rollback(True)  # nothing was written: nobody is to be woken, the disk not waited for
            return ""
    except OperationalError as error:
        return _LOCKED if is_about_a_lock(error) else as_sentence(in_words(error))


def _one_row(model: type[Row]) -> Row:
    """Return the only row of a table; one with defaults, not saved, while there is none."""
    return model._default_manager.order_by("pk").first() or model()


def _in_utc(value: Any) -> Any:
    """Return a time with its time zone, which SQLite does not store."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
