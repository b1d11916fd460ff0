"""Checks of the running fleet: daemon, GitHub, the vault, copies for dashboard and doctor; jobs, tasks, tokens too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.urls import reverse

from core.sqlite.restore_test import EVERY
from core.timestamps import parse, utc_now
from ops.checks import Finding, bad, good, warn
from ops.checks.state import Alerts, Copies, DaemonState, FailingJob, GitHub, Vault
from tasks import overdue

_MOST_NAMED = 8


def daemon(state: DaemonState) -> Iterator[Finding]:
    """Check its heartbeat, and what it says that it can't do."""
    if not state.is_alive and state.obstacle:
        yield bad("daemon", "The daemon can't write its sign of life.", state.obstacle, since=state.beat_at)
    elif not state.is_alive:
        problem = "has not given a sign of life" if state.pid else "is not running"
        remedy = "Start it with “make run” or “manage.py daemon”; daemon.log in the state directory says why it ended."
        yield bad("daemon", f"The daemon {problem}: no script starts.", remedy, since=state.beat_at)
    elif state.reported:
        yield bad("daemon", state.reported, "daemon.log in the state directory has the reason.")
    elif state.version and state.version != settings.VERSION:
        yield warn(
            "daemon", f"The daemon runs version {state.version}.", f"Restart it: the code is {settings.VERSION}."
        )
    else:
        yield good("daemon", f"The daemon is alive, pid {state.pid}.")
    if state.paused_at:
        by = state.paused_by or "a caller over REST"
        sentence = f"Starts are paused by {by}; `manage.py resume` ends that."
        yield warn("daemon", sentence, key="paused", since=state.paused_at)


def jobs(failing: Iterable[FailingJob]) -> Iterator[Finding]:
    """Check for enabled jobs that fail."""
    for each in failing:
        times = "failed" if each.count == 1 else f"failed {each.count} times in a row"
        yield bad(
            "jobs",
            f"Job {each.name} {times}.",
            url=reverse("admin:jobs_jobrun_change", args=[each.run_id]) if each.run_id else _page_of_job(each.pk),
            key=f"job {each.name}",
            since=each.since,
            reason=each.reason,
            act=("Run again", reverse("admin:jobs_job_run", args=[each.pk])),
        )


def alerts(state: Alerts) -> Iterator[Finding]:
    """Check that alerts have somewhere to go, and arrive there."""
    url = reverse("admin:jobs_alert_changelist")
    for job in state.nowhere[:_MOST_NAMED]:
        remedy = "Set LOBWIFE_ALERT_URLS, or the job's own alert URLs."
        yield warn("alerts", f"Alerts of job {job.name} go nowhere.", remedy, _page_of_job(job.pk))
    if state.unsent:
        oldest, newest = state.unsent[0], state.unsent[-1]
        subject = "1 alert" if len(state.unsent) == 1 else f"{len(state.unsent)} alerts"
        since = f"{oldest.created_at:%Y-%m-%d %H:%M} UTC"
        sentence = f"{subject} could not be sent since {since}, to {newest.destination}: {newest.error}."
        remedy = "Check the destination; they are tried again."
        yield bad("alerts", sentence, remedy, f"{url}?state=pending", key="alerts unsent", since=oldest.created_at)
    if state.dropped:
        subject = (
            "1 alert of the last day was" if state.dropped == 1 else f"{state.dropped} alerts of the last day were"
        )
        yield warn("alerts", f"{subject} sent to nobody: the destination is no longer configured.", url=url)
    if state.has_destination:
        yield good("alerts", "Alerts have a destination.")
    elif not state.nowhere:
        yield good("alerts", "Nobody is told when a job fails: LOBWIFE_ALERT_URLS names no destination.")


def tasks(now: datetime) -> Iterator[Finding]:
    """Check for tasks that are active or queued for too long."""
    url = reverse("admin:tasks_task_changelist")
    active, queued = overdue.active_too_long(now), overdue.queued_too_long(now)
    for task in active[:_MOST_NAMED]:
        yield warn(
            "tasks",
            f"{task} is active too long.",
            url=reverse("admin:tasks_task_change", args=[task.pk]),
            key=f"task {task.pk} active",
            since=parse(task.assigned_at),
            act=("Take away", f"{reverse('admin:fleet_move', args=[task.pk])}?verb=requeue"),
        )
    if len(active) > _MOST_NAMED:
        sentence = f"{len(active) - _MOST_NAMED} more tasks are active too long."
        yield warn("tasks", sentence, url=f"{url}?attention=active")
    if queued:
        subject = f"{len(queued)} tasks wait" if len(queued) > 1 else f"{queued[0]} waits"
        sentence = f"{subject} for longer than an hour."
        since = parse(queued[0].queued_at)
        yield warn("tasks", sentence, url=f"{url}?attention=queued", key="tasks queued", since=since)


