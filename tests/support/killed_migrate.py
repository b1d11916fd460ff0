"""Run migrate and kill it -9 at its nth step: `killed_migrate.py N`; without N, print each statement, then how many
steps there are.

A step is a change of a file's name or durability, or a statement that SQLite runs.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import django
from django.core.management import call_command
from django.db.backends.signals import connection_created

NAMES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.copyfile", "os.chmod"}


class Steps:
    def __init__(self, last: int | None) -> None:
        self.last = last
        self.taken = 0

    def take(self) -> None:
        self.taken += 1
        if self.taken == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in NAMES:
            self.take()

    def ran(self, sql: str) -> None:
        if self.last is None:
            print(" ".join(sql.split()))
        self.take()

    def connected(self, connection: Any, **rest: Any) -> None:
        connection.connection.set_trace_callback(self.ran)


def main() -> None:
    sys.dont_write_bytecode = True  # files that the first run alone would write are no steps
    steps = Steps(int(sys.argv[1]) if len(sys.argv) > 1 else None)
    django.setup()
    connection_created.connect(steps.connected, weak=False)
    fsync = os.fsync

    def counted_fsync(descriptor: int) -> None:
        steps.take()
        fsync(descriptor)
        steps.take()

    os.fsync = counted_fsync
    sys.addaudithook(steps.heard)
    call_command("migrate", verbosity=0)
    print(steps.taken)


if __name__ == "__main__":
    main()
