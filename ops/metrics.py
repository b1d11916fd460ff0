"""`/metrics` for Prometheus: every number is read from the database when it is asked for.

So both web processes say the same, nothing is lost with a process, and no request costs a write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from ninja import Router
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

import broker.queries
from broker.models import IssuedToken, TokenAudit
from core.text import as_number
from core.timestamps import parse, utc_now
from jobs.models import Alert, Delivery, Job, JobRun, JobState, State
from ops.checks import state
from tasks.models import OVER, Task

router = Router(tags=["health"])
_AUDIT_ENTRIES = 5000


@router.get("/metrics", include_in_schema=False)
def metrics(request: HttpRequest) -> HttpResponse:
    """Everything that is measured, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class Figures(Collector):
    """One moment's figures, in a number of queries that does not grow with the data."""

    def describe(self) -> list[Metric]:
        """Nothing before it is asked for: describing would read the database once more."""
        return []

    def collect(self) -> Iterator[Metric]:
        now = utc_now()
        yield InfoMetricFamily("lobwife", "The version that answers.", {"version": settings.VERSION})
        yield from _daemon()
        yield from _jobs(now)
        yield from _runs(now)
        yield from _tasks(now)
        yield from _tokens(now)
        yield from _github(now)
        yield from _sync(now)
        yield from _storage(now)


def _daemon() -> Iterator[Metric]:
    daemon = state.daemon()
    age = daemon.age.total_seconds() if daemon.age is not None else None
    yield _gauge("lobwife_daemon_up", "Whether the daemon's heartbeat is fresh.", daemon.is_alive)
    yield _gauge("lobwife_daemon_heartbeat_age_seconds", "Since its last sign of life.", age)
    yield _gauge("lobwife_daemon_trouble", "Whether it says that it can't do something.", bool(daemon.trouble))
    yield _gauge("lobwife_daemon_paused", "Whether starts of scripts are paused.", daemon.paused_at is not None)
    waiting = Alert.objects.filter(state=Delivery.PENDING).count()
    yield _gauge("lobwife_alerts_pending", "Alerts that are still to be delivered.", waiting)


def _jobs(now: datetime) -> Iterator[Metric]:
    names = ["job"]
    runs = CounterMetricFamily("lobwife_job_runs", "Runs of the job that were started.", labels=names)
    failures = CounterMetricFamily("lobwife_job_failures", "Runs of the job that failed.", labels=names)
    duration = GaugeMetricFamily("lobwife_job_last_duration_seconds", "Of the last run that ended.", labels=names)
    started = GaugeMetricFamily("lobwife_job_last_start_timestamp_seconds", "Of the last run.", labels=names)
    enabled = GaugeMetricFamily("lobwife_job_enabled", "Whether its schedule counts.", labels=names)
    failing = GaugeMetricFamily("lobwife_job_failing", "Whether its last runs failed.", labels=names)
    overdue = GaugeMetricFamily("lobwife_job_overdue_seconds", "Since a firing that was not dealt with.", labels=names)
    states = {row.name: row for row in JobState.objects.defer("last_output")}
    for job in Job.objects.order_by("id"):
        job_state = states.get(job.name) or JobState(name=job.name)
        label = [job.name]
        runs.add_metric(label, as_number(job_state.run_count) or 0)
        failures.add_metric(label, as_number(job_state.fail_count) or 0)
        enabled.add_metric(label, bool(job_state.enabled))
        failing.add_metric(label, job.failures_in_row > 0)
        late = (now - job.next_firing).total_seconds() if job.next_firing and job_state.enabled else 0
        overdue.add_metric(label, max(0.0, late))
        last_duration, last_start = as_number(job_state.last_duration), parse(job_state.last_run)
        if last_duration is not None:
            duration.add_metric(label, last_duration)
        if last_start is not None:
            started.add_metric(label, last_start.timestamp())
    yield from (runs, failures, duration, started, enabled, failing, overdue)


def _runs(now: datetime) -> Iterator[Metric]:
    kept = GaugeMetricFamily("lobwife_runs", "Runs in the history, by job and state.", labels=["job", "state"])
    names = dict(Job.objects.values_list("pk", "name"))
    counted = JobRun.objects.order_by().values_list("job_id", "state").annotate(count=Count("pk"))
    for job, run_state, count in counted:
        if job in names:
            kept.add_metric([names[job], run_state], count)
    yield kept
    oldest = JobRun.objects.filter(state=State.QUEUED, not_before=None).aggregate(at=Min("queued_at"))["at"]
    yield _gauge("lobwife_queue_oldest_seconds", "How long the longest waiting run waits.", _age(oldest, now) or 0)


