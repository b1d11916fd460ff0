"""APScheduler over django-apscheduler's store, which wakes the daemon; what is due is computed by `jobs`."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from django.db import close_old_connections
from django.db.utils import Error
from django_apscheduler.jobstores import DjangoJobStore
from django_apscheduler.models import DjangoJob

from core.timestamps import utc_now
from jobs.scheduling import due

log = logging.getLogger(__name__)
_FIRINGS = "firings"
_THREADS = 3
_SOON = timedelta(seconds=1)
_RETRY_SECONDS = 1.0
_CLOCK_SET_SECONDS = 1.0  # time servers move the clock by less all day


class Store(DjangoJobStore):  # type: ignore[misc]
    """django-apscheduler's store without its history, which would cost two writes a wake."""

    def register_event_listeners(self) -> None:
        """Listen to nothing."""

    def update_job(self, job: Job) -> None:
        """Ignore a job that was removed in the database: refresh() plans all again."""
        with contextlib.suppress(JobLookupError):
            super().update_job(job)


class _Background(BackgroundScheduler):  # type: ignore[misc]
    """Begins its thread with a call of ours, and survives a database that is locked, full or away."""

    def __init__(self, begin_thread: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._begin_thread = begin_thread

    def _main_loop(self) -> None:
        self._begin_thread()
        super()._main_loop()

    def _process_jobs(self) -> float | None:
        """Return when to look again, in seconds: what could not be stored is due still, and handled again."""
        try:
            wait: float | None = super()._process_jobs()
            return wait
        except Error as error:
            log.error("the next wake-up could not be stored and is tried again: %s", error)
            close_old_connections()
            return _RETRY_SECONDS


class Clock:
    """Detects that the machine's clock was set: it then moved otherwise than the time that passed."""

    def __init__(self) -> None:
        self._offset = _clock_offset()

    def was_set_by(self) -> float:
        """Return by how many seconds the clock was set since the last call, back when negative; 0 when it was not."""
        before, self._offset = self._offset, _clock_offset()
        moved = self._offset - before
        return moved if abs(moved) >= _CLOCK_SET_SECONDS else 0.0


def _clock_offset() -> float:
    """Return the clock less the time that passed, read again when the machine stalled between the two."""
    while True:
        passed = time.monotonic()
        clock = time.time()
        if time.monotonic() - passed < _CLOCK_SET_SECONDS / 4:
            return clock - passed


class Scheduler:
    """Wakes for the next firing and for periodic upkeep."""

    def __init__(
        self, upkeep: dict[str, tuple[Callable[[], object], str]], begin_thread: Callable[[], None] = lambda: None
    ) -> None:
        """Take the periodic work by name, with its schedule: five cron fields, in UTC. `begin_thread` is called first
        in each thread.
        """
        self._scheduler = _Background(
            begin_thread,
            jobstores={"default": Store()},
            executors={"default": ThreadPoolExecutor(_THREADS, {"initializer": begin_thread})},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        self._upkeep = upkeep

    def start(self) -> None:
        self._scheduler.start(paused=True)
        self._scheduler.remove_all_jobs()
        self.plan()
        self._scheduler.resume()

    def refresh(self) -> None:
        """Wake earlier when a job was made, edited or enabled; a wake that comes too early does no harm."""
        now = utc_now()
        next_wake = due.next_wake(now)
        stored = self._scheduler.get_job(_FIRINGS)
        if stored is None or DjangoJob.objects.count() <= len(self._upkeep):  # removed in the database
            self.plan()
        elif stored.next_run_time < now - _SOON:  # the clock was set forward while the scheduler slept
            self._scheduler.wakeup()
        elif next_wake:
            # What is due already is handled by a wake that is planned within a second.
            latest = next_wake if next_wake > now else now + _SOON
            if stored.next_run_time > latest:
                self._scheduler.modify_job(_FIRINGS, next_run_time=max(next_wake, now))

    def plan(self) -> None:
        """Plan everything from now on, in place of what is planned already."""
        for name, (call, fields) in self._upkeep.items():
            trigger = CronTrigger.from_crontab(fields, timezone="UTC")
            self._scheduler.add_job(call, trigger, id=name, replace_existing=True)
        self._scheduler.add_job(due.wake, due.NextFiring(), id=_FIRINGS, max_instances=_THREADS, replace_existing=True)

    @property
    def is_alive(self) -> bool:
        """False when the scheduler's thread died."""
        thread = self._scheduler._thread
        return thread is not None and thread.is_alive()

    def shut_down(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
