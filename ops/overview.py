"""The overview: problems first, then the figures, then the jobs on one time axis; a bounded number of cheap queries."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count
from django.db.utils import DatabaseError
from django.urls import reverse

from core.display import duration
from core.errors import Invalid
from core.timestamps import parse, utc_now
from jobs.models import FAILURES, Job, JobRun, JobState
from jobs.queries import hold, with_summary
from jobs.scheduling import cron
from ops import charts, page_frame, problems, queries, trends
from ops.checks import bad, state, worst
from tasks.models import Status, Task

PAST, AHEAD = timedelta(hours=12), timedelta(hours=6)
ROWS = 20
_LATE_AFTER = timedelta(minutes=2)
_MOST_RUNS, _MANY_BLOCKS = 6000, 200
_HOUR = 3600


@dataclass(frozen=True)
class JobRow:
    """A job, what it does now, and its runs and firings on the time axis."""

    job: Any  # a Job with what jobs.queries.with_summary() adds
    rank: str  # failing, running, late, or nothing
    active_run: int | None
    active_state: str
    blocks: Sequence[charts.Block]
    firings: charts.Ticks


@dataclass(frozen=True)
class JobFacts:
    """What decides which jobs come first: the active run of each, the disabled ones, the newest run of all."""

    active: dict[int, tuple[int, str]]
    off: frozenset[str]
    newest_run: int | None
    hold: str

    @classmethod
    def load(cls) -> JobFacts:
        active = JobRun.objects.active().values_list("job_id", "id", "state")
        return cls(
            {job: (run, run_state) for job, run, run_state in active},
            frozenset(JobState.objects.filter(enabled=False).values_list("name", flat=True)),
            JobRun.objects.order_by("-id").values_list("id", flat=True).first(),
            hold(),
        )

    def digest(self, now: datetime) -> str:
        """Return what changes when there is something new to show; times are written anew each minute."""
        about = (sorted(self.active.items()), sorted(self.off), self.newest_run, self.hold, now.strftime("%H:%M"))
        return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Tile:
    """A figure with its last day as a line; `url` leads to what it counts."""

    label: str
    value: str
    note: str
    url: str
    spark: charts.Spark | None = None
    level: str = ""


@dataclass(frozen=True)
class Since:
    """What was done since somebody was last here."""

    moment: datetime
    runs: int
    failed: int
    failing_jobs: list[tuple[str, int]]
    completed: int
    tasks_failed: int
    created: int


def context() -> dict[str, Any]:
    """Return the whole page. A database in trouble is a finding, not an error."""
    now = utc_now()
    return {**live(now), **jobs(now)}


def live(now: datetime) -> dict[str, Any]:
    """Return the part that refreshes every few seconds: problems and figures."""
    try:
        facts = problems.Facts()
        listed = problems.load(now, facts)
        page_frame.remember(listed.open)
        values: dict[str, Any] = {"findings": listed.open, "waiting": listed.waiting, "tiles": _tiles(now, facts.vault)}
        values |= {"facts": facts, "database_bytes": state.database_bytes(), "wal_bytes": state.wal_bytes()}
    except DatabaseError as error:
        values = {"findings": [bad("database", f"The database can't be read: {error}")], "waiting": []}
    return {**values, "worst": worst(values["findings"])}


def jobs(now: datetime) -> dict[str, Any]:
    """Return the jobs that matter most, with the time axis."""
    try:
        fleet = JobFacts.load()
        rows, count = _job_rows(fleet, now)
        values = {"jobs": rows, "more_jobs": count - len(rows), "hold": fleet.hold, "seen": fleet.digest(now)}
        return {
            **values,
            "axis": charts.axis(now, PAST, AHEAD),
            "has_no_tasks": not Task.objects.exists(),
            "least": charts.LEAST_BLOCK,
        }
    except DatabaseError:
        return {"jobs": None}


def since(moment: datetime) -> Since | None:
    """Sum up what happened since; None when there was nothing."""
    states = JobRun.objects.filter(queued_at__gte=moment).order_by().values_list("state", "job__name")
    counts: dict[str, int] = defaultdict(int)
    failing: dict[str, int] = defaultdict(int)
    for run_state, name, count in states.annotate(count=Count("pk")):
        counts[run_state] += count
        if run_state in FAILURES:
            failing[name] += count
    reached = queries.tasks_since(moment)
    failed = sum(failing.values())
    worst_first = sorted(failing.items(), key=lambda item: -item[1])
    summary = Since(
        moment,
        sum(counts.values()),
        failed,
        worst_first[:5],
        reached.get("completed", 0),
        reached.get("failed", 0),
        reached.get("created", 0),
    )
    return summary if summary.runs or summary.completed or summary.tasks_failed or summary.created else None


# --- figures
def _tiles(now: datetime, vault: state.Vault) -> list[Tile]:
    day = trends.Span.until(now, seconds=_HOUR, count=24)
    tasks, runs, tokens = trends.tasks(day), trends.runs(day), trends.tokens(day)
    counts = dict(Task.objects.order_by().values_list("status").annotate(count=Count("pk")))
    listed = reverse("admin:tasks_task_changelist")
    oldest = Task.objects.filter(status=Status.QUEUED).order_by("id").first()
    waited = parse(oldest.queued_at) if oldest else None
    agents = tasks.agents[-1]
    failed, ended = sum(runs.failed), sum(runs.failed) + sum(runs.succeeded)
    rate = f"{100 * failed / ended:.0f} %" if ended else "–"
    charts_page = reverse("admin:charts")
    return [
        Tile(
            "Queued",
            str(counts.get(Status.QUEUED, 0)),
            f"the oldest waits {duration((now - waited).total_seconds() // 60 * 60)}" if waited else "nobody waits",
            f"{listed}?status=queued",
            charts.spark(tasks.queued, "tasks in the queue"),
        ),
        Tile(
            "Active",
            str(counts.get(Status.ACTIVE, 0)),
            f"{agents} agent{'' if agents == 1 else 's'} this hour",
            reverse("admin:fleet"),
            charts.spark(tasks.agents, "agents at work"),
        ),
        Tile(
            "Done this hour",
            str(tasks.completed[-1]),
            f"{sum(tasks.completed)} in 24 h, {sum(tasks.failed)} failed",
            f"{listed}?status=completed",
            charts.spark(tasks.completed, "tasks completed in an hour"),
        ),
        Tile(
            "Failed runs",
            rate,
            f"{failed} of {ended} in 24 h",
            f"{reverse('admin:jobs_jobrun_changelist')}?range=24h&state=failures",
            charts.spark(runs.failed, "runs that failed in an hour"),
            "bad" if ended and failed / ended > 0.2 else "",
        ),
        Tile(
            "Tokens this hour",
            str(tokens[-1]),
            f"{sum(tokens)} in 24 h",
            f"{charts_page}#tokens",
            charts.spark(tokens, "tokens in an hour"),
        ),
        _vault_tile(now, vault),
    ]


def _vault_tile(now: datetime, vault: state.Vault) -> Tile:
    url = reverse("admin:vaultsync_vaultstate_changelist")
    if not vault.status["enabled"]:
        return Tile("Vault", "off", "no repository to mirror to", url)
    pending, ahead = vault.status["pending_events"], vault.row.ahead
    last = vault.row.last_sync_at
    note = f"synced {duration((now - last).total_seconds() // 1)} ago" if last else "not synced yet"
    commits = f", {ahead} commit{'' if ahead == 1 else 's'} to push" if ahead else ""
    return Tile(
        "Vault, behind",
        f"{pending} event{'' if pending == 1 else 's'}",
        note + commits,
        url,
        None,
        "warn" if pending > 100 else "",
    )


# --- jobs
def _job_rows(fleet: JobFacts, now: datetime) -> tuple[list[JobRow], int]:
    """Return failing, running and late jobs, then those that fire next; and how many jobs there are."""
    active, failing, is_held = fleet.active, queries.failing_jobs(), bool(fleet.hold)
    ranked = []
    for pk, name, next_firing, late_since in Job.objects.values_list("id", "name", "next_firing", "late_since"):
        enabled = name not in fleet.off
        is_late = enabled and (late_since or (not is_held and next_firing and now - next_firing > _LATE_AFTER))
        rank = "failing" if pk in failing else "running" if pk in active else "late" if is_late else ""
        order = ("failing", "running", "late", "").index(rank)
        ranked.append((order, not enabled, next_firing.timestamp() if next_firing else 1e12, pk, rank))
    ranked.sort()
    ranks = {pk: rank for *_, pk, rank in ranked[:ROWS]}
    by_id = {job.pk: job for job in with_summary(Job.objects.filter(pk__in=ranks))}
    runs = _runs_of(list(ranks), now)
    drawn = _blocks(by_id, runs, now, coarse=False)
    if sum(map(len, drawn.values())) > _MANY_BLOCKS:  # nobody could tell so many links apart
        drawn = _blocks(by_id, runs, now, coarse=True)
    rows = [
        JobRow(
            by_id[pk],
            rank,
            active[pk][0] if pk in active else None,
            active[pk][1] if pk in active else "",
            drawn[pk],
            charts.ticks(_firings(by_id[pk], now), now, PAST, AHEAD),
        )
        for pk, rank in ranks.items()
        if pk in by_id
    ]
    return rows, len(ranked)


def _blocks(
    jobs: Mapping[int, Any], runs: Mapping[int, list[charts.PastRun]], now: datetime, *, coarse: bool
) -> dict[int, list[charts.Block]]:
    return {
        pk: charts.blocks(runs.get(pk, ()), now, PAST, AHEAD, _url_of_runs(job.name), coarse=coarse)
        for pk, job in jobs.items()
    }


def _runs_of(jobs: Sequence[int], now: datetime) -> Mapping[int, list[charts.PastRun]]:
    begin = now - PAST
    fields = ("job_id", "id", "state", "queued_at", "started_at", "ended_at", "exit_code")
    rows = JobRun.objects.filter(job_id__in=jobs, queued_at__gte=begin).order_by("-queued_at")
    runs: dict[int, list[charts.PastRun]] = defaultdict(list)
    for job_id, pk, run_state, queued, started, ended, code in rows.values_list(*fields)[:_MOST_RUNS]:
        runs[job_id].append(charts.PastRun(pk, run_state, started or queued, ended or now, code))
    return runs


def _url_of_runs(name: str) -> str:
    return f"{reverse('admin:jobs_jobrun_changelist')}?{urlencode({'job': name})}"


def _firings(job: Any, now: datetime) -> list[datetime]:
    """Return the job's firings of the next hours; none of one that is disabled, or whose schedule can't be read."""
    minute = now.replace(second=0, microsecond=0)
    if not job.is_enabled:
        return []
    try:
        ahead = cron.firings_between(job.schedule, job.timezone, minute, minute + AHEAD)
    except Invalid:
        return []
    return [moment for moment in ahead if moment > now]
