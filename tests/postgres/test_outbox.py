"""The feed with many writers: no cursor passes an event that becomes visible later."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from events.services import append, newest_id, read_after

WRITERS, EVENTS = 32, 12
pytestmark = pytest.mark.django_db(transaction=True)


def test_a_reader_sees_each_event_of_32_writers_once_and_in_order() -> None:
    begin, seen = newest_id(), []
    threads = [threading.Thread(target=_closing(lambda number=number: _write(number))) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    cursor, deadline = begin, time.monotonic() + 60
    while time.monotonic() < deadline:
        is_over = not any(thread.is_alive() for thread in threads)  # asked before: what they committed is then read
        page = read_after(cursor)
        seen += [(event.id, event.subject) for event in page.events]
        if is_over and page.next == cursor:
            break
        cursor = page.next
    for thread in threads:
        thread.join(10)
    expected = {f"{number}.{event}" for number in range(WRITERS) for event in range(EVENTS) if event % 4 != 3}
    assert sorted(subject for _, subject in seen) == sorted(expected)
    assert [number for number, _ in seen] == list(range(begin + 1, begin + 1 + len(expected)))


def test_what_is_rolled_back_leaves_no_gap() -> None:
    begin = newest_id()
    with transaction.atomic():
        _append("lost")
        transaction.set_rollback(True)
    with transaction.atomic():
        _append("kept")
    assert [(event.id, event.subject) for event in read_after(begin).events] == [(begin + 1, "kept")]


def _write(number: int) -> None:
    """Append in transactions that take their time before COMMIT; each fourth is rolled back."""
    chance = random.Random(number)
    for event in range(EVENTS):
        with transaction.atomic():
            _append(f"{number}.{event}")
            time.sleep(chance.random() * 0.004)
            transaction.set_rollback(event % 4 == 3)


def _append(subject: str) -> None:
    append("key.revoked", subject, {"name": subject}, actor="olga")


def _closing(work: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    return run
