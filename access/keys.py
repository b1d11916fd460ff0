"""API keys and the keys of leases. A key is `lw_`, eight characters that identify it, `_`, and a secret of 256 bits."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.db.utils import DatabaseError

from access import queries
from access.models import ApiKey, LeaseKey
from core.callers import Caller, Role
from core.database.clock import database_now
from core.errors import Conflict, Invalid, NotFound
from core.timestamps import utc_now
from events import services as feed
from tasks.leases.queries import lease_times
from tasks.leases.services import renew, renewal_is_due
from tasks.models import TaskLease

_FORMAT = re.compile(r"lw_([0-9a-f]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
PREFIX = re.compile(r"Bearer\s+(lw_[0-9a-f]{8})_", re.ASCII | re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", re.ASCII)
_NO_DIGEST = "0" * 64
# A key in use costs one write in ten minutes, not one for each call.
_LAST_USED_PRECISION = timedelta(minutes=10)
_KEPT_AFTER_LEASE = timedelta(days=1)


def create_key(
    *,
    name: str,
    role: Role,
    actor: str,
    task_number: int | None = None,
    service: str = "",
    expires_at: datetime | None = None,
) -> str:
    """Create a key and return it, which is not possible later; raises Invalid, or Conflict for a name that is taken.

    A secret of 256 bits can't be guessed, so that SHA-256 is enough of a hash.
    """
    check_key(name=name, role=role, task_number=task_number, service=service, expires_at=expires_at)
    prefix, key = _new_key()
    row = ApiKey(name=name, role=role, task_number=task_number, service=service, prefix=prefix, expires_at=expires_at)
    row.digest, row.created_by = _digest(key), actor
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            about = {"name": name, "role": role, "task_id": task_number, "service": service, "expires_at": expires_at}
            feed.append("key.created", name, about, actor=actor)
    except IntegrityError:
        raise Conflict(f"there is already an API key named {name}; revoked ones keep their name") from None
    return key


def check_key(
    *, name: str, role: str, task_number: int | None = None, service: str = "", expires_at: datetime | None = None
) -> None:
    """Raise Invalid, with a sentence, for values that no key can have."""
    if not _NAME.fullmatch(name):
        raise Invalid("the name must be 1 to 100 letters, digits and . _ @ -, the first a letter or digit")
    if service and not _NAME.fullmatch(service):
        raise Invalid("the service must be a name of letters, digits and . _ @ -")
    if (role == Role.AGENT) != (task_number is not None):
        raise Invalid("a key of role agent needs the number of its task, and only such a key has one")
    if service and role != Role.SERVICE:
        raise Invalid("only a key of role service names a service")
    if expires_at is not None and expires_at <= utc_now():
        raise Invalid("the expiry must be in the future")


def revoke_key(*, name: str, actor: str) -> None:
    """Revoke a key, from the next call on; raises NotFound, or Conflict if it is revoked already."""
    with transaction.atomic():
        valid = ApiKey.objects.filter(name=name, revoked_at__isnull=True)
        if valid.update(revoked_at=utc_now(), revoked_by=actor):
            feed.append("key.revoked", name, {"name": name}, actor=actor)
            return
        if not ApiKey.objects.filter(name=name).exists():
            raise NotFound(f"there is no API key named {name}")
        raise Conflict(f"the API key {name} is already revoked")


def create_lease_key(*, lease_id: int) -> str:
    """Create the key of a lease and return it; call it within the transaction of the claim."""
    prefix, key = _new_key()
    queries.insert_lease_key(lease_id, prefix, _digest(key))
    return key


def prune_lease_keys() -> None:
    """Remove the keys of leases that ended more than a day ago."""
    ended = TaskLease.objects.filter(pk=OuterRef("lease_id"), ended_at__lt=utc_now() - _KEPT_AFTER_LEASE)
    with transaction.atomic():
        LeaseKey.objects.filter(Exists(ended)).delete()


def authenticate(key: str, address: str, *, renews_lease: bool = True) -> Caller | None:
    """Return the caller of a key; None for one that is malformed, unknown, wrong, expired or revoked.

    The call renews the lease of the key, unless it is one that does so itself.

    All of them take the same time, so that neither the answer nor its time tells which it was.
    """
    match = _FORMAT.fullmatch(key)
    now = utc_now()
    prefix = match[1] if match else ""
    stored, of_lease = queries.valid_keys(prefix, now)
    if of_lease is not None:
        return _lease_caller(of_lease, key, address, database_now(), renews_lease=renews_lease)
    is_right = hmac.compare_digest(_digest(key), stored.digest if stored else _NO_DIGEST)
    if stored is None or not is_right:
        return None
    if stored.last_used_at is None or now - stored.last_used_at > _LAST_USED_PRECISION:
        _save_use(stored.name, now)
    role = Role(stored.role)
    service = (stored.service or stored.name) if role is Role.SERVICE else ""
    return Caller(f"key:{stored.name}", role, address, task_id=stored.task_number, service=service)


def _lease_caller(
    stored: queries.StoredLeaseKey, key: str, address: str, now: datetime, *, renews_lease: bool
) -> Caller | None:
    """Return the agent whose lease a key belongs to, and renew the lease now and then."""
    lease = lease_times(stored.lease_id) if hmac.compare_digest(_digest(key), stored.digest) else None
    if lease is None:
        return None
    is_over = lease.ended_at is not None or lease.expires_at <= now
    if renews_lease and not is_over and renewal_is_due(seconds=lease.seconds, beat_at=lease.beat_at, now=now):
        with contextlib.suppress(DatabaseError):
            renew(lease_id=stored.lease_id, seconds=lease.seconds, now=now)
    identity = f"lease:T{lease.task_id}/{lease.fence}"
    return Caller(identity, Role.AGENT, address, task_id=lease.task_id, fence=lease.fence, lease_is_over=is_over)


def _new_key() -> tuple[str, str]:
    """Return the prefix of a new key, and the key."""
    prefix = secrets.token_hex(4)
    return prefix, f"lw_{prefix}_{secrets.token_urlsafe(32)}"


def _save_use(name: str, now: datetime) -> None:
    with contextlib.suppress(DatabaseError), transaction.atomic():  # a locked database must not keep readers out
        ApiKey.objects.filter(name=name).update(last_used_at=now)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
