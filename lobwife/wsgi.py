"""The WSGI application that gunicorn serves on both ports."""

import os

from django.core.wsgi import get_wsgi_application
from django.urls import resolve

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lobwife.settings")
application = get_wsgi_application()
resolve("/health")  # imports all routes and what they need now, not at the first call, which would wait for it
