"""The WSGI application that gunicorn serves on both ports."""

import os
from collections.abc import Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.urls import resolve

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lobwife.settings")
_django = get_wsgi_application()
resolve("/health")  # imports all routes and what they need now, not at the first call, which would wait for it


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Django's, which gives its database connection back before the answer is sent, however slowly that is read."""
    try:
        return _django(environ, start_response)
    finally:
        close_old_connections()
