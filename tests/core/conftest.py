from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from core.sqlite.base import DatabaseWrapper


@pytest.fixture
def open_database(
    tmp_path: pathlib.Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[Callable[[int], DatabaseWrapper]]:
    """A database of its own with a table of words; each call opens it once more, with a pool of that size."""
    path, opened = tmp_path / "words.db", list[DatabaseWrapper]()
    path.touch()

    def open_database(pool: int) -> DatabaseWrapper:
        options = {**connection.settings_dict["OPTIONS"], "pool": pool, "timeout": 20}
        settings = {**connection.settings_dict, "NAME": str(path), "CONN_MAX_AGE": 0, "OPTIONS": options}
        database = DatabaseWrapper(settings, "words")
        database.inc_thread_sharing()
        database.connect()
        database.connection.execute("CREATE TABLE IF NOT EXISTS words (word TEXT UNIQUE)")
        opened.append(database)
        return database

    with django_db_blocker.unblock():
        yield open_database
        for database in opened:
            database.close()
