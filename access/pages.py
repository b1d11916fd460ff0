"""Pages: their headers, sessions that end when nobody is there, sign-ins that can't be tried at any speed."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from access import policy
from access.headers import harden_page
from access.throttle import RateLimits
from core.write_deadline import writing_until

log = logging.getLogger(__name__)

_SEEN = "seen_at"
_SAVES_PER_IDLE = 12
_NOTE_SECONDS = 1


def address_of(request: HttpRequest) -> str:
    """The peer's: what forwarding headers claim is not believed."""
    return str(request.META.get("REMOTE_ADDR", ""))


class PageMiddleware:
    """Stands outside of the session middleware, so that what it changes in a session is saved."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self._limits = RateLimits(settings.STATE_DIR / "rate-limits", settings.SECRET_KEY)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._too_many_sign_ins(request) or self.get_response(request)
        harden_page(response)
        return response

    def process_view(self, request: HttpRequest, view: object, args: object, kwargs: object) -> None:
        """A session ends when it was not used for SESSION_COOKIE_AGE; live parts of a page that poll don't use it."""
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or not request.user.is_authenticated:
            return
        if request.method == "GET" and "HX-Request" in request.headers and "HX-Boosted" not in request.headers:
            return
        now = int(time.time())
        if now - request.session.get(_SEEN, 0) > settings.SESSION_COOKIE_AGE / _SAVES_PER_IDLE:
            request.session[_SEEN] = now

    def _too_many_sign_ins(self, request: HttpRequest) -> HttpResponse | None:
        if request.method != "POST" or request.path_info not in {"/", reverse(settings.LOGIN_URL)}:
            return None
        wait = self._limits.take("sign-ins", address_of(request), settings.LOGINS_PER_MINUTE)
        if not wait:
            return None
        response = render(request, "admin/locked_out.html", {"minutes": math.ceil(wait / 60)}, status=429)
        response["Retry-After"] = str(wait)
        return response


class LenientSessionMiddleware(SessionMiddleware):
    """A page is shown also while the database can't take the note that its session was used."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        with writing_until(time.monotonic() + _NOTE_SECONDS if request.method == "GET" else math.inf):
            try:
                return super().process_response(request, response)
            except DatabaseError:
                if request.method != "GET":
                    raise
                log.warning("%s: the use of a session could not be noted", request.path_info)
                return response


def open_access(request: HttpRequest) -> dict[str, Any]:
    """For templates: `api_is_open`, asked only where a page shows it, to people who are signed in."""
    user = getattr(request, "user", None)
    return {"api_is_open": SimpleLazyObject(lambda: bool(user and user.is_staff and policy.is_open()))}
