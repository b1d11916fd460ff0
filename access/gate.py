"""The gate before every REST route: authentication, authorization by the table of roles, rate limits."""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch

from access import authentication, policy
from access.kubernetes import Cluster
from access.roles import RULES, Rule, entry_of
from access.throttle import TokenBuckets
from core.callers import UNIDENTIFIED, Caller
from core.errors import Forbidden, TooManyRequests, Unauthorized

_REMEDY = (
    "send an API key as `Authorization: Bearer lw_...` (an operator makes one with `manage.py apikey create`), a"
    " Kubernetes token for the audience lobwife, or sign in at /admin/"
)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Gate:
    """The gate of a web process; what it remembers are caches and rates."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str | None, str], tuple[str, Rule]] = {}
        self._limits = TokenBuckets()
        self._recorder = policy.CallerRecorder()
        self._cluster: Cluster | None = None
        if settings.KUBERNETES_API:
            self._cluster = Cluster(settings.KUBERNETES_API, settings.KUBERNETES_CREDENTIALS, settings.KUBERNETES_ROLES)

    def admit(self, request: HttpRequest, match: ResolverMatch) -> HttpResponseBase | None:
        """Put the caller on the request; return a response only for a method that the path does not have.

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
        caller = self._caller_of(request, entry)
        request.caller = caller  # type: ignore[attr-defined]
        if caller.role not in rule.roles:
            roles = " or ".join(sorted(rule.roles))
            raise Forbidden(f"this needs the role {roles}; {caller.identity or 'this caller'} is {caller.role}")
        if rule.hands_out_tokens:
            self._limit_tokens(caller, request)
        if rule.scope is not None:
            rule.scope(request, caller, match.kwargs)
        return None

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

    def _caller_of(self, request: HttpRequest, entry: str) -> Caller:
        authorization = request.META.get("HTTP_AUTHORIZATION")
        if authorization:
            return self._bearer_caller(request, authorization, entry)
        caller = authentication.session_caller(request) or authentication.local_caller(request)
        return caller or self._uncredentialed_caller(request, entry, f"a credential is needed: {_REMEDY}")

    def _bearer_caller(self, request: HttpRequest, authorization: str, entry: str) -> Caller:
        address = request.META.get("REMOTE_ADDR", "")
        caller = authentication.bearer_caller(authorization, address, self._cluster)
        if caller is not None:
            return caller
        wait = self._limits.take("failed authentication", address, settings.FAILED_AUTHENTICATIONS_PER_MINUTE)
        if wait:
            raise TooManyRequests(f"too many wrong credentials from {address}; try again in {wait} s", retry_after=wait)
        return self._uncredentialed_caller(request, entry, f"the credential is wrong, expired or revoked: {_REMEDY}")

    def _uncredentialed_caller(self, request: HttpRequest, entry: str, refusal: str) -> Caller:
        if not policy.is_open():
            raise Unauthorized(refusal)
        if authentication.is_cross_site_write(request):
            raise Forbidden("a page of another site may not write here")
        address = request.META.get("REMOTE_ADDR", "")
        self._recorder.record(address=address, program=request.META.get("HTTP_USER_AGENT", ""), route=entry)
        return replace(UNIDENTIFIED, address=address)

    def _limit_tokens(self, caller: Caller, request: HttpRequest) -> None:
        """Count a GitHub token; raises TooManyRequests. Local programs can read the App's key: they have no limit."""
        if caller.identity == "local":
            return
        address = request.META.get("REMOTE_ADDR", "")
        rate = settings.TOKENS_PER_MINUTE
        wait = self._limits.take("tokens", caller.identity or f"address {address}", rate)
        wait = wait or self._limits.take("tokens of an address", address, rate * 4)
        if wait:
            raise TooManyRequests(f"too many tokens asked for; try again in {wait} s", retry_after=wait)
