"""What the daemon does beside running scripts: something that is looked at again and again, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import close_old_connections, connection
from django.db.utils import OperationalError

log = logging.getLogger(__name__)
_FAILURES_TOLD = 3


@dataclass
class Loop:
    """A tick of something, in a thread of its own, with back-off.

    A tick answers True to be called again at once, a number of seconds to be called again after them, False to be
    called when the database has changed or `idle_seconds` have passed; but never sooner than `every_seconds`.
    """

    name: str
    tick: Callable[[], bool | float]
    every_seconds: float
    idle_seconds: float = 4.0
    failures: int = field(default=0, init=False)
    _nudged: threading.Event = field(default_factory=threading.Event, init=False)

    @property
    def trouble(self) -> str:
        """In a sentence, once it has failed several times in a row."""
        if self.failures < _FAILURES_TOLD:
            return ""
        return f"{self.name} failed {self.failures} times in a row; daemon.log has the reason"

    def nudge(self) -> None:
        """The database has changed, or the daemon stops: look."""
        self._nudged.set()

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._nudged.clear()
            again: bool | float = False
            try:
                close_old_connections()
                again = self.tick()
                self.failures = 0
            except OperationalError as error:  # locked, full, not to be opened: where it came up is of no interest
                self.failures += 1
                log.error("%s failed and is tried again: %s", self.name, error)
            except Exception:  # one bad tick must not end the loop; the log has it
                self.failures += 1
                log.exception("%s failed; it is tried again", self.name)
            self._rest(again, stop)
        connection.close()

    def _rest(self, again: bool | float, stop: threading.Event) -> None:
        if again is True:
            return
        if self.failures:
            stop.wait(min(60.0, self.every_seconds * 2 ** min(self.failures, 10)))
        elif not stop.wait(self.every_seconds):
            self._nudged.wait((again or self.idle_seconds) - self.every_seconds)
