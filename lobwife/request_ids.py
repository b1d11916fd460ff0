"""Every request has an id: the caller's, or one of ours. The answer names it, and so does the log, of its runs too."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from core.logs import request_id


class RequestIdMiddleware:
    """Before all others, so that their lines carry the id too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with request_id(request.META.get("HTTP_X_REQUEST_ID", "")) as identifier:
            response = self.get_response(request)
            response["X-Request-ID"] = identifier
            return response
