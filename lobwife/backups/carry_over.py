"""The rows that a restore must not undo: ids that were given out, firings dealt with, what was closed to callers."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.models import Q

from access.models import AccessPolicy, ApiKey, Mode
from core.timestamps import utc_now
from jobs.models import ACTIVE, Job, JobRun, State

Row = TypeVar("Row", bound=models.Model)
_ALIAS = "copy"
_LOST = "the database was put back to a moment at which this run was not over: what became of it is not known"
_RIGHTS = ("is_active", "is_staff", "is_superuser")


@dataclass(frozen=True)
class Present:
    """The carried values: the highest id of each table, how far schedules are dealt with, who may come in."""

    sequences: dict[str, int] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    revoked_keys: list[ApiKey] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    requires_credentials: bool = False


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
        tables = {table.name for table in connections[alias].introspection.get_table_list(cursor)}
        sequences: dict[str, int] = {}
        if tables:
            cursor.execute("SELECT name, CAST(seq AS INTEGER) FROM sqlite_sequence")
            sequences = dict(cursor.fetchall())

    def rows(queryset: models.QuerySet[Row]) -> list[Row]:
        return list(queryset.using(alias)) if queryset.model._meta.db_table in tables else []

    return Present(
        sequences,
        rows(Job.objects.exclude(settled_through=None).only("name", "settled_through", "next_firing")),
        rows(ApiKey.objects.exclude(revoked_at=None).only("prefix", "revoked_at", "revoked_by")),
        rows(User.objects.only("username", "password", *_RIGHTS)),
        any(policy.mode == Mode.REQUIRED for policy in rows(AccessPolicy.objects.only("decided", "initial"))),
    )


def write(alias: str, present: Present, *, spare_ids: int) -> None:
    """Write it into an up-to-date copy, in one transaction, and leave out `spare_ids` ids of each table.

    Runs that were not over are closed: they would run a second time. Everybody signs in again: a session of then may
    be one that was ended since.
    """
    with transaction.atomic(using=alias):
        _raise_sequences(alias, present.sequences, spare_ids)
        for job in present.jobs:
            behind = Q(settled_through=None) | Q(settled_through__lt=job.settled_through)
            Job.objects.using(alias).filter(behind, name=job.name).update(
                settled_through=job.settled_through, next_firing=job.next_firing
            )
        JobRun.objects.using(alias).filter(state__in=ACTIVE).update(state=State.LOST, note=_LOST, ended_at=utc_now())
        for key in present.revoked_keys:
            ApiKey.objects.using(alias).filter(prefix=key.prefix, revoked_at=None).update(
                revoked_at=key.revoked_at, revoked_by=key.revoked_by
            )
        for policy in AccessPolicy.objects.using(alias):
            if present.requires_credentials and policy.mode == Mode.OPEN:
                policy.decided, policy.decided_by = Mode.REQUIRED, "a restore"
                policy.save(update_fields=["decided", "decided_by"])
        for user in present.users:
            taken = {right: False for right in _RIGHTS if not getattr(user, right)}
            User.objects.using(alias).filter(username=user.username).update(password=user.password, **taken)
        Session.objects.using(alias).all().delete()


def _raise_sequences(alias: str, sequences: dict[str, int], spare_ids: int) -> None:
    """Set SQLite's own counters, which the ORM has no model of."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT name, CAST(seq AS INTEGER) FROM sqlite_sequence")
        own = dict(cursor.fetchall())
        for table in {*sequences, *own}:
            highest = max(sequences.get(table) or 0, own.get(table) or 0) + spare_ids
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, highest])
