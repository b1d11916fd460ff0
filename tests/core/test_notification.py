"""Commits ring, and the daemon hears it."""

from __future__ import annotations

import pathlib
import select

import pytest
from django.db import connection, transaction

from core.sqlite.bell import Bell, ring
from tasks.models import Task


def is_rung(bell: Bell) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


def test_it_is_heard_until_it_is_hushed(tmp_path: pathlib.Path) -> None:
    database = str(tmp_path / "any.db")
    ring(database)
    bell = Bell(database)
    assert not is_rung(bell)
    for _ in range(10_000):  # more than a socket holds
        ring(database)
    assert is_rung(bell)
    bell.hush()
    assert not is_rung(bell)
    ring(str(tmp_path.parent / "another.db"))
    assert not is_rung(bell)
    bell.close()
    bell = Bell(database)
    ring(database)
    assert is_rung(bell), "the next daemon"
    bell.close()
    assert list(tmp_path.iterdir()) == [], "nothing that a copy of the folder could trip over"


def test_where_its_name_is_taken_nothing_rings(tmp_path: pathlib.Path) -> None:
    first, second = Bell(str(tmp_path / "any.db")), Bell(str(tmp_path / "any.db"))
    ring(str(tmp_path / "any.db"))
    assert is_rung(first)
    assert not is_rung(second)
    second.hush()
    first.close()
    second.close()


@pytest.mark.django_db(transaction=True)
def test_a_commit_rings_and_what_is_undone_does_not() -> None:
    bell = Bell(str(connection.settings_dict["NAME"]))
    bell.hush()
    with transaction.atomic():
        Task.objects.create(name="undone")
        transaction.set_rollback(True)
    assert not is_rung(bell)
    with transaction.atomic():
        Task.objects.create(name="done")
        assert not is_rung(bell)
    assert is_rung(bell)
    bell.close()
