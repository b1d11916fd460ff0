"""Queue the runs that are due: the firings since each job's `settled_through`, under the job's policies.

APScheduler only wakes this. The firings are computed outside a transaction; one short transaction then inserts the runs
and moves `settled_through`, so that a crash at any point neither loses nor repeats one.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from apscheduler.triggers.base import BaseTrigger
from django.db import close_old_connections, transaction
from django.db.models import Q

from core.errors import Invalid
from core.timestamps import parse, utc_now
from jobs import services
from jobs.execution import runs
from jobs.models import Job, JobRun, JobState, Misfire, State, Trigger
from jobs.scheduling import cron

# A firing dealt with later than this was missed: the daemon was down, paused, or the clock jumped.
ON_TIME = timedelta(seconds=30)
# A `settled_through` further ahead than this means that the clock was wrong and has been set back.
CLOCK_SLACK = timedelta(seconds=60)
_BATCH = 500
_LONGEST_WAIT, _SHORTEST_WAIT = timedelta(hours=1), timedelta(seconds=1)
# The stored wake names a function, so what keeps two of them apart lives here.
_one_at_a_time = threading.Lock()
_REQUESTER = "the schedule"
log = logging.getLogger(__name__)


def wake() -> None:
    """Queue what is due; do nothing while an earlier wake is at work, since the next one comes within a second."""
    if _one_at_a_time.acquire(blocking=False):
        try:
            close_old_connections()
            enqueue_due()
        finally:
            _one_at_a_time.release()


class NextFiring(BaseTrigger):  # type: ignore[misc]
    """Fires at the next firing of any job, and once an hour whatever happens."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return a time strictly later than now, but for the first: what is due then is being queued already."""
        earliest = now if previous_fire_time is None else now + _SHORTEST_WAIT
        wanted = next_wake(now) or now + _LONGEST_WAIT
        return min(max(wanted, earliest), now + _LONGEST_WAIT)


@dataclass
class DueFirings:
    """The firings of one job that get a run, by the job's policies."""

    job: Job
    next_firing: datetime | None
    on_time: datetime | None = None
    caught_up: list[datetime] = field(default_factory=list)
    missed: int = 0
    skipped: datetime | None = None

    @property
    def all(self) -> list[datetime]:
        """Those that a row is inserted for, oldest first."""
        return [*self.caught_up, *filter(None, (self.on_time, self.skipped))]

    @property
    def note(self) -> str:
        if not self.missed:
            return ""
        most = cron.COUNT_AT_MOST - 1
        count = f"{most} or more" if self.missed >= most else str(self.missed)
        return f"{count} firing{'' if self.missed == 1 else 's'} missed"


def enqueue_due(now: datetime | None = None) -> int:
    """Queue the runs of every firing up to now and return how many jobs were due; do nothing while paused."""
    now = now or utc_now()
    if services.pause():
        return 0
    disabled = _disabled_names()
    is_due = Q(next_firing__lte=now) | _needs_resettling(now)
    jobs = list(Job.objects.filter(is_due).order_by("next_firing", "id"))
    for start in range(0, len(jobs), _BATCH):
        batch = [_due_firings(job, now, enabled=job.name not in disabled) for job in jobs[start : start + _BATCH]]
        insert_runs(batch, now)
    return len(jobs)


def settle_foreign_runs(now: datetime | None = None) -> None:
    """Take a job's firings as dealt with up to the last run that another program, the older service, recorded for it.

    Called before the first wake of a start: it may have run the scripts since this daemon did.
    """
    now = now or utc_now()
    for name, text in JobState.objects.filter(last_run__isnull=False).values_list("name", "last_run"):
        last_run = parse(text)
        if last_run is None or last_run > now:
            continue
        is_ours = JobRun.objects.filter(job__name=name, started_at__gte=last_run).exists()
        if not is_ours and Job.objects.filter(name=name, settled_through__lt=last_run).update(settled_through=last_run):
            log.info("job %s was run by another program at %s and goes on from there", name, text)


def next_wake(now: datetime) -> datetime | None:
    """Return when enqueue_due() has work next; None when no job has a firing ahead, or starts are paused."""
    if services.pause():
        return None
    if Job.objects.filter(_needs_resettling(now)).exists():
        return now
    ahead = Job.objects.filter(next_firing__isnull=False).order_by("next_firing")
    return ahead.values_list("next_firing", flat=True).first()


