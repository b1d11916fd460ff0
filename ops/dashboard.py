"""The dashboard: is everything all right, and if not, what isn't; each panel in a constant number of cheap queries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count
from django.db.utils import DatabaseError
from django.urls import reverse

from broker.models import Outcome
from broker.registrations import ACTIVE
from core.errors import Invalid
from core.timestamps import parse, utc_now
from jobs.models import ACTIVE as ACTIVE_STATES
from jobs.models import FAILURES, Job, JobRun, JobState, State
from jobs.queries import hold
from jobs.scheduling import cron
from ops import charts, queries
from ops.checks import Finding, Severity, bad, fleet, state, worst
from tasks.models import Status, Task, TaskEvent

DAYS = 14
TIMELINE_HOURS = 6
_RECENT = 12
_MOST_ACTIVE = 500


@dataclass(frozen=True)
class JobRow:
    """A job with its newest runs and its next firing."""

    job: Job
    state: JobState
    url: str
    strip: charts.Chart
    failures: int  # in a row, the newest run being the last
    active_run: int | None
    active_state: str
    last_state: str | None  # of the newest run that is over
    next: datetime | None


@dataclass(frozen=True)
class Lane:
    """The firings of a job on the timeline, as percent of its length."""

    name: str
    places: list[float]


@dataclass(frozen=True)
class Timeline:
    """The firings of the next hours; `crowded` are the moments at which several jobs fire."""

    rows: list[Lane]
    crowded: list[float]
    most_at_once: int
    hours: list[tuple[float, datetime]]


@dataclass(frozen=True)
class TasksPanel:
    """Tasks by status, two weeks of their history, and the ones that wait or work longest."""

    counts: list[tuple[str, int]]
    chart: charts.Chart
    oldest_queued: Task | None
    longest_active: Task | None

    @property
    def total(self) -> int:
        return sum(count for _, count in self.counts)


@dataclass(frozen=True)
class BrokerPanel:
    """Today's requests to the broker by outcome, and GitHub's state."""

    github: state.GitHub
    outcomes: dict[str, int]
    registered: int

    @property
    def served(self) -> int:
        return self.outcomes.get(Outcome.ISSUED, 0) + self.outcomes.get(Outcome.CACHED, 0)

    @property
    def cached_percent(self) -> int | None:
        return round(100 * self.outcomes.get(Outcome.CACHED, 0) / self.served) if self.served else None

    @property
    def refused(self) -> int:
        return self.outcomes.get(Outcome.REFUSED, 0)

    @property
    def failed(self) -> int:
        return self.outcomes.get(Outcome.FAILED, 0)


def context() -> dict[str, Any]:
    """Return everything the dashboard's template needs. A database in trouble is a finding, not an error."""
    now = utc_now()
    try:
        panels = _panels(now)
        findings = [finding for finding in _findings(panels, now) if finding.severity is not Severity.GOOD]
    except DatabaseError as error:
        panels, findings = {}, [bad("database", f"The database can't be read: {error}")]
    return {**panels, "findings": findings, "worst": worst(findings), "now": now}


def _panels(now: datetime) -> dict[str, Any]:
    rows = _job_rows()
    return {
        "daemon": state.daemon(),
        "hold": hold(),
        "jobs": rows,
        "timeline": _timeline(rows, now),
        "alerts": state.alerts(),
        "tasks": _tasks(now),
        "broker": _broker(now),
        "vault": state.vault(),
        "copies": state.copies(),
        "database_bytes": state.database_bytes(),
        "wal_bytes": state.wal_bytes(),
        "runs": list(JobRun.objects.select_related("job").order_by("-id")[:_RECENT]),
        "events": list(TaskEvent.objects.select_related("task").order_by("-id")[:_RECENT]),
    }


