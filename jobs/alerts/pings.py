"""Calls to a job's outside watchdog: asked for in the transaction of a start or an end, made by the daemon's loop."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import httpx2
from django.db import transaction

from core.timestamps import utc_now
from jobs.models import FAILURES, Job, JobRun, Ping, PingEvent, State

TIMEOUT_SECONDS = 5.0
GIVE_UP_AFTER = timedelta(hours=1)
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=5)
_SUFFIX = {PingEvent.START: "/start", PingEvent.SUCCESS: "", PingEvent.FAIL: "/fail"}
log = logging.getLogger(__name__)


def on_start(run: JobRun, now: datetime) -> None:
    """Within the transaction that records the start."""
    _ask(run.job, PingEvent.START, now)


def on_end(run: JobRun, state: str, now: datetime) -> None:
    """Within the transaction that records the end; what was skipped says nothing."""
    if state == State.SUCCESS:
        _ask(run.job, PingEvent.SUCCESS, now)
    elif state in (*FAILURES, State.ABORTED):
        _ask(run.job, PingEvent.FAIL, now)


def _ask(job: Job, event: PingEvent, now: datetime) -> None:
    if job.ping_url:
        Ping.objects.create(job=job, event=event, created_at=now, next_attempt_at=now)


class PingSender:
    """Makes the calls, one at a time, in the order of each job's events."""

    def tick(self) -> bool:
        """Make the oldest call that is due; true when there may be another."""
        now = utc_now()
        # What failed and waits lets none of its job pass, not even one that came later: a start must not arrive after
        # its end. One that waits for longer than any does is from before the clock was set back.
        held_up = Ping.objects.filter(next_attempt_at__gt=now, next_attempt_at__lte=now + _LONGEST_WAIT).values("job")
        due = Ping.objects.select_related("job").filter(next_attempt_at__lte=now).exclude(job__in=held_up)
        ping = due.order_by("id").first()
        if ping is None:
            return False
        if _call(ping) or now - ping.created_at > GIVE_UP_AFTER:
            with transaction.atomic():
                ping.delete()
            return True
        wait = min(_FIRST_WAIT * 2 ** min(ping.attempts, 10), _LONGEST_WAIT)
        with transaction.atomic():
            Ping.objects.filter(pk=ping.pk).update(next_attempt_at=now + wait, attempts=ping.attempts + 1)
        return True


def _call(ping: Ping) -> bool:
    """Send a ping; returns True when nothing more is to be done for it."""
    url = ping.job.ping_url
    if not url:
        return True
    try:
        answer = httpx2.post(url.rstrip("/") + _SUFFIX[PingEvent(ping.event)], timeout=TIMEOUT_SECONDS)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:  # its text may hold the URL
        log.warning("the watchdog of job %s was not reached: %s", ping.job.name, type(error).__name__)
        return False
    if answer.is_success:
        return True
    log.warning("the watchdog of job %s answered %s", ping.job.name, answer.status_code)
    return 400 <= answer.status_code < 500 and answer.status_code != 429
