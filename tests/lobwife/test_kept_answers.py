"""A caller is told of a change when it is on the disk; changes that come in together wait for the disk once."""

from __future__ import annotations

import math
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest
from django.db import OperationalError, connection, transaction
from gunicorn.config import Config
from gunicorn.glogging import Logger

from core import waits
from core.sqlite import syncing
from lobwife.web.gunicorn_connection import AnswerSocket, Connection
from lobwife.web.gunicorn_worker import PatientWorker
from lobwife.web.kept_answers import KeptAnswers
from lobwife.web.relay import Relay
from tasks.models import Task
from tests.support.installation import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[dict[str, object], Start], Iterable[bytes]]


class Disk:
    """Stands for the machine's: counts how often it is waited for, holds the waiting up or fails it."""

    def __init__(self) -> None:
        self.is_free = threading.Event()
        self.is_free.set()
        self.waits: list[int] = []
        self.trouble: OSError | None = None

    def fdatasync(self, descriptor: int) -> None:
        self.waits.append(threading.get_ident())
        assert self.is_free.wait(20)
        if self.trouble is not None:
            raise self.trouble


class Worker(PatientWorker):
    """A worker of two threads on the connections that it is given, with the project's application or another."""

    def __init__(self) -> None:
        super().__init__(0, os.getppid(), [], None, 30, Config(), Logger(Config()))
        self.wsgi = changing()
        self.poller = selectors.DefaultSelector()
        self.method_queue.init()
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        self._relay = Relay(self._turn, 2)
        self._kept = KeptAnswers(self._relay)
        self.clients: list[socket.socket] = []
        self._over = threading.Event()
        self._main = threading.Thread(target=self._watch)

    def client(self, path: str = "/api/v1/tasks", method: str = "POST") -> socket.socket:
        """A connection on which a request has come in."""
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        ours.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        accepted = AnswerSocket(theirs.family, theirs.type, theirs.proto, theirs.detach())
        accepted.setblocking(False)
        self.nr_conns += 1
        conn = Connection(self.cfg, accepted, ("127.0.0.1", 1), ("127.0.0.1", 2))
        self._wait_for_request(conn, math.inf)
        self.clients.append(ours)
        return ours

    def begin(self, *, is_watched: bool = False) -> None:
        """Answer; unwatched, a slow machine doesn't make another thread lead."""
        self._relay.start()
        if is_watched:
            self._main.start()

    def end(self) -> None:
        self._over.set()
        self.alive = False
        if self._main.ident:
            self._main.join()
        self._relay.end()
        self.method_queue.defer(lambda: None)
        self._relay._pool.shutdown()
        self.poller.close()
        self.method_queue.close()
        for client in self.clients:
            client.close()

    def _watch(self) -> None:
        while not self._over.is_set():
            self._relay.watch(0.05)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "fdatasync", disk.fdatasync)
    return disk


