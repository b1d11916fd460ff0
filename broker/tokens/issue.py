"""Issuing tokens: is there a right to one, is a good one stored, else have one made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from broker import audit, registrations
from broker.github import app
from broker.models import Action, AllowedService, GitHubState, IssuedToken, LegacyRegistration, Outcome
from broker.registrations import ACTIVE, Registration, legacy_id_of_key, service_key
from broker.tokens import mint, revoke
from broker.tokens.scope import Scope, agent_permissions, service_permissions
from broker.tokens.single_flight import single_flight
from core.callers import Caller
from core.errors import Conflict, Forbidden, LobwifeError, NotFound, Unavailable
from core.timestamps import utc_now
from core.write_deadline import writing_until
from tasks.costs.spent import spent_budget_of
from tasks.leases.ends import check_lease
from tasks.models import LEASE_ENDED, OVER, Task, TaskEvent

# Every call is answered within 8 seconds: what is left after GitHub's share is for the database.
_CALL_SECONDS = 7.0
_DATABASE_SECONDS = 6.0
_GITHUB_SECONDS = 5.0
_ATTEMPTS = 10
_LAST_RESORT = mint.REFRESH_BEFORE - timedelta(minutes=1)  # a token with less than this minute is no use
_LONGEST_ID = 100


@dataclass(frozen=True)
class Issued:
    """A token as its caller gets it. Its repr keeps the token to itself."""

    token: str = field(repr=False)
    expires_at: str


@dataclass(frozen=True)
class _Right:
    """The right of a caller: the scope, and the registration that grants it; None for a service."""

    scope: Scope
    registration: Registration | None

    @property
    def task_number(self) -> int | None:
        return self.registration.task_number if self.registration is not None else None


@dataclass(frozen=True)
class _Call:
    """A call: who asks under which id, how to find the right to a token, and when it began (a monotonic time)."""

    requested_id: str
    caller: Caller
    find_right: Callable[[], _Right]  # raises Forbidden, NotFound
    started: float = field(default_factory=time.monotonic)


def issue_token(
    *, task_id: str, caller: Caller, permissions: Mapping[str, str] | None = None, only_task: int | None = None
) -> Issued:
    """Return a token for the repositories of a registration, with at most the permissions asked for.

    With `only_task`, the id must name this task: a name that was one task's a moment ago may be another's.
    Raises Unavailable without a GitHub App or when GitHub fails, Forbidden when there is no right to a token, Upstream
    when GitHub's answer is wider than asked for, Unprocessable for a foreign repository.
    """
    return _issue(_Call(task_id, caller, lambda: _right_of_task(task_id, permissions, only_task)), task_id)


def issue_service_token(*, service: str, caller: Caller) -> Issued:
    """Return a token for all repositories of the installation, for an allowed service; raises as issue_token does."""
    return _issue(_Call(service, caller, lambda: _right_of_service(service)), None)


def scope_of(registration: Registration, permissions: Mapping[str, str] | None = None) -> Scope:
    """Return the scope of this registration's tokens; raises Forbidden when more permissions are asked for."""
    return Scope(
        key=registration.key,
        generation=registration.generation,
        repositories=registration.repos,
        permissions=agent_permissions(registration.lobster_type, permissions),
        installation_id=settings.GH_APP_INSTALL_ID,
    )


def _right_of_task(task_id: str, permissions: Mapping[str, str] | None, only_task: int | None) -> _Right:
    registration = registrations.find(task_id)
    requested_id = task_id[:_LONGEST_ID]
    if registration is None:
        raise Forbidden(f"Task {requested_id} not registered")
    if only_task not in (None, registration.task_number):
        raise NotFound(f"Task {requested_id} not found")
    refusal = registration.refusal(requested_id)
    if refusal is not None:
        raise Forbidden(refusal)
    spent = spent_budget_of(registration.task_number)
    if spent is not None:
        raise Forbidden(f"Task {requested_id} gets no token: {spent}")
    return _Right(scope_of(registration, permissions), registration)


def _right_of_service(service: str) -> _Right:
    if service not in settings.BROKER_SERVICES and not AllowedService.objects.filter(name=service).exists():
        raise Forbidden(f"Service {service[:_LONGEST_ID]} is not on the list of services that may have a token")
    scope = Scope(
        key=service_key(service),
        generation=0,
        repositories=None,
        permissions=service_permissions(service),
        installation_id=settings.GH_APP_INSTALL_ID,
    )
    return _Right(scope, None)


def _issue(call: _Call, task_id: str | None) -> Issued:
    """Try until nothing changes under way; a refusal is audited, as one about the task that the id names."""
    app.configured()
    with writing_until(call.started + _DATABASE_SECONDS):
        try:
            for _ in range(_ATTEMPTS):
                issued = _attempt(call)
                if issued is not None:
                    return issued
            raise Unavailable("the registration keeps changing; try again", retry_after=1)
        except LobwifeError as error:
            registration = registrations.find(task_id) if task_id is not None else None
            audit.record(
                action=Action.TOKEN_REFUSED,
                outcome=Outcome.REFUSED if isinstance(error, Forbidden | NotFound) else Outcome.FAILED,
                requested_id=call.requested_id,
                task_number=registration.task_number if registration is not None else None,
                reason=str(error),
                caller=call.caller,
            )
            raise


