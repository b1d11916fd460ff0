"""What is due: the firings since each job's `settled_through`, turned into runs under its policies.

APScheduler only wakes this. The firings are computed outside a transaction; one short transaction then inserts the runs
and moves `settled_through`, so that a crash at any point neither loses nor repeats one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction

from jobs import runs, schedule, services
from jobs.models import Job, JobRun, JobState, Misfire, State, Trigger
from lobwife.base.errors import Invalid
from lobwife.base.timestamps import utc_now

# A firing dealt with later than this was missed: the daemon was down, paused, or the clock jumped.
ON_TIME_SECONDS = 30
# A `settled_through` further ahead than this means that the clock was wrong and has been set back.
CLOCK_SLACK_SECONDS = 60
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


def settle_due(now: datetime | None = None) -> int:
    """Queue the runs of every firing up to now; returns how many jobs were dealt with. Nothing while paused."""
    now = now or utc_now()
    _forgive_clock(now)
    if services.is_paused():
        return 0
    disabled = set(JobState.objects.filter(enabled=False).values_list("name", flat=True))
    due = list(Job.objects.filter(next_firing__lte=now).order_by("next_firing", "id"))
    due += Job.objects.filter(settled_through__isnull=True)
    for start in range(0, len(due), _BATCH):
        settlements = [_settlement(job, now, enabled=job.name not in disabled) for job in due[start : start + _BATCH]]
        _carry_out([each for each in settlements if each], now)
    return len(due)


def next_wake(now: datetime) -> datetime | None:
    """When settle_due() has something to do next; None when no job has a firing ahead, or starts are paused."""
    if services.is_paused():
        return None
    if Job.objects.filter(settled_through__isnull=True).exists():
        return now
    ahead = Job.objects.filter(next_firing__isnull=False).order_by("next_firing")
    return ahead.values_list("next_firing", flat=True).first()


def _settlement(job: Job, now: datetime, *, enabled: bool) -> Settlement | None:
    try:
        settlement = Settlement(job, schedule.first_after(job.schedule, job.timezone, now))
        since = job.settled_through
        if since is None or not enabled:
            return settlement
        recent = schedule.last_between(job.schedule, job.timezone, since, now, max(job.misfire_max, 1) + 1)
        count = schedule.count_between(job.schedule, job.timezone, since, now)
    except Invalid as error:
        log.error("job %s does not fire: %s", job.name, error)
        return Settlement(job, None)
    if recent and now - recent[-1] <= timedelta(seconds=ON_TIME_SECONDS):
        settlement.on_time = recent.pop()
        count -= 1
    settlement.missed = count
    if job.start_deadline_seconds is not None:
        oldest = now - timedelta(seconds=job.start_deadline_seconds)
        in_time = [firing for firing in recent if firing >= oldest]
    else:
        in_time = recent
    if job.misfire == Misfire.ALL:
        settlement.caught_up = in_time[-job.misfire_max :]
    elif job.misfire == Misfire.ONCE and settlement.on_time is None:
        settlement.caught_up = in_time[-1:]
    if recent and not settlement.caught_up and settlement.on_time is None:
        settlement.skipped = recent[-1]
    return settlement


def _carry_out(settlements: list[Settlement], now: datetime) -> None:
    """Insert the runs and move the jobs on, in one transaction."""
    with transaction.atomic():
        current = Job.objects.in_bulk([each.job.pk for each in settlements])
        # A job that was edited or deleted since it was read is left to the next wake.
        settlements = [each for each in settlements if _basis(current.get(each.job.pk)) == _basis(each.job)]
        for settlement in settlements:
            _insert_runs(settlement, now)
            settlement.job.settled_through, settlement.job.next_firing = now, settlement.next_firing
        Job.objects.bulk_update([each.job for each in settlements], ["settled_through", "next_firing"])


def _basis(job: Job | None) -> tuple[object, ...] | None:
    return (job.schedule, job.timezone, job.settled_through) if job else None


def _insert_runs(settlement: Settlement, now: datetime) -> None:
    job, missed = settlement.job, settlement.missed
    wanted = [*settlement.caught_up, *([settlement.on_time] if settlement.on_time else [])]
    if settlement.skipped:
        wanted.append(settlement.skipped)
    taken = set(JobRun.objects.filter(job=job, scheduled_for__in=wanted).values_list("scheduled_for", flat=True))
    note = f"{_count(missed)} missed" if missed else ""
    if settlement.skipped and settlement.skipped not in taken:
        _insert(job, settlement.skipped, now, Trigger.SCHEDULE, State.SKIPPED, f"{note}; {_why_none(job)}")
    for firing in settlement.caught_up:
        if firing not in taken:
            _insert(job, firing, now, Trigger.CATCH_UP, State.QUEUED, note)
    if settlement.on_time and settlement.on_time not in taken:
        refusal = runs.make_room(job, now, by="the next firing")
        state = State.SKIPPED if refusal else State.QUEUED
        _insert(job, settlement.on_time, now, Trigger.SCHEDULE, state, refusal or note)


def _insert(job: Job, firing: datetime, now: datetime, trigger: str, state: str, note: str) -> None:
    JobRun.objects.create(
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
    number = f"more than {schedule.COUNT_AT_MOST - 1}" if missed >= schedule.COUNT_AT_MOST - 1 else str(missed)
    return f"{number} firing{'s' if missed != 1 else ''}"


def _why_none(job: Job) -> str:
    return "past the start deadline" if job.misfire != Misfire.SKIP else "the job skips what it missed"


def _forgive_clock(now: datetime) -> None:
    """After the clock was set back, jobs go on from now; a firing that has a run is not repeated."""
    ahead = Job.objects.filter(settled_through__gt=now + timedelta(seconds=CLOCK_SLACK_SECONDS))
    if not ahead.exists():
        return
    moved = []
    for job in ahead:
        log.warning("the clock was set back: job %s was settled through %s", job.name, job.settled_through)
        job.settled_through, job.next_firing = now, schedule.first_after(job.schedule, job.timezone, now)
        moved.append(job)
    with transaction.atomic():
        Job.objects.bulk_update(moved, ["settled_through", "next_firing"])
