"""Pages and their headers, sessions that end when nobody uses them, a limit on sign-ins."""

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
from access.throttle import TokenBuckets
from core.sqlite.gate import writing_until

log = logging.getLogger(__name__)

_USED_AT = "seen_at"
_SAVES_PER_IDLE_TIME = 12
_SAVE_SECONDS = 1
_PAGE_POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'self'; img-src 'self'"
    " data:"
)
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
_PERMISSIONS = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"


def set_page_headers(response: HttpResponseBase) -> None:
    """Set the security headers that Django's own middleware doesn't; a page may have a policy of its own."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
    headers.setdefault("Permissions-Policy", _PERMISSIONS)
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")


def set_api_headers(request: HttpRequest, response: HttpResponseBase, *, is_page: bool) -> None:
    """Set the security headers of a response that did not pass the middleware of pages."""
    headers = response.headers
    headers["X-Content-Type-Options"] = "nosniff"
    if is_page:
        set_page_headers(response)
        return
    headers["Content-Security-Policy"] = _API_POLICY
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-store"
    if settings.SECURE_HSTS_SECONDS and request.is_secure():
        headers["Strict-Transport-Security"] = f"max-age={settings.SECURE_HSTS_SECONDS}"


def address_of(request: HttpRequest) -> str:
    """Return the address of the peer; forwarding headers are not trusted."""
    return str(request.META.get("REMOTE_ADDR", ""))


class PageMiddleware:
    """Headers of pages, the limit on sign-ins, the time at which a session was last used.

    It comes before the session middleware, so that what it changes in a session is saved.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self._limits = TokenBuckets()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._too_many_sign_ins(request) or self.get_response(request)
        set_page_headers(response)
        return response

    def process_view(self, request: HttpRequest, view: object, args: object, kwargs: object) -> None:
        """Save that a session is used, so that it ends when idle; parts of a page that poll don't use it."""
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or not request.user.is_authenticated:
            return
        if request.method == "GET" and "HX-Request" in request.headers and "HX-Boosted" not in request.headers:
            return
        now = int(time.time())
        if now - request.session.get(_USED_AT, 0) > settings.SESSION_COOKIE_AGE / _SAVES_PER_IDLE_TIME:
            request.session[_USED_AT] = now

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
    """Sessions whose last use need not be saved: a page is shown also while the database can't be written."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        with writing_until(time.monotonic() + _SAVE_SECONDS if request.method == "GET" else math.inf):
            try:
                return super().process_response(request, response)
            except DatabaseError:
                if request.method != "GET":
                    raise
                log.warning("%s: the use of a session could not be saved", request.path_info)
                return response


def open_access(request: HttpRequest) -> dict[str, Any]:
    """Add `api_is_open` to the context of templates: evaluated only where it is used, true for staff only."""
    user = getattr(request, "user", None)
    return {"api_is_open": SimpleLazyObject(lambda: bool(user and user.is_staff and policy.is_open()))}
