"""The WSGI application that gunicorn serves on both ports."""

import os
from collections.abc import Iterable
from typing import Any

from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, reset_queries
from django.urls import resolve

from access.hosts import Request

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lobwife.settings")
_django = get_wsgi_application()
_django.request_class = Request
# A call begins with no connection, and DEBUG's list of queries is for other servers: both cost more than they look.
request_started.disconnect(close_old_connections)
request_started.disconnect(reset_queries)
# No cache has a connection, and no request another URLconf.
request_finished.disconnect(close_caches)
request_finished.disconnect(reset_urlconf)
resolve("/health")  # imports all routes and what they need now, not at the first call, which would wait for it


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Django's, which gives its database connection back before the answer is sent, however slowly that is read."""
    try:
        return _django(environ, start_response)
    finally:
        close_old_connections()
