"""Commits notify the daemon."""

from __future__ import annotations

import pathlib
import select
from collections.abc import Callable
from typing import Any

import pytest

from core.sqlite.base import DatabaseWrapper
from core.sqlite.notification import Listener, notify

pytestmark = pytest.mark.sqlite("its notification of commits")


def is_notified(listener: Listener) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


def test_a_commit_is_noticed_until_the_listener_is_drained(tmp_path: pathlib.Path) -> None:
    database = str(tmp_path / "any.db")
    notify(database)
    listener = Listener(database)
    assert not is_notified(listener)
    for _ in range(10_000):  # more than a socket holds
        notify(database)
    assert is_notified(listener)
    listener.drain()
    assert not is_notified(listener)
    notify(str(tmp_path.parent / "another.db"))
    assert not is_notified(listener)
    listener.close()
    listener = Listener(database)
    notify(database)
    assert is_notified(listener), "the next daemon"
    listener.close()
    assert list(tmp_path.iterdir()) == [], "nothing that a copy of the folder could trip over"


def test_where_the_address_is_taken_nothing_is_noticed(tmp_path: pathlib.Path) -> None:
    first, second = Listener(str(tmp_path / "any.db")), Listener(str(tmp_path / "any.db"))
    notify(str(tmp_path / "any.db"))
    assert is_notified(first)
    assert not is_notified(second)
    second.drain()
    first.close()
    second.close()


def test_each_web_process_is_notified_and_the_daemon_too(tmp_path: pathlib.Path, settings: Any) -> None:
    settings.WEB_WORKERS = 2
    database = str(tmp_path / "any.db")
    listeners = [Listener(database), *(Listener(database, is_web=True) for _ in range(3))]
    notify(database)
    assert [is_notified(listener) for listener in listeners] == [True, True, True, False]
    for listener in listeners:
        listener.close()


def test_a_commit_notifies_and_a_rollback_does_not(open_database: Callable[[int], DatabaseWrapper]) -> None:
    database = open_database(0)
    listener = Listener(str(database.settings_dict["NAME"]))
    for end, is_noticed in ((database.rollback, False), (database.commit, True)):
        database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        database.connection.execute("INSERT INTO words VALUES ('written')")
        assert not is_notified(listener)
        end()
        assert is_notified(listener) == is_noticed
        database.set_autocommit(True)
    listener.close()
