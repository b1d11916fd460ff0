"""The write gate among the writers of a process, and between processes."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import threading

from core.sqlite.gate import WriteGate
from tests.support.installation import ROOT

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
