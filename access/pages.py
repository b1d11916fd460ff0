"""Pages and their headers, sessions that end when nobody uses them, a limit on sign-ins."""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from access import authentication, policy
from access.throttle import TokenBuckets
from core.write_deadline import writing_until

log = logging.getLogger(__name__)

_USED_AT = "seen_at"
_SAVES_PER_IDLE_TIME = 12
_SAVE_SECONDS = 1
_BROWSER_COOKIE, _BROWSER_SECONDS = "signed-in-before", 365 * 86400
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


class PageMiddleware:
    """Headers of pages, the time at which a session was last used.

    It comes before the session middleware, so that what it changes in a session is saved.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        set_page_headers(response)
        return response

    def process_view(self, request: HttpRequest, view: object, args: object, kwargs: object) -> None:
        """Save that a session is used, so that it ends when idle; what a page asks for by itself doesn't use it."""
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or not request.user.is_authenticated:
            return
        if request.method == "GET" and "HX-Request" in request.headers and "HX-Boosted" not in request.headers:
            return
        if "text/event-stream" in request.headers.get("Accept", ""):
            return
        now = int(time.time())
        if now - request.session.get(_USED_AT, 0) > settings.SESSION_COOKIE_AGE / _SAVES_PER_IDLE_TIME:
            request.session[_USED_AT] = now


class SignInMiddleware:
    """A limit on sign-ins; it comes after the check of the CSRF token, so that forged ones don't count.

    A browser in which somebody signed in before has a limit of its own for that name, so that strangers behind the same
    address don't keep operators out.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self._limits = TokenBuckets()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if _is_sign_in(request) and response.status_code == HTTPStatus.FOUND and request.user.is_authenticated:
            _remember_browser(response, request.user.get_username())
        return response

    def process_view(self, request: HttpRequest, view: object, args: object, kwargs: object) -> HttpResponse | None:
        """Refuse a sign-in beyond the limit."""
        if not _is_sign_in(request):
            return None
        browser = known_browser(request)
        if browser:
            wait = self._limits.take("sign-ins of a browser", browser, max(1, settings.LOGINS_PER_MINUTE // 2))
        else:
            wait = self._limits.take("sign-ins", authentication.limited_address_of(request), settings.LOGINS_PER_MINUTE)
        if not wait:
            return None
        response = render(request, "admin/locked_out.html", {"minutes": math.ceil(wait / 60)}, status=429)
        response["Retry-After"] = str(wait)
        return response


def _is_sign_in(request: HttpRequest) -> bool:
    return request.method == "POST" and request.path_info in {"/", reverse(settings.LOGIN_URL)}


def known_browser(request: HttpRequest) -> str | None:
    """Return the id of a browser in which the user who signs in now has signed in before; None for any other."""
    value = request.get_signed_cookie(_BROWSER_COOKIE, default="", salt=_BROWSER_COOKIE, max_age=_BROWSER_SECONDS)
    browser, _, name = str(value).partition(":")
    return browser if browser and name == _hash(request.POST.get("username", "")) else None


def has_own_limit(request: HttpRequest, credentials: object = None) -> bool:
    """Return whether django-axes leaves a sign-in to the limit of its browser."""
    return known_browser(request) is not None


def _remember_browser(response: HttpResponseBase, username: str) -> None:
    response.set_signed_cookie(
        _BROWSER_COOKIE,
        f"{secrets.token_hex(8)}:{_hash(username)}",
        salt=_BROWSER_COOKIE,
        max_age=_BROWSER_SECONDS,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _hash(username: str) -> str:
    return hashlib.sha256(username.encode()).hexdigest()[:32]


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
