"""A change that a caller was told of is on the disk; a change that failed is not made."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import pathlib
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection, transaction

from core.sqlite import base
from core.sqlite.gate import WriteGate, gate_for
from core.sqlite.notification import Listener
from tasks.models import Task
from tests.support.installation import Installation, wait_for, write_locked

pytestmark = pytest.mark.sqlite("the write gate, the disk")


def database() -> str:
    return str(connection.settings_dict["NAME"])


def is_free() -> bool:
    """Whether the next writer gets the gate at once."""
    if not gate_for(database()).acquire(0):
        return False
    gate_for(database()).release()
    return True


def workers_of(web: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in pathlib.Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text().split()]


def task_names(installation: Installation) -> set[str]:
    with installation.database() as opened:
        return {name for (name,) in opened.execute("SELECT name FROM tasks")}


@pytest.mark.django_db(transaction=True)
def test_sqlite_itself_waits_for_the_disk() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        assert cursor.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_closed_in_a_transaction_undoes_it_and_lets_the_next_writer_in() -> None:
    with transaction.atomic():
        Task.objects.create(name="undone")
        connection.close()
    assert is_free()
    assert not Task.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("failing", [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN])
def test_a_lock_file_that_fails_once_fails_one_write(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    working, failures = fcntl.flock, [OSError(37, "No locks available")]

    def flock(descriptor: int, operation: int) -> None:
        if operation == failing and failures:
            raise failures.pop()
        working(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with contextlib.suppress(OperationalError), transaction.atomic():
        Task.objects.create(name="first")
    assert not failures
    with transaction.atomic():
        Task.objects.create(name="second")
    assert Task.objects.filter(name="second").exists()
    assert is_free()


@pytest.mark.django_db(transaction=True)
def test_a_write_outside_of_a_transaction_waits_for_the_gate_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.1)
    listener = Listener(database())
    with gate_for(database()).held(0), pytest.raises(OperationalError, match="locked"):
        Group(name="refused").save()
    Group(name="kept").save()
    Group.objects.filter(name="kept").update(name="renamed")
    assert [group.name for group in Group.objects.filter(name="renamed")] == ["renamed"]
    assert is_free()
    listener.close()


@pytest.mark.django_db(transaction=True)
def test_a_writer_waits_for_an_outsider_and_no_longer_than_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.2)
    outsider = connection.copy()
    outsider.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    gate_for(database()).release()  # as if it had never heard of the gate
    with pytest.raises(OperationalError, match="locked"), transaction.atomic():
        Task.objects.create(name="refused")
    assert is_free()
    timer = threading.Timer(0.05, lambda: outsider.connection.rollback())
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 10)
    timer.start()
    with transaction.atomic():
        Task.objects.create(name="patient")
    timer.join()
    outsider._gate = None
    outsider.close()
    assert [task.name for task in Task.objects.all()] == ["patient"]


@pytest.mark.django_db(transaction=True)
def test_a_commit_lets_other_processes_in_before_a_busy_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, others = gate_for(database()), WriteGate(f"{database()}.gate")
    let_in: list[bool] = []

    def in_busy_process(commit: Callable[[], Any]) -> Any:
        result = commit()
        let_in.append(others.acquire(0))
        return result

    monkeypatch.setattr(base, "in_native_thread", in_busy_process)
    gate.disk_is_slow_until = time.monotonic() + 60
    try:
        with transaction.atomic():
            Task.objects.create(name="one")
    finally:
        gate.disk_is_slow_until = 0.0
    assert let_in == [True]
    others.release()


def test_a_process_that_is_busy_does_not_take_its_disk_for_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = gate_for(database())

    def in_busy_process(write: Callable[[], Any]) -> Any:
        result = write()
        time.sleep(0.03)  # others have the processor until this one goes on
        return result

    monkeypatch.setattr(base, "in_native_thread", in_busy_process)
    slow_until = gate.disk_is_slow_until = time.monotonic() + 5
    try:
        base._sync(gate, lambda: None)
        assert gate.disk_is_slow_until == slow_until
        base._sync(gate, lambda: time.sleep(0.04))
        assert slow_until < gate.disk_is_slow_until < time.monotonic() + 60
    finally:
        gate.disk_is_slow_until = 0.0


def test_what_cannot_be_committed_is_refused_and_not_made(installation: Installation) -> None:
    installation.environment["LOBWIFE_WORKERS"] = "1"
    web = installation.start_web()
    assert installation.post("/api/v1/tasks", {"name": "before"}).status == 201
    (worker,) = workers_of(web)
    unlimited = resource.prlimit(worker, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    with ThreadPoolExecutor(12) as callers:  # some of whom are committed together
        answers = list(callers.map(lambda _: installation.post("/api/v1/tasks", {"name": "refused"}), range(36)))
    for refused in answers:
        assert refused.status == 503, refused.body
        assert refused.headers["retry-after"]
    assert installation.get("/api/v1/tasks").json[0]["name"] == "before"
    resource.prlimit(worker, resource.RLIMIT_FSIZE, unlimited)
    assert installation.post("/api/v1/tasks", {"name": "after"}).status == 201
    assert [task["name"] for task in installation.get("/api/v1/tasks").json] == ["after", "before"]
    web.send_signal(signal.SIGKILL)
    for pid in (worker, web.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    web.wait()
    assert task_names(installation) == {"before", "after"}


def test_a_worker_that_is_killed_loses_nothing_that_a_caller_was_told_of(installation: Installation) -> None:
    installation.environment["LOBWIFE_WORKERS"] = "2"
    web = installation.start_web()
    told: list[str] = []
    stop = threading.Event()

    def create(client: int) -> None:
        number = 0
        while not stop.is_set():
            name, number = f"{client}-{number}", number + 1
            with contextlib.suppress(OSError, http.client.HTTPException):
                if installation.post("/api/v1/tasks", {"name": name}).status == 201:
                    told.append(name)

    clients = [threading.Thread(target=create, args=(client,)) for client in range(4)]
    for client in clients:
        client.start()
    for _ in range(3):
        already, victim = len(told), workers_of(web)[0]
        wait_for(lambda: len(told) >= already + 25, what="tasks are created")  # noqa: B023
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len({*workers_of(web)} - {victim}) == 2, what="a new worker")  # noqa: B023
    stop.set()
    for client in clients:
        client.join()
    missing = set(told) - task_names(installation)
    assert not missing
    with installation.database() as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_slow_disk_stops_no_read(installation: Installation, tmp_path: pathlib.Path) -> None:
    seconds = tmp_path / "commit-seconds"
    seconds.write_text("0.05")
    installation.environment |= {
        "PYTHONPATH": str(pathlib.Path(__file__).parents[1] / "support" / "slow_disk"),
        "TEST_COMMIT_SECONDS": str(seconds),
        "LOBWIFE_WORKERS": "1",
    }
    installation.start_web()
    assert installation.post("/api/v1/tasks", {"name": "slow"}).status == 201  # now it is known
    seconds.write_text("2")
    answers: list[Any] = []
    writers = [
        threading.Thread(target=lambda: answers.append(installation.post("/api/v1/tasks", {"name": "slower"})))
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        assert installation.get("/health", timeout=1.5).status == 200
        reads += 1
    assert reads > 5
    assert [answer.status for answer in answers] == [201, 201]


def test_a_locked_database_stops_no_read(installation: Installation) -> None:
    installation.environment["LOBWIFE_WORKERS"] = "1"
    installation.start_web()
    answers: list[Any] = []
    with write_locked(installation):
        writers = [
            threading.Thread(target=lambda: answers.append(installation.post("/api/v1/tasks", {"name": "waits"})))
            for _ in range(40)  # more than there are connections to the database
        ]
        for writer in writers:
            writer.start()
        reads = 0
        while any(writer.is_alive() for writer in writers):
            assert installation.get("/api/v1/tasks", timeout=1.5).json == []
            reads += 1
    assert reads > 5
    assert {answer.status for answer in answers} == {503}
    assert installation.post("/api/v1/tasks", {"name": "after"}).status == 201
