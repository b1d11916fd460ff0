"""Reads of jobs and runs for callers, in a constant number of queries."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from core.errors import Invalid
from core.timestamps import iso_text, utc_now
from jobs import services
from jobs.execution import queue_reasons
from jobs.models import ACTIVE, Daemon, Job, JobRun, JobState, Node, State
from jobs.scheduling import cron

RUNS_SHOWN, RUNS_MOST = 50, 500


def job_list() -> dict[str, dict[str, Any]]:
    """Return all jobs, keyed by name, in the order they were defined, as the contract's JOBS has them."""
    states = {state.name: state for state in JobState.objects.defer("last_output")}
    running = set(JobRun.objects.filter(_counts_as_running()).values_list("job_id", flat=True))
    now = utc_now()
    jobs = Job.objects.order_by("id")
    return {job.name: _summary(job, states.get(job.name) or JobState(name=job.name), running, now) for job in jobs}


def job_detail(name: str) -> dict[str, Any]:
    """Return one job with its script and last output; raises NotFound."""
    job = services.get_job(name)
    state = JobState.objects.filter(name=name).first() or JobState(name=name)
    running = set(JobRun.objects.filter(_counts_as_running(), job=job).values_list("job_id", flat=True))
    return {
        "name": job.name,
        **_summary(job, state, running, utc_now()),
        "script": job.script,
        "concurrency": job.concurrency,
        "last_output": state.last_output,
    }


def with_summary(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Annotate what lists say of jobs: `is_enabled`, `last_…` of the newest run that ran, and `active_state`.

    The last status is that of the newest run that ran: `job_state` has fewer words, and alone knows of older ones. A
    job without a row there is enabled.
    """
    state = JobState.objects.filter(name=OuterRef("name"))
    runs = JobRun.objects.filter(job=OuterRef("pk"))
    newest = runs.exclude(state__in=[*ACTIVE, State.SKIPPED]).order_by("-id")
    return jobs.annotate(
        is_enabled=Coalesce(Subquery(state.values("enabled")[:1]), Value(True)),
        last_status=Coalesce(Subquery(newest.values("state")[:1]), Subquery(state.values("last_status")[:1])),
        last_run=Subquery(state.values("last_run")[:1]),
        last_note=Subquery(newest.values("note")[:1]),
        last_run_id=Subquery(newest.values("pk")[:1]),
        last_took=Subquery(newest.values("duration")[:1]),
        active_state=Subquery(runs.active().order_by("-state").values("state")[:1]),  # running before queued
    )


def hold() -> str:
    """Return what keeps every run from starting, `paused` or `daemon down`; empty when nothing does."""
    daemon = Daemon.load()
    if not daemon.is_alive(utc_now()):
        return "daemon down"
    return "paused" if daemon.paused_at else ""


def daemon_is_alive() -> bool:
    """Return True when the daemon's heartbeat is fresh."""
    return Daemon.load().is_alive(utc_now())


def is_served(run: JobRun) -> bool:
    """Return whether somebody is there who starts the run, or settles it: the daemon, or a runner for its label."""
    labels = Node.objects.alive().values_list("labels", flat=True)  # none where one machine does everything
    return daemon_is_alive() or any(run.label in served for served in labels)


def next_firings(job: Job, count: int) -> list[str]:
    """Return when the job fires next, in the contract's form."""
    return [str(moment) for moment in cron.firings_after(job.schedule, job.timezone, utc_now(), count)]


def run_list(
    *,
    job: str | None,
    state: str | None,
    before_id: int | None,
    limit: int,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[dict[str, Any]]:
    """Return runs, newest first; `since` and `until` are about when they were asked for."""
    runs = JobRun.objects.select_related("job").order_by("-id")
    if job is not None:
        runs = runs.filter(job__name=job)
    if state is not None:
        runs = runs.filter(state=state)
    if before_id is not None:
        runs = runs.filter(pk__lt=before_id)
    if since is not None:
        runs = runs.filter(queued_at__gte=since)
    if until is not None:
        runs = runs.filter(queued_at__lt=until)
    return runs_as_json(runs[: min(limit, RUNS_MOST)])


def runs_as_json(runs: Iterable[JobRun]) -> list[dict[str, Any]]:
    """Return runs as REST answers them; their jobs must have been fetched with them."""
    runs = list(runs)
    reasons = queue_reasons.for_runs(runs)
    return [_as_json(run, reasons.get(run.pk)) for run in runs]


def run_as_json(run: JobRun) -> dict[str, Any]:
    """Return one run as REST answers it."""
    return runs_as_json([run])[0]


def _as_json(run: JobRun, waits_for: str | None) -> dict[str, Any]:
    names = ("id", "state", "trigger", "requested_by", "attempt", "exit_code", "signal", "duration", "note")
    times = ("scheduled_for", "queued_at", "not_before", "started_at", "ended_at")
    return (
        {"job": run.job.name}
        | {name: getattr(run, name) for name in names}
        | {name: _iso(getattr(run, name)) for name in times}
        | {
            "retry_of": run.retry_of_id,
            "arguments": run.arguments,
            "output_bytes": run.output_bytes,
            "node": run.node,
            "abort_requested_by": run.abort_requested_by or None,
            "waits_for": waits_for,
        }
    )


def _counts_as_running() -> Q:
    return Q(state__in=ACTIVE) & (Q(not_before__isnull=True) | Q(not_before__lte=utc_now()))


def _summary(job: Job, state: JobState, running: set[int], now: datetime) -> dict[str, Any]:
    enabled = bool(state.enabled)
    return {
        "description": job.description,
        "schedule": job.schedule,
        "enabled": enabled,
        "running": job.pk in running,
        "last_run": state.last_run,
        "last_status": state.last_status,
        "last_duration": state.last_duration if isinstance(state.last_duration, int | float) else None,
        "run_count": state.run_count if isinstance(state.run_count, int) else None,
        "fail_count": state.fail_count if isinstance(state.fail_count, int) else None,
        "next_run": next_run(job, now) if enabled else None,
    }


def next_run(job: Job, now: datetime | None = None) -> str | None:
    """Return when the job's schedule fires next, enabled or not."""
    now = now or utc_now()
    moment = job.next_firing
    if moment is None or moment <= now:  # not seen by the daemon yet, or the daemon is down
        try:
            moment = cron.first_after(job.schedule, job.timezone, now)
        except Invalid:
            return None
    return str(moment) if moment else None


def _iso(moment: datetime | None) -> str | None:
    return iso_text(moment) if moment else None
