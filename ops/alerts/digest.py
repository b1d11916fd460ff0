"""The daily digest: one message with what is not well, and what happened since a day ago."""

from __future__ import annotations

import zoneinfo
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count

from jobs.alerts import kinds, rules
from jobs.models import FAILURES, AlertKind, AlertSchedule, JobRun, RaisedAlert, State
from ops import queries
from ops.problems import Problems

_DAY = timedelta(days=1)
_MOST_NAMED = 10


def send_when_due(problems: Problems, now: datetime) -> bool:
    """Send the digest once after its hour; return whether it was sent."""
    schedule = AlertSchedule.load()
    due = _due_at(schedule, now)
    if due is None or now < due or (schedule.digest_sent_at is not None and schedule.digest_sent_at >= due):
        return False
    title, body = text(problems, now)
    with transaction.atomic():
        AlertSchedule.objects.filter(pk=AlertSchedule.PK).update(digest_sent_at=now)
        rules.alert(kinds.load()[AlertKind.DIGEST], title, body, now, link=rules.address("/admin/"))
    return True


def text(problems: Problems, now: datetime) -> tuple[str, str]:
    """Return title and body of the digest."""
    number = len(problems.open)
    title = f"Daily digest: {number} problem{'' if number == 1 else 's'}" if number else "Daily digest: all is well"
    since = now - _DAY
    raised = RaisedAlert.objects.filter(raised_at__gte=since)
    lines = [f"- {finding.sentence}" for finding in problems.open[:_MOST_NAMED]]
    if number > _MOST_NAMED:
        lines.append(f"- and {number - _MOST_NAMED} more")
    if problems.waiting:
        lines.append(f"{len(problems.waiting)} more are acknowledged or snoozed.")
    runs = dict(JobRun.objects.filter(queued_at__gte=since).order_by().values_list("state").annotate(count=Count("pk")))
    tasks = queries.tasks_since(since)
    failed = sum(runs.get(state, 0) for state in FAILURES)
    lines += [
        "The last 24 hours:",
        f"- runs: {runs.get(State.SUCCESS, 0)} succeeded, {failed} failed",
        f"- tasks: {tasks.get('created', 0)} created, {tasks.get('completed', 0)} completed,"
        f" {tasks.get('failed', 0)} failed",
        f"- alerts raised: {raised.count()}, of which {raised.filter(resolved_at__isnull=False).count()} are over",
    ]
    return title, "\n".join(lines)


def _due_at(schedule: AlertSchedule, now: datetime) -> datetime | None:
    """Return the moment of today's digest; None where none is wanted."""
    if schedule.digest_at is None:
        return None
    zone = zoneinfo.ZoneInfo(schedule.timezone)
    return datetime.combine(now.astimezone(zone).date(), schedule.digest_at, zone)