def _findings(panels: dict[str, Any], now: datetime) -> Iterator[Finding]:
    yield from fleet.daemon(panels["daemon"])
    yield from fleet.jobs((row.job, row.failures) for row in panels["jobs"] if row.state.enabled)
    yield from fleet.alerts(panels["alerts"])
    yield from fleet.tasks(now)
    yield from fleet.github(panels["broker"].github)
    yield from fleet.tokens(panels["broker"].outcomes)
    yield from fleet.vault(panels["vault"])
    yield from fleet.copies(panels["copies"])


def _job_rows() -> list[JobRow]:
    states = {state.name: state for state in JobState.objects.defer("last_output")}
    active = {job: (run, state) for job, run, state in JobRun.objects.active().values_list("job_id", "id", "state")}
    bars: dict[int, list[charts.Run]] = defaultdict(list)
    for job_id, pk, run_state, seconds, queued_at in queries.newest_runs(charts.STRIP_RUNS):
        bars[job_id].append(charts.as_bar(pk, run_state, seconds, queued_at))
    return [
        _job_row(job, states.get(job.name) or JobState(name=job.name), bars[job.pk], active.get(job.pk, (None, "")))
        for job in Job.objects.all()
    ]


def _job_row(job: Job, job_state: JobState, runs: Sequence[charts.Run], active: tuple[int | None, str]) -> JobRow:
    over = [run_state for run_state, *_ in runs if run_state not in ACTIVE_STATES]
    return JobRow(
        job=job,
        state=job_state,
        url=reverse("admin:jobs_job_change", args=[job.pk]),
        strip=charts.run_strip(runs),
        failures=_failures_in_a_row(runs),
        active_run=active[0],
        active_state=active[1],
        last_state=over[-1] if over else job_state.last_status,
        next=job.next_firing if job_state.enabled else None,
    )


def _failures_in_a_row(runs: Sequence[charts.Run]) -> int:
    """Return how many of the newest runs failed; an aborted one neither counts nor ends the row."""
    count = 0
    for run_state, *_ in reversed(runs):
        if run_state in FAILURES:
            count += 1
        elif run_state == State.SUCCESS:
            break
    return count


def _timeline(rows: list[JobRow], now: datetime) -> Timeline:
    end = now + timedelta(hours=TIMELINE_HOURS)
    firings = {
        row.job.name: moments for row in rows if row.state.enabled and (moments := _firings(row.job, now)) is not None
    }
    together = Counter(moment for moments in firings.values() for moment in moments)
    crowded = sorted(moment for moment, count in together.items() if count > 1)
    hours = [now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=n + 1) for n in range(TIMELINE_HOURS)]
    return Timeline(
        rows=[Lane(name, charts.timeline(moments, now, end)) for name, moments in firings.items()],
        crowded=charts.timeline(crowded, now, end),
        most_at_once=max(together.values(), default=0),
        hours=list(zip(charts.timeline(hours, now, end), hours, strict=True)),
    )


def _firings(job: Job, now: datetime) -> list[datetime] | None:
    """Return the job's firings of the next hours; None for a schedule that can't be read."""
    minute = now.replace(second=0, microsecond=0)
    try:
        ahead = cron.firings_between(job.schedule, job.timezone, minute, minute + timedelta(hours=TIMELINE_HOURS))
    except Invalid:
        return None
    return [moment for moment in ahead if moment > now]


def _tasks(now: datetime) -> TasksPanel:
    counts = dict(Task.objects.order_by().values_list("status").annotate(count=Count("pk")))
    active = Task.objects.filter(status=Status.ACTIVE, assigned_at__isnull=False)[:_MOST_ACTIVE]
    return TasksPanel(
        counts=[(status, counts.get(status, 0)) for status in Status.values],
        chart=charts.day_columns(queries.days(now, DAYS), queries.KINDS),
        oldest_queued=Task.objects.filter(status=Status.QUEUED).order_by("id").first(),
        longest_active=min(active, key=lambda task: parse(task.assigned_at) or now, default=None),
    )


def _broker(now: datetime) -> BrokerPanel:
    registered = Task.objects.filter(broker_status=ACTIVE).count()
    return BrokerPanel(state.github(), queries.token_outcomes(now), registered)
