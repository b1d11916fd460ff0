"""SQLite's errors, as sentences that tell a person what to do."""

from __future__ import annotations

import os

from django.db import connection
from django.db.utils import OperationalError

from core.files import is_read_only

MOVED = "is moved, or was moved, to another database"
FAILED_TOGETHER = "this write failed together with another one, and nothing was saved; try again"
INTERRUPTED = "this write was interrupted; look whether it was saved before you try again"


def in_words(error: OperationalError) -> str:
    """Return a sentence for whoever called; it names no path."""
    text = str(error)
    if MOVED in text:
        return f"the database {MOVED}: nothing is written here any more; try again later"
    if text in (FAILED_TOGETHER, INTERRUPTED):
        return text
    if is_about_a_lock(error):
        return "the database is locked by another writer; try again in a few seconds"
    if "full" in text:
        return "the disk is full; free some space, then try again"
    if "unable to open" in text or "Permission denied" in text:
        return "the database can't be opened; `manage.py doctor` says what to do"
    return f"the database can't be used: {text}"


def in_words_for_the_console(error: OperationalError) -> str:
    """Return a sentence about what only a command meets; empty for all else."""
    path = connection.settings_dict["NAME"]
    text = str(error)
    if MOVED in text:
        return f"The database {path} {MOVED}: set LOBWIFE_DATABASE_URL to that, or remove {path}.moved to go on here."
    folder = os.path.dirname(str(path))
    if ("unable to open" in text or "readonly" in text) and is_read_only(folder):
        return f"The file system of {folder} is read-only: mount it for writing, then try again."
    if "unable to open" in text or "no such table" in text or "no such column" in text:
        problem = "can't be opened" if "unable to open" in text else "lacks tables of this version"
        problem = problem if os.path.lexists(path) else "is not there"
        return (
            f"The database {path} {problem}: set LOBWIFE_STATE_DIR to the state directory of the installation that you"
            " mean, or prepare this one with `manage.py migrate`."
        )
    return ""


def is_about_a_lock(error: OperationalError) -> bool:
    text = str(error)
    return "locked" in text or "busy" in text
