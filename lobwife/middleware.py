"""What holds for every answer under `/api` and `/health`, errors included (contract, "Conventions")."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from lobwife.problems import problem

_DOCUMENTATION = ("/api/docs",)


def is_api(path: str) -> bool:
    return path.startswith("/api/") or path in {"/api", "/health"} or path.startswith("/health/")


class ApiMiddleware:
    """HEAD wherever GET works; `%2F` within an id stays one id; every error is one sentence in JSON."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api(request.path_info):
            return self.get_response(request)
        if request.path_info == "/health":
            request.META["HTTP_HOST"] = "localhost"  # probes send the pod's IP
        _keep_encoded_slashes(request)
        is_head = request.method == "HEAD"
        if is_head:
            request.method = "GET"
        response = self.get_response(request)
        if response.status_code >= 400 and not response.get("Content-Type", "").startswith("application/json"):
            response = _as_problem(request, response)
        if is_head and isinstance(response, HttpResponse):
            length = len(response.content)
            response.content = b""
            response["Content-Length"] = str(length)
        return response


def _keep_encoded_slashes(request: HttpRequest) -> None:
    """Servers decode the path before it is routed; within an id a slash must stay `%2F` (and `%` be `%25`)."""
    raw = request.META.get("RAW_URI", "").partition("?")[0]
    if "%2f" in raw.lower() and raw.startswith("/"):
        kept = raw.replace("%25", "%2525").replace("%2F", "%252F").replace("%2f", "%252F")
        request.path_info = unquote(kept)


def _as_problem(request: HttpRequest, response: HttpResponseBase) -> HttpResponse:
    sentence = {
        400: "the request can't be understood: check its path, Host and headers",
        403: "this is not allowed",
        404: f"there is no {request.path_info[:200]}; /api/docs lists what there is",
        405: f"{request.method} is not possible here; use {response.get('Allow', 'another method')}",
        413: "the request is too large",
    }.get(response.status_code, "an unexpected error; the log of the service has the reason")
    replacement = problem(request, response.status_code, sentence)
    for name in ("Allow", "Retry-After", "WWW-Authenticate"):
        if name in response:
            replacement[name] = response[name]
    return replacement
