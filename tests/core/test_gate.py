"""The write gate among the writers of a process, and between processes."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import threading
import time

from core.sqlite.gate import WriteGate
from tests.support.installation import ROOT, wait_for

_WAITS_FOR_THE_GATE = """
import sys, time
from core.sqlite.gate import WriteGate
began = time.monotonic()
assert WriteGate(sys.argv[1]).acquire(10)
print(time.monotonic() - began)
"""


def test_a_gate_that_was_kept_for_a_writer_who_gave_up_is_free_for_all(tmp_path: pathlib.Path) -> None:
    gate, of_another = WriteGate(str(tmp_path / "gate")), WriteGate(str(tmp_path / "gate"))
    for patience in (0.001, 0.002, 0.003, 0.004):  # it gives up before, while and after the gate is released
        assert gate.acquire(1)
        impatient = threading.Thread(target=lambda: gate.acquire(patience) and gate.release())  # noqa: B023
        impatient.start()
        wait_for(lambda: gate._waiting or not impatient.is_alive())  # noqa: B023
        time.sleep(0.002)
        gate.release()
        impatient.join(5)
        assert of_another.acquire(0)
        of_another.release()


def test_writers_of_a_process_hand_it_on_without_a_pause_for_others(tmp_path: pathlib.Path) -> None:
    gate, of_another = WriteGate(str(tmp_path / "gate")), WriteGate(str(tmp_path / "gate"))
    assert gate.acquire(1)
    next_one = threading.Thread(target=gate.acquire, args=(5,))
    next_one.start()
    wait_for(lambda: gate._waiting)
    gate._taken_at = time.monotonic()  # it has it no longer than any may keep it
    gate.release()
    assert not of_another.acquire(0)
    next_one.join(5)
    gate.release()
    assert of_another.acquire(0)


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
