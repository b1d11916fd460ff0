"""Middleware: ids of requests, the conventions of REST (contract, "Conventions"), compression of pages."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.core.handlers.exception import convert_exception_to_response
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.urls import ResolverMatch, get_resolver

from access import idempotency
from access.gate import Gate
from access.hosts import is_address
from access.pages import set_api_headers
from core.callers import Caller, caller_of
from core.errors import LobwifeError
from core.logs import request_id
from core.rest import is_api
from lobwife.error_responses import TryAgain, database_error, lobwife_error, problem

_PAGES = frozenset({"/api/docs"})
_MCP = "/mcp"
_OF_ONE_REQUEST = frozenset(
    {
        *("RAW_URI", "HTTP_ACCEPT", "HTTP_IDEMPOTENCY_KEY", "HTTP_LAST_EVENT_ID", "HTTP_RANGE"),
        *("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"),
    }
)


class RequestIdMiddleware:
    """Give every request an id, the caller's or a new one, for its response and for the lines of its log.

    It comes before all others, so that their lines carry the id too.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with request_id(request.META.get("HTTP_X_REQUEST_ID", "")) as identifier:
            response = self.get_response(request)
            response["X-Request-ID"] = identifier
            return response


class ApiMiddleware:
    """HEAD wherever GET works; `%2F` within an id stays part of it; every error is one sentence in JSON.

    Requests without a session cookie, such as those of agents, go straight to the route: the middleware of pages
    (sessions, messages, CSRF, static files) would double the time of a read. Requests with one, of an operator's
    browser, pass that middleware, so that the gate finds `request.user` and asks for a CSRF token. No request reaches
    a route without the gate.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.get_route: Callable[[HttpRequest], Any] = convert_exception_to_response(self._route)
        self._gate = Gate()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        path = request.path_info
        if not is_api(path):
            return self.get_response(request)
        if path == "/health" or (path == "/metrics" and is_address(request.META.get("HTTP_HOST", ""))):
            request.META["HTTP_HOST"] = "localhost"  # probes and scrapers send the pod's IP
        _keep_encoded_slashes(request)
        is_head = request.method == "HEAD"
        if is_head:
            request.method = "GET"
        if path == _MCP:
            request.pass_on = functools.partial(self._pass_on, request)  # type: ignore[attr-defined]
        skips_page_middleware = settings.SESSION_COOKIE_NAME not in request.COOKIES and path not in _PAGES
        response = self.get_route(request) if skips_page_middleware else self.get_response(request)
        is_problem = response.get("Content-Type", "").startswith("application/json") or isinstance(response, TryAgain)
        if response.status_code >= 400 and not is_problem:
            response = _as_problem(request, response)
        if isinstance(response, HttpResponse):
            response.headers["Content-Length"] = str(len(response.content))
            if is_head:
                response.content = b""
        set_api_headers(request, response, is_page=path in _PAGES)
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponseBase], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Ask the gate, for requests that passed the middleware of pages: only now is `request.user` known."""
        if request.resolver_match is None or not is_api(request.path_info):
            return None
        refusal = self._refusal(request, request.resolver_match)
        if refusal is not None or idempotency.HEADER not in request.headers:
            return refusal
        return self._answer(request, functools.partial(view, request, *args, **kwargs))

    def _route(self, request: HttpRequest) -> HttpResponseBase:
        """Answer without the middleware of pages; raises DisallowedHost, Http404."""
        request.get_host()
        match = _match(request.path_info)
        request.resolver_match = match
        refusal = self._refusal(request, match)
        if refusal is not None:
            return refusal
        return self._answer(request, functools.partial(match.func, request, *match.args, **match.kwargs))

    def _pass_on(self, outer: HttpRequest, method: str, path: str, query: str, body: bytes) -> HttpResponseBase:
        """Answer a call that another call makes, as if its caller had made it."""
        request = _inner_request(outer, method, path, query, body)
        request.resolver_match = match = _match(path)
        refusal = self._refusal(request, match, caller_of(outer))
        if refusal is not None:
            return refusal
        return self._answer(request, functools.partial(match.func, request, *match.args, **match.kwargs))

    def _answer(self, request: HttpRequest, answer: Callable[[], HttpResponseBase]) -> HttpResponseBase:
        try:
            return idempotency.answer_once(request, answer)
        except LobwifeError as error:
            return lobwife_error(request, error)
        except DatabaseError as error:
            return database_error(request, error)

    def _refusal(
        self, request: HttpRequest, match: ResolverMatch, caller: Caller | None = None
    ) -> HttpResponseBase | None:
        try:
            return self._gate.admit(request, match, caller)
        except LobwifeError as error:
            return lobwife_error(request, error)
        except DatabaseError as error:
            return database_error(request, error)


@functools.lru_cache(maxsize=1024)
def _match(path: str) -> ResolverMatch:
    """Return the path's route; to look through all of them costs a tenth of a read. Raises Http404."""
    return get_resolver().resolve(path)


def _inner_request(outer: HttpRequest, method: str, path: str, query: str, body: bytes) -> HttpRequest:
    """Return a request like the outer one, which has its connection, credential and session."""
    environment = {name: value for name, value in outer.META.items() if name not in _OF_ONE_REQUEST}
    environment |= {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
    environment |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    inner: HttpRequest = type(outer)(environment)  # type: ignore[call-arg]
    for name in ("session", "user"):
        if hasattr(outer, name):
            setattr(inner, name, getattr(outer, name))
    return inner


class PageCompressionMiddleware(GZipMiddleware):
    """Compress pages that are read by GET.

    Responses that may hold a token (REST, a form that was sent) are not compressed, since their length would tell
    an eavesdropper about their content. The secrets of pages are the CSRF token, which Django masks anew each time, and
    a new API key, which is shown once, so that no two lengths can be compared; GZipMiddleware adds random bytes too.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.method != "GET" or is_api(request.path_info):
            return response
        return super().process_response(request, response)


def _keep_encoded_slashes(request: HttpRequest) -> None:
    """Leave `%2F` and `%25` encoded, which servers decode before the path is routed: they are part of an id."""
    raw = request.META.get("RAW_URI", "").partition("?")[0]
    if "%2" in raw and raw.startswith("/"):
        escaped = raw.replace("%25", "%2525").replace("%2F", "%252F").replace("%2f", "%252F")
        request.path_info = unquote(escaped)


def _as_problem(request: HttpRequest, response: HttpResponseBase) -> HttpResponse:
    """Return an error of Django or ninja as JSON, with the headers that explain it."""
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
