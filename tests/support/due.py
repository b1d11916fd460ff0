"""Jobs around a noon at which they fire, and the runs that come of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from jobs import services
from jobs.execution import runs
from jobs.execution.runs import Process
from jobs.models import Job, JobRun, Trigger

NOON = datetime(2026, 2, 16, 12, 0, tzinfo=UTC)
ON_TIME = NOON + timedelta(seconds=2)
LATE = NOON + timedelta(minutes=3)  # the slot of noon is missed, the next one is two minutes off
BEFORE = NOON - timedelta(minutes=1)


def make(name: str = "job", *, settled: datetime | None = NOON - timedelta(minutes=5), **fields: Any) -> Job:
    """A job every five minutes, dealt with up to the slot before noon."""
    job = services.define_job(
        fields={"name": name, "script": "hello.py", "schedule": "*/5 * * * *", **fields}, actor="a test"
    )
    following = settled and settled + timedelta(minutes=5)
    Job.objects.filter(pk=job.pk).update(settled_through=settled, next_firing=following)
    return job


def made(job: Job) -> list[JobRun]:
    """Runs that the schedule made, oldest first."""
    return list(JobRun.objects.filter(job=job, scheduled_for__isnull=False).order_by("id"))


def slots(job: Job) -> list[tuple[str, str]]:
    return [(f"{run.scheduled_for:%H:%M}", run.state) for run in made(job)]


def by_hand(job: Job, *, start: bool = True) -> JobRun:
    run = runs.request_run(name=job.name, trigger=Trigger.REST, requested_by="a test")
    if start:
        assert runs.record_start(run, Process(1, 1, "boot"))
    return run
