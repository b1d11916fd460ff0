"""The runs that a runner fetched: a procrastinate worker in a thread of its own hands them to the runner's loop.

The worker fetches while the runner has free slots, listens for new jobs, and beats. Of a run that it handed over it
waits for the end, so that the job stays `doing`, and its lock held, as long as the run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from procrastinate import App, BaseRetryStrategy, RetryDecision
from procrastinate.contrib.django.utils import connector_params
from procrastinate.jobs import Job
from procrastinate.psycopg_connector import PsycopgConnector

from core.database.clock import database_now
from core.processes import backoff
from jobs.execution import output_files, runs
from jobs.execution.process import boot_id
from jobs.execution.queues import Source
from jobs.models import JobRun, State

log = logging.getLogger(__name__)
TASK = "lobwife:execute"
STALLED_SECONDS = 30.0
_HEARTBEAT_SECONDS = 5.0
_LOOK_SECONDS = 1.0  # for jobs that were put back or locked: nothing notifies of these
_FULL_SECONDS, _ELSEWHERE_SECONDS = 1.0, 5.0
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 10.0
_SIDE_TASKS = {"update_heartbeats", "listener"}
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # by anybody's clock


class PutBack(Exception):
    """A run can't be started by whoever fetched it; it may be fetched again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"put back for {seconds} s")
        self.seconds = seconds


