"""Writes to registrations, each with its audit entry and the end of the tokens that it outdates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from broker import audit, registrations
from broker.audit import SYSTEM
from broker.models import Action, AllowedService, GitHubState, Grant, IssuedToken, LegacyRegistration, Outcome
from broker.registrations import (
    ACTIVE,
    ENDED,
    EXPIRED,
    Registration,
    legacy_id_of_key,
    service_key,
    task_number_of_key,
)
from broker.tokens.scope import check_repositories
from core.callers import Caller
from core.errors import Invalid, NotFound
from core.timestamps import iso_text, seconds_text, utc_now
from tasks import services as tasks
from tasks.models import BROKER_FIELDS, Task
from tasks.services import get_task, log_event

State = IssuedToken.State


def register_task(
    *, task_id: int, repos: Sequence[str], lobster_type: str, caller: Caller, requested_id: str | None = None
) -> None:
    """Let a task have tokens for these repositories; raises NotFound, Invalid, Unprocessable."""
    names = check_repositories(repos, GitHubState.known_owner())
    with transaction.atomic():
        task = get_task(task_id)
        before = registrations.of(task)
        Task.objects.filter(pk=task_id).update(
            broker_repos=json.dumps(names),
            broker_status=ACTIVE,
            broker_registered_at=iso_text(),
            updated_at=seconds_text(),
        )
        log_event(
            task_id=task_id,
            event_type="broker_registered",
            detail=f"Broker registered for {', '.join(names)}",
            actor=lobster_type,
            caller=caller,
        )
        _registered(before, requested_id or task.task_id, names, lobster_type, caller)


def register_named(*, text: str, repos: Sequence[str], lobster_type: str, caller: Caller) -> None:
    """Register the task that a legacy id names, else the id itself; raises Invalid, Unprocessable."""
    task = registrations.find_task(text)
    if task is not None:
        register_task(task_id=task.pk, repos=repos, lobster_type=lobster_type, caller=caller, requested_id=text)
        return
    names = check_repositories(repos, GitHubState.known_owner())
    with transaction.atomic():
        row = LegacyRegistration.objects.filter(pk=text).first() or LegacyRegistration(task_id=text, repos="[]")
        before = registrations.of(row)
        row.repos, row.lobster_type = json.dumps(names), lobster_type
        row.registered_at, row.status, row.token_count = iso_text(), ACTIVE, 0
        row.save()
        _registered(before, text, names, lobster_type, caller)


def update_task(
    *, task_id: int, changes: Mapping[str, Any], actor: str | None, caller: Caller, if_match: str | None = None
) -> list[str]:
    """Set fields of a task, among them broker fields, which are a registration; returns their names.

    Raises Invalid, NotFound, Unprocessable, and PreconditionFailed when the task is not what `if_match` names.
    """
    with transaction.atomic():
        if if_match is not None:
            tasks.check_version(task_id, if_match)
        registration = {}
        if BROKER_FIELDS & changes.keys():
            registration = _register_by_change(get_task(task_id), changes, caller)
        return tasks.update_task(
            task_id=task_id, changes=changes, actor=actor, registration=registration, caller=caller
        )


def _register_by_change(task: Task, changes: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Return the broker fields to store. Repositories are checked as in any registration; null ends it."""
    stored = {name: value for name, value in changes.items() if name.startswith("broker_")}
    before = registrations.of(task)
    if "broker_repos" in stored:
        repos = stored["broker_repos"]
        if repos is None:
            stored.setdefault("broker_status", None)
            if before.repos:
                _ended(before, task.task_id, "ended by PATCH", caller)
            return stored
        if not repos:
            raise Invalid("broker_repos must name a repository at least; null ends the registration")
        stored["broker_repos"] = check_repositories(repos, GitHubState.known_owner())
        stored.setdefault("broker_status", ACTIVE)
        stored.setdefault("broker_registered_at", iso_text())
    repos = stored.get("broker_repos") or list(before.repos)
    status = stored.get("broker_status", before.status)
    if repos and status == ACTIVE and stored:
        _registered(before, task.task_id, repos, changes.get("type") or before.lobster_type, caller)
    elif before.repos and before.status == ACTIVE and status != ACTIVE:
        _ended(before, task.task_id, f"set to {status} by PATCH", caller)
    return stored


def deregister_named(*, text: str, caller: Caller) -> None:
    """End whatever registration a legacy id names: the old table's, and the one that its task holds."""
    task = registrations.find_task(text)
    with transaction.atomic():
        row = LegacyRegistration.objects.filter(pk=text).first()
        if row is not None:
            _ended(registrations.of(row), text, "deregistered", caller)
            row.delete()
        if task is not None:
            _end_task(task.pk, text, "deregistered", caller)