@pytest.fixture
def worker(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    connection.ensure_connection()  # with the last that is closed SQLite syncs, and removes the WAL
    worker = Worker()
    monkeypatch.setattr("lobwife.web.kept_answers._LONGEST_SECONDS", 60.0)
    monkeypatch.setattr(waits, "_told", [worker._relay.step_aside, syncing.redeem])
    yield worker
    disk.is_free.set()
    worker.end()


def answer(client: socket.socket) -> bytes:
    """One whole answer with a length, or what came until the end."""
    received = b""
    while chunk := client.recv(65536):
        received += chunk
        head, blank, body = received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if blank and length and len(body) >= int(length):
            break
    return received


def is_silent(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        client.settimeout(20)


def changing(*, then: Callable[[], bytes] = lambda: b"made") -> Application:
    """An application that makes a task of each POST, after which its answer says what `then` gives."""

    def answered(environ: dict[str, object], start: Start) -> list[bytes]:
        body = b"read"
        if environ["REQUEST_METHOD"] == "POST":
            with transaction.atomic():
                Task.objects.create(name="kept")
            body = then()
        start("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return answered


def test_an_answer_is_sent_once_its_change_is_on_the_disk_and_others_are_answered_meanwhile(
    worker: Worker, disk: Disk
) -> None:
    disk.is_free.clear()
    told = worker.client()
    worker.begin(is_watched=True)
    wait_for(lambda: disk.waits)
    assert Task.objects.filter(name="kept").exists()
    worker.method_queue.defer(worker.client, "/api/v1/tasks", "GET")
    wait_for(lambda: len(worker.clients) == 2)
    assert answer(worker.clients[1]).endswith(b"read")
    assert is_silent(told)
    disk.is_free.set()
    assert answer(told).endswith(b"made")


def test_changes_that_come_in_together_wait_for_the_disk_once(worker: Worker, disk: Disk) -> None:
    clients = [worker.client() for _ in range(5)]
    worker.begin()
    assert all(answer(client).endswith(b"made") for client in clients)
    assert (Task.objects.count(), len(disk.waits)) == (5, 1)


def test_an_answer_waits_for_a_few_others_and_no_longer(worker: Worker, disk: Disk) -> None:
    clients = [worker.client() for _ in range(20)]
    worker.begin()
    assert all(answer(client).endswith(b"made") for client in clients)
    assert len(disk.waits) == 3


def test_an_answer_does_not_wait_for_requests_that_keep_coming(
    worker: Worker, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lobwife.web.kept_answers._LONGEST_SECONDS", 0.0)
    clients = [worker.client() for _ in range(3)]
    worker.begin()
    assert all(answer(client).endswith(b"made") for client in clients)
    assert len(disk.waits) == 3


def test_a_connection_goes_on_after_an_answer_that_was_kept(worker: Worker) -> None:
    client = worker.client()
    worker.begin()
    assert answer(client).endswith(b"made")
    client.sendall(b"GET /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer(client).endswith(b"read")


def test_a_disk_that_fails_is_told_and_the_next_change_is_tried_again(worker: Worker, disk: Disk) -> None:
    disk.trouble = OSError(5, "Input/output error")
    client = worker.client()
    worker.begin()
    refused = answer(client)
    assert refused.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 5" in refused
    assert b"may not survive a power cut" in refused
    assert client.recv(1) == b""
    disk.trouble = None
    worker.method_queue.defer(worker.client)
    wait_for(lambda: len(worker.clients) == 2)
    assert answer(worker.clients[1]).endswith(b"made")


def test_who_asks_somebody_else_after_a_change_waits_for_the_disk_before(worker: Worker, disk: Disk) -> None:
    waited: list[int] = []

    def asks_github() -> bytes:
        waited.append(len(disk.waits))
        waits.about_to_wait()
        waited.append(len(disk.waits))
        return b"asked"

    worker.wsgi = changing(then=asks_github)
    client = worker.client()
    worker.begin()
    assert answer(client).endswith(b"asked")
    assert waited == [0, 1]


def test_a_change_in_a_thread_that_leads_no_more_waits_for_the_disk_itself(worker: Worker, disk: Disk) -> None:
    waited: list[int] = []

    def changes_again() -> bytes:
        worker._relay.step_aside()
        before = len(disk.waits)
        with transaction.atomic():
            Task.objects.create(name="another")
        waited.append(len(disk.waits) - before)
        return b"done"

    worker.wsgi = changing(then=changes_again)
    client = worker.client()
    worker.begin()
    assert answer(client).endswith(b"done")
    assert waited == [1]


def test_what_is_too_much_to_be_kept_is_sent_after_a_wait_of_its_own(worker: Worker, disk: Disk) -> None:
    worker.wsgi = changing(then=lambda: b"x" * 300_000)
    client = worker.client()
    worker.begin()
    assert answer(client).endswith(b"x" * 1000)
    assert disk.waits


def test_a_client_that_takes_no_answer_keeps_nobody_elses(worker: Worker) -> None:
    worker.wsgi = changing(then=lambda: b"x" * 60_000)
    slow, other = worker.client(), worker.client()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    next(iter(worker._waiting)).sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    worker.begin()
    assert answer(other).endswith(b"x" * 1000)


def test_only_calls_whose_answers_are_kept_leave_the_wait_to_them(worker: Worker, disk: Disk) -> None:
    waited: list[int] = []
    worker.wsgi = changing(then=lambda: waited.append(len(disk.waits)) or b"a page")
    client = worker.client("/admin/")
    worker.begin()
    assert answer(client).endswith(b"a page")
    assert waited == [1]


def test_what_was_promised_is_redeemed_once_and_nobody_else_is_bound(disk: Disk) -> None:
    def change() -> None:
        with transaction.atomic():
            Task.objects.create(name="kept")

    with syncing.left_to(lambda wal: True):
        change()
        assert disk.waits == []
        syncing.redeem()
        syncing.redeem()
        assert len(disk.waits) == 1
    change()
    assert len(disk.waits) == 2
    disk.trouble = OSError(5, "Input/output error")
    with syncing.left_to(lambda wal: True):
        change()
        with pytest.raises(OperationalError, match="may not survive"):
            syncing.redeem()
