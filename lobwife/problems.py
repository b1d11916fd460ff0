"""Errors as callers get them: one place that maps them to HTTP."""

from __future__ import annotations

import logging
import re

from django.db.utils import DatabaseError, OperationalError
from django.http import HttpRequest, HttpResponse

from lobwife.base.errors import LobwifeError
from lobwife.base.rest import answer

log = logging.getLogger(__name__)
_SAYS_MESSAGE = re.compile(r"/api/jobs/[^/]+/(trigger|enable|disable)")
_RETRY_SECONDS = 5


def problem(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
    """The error in the shape of the route: the three old job routes say `message`, all others `error`."""
    key = "message" if _SAYS_MESSAGE.fullmatch(request.path_info) else "error"
    return answer({key: sentence}, status)


def lobwife_error(request: HttpRequest, error: LobwifeError) -> HttpResponse:
    response = problem(request, error.status, str(error))
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="lobwife"'
    return response


def database_error(request: HttpRequest, error: DatabaseError) -> HttpResponse:
    """503 with the reason for what passes (locked, full, unreadable); the log has the rest."""
    log.error("%s %s: the database answered: %s", request.method, request.path_info, error)
    if not isinstance(error, OperationalError):
        return problem(request, 500, "an unexpected error; the log of the service has the reason")
    text = str(error)
    if "locked" in text or "busy" in text:
        sentence = "the database is locked by another writer; try again in a few seconds"
    elif "full" in text:
        sentence = "the disk is full; free some space, then try again"
    else:
        sentence = f"the database can't be used: {text}"
    response = problem(request, 503, sentence)
    response["Retry-After"] = str(_RETRY_SECONDS)
    return response