def github(state: GitHub) -> Iterator[Finding]:
    """Check what GitHub last said to the broker."""
    row, url = state.row, reverse("admin:broker_githubstate_changelist")
    if row.blocked_until and row.blocked_until > utc_now():
        yield warn("broker", f"GitHub said to wait until {row.blocked_until:%H:%M} UTC with tokens.", url=url)
    elif state.problem is None and state.failed_last:
        yield warn(
            "broker",
            f"GitHub gave no token when it was last asked: {row.last_error}",
            url=url,
            key="github",
            since=row.last_error_at,
        )


def tokens(outcomes: Mapping[str, int]) -> Iterator[Finding]:
    """Check for requests for tokens that got none today."""
    url = reverse("admin:broker_tokenaudit_changelist")
    for outcome, one, many in (("failed", "failed", "failed"), ("refused", "was refused", "were refused")):
        count = outcomes.get(outcome, 0)
        if count:
            subject = f"1 request for a token {one}" if count == 1 else f"{count} requests for tokens {many}"
            yield warn("broker", f"{subject} today.", url=f"{url}?outcome={outcome}", key=f"tokens {outcome} {count}")


def vault(state: Vault) -> Iterator[Finding]:
    """Check the sync with the vault and with its remote."""
    status, row, url = state.status, state.row, reverse("admin:vaultsync_vaultstate_changelist")
    if not status["enabled"]:
        if status.get("reason"):
            sentence = f"The vault is not synced: {status['reason']}"
            yield bad("vault", sentence, "docs/vault.md says how it is mended.", url)
        return
    if row.failures:
        sentence = f"The vault could not be synced: {row.last_error}"
        yield bad("vault", sentence, url=url, key="vault sync", since=row.last_error_at)
    if row.remote_failures:
        remedy = "See that the remote can be reached and may be written; commits wait here meanwhile."
        yield warn("vault", f"The vault could not be pushed: {row.remote_error}", remedy, url, key="vault push")
    if status["problems"]:
        subject = (
            "1 file of the vault needs" if status["problems"] == 1 else f"{status['problems']} files of the vault need"
        )
        yield warn("vault", f"{subject} a look.", url=url)
    synced = f"synced last at {status['last_sync']} UTC" if status["last_sync"] else "not synced yet"
    yield good("vault", f"The vault is {synced}, {status['pending_events']} events to go.")


def copies(state: Copies) -> Iterator[Finding]:
    """Check that the newest copy of the database is young and that a restore of one was tested."""
    count = len(state.kept)
    if state.is_late:
        remedy = "See that the daemon runs; daemon.log says why none was made."
        sentence = "The last copy of the database is older than three hours."
        yield warn("copies", sentence, remedy, since=state.newest_at)
    elif count:
        size = f"{state.bytes / 10**6:.1f} MB"
        yield good("copies", f"{count} copies are kept, {size} together, the newest of {state.newest_at:%H:%M} UTC.")
    test = state.test
    if test is None:
        return
    if not test.passed:
        remedy = "Run `manage.py backup` now, and check the disk."
        yield bad("restore test", f"{test.copy} can't be restored: {test.result}", remedy)
    elif utc_now() - test.tested_at > 2 * EVERY:
        yield warn("restore test", f"No copy was tested since {test.tested_at:%Y-%m-%d}.", "See that the daemon runs.")
    else:
        yield good("restore test", f"{test.copy} was restored on {test.tested_at:%Y-%m-%d}: {test.result}")


def _page_of_job(pk: int) -> str:
    return reverse("admin:jobs_job_change", args=[pk])


def clock(state: DaemonState) -> Iterator[Finding]:
    """Check that the last sign of life is not in the future."""
    if state.age is not None and state.age < -timedelta(seconds=30):
        sentence = f"The daemon's last sign of life is {-state.age.total_seconds():.0f} s in the future."
        yield bad("clock", sentence, "Set this machine's clock, by NTP, then restart the daemon.")
    else:
        yield good("clock", f"{utc_now():%Y-%m-%d %H:%M:%S} UTC")
