"""Checks of the fleet: daemon, GitHub, vault, copies for dashboard and doctor; jobs, tasks, questions, tokens too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F, Q
from django.urls import reverse
from django.utils.text import Truncator

from access.models import ApiKey
from broker.models import Outcome
from core.display import duration, size
from core.sqlite.restore_test import EVERY
from core.text import one_line
from core.timestamps import parse, utc_now
from jobs.models import AlertKind
from ops import queries
from ops.checks import Finding, bad, good, state, warn
from ops.checks.state import Alerts, Copies, DaemonState, FailingJob, GitHub, Vault
from tasks import overdue
from tasks.models import LeaseEnd, Question
from webhooks.models import Subscription

Limits = Mapping[AlertKind, int]  # of jobs.alerts.kinds.thresholds()
_MOST_NAMED = 8
_MOST_QUESTIONS = 20
_LONGEST_QUESTION = 160
_USUAL_COPY_HOURS = 3
_RECENTLY = timedelta(minutes=5)
_GONE_FOR = timedelta(hours=1)
_FAILS_FOR = timedelta(minutes=10)  # a shorter failure is a receiver that is started anew
_PAUSED_FIRST = F("paused_at").asc(nulls_last=True)
_NO_TOKEN = (Outcome.REFUSED, Outcome.FAILED)


def daemon(current: DaemonState) -> Iterator[Finding]:
    """Check its heartbeat, and what it says that it can't do."""
    if not current.is_alive and current.obstacle:
        yield bad("daemon", "The daemon can't write its sign of life.", current.obstacle, since=current.beat_at)
    elif not current.is_alive:
        problem, remedy = "is not running", "Start it with “make run” or “manage.py serve”."
        if current.pid:
            problem = "has not given a sign of life"
            remedy = (
                "Whatever started lobwife starts it again (make run, systemd, the container). If it stays away, restart"
                " that; daemon.log in the state directory says why it ended."
            )
        yield bad("daemon", f"The daemon {problem}: no script starts.", remedy, since=current.beat_at)
    elif current.reported:
        remedy = "daemon.log in the state directory has the reason."
        yield bad("daemon", current.reported, remedy, key="daemon trouble", kind=AlertKind.DAEMON_TROUBLE)
    elif current.version and current.version != settings.VERSION:
        yield warn(
            "daemon", f"The daemon runs version {current.version}.", f"Restart it: the code is {settings.VERSION}."
        )
    else:
        yield good("daemon", f"The daemon is alive, pid {current.pid}.")
    if current.paused_at:
        by = current.paused_by or "a caller over REST"
        sentence = f"Starts are paused by {by}; `manage.py resume` ends that."
        yield warn("daemon", sentence, key="paused", since=current.paused_at)


def nodes(current: Iterable[Any]) -> Iterator[Finding]:
    """Check the processes that share the database: that each lives, can do its work, and has this version."""
    for node in current:
        key = f"node {node.kind} {node.name}"
        if not node.is_alive and utc_now() - node.beat_at > _GONE_FOR:
            continue  # it was taken away, or another came in its place
        if not node.is_alive:
            remedy = "Whoever looks after it starts it again; if it was taken away, this ends within an hour."
            yield warn("nodes", f"The {node} has not given a sign of life.", remedy, key=key, since=node.beat_at)
        elif node.trouble and not node.leads:  # what the leader can't do is the daemon's finding
            yield bad("nodes", f"The {node} says: {node.trouble}", "Its log has the reason.", key=key)
        elif node.version != settings.VERSION:
            remedy = f"Restart it: the code is {settings.VERSION}."
            yield warn("nodes", f"The {node} runs version {node.version}.", remedy, key=f"{key} version")
        else:
            yield good("nodes", f"The {node} is alive{', and leads' if node.leads else ''}.")


def labels(current: Iterable[Any]) -> Iterator[Finding]:
    """Check that each label that enabled jobs run on is served by a node; on SQLite there are none to serve any."""
    alive = [node for node in current if node.is_alive]
    served = {label for node in alive for label in node.labels}
    for label, names in state.jobs_by_label().items() if alive else ():
        if label not in served:
            named = ", ".join(names[:_MOST_NAMED]) + (" …" if len(names) > _MOST_NAMED else "")
            remedy = f"Start one with “manage.py runner --labels {label}”, or let the jobs run on another label."
            yield warn("nodes", f"No runner serves {label}: runs of {named} wait.", remedy, key=f"label {label}")


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


