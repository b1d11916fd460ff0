"""The write gate among the writers of a process, and between processes."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import threading

import pytest

from core.sqlite import gate as gates
from core.sqlite.gate import WriteGate
from tests.support.installation import ROOT, wait_for

pytestmark = pytest.mark.sqlite("the write gate")

_WAITS_FOR_THE_GATE = """
import sys, time
from core.sqlite.gate import WriteGate
began = time.monotonic()
assert WriteGate(sys.argv[1]).acquire(10)
print(time.monotonic() - began)
"""


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
    monkeypatch.setattr(gates, "_SHORTEST_PAUSE_SECONDS", 60)
    monkeypatch.setattr(gates, "_LONGEST_PAUSE_SECONDS", 60)
    path = str(tmp_path / "gate")
    other, waiting = WriteGate(path), WriteGate(path)  # each with a descriptor of its own, as in two processes
    assert other.acquire(0)
    results: list[bool] = []
    waiter = threading.Thread(target=lambda: results.append(waiting.acquire(120)))
    waiter.start()
    wait_for(lambda: waiting._receiver is not None, what="it waits for the release")
    other.release()
    waiter.join(10)
    assert results == [True]
    waiting.release()
