"""API keys: made, found, revoked. A key is `lw_`, eight characters to find it by, `_`, and a secret of 256 bits."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta

from django.db import IntegrityError, connection, transaction
from django.db.utils import DatabaseError

from access.models import ApiKey
from core.callers import Caller, Role
from core.errors import Conflict, Invalid, NotFound
from core.timestamps import utc_now

_FORM = re.compile(r"lw_([0-9a-f]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", re.ASCII)
_NO_DIGEST = "0" * 64
# Through a queryset this takes 0.6 ms of every call; the times compare as the text that SQLite holds.
_KEYS = connection.ops.quote_name(ApiKey._meta.db_table)
_FIND = (
    f"SELECT digest, name, role, task_number, service, last_used_at FROM {_KEYS}"  # noqa: S608 the name is our own
    " WHERE prefix = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %s)"
)
_STORED = "%Y-%m-%d %H:%M:%S.%f"
# A key in use costs one write in ten minutes, not one for each call.
_LAST_USED_GRAIN = timedelta(minutes=10)


def create_key(
    *,
    name: str,
    role: Role,
    actor: str,
    task_number: int | None = None,
    service: str = "",
    expires_at: datetime | None = None,
) -> str:
    """Make a key and return it: the one time that it can be seen. Raises Invalid, or Conflict when the name is taken.

    A secret of 256 bits needs no slow hash: there is nothing to guess.
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
    """Raises Invalid with a sentence about what can't be so."""
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
    """From now on the key is as unknown as any other; raises NotFound, or Conflict when it was revoked before."""
    with transaction.atomic():
        revoked = ApiKey.objects.filter(name=name, revoked_at__isnull=True)
        if revoked.update(revoked_at=utc_now(), revoked_by=actor):
            return
        if not ApiKey.objects.filter(name=name).exists():
            raise NotFound(f"there is no API key named {name}")
        raise Conflict(f"the API key {name} is already revoked")


def caller_with(key: str, address: str) -> Caller | None:
    """The caller that the key belongs to; None for one that is malformed, unknown, wrong, expired or revoked.

    All of them take the same way through here, so that neither the answer nor its time tells which it was.
    """
    form = _FORM.fullmatch(key)
    now = utc_now()
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [form[1] if form else "", now.strftime(_STORED)])
        row = cursor.fetchone()
    matches = hmac.compare_digest(_digest(key), row[0] if row else _NO_DIGEST)
    if row is None or not matches:
        return None
    _, name, role_text, task_number, service, last_used = row
    if last_used is None or now - last_used.replace(tzinfo=UTC) > _LAST_USED_GRAIN:
        _note_use(name, now)
    role = Role(role_text)
    own_service = (service or name) if role is Role.SERVICE else ""
    return Caller(f"key:{name}", role, address, task_id=task_number, service=own_service)


def _note_use(name: str, now: datetime) -> None:
    with contextlib.suppress(DatabaseError), transaction.atomic():  # a locked database must not keep readers out
        ApiKey.objects.filter(name=name).update(last_used_at=now)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
