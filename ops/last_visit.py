"""When somebody was last at the overview, in a cookie: it outlives sessions, and to look at a page writes no row."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from core.timestamps import parse, seconds_text, utc_now

_COOKIE = "last-visit"
_ABSENCE = timedelta(minutes=30)
_MOST = timedelta(days=3)


def begin_of_absence(request: HttpRequest) -> datetime | None:
    """Return since when the person was away before this visit, at most three days ago; None when that is unknown."""
    _, begin = _read(request)
    return max(begin, utc_now() - _MOST) if begin else None


def remember(request: HttpRequest, response: HttpResponse) -> None:
    """Note this visit; one within half an hour of the last goes on with it."""
    _, begin = _read(request)
    texts = (seconds_text(utc_now()), seconds_text(begin) if begin else "")
    response.set_cookie(
        _COOKIE,
        "|".join(texts).replace(" ", "T"),
        max_age=365 * 86400,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _read(request: HttpRequest) -> tuple[datetime | None, datetime | None]:
    """Return the last visit, and where the absence before this one began."""
    last_text, _, begin_text = request.COOKIES.get(_COOKIE, "").partition("|")
    last, begin = parse(last_text), parse(begin_text)
    if last is not None and utc_now() - last > _ABSENCE:
        begin = last
    return last, begin