def alerts(current: Alerts) -> Iterator[Finding]:
    """Check that alerts have somewhere to go, and arrive there."""
    url = reverse("admin:jobs_alert_changelist")
    for job in current.nowhere[:_MOST_NAMED]:
        remedy = "Set LOBWIFE_ALERT_URLS, or the job's own alert URLs."
        yield warn("alerts", f"Alerts of job {job.name} go nowhere.", remedy, _page_of_job(job.pk))
    if current.unsent:
        oldest, newest = current.unsent[0], current.unsent[-1]
        subject = "1 alert" if len(current.unsent) == 1 else f"{len(current.unsent)} alerts"
        since = f"{oldest.created_at:%Y-%m-%d %H:%M} UTC"
        sentence = f"{subject} could not be sent since {since}, to {newest.destination}: {newest.error}."
        remedy = "Check the destination; they are tried again."
        yield bad("alerts", sentence, remedy, f"{url}?state=pending", key="alerts unsent", since=oldest.created_at)
    if current.dropped:
        subject = (
            "1 alert of the last day was" if current.dropped == 1 else f"{current.dropped} alerts of the last day were"
        )
        yield warn("alerts", f"{subject} sent to nobody: the destination is no longer configured.", url=url)
    if current.has_destination:
        yield good("alerts", "Alerts have a destination.")
    elif not current.nowhere:
        yield good("alerts", "Nobody is told when a job fails: LOBWIFE_ALERT_URLS names no destination.")


def tasks(now: datetime, limits: Limits) -> Iterator[Finding]:
    """Check for tasks that are active or queued for too long, that agents fail on, and that lost their agents."""
    url = reverse("admin:tasks_task_changelist")
    active = overdue.active_too_long(now, limits[AlertKind.TASK_ACTIVE])
    queued = overdue.queued_too_long(now, limits[AlertKind.TASK_WAITING])
    for task in active[:_MOST_NAMED]:
        yield warn(
            "tasks",
            f"{task} is active too long.",
            url=_page_of_task(task.pk),
            key=f"task {task.pk} active",
            since=parse(task.assigned_at),
            act=("Take away", f"{reverse('admin:fleet_move', args=[task.pk])}?verb=requeue"),
            kind=AlertKind.TASK_ACTIVE,
        )
    if len(active) > _MOST_NAMED:
        sentence = f"{len(active) - _MOST_NAMED} more tasks are active too long."
        yield warn("tasks", sentence, url=f"{url}?attention=active")
    if queued:
        subject = f"{len(queued)} tasks wait" if len(queued) > 1 else f"{queued[0]} waits"
        minutes = limits[AlertKind.TASK_WAITING]
        time = "an hour" if minutes == overdue.QUEUED_MINUTES else duration(minutes * 60)
        yield warn(
            "tasks",
            f"{subject} for longer than {time}.",
            url=f"{url}?attention=queued",
            key="tasks queued",
            since=parse(queued[0].queued_at),
            kind=AlertKind.TASK_WAITING,
        )
    leases = state.failed_leases(now)
    for task, count in state.tasks_failed_again(leases, limits[AlertKind.TASK_RETRIED]):
        yield warn(
            "tasks",
            f"Agents failed {count} times within a day on {task}.",
            "Read its history before one more agent tries.",
            _page_of_task(task.pk),
            key=f"task {task.pk} failed again",
            kind=AlertKind.TASK_RETRIED,
        )
    since = now - timedelta(minutes=limits[AlertKind.LEASE_EXPIRED])
    expired = [each for each in leases if each.end == LeaseEnd.EXPIRED and each.ended_at and each.ended_at > since]
    if expired:
        newest, subject = expired[0], "1 lease" if len(expired) == 1 else f"{len(expired)} leases"
        yield warn(
            "leases",
            f"{subject} expired since {expired[-1].ended_at:%H:%M} UTC, the last one on T{newest.task_id}:"
            f" {newest.who} gave no sign of life.",
            "Look at the agent.",
            _page_of_task(newest.task_id),
            key="leases expired",
            since=newest.ended_at,
            kind=AlertKind.LEASE_EXPIRED,
        )


def questions() -> Iterator[Finding]:
    """Check for questions of agents that wait for an answer, the oldest first."""
    waiting = list(Question.objects.open().order_by("id")[: _MOST_QUESTIONS + 1])
    for each in waiting[:_MOST_QUESTIONS]:
        yield warn(
            "questions",
            f"T{each.task_id} asks: {Truncator(one_line(each.text)).chars(_LONGEST_QUESTION)}",
            url=reverse("admin:tasks_question_change", args=[each.pk]),
            key=f"question {each.pk}",
            since=each.asked_at,
            kind=AlertKind.QUESTION,
        )
    if len(waiting) > _MOST_QUESTIONS:
        yield warn(
            "questions",
            f"More than {_MOST_QUESTIONS} questions wait for an answer.",
            url=reverse("admin:tasks_question_changelist"),
            key="questions",
            kind=AlertKind.QUESTION,
        )


