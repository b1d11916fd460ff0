"""The gate before every REST route: authentication, authorization by the table of roles, rate limits."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace
from functools import partial
from typing import Any

from django.conf import settings
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch

from access import authentication, keys, policy
from access.kubernetes import Cluster
from access.local import LocalCallers
from access.roles import RULES, Rule, entry_of
from access.throttle import TokenBuckets, limited_address
from broker import audit
from broker.models import Action, Outcome
from core.callers import LOCAL, UNIDENTIFIED, Caller
from core.database.clock import database_now
from core.errors import Forbidden, LobwifeError, NotFound, TooManyRequests, Unauthorized, Unavailable
from core.rest import json_body
from core.write_deadline import writing_until
from tasks.ids import parse_path_id
from tasks.leases.ends import is_alive

_REMEDY = (
    "send an API key as `Authorization: Bearer lw_...` (an operator makes one with `manage.py apikey create`), a"
    " Kubernetes token for the audience lobwife, or sign in at /admin/"
)
_REFUSALS = (Unauthorized, Forbidden, NotFound, TooManyRequests)
# Of one caller, of all callers, and of all strangers: who is refused all the time neither fills the audit nor keeps
# others out of it, from however many addresses.
_AUDITED_PER_MINUTE, _AUDITED_OF_CALLERS_PER_MINUTE, _AUDITED_OF_STRANGERS_PER_MINUTE = 10, 120, 10
_LONGEST_OF_STRANGERS = 100
_AUDIT_SECONDS = 1
_BYTES_OF_A_WRITE = 16 * 1024
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


log = logging.getLogger(__name__)


class Gate:
    """The gate of a web process; what it remembers are caches and rates."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str | None, str], tuple[str, Rule]] = {}
        self._limits = TokenBuckets()
        self._local = LocalCallers()
        self._cluster: Cluster | None = None
        if settings.KUBERNETES_API:
            self._cluster = Cluster(settings.KUBERNETES_API, settings.KUBERNETES_CREDENTIALS, settings.KUBERNETES_ROLES)

    def admit(
        self, request: HttpRequest, match: ResolverMatch, caller: Caller | None = None
    ) -> HttpResponseBase | None:
        """Put the caller on the request; return a response only for a method that the path does not have.

        Of a call that one of its calls makes, the caller is identified already.

        Raises Unauthorized, Forbidden, TooManyRequests, and NotFound for what does not exist for this caller.
        """
        entry, rule = self._rule_of(request.method, match.route)
        if rule is None:
            allowed = [method for method in _METHODS if entry_of(method, match.route) in RULES]
            if not allowed:
                raise Forbidden(f"{entry} is closed to everyone: the table of roles has no entry for it")
            return HttpResponseNotAllowed(allowed)
        if rule.everyone:
            return None
        try:
            self._check(request, match, entry, rule, caller)
        except _REFUSALS as error:
            self._audit(request, match, rule, error)
            raise
        return None

    def _check(self, request: HttpRequest, match: ResolverMatch, entry: str, rule: Rule, caller: Caller | None) -> None:
        caller = caller or self._caller_of(request, entry, rule)
        request.caller = caller  # type: ignore[attr-defined]
        if caller.role not in rule.roles:
            roles = " or ".join(sorted(rule.roles))
            raise Forbidden(f"this needs the role {roles}; {caller.identity or 'this caller'} is {caller.role}")
        if caller.lease_is_over and not rule.after_lease:
            raise Unauthorized(f"the lease of this key is over: task T{caller.task_id} was released or expired")
        if rule.hands_out_tokens:
            self._limit_tokens(caller, request)
        elif request.method != "GET" and not rule.passes_on:
            self._limit_writes(caller, request)
        if rule.scope is not None:
            rule.scope(request, caller, match.kwargs)
        if rule.streams:
            request.is_admitted = partial(self._is_still_admitted, request, caller)  # type: ignore[attr-defined]

    def _is_still_admitted(self, request: HttpRequest, caller: Caller) -> bool:
        """Return whether the caller of a request that lasts would be let in now, in the same role.

        That is no sign of life: the lease of an agent is not renewed by it. While the cluster can't check tokens, who
        was let in stays.
        """
        if caller.fence is not None:
            return is_alive(caller.task_id or 0, caller.fence, database_now())
        authorization = request.META.get("HTTP_AUTHORIZATION")
        try:
            if authorization and caller.identity:
                now = authentication.bearer_caller(authorization, caller.address, self._cluster)
            elif caller.identity and caller.identity != LOCAL:
                now = authentication.session_caller_now(request)
            else:
                return bool(caller.identity) or policy.is_open()
        except Unavailable:
            return True
        except LobwifeError:
            return False
        return now is not None and (now.identity, now.role) == (caller.identity, caller.role)

    def _audit(self, request: HttpRequest, match: ResolverMatch, rule: Rule, error: LobwifeError) -> None:
        """Record who was refused what, and why. Of strangers without a credential only those that ask for tokens."""
        caller: Caller = getattr(request, "caller", _stranger(request))
        if not (caller.identity or rule.hands_out_tokens or "HTTP_AUTHORIZATION" in request.META):
            return
        name = caller.identity or f"address {limited_address(caller.address)}"
        requested_id = _requested_id(request, rule)
        if caller.identity:
            group, rate = "callers", _AUDITED_OF_CALLERS_PER_MINUTE
        else:
            group, rate = "strangers", _AUDITED_OF_STRANGERS_PER_MINUTE
            requested_id = requested_id[:_LONGEST_OF_STRANGERS]
        if self._limits.take("audited refusals", name, _AUDITED_PER_MINUTE) or self._limits.take(
            "audited refusals of all", group, rate
        ):
            return
        number = None
        with contextlib.suppress(LobwifeError):
            number = parse_path_id(str(match.kwargs.get("task_id", "")))
        try:
            with writing_until(time.monotonic() + _AUDIT_SECONDS):
                audit.record(
                    action=Action.TOKEN_REFUSED if rule.hands_out_tokens else Action.ACCESS_REFUSED,
                    outcome=Outcome.REFUSED,
                    requested_id=requested_id,
                    task_number=number,
                    reason=f"{str(error).removesuffix(f': {_REMEDY}')}{_prefix_of_key(request)}",
                    caller=caller,
                )
        except DatabaseError:
            log.warning("a refusal could not be recorded in the audit: %s: %s", name, error)

    def _rule_of(self, method: str | None, route: str) -> tuple[str, Rule | None]:
        """Return the table's entry and rule; the rule is None for a method that the route does not have."""
        cached = self._rules.get((method, route))
        if cached is not None:
            return cached
        entry = entry_of(method or "", route)
        rule = RULES.get(entry)
        if rule is not None:
            self._rules[method, route] = entry, rule
        return entry, rule

    def _caller_of(self, request: HttpRequest, entry: str, rule: Rule) -> Caller:
        authorization = request.META.get("HTTP_AUTHORIZATION")
        if authorization:
            return self._bearer_caller(request, authorization, entry, rule)
        caller = authentication.session_caller(request) or self._local.caller(request)
        return caller or self._uncredentialed_caller(request, entry, f"a credential is needed: {_REMEDY}")

    def _bearer_caller(self, request: HttpRequest, authorization: str, entry: str, rule: Rule) -> Caller:
        address = authentication.address_of(request)
        renews_lease = rule.passes_on or not rule.after_lease  # a heartbeat renews it itself, a release ends it
        caller = authentication.bearer_caller(authorization, address, self._cluster, renews_lease=renews_lease)
        if caller is not None:
            return caller
        limited = limited_address(address)
        wait = self._limits.take("failed authentication", limited, settings.FAILED_AUTHENTICATIONS_PER_MINUTE)
        if wait:
            raise TooManyRequests(f"too many wrong credentials from {limited}; try again in {wait} s", retry_after=wait)
        refusal = f"the credential is wrong, expired or revoked: {_REMEDY}"
        if self._cluster is None and not authentication.is_api_key(authorization):
            return self._uncredentialed_caller(request, entry, refusal)  # there is nobody who could judge it
        raise Unauthorized(refusal)

    def _uncredentialed_caller(self, request: HttpRequest, entry: str, refusal: str) -> Caller:
        if not policy.is_open():
            raise Unauthorized(refusal)
        if authentication.is_cross_site_write(request):
            raise Forbidden("a page of another site may not write here")
        caller = _stranger(request)
        program = request.META.get("HTTP_USER_AGENT", "").partition(" ")[0][:100]
        if not self._limits.take("uncredentialed callers", f"{caller.address} {program} {entry}", 1):
            policy.record_caller(caller.address, program, entry)  # most calls write nothing
        return caller

    def _limit_writes(self, caller: Caller, request: HttpRequest) -> None:
        """Count a write of an agent or service, a large one as several; raises TooManyRequests."""
        rate = settings.WRITES_PER_MINUTE.get(caller.role)
        count = 1 + int(request.META.get("CONTENT_LENGTH") or 0) // _BYTES_OF_A_WRITE
        wait = self._limits.take("writes", caller.identity, rate, count) if rate else 0
        if wait:
            raise TooManyRequests(f"too many writes of {caller.identity}; try again in {wait} s", retry_after=wait)

    def _limit_tokens(self, caller: Caller, request: HttpRequest) -> None:
        """Count a GitHub token; raises TooManyRequests. Local programs can read the App's key: they have no limit."""
        if caller.identity == LOCAL:
            return
        address = authentication.limited_address_of(request)
        rate = settings.TOKENS_PER_MINUTE
        wait = self._limits.take("tokens", caller.identity or f"address {address}", rate)
        wait = wait or self._limits.take("tokens of an address", address, rate * 4)
        if wait:
            raise TooManyRequests(f"too many tokens asked for; try again in {wait} s", retry_after=wait)


def _stranger(request: HttpRequest) -> Caller:
    return replace(UNIDENTIFIED, address=authentication.address_of(request))


def _requested_id(request: HttpRequest, rule: Rule) -> str:
    """Return the task or service whose token was asked for, else the method and path."""
    body: dict[str, Any] = {}
    if rule.hands_out_tokens:
        with contextlib.suppress(LobwifeError):
            body = json_body(request)
    return str(body.get("task_id") or body.get("service") or f"{request.method} {request.path_info}")


def _prefix_of_key(request: HttpRequest) -> str:
    """Return the part of an API key that identifies it and is no secret, in brackets; empty for other credentials."""
    match = keys.PREFIX.match(request.META.get("HTTP_AUTHORIZATION", ""))
    return f" ({match[1]})" if match and not getattr(request, "caller", UNIDENTIFIED).identity else ""
