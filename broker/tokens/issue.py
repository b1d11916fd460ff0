"""Handing out tokens: is there a right to one, is one in store, else have one made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F

from broker import audit, registration_keys, registrations, statements
from broker.audit import Caller
from broker.github import app
from broker.models import Action, AllowedService, GitHubState, IssuedToken, LegacyRegistration, Outcome
from broker.registrations import Registration
from broker.statements import StoredToken
from broker.tokens import encryption, mint, single_flight
from broker.tokens.mint import Right
from broker.tokens.scope import Scope, permissions_for
from broker.tokens.single_flight import Deadline
from core.errors import Forbidden, LobwifeError, NotFound, Unavailable
from core.timestamps import utc_now
from core.write_deadline import writing_until

_TURNS = 10
_LAST_RESORT = mint.REFRESH_BEFORE - timedelta(minutes=1)  # a token with less than this minute is no use
_SHOWN = 100


@dataclass(frozen=True)
class Issued:
    """A token as its caller gets it. Its repr keeps the token to itself."""

    token: str = field(repr=False)
    expires_at: str


@dataclass(frozen=True)
class _Request:
    """One call: who asks for what, and how long it may take."""

    shown_id: str
    caller: Caller
    asked: Mapping[str, str] | None
    deadline: Deadline
    only_task: int | None = None


def issue_token(
    *, task_id: str, caller: Caller, permissions: Mapping[str, str] | None = None, only_task: int | None = None
) -> Issued:
    """A token for the repositories of a registration, with at most the permissions asked for.

    With `only_task`, whatever else the id names is not there: a name that was one task's a moment ago may be another's.
    Raises Unavailable without a GitHub App or when GitHub fails, Forbidden when there is no right to a token, Upstream
    when GitHub's answer is wider than asked for, Unprocessable for a foreign repository.
    """
    app.configured()
    request = _Request(task_id, caller, permissions, Deadline(), only_task)
    with writing_until(request.deadline.database_until):
        return _answered(request, lambda: _task_turn(request), lambda: _number(task_id))


def issue_service_token(*, service: str, caller: Caller) -> Issued:
    """A token for all repositories of the installation, for a service on the list; raises as issue_token does."""
    app.configured()
    request = _Request(service, caller, None, Deadline())
    with writing_until(request.deadline.database_until):
        return _answered(request, lambda: _service_turn(request), lambda: None)


def _answered(request: _Request, turn: Callable[[], Issued | None], number: Callable[[], int | None]) -> Issued:
    """The first token that a turn gives; what is refused is audited."""
    try:
        for _ in range(_TURNS):
            issued = turn()
            if issued is not None:
                return issued
        raise Unavailable("the registration keeps changing; try again", retry_after=1)
    except LobwifeError as error:
        audit.record(
            action=Action.TOKEN_REFUSED,
            outcome=Outcome.REFUSED if isinstance(error, Forbidden | NotFound) else Outcome.FAILED,
            shown_id=request.shown_id,
            task_number=number(),
            reason=str(error),
            caller=request.caller,
        )
        raise


def _number(task_id: str) -> int | None:
    registration = registrations.find(task_id)
    return registration.task_number if registration is not None else None


def _task_turn(request: _Request) -> Issued | None:
    """A token for a registration; None to look again, because it changed or another call has made one."""
    registration = registrations.find(request.shown_id)
    if registration is not None and request.only_task not in (None, registration.task_number):
        raise NotFound(f"Task {request.shown_id[:_SHOWN]} not found")
    if registration is None:
        raise Forbidden(f"Task {request.shown_id[:_SHOWN]} not registered")
    refusal = registration.refusal(request.shown_id[:_SHOWN])
    if refusal is not None:
        raise Forbidden(refusal)
    scope = scope_of(registration, request.asked)
    return _from_store(request, scope, registration) or _newest(request, scope, registration)


def _service_turn(request: _Request) -> Issued | None:
    """A token for a service; None to look again."""
    service = request.shown_id
    if not service_is_allowed(service):
        raise Forbidden(f"Service {service[:_SHOWN]} is not on the list of services that may have a token")
    scope = Scope(
        subject=registration_keys.of_service(service),
        generation=0,
        repositories=None,
        permissions=permissions_for(service),
        installation_id=settings.GH_APP_INSTALL_ID,
    )
    return _from_store(request, scope, None) or _newest(request, scope, None)


def service_is_allowed(service: str) -> bool:
    return service in settings.BROKER_SERVICES or AllowedService.objects.filter(name=service).exists()


def scope_of(registration: Registration, asked: Mapping[str, str] | None = None) -> Scope:
    """What a token of this registration may reach; raises Forbidden when more is asked for."""
    return Scope(
        subject=registration.subject,
        generation=registration.generation,
        repositories=registration.repos,
        permissions=permissions_for(registration.lobster_type, asked),
        installation_id=settings.GH_APP_INSTALL_ID,
    )


def _newest(request: _Request, scope: Scope, registration: Registration | None) -> Issued | None:
    """A new token, or while GitHub can't be asked the one in store that was to be refreshed and is still good."""
    try:
        return _from_github(request, scope, registration)
    except Unavailable as error:
        if error.retry_after is None:  # GitHub was asked, and refuses
            raise
        issued = _from_store(request, scope, registration, refresh_after=utc_now() - _LAST_RESORT)
        if issued is None:
            raise
        return issued


