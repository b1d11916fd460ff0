"""Readers that wait in a process: one look serves all of them."""

from __future__ import annotations

import json
import threading
import time

import pytest
from django.db import transaction
from pytest_django.fixtures import DjangoAssertNumQueries

from core.database import watcher as database_watcher
from core.database.backend import Listener, listener
from core.database.watcher import Party, Watcher
from events.models import Event
from events.readers import FURTHEST_BEHIND, Reader, Readers, Wanted
from events.services import append, newest_id
from tasks.services import create_task
from tests.support.installation import wait_for

pytestmark = pytest.mark.django_db
ALL = Wanted()


class StillWatcher(Watcher):
    """One that does not look by itself: the test does."""

    def watch_for(self, party: Party) -> None:
        return


class Checks:
    """Counts how often somebody is asked about, and lets them in until told otherwise."""

    def __init__(self) -> None:
        self.count, self.answer = 0, True

    def __call__(self) -> bool:
        self.count += 1
        return self.answer


@pytest.fixture
def readers() -> Readers:
    return Readers(StillWatcher())


def entered(readers: Readers, wanted: Wanted = ALL, check: Checks | None = None, caller: str = "a") -> Reader:
    reader = Reader(wanted, caller, f"credential of {caller}", check or Checks(), lambda: False)
    readers.enter(reader)
    return reader


def note(count: int = 1) -> None:
    with transaction.atomic():
        for _ in range(count):
            append("key.revoked", "ci", {"name": "ci"})


def ids(reader: Reader) -> list[int]:
    events = reader.wait(0)
    assert [json.loads(event.json)["id"] for event in events] == [event.id for event in events]
    return [event.id for event in events]


def test_where_commits_come_in_a_row_looks_leave_them_the_processor() -> None:
    watcher, looks, began = Watcher(), list[float](), time.monotonic()

    class Counting:
        def is_empty(self) -> bool:
            return len(looks) >= 6

        def look(self) -> None:
            looks.append(time.monotonic())

        def close(self) -> None:
            raise AssertionError("nothing stops")

    watcher.watch_for(Counting())
    deadline = time.monotonic() + 20
    while len(looks) < 6 and time.monotonic() < deadline:
        watcher.look_soon()  # as a commit does
        time.sleep(0.002)
    assert len(looks) == 6
    assert looks[-1] - began > 5 * 0.025


def test_a_watcher_whose_listener_fails_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*, is_web: bool) -> Listener:
        monkeypatch.setattr(database_watcher, "listener", listener)
        raise OSError("too many open files")

    monkeypatch.setattr(database_watcher, "listener", fails)
    watcher, looked = Watcher(), threading.Event()

    class Looking:
        def is_empty(self) -> bool:
            return looked.is_set()

        def look(self) -> None:
            looked.set()

        def close(self) -> None:
            raise AssertionError("nothing stops")

    watcher.watch_for(Looking())
    assert looked.wait(20)


def test_one_look_hands_new_events_to_all_who_want_them(
    readers: Readers, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    task = create_task(fields={"name": "Work"}, actor=None)
    everything = [entered(readers) for _ in range(50)]
    keys = entered(readers, Wanted(types=frozenset({"key.revoked"})))
    of_task = entered(readers, Wanted(task=task.pk))
    begin = newest_id()
    note(3)
    with django_assert_num_queries(1):
        readers.look()
    new = [begin + 1, begin + 2, begin + 3]
    assert {tuple(ids(reader)) for reader in everything} == {tuple(new)}
    assert (ids(keys), ids(of_task)) == (new, [])
    assert readers.cursor == begin + 3
    readers.look()
    assert ids(keys) == []


def test_a_reader_that_does_not_take_its_events_is_bounded(readers: Readers) -> None:
    slow, quick = entered(readers), entered(readers)
    for _ in range(3):
        note(FURTHEST_BEHIND // 2)
        readers.look()
        assert len(ids(quick)) == FURTHEST_BEHIND // 2
    assert (slow.is_behind, slow.wait(0), quick.is_behind) == (True, [], False)


def test_a_reader_that_begins_on_an_emptied_feed_misses_nothing(readers: Readers) -> None:
    note(3)
    Event.objects.all().delete()  # ids go on from where they were
    reader = entered(readers)
    note()
    readers.look()
    assert len(ids(reader)) == 1


def test_a_credential_is_asked_about_once_for_all_its_readers(readers: Readers) -> None:
    check, other = Checks(), Checks()
    revoked, staying = [entered(readers, check=check) for _ in range(20)], entered(readers, check=other, caller="b")
    check.answer = False
    readers.look()
    wait_for(lambda: other.count, what="all credentials are asked about")
    assert (check.count, other.count) == (1, 1)
    assert {reader.is_over for reader in revoked} == {True}
    assert not staying.is_over


def test_a_slow_check_of_one_credential_keeps_nobody_from_events(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.readers._CHECK_SECONDS", 0.0)
    answer, asked, answered = threading.Event(), list[int](), list[int]()

    def slow() -> bool:
        asked.append(1)
        answer.wait(5)
        answered.append(1)
        return False

    refused, other = Reader(ALL, "slow", "its token", slow, lambda: False), entered(readers)
    readers.enter(refused)
    for _ in range(3):
        note()
        readers.look()
        assert len(ids(other)) == 1
    assert (len(asked), answered) == (1, [])
    answer.set()
    wait_for(lambda: refused.is_over, what="the reader is let go")


def test_a_process_that_stops_has_everybody_go(readers: Readers) -> None:
    reader = entered(readers)
    readers.close()
    assert reader.is_over
    assert entered(readers).is_over