def _attempt(call: _Call) -> Issued | None:
    """Return a stored token or a new one; None to look again: the right changed, or another call made the token.

    While GitHub can't be asked, a stored token that was to be refreshed serves until its last minute.
    """
    right = call.find_right()
    issued = _from_store(call, right, utc_now())
    if issued is not None:
        return issued
    try:
        until = call.started + _CALL_SECONDS - 1
        return single_flight().run(right.scope.digest, lambda: _from_github(call, right), until=until)
    except Conflict:
        return None
    except Unavailable as error:
        if error.retry_after is None:  # GitHub was asked, and refuses
            raise
        issued = _from_store(call, right, utc_now() - _LAST_RESORT)
        if issued is None:
            raise
        return issued


def _from_store(call: _Call, right: _Right, refresh_after: datetime) -> Issued | None:
    """Return a stored token, counted and audited; None when there is none, or the right to it ended just now."""
    row = _stored_token(right, refresh_after)
    token = row.token if row is not None else None
    if row is None or token is None:
        return None
    with transaction.atomic():
        _check_lease(call)
        if not _count_stored(right, row):
            return None
        _record(call, right, row, Outcome.CACHED)
    return _issued(token, row)


def _stored_token(right: _Right, refresh_after: datetime) -> IssuedToken | None:
    """Return the newest live token of a scope that needn't be refreshed by then.

    None when its task was over since, or the lease ended for which it was made.
    """
    rows = IssuedToken.objects.filter(
        key=right.scope.key,
        state=IssuedToken.State.LIVE,
        scope_digest=right.scope.digest,
        refresh_at__gt=refresh_after,
    )
    if right.task_number is not None:
        since = TaskEvent.objects.filter(task_id=right.task_number, pk__gt=OuterRef("event_id"))
        rows = rows.exclude(Exists(since.filter(Q(status__in=OVER) | Q(event_type=LEASE_ENDED))))
    return rows.order_by("-pk").first()


def _count_stored(right: _Right, row: IssuedToken) -> bool:
    """Count a stored token that is handed out; False when it must not be.

    Every change of a registration ends its tokens, so a token that is live still has its scope.
    """
    live = IssuedToken.objects.filter(pk=row.pk, state=IssuedToken.State.LIVE)
    if right.task_number is not None:
        tasks = Task.objects.open().filter(Exists(live), pk=right.task_number, broker_status=ACTIVE)
        return tasks.update(token_count=F("token_count") + 1) == 1
    if not live.exists():
        return False
    _count(right)
    return True


def _from_github(call: _Call, right: _Right) -> Issued | None:
    """Return a new token; raises Conflict when the right to it has changed meanwhile."""
    issued = _from_store(call, right, utc_now())  # made after this call has looked
    if issued is not None:
        return issued
    state = GitHubState.load()
    mint.check_not_blocked(state)
    until = call.started + _GITHUB_SECONDS
    token = mint.mint(mint.MintRequest(right.scope, call.requested_id[:_LONGEST_ID], until), state)
    with mint.revoked_unless_stored(token), transaction.atomic():
        refusal = token.excess or _refusal(call, right)
        mint.store(token, refusal)
        if refusal is None:
            _count(right)
            _record(call, right, token.row, Outcome.ISSUED)
    if refusal is not None:
        revoke.revoke(token.row, seconds=mint.REVOKE_SECONDS)
        raise refusal
    return _issued(token.minted.token, token.row)


def _refusal(call: _Call, right: _Right) -> LobwifeError | None:
    """Return the error for a right that has ended or changed; None while it is the same."""
    try:
        _check_lease(call)
        unchanged = call.find_right().scope.digest == right.scope.digest
    except LobwifeError as error:
        return error
    return None if unchanged else Conflict("the registration changed while the token was made")


def _check_lease(call: _Call) -> None:
    """Raise Forbidden for the key of a lease that is over."""
    try:
        check_lease(call.caller)
    except Conflict as error:
        raise Forbidden(str(error)) from None


def _count(right: _Right) -> None:
    if right.task_number is not None:
        Task.objects.filter(pk=right.task_number).update(token_count=F("token_count") + 1)
    elif right.registration is not None:
        key = legacy_id_of_key(right.registration.key)
        LegacyRegistration.objects.filter(pk=key).update(token_count=F("token_count") + 1)


def _record(call: _Call, right: _Right, row: IssuedToken, outcome: Outcome) -> None:
    audit.record(
        action=Action.TOKEN if right.registration is not None else Action.SERVICE_TOKEN,
        outcome=outcome,
        requested_id=call.requested_id,
        task_number=right.task_number,
        repos=right.registration.repos if right.registration is not None else ["*"],
        permissions=json.loads(row.permissions),
        expires_at=_expiry(row),
        token_sha256=row.sha256,
        caller=call.caller,
    )


def _issued(token: str, row: IssuedToken) -> Issued:
    return Issued(token, _expiry(row))


def _expiry(row: IssuedToken) -> str:
    return row.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
