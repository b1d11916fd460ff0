"""Hand-written SQL for the look-ups of every REST call with a key, and for the key that every claim makes.

Through the ORM they take 240 and 250 microseconds of processor time, so 20 and 10.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from django.db import connection

from core.database.statements import read_one, write

# Both tables at once: a round trip less to a server, for every call.
_KEYS = """
SELECT l.digest, l.lease_id, k.digest, k.name, k.role, k.task_number, k.service, k.last_used_at
FROM (SELECT 1) AS one LEFT JOIN lobwife_leasekey l ON l.prefix = %s
LEFT JOIN lobwife_apikey k ON k.prefix = %s AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > %s)
"""
_NEW_LEASE_KEY = "INSERT INTO lobwife_leasekey (lease_id, prefix, digest) VALUES (%s, %s, %s)"
MODE = "SELECT decided, initial FROM lobwife_accesspolicy WHERE id = 1"


class StoredKey(NamedTuple):
    """The columns of an API key that authentication needs."""

    digest: str
    name: str
    role: str
    task_number: int | None
    service: str
    last_used_at: datetime | None


class StoredLeaseKey(NamedTuple):
    """The digest of the key that a claim handed out, and the id of the lease that it belongs to."""

    digest: str
    lease_id: int


def valid_keys(prefix: str, now: datetime) -> tuple[StoredKey | None, StoredLeaseKey | None]:
    """Return the API key with this prefix, unless it is revoked or expired, and the key of a lease, over or not."""
    row = read_one(_KEYS, (prefix, prefix, connection.ops.adapt_datetimefield_value(now)))
    if row is None:
        return None, None
    of_lease = StoredLeaseKey(*row[:2]) if row[0] is not None else None
    if row[2] is None:
        return None, of_lease
    key = StoredKey(*row[2:])
    return key._replace(last_used_at=key.last_used_at.replace(tzinfo=UTC)) if key.last_used_at else key, of_lease


def insert_lease_key(lease_id: int, prefix: str, digest: str) -> None:
    write(_NEW_LEASE_KEY, (lease_id, prefix, digest))


def stored_mode() -> str | None:
    """Return the mode that an operator decided on, else the initial one; None before the migrations ran."""
    row = read_one(MODE)
    return (row[0] or row[1]) if row else None
