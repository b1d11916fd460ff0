"""APScheduler over django-apscheduler's store: it only wakes us. What is due is the jobs' own business."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from datetime import timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from django_apscheduler.jobstores import DjangoJobStore
from django_apscheduler.models import DjangoJob

from core.timestamps import utc_now
from jobs.scheduling import due, wake

log = logging.getLogger(__name__)
_FIRINGS = "firings"
_THREADS = 3
_SOON = timedelta(seconds=1)


class Store(DjangoJobStore):  # type: ignore[misc]
    """django-apscheduler's store without its history, which would cost two writes a wake: runs are our history."""

    def register_event_listeners(self) -> None:
        """Listen to nothing."""

    def update_job(self, job: Job) -> None:
        """As the base class, but says nothing of a job that an outsider has removed: refresh() plans all again."""
        with contextlib.suppress(JobLookupError):
            super().update_job(job)


class Scheduler:
    """Wakes for the next firing and for periodic upkeep."""

    def __init__(self, upkeep: dict[str, tuple[Callable[[], object], str]]) -> None:
        """`upkeep`: what to call, by name, with the five cron fields that say when (UTC)."""
        self._scheduler = BackgroundScheduler(
            jobstores={"default": Store()},
            executors={"default": ThreadPoolExecutor(_THREADS)},
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
        wanted = due.next_wake(now)
        stored = self._scheduler.get_job(_FIRINGS)
        if stored is None or DjangoJob.objects.count() <= len(self._upkeep):  # an outsider removed some
            self.plan()
        elif stored.next_run_time < now - _SOON:  # the clock was set forward while the scheduler slept
            self._scheduler.wakeup()
        # What is due already is being dealt with by the wake that is planned within a second.
        elif wanted and stored.next_run_time > (wanted if wanted > now else now + _SOON):
            self._scheduler.modify_job(_FIRINGS, next_run_time=max(wanted, now))

    def plan(self) -> None:
        """Everything from now on, in place of what is planned already."""
        for name, (call, fields) in self._upkeep.items():
            trigger = CronTrigger.from_crontab(fields, timezone="UTC")
            self._scheduler.add_job(call, trigger, id=name, replace_existing=True)
        self._scheduler.add_job(
            wake.wake, wake.NextFiring(), id=_FIRINGS, max_instances=_THREADS, replace_existing=True
        )

    @property
    def is_alive(self) -> bool:
        """False when the scheduler's thread died, as it does when a write lock outlasts its time-out."""
        thread = self._scheduler._thread
        return thread is not None and thread.is_alive()

    def shut_down(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
