"""What is due: the firings since each job's `settled_through`, turned into runs under its policies.

APScheduler only wakes this. The firings are computed outside a transaction; one short transaction then inserts the runs
and moves `settled_through`, so that a crash at any point neither loses nor repeats one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from core.errors import Invalid
from core.timestamps import utc_now
from jobs import services
from jobs.execution import runs
from jobs.models import Job, JobRun, JobState, Misfire, State, Trigger
from jobs.scheduling import cron

# A firing dealt with later than this was missed: the daemon was down, paused, or the clock jumped.
ON_TIME = timedelta(seconds=30)
# A `settled_through` further ahead than this means that the clock was wrong and has been set back.
CLOCK_SLACK = timedelta(seconds=60)
_BATCH = 500
log = logging.getLogger(__name__)


@dataclass
class Settlement:
    """What becomes of one job's firings."""

    job: Job
    next_firing: datetime | None
    on_time: datetime | None = None
    caught_up: list[datetime] = field(default_factory=list)
    missed: int = 0
    skipped: datetime | None = None

    @property
    def firings(self) -> list[datetime]:
        """Those that a row is made for, oldest first."""
        return [*self.caught_up, *filter(None, (self.on_time, self.skipped))]


def settle_due(now: datetime | None = None) -> int:
    """Queue the runs of every firing up to now; returns how many jobs were dealt with. Nothing while paused."""
    now = now or utc_now()
    if services.is_paused():
        return 0
    disabled = set(JobState.objects.filter(enabled=False).values_list("name", flat=True))
    of_interest = Q(next_firing__lte=now) | Q(settled_through__isnull=True) | Q(settled_through__gt=now + CLOCK_SLACK)
    due = list(Job.objects.filter(of_interest).order_by("next_firing", "id"))
    for start in range(0, len(due), _BATCH):
        _carry_out(
            [_settlement(job, now, enabled=job.name not in disabled) for job in due[start : start + _BATCH]], now
        )
    return len(due)


def next_wake(now: datetime) -> datetime | None:
    """When settle_due() has something to do next; None when no job has a firing ahead, or starts are paused."""
    if services.is_paused():
        return None
    if Job.objects.filter(settled_through__isnull=True).exists():
        return now
    if Job.objects.filter(settled_through__gt=now + CLOCK_SLACK).exists():
        return now
    ahead = Job.objects.filter(next_firing__isnull=False).order_by("next_firing")
    return ahead.values_list("next_firing", flat=True).first()


def _settlement(job: Job, now: datetime, *, enabled: bool) -> Settlement:
    since = job.settled_through
    try:
        settlement = Settlement(job, cron.first_after(job.schedule, job.timezone, now))
        if since is not None and since > now + CLOCK_SLACK:
            log.warning("the clock was set back: job %s was settled through %s and goes on from now", job.name, since)
        elif since is not None and since < now and enabled:
            _sort_out(settlement, since, now)
    except Invalid as error:
        log.error("job %s does not fire: %s", job.name, error)
        return Settlement(job, None)
    return settlement


def _sort_out(settlement: Settlement, since: datetime, now: datetime) -> None:
    """Which of the firings in (since, now] run, by the job's policy for missed ones."""
    job = settlement.job
    most = max(job.misfire_max, 1) if job.misfire == Misfire.ALL else 1
    recent = cron.last_between(job.schedule, job.timezone, since, now, most + 1)
    settlement.missed = cron.count_between(job.schedule, job.timezone, since, now)
    if recent and now - recent[-1] <= ON_TIME:
        settlement.on_time = recent.pop()
        settlement.missed -= 1
    in_time = recent
    if job.start_deadline_seconds is not None:
        oldest = now - timedelta(seconds=job.start_deadline_seconds)
        in_time = [firing for firing in recent if firing >= oldest]
    if job.misfire == Misfire.ALL:
        settlement.caught_up = in_time[-most:]
    elif job.misfire == Misfire.ONCE and settlement.on_time is None:
        settlement.caught_up = in_time[-1:]
    if recent and not settlement.caught_up and settlement.on_time is None:
        settlement.skipped = recent[-1]