def apply_misfire_policy(due: DueFirings, since: datetime, now: datetime) -> None:
    """Choose those of the firings in (since, now] that run, by the job's policy for missed ones."""
    job = due.job
    most = max(job.misfire_max, 1) if job.misfire == Misfire.ALL else 1
    recent = cron.last_between(job.schedule, job.timezone, since, now, most + 1)
    due.missed = cron.count_between(job.schedule, job.timezone, since, now)
    if recent and now - recent[-1] <= ON_TIME:
        due.on_time = recent.pop()
        due.missed -= 1
    in_time = recent
    if job.start_deadline_seconds is not None:
        oldest = now - timedelta(seconds=job.start_deadline_seconds)
        in_time = [firing for firing in recent if firing >= oldest]
    if job.misfire == Misfire.ALL:
        due.caught_up = in_time[-most:]
    elif job.misfire == Misfire.ONCE and due.on_time is None:
        due.caught_up = in_time[-1:]
    if recent and not due.caught_up and due.on_time is None:
        due.skipped = recent[-1]


def insert_runs(batch: Sequence[DueFirings], now: datetime) -> None:
    """Insert the runs and move the jobs' `settled_through` to now, in one transaction."""
    keys = [due.job.pk for due in batch]
    with transaction.atomic():
        current = Job.objects.only("schedule", "timezone", "settled_through").in_bulk(keys)
        disabled = _disabled_names()
        # A job that was edited, deleted or disabled since it was read is left to the next wake.
        batch = [
            due
            for due in batch
            if _basis(current.get(due.job.pk)) == _basis(due.job) and not (due.all and due.job.name in disabled)
        ]
        existing = _existing_runs(batch)
        busy = set(JobRun.objects.active().filter(job__in=keys).values_list("job_id", flat=True))
        new = [run for due in batch for run in _new_runs(due, now, existing, is_busy=due.job.pk in busy)]
        runs.insert(new)
        jobs_by_next: dict[datetime | None, list[int]] = defaultdict(list)
        for due in batch:
            jobs_by_next[due.next_firing].append(due.job.pk)
        for next_firing, pks in jobs_by_next.items():
            Job.objects.filter(pk__in=pks).update(settled_through=now, next_firing=next_firing)


def _needs_resettling(now: datetime) -> Q:
    """Jobs that the daemon has not seen yet, and those from before the clock was set back."""
    return Q(settled_through__isnull=True) | Q(settled_through__gt=now + CLOCK_SLACK)


def _disabled_names() -> set[str]:
    return set(JobState.objects.filter(enabled=False).values_list("name", flat=True))


def _due_firings(job: Job, now: datetime, *, enabled: bool) -> DueFirings:
    since = job.settled_through
    try:
        due = DueFirings(job, cron.first_after(job.schedule, job.timezone, now))
        if since is not None and since > now + CLOCK_SLACK:
            log.warning("the clock was set back: job %s was settled through %s and goes on from now", job.name, since)
        elif since is not None and since < now and enabled:
            apply_misfire_policy(due, since, now)
    except Invalid as error:
        log.error("job %s does not fire: %s", job.name, error)
        return DueFirings(job, None)
    return due


def _basis(job: Job | None) -> tuple[object, ...] | None:
    """Return what the firings were computed from."""
    return (job.schedule, job.timezone, job.settled_through) if job else None


def _existing_runs(batch: Sequence[DueFirings]) -> set[tuple[int, datetime | None]]:
    """Return job and firing of runs that exist already, as they do after the clock was set back."""
    firings = [firing for due in batch for firing in due.all]
    if not firings:
        return set()
    jobs = [due.job.pk for due in batch if due.all]
    rows = JobRun.objects.filter(job__in=jobs, scheduled_for__range=(min(firings), max(firings)))
    return set(rows.values_list("job_id", "scheduled_for"))


def _new_runs(
    due: DueFirings, now: datetime, existing: set[tuple[int, datetime | None]], *, is_busy: bool
) -> list[JobRun]:
    """Return the rows for a job's firings. Concurrency counts once for all: what is caught up runs in turn."""
    job = due.job
    firings = [firing for firing in due.all if (job.pk, firing) not in existing]
    if not firings:
        return []
    refusal: str | None = None
    if due.skipped:
        refusal = "the job skips what it missed" if job.misfire == Misfire.SKIP else "past the start deadline"
    elif is_busy:
        refusal = runs.make_room(job, now, by="the next firing")
    if refusal:
        note = "; ".join(filter(None, (due.note, refusal)))
        skipped = runs.new_run(job, Trigger.SCHEDULE, now, requested_by=_REQUESTER, scheduled_for=firings[-1])
        skipped.state, skipped.ended_at, skipped.note = State.SKIPPED, now, note
        return [skipped]
    return [
        runs.new_run(
            job,
            Trigger.SCHEDULE if firing == due.on_time else Trigger.CATCH_UP,
            now,
            requested_by=_REQUESTER,
            scheduled_for=firing,
            note=due.note,
        )
        for firing in firings
    ]
