"""The rows that a restore must not undo: ids that were given out, firings dealt with, and who may come in."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.models import F, Q

from access.models import AccessPolicy, ApiKey, LeaseKey
from broker.models import AllowedService
from core.sqlite.copy_reader import tables
from core.timestamps import utc_now
from events.models import Event
from jobs.models import ACTIVE, AlertSetting, Job, JobRun, JobState, State
from jobs.services import DEFINITION
from tasks.models import TaskPlan
from webhooks.models import Subscription

_ALIAS = "copy"
_LOST = "the database was put back to a moment at which this run was not over: what became of it is not known"
# Accounts with their rights and history, keys, and what callers and services may do.
_ACCESS: Sequence[type[models.Model]] = (
    ContentType,
    Permission,
    Group,
    Group.permissions.through,
    User,
    User.groups.through,
    User.user_permissions.through,
    LogEntry,
    ApiKey,
    AccessPolicy,
    AllowedService,
)
_NAMED = {"account": (User, "username"), "API key": (ApiKey, "name"), "allowed service": (AllowedService, "name")}


@dataclass(frozen=True)
class Present:
    """The carried values: the highest id of each table, and how far schedules are dealt with."""

    sequences: dict[str, int] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)


@contextlib.contextmanager
def opened(database: pathlib.Path) -> Iterator[str]:
    """Open a file for the ORM; yields its database alias."""
    connections.databases[_ALIAS] = {**connections.databases[DEFAULT_DB_ALIAS], "NAME": database}
    try:
        yield _ALIAS
    finally:
        connections[_ALIAS].close()
        del connections[_ALIAS]
        del connections.databases[_ALIAS]


def read(alias: str) -> Present:
    """Read it from a database, of an earlier or later version too; raises DatabaseError."""
    with connections[alias].cursor() as cursor:
        present = {table.name for table in connections[alias].introspection.get_table_list(cursor)}
        sequences: dict[str, int] = {}
        if present:
            cursor.execute("SELECT name, CAST(seq AS INTEGER) FROM sqlite_sequence")
            sequences = dict(cursor.fetchall())
    settled = Job.objects.using(alias).exclude(settled_through=None).only("name", "settled_through", "next_firing")
    return Present(sequences, list(settled) if Job._meta.db_table in present else [])


def write(alias: str, present: Present, *, spare_ids: int) -> None:
    """Write it into an up-to-date copy, in one transaction, and leave out `spare_ids` ids of each table.

    Runs that were not over are closed: they would run a second time. Everybody signs in again: a session of then may
    be one that was ended since. The keys of leases go, so that leases of then expire, and their fences are not given
    out again.
    """
    with transaction.atomic(using=alias):
        _raise_sequences(alias, present.sequences, spare_ids)
        Event.objects.using(alias).create(type="database.restored", subject="database")
        for job in present.jobs:
            behind = Q(settled_through=None) | Q(settled_through__lt=job.settled_through)
            Job.objects.using(alias).filter(behind, name=job.name).update(
                settled_through=job.settled_through, next_firing=job.next_firing
            )
        JobRun.objects.using(alias).filter(state__in=ACTIVE).update(state=State.LOST, note=_LOST, ended_at=utc_now())
        Session.objects.using(alias).all().delete()
        LeaseKey.objects.using(alias).all().delete()
        TaskPlan.objects.using(alias).update(fence=F("fence") + spare_ids)


def left_out(copy: sqlite3.Connection, reference: pathlib.Path) -> list[str]:
    """Return the accounts, keys and services of a copy that are not in the database that is replaced."""
    names: list[str] = []
    with _attached(copy, reference):
        for kind, (model, column) in _NAMED.items():
            table = model._meta.db_table
            rows = copy.execute(
                f"SELECT {column} FROM main.{table} WHERE {column} NOT IN (SELECT {column} FROM present.{table})"  # noqa: S608
            )
            names += [f"{kind} {name}" for (name,) in rows]
    return sorted(names)


def changed_jobs(copy: sqlite3.Connection, reference: pathlib.Path) -> list[str]:
    """Return the jobs that are defined otherwise in the copy, each with the columns that differ, or enabled in it."""
    changes: list[str] = []
    with _attached(copy, reference):
        existing = copy.execute("SELECT name FROM pragma_table_info(?, 'present')", [Job._meta.db_table]).fetchall()
        columns = [name for name in DEFINITION if (name,) in existing]  # a database of an earlier version lacks some
        present = {name: (enabled, values) for name, enabled, *values in copy.execute(_jobs_of("present", columns))}
        for name, enabled, *values in copy.execute(_jobs_of("main", columns)):
            if name not in present:
                state = "enabled" if enabled else "disabled"
                changes.append(f"job {name} is new and {state}, with the script {values[columns.index('script')]}")
                continue
            was_enabled, before = present[name]
            if before != values:
                pairs = zip(columns, before, values, strict=True)
                changes.append(f"job {name}: other {', '.join(column for column, old, new in pairs if old != new)}")
            if enabled and not was_enabled:
                changes.append(f"job {name} is disabled and would be enabled")
    return changes


def changed_receivers(copy: sqlite3.Connection, reference: pathlib.Path) -> list[str]:
    """Return the webhooks that would send what they don't send now, and the kinds of alerts that would go elsewhere."""
    active = "WHERE is_enabled AND paused_at IS NULL"
    webhooks = (Subscription, "name, url, types, task_id, job, repository", active, "webhook {} would send to {}")
    alerts = (AlertSetting, "kind, is_on, urls", "", "alerts of the kind {} would go to other recipients, or be off")
    changes: list[str] = []
    with _attached(copy, reference):
        existing = {name for (name,) in copy.execute("SELECT name FROM present.sqlite_schema")}
        for model, columns, where, sentence in (webhooks, alerts):
            table = model._meta.db_table
            select = f"SELECT {columns} FROM main.{table} {where}"  # noqa: S608
            if table in existing:  # a database of an earlier version has none
                select += f" EXCEPT SELECT {columns} FROM present.{table} {where}"  # noqa: S608
            changes += [sentence.format(*row) for row in copy.execute(select)]
    return changes


