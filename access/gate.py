"""The gate before every REST route: it names the caller, asks the table of roles, counts what is limited."""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch

from access import authentication, policy
from access.kubernetes import Cluster
from access.roles import RULES, Rule, entry_of
from access.throttle import RateLimits
from access.uncredentialed_callers import Sightings
from core.callers import UNIDENTIFIED, Caller
from core.errors import Forbidden, TooManyRequests, Unauthorized

_WAY_OUT = (
    "send an API key as `Authorization: Bearer lw_...` (an operator makes one with `manage.py apikey create`), a"
    " Kubernetes token for the audience lobwife, or sign in at /admin/"
)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_MOST_PROGRAM = 200


class Gate:
    """One for each web process. Knows nothing that it could not learn again, but for what is in the limits' file."""

    def __init__(self) -> None:
        self._rules: dict[tuple[str | None, str], tuple[str, Rule | None]] = {}
        self._limits = RateLimits(settings.STATE_DIR / "rate-limits", settings.SECRET_KEY)
        self._sightings = Sightings()
        self._cluster: Cluster | None = None
        if settings.KUBERNETES_API:
            self._cluster = Cluster(settings.KUBERNETES_API, settings.KUBERNETES_CREDENTIALS, settings.KUBERNETES_ROLES)

    def admit(self, request: HttpRequest, match: ResolverMatch) -> HttpResponseBase | None:
        """Put the caller on the request; an answer only for a method that the path does not have.

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
            may = " or ".join(sorted(rule.roles))
            raise Forbidden(f"this needs the role {may}; {caller.identity or 'this caller'} is {caller.role}")
        if rule.hands_out_tokens:
            self._count_token(caller, request)
        if rule.scope is not None:
            rule.scope(request, caller, match.kwargs)
        return None

    def _rule_of(self, method: str | None, route: str) -> tuple[str, Rule | None]:
        found = self._rules.get((method, route))
        if found is None:
            entry = entry_of(method or "", route)
            found = entry, RULES.get(entry)
            if found[1] is not None:  # what callers make up is not kept
                self._rules[method, route] = found
        return found

    def _caller_of(self, request: HttpRequest, entry: str) -> Caller:
        credential = request.META.get("HTTP_AUTHORIZATION")
        if credential:
            return self._by_credential(request, credential, entry)
        caller = authentication.session_caller(request) or authentication.local_caller(request)
        return caller or self._unidentified(request, entry, f"who calls is not known: {_WAY_OUT}")

    def _by_credential(self, request: HttpRequest, credential: str, entry: str) -> Caller:
        address = request.META.get("REMOTE_ADDR", "")
        caller = authentication.credential_caller(credential, address, self._cluster)
        if caller is not None:
            return caller
        wait = self._limits.take("failed authentication", address, settings.FAILED_AUTHENTICATIONS_PER_MINUTE)
        if wait:
            raise TooManyRequests(f"too many wrong credentials from {address}; try again in {wait} s", retry_after=wait)
        return self._unidentified(request, entry, f"the credential is wrong, expired or revoked: {_WAY_OUT}")

    def _unidentified(self, request: HttpRequest, entry: str, refusal: str) -> Caller:
        if not policy.is_open():
            raise Unauthorized(refusal)
        if authentication.is_cross_site_write(request):
            raise Forbidden("a page of another site may not write here")
        program = request.META.get("HTTP_USER_AGENT", "")[:_MOST_PROGRAM]
        address = request.META.get("REMOTE_ADDR", "")
        self._sightings.note(address=address, program=program, route=entry)
        return replace(UNIDENTIFIED, address=address)

    def _count_token(self, caller: Caller, request: HttpRequest) -> None:
        """Not for programs on this machine: they could read the App's key itself."""
        address = request.META.get("REMOTE_ADDR", "")
        if caller.identity == "local":
            return
        rate = settings.TOKENS_PER_MINUTE
        wait = self._limits.take("tokens", caller.identity or f"address {address}", rate)
        wait = wait or self._limits.take("tokens of an address", address, rate * 4)
        if wait:
            raise TooManyRequests(f"too many tokens asked for; try again in {wait} s", retry_after=wait)
