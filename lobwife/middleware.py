"""What holds for every answer under `/api` and `/health`, errors included (contract, "Conventions")."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.core.handlers.exception import convert_exception_to_response
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, get_resolver

from access.gate import Gate
from access.headers import harden_answer
from core.errors import LobwifeError
from core.rest import is_api
from lobwife.error_responses import database_error, lobwife_error, problem

_PAGES = frozenset({"/api/docs"})


class ApiMiddleware:
    """HEAD wherever GET works; `%2F` within an id stays one id; every error is one sentence in JSON.

    Agents send no session, so their calls go from here straight to the route: sessions, messages, CSRF and static
    files behind this would double the time of a read. A request with a session cookie, an operator's browser, takes
    the whole way, so that the gate finds `request.user` and asks for a CSRF token. Either way nothing reaches a route
    that the gate did not let through.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.get_route: Callable[[HttpRequest], Any] = convert_exception_to_response(self._route)
        self._gate = Gate()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        path = request.path_info
        if not is_api(path):
            return self.get_response(request)
        if path in {"/health", "/metrics"}:
            request.META["HTTP_HOST"] = "localhost"  # probes and scrapers send the pod's IP
        _keep_encoded_slashes(request)
        is_head = request.method == "HEAD"
        if is_head:
            request.method = "GET"
        is_short = settings.SESSION_COOKIE_NAME not in request.COOKIES and path not in _PAGES
        response = self.get_route(request) if is_short else self.get_response(request)
        if response.status_code >= 400 and not response.get("Content-Type", "").startswith("application/json"):
            response = _as_problem(request, response)
        if isinstance(response, HttpResponse):
            response.headers["Content-Length"] = str(len(response.content))
            if is_head:
                response.content = b""
        harden_answer(request, response, is_page=path in _PAGES)
        return response

    def process_view(self, request: HttpRequest, view: object, args: object, kwargs: object) -> HttpResponseBase | None:
        """The gate on the whole way, where `request.user` is known by now."""
        if request.resolver_match is None or not is_api(request.path_info):
            return None
        return self._refusal(request, request.resolver_match)

    def _route(self, request: HttpRequest) -> HttpResponseBase:
        """The answer of the route alone; raises DisallowedHost, Http404."""
        request.get_host()
        match = _match(request.path_info)
        request.resolver_match = match
        refusal = self._refusal(request, match)
        if refusal is not None:
            return refusal
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        return response

    def _refusal(self, request: HttpRequest, match: ResolverMatch) -> HttpResponseBase | None:
        try:
            return self._gate.admit(request, match)
        except LobwifeError as error:
            return lobwife_error(request, error)
        except DatabaseError as error:
            return database_error(request, error)


@functools.lru_cache(maxsize=1024)
def _match(path: str) -> ResolverMatch:
    """Return the path's route; to look through all of them costs a tenth of a read. Raises Http404."""
    return get_resolver().resolve(path)


def _keep_encoded_slashes(request: HttpRequest) -> None:
    """Servers decode the path before it is routed; within an id a slash must stay `%2F`, and so a `%` `%25`."""
    raw = request.META.get("RAW_URI", "").partition("?")[0]
    if "%2" in raw and raw.startswith("/"):
        kept = raw.replace("%25", "%2525").replace("%2F", "%252F").replace("%2f", "%252F")
        request.path_info = unquote(kept)


def _as_problem(request: HttpRequest, response: HttpResponseBase) -> HttpResponse:
    allowed = response.get("Allow", "")
    if "GET" in allowed and "HEAD" not in allowed:
        response["Allow"] = allowed = allowed.replace("GET", "GET, HEAD")
    sentence = {
        400: "the request can't be understood: check its path, Host and headers",
        403: "this is not allowed",
        404: f"there is no {request.path_info[:200]}; /api/docs lists what there is",
        405: f"{request.method} is not possible here; use {allowed or 'another method'}",
        413: "the request is too large",
    }.get(response.status_code, "an unexpected error; the log of the service has the reason")
    replacement = problem(request, response.status_code, sentence)
    for name in ("Allow", "Retry-After", "WWW-Authenticate"):
        if name in response:
            replacement[name] = response[name]
    return replacement