def end_registration(*, key: str, reason: str, caller: Caller, status: str = ENDED) -> None:
    """End a registration by its key, `task:42` or `legacy:ID`; its repositories stay, so that it can be renewed."""
    number = task_number_of_key(key)
    with transaction.atomic():
        if number is not None:
            before = registrations.of(get_task(number))
            Task.objects.filter(pk=number).update(broker_status=status, updated_at=seconds_text())
            log_event(
                task_id=number, event_type=f"broker_{status}", detail=reason, actor=caller.identity, caller=caller
            )
            _ended(before, f"T{number}", reason, caller)
            return
        row = LegacyRegistration.objects.filter(pk=legacy_id_of_key(key)).first()
        if row is not None:
            LegacyRegistration.objects.filter(pk=row.pk).update(status=status)
            _ended(registrations.of(row), row.task_id, reason, caller)


def register_again(*, key: str, caller: Caller) -> None:
    """Renew a registration with the repositories that it has; raises NotFound, Invalid, Unprocessable."""
    registration = registrations.get(key)
    if registration is None:
        raise NotFound(f"there is no registration {legacy_id_of_key(key)}")
    options: dict[str, Any] = {
        "repos": registration.repos,
        "lobster_type": registration.lobster_type,
        "caller": caller,
    }
    if registration.task_number is not None:
        register_task(task_id=registration.task_number, **options)
    else:
        register_named(text=legacy_id_of_key(key), **options)


def expire(*, registration: Registration) -> None:
    """End a registration that has expired by age, unless it was renewed just now."""
    with transaction.atomic():
        current = registrations.get(registration.key)
        if current is not None and current.status == ACTIVE and current.is_expired:
            end_registration(key=registration.key, reason="its time is over", caller=SYSTEM, status=EXPIRED)


def end_tokens(*, key: str, reason: str, before_event: int | None = None) -> int:
    """Hand live tokens to the daemon, which revokes them; with `before_event` only those stored before that event."""
    live = IssuedToken.objects.filter(key=key, state=State.LIVE)
    if before_event is not None:
        live = live.filter(event_id__lt=before_event)
    with transaction.atomic():
        return live.update(state=State.ENDED, reason=reason, retry_at=utc_now())


def disallow_service(*, name: str) -> None:
    """Take a service off the list that operators keep, and end its tokens."""
    with transaction.atomic():
        AllowedService.objects.filter(name=name).delete()
        if name not in settings.BROKER_SERVICES:
            end_tokens(key=service_key(name), reason="the service was taken off the list")


def _end_task(task_id: int, requested_id: str, reason: str, caller: Caller) -> None:
    before = registrations.of(get_task(task_id))
    if not before.repos and before.status is None:
        return
    Task.objects.filter(pk=task_id).update(broker_repos=None, broker_status=None, updated_at=seconds_text())
    log_event(task_id=task_id, event_type="broker_deregistered", detail=reason, actor=caller.identity, caller=caller)
    _ended(before, requested_id, reason, caller)


def _registered(
    before: Registration, requested_id: str, repos: Sequence[str], lobster_type: str, caller: Caller
) -> None:
    """Audit a registration, and end the tokens that have another scope than it has now."""
    same_repos = {name.lower() for name in before.repos} == {name.lower() for name in repos}
    if not (same_repos and before.lobster_type == lobster_type and before.status == ACTIVE):
        _outdate(before.key, lobster_type, "the registration changed")
    audit.record(
        action=Action.REGISTERED,
        outcome=Outcome.DONE,
        requested_id=requested_id,
        task_number=before.task_number,
        repos=repos,
        caller=caller,
    )


def _ended(before: Registration, requested_id: str, reason: str, caller: Caller) -> None:
    _outdate(before.key, before.lobster_type, reason)
    audit.record(
        action=Action.DEREGISTERED,
        outcome=Outcome.DONE,
        requested_id=requested_id,
        task_number=before.task_number,
        repos=before.repos,
        caller=caller,
        reason=reason,
    )


def _outdate(key: str, lobster_type: str, reason: str) -> None:
    """End the tokens of a registration; its new generation keeps a token that is being made from being issued."""
    Grant.objects.get_or_create(pk=key)
    Grant.objects.filter(pk=key).update(generation=F("generation") + 1, lobster_type=lobster_type)
    end_tokens(key=key, reason=reason)
