"""What the daemon that leads does for all: the scheduler and the loops, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from lobwife.daemon.leadership import Lead
from lobwife.daemon.loop import Loop
from lobwife.daemon.scheduler import Scheduler
from lobwife.daemon.upkeep import loops, upkeep


class Work:
    """The work of one lead: it ends with it. What a thread still does then is not committed."""

    def __init__(self, lead: Lead, scheduler: Scheduler, loops: Sequence[Loop]) -> None:
        self.lead, self.scheduler, self.loops = lead, scheduler, loops
        self._threads = [
            threading.Thread(target=self._run, args=(loop,), name=loop.name, daemon=True) for loop in loops
        ]

    def start(self) -> None:
        try:
            with self.lead.bound():
                self.scheduler.start()
        except BaseException:
            self.scheduler.shut_down()
            raise
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Have the loops look at the database."""
        for loop in self.loops:
            loop.wake()

    def end(self) -> None:
        """Have everything end soon."""
        self.lead.over.set()
        self.wake()
        self.scheduler.shut_down()

    def wait(self, deadline: float) -> bool:
        """Wait for the end of all threads, until the monotonic deadline; return whether they ended."""
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        return self.is_over

    @property
    def is_over(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def troubles(self) -> list[str]:
        """Sentences about loops that failed several times in a row."""
        return [loop.trouble for loop in self.loops if loop.trouble]

    def _run(self, loop: Loop) -> None:
        self.lead.bind_thread()
        loop.run(self.lead.over)


def of_lead(lead: Lead) -> Work:
    """Return the work of all apps, anew: what an earlier lead of this process has in memory may be out of date."""
    return Work(lead, Scheduler(upkeep(), lead.bind_thread), loops(lead.bind_thread))