def _carry_out(settlements: list[Settlement], now: datetime) -> None:
    """Insert the runs and move the jobs on, in one transaction."""
    keys = [each.job.pk for each in settlements]
    with transaction.atomic():
        current = Job.objects.only("schedule", "timezone", "settled_through").in_bulk(keys)
        disabled = set(JobState.objects.filter(enabled=False).values_list("name", flat=True))
        # A job that was edited, deleted or disabled since it was read is left to the next wake.
        settlements = [
            each
            for each in settlements
            if _basis(current.get(each.job.pk)) == _basis(each.job) and not (each.firings and each.job.name in disabled)
        ]
        taken = _taken(settlements)
        busy = set(JobRun.objects.active().filter(job__in=keys).values_list("job_id", flat=True))
        made = [run for each in settlements for run in _runs_of(each, now, taken, busy=each.job.pk in busy)]
        JobRun.objects.bulk_create(made)
        moved: dict[datetime | None, list[int]] = {}
        for each in settlements:
            moved.setdefault(each.next_firing, []).append(each.job.pk)
        for next_firing, those in moved.items():
            Job.objects.filter(pk__in=those).update(settled_through=now, next_firing=next_firing)


def _basis(job: Job | None) -> tuple[object, ...] | None:
    return (job.schedule, job.timezone, job.settled_through) if job else None


def _taken(settlements: list[Settlement]) -> set[tuple[int, datetime | None]]:
    """Firings that have a run already, as they do after the clock was set back."""
    wanted = [firing for each in settlements for firing in each.firings]
    if not wanted:
        return set()
    runs_then = JobRun.objects.filter(
        job__in=[each.job.pk for each in settlements if each.firings], scheduled_for__range=(min(wanted), max(wanted))
    )
    return set(runs_then.values_list("job_id", "scheduled_for"))


def _runs_of(
    settlement: Settlement, now: datetime, taken: set[tuple[int, datetime | None]], *, busy: bool
) -> list[JobRun]:
    """The rows for a job's firings. Its concurrency counts once for all of them: what is caught up runs in turn."""
    job, missed = settlement.job, settlement.missed
    note = f"{_count(missed)} missed" if missed else ""
    if settlement.skipped:
        if (job.pk, settlement.skipped) in taken:
            return []
        return [_run(job, settlement.skipped, now, Trigger.SCHEDULE, State.SKIPPED, f"{note}; {_why_none(job)}")]
    firings = [firing for firing in settlement.firings if (job.pk, firing) not in taken]
    if not firings:
        return []
    refusal = runs.make_room(job, now, by="the next firing") if busy else ""
    if refusal:
        return [_run(job, firings[-1], now, Trigger.SCHEDULE, State.SKIPPED, "; ".join(filter(None, (note, refusal))))]
    return [
        _run(job, each, now, Trigger.SCHEDULE if each == settlement.on_time else Trigger.CATCH_UP, State.QUEUED, note)
        for each in firings
    ]


def _run(job: Job, firing: datetime, now: datetime, trigger: str, state: str, note: str) -> JobRun:
    return JobRun(
        job=job,
        state=state,
        trigger=trigger,
        requested_by="the schedule",
        scheduled_for=firing,
        queued_at=now,
        ended_at=now if state == State.SKIPPED else None,
        note=note,
        definition=runs.definition_of(job),
    )


def _count(missed: int) -> str:
    number = f"{cron.COUNT_AT_MOST - 1} or more" if missed >= cron.COUNT_AT_MOST - 1 else str(missed)
    return f"{number} firing{'s' if missed != 1 else ''}"


def _why_none(job: Job) -> str:
    return "past the start deadline" if job.misfire != Misfire.SKIP else "the job skips what it missed"
