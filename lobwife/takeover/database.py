"""Take over the database file: judge it, keep a copy of the older service's, leave the rest to the migrations."""

from __future__ import annotations

import os
import pathlib

from core.errors import Unavailable
from core.sqlite.copy_reader import known_migrations
from lobwife.takeover.copies import COMPANIONS, copied, keep
from lobwife.takeover.inspection import examine, is_complete

COPY_SUFFIX = ".pre-migration"


def make_ready(database: pathlib.Path) -> None:
    """See that the file may be migrated; one that the older service left is copied to `….pre-migration` first.

    The caller holds the start's lock. Raises Conflict for a damaged or newer file, Unavailable when it can't be copied;
    the file and its WAL are then as they were.
    """
    known = known_migrations()
    if not any(os.path.lexists(f"{database}{suffix}") for suffix in COMPANIONS):
        return
    if database.is_file() and is_complete(database, known):
        return
    with copied(database) as copy:
        if examine(copy, database, known):
            keep(copy, database.with_name(database.name + COPY_SUFFIX))


def make_file(database: pathlib.Path) -> None:
    """An empty file where there is none, which SQLite then makes a database of; raises Unavailable when it can't be."""
    if database.exists():
        return
    try:
        database.touch()
    except OSError as error:
        raise Unavailable(
            f"{database} can't be made ({error.strerror}): make its directory writable and see that its disk has room,"
            " then start again"
        ) from error
