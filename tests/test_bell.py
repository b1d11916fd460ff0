"""Commits ring, and the daemon hears it."""

from __future__ import annotations

import pathlib
import select
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from lobwife.sqlite.bell import Bell, ring
from tasks.models import Task


def is_rung(bell: Bell) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


def test_it_is_heard_until_it_is_hushed(tmp_path: pathlib.Path) -> None:
    database = str(tmp_path / "any.db")
    ring(database)
    assert list(tmp_path.iterdir()) == []
    bell = Bell(database)
    assert not is_rung(bell)
    for _ in range(70_000):  # more than a pipe holds
        ring(database)
    assert is_rung(bell)
    while is_rung(bell):
        bell.hush()
    ring(database)
    assert is_rung(Bell(database)), "the next daemon"


@pytest.mark.parametrize("make", [pathlib.Path.mkdir, pathlib.Path.touch])
def test_where_there_can_be_none_nothing_rings(tmp_path: pathlib.Path, make: Callable[[pathlib.Path], None]) -> None:
    make(tmp_path / "any.db.bell")
    bell = Bell(str(tmp_path / "any.db"))
    ring(str(tmp_path / "any.db"))
    assert not is_rung(bell)


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
