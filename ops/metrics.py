"""`/metrics` for Prometheus: every number is read from the database when it is asked for.

So both web processes say the same, nothing is lost with a process, and no request costs a write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Min, Sum
from django.http import HttpRequest, HttpResponse
from ninja import Router
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

import broker.queries
from broker.models import IssuedToken, TokenAudit
from core.database.backend import is_postgres
from core.text import as_number
from core.timestamps import parse, utc_now
from events.services import newest_id
from jobs.models import Alert, Daemon, Delivery, Job, JobRun, JobState, Node, NodeKind, State
from ops.checks import state
from tasks.costs.models import TOKENS, DailySpend
from tasks.costs.spent import current
from tasks.models import OVER, Task
from webhooks.models import Subscription

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
        yield from _nodes()
        yield from _jobs(now)
        yield from _runs(now)
        yield from _tasks(now)
        yield from _costs()
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
    pending = Alert.objects.filter(state=Delivery.PENDING).count()
    yield _gauge("lobwife_alerts_pending", "Alerts that are still to be delivered.", pending)


def _nodes() -> Iterator[Metric]:
    """The processes that share the database, where it has a server."""
    if not is_postgres():
        return
    counts = dict.fromkeys(NodeKind.values, 0) | Counter(node.kind for node in state.nodes() if node.is_alive)
    alive = GaugeMetricFamily("lobwife_nodes", "Processes that give signs of life, by kind.", labels=["kind"])
    yield _labelled(alive, counts)
    leaders = Node.objects.alive().filter(leads=True).count()
    yield _gauge("lobwife_leaders", "Daemons that lead: 1 when all is well.", leaders)
    term = Daemon.objects.values_list("term", flat=True).first()
    yield CounterMetricFamily("lobwife_leader_terms", "How often a daemon began to lead.", term or 0)
    newest = newest_id()
    lag = GaugeMetricFamily("lobwife_events_behind", "Events that a follower has not looked at.", labels=["follower"])
    cursors = Subscription.objects.filter(is_enabled=True, paused_at=None).values_list("cursor", flat=True)
    yield _labelled(lag, {"webhooks": max((newest - cursor for cursor in cursors), default=0)})


def _jobs(now: datetime) -> Iterator[Metric]:
    states = {row.name: row for row in JobState.objects.defer("last_output")}
    jobs = [(job, states.get(job.name) or JobState(name=job.name)) for job in Job.objects.order_by("id")]

    def gauge(name: str, help_text: str, value: Callable[[Job, JobState], float | None]) -> Metric:
        samples = {job.name: value(job, job_state) for job, job_state in jobs}
        return _labelled(GaugeMetricFamily(f"lobwife_job_{name}", help_text, labels=["job"]), samples)

    def counter(name: str, help_text: str, value: Callable[[JobState], object]) -> Metric:
        samples = {job.name: as_number(value(job_state)) or 0 for job, job_state in jobs}
        return _labelled(CounterMetricFamily(f"lobwife_job_{name}", help_text, labels=["job"]), samples)

    def overdue(job: Job, job_state: JobState) -> float:
        is_expected = job.next_firing is not None and job_state.enabled
        return max(0.0, (now - job.next_firing).total_seconds()) if job.next_firing and is_expected else 0.0

    def last_start(job: Job, job_state: JobState) -> float | None:
        started = parse(job_state.last_run)
        return started.timestamp() if started else None

    yield counter("runs", "Runs of the job that were started.", lambda job_state: job_state.run_count)
    yield counter("failures", "Runs of the job that failed.", lambda job_state: job_state.fail_count)
    last_duration = "Of the last run that ended."
    yield gauge("last_duration_seconds", last_duration, lambda job, job_state: as_number(job_state.last_duration))
    yield gauge("last_start_timestamp_seconds", "Of the last run.", last_start)
    yield gauge("enabled", "Whether its schedule counts.", lambda job, job_state: bool(job_state.enabled))
    yield gauge("failing", "Whether its last runs failed.", lambda job, job_state: job.failures_in_row > 0)
    yield gauge("overdue_seconds", "Since a firing that was not dealt with.", overdue)


def _runs(now: datetime) -> Iterator[Metric]:
    counts = JobRun.objects.order_by().values_list("job__name", "state").annotate(count=Count("pk"))
    family = GaugeMetricFamily("lobwife_runs", "Runs in the history, by job and state.", labels=["job", "state"])
    yield _labelled(family, {(name, run_state): count for name, run_state, count in counts})
    oldest = JobRun.objects.filter(state=State.QUEUED, not_before=None).aggregate(at=Min("queued_at"))["at"]
    yield _gauge("lobwife_queue_oldest_seconds", "How long the longest waiting run waits.", _age(oldest, now) or 0)


def _tasks(now: datetime) -> Iterator[Metric]:
    rows = list(Task.objects.order_by().values_list("status").annotate(count=Count("pk"), first=Min("pk")))
    count = GaugeMetricFamily("lobwife_tasks", "Tasks, by status.", labels=["status"])
    yield _labelled(count, {status: tasks for status, tasks, _ in rows})
    oldest = {status: first for status, _, first in rows if status not in OVER}
    times = dict(Task.objects.filter(pk__in=oldest.values()).values_list("pk", "created_at"))
    age = GaugeMetricFamily("lobwife_tasks_oldest_age_seconds", "Of the oldest of those not over.", labels=["status"])
    yield _labelled(age, {status: _age(parse(times.get(first)), now) for status, first in oldest.items()})


def _costs() -> Iterator[Metric]:
    labels = ("type", "repo", "model")
    sums = {name: Sum(name) for name in ("cost_usd", "unpriced", *TOKENS)}
    spent = list(DailySpend.objects.order_by().values(*labels).annotate(**{f"sum_{n}": s for n, s in sums.items()}))
    keys = [tuple(row[name] for name in labels) for row in spent]
    cost = CounterMetricFamily("lobwife_cost_usd", "What models cost, by reports of agents.", labels=labels)
    yield _labelled(cost, {key: float(row["sum_cost_usd"]) for key, row in zip(keys, spent, strict=True)})
    used = CounterMetricFamily("lobwife_model_tokens", "Tokens of models that were used.", labels=[*labels, "kind"])
    samples = {
        (*key, name.removesuffix("_tokens")): row[f"sum_{name}"]
        for key, row in zip(keys, spent, strict=True)
        for name in TOKENS
    }
    yield _labelled(used, samples)
    unpriced = sum(row["sum_unpriced"] for row in spent)
    yield _gauge("lobwife_costs_unpriced", "Reports of costs that have no price.", unpriced)
    yield _gauge("lobwife_budgets_spent", "Budgets that are spent now.", current().count())


def _tokens(now: datetime) -> Iterator[Metric]:
    summary = broker.queries.summary()
    yield _gauge("lobwife_broker_enabled", "Whether a GitHub App is configured.", summary["enabled"])
    issued = summary["total_tokens_issued"]
    yield CounterMetricFamily("lobwife_tokens_issued", "Tokens that tasks got.", issued)
    yield _gauge("lobwife_registrations_active", "Tasks that may have tokens.", summary["active_tasks"])
    since = now - timedelta(hours=1)
    newest = TokenAudit.objects.order_by("-pk").values_list("outcome", "created_at", "repeats")[:_AUDIT_ENTRIES]
    outcomes: Counter[str] = Counter()
    for outcome, at, repeats in newest:
        if outcome and (parse(at) or since) > since:
            outcomes[outcome] += 1 + (repeats or 0)
    help_text = "Outcomes of requests for tokens, in the audit's newest 5,000 entries."
    recent = GaugeMetricFamily("lobwife_token_outcomes_last_hour", help_text, labels=["outcome"])
    yield _labelled(recent, {name: outcomes[name] for name in ("issued", "cached", "refused", "failed", "revoked")})
    stored = GaugeMetricFamily("lobwife_tokens", "Tokens that are remembered, by state.", labels=["state"])
    by_state = IssuedToken.objects.order_by().values_list("state").annotate(count=Count("pk"))
    yield _labelled(stored, dict(by_state))


def _github(now: datetime) -> Iterator[Metric]:
    row = state.github().row
    yield _gauge("lobwife_github_rate_left", "Calls that GitHub still allows.", row.rate_left)
    blocked = (row.blocked_until - now).total_seconds() if row.blocked_until else 0
    yield _gauge("lobwife_github_blocked_seconds", "How long GitHub said to wait.", max(0.0, blocked))
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


def _gauge(name: str, help_text: str, value: float | None) -> Metric:
    """Return a gauge, without a sample when the value is not known."""
    family = GaugeMetricFamily(name, help_text)
    if value is not None:
        family.add_metric([], float(value))
    return family


def _labelled(
    family: GaugeMetricFamily | CounterMetricFamily, samples: Mapping[Any, float | None]
) -> GaugeMetricFamily | CounterMetricFamily:
    """Add a sample for each label, or tuple of labels, whose value is known."""
    for labels, value in samples.items():
        if value is not None:
            family.add_metric(labels if isinstance(labels, tuple) else (labels,), value)
    return family


def _age(moment: datetime | None, now: datetime) -> float | None:
    return max(0.0, (now - moment).total_seconds()) if moment is not None else None