def _jobs_of(schema: str, columns: Sequence[str]) -> str:
    """Return the query for name, whether it is enabled, and columns of each job; a job without a row is enabled."""
    return f"""
        SELECT job.name, coalesce(job_state.enabled, 1), {", ".join(columns)} FROM {schema}.{Job._meta.db_table} job
        LEFT JOIN {schema}.{JobState._meta.db_table} job_state ON job_state.name = job.name ORDER BY job.name
    """  # noqa: S608


def keep_access(copy: sqlite3.Connection, reference: pathlib.Path) -> None:
    """Replace who may come in, in an up-to-date copy, by what the database that is replaced has."""
    with _attached(copy, reference), copy:
        copy.execute("BEGIN")
        for model in reversed(_ACCESS):
            copy.execute(f"DELETE FROM main.{model._meta.db_table}")  # noqa: S608
        for model in _ACCESS:
            table = model._meta.db_table
            columns = ", ".join(f'"{model_field.column}"' for model_field in model._meta.concrete_fields)
            copy.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM present.{table}")  # noqa: S608


def has_access(reference: pathlib.Path) -> bool:
    """Return whether a database has those tables and at least one account or key."""
    with contextlib.closing(sqlite3.connect(f"{reference.as_uri()}?mode=ro", uri=True)) as present:
        names = {model._meta.db_table for model in _ACCESS}
        anybody = "SELECT 1 FROM auth_user UNION ALL SELECT 1 FROM lobwife_apikey LIMIT 1"
        return names <= tables(present) and present.execute(anybody).fetchone() is not None


@contextlib.contextmanager
def _attached(copy: sqlite3.Connection, reference: pathlib.Path) -> Iterator[None]:
    copy.execute("ATTACH ? AS present", [f"{reference.as_uri()}?mode=ro"])
    try:
        yield
    finally:
        copy.execute("DETACH present")


def _raise_sequences(alias: str, sequences: dict[str, int], spare_ids: int) -> None:
    """Set SQLite's own counters, which the ORM has no model of."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT name, CAST(seq AS INTEGER) FROM sqlite_sequence")
        own = dict(cursor.fetchall())
        for table in {*sequences, *own}:
            highest = max(sequences.get(table) or 0, own.get(table) or 0) + spare_ids
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, highest])
