"""The reason why nobody can write to the database. The daemon's heartbeat can't be written then either."""

from __future__ import annotations

import shutil
import time

from django.conf import settings
from django.db import transaction
from django.db.utils import OperationalError

from core.sqlite.gate import writing_until
from core.sqlite.messages import in_words, is_about_a_lock

_FULL_BYTES = 2**20
_LOCKED = (
    "The database is locked by another program: nothing can be written and no script starts. Look for a sqlite3 shell"
    " or a backup that holds it open."
)


def obstacle() -> str:
    """In a sentence that says what to do; "" when the database can be written. Waits a fifth of a second for a lock."""
    try:
        full = shutil.disk_usage(settings.STATE_DIR).free < _FULL_BYTES
    except OSError as error:
        return f"{settings.STATE_DIR} can't be read ({error.strerror}): nothing can be written and no script starts."
    if full:
        return (
            f"The disk of {settings.STATE_DIR} is full: nothing can be written and no script starts. Make room; the"
            " daemon goes on by itself."
        )
    try:
        with writing_until(time.monotonic()), transaction.atomic():
            transaction.set_rollback(True)  # nothing was written: nobody is to be woken, the disk not waited for
            return ""
    except OperationalError as error:
        if is_about_a_lock(error):
            return _LOCKED
        said = in_words(error)
        return f"{said[0].upper()}{said[1:]}."
