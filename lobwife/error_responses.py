"""Errors as callers get them: one place that maps them to HTTP."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

from django.core.exceptions import DisallowedHost
from django.db.utils import DatabaseError, DataError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template import loader

from core.database.backend import in_words
from core.errors import Invalid, LobwifeError
from core.rest import is_api, json_response

log = logging.getLogger(__name__)
_SAYS_MESSAGE = re.compile(r"/api/jobs/[^/]+/(trigger|enable|disable)")
_RETRY_SECONDS = 5
_MOST_QUOTED = 100
_UNSTORABLE = "a text has the character NUL, or a number is too large: the database can't store or look for that"
_UNEXPECTED = "an unexpected error; the log of the service has the reason"


class TryAgain(HttpResponse):
    """An error that the fleet's client, which uses aiohttp, tries again after.

    It does when it can't read an answer as JSON, as it couldn't read the older service's in such a moment; one that it
    can read it takes for final.
    """

    def __init__(self, content: bytes, **options: Any) -> None:
        super().__init__(content, content_type="text/plain; charset=utf-8", **options)


def problem(request: HttpRequest, status: int, sentence: str, code: str | None = None) -> HttpResponse:
    """The error in the shape of the route: the three old job routes say `message`, all others `error`."""
    key = "message" if _SAYS_MESSAGE.fullmatch(request.path_info) else "error"
    return json_response({key: sentence, **({"code": code} if code else {})}, status)


def lobwife_error(request: HttpRequest, error: LobwifeError) -> HttpResponse:
    response = problem(request, error.status, str(error), error.code)
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="lobwife"'
    return response


def database_error(request: HttpRequest, error: DatabaseError) -> HttpResponse:
    """503 with the reason for what passes (locked, full, unreadable); the log has the rest."""
    log.error("%s %s: the database answered: %s", request.method, request.path_info, error)
    status, sentence = _what_is_wrong(error)
    response = problem(request, status, sentence)
    if status == 503:
        response["Retry-After"] = str(_RETRY_SECONDS)
        if "aiohttp" in request.META.get("HTTP_USER_AGENT", ""):
            return TryAgain(response.content, status=503, headers={"Retry-After": str(_RETRY_SECONDS)})
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`handler400`: one sentence; of a Host that is not ours, which setting makes it so."""
    sentence = "the request can't be understood: check its path, Host and headers"
    if isinstance(exception, DisallowedHost):
        host = "".join(c if c.isprintable() else "?" for c in request.META.get("HTTP_HOST", ""))[:_MOST_QUOTED]
        sentence = f"this is not called {host!r}: add the name to LOBWIFE_HOSTS, or call it by one of those"
    if is_api(request.path_info):
        return problem(request, 400, sentence)
    return HttpResponse(f"{sentence[0].upper()}{sentence[1:]}.", status=400, content_type="text/plain; charset=utf-8")


def page_error(request: HttpRequest) -> HttpResponse:
    """`handler500`: a page, for a live part of one the bare sentence, for a program JSON; made without the database."""
    error = sys.exc_info()[1]
    status, sentence = _what_is_wrong(error) if isinstance(error, DatabaseError) else (500, _UNEXPECTED)
    if is_api(request.path_info):
        return problem(request, status, sentence)
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    if "HX-Request" in request.headers:
        response = HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")
    else:
        page = loader.render_to_string("500.html", {"sentence": sentence, "retry": request.method == "GET"})
        response = HttpResponse(page, status=status)
    if status == 503:
        response["Retry-After"] = str(_RETRY_SECONDS)
    return response


def _what_is_wrong(error: DatabaseError) -> tuple[int, str]:
    """The status, and the sentence that tells people what to do."""
    if isinstance(error, DataError):
        return Invalid.status, _UNSTORABLE
    return (503, in_words(error)) if isinstance(error, OperationalError) else (500, _UNEXPECTED)
