"""The write gate among the writers of a process, and between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import pathlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db.backends.sqlite3.base import Database
from django.db.utils import OperationalError

from core.sqlite import gate as gates
from core.sqlite.base import DatabaseWrapper
from core.sqlite.gate import WriteGate, gate_for
from tests.support.installation import ROOT, wait_for

pytestmark = pytest.mark.sqlite("the write gate")

_WAITS_FOR_THE_GATE = """
import sys, time
from core.sqlite.gate import WriteGate, gate_for
began = time.monotonic()
assert WriteGate(sys.argv[1]).acquire(10)
print(time.monotonic() - began)
"""
_TAKES_THE_GATE_ONCE = """
import sys
from core.sqlite.gate import WriteGate, gate_for
with WriteGate(sys.argv[1]).held(30):
    pass
"""
_TAKES_TURNS = """
import pathlib, sys, threading, time
from core.sqlite.gate import WriteGate, gate_for
gate, log = WriteGate(sys.argv[1]), pathlib.Path(sys.argv[2])
def write():
    while True:
        with gate.held(30), log.open("a") as file:
            if file.tell() >= 600:
                return
            file.write(sys.argv[3])
            time.sleep(0.001)
for _ in range(4):
    threading.Thread(target=write).start()
"""


def test_processes_with_many_writers_each_get_their_share(tmp_path: pathlib.Path) -> None:
    path, log = str(tmp_path / "gate"), tmp_path / "log"
    log.touch()
    gate = WriteGate(path)
    with contextlib.ExitStack() as stack, gate.held(10):
        for name in "abc":
            command = [sys.executable, "-c", _TAKES_TURNS, path, str(log), name]
            stack.enter_context(subprocess.Popen(command, cwd=ROOT))
        wait_for(lambda: len(gate._waiting(gates._ALL)) == 3, what="all wait")
    assert min(Counter(log.read_text()).values()) > 100, "of 600, a third each"


def test_a_process_with_many_writers_lets_another_in(tmp_path: pathlib.Path) -> None:
    path, stop = str(tmp_path / "gate"), threading.Event()
    gate = WriteGate(path)

    def write() -> None:
        while not stop.is_set():
            with gate.held(10):
                stop.wait(0.002)

    writers = [threading.Thread(target=write) for _ in range(6)]
    for writer in writers:
        writer.start()
    try:
        command = [sys.executable, "-c", _WAITS_FOR_THE_GATE, path]
        other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    finally:
        stop.set()
        for writer in writers:
            writer.join(10)
    assert float(other.stdout) < 3


def test_who_waits_is_woken_when_another_process_releases_the_gate(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "_PAUSE_SECONDS", 60)
    path = str(tmp_path / "gate")
    other, waiting = WriteGate(path), WriteGate(path)  # each with a descriptor of its own, as in two processes
    assert other.acquire(0)
    with _waiter(waiting):
        other.release()


def test_who_waits_for_the_turn_is_woken_when_another_process_lets_go_of_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "gate")
    holder, waiting = WriteGate(path), WriteGate(path)
    assert holder.acquire(0)
    monkeypatch.setattr(gates, "_PAUSE_SECONDS", 60)
    with subprocess.Popen([sys.executable, "-c", _TAKES_THE_GATE_ONCE, path], cwd=ROOT) as other:
        wait_for(lambda: _turn_is_taken(path), what="another process has the turn")
        with _waiter(waiting):
            holder.release()
        assert other.wait(10) == 0


@contextlib.contextmanager
def _waiter(gate: WriteGate) -> Iterator[None]:
    """Have a thread wait for the gate, which it has to get soon after the block."""
    results: list[bool] = []
    waiter = threading.Thread(target=lambda: results.append(gate.acquire(120)))
    waiter.start()
    wait_for(lambda: gate._place is not None, what="it waits")
    yield
    waiter.join(10)
    assert results == [True]
    gate.release()


def _turn_is_taken(path: str) -> bool:
    """Tell whether another process has it: what this one had of the file's record locks is let go of thereby."""
    with open(path, "rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_disk_that_refuses_to_unlock_closes_the_gate_for_nobody(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "gate")
    gate = WriteGate(path)

    def fail(descriptor: int, command: int) -> None:
        if command == fcntl.LOCK_UN:
            raise OSError(errno.EIO, "Input/output error")
        lock(descriptor, command)

    lock = fcntl.lockf
    with monkeypatch.context() as patch:
        patch.setattr(gates.fcntl, "lockf", fail)
        with pytest.raises(OSError, match="Input/output"):
            gate.acquire(0)
    for each in (gate, WriteGate(path)):
        with each.held(0):
            pass


@pytest.fixture
def database(open_database: Callable[[int], DatabaseWrapper]) -> DatabaseWrapper:
    """A database whose process has one connection."""
    return open_database(1)


def test_a_writer_who_waits_for_the_gate_lends_its_connection(database: DatabaseWrapper) -> None:
    gate, pool = WriteGate(f"{database.settings_dict['NAME']}.gate"), database._pool
    assert pool is not None
    assert gate.acquire(0)
    writer = threading.Thread(target=lambda: _write(database))
    writer.start()
    lent = pool.take(lambda: pytest.fail("it was given back, and needs not be opened"), 10)
    assert not lent.execute("SELECT word FROM words").fetchall()
    pool.give_back(lent)
    gate.release()
    writer.join(10)
    assert lent.execute("SELECT word FROM words").fetchall() == [("written",)]


def test_a_writer_who_gets_no_connection_back_lets_go_of_the_gate(
    database: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, pool = WriteGate(f"{database.settings_dict['NAME']}.gate"), database._pool
    assert pool is not None

    def fail(parameters: object) -> None:
        raise Database.OperationalError("unable to open database file")

    monkeypatch.setattr(database, "_open", fail)
    assert gate.acquire(0)
    with ThreadPoolExecutor(1) as thread:
        failed = thread.submit(_write, database)
        lent = pool.take(lambda: None, 10)
        pool.give_back(None)  # as one that failed is
        gate.release()
        with pytest.raises(OperationalError, match="unable to open"):
            failed.result(10)
    assert gate.acquire(5)
    gate.release()
    lent.close()


def test_a_writer_who_waits_while_a_move_begins_is_refused(database: DatabaseWrapper) -> None:
    gate = WriteGate(f"{database.settings_dict['NAME']}.gate")
    assert gate.acquire(0)
    waiting = gate_for(str(database.settings_dict["NAME"]))
    with ThreadPoolExecutor(1) as thread:
        refused = thread.submit(_write, database)
        wait_for(lambda: waiting._place is not None, what="the writer waits")
        pathlib.Path(f"{database.settings_dict['NAME']}.moved").touch()
        gate.release()
        with pytest.raises(OperationalError, match="moved"):
            refused.result(10)
    assert gate.acquire(5)
    gate.release()


def _write(database: DatabaseWrapper) -> None:
    database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    database.connection.execute("INSERT INTO words VALUES ('written')")
    database.commit()
