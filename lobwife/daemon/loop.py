"""A loop of the daemon: work that is repeated in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import close_old_connections, connection
from django.db.utils import OperationalError

from core import processes

log = logging.getLogger(__name__)
_FAILURES_REPORTED = 3
_LONGEST_BACKOFF = 60.0
_REST, _LONGEST_REST = 20.0, 1.0


def rest_after(processor_seconds: float) -> float:
    """Return the seconds to pause after work that took so much of a processor.

    Where commits come one after the other, what follows them must not take the processor from those who write.
    """
    return min(processor_seconds * _REST, _LONGEST_REST)


@dataclass
class Loop:
    """A tick that is repeated, with back-off.

    A tick returns True to be called again at once, else it is called when the database has changed or `idle_seconds`
    have passed, or fewer if it returns a number of seconds; but never sooner than `every_seconds`, and after a rest
    (`rest_after`). So what time alone makes due is late by `idle_seconds` at most.
    """

    name: str
    tick: Callable[[], bool | float]
    every_seconds: float
    idle_seconds: float = 10.0
    failures: int = field(default=0, init=False)
    _woken: threading.Event = field(default_factory=threading.Event, init=False)

    @property
    def trouble(self) -> str | None:
        """A sentence, once it has failed several times in a row."""
        if self.failures < _FAILURES_REPORTED:
            return None
        return f"{self.name} failed {self.failures} times in a row; daemon.log has the reason"

    def wake(self) -> None:
        """Have it tick: the database has changed, or the daemon stops."""
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._woken.clear()
            again: bool | float = False
            began = time.thread_time()
            try:
                close_old_connections()
                again = self.tick()
                self.failures = 0
            except OperationalError as error:  # locked, full, can't be opened: the traceback would say nothing
                self.failures += 1
                log.error("%s failed and is tried again: %s", self.name, error)
            except Exception:  # one bad tick must not end the loop; the log has it
                self.failures += 1
                log.exception("%s failed; it is tried again", self.name)
            self._wait(again, stop, rest_after(time.thread_time() - began))
        connection.close()

    def _wait(self, again: bool | float, stop: threading.Event, rest: float) -> None:
        if again is True:
            return
        if self.failures:
            stop.wait(processes.backoff(self.failures, self.every_seconds, _LONGEST_BACKOFF))
            return
        pause = max(self.every_seconds, rest)
        if not stop.wait(pause):
            self._woken.wait(min(again or self.idle_seconds, self.idle_seconds) - pause)
