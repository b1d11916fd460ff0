"""API keys. A key is `lw_`, eight characters that identify it, `_`, and a secret of 256 bits."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.utils import DatabaseError

from access import queries
from access.models import ApiKey
from core.callers import Caller, Role
from core.errors import Conflict, Invalid, NotFound
from core.timestamps import utc_now

_FORMAT = re.compile(r"lw_([0-9a-f]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
PREFIX = re.compile(r"Bearer\s+(lw_[0-9a-f]{8})_", re.ASCII | re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", re.ASCII)
_NO_DIGEST = "0" * 64
# A key in use costs one write in ten minutes, not one for each call.
_LAST_USED_PRECISION = timedelta(minutes=10)


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
    prefix = secrets.token_hex(4)
    key = f"lw_{prefix}_{secrets.token_urlsafe(32)}"
    row = ApiKey(name=name, role=role, task_number=task_number, service=service, prefix=prefix, expires_at=expires_at)
    row.digest, row.created_by = _digest(key), actor
    try:
        with transaction.atomic():
            row.save(force_insert=True)
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
            return
        if not ApiKey.objects.filter(name=name).exists():
            raise NotFound(f"there is no API key named {name}")
        raise Conflict(f"the API key {name} is already revoked")


def authenticate(key: str, address: str) -> Caller | None:
    """Return the caller of a key; None for one that is malformed, unknown, wrong, expired or revoked.

    All of them take the same time, so that neither the answer nor its time tells which it was.
    """
    match = _FORMAT.fullmatch(key)
    now = utc_now()
    stored = queries.valid_key(match[1] if match else "", now)
    is_right = hmac.compare_digest(_digest(key), stored.digest if stored else _NO_DIGEST)
    if stored is None or not is_right:
        return None
    if stored.last_used_at is None or now - stored.last_used_at > _LAST_USED_PRECISION:
        _save_use(stored.name, now)
    role = Role(stored.role)
    service = (stored.service or stored.name) if role is Role.SERVICE else ""
    return Caller(f"key:{stored.name}", role, address, task_id=stored.task_number, service=service)


def _save_use(name: str, now: datetime) -> None:
    with contextlib.suppress(DatabaseError), transaction.atomic():  # a locked database must not keep readers out
        ApiKey.objects.filter(name=name).update(last_used_at=now)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
