"""Headers that every answer has: what a browser may do with it."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

PAGE_POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'self'; img-src 'self'"
    " data:"
)
_ANSWER_POLICY = "default-src 'none'; frame-ancestors 'none'"
_PERMISSIONS = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"


def harden_answer(request: HttpRequest, response: HttpResponseBase, *, is_page: bool) -> None:
    """For what never passed the page middleware; an answer of REST is data, nothing for a browser to show."""
    headers = response.headers
    headers["X-Content-Type-Options"] = "nosniff"
    if is_page:
        harden_page(response)
        return
    headers["Content-Security-Policy"] = _ANSWER_POLICY
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-store"
    if settings.SECURE_HSTS_SECONDS and request.is_secure():
        headers["Strict-Transport-Security"] = f"max-age={settings.SECURE_HSTS_SECONDS}"


def harden_page(response: HttpResponseBase) -> None:
    """What Django's own middleware doesn't set; a page that sets a policy of its own keeps it."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    headers.setdefault("Permissions-Policy", _PERMISSIONS)
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
