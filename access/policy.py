"""The policy whether calls need a credential, and a record of those that come without one."""

from __future__ import annotations

import contextlib
import logging

from django.conf import settings
from django.db import transaction
from django.db.utils import DatabaseError

from access import queries
from access.models import AccessPolicy, Mode, UncredentialedCaller
from core.errors import Invalid
from core.timestamps import utc_now
from events import change_log

log = logging.getLogger(__name__)
_MOST_CALLERS = 2000


def is_open() -> bool:
    """Return whether callers without a credential are let in."""
    return current_mode() == Mode.OPEN


def current_mode() -> str:
    """Return the mode of the environment, else the operator's, else the initial one of the installation."""
    return str(settings.API_AUTH or queries.stored_mode() or Mode.REQUIRED)


def warn_if_open() -> None:
    """Log a warning if access is open; nothing if the database can't be read yet."""
    with contextlib.suppress(DatabaseError):
        if is_open():
            log.warning("the API is open: whoever reaches its ports may do everything (`manage.py check` says more)")


def decide(*, mode: str, actor: str) -> None:
    """Set the mode, from the next call on; raises Invalid for an unknown one."""
    if mode not in Mode.values:
        raise Invalid(f"the mode is one of {', '.join(Mode.values)}, not {mode[:100]!r}")
    decision = {"decided": mode, "decided_by": actor, "decided_at": utc_now()}
    with transaction.atomic():
        decided, _ = AccessPolicy.objects.update_or_create(pk=AccessPolicy.SINGLE, defaults=decision)
        change_log.record([decided], f"set to {mode}", actor=actor)


def record_caller(address: str, program: str, route: str) -> None:
    """Record an uncredentialed caller; a database that can't be written is ignored."""
    caller = {"address": address[:60], "program": program, "route": route[:100]}
    with contextlib.suppress(DatabaseError), transaction.atomic():
        same = UncredentialedCaller.objects.filter(**caller)
        if not same.update(last_seen=utc_now()) and UncredentialedCaller.objects.count() < _MOST_CALLERS:
            UncredentialedCaller.objects.create(**caller)
