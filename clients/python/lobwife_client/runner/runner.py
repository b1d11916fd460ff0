"""The runner: claims tasks while it has a free slot, and works on each in a thread until it is told to stop."""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import subprocess
import threading
import time

from lobwife_client.client import Client
from lobwife_client.errors import LobwifeError, Refused
from lobwife_client.lease import Lease

from .execution import Execution, Options
from .process import hide_from_children, start_supervisor
from .state import StateFile

log = logging.getLogger(__name__)
_WAIT_SECONDS = 50  # of a claim; proxies end a silent call after 60
_LONGEST_PAUSE = 60.0
_LOOK_SECONDS = 0.1
_SIGNAL, _OVER = b"s", b"o"
_TROUBLE_PAUSE, _LONGEST_TROUBLE_PAUSE = 10.0, 300.0
_LAST_WORDS_SECONDS = 10.0  # for tasks to be handed back, after the grace of their commands


class Runner:
    """Claims and works until a signal comes; call run() in the main thread."""

    def __init__(self, client: Client, options: Options, state: StateFile) -> None:
        self._client, self._options, self._state = client, options, state
        self._stopping = threading.Event()
        self._orders, self._order = os.pipe()
        self._slots = threading.Semaphore(options.most)
        self._executions: set[Execution] = set()
        self._lock = threading.Lock()
        self._troubles = 0  # in a row
        self._refusal: Refused | None = None

    def run(self) -> int:
        """Work until a signal; return the exit code."""
        hide_from_children()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._stop)
        threading.Thread(target=self._claim_until_over, daemon=True).start()
        os.read(self._orders, 1)
        self._stopping.set()
        deadline = time.monotonic() + self._options.grace + _LAST_WORDS_SECONDS
        while (executions := self._running()) and time.monotonic() < deadline:
            is_ordered = select.select([self._orders], [], [], _LOOK_SECONDS)[0]
            if is_ordered and os.read(self._orders, 1) == _SIGNAL:  # a second one: without a grace
                for execution in executions:
                    execution.hurry()
        if self._refusal is not None:
            log.error("%s", self._refusal)
            return 1
        return 0

    def _stop(self, number: int, frame: object) -> None:
        """Have run() stop; a signal's handler must not take locks, which the main thread may hold."""
        os.write(self._order, _SIGNAL)

    def _running(self) -> list[Execution]:
        with self._lock:
            return list(self._executions)

    # --- claims
    def _claim_until_over(self) -> None:
        try:
            self._claim_until_stopped()
        finally:
            os.write(self._order, _OVER)

    def _claim_until_stopped(self) -> None:
        pause = 0.0
        is_first = True
        supervisor: subprocess.Popen[bytes] | None = None
        while not self._stopping.wait(pause):
            self._slots.acquire()
            self._stopping.wait(self._trouble_pause())
            if self._stopping.is_set():
                return
            began = time.monotonic()
            try:
                if supervisor is None or supervisor.poll() is not None:
                    supervisor = start_supervisor()  # so that a command starts sooner, and none is claimed in vain
                lease = self._claim()
            except (LobwifeError, OSError) as error:
                self._slots.release()
                if is_first and isinstance(error, Refused) and error.status in (400, 401, 403, 404):
                    self._refusal = error
                    return
                log.warning("no task could be claimed: %s", error)
                pause = min(_LONGEST_PAUSE, pause * 2 or 1.0) * random.uniform(0.5, 1)  # noqa: S311 no secret
                pause = max(getattr(error, "retry_after", None) or 0.0, pause)
                continue
            is_first, pause = False, 0.0
            if lease is None:
                self._slots.release()
                pause = max(0.0, 1.0 - (time.monotonic() - began))  # a server that stops answers at once
                continue
            self._begin(lease, supervisor)
            supervisor = None
            if self._options.once:
                self._slots.acquire()  # until the task is over
                return

    def _claim(self) -> Lease | None:
        options = self._options
        lease = self._client.within(0).claim(
            types=options.types,
            repos=options.repos,
            runner=options.name,
            lease_seconds=options.lease_seconds,
            wait_seconds=_WAIT_SECONDS,
        )
        if lease is not None:
            lease.client = self._client.with_key(lease.key)
        return lease

    def _begin(self, lease: Lease, supervisor: subprocess.Popen[bytes]) -> None:
        """Work on a task in a thread; one that was claimed while the runner was told to stop goes back unbegun."""
        execution = Execution(lease, self._options, self._state, self._stopping, supervisor)
        log.info("%s claimed: %s", execution.task_id, lease.task["name"])
        thread = threading.Thread(target=self._execute, args=(execution,), name=execution.task_id, daemon=True)
        with self._lock:
            self._executions.add(execution)
        thread.start()

    def _execute(self, execution: Execution) -> None:
        is_well = False
        try:
            is_well = execution.run()
        finally:
            with self._lock:
                self._executions.discard(execution)
                self._troubles = 0 if is_well else self._troubles + 1
            self._slots.release()

    def _trouble_pause(self) -> float:
        """Return how long to claim nothing: a machine that can't begin any task must not use all of them up."""
        if not self._troubles:
            return 0.0
        return min(_LONGEST_TROUBLE_PAUSE, _TROUBLE_PAUSE * float(2 ** min(self._troubles - 1, 10)))
