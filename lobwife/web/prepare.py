"""What a start needs before anything answers; all of it can be repeated, and two starts at once wait for each other."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command

from core import env
from lobwife.web.operators import NewOperator, ensure_operator
from lobwife.web.static_files import collect_if_changed


def prepare(**streams: Any) -> NewOperator | None:
    """Migrate, collect the static files, make the first operator; returns whom it made. Raises LobwifeError."""
    call_command("migrate", interactive=False, verbosity=0, **streams)
    (settings.STATE_DIR / "scripts").mkdir(exist_ok=True)  # where people put theirs
    collect_if_changed()
    return ensure_operator(
        username=env.text("DJANGO_SUPERUSER_USERNAME"),
        password=env.text("DJANGO_SUPERUSER_PASSWORD"),
        email=env.text("DJANGO_SUPERUSER_EMAIL"),
    )