class _PutBack(BaseRetryStrategy):
    """Puts back what was put back, and what a worker had that ended before the run did."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision(retry_at=_LONG_AGO)
        if isinstance(exception, PutBack):
            after = timedelta(seconds=exception.seconds)
            return RetryDecision(retry_at=database_now() + after if after else _LONG_AGO)
        return None


@dataclass
class _Fetched:
    """A run that was fetched. `over` is set to the seconds for which it is put back, or to None when it is over."""

    over: asyncio.Future[float | None]
    is_waiting: bool = True

    def end(self, seconds: float | None) -> None:
        with contextlib.suppress(RuntimeError):  # its worker is gone, and another has put it back
            self.over.get_loop().call_soon_threadsafe(self._set, seconds)

    def _set(self, seconds: float | None) -> None:
        if not self.over.done():
            self.over.set_result(seconds)


class FetchedRuns(Source):
    """The runs for one runner, fetched by procrastinate."""

    def __init__(self, labels: Sequence[str], slots: int, wake: Callable[[], object]) -> None:
        self._labels, self._slots, self._wake = list(labels), slots, wake
        self._fetched: dict[int, _Fetched] = {}  # by run
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._worker: asyncio.Task[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="fetching runs", daemon=True)

    # --- for the runner's loop
    def start(self) -> None:
        self._thread.start()

    def has_fetched(self) -> bool:
        return self.has_runs()

    def has_runs(self) -> bool:
        return any(fetched.is_waiting for fetched in list(self._fetched.values()))

    def runs(self, running_of: Counter[int]) -> Iterator[JobRun]:
        """Yield those that wait, in the order in which they were fetched; hand back those that may not start."""
        for run_id in [run_id for run_id, fetched in list(self._fetched.items()) if fetched.is_waiting]:
            run = JobRun.objects.select_related("job").filter(pk=run_id).first()
            if run is None or run.state != State.QUEUED:
                self._hand_back(run_id, _ELSEWHERE_SECONDS if run and run.is_active else None)
            elif runs.running_of(run.job_id) >= run.job.most_at_once:
                self._hand_back(run_id, _FULL_SECONDS)
            else:
                yield run

    def counts_others(self) -> bool:
        return True

    def started(self, run_id: int) -> None:
        if run_id in self._fetched:
            self._fetched[run_id].is_waiting = False

    def not_started(self, run: JobRun) -> None:
        is_queued = JobRun.objects.filter(pk=run.pk, state=State.QUEUED).exists()
        self._hand_back(run.pk, _FULL_SECONDS if is_queued else None)

    def finished(self, run_id: int) -> None:
        self._hand_back(run_id, None)

    def leftovers(self) -> list[JobRun]:
        """Those of this boot of the machine whose runner is gone, and whose output is in this state directory."""
        left = JobRun.objects.select_related("job").filter(state=State.RUNNING, boot_id=boot_id()).order_by("id")
        return [run for run in left if _is_gone(run.node) and output_files.output_path(run.pk).exists()]

    def stop(self) -> None:
        self._stopping.set()
        for run_id, fetched in list(self._fetched.items()):
            if fetched.is_waiting:
                self._hand_back(run_id, 0)
        if self._worker is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._worker.get_loop().call_soon_threadsafe(self._worker.cancel)

    def close(self, deadline: float) -> None:
        if self._thread.is_alive():
            self._thread.join(max(0.1, deadline - time.monotonic()))

    def _hand_back(self, run_id: int, seconds: float | None) -> None:
        with self._lock:
            fetched = self._fetched.pop(run_id, None)
        if fetched is not None:
            fetched.end(seconds)

    # --- for the thread
    def _run(self) -> None:
        """Work until stopped; a worker that fails, as it does without its database, is followed by another."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                asyncio.run(self._work())
            except asyncio.CancelledError:
                return
            except Exception as error:
                failures = 1 if time.monotonic() - began > _LONGEST_PAUSE_SECONDS else failures + 1
                log.warning("runs can't be fetched, which is tried again: %s", error, exc_info=failures > 3)
            self._stopping.wait(backoff(failures, _SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))

    async def _work(self) -> None:
        parameters = {**connector_params(), "application_name": "lobwife, fetching"}
        connector = PsycopgConnector(kwargs=parameters, min_size=1, max_size=2, timeout=_LONGEST_PAUSE_SECONDS)
        app = App(connector=connector)
        app.task(name=TASK, pass_context=False, retry=_PutBack())(self._execute)
        self._worker = asyncio.current_task()
        if self._stopping.is_set():
            return
        async with app.open_async():
            worker = asyncio.create_task(
                app.run_worker_async(
                    queues=self._labels,
                    concurrency=self._slots,
                    fetch_job_polling_interval=_LOOK_SECONDS,
                    abort_job_polling_interval=3600.0,
                    shutdown_graceful_timeout=settings.JOB_GRACE_SECONDS + 2.0,
                    delete_jobs="always",
                    install_signal_handlers=False,
                    update_heartbeat_interval=_HEARTBEAT_SECONDS,
                    stalled_worker_timeout=STALLED_SECONDS,
                )
            )
            guard = asyncio.create_task(_until_a_side_task_ends())
            try:
                await asyncio.wait({worker, guard}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                guard.cancel()
                worker.cancel()
                await asyncio.gather(worker, guard, return_exceptions=True)
        if not worker.cancelled():
            worker.result()
        raise ConnectionError("its connection was lost")

    async def _execute(self, run_id: int) -> None:
        """Hand a run over, and wait for its end; raises PutBack."""
        fetched = _Fetched(asyncio.get_running_loop().create_future())
        with self._lock:
            is_mine_already = run_id in self._fetched
            if not is_mine_already and not self._stopping.is_set():
                self._fetched[run_id] = fetched
        if self._stopping.is_set():
            raise PutBack(0)
        if is_mine_already:
            raise PutBack(_ELSEWHERE_SECONDS)
        self._wake()
        seconds = await fetched.over
        if seconds is not None:
            raise PutBack(seconds)


async def _until_a_side_task_ends() -> None:
    """Return when the worker beats or listens no longer; it notices that only of the first of its tasks that ends."""
    names = _SIDE_TASKS
    while names >= _SIDE_TASKS:
        await asyncio.sleep(_HEARTBEAT_SECONDS)
        names = {task.get_name() for task in asyncio.all_tasks()}


def _is_gone(node: str) -> bool:
    """Return whether a runner of this boot is gone; this process has executed nothing yet."""
    pid = node.rpartition("/")[2]
    return pid == str(os.getpid()) or not (pid.isdigit() and os.path.exists(f"/proc/{pid}"))