def github(current: GitHub, limits: Limits) -> Iterator[Finding]:
    """Check what GitHub last said to the broker."""
    row, url, now = current.row, reverse("admin:broker_githubstate_changelist"), utc_now()
    limit: dict[str, Any] = {"url": url, "key": "github limit", "kind": AlertKind.RATE_LIMIT}
    if row.blocked_until and row.blocked_until > now:
        yield warn("broker", f"GitHub said to wait until {row.blocked_until:%H:%M} UTC with tokens.", **limit)
    elif current.problem is None and current.failed_last:
        yield warn(
            "broker",
            f"GitHub gave no token when it was last asked: {row.last_error}",
            url=url,
            key="github",
            since=row.last_error_at,
            kind=AlertKind.GITHUB,
        )
    elif (
        row.rate_left is not None
        and row.rate_left < limits[AlertKind.RATE_LIMIT]
        and row.rate_reset_at is not None
        and row.rate_reset_at > now
    ):
        sentence = f"GitHub takes {row.rate_left} more calls until {row.rate_reset_at:%H:%M} UTC."
        yield warn("broker", sentence, **limit)


def tokens(outcomes: Mapping[str, int]) -> Iterator[Finding]:
    """Check for requests for tokens that got none today."""
    url = reverse("admin:broker_tokenaudit_changelist")
    for outcome, one, many in (("failed", "failed", "failed"), ("refused", "was refused", "were refused")):
        count = outcomes.get(outcome, 0)
        if count:
            subject = f"1 request for a token {one}" if count == 1 else f"{count} requests for tokens {many}"
            yield warn("broker", f"{subject} today.", url=f"{url}?outcome={outcome}", key=f"tokens {outcome} {count}")


def tokens_in_a_row(outcomes: Mapping[str, int], limits: Limits) -> Iterator[Finding]:
    """Check whether the newest requests for tokens all got none, by the outcomes of today."""
    count = max(1, limits[AlertKind.TOKENS_REFUSED])
    if sum(outcomes.get(outcome, 0) for outcome in _NO_TOKEN) < count:
        return
    newest = queries.newest_token_requests(count)
    if len(newest) == count and all(outcome in _NO_TOKEN for outcome, _ in newest):
        yield warn(
            "broker",
            f"The newest {count} requests for tokens got none.",
            url=reverse("admin:broker_tokenaudit_changelist"),
            key="tokens refused in a row",
            reason=newest[0][1],
            kind=AlertKind.TOKENS_REFUSED,
        )


def keys(now: datetime, limits: Limits) -> Iterator[Finding]:
    """Check for API keys in use that expire soon, or did since."""
    days = timedelta(days=limits[AlertKind.KEY_EXPIRES])
    used = ApiKey.objects.filter(revoked_at__isnull=True, last_used_at__isnull=False)
    for key in used.filter(expires_at__gt=now - days, expires_at__lt=now + days).order_by("expires_at")[:_MOST_NAMED]:
        verb = "expires" if key.expires_at and key.expires_at > now else "has expired"
        yield warn(
            "keys",
            f"API key {key.name} {verb} on {key.expires_at:%Y-%m-%d}.",
            "Create another for its program, then revoke this one.",
            reverse("admin:lobwife_apikey_changelist"),
            key=f"API key {key.pk} expires",
            kind=AlertKind.KEY_EXPIRES,
        )


def webhooks(now: datetime) -> Iterator[Finding]:
    """Check for webhooks whose receivers fail for a while, or failed until they were paused."""
    fails = Q(paused_at__isnull=False) | Q(failing_since__lt=now - _FAILS_FOR)
    for each in Subscription.objects.filter(fails, is_enabled=True).order_by(_PAUSED_FIRST)[:_MOST_NAMED]:
        url = reverse("admin:webhooks_subscription_change", args=[each.pk])
        if each.paused_at is None:
            yield warn(
                "webhooks",
                f"Webhook {each.name} is failing.",
                "Mend the receiver: it is tried again, and paused after three days.",
                url,
                key=f"webhook {each.pk} failing",
                since=each.failing_since,
                reason=each.note,
            )
            continue
        yield bad(
            "webhooks",
            f"Webhook {each.name} is paused.",
            "Mend the receiver, then resume it.",
            url,
            key=f"webhook {each.pk} paused",
            since=each.paused_at,
            reason=each.note,
            kind=AlertKind.WEBHOOK_PAUSED,
        )


