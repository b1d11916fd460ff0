"""Pages go compressed over the wire; what REST answers does not."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

from core.rest import is_api


class PageCompressionMiddleware(GZipMiddleware):
    """Only what a browser is shown by GET. An answer that may hold a token (REST, a form that was sent) stays as it is,
    since its length would tell who listens about its content. The secrets of pages are the CSRF token, which Django
    masks anew each time, and a new API key, which is shown once, so that no two lengths can be compared; random bytes
    are added to each page."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.method != "GET" or is_api(request.path_info):
            return response
        return super().process_response(request, response)
