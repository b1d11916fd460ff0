"""Why queued runs have not started yet; computed when asked, since it changes without a write to the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings

from core.database.backend import is_postgres
from core.timestamps import seconds_text, utc_now
from jobs.models import DEFAULT_LABEL, Daemon, JobRun, Node, State

NEXT_LOOK = "the daemon's next look"
_DAEMON_DOWN = "the daemon, which is down"
NEXT_FREE = "the next runner that is free"


def for_runs(runs: Iterable[JobRun]) -> dict[int, str]:
    """Return what each run that is queued waits for, by run id; at most four queries, none when none is queued.

    Their jobs must have been fetched with them.
    """
    queued = [run for run in runs if run.state == State.QUEUED]
    if not queued:
        return {}
    now = utc_now()
    for_all = _for_all(now)
    if for_all:
        return {run.pk: for_all for run in queued}
    running: dict[int, list[int]] = defaultdict(list)
    for pk, job in JobRun.objects.filter(state=State.RUNNING).order_by("id").values_list("pk", "job_id"):
        running[job].append(pk)
    if is_postgres():
        served = {label for labels in Node.objects.alive().values_list("labels", flat=True) for label in labels}
        return {run.pk: _for_job(run, now, running[run.job_id]) or _for_runner(run.label, served) for run in queued}
    active = sum(map(len, running.values()))
    places: dict[int, int] = {}
    if active >= settings.JOB_MAX_PARALLEL:
        ready = JobRun.objects.ready(now).values_list("pk", flat=True)
        places = {pk: place for place, pk in enumerate(ready)}
    return {
        run.pk: _for_job(run, now, running[run.job_id]) or _for_slot(active, places.get(run.pk, 0)) for run in queued
    }


def for_run(run: JobRun) -> str | None:
    """Return what one run waits for; None when it is not queued."""
    return for_runs([run]).get(run.pk)


def with_note(note: str, reason: str | None) -> str:
    """Return a run's note with what it waits for, as lists of runs show it."""
    return "; ".join(filter(None, (note, reason and f"waits for {reason}")))


def _for_all(now: datetime) -> str | None:
    """Return what keeps every run from starting."""
    daemon = Daemon.load()
    if not daemon.is_alive(now) and not is_postgres():
        return _DAEMON_DOWN
    if daemon.paused_at:
        return f"starts to be resumed; {daemon.paused_by or 'a caller over REST'} paused them"
    return None


def _for_job(run: JobRun, now: datetime, running: list[int]) -> str | None:
    """Return what keeps this run alone, or those of its job."""
    if run.not_before and run.queued_at <= now < run.not_before:
        return f"its retry at {seconds_text(run.not_before)} UTC"
    if len(running) < run.job.most_at_once:
        return None
    if len(running) == 1:
        return f"run {running[0]} of this job"
    return f"one of {len(running)} runs of this job: {', '.join(map(str, running))}"


def _for_runner(label: str, served: set[str]) -> str:
    """Return what a run waits for where runners on several machines share them."""
    if label in served:
        return NEXT_FREE
    return _DAEMON_DOWN if label == DEFAULT_LABEL else f"a runner for {label}: none is up (manage.py runner)"


def _for_slot(active: int, before: int) -> str:
    """Return what the global limit makes a run wait for, with so many before it in the queue."""
    most = settings.JOB_MAX_PARALLEL
    if active < most:
        return NEXT_LOOK
    queue = f", {before} before it in the queue" if before else ""
    return f"a free slot: {active} of {most} runs are active{queue}"
