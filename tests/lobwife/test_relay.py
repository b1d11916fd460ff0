"""Who waits for requests answers them, and another goes on when an answer takes long."""

from __future__ import annotations

import math
import os
import queue
import selectors
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from gunicorn.config import Config

from core import waits
from lobwife.web.gunicorn_worker import Connection, PatientWorker
from lobwife.web.kept_answers import KeptAnswers
from lobwife.web.relay import Relay
from tests.support.installation import Installation, wait_for


class Desk:
    """Answers what is put on it, by a relay of two threads and this test's as the main thread."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[Callable[[], bool]] = queue.SimpleQueue()
        self.done: list[tuple[str, bool]] = []
        self.answered_by: list[int] = []
        self.relay = Relay(self.turn, 2)
        self.stopped = threading.Event()
        self.relay.start()
        self.main = threading.Thread(target=self.watch)
        self.main.start()

    def turn(self) -> None:
        try:
            work = self.asked.get(timeout=0.05)
        except queue.Empty:
            return
        self.relay.answer(
            work,
            lambda result: self.done.append(("in time", result)),
            lambda result: self.done.append(("late", result)),
        )

    def watch(self) -> None:
        while not self.stopped.is_set():
            self.relay.watch(0.05)

    def quick(self) -> bool:
        self.answered_by.append(threading.get_ident())
        return True


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.stopped.set()
    desk.main.join()
    desk.relay.end()


def test_one_thread_answers_while_answers_are_quick(desk: Desk) -> None:
    for _ in range(50):
        desk.asked.put(desk.quick)
    wait_for(lambda: len(desk.done) == 50)
    assert ("in time", True) in desk.done


def test_a_long_answer_holds_up_nothing_and_its_thread_is_of_use_again(desk: Desk) -> None:
    for _ in range(5):
        release = threading.Event()
        desk.done.clear()
        desk.asked.put(release.wait)
        desk.asked.put(desk.quick)
        wait_for(lambda: desk.done == [("in time", True)])
        release.set()
        wait_for(lambda: ("late", True) in desk.done)


def test_when_all_are_at_long_answers_the_first_that_is_done_goes_on(desk: Desk) -> None:
    first, second = threading.Event(), threading.Event()
    for work in (first.wait, second.wait, desk.quick):
        desk.asked.put(work)
    wait_for(lambda: desk.asked.qsize() == 1)
    first.set()
    wait_for(lambda: desk.answered_by)
    second.set()
    wait_for(lambda: len(desk.done) == 3)


def test_who_is_about_to_wait_steps_aside_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "_told", [desk.relay.step_aside])
    desk.stopped.set()  # nobody looks after the leader
    desk.relay.wake()
    desk.main.join()
    release = threading.Event()

    def waits_for_the_disk() -> bool:
        waits.about_to_wait()
        waits.about_to_wait()  # who leads no more has nobody to appoint
        return release.wait()

    desk.asked.put(waits_for_the_disk)
    desk.asked.put(desk.quick)
    wait_for(lambda: desk.done == [("in time", True)])
    release.set()
    wait_for(lambda: ("late", True) in desk.done)


def test_a_failure_of_the_loop_itself_is_there_for_the_main_thread() -> None:
    def turn() -> None:
        raise LookupError("a defect")

    relay = Relay(turn, 2)
    relay.start()
    wait_for(lambda: isinstance(relay.failure, LookupError))
    relay.end()


def test_writers_that_wait_for_another_leave_a_thread_for_those_who_read(server: Installation) -> None:
    with server.database() as outsider:
        outsider.execute("BEGIN IMMEDIATE")
        answers: list[int] = []
        writers = [
            threading.Thread(target=lambda: answers.append(server.post("/api/v1/tasks", {"name": "waits"}).status))
            for _ in range(6)
        ]
        for writer in writers:
            writer.start()
        assert all(server.get("/health", timeout=3).status == 200 for _ in range(20))
        outsider.rollback()
    for writer in writers:
        writer.join()
    assert set(answers) <= {201, 503}
    assert 201 in answers


class HeldWorker(PatientWorker):
    """Its first answer waits, as for a disk, until the test lets it go."""

    def __init__(self) -> None:
        super().__init__(0, os.getppid(), [], None, 30, Config(), None)
        self.release = threading.Event()
        self.answered: list[Connection] = []
        self.poller = selectors.DefaultSelector()
        self.method_queue.init()
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        self._relay = Relay(self._turn, 2)
        self._kept = KeptAnswers(self._relay)

    def take(self, own: socket.socket) -> None:
        self.nr_conns += 1
        self._wait_for_request(Connection(self.cfg, own, ("127.0.0.1", 1), ("127.0.0.1", 2)), math.inf)

    def handle(self, conn: Connection) -> bool:
        self.answered.append(conn)
        if len(self.answered) == 1:
            self._relay.step_aside()
            self.release.wait()
        return False

    def end(self) -> None:
        self.release.set()
        self.alive = False
        self._relay.end()
        self.method_queue.defer(lambda: None)
        self._relay._pool.shutdown()
        self.poller.close()
        self.method_queue.close()


def test_what_came_in_together_with_a_long_answer_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lobwife.web.gunicorn_worker._LOOK_SECONDS", 60.0)
    worker = HeldWorker()
    pairs = [socket.socketpair() for _ in range(2)]
    for client, own in pairs:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        worker.take(own)
    worker._relay.start()
    try:
        wait_for(lambda: len(worker.answered) == 2)
    finally:
        worker.end()
        for client, own in pairs:
            client.close()
            own.close()