def _from_store(
    request: _Request, scope: Scope, registration: Registration | None, refresh_after: datetime | None = None
) -> Issued | None:
    """The token in store, counted and audited; None when there is none, or the right to it changes just now."""
    number = registration.task_number if registration is not None else None
    row = statements.find_token(scope.subject, scope.digest, number, refresh_after or utc_now())
    token = encryption.unseal(row.sealed) if row is not None else None
    if row is None or token is None:
        return None
    with transaction.atomic():
        if not _still_right(request, scope, registration, row.id):
            return None
        _record(request, row, registration, Outcome.CACHED)
    return Issued(token, _shown(row))


def _still_right(request: _Request, scope: Scope, registration: Registration | None, token_id: int) -> bool:
    """Count a token in store for whom it is, provided that nothing changed since it was found."""
    if registration is not None and registration.task_number is not None:
        unchanged = (
            registration.task_status or "",
            registration.status or "",
            registration.stored_repos or "",
            registration.registered_at or "",
        )
        return statements.count_for_task(number=registration.task_number, unchanged=unchanged, token_id=token_id)
    live = IssuedToken.objects.filter(pk=token_id, state=IssuedToken.State.LIVE)
    if _right(request, scope, registration).reason or not live.exists():
        return False
    _count(registration)
    return True


def _from_github(request: _Request, scope: Scope, registration: Registration | None) -> Issued | None:
    """A new token; None when another call has made it, or the registration changed: look again."""
    state = GitHubState.load()
    mint.check_not_blocked(state)
    with single_flight.slots().taken():
        holder = single_flight.claim(scope.digest)
        if holder is None:
            single_flight.wait_for(scope.digest, request.deadline)
            return None
        issued = _from_store(request, scope, registration)  # made between the look into the store and the claim
        if issued is not None:
            with transaction.atomic():
                single_flight.release(scope.digest, holder)
            return issued
        token, row, found = mint.mint(
            scope=scope,
            shown_id=request.shown_id[:_SHOWN],
            holder=holder,
            deadline=request.deadline,
            state=state,
            right=lambda: _right(request, scope, registration),
            on_stored=lambda stored: _store_issued(request, stored, registration),
        )
    if found.refuse:
        raise Forbidden(found.reason)
    return None if found.reason else Issued(token, _shown(row))


def _right(request: _Request, scope: Scope, registration: Registration | None) -> Right:
    """Whether the scope is still what the caller may have; asked within the transaction that hands it out."""
    if registration is None:
        allowed = service_is_allowed(request.shown_id)
        return Right("" if allowed else "the service was taken off the list", refuse=not allowed)
    now = registrations.again(registration)
    refusal = now.refusal(request.shown_id[:_SHOWN]) if now else f"Task {request.shown_id[:_SHOWN]} not registered"
    if now is None or refusal is not None:
        return Right(refusal or "", refuse=True)
    try:
        changed = scope_of(now, request.asked).digest != scope.digest
    except Forbidden as error:  # its type became one that may do less
        return Right(str(error), refuse=True)
    return Right("the registration changed while the token was made" if changed else "")


def _store_issued(request: _Request, row: IssuedToken, registration: Registration | None) -> None:
    _count(registration)
    _record(request, row, registration, Outcome.ISSUED)


def _count(registration: Registration | None) -> None:
    if registration is not None and registration.task_number is not None:
        statements.count_new_for_task(registration.task_number)
    elif registration is not None:
        key = registration_keys.legacy_id(registration.subject)
        LegacyRegistration.objects.filter(pk=key).update(token_count=F("token_count") + 1)


def _record(
    request: _Request, row: IssuedToken | StoredToken, registration: Registration | None, outcome: Outcome
) -> None:
    audit.record(
        action=Action.TOKEN if registration is not None else Action.SERVICE_TOKEN,
        outcome=outcome,
        shown_id=request.shown_id,
        task_number=registration.task_number if registration is not None else None,
        repos=registration.repos if registration is not None else ["*"],
        permissions=json.loads(row.permissions),
        expires_at=_shown(row),
        token_sha256=row.sha256,
        caller=request.caller,
    )


def _shown(row: IssuedToken | StoredToken) -> str:
    return row.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
