"""What a queued run waits for, in words; computed when asked, since it changes without a write to the run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.conf import settings

from core.timestamps import seconds_text, utc_now
from jobs.models import Daemon, JobRun, State

NEXT_LOOK = "the daemon's next look"


def look(runs: Iterable[JobRun]) -> None:
    """Set `waits_for` of each that is queued; at most three queries, none when none is.

    Their jobs must have been fetched with them.
    """
    queued = [run for run in runs if run.state == State.QUEUED]
    if not queued:
        return
    now = utc_now()
    for_all = _for_all(now)
    running: dict[int, list[int]] = {}
    if not for_all:
        for pk, job in JobRun.objects.filter(state=State.RUNNING).order_by("id").values_list("pk", "job_id"):
            running.setdefault(job, []).append(pk)
    slots = _Slots(sum(map(len, running.values())), now)
    for run in queued:
        run.waits_for = for_all or _for_itself(run, now, running.get(run.job_id, [])) or slots.reason(run)


def reason(run: JobRun) -> str | None:
    """What one run waits for; None when it is not queued."""
    look([run])
    return run.waits_for if run.state == State.QUEUED else None


def told(note: str, waits_for: str | None) -> str:
    """A run's note with what it waits for, as lists of runs show it."""
    return "; ".join(filter(None, (note, waits_for and f"waits for {waits_for}")))


class _Slots:
    """The global limit; the queue is only read when the limit is reached."""

    def __init__(self, taken: int, now: datetime) -> None:
        self._taken = taken
        self._now = now
        self._queue: dict[int, int] | None = None

    def reason(self, run: JobRun) -> str:
        most = settings.JOB_MAX_PARALLEL
        if self._taken < most:
            return NEXT_LOOK
        if self._queue is None:
            ready = JobRun.objects.ready(self._now).values_list("pk", flat=True)
            self._queue = {pk: place for place, pk in enumerate(ready)}
        before = self._queue.get(run.pk, 0)
        queue = f", {before} before it in the queue" if before else ""
        return f"a free slot: {self._taken} of {most} runs are active{queue}"


def _for_all(now: datetime) -> str:
    """What keeps every run from starting."""
    daemon = Daemon.load()
    if not daemon.is_alive(now):
        return "the daemon, which is down"
    if daemon.paused_at:
        return f"starts to be resumed; {daemon.paused_by or 'a caller over REST'} paused them"
    return ""


def _for_itself(run: JobRun, now: datetime, running: list[int]) -> str:
    """What keeps this run alone, or those of its job."""
    if run.not_before and run.queued_at <= now < run.not_before:
        return f"its retry at {seconds_text(run.not_before)} UTC"
    if len(running) < run.job.most_at_once:
        return ""
    if len(running) == 1:
        return f"run {running[0]} of this job"
    return f"one of {len(running)} runs of this job: {', '.join(map(str, running))}"