def disk(limits: Limits) -> Iterator[Finding]:
    """Check for room where things are written."""
    for folder, free in state.free_bytes():
        sentence = f"{size(free)} are free at {folder}"
        if free < limits[AlertKind.DISK] * 2**20:
            remedy = "Make room: lower LOBWIFE_KEEP_OUTPUT_BYTES, or enlarge the disk."
            yield warn("disk", sentence, remedy, key=f"disk {folder}", kind=AlertKind.DISK)
        else:
            yield good("disk", sentence)


def vault(current: Vault, limits: Limits) -> Iterator[Finding]:
    """Check the sync with the vault and with its remote."""
    status, row, url = current.status, current.row, reverse("admin:vaultsync_vaultstate_changelist")
    blocked: dict[str, Any] = {"url": url, "key": "vault sync", "kind": AlertKind.VAULT}
    if not status["enabled"]:
        if status.get("reason"):
            sentence = f"The vault is not synced: {status['reason']}"
            yield bad("vault", sentence, "docs/vault.md says how it is mended.", **blocked)
        return
    if row.failures:
        sentence = f"The vault could not be synced: {row.last_error}"
        yield bad("vault", sentence, since=row.last_error_at, **blocked)
    if row.remote_failures:
        remedy = "See that the remote can be reached and may be written; commits wait here meanwhile."
        sentence = f"The vault could not be pushed: {row.remote_error}"
        yield warn("vault", sentence, remedy, url, key="vault push", kind=AlertKind.VAULT_BEHIND)
    elif status["pending_events"] > limits[AlertKind.VAULT_BEHIND] and not _is_recent(row.last_sync_at):
        sentence, remedy = f"The vault is {status['pending_events']} events behind.", "See that the daemon runs."
        yield warn("vault", sentence, remedy, url, key="vault behind", kind=AlertKind.VAULT_BEHIND)
    if status["problems"]:
        subject = (
            "1 file of the vault needs" if status["problems"] == 1 else f"{status['problems']} files of the vault need"
        )
        yield warn("vault", f"{subject} a look.", url=url)
    synced = f"was last synced at {status['last_sync']} UTC" if status["last_sync"] else "is not synced yet"
    pending = status["pending_events"] or 0
    yield good("vault", f"The vault {synced}, {pending} event{'' if pending == 1 else 's'} to go.")


def copies(current: Copies, limits: Limits) -> Iterator[Finding]:
    """Check that the newest copy of the database is young and that a restore of one was tested."""
    count, newest, hours = len(current.kept), current.newest_at, limits[AlertKind.COPY_OLD]
    if newest is not None and utc_now() - newest > timedelta(hours=hours):
        age = "three hours" if hours == _USUAL_COPY_HOURS else duration(hours * 3600)
        yield warn(
            "copies",
            f"The last copy of the database is older than {age}.",
            "See that the daemon runs; daemon.log says why none was made.",
            key="copy old",
            since=newest,
            kind=AlertKind.COPY_OLD,
        )
    elif count:
        size = f"{current.bytes / 10**6:.1f} MB"
        kept = "1 copy is kept, " if count == 1 else f"{count} copies are kept, "
        yield good("copies", f"{kept}{size}{'' if count == 1 else ' together'}, the newest of {newest:%H:%M} UTC.")
    test = current.test
    if test is None:
        return
    failed: dict[str, Any] = {"key": "restore test", "kind": AlertKind.RESTORE_TEST}
    if not test.passed:
        remedy = "Run `manage.py backup` now, and check the disk."
        yield bad("restore test", f"{test.copy} can't be restored: {test.result}", remedy, **failed)
    elif utc_now() - test.tested_at > 2 * EVERY:
        yield warn("restore test", f"No copy was tested since {test.tested_at:%Y-%m-%d}.", "See that the daemon runs.")
    else:
        yield good("restore test", f"{test.copy} was restored on {test.tested_at:%Y-%m-%d}: {test.result}")


def _is_recent(moment: datetime | None) -> bool:
    return moment is not None and utc_now() - moment < _RECENTLY


def _page_of_task(pk: int) -> str:
    return reverse("admin:tasks_task_change", args=[pk])


def _page_of_job(pk: int) -> str:
    return reverse("admin:jobs_job_change", args=[pk])


def clock(current: DaemonState) -> Iterator[Finding]:
    """Check that the last sign of life is not in the future."""
    if current.age is not None and current.age < -timedelta(seconds=30):
        sentence = f"The daemon's last sign of life is {-current.age.total_seconds():.0f} s in the future."
        yield bad("clock", sentence, "Set this machine's clock, by NTP, then restart the daemon.")
    else:
        yield good("clock", f"{utc_now():%Y-%m-%d %H:%M:%S} UTC")
