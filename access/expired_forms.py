"""Forms that arrive too late: after a sign-out, or with the CSRF token of an earlier session. Their input is kept."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

_SECRET_FIELDS = ("csrfmiddlewaretoken", "value")  # a secret's value is typed again, as is a password


def signed_out(request: HttpRequest) -> HttpResponse:
    """Answer a form of somebody who is not signed in any more."""
    return _page(request, "You are signed out", status=401)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer what failed Django's CSRF check (`CSRF_FAILURE_VIEW`)."""
    is_signed_in = request.user.is_authenticated
    title = "You signed in again since this page was opened" if is_signed_in else "You are signed out"
    return _page(request, title, status=403)


def _page(request: HttpRequest, title: str, *, status: int) -> HttpResponse:
    """Return a page with the input in a form that can be sent again; without it when another site sent the form."""
    if "HX-Request" in request.headers:
        return HttpResponse(f"{title}. Reload the page.", status=status, content_type="text/plain; charset=utf-8")
    fields = [
        (name, value)
        for name, values in request.POST.lists()
        for value in values
        if name not in _SECRET_FIELDS and "password" not in name
    ]
    may_resend = request.method == "POST" and _came_from_us(request) and bool(fields)
    context = {"title": title, "fields": fields if may_resend else [], "is_signed_in": request.user.is_authenticated}
    return render(request, "expired_form.html", context, status=status)


def _came_from_us(request: HttpRequest) -> bool:
    """Return whether one of our own pages sent the form, as every browser says of a POST."""
    return request.headers.get("Origin") == f"{request.scheme}://{request.get_host()}"
