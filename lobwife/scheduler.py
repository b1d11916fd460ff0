"""APScheduler over django-apscheduler's store: it only wakes us. What is due is the jobs' own business."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from django_apscheduler.jobstores import DjangoJobStore

from jobs import firing, wake
from lobwife.base.timestamps import utc_now

log = logging.getLogger(__name__)
_FIRINGS = "firings"
_THREADS = 3


class Scheduler:
    """Wakes for the next firing and for periodic upkeep."""

    def __init__(self, upkeep: dict[str, tuple[Callable[[], object], str]]) -> None:
        """`upkeep`: what to call, by name, with the five cron fields that say when (UTC)."""
        self._scheduler = BackgroundScheduler(
            jobstores={"default": DjangoJobStore()},
            executors={"default": ThreadPoolExecutor(_THREADS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        self._upkeep = upkeep
        self._planned: datetime | None = None

    def start(self) -> None:
        self._scheduler.start(paused=True)
        self._scheduler.remove_all_jobs()
        for name, (call, fields) in self._upkeep.items():
            self._scheduler.add_job(call, CronTrigger.from_crontab(fields, timezone="UTC"), id=name)
        self._scheduler.add_job(wake.wake, wake.NextFiring(), id=_FIRINGS, max_instances=_THREADS)
        self._scheduler.resume()

    def refresh(self) -> None:
        """Wake earlier when a job was made, edited or enabled; a wake that comes too early does no harm."""
        wanted = firing.next_wake(utc_now())
        planned = self._scheduler.get_job(_FIRINGS)
        if wanted and (planned is None or planned.next_run_time > wanted):
            self._scheduler.modify_job(_FIRINGS, next_run_time=max(wanted, utc_now()))

    @property
    def is_alive(self) -> bool:
        """False when the scheduler's thread died, as it does when a write lock outlasts its time-out."""
        thread = self._scheduler._thread
        return thread is not None and thread.is_alive()

    def shut_down(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