def _tasks(now: datetime) -> Iterator[Metric]:
    count = GaugeMetricFamily("lobwife_tasks", "Tasks, by status.", labels=["status"])
    age = GaugeMetricFamily("lobwife_tasks_oldest_age_seconds", "Of the oldest of those not over.", labels=["status"])
    first: dict[str, int] = {}
    rows = Task.objects.order_by().values_list("status").annotate(count=Count("pk"), first=Min("pk"))
    for status, tasks, oldest in rows:
        count.add_metric([status], tasks)
        if status not in OVER:
            first[status] = oldest
    times = dict(Task.objects.filter(pk__in=first.values()).values_list("pk", "created_at"))
    for status, oldest in first.items():
        created = _age(parse(times.get(oldest)), now)
        if created is not None:
            age.add_metric([status], created)
    yield from (count, age)


def _tokens(now: datetime) -> Iterator[Metric]:
    summary = broker.queries.summary()
    yield _gauge("lobwife_broker_enabled", "Whether a GitHub App is configured.", summary["enabled"])
    yield CounterMetricFamily(
        "lobwife_tokens_issued", "Tokens that were given to tasks.", summary["total_tokens_issued"]
    )
    yield _gauge("lobwife_registrations_active", "Tasks that may have tokens.", summary["active_tasks"])
    recent = GaugeMetricFamily(
        "lobwife_token_outcomes_last_hour",
        "What came of asking, in the audit's newest 5,000 entries.",
        labels=["outcome"],
    )
    since = now - timedelta(hours=1)
    newest = TokenAudit.objects.order_by("-pk").values_list("outcome", "created_at")[:_AUDIT_ENTRIES]
    outcomes = Counter(outcome for outcome, at in newest if outcome and (parse(at) or since) > since)
    for outcome in ("issued", "cached", "refused", "failed", "revoked"):
        recent.add_metric([outcome], outcomes[outcome])
    yield recent
    out = GaugeMetricFamily("lobwife_tokens", "Tokens that are remembered, by state.", labels=["state"])
    for token_state, count in IssuedToken.objects.order_by().values_list("state").annotate(count=Count("pk")):
        out.add_metric([token_state], count)
    yield out


def _github(now: datetime) -> Iterator[Metric]:
    row = state.github().row
    yield _gauge("lobwife_github_rate_left", "Calls that GitHub still allows.", row.rate_left)
    blocked = (row.blocked_until - now).total_seconds() if row.blocked_until else 0
    yield _gauge("lobwife_github_blocked_seconds", "How long GitHub told to wait.", max(0.0, blocked))
    yield _gauge("lobwife_github_last_error_age_seconds", "Since its last error.", _age(row.last_error_at, now))
    yield _gauge("lobwife_github_clock_skew_seconds", "How far GitHub's clock is ahead.", row.clock_skew)


def _sync(now: datetime) -> Iterator[Metric]:
    vault = state.vault()
    status, row = vault.status, vault.row
    yield _gauge("lobwife_sync_enabled", "Whether tasks are mirrored into a vault.", status["enabled"])
    if not status["enabled"]:
        return
    yield _gauge("lobwife_sync_up", "Whether the sync loop gives signs of life.", status["running"])
    yield _gauge("lobwife_sync_age_seconds", "Since the last sync.", _age(row.last_sync_at, now))
    yield _gauge("lobwife_sync_pending_events", "Task events that no commit has yet.", status["pending_events"])
    yield _gauge("lobwife_sync_commits_ahead", "Commits that the remote does not have.", row.ahead)
    yield _gauge("lobwife_sync_failures", "Syncs that failed in a row.", row.failures)
    yield _gauge("lobwife_sync_remote_failures", "Tries at the remote that failed in a row.", row.remote_failures)
    yield _gauge("lobwife_sync_problems", "Notes that people should look at.", status["problems"])


def _storage(now: datetime) -> Iterator[Metric]:
    copies = state.copies()
    test = copies.test
    yield _gauge("lobwife_database_bytes", "Size of the database.", state.database_bytes())
    yield _gauge("lobwife_wal_bytes", "Size of its WAL.", state.wal_bytes())
    yield _gauge("lobwife_backup_age_seconds", "Of the newest kept copy.", _age(copies.newest_at, now))
    yield _gauge("lobwife_backup_copies", "Kept copies.", len(copies.kept))
    yield _gauge("lobwife_backup_bytes", "Size of the kept copies.", copies.bytes)
    yield _gauge("lobwife_backup_trial_passed", "Whether the last restore test passed.", test.passed if test else None)
    age = _age(test.tested_at if test else None, now)
    yield _gauge("lobwife_backup_trial_age_seconds", "Since the last restore test.", age)


def _gauge(name: str, help_text: str, value: float | None) -> GaugeMetricFamily:
    """Without a sample when the value is not known."""
    family = GaugeMetricFamily(name, help_text)
    if value is not None:
        family.add_metric([], float(value))
    return family


def _age(moment: datetime | None, now: datetime) -> float | None:
    return max(0.0, (now - moment).total_seconds()) if moment is not None else None
