"""A claim as a caller makes it: the task, its lease, its registration for tokens, and the key of the lease."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from django.conf import settings
from django.db import transaction

from access import keys
from broker import audit, registrations
from broker import services as broker
from core.callers import Caller
from core.database.clock import database_now
from core.errors import LobwifeError
from tasks.leases import queries
from tasks.leases.queries import NewLease, Wanted
from tasks.leases.services import claim_task
from tasks.models import Task, read_repos

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """A lease and its key. The repr keeps the key to itself."""

    lease: NewLease
    key: str = field(repr=False)


def claim(*, wanted: Wanted, seconds: int, runner: str, caller: Caller) -> Claim | None:
    """Claim the next task that fits; None when there is none, which is found out without keeping writers waiting."""
    lanes = queries.lanes_of(wanted)
    candidate = queries.first_ready(lanes, database_now()) if lanes is not None else None
    if lanes is None or candidate is None:
        return None
    with transaction.atomic():
        lease = claim_task(lanes=lanes, candidate=candidate, seconds=seconds, runner=runner, caller=caller)
        if lease is None:
            return None
        key = keys.create_lease_key(lease_id=lease.id)
        if settings.GH_APP_ID:
            _register(lease.task_id, caller)
    return Claim(lease, key)


def _register(task_id: int, caller: Caller) -> None:
    """Register a claimed task for tokens of the repositories that it was registered for before, else of its own.

    A registration ends with the lease, so that the next holder's task needs a new one. One that somebody ended, or that
    expired, stays so.
    """
    task = Task.objects.get(pk=task_id)
    repos = read_repos(task.broker_repos) or read_repos(task.repos)
    if not repos or task.broker_status == registrations.ACTIVE or audit.is_deregistered(task_id):
        return
    try:
        with transaction.atomic():
            lobster_type = registrations.of(task).lobster_type
            broker.register_task(task_id=task_id, repos=repos, lobster_type=lobster_type, caller=caller)
    except LobwifeError as error:
        log.warning("T%s was claimed and can't be registered for tokens: %s", task_id, error)
