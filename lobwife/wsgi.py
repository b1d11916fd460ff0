"""The WSGI application that gunicorn serves on both ports."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lobwife.settings")
application = get_wsgi_application()
