"""A change that a caller was told of is on the disk; who waits for the disk holds nobody up."""

from __future__ import annotations

import os
import sqlite3

import pytest
from django.db import OperationalError, connection, transaction
from lobwife.sqlite.unsynced import unsynced_atomic

from lobwife.sqlite.gate import gate_for
from tasks.models import Task

pytestmark = pytest.mark.django_db(transaction=True)


def database() -> str:
    return str(connection.settings_dict["NAME"])


def synchronous() -> int:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous")
        return int(cursor.fetchone()[0])


def test_a_commit_returns_when_the_wal_is_synced_and_lets_the_next_writer_in_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    synced = []

    def fdatasync(descriptor: int) -> None:
        gate = gate_for(database())
        gate.acquire(0)
        gate.release()
        other = sqlite3.connect(database())
        names = [name for (name,) in other.execute("SELECT name FROM tasks")]
        other.close()
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), names))

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with transaction.atomic():
        Task.objects.create(name="kept")
        assert synced == []
    assert synced == [(f"{database()}-wal", ["kept"])]


def test_a_disk_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fdatasync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with pytest.raises(OperationalError, match="may not survive a power cut"), transaction.atomic():
        Task.objects.create(name="doubtful")
    monkeypatch.undo()
    with transaction.atomic():
        Task.objects.create(name="after")
    assert Task.objects.count() == 2


def test_only_a_transaction_that_is_synced_afterwards_leaves_it_to_us() -> None:
    assert synchronous() == 2
    with transaction.atomic():
        assert synchronous() == 1
    assert synchronous() == 2
    with pytest.raises(ValueError, match="undone"), transaction.atomic():
        raise ValueError("undone")
    assert synchronous() == 2
    connection.close()
    assert synchronous() == 2


def test_a_connection_that_is_closed_in_a_transaction_undoes_it_and_lets_the_next_writer_in() -> None:
    with transaction.atomic():
        Task.objects.create(name="undone")
        connection.close()
    assert gate_for(database()).acquire(0) == 0
    gate_for(database()).release()
    assert synchronous() == 2
    assert not Task.objects.exists()


def test_without_a_wal_sqlite_syncs_itself() -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = DELETE")
    try:
        with transaction.atomic():
            Task.objects.create(name="kept")
            assert synchronous() == 2
    finally:
        connection.close()  # the next opens it in WAL mode
    assert Task.objects.count() == 1


def test_a_claim_or_a_sign_of_life_does_not_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with unsynced_atomic():
        Task.objects.create(name="may be lost")
    assert (Task.objects.count(), synced, synchronous()) == (1, [], 2)
    with pytest.raises(RuntimeError), transaction.atomic(), unsynced_atomic():
        pass
    with transaction.atomic():
        Task.objects.create(name="kept, and what came before it")
    assert len(synced) == 1
