"""The hottest statements, made once: compiling them through querysets takes three quarters of a cached token's time,
and a good part of what a new one takes beyond GitHub's.

Standard SQL over the models' own tables, nothing that only one database knows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from broker.models import Grant, IssuedToken, Mint, TokenAudit
from tasks.models import OVER, Task, TaskEvent

_TASK = Task._meta.db_table
_GRANT = Grant._meta.db_table
_TOKEN = IssuedToken._meta.db_table
_EVENT = TaskEvent._meta.db_table
_AUDIT = TokenAudit._meta.db_table
_MINT = Mint._meta.db_table
_PLACES = ", ".join(["%s"] * len(OVER))
# Every value is a parameter; what is put together here are the names of our own tables.
_READ_TASK = (
    "SELECT t.broker_repos, t.broker_status, t.broker_registered_at, t.type, t.status, g.generation, g.lobster_type"  # noqa: S608
    f" FROM {_TASK} t LEFT JOIN {_GRANT} g ON g.subject = %s WHERE t.id = %s"
)
_FIND_TOKEN = (
    f"SELECT k.id, k.sealed, k.sha256, k.permissions, k.expires_at FROM {_TOKEN} k"  # noqa: S608
    " WHERE k.subject = %s AND k.state = 'live' AND k.scope_digest = %s AND k.refresh_at > %s"
)
_NOT_OVER_SINCE = (
    f" AND NOT EXISTS (SELECT 1 FROM {_EVENT} e WHERE e.task_id = %s AND e.id > k.event_id"  # noqa: S608
    f" AND e.status IN ({_PLACES}))"
)
_COUNT_FOR_TASK = (
    f"UPDATE {_TASK} SET token_count = token_count + 1 WHERE id = %s AND status = %s AND broker_status = %s"  # noqa: S608
    " AND broker_repos = %s AND COALESCE(broker_registered_at, '') = %s"
    f" AND EXISTS (SELECT 1 FROM {_TOKEN} k WHERE k.id = %s AND k.state = 'live')"
)
_COUNT_NEW_FOR_TASK = f"UPDATE {_TASK} SET token_count = token_count + 1 WHERE id = %s"  # noqa: S608
_CLAIM_MINT = (
    f"INSERT INTO {_MINT} (scope_digest, holder, lease_until, failure, failure_status) VALUES (%s, %s, %s, '', 503)"  # noqa: S608
    " ON CONFLICT (scope_digest) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until,"
    f" failed_at = NULL WHERE {_MINT}.lease_until <= %s"
)
_RELEASE_MINT = f"DELETE FROM {_MINT} WHERE scope_digest = %s AND holder = %s"  # noqa: S608


@dataclass(frozen=True)
class StoredToken:
    """What the store has of a live token."""

    id: int
    sealed: str
    sha256: str
    permissions: str
    expires_at: datetime


def read_task(subject: str, number: int) -> tuple[Any, ...] | None:
    """broker_repos, broker_status, broker_registered_at, type, status, generation, lobster_type of a task."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_TASK, (subject, number))
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def find_token(subject: str, digest: str, task_number: int | None, refresh_after: datetime) -> StoredToken | None:
    """The newest live token of a scope that needn't be refreshed by then, and whose task was not over since."""
    sql, parameters = _FIND_TOKEN, [subject, digest, _moment(refresh_after)]
    if task_number is not None:
        sql, parameters = sql + _NOT_OVER_SINCE, [*parameters, task_number, *OVER]
    with connection.cursor() as cursor:
        cursor.execute(sql + " ORDER BY k.id DESC LIMIT 1", parameters)
        row = cursor.fetchone()
    if row is None:
        return None
    id, sealed, sha256, permissions, expires_at = row
    return StoredToken(id, sealed, sha256, permissions, _read_moment(expires_at))


def count_for_task(*, number: int, unchanged: Sequence[str], token_id: int) -> bool:
    """Count a token for a task whose status, broker_status, _repos, _registered_at are unchanged; False otherwise."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_FOR_TASK, (number, *unchanged, token_id))
        counted: bool = cursor.rowcount == 1
        return counted


def count_new_for_task(number: int) -> None:
    """Count a token that was just made for a task."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_NEW_FOR_TASK, (number,))


def claim_mint(*, digest: str, holder: str, now: datetime, lease_until: datetime) -> bool:
    """Whether the claim on a scope is the holder's now: nobody had it, or the lease had run out."""
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM_MINT, (digest, holder, _moment(lease_until), _moment(now)))
        claimed: bool = cursor.rowcount == 1
        return claimed


def release_mint(*, digest: str, holder: str) -> None:
    """End the claim if it is the holder's."""
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE_MINT, (digest, holder))


def insert_audit(values: Mapping[str, Any]) -> None:
    """Append one entry; the names are columns."""
    with connection.cursor() as cursor:
        cursor.execute(_insert(tuple(values)), tuple(values.values()))


@functools.cache
def _insert(columns: tuple[str, ...]) -> str:
    known = {field.column for field in TokenAudit._meta.concrete_fields}
    if not known.issuperset(columns):
        raise ValueError(f"not columns of {_AUDIT}: {set(columns) - known}")
    return f"INSERT INTO {_AUDIT} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"  # noqa: S608


def _moment(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


def _read_moment(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
