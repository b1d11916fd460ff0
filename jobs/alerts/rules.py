"""Rules for alerts and pings: transitions of jobs, in the transaction that makes them, and never the same one twice.

An alert is a row for each destination, a ping a row for each call of a job's watchdog; delivery.py sends both. The
functions here that are named `on_…` are called within the transaction of the change that they judge.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from core.display import duration
from core.timestamps import seconds_text, utc_now
from jobs import secret_fields
from jobs.alerts import kinds
from jobs.models import (
    FAILURES,
    Alert,
    AlertKind,
    AlertSetting,
    Daemon,
    Delivery,
    Job,
    JobRun,
    Ping,
    PingEvent,
    State,
    Trigger,
)
from tasks.costs.models import SpentBudget, dollars


def on_start(run: JobRun, now: datetime) -> None:
    """Judge a run that started: late, or in time again."""
    _ping(run.job, PingEvent.START, now)
    limit = run.job.late_after_seconds
    if limit is None:
        return
    late = _lateness(run, now)
    if late > timedelta(seconds=limit):
        _raise_late(run, late, now, "started")
    else:
        Job.objects.filter(pk=run.job_id, late_since__isnull=False).update(late_since=None)


def on_end(run: JobRun, state: str, how: str, seconds: float | None, now: datetime) -> None:
    """Judge a run that ended: it may be the failure too many, the recovery, or the one that took too long."""
    if state != State.SKIPPED:
        _ping(run.job, PingEvent.SUCCESS if state == State.SUCCESS else PingEvent.FAIL, now)
    if state in FAILURES:
        Job.objects.filter(pk=run.job_id).update(failures_in_row=F("failures_in_row") + 1)
        _raise_failing(run, state, how, now)
    elif state == State.SUCCESS:
        failed = Job.objects.filter(pk=run.job_id).values_list("failing_since", flat=True).first()
        Job.objects.filter(pk=run.job_id, failures_in_row__gt=0).update(failures_in_row=0, failing_since=None)
        if failed:
            body = f"Run {run.pk} succeeded. The job had been failing since {seconds_text(failed)} UTC."
            _alert(run.job, AlertKind.RECOVERED, f"{run.job.name} works again", body, now, run)
    limit = run.job.long_after_seconds
    if limit is not None and seconds is not None:
        if seconds > limit:
            _raise_long(run, f"took {seconds:.0f} s", now)
        else:
            Job.objects.filter(pk=run.job_id, long_since__isnull=False).update(long_since=None)


def on_daemon_start(now: datetime) -> None:
    """Alert when no daemon was there for a while."""
    daemon = Daemon.load()
    if daemon.beat_at is None:
        return
    gap = (now - daemon.beat_at).total_seconds()
    if gap <= settings.DAEMON_DOWN_SECONDS:
        return
    how = "had not been stopped in order" if daemon.pid else "had been stopped"
    body = (
        f"The daemon {how}; its last sign of life was at {seconds_text(daemon.beat_at)} UTC. It runs again since "
        f"{seconds_text(now)} UTC. Firings missed meanwhile follow each job's policy."
    )
    _alert(None, AlertKind.DAEMON_DOWN, f"The daemon was down for {duration(gap)}", body, now, None)


def on_task_failed(task_id: int, how: str) -> None:
    """Alert about a task whose holders died: it failed, and nobody tries it again."""
    _alert(None, AlertKind.TASK_FAILED, f"Task T{task_id} failed", f"{how}.", utc_now(), None)


class Watch:
    """Alerts about what is late or too long while it still is, and about budgets that are spent, for the daemon."""

    def tick(self) -> bool:
        """One look at the active runs and the budgets; never asks for another at once."""
        now = utc_now()
        _raise_spent(now)
        runs = JobRun.objects.active().select_related("job")
        watched = runs.filter(
            Q(state=State.QUEUED, job__late_after_seconds__isnull=False, job__late_since__isnull=True)
            | Q(state=State.RUNNING, job__long_after_seconds__isnull=False, job__long_since__isnull=True)
        )
        for run in watched:
            if run.state == State.QUEUED:
                self._check_queued(run, now)
            else:
                self._check_running(run, now)
        return False

    def _check_queued(self, run: JobRun, now: datetime) -> None:
        late = _lateness(run, now)
        paused = Daemon.load().paused_at is not None
        if not paused and late > timedelta(seconds=run.job.late_after_seconds or 0):
            with transaction.atomic():
                if JobRun.objects.filter(pk=run.pk, state=State.QUEUED).exists():
                    _raise_late(run, late, now, "still waits")

    def _check_running(self, run: JobRun, now: datetime) -> None:
        took = (now - (run.started_at or now)).total_seconds()
        if took > (run.job.long_after_seconds or 0):
            with transaction.atomic():
                if JobRun.objects.filter(pk=run.pk, state=State.RUNNING).exists():
                    _raise_long(run, f"has taken {took:.0f} s and goes on", now)


def destinations(job: Job | None, kind: kinds.CurrentKind | None = None) -> list[str]:
    """Return the URLs for alerts of a job, and of a kind that may have its own; without a job, of the service."""
    everybody = (kind.urls if kind else []) or settings.ALERT_URLS
    urls = [*everybody, *(secret_fields.split(job.alert_urls) if job else [])]
    return list(dict.fromkeys(urls))


def every_destination() -> dict[str, str]:
    """Return all URLs that are configured anywhere, by their fingerprints."""
    texts = [*Job.objects.exclude(alert_urls="").values_list("alert_urls", flat=True)]
    texts += AlertSetting.objects.exclude(urls="").values_list("urls", flat=True)
    urls = [*settings.ALERT_URLS, *(url for text in texts for url in secret_fields.split(text))]
    return {secret_fields.fingerprint(url): url for url in urls}


def _raise_failing(run: JobRun, state: str, how: str, now: datetime) -> None:
    turned = Job.objects.filter(
        pk=run.job_id, failing_since__isnull=True, failures_in_row__gte=run.job.alert_after_failures
    ).update(failing_since=now)
    if turned:
        count = run.job.alert_after_failures
        times = f", the {count} latest runs in a row" if count > 1 else ""
        body = f"Run {run.pk} ended: {state}{f' ({how})' if how else ''}{times}.\nmanage.py logs {run.pk}"
        _alert(run.job, AlertKind.FAILING, f"{run.job.name} fails", body, now, run)


def _raise_late(run: JobRun, late: timedelta, now: datetime, how: str) -> None:
    if Job.objects.filter(pk=run.job_id, late_since__isnull=True).update(late_since=now):
        body = f"Run {run.pk} {how} {duration(late.total_seconds())} after it was due."
        _alert(run.job, AlertKind.LATE, f"{run.job.name} is late", body, now, run)


def _raise_long(run: JobRun, how: str, now: datetime) -> None:
    if Job.objects.filter(pk=run.job_id, long_since__isnull=True).update(long_since=now):
        body = f"Run {run.pk} {how}; the job's limit for an alert is {run.job.long_after_seconds} s."
        _alert(run.job, AlertKind.LONG, f"{run.job.name} takes too long", body, now, run)


def _raise_spent(now: datetime) -> None:
    for spent in SpentBudget.objects.filter(alerted_at__isnull=True).select_related("budget"):
        until = f" Until {spent.until}, or until you raise it" if spent.until else " Until you raise it"
        body = f"{dollars(spent.spent_usd)} were spent.{until}, its tasks are not handed out and get no tokens."
        with transaction.atomic():
            if SpentBudget.objects.filter(pk=spent.pk, alerted_at__isnull=True).update(alerted_at=now):
                _alert(None, AlertKind.BUDGET, f"T{spent.sentence[1:]}", body, now, None)


def _alert(job: Job | None, name: AlertKind, title: str, body: str, now: datetime, run: JobRun | None) -> None:
    alert(kinds.load()[name], title, body, now, link=link_to(run), job=job, run=run)


def alert(
    kind: kinds.CurrentKind,
    title: str,
    body: str,
    now: datetime,
    *,
    link: str = "",
    job: Job | None = None,
    run: JobRun | None = None,
    is_over: bool = False,
) -> None:
    """Queue a message for each recipient, within the transaction of what it is about."""
    snoozed_until = job.alerts_snoozed_until if job else None
    is_snoozed = snoozed_until is not None and snoozed_until > now
    silence = f"snoozed until {seconds_text(snoozed_until)} UTC" if is_snoozed else kind.silence(now)
    Alert.objects.bulk_create(
        Alert(
            kind=kind.kind.name,
            severity=kind.severity,
            is_over=is_over or kind.kind.name == AlertKind.RECOVERED,
            job_name=job.name if job else "",
            run=run,
            title=title,
            body=f"{body}\n{link}" if link else body,
            destination=secret_fields.mask(url),
            fingerprint=secret_fields.fingerprint(url),
            state=Delivery.SNOOZED if silence else Delivery.PENDING,
            error=silence,
            created_at=now,
            next_attempt_at=now,
        )
        for url in destinations(job, kind)
    )


def link_to(run: JobRun | None) -> str:
    """Return the address of a run's page, or of all alerts; empty where LOBWIFE_PUBLIC_URL is not set."""
    page = f"jobrun/{run.pk}/change/" if run else "alert/"
    return address(f"/admin/jobs/{page}")


def address(path: str) -> str:
    """Return the address of a page; empty where LOBWIFE_PUBLIC_URL is not set."""
    return f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL and path else ""


def _ping(job: Job, event: PingEvent, now: datetime) -> None:
    if job.ping_url:
        Ping.objects.create(job=job, event=event, created_at=now, next_attempt_at=now)


def _lateness(run: JobRun, now: datetime) -> timedelta:
    """Return how long after it was due. What the daemon missed while down or paused is due when it is caught up."""
    due = run.scheduled_for
    if due is None or run.trigger == Trigger.CATCH_UP:
        due = run.queued_at
    return now - max(due, run.not_before or due)
