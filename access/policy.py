"""Whether a call needs a credential: the environment says, else an operator, else what the installation began as."""

from __future__ import annotations

import contextlib
import logging

from django.conf import settings
from django.db import connection, transaction
from django.db.utils import DatabaseError

from access.models import AccessPolicy, Mode
from core.errors import Invalid
from core.timestamps import utc_now

log = logging.getLogger(__name__)
_POLICY = connection.ops.quote_name(AccessPolicy._meta.db_table)
_SELECT = f"SELECT decided, initial FROM {_POLICY} WHERE id = {AccessPolicy.SINGLE}"  # noqa: S608 names are our own


def is_open() -> bool:
    """Whether callers that can't be identified are let in. Without a row: no."""
    return current_mode() == Mode.OPEN


def current_mode() -> str:
    if settings.API_AUTH:
        return str(settings.API_AUTH)
    with connection.cursor() as cursor:
        cursor.execute(_SELECT)
        row = cursor.fetchone()
    return str(row[0] or row[1]) if row else Mode.REQUIRED


def warn_if_open() -> None:
    """One line in the log of a process that starts; nothing while the database has no answer yet."""
    with contextlib.suppress(DatabaseError):
        if is_open():
            log.warning("the API is open: whoever reaches its ports may do everything (`manage.py check` says more)")


def decide(*, mode: str, actor: str) -> None:
    """Set the mode from the next call on; raises Invalid for one that there is not."""
    if mode not in Mode.values:
        raise Invalid(f"the mode is one of {', '.join(Mode.values)}, not {mode[:100]!r}")
    decision = {"decided": mode, "decided_by": actor, "decided_at": utc_now()}
    with transaction.atomic():
        if not AccessPolicy.objects.filter(pk=AccessPolicy.SINGLE).update(**decision):
            AccessPolicy.objects.create(pk=AccessPolicy.SINGLE, **decision)
