"""Statements past Django's cursors."""

from __future__ import annotations

import pytest
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.db.transaction import TransactionManagementError

from core.database import statements
from tasks.models import Task

pytestmark = pytest.mark.django_db


def test_they_see_and_write_what_the_orm_does() -> None:
    task = Task.objects.create(name="one")
    assert statements.write("UPDATE tasks SET name = %s WHERE id = %s", ("two", task.pk)) == 1
    assert statements.write_returning("UPDATE tasks SET name = name WHERE id = %s RETURNING name", (task.pk,)) == (
        "two",
    )
    assert statements.read_one("SELECT name FROM tasks WHERE id = %(id)s", {"id": task.pk}) == ("two",)
    assert statements.read_one("SELECT name FROM tasks WHERE id = %s", (0,)) is None
    assert statements.read_all("SELECT name FROM tasks WHERE id = %s", (task.pk,)) == [("two",)]
    task.refresh_from_db()
    assert task.name == "two"


def test_a_write_outside_of_a_transaction_which_no_gate_guards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(connections[DEFAULT_DB_ALIAS], "in_atomic_block", False)
        with pytest.raises(TransactionManagementError, match="needs a transaction"):
            statements.write("DELETE FROM tasks")
        with pytest.raises(TransactionManagementError, match="needs a transaction"):
            statements.write_returning("DELETE FROM tasks RETURNING id")


def test_an_error_is_django_s_and_the_transaction_is_rolled_back() -> None:
    task = Task.objects.create(name="one")

    def change_and_fail() -> None:
        with transaction.atomic():
            statements.write("UPDATE tasks SET name = 'two' WHERE id = %s", (task.pk,))
            statements.write("UPDATE nothing SET name = 1")

    with pytest.raises(DatabaseError):
        change_and_fail()
    assert statements.read_one("SELECT name FROM tasks WHERE id = %s", (task.pk,)) == ("one",)
