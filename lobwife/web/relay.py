"""Threads of which one at a time leads: it waits for requests and answers them itself.

To hand each request to another thread costs more than a read takes: two switches, and threads that fight for the
interpreter's lock. So who waits also answers. When an answer takes longer than some milliseconds (a locked database,
a slow network) another thread leads meanwhile, and the one that took long steps back once it is done.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 0.005
_QUIET_SECONDS = 0.2


class Relay:
    """`turn` is called by the leader over and over: it waits for requests and answers them by `answer()`.

    `watch()` is for the main thread, which answers nothing.
    """

    def __init__(self, turn: Callable[[], None], threads: int) -> None:
        self._turn = turn
        self._threads = self._free = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="relay")
        self._lock = threading.Lock()
        self._vacancy = threading.Semaphore(0)
        self._leader = 0
        self._answering_since: float | None = None
        self._answered = self._seen = 0
        self._quiet_since = time.monotonic()
        self._is_resting = False
        self._over = False
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.failure: BaseException | None = None

    def start(self) -> None:
        for _ in range(self._threads):
            self._pool.submit(self._take_part)
        self._free -= 1
        self._vacancy.release()

    def answer(self, work: Callable[[], T], done: Callable[[T], None], late: Callable[[T], None]) -> bool:
        """Do the work and tell `done` of its result, or `late` when another thread leads by now; who leads stays so.

        False in the second case: the turn is over.
        """
        self._answering_since = time.monotonic()
        if self._is_resting:
            self.wake()
        try:
            result = work()
        finally:
            with self._lock:
                leads = self.leads
                if leads:
                    self._answering_since = None
                    self._answered += 1
                else:
                    self._free += 1
        (done if leads else late)(result)
        return leads

    @property
    def leads(self) -> bool:
        """Whether the calling thread leads."""
        return self._leader == threading.get_ident()

    def watch(self, seconds: float) -> None:
        """Replace a leader that takes long over an answer. Returns soon, when all is quiet after so many seconds."""
        now = time.monotonic()
        if self._answering_since is not None or self._answered != self._seen:
            self._seen, self._quiet_since = self._answered, now
        # First this, then the look at the leader, which does it the other way round: no start of work is missed.
        self._is_resting = now - self._quiet_since > _QUIET_SECONDS
        rests = self._is_resting and self._answering_since is None
        with contextlib.suppress(InterruptedError):
            if select.select([self._woken], [], [], seconds if rests else PATIENCE_SECONDS)[0]:
                os.read(self._woken, 4096)
        self._is_resting = False
        self._hand_over(self._takes_long)

    def step_aside(self) -> None:
        """Let another thread lead while the calling one, at an answer, waits for something else."""
        self._hand_over(lambda: self.leads)

    def wake(self) -> None:
        """Let `watch()` return; from any thread, and from a signal handler."""
        with contextlib.suppress(OSError):  # full: it is awake as it is
            os.write(self._wake, b"\0")

    def end(self) -> None:
        """Let the threads go, each after what it is at."""
        self._over = True
        self._vacancy.release(self._threads)
        self._pool.shutdown(wait=False)

    def _takes_long(self) -> bool:
        since = self._answering_since
        return since is not None and time.monotonic() - since >= PATIENCE_SECONDS

    def _hand_over(self, is_due: Callable[[], bool]) -> None:
        """Let another thread lead if it is due and one is free."""
        with self._lock:
            if not self._free or not is_due():
                return
            self._leader, self._answering_since = 0, None
            self._free -= 1
        self._vacancy.release()

    def _take_part(self) -> None:
        while not self._over:
            self._vacancy.acquire()
            self._leader = threading.get_ident()
            try:
                while self.leads and not self._over:
                    self._turn()
            except BaseException as error:  # without a leader nothing would be answered any more
                self.failure = error
                self.wake()
                raise
