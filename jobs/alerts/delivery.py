"""Delivery of alerts and pings, tried again with growing pauses.

Alerts are sent by a short-lived process and never lost; a job's watchdog is called directly, for an hour at most.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import subprocess
import sys
from datetime import timedelta

import httpx2
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from core import processes
from core.timestamps import utc_now
from jobs.alerts import kinds, rules
from jobs.models import Alert, AlertSchedule, Delivery, Ping, PingEvent, Severity

_PROGRAM = str(pathlib.Path(__file__).parent / "sender.py")
_TIMEOUT_SECONDS = 60
_BATCH = 20
_ALERT_WAITS = 10, 3600  # seconds: after the first failure, and at most
_PING_WAITS = 5, 300
_PING_SECONDS = 5.0
_PING_GIVE_UP_AFTER = timedelta(hours=1)
_SUFFIX = {PingEvent.START: "/start", PingEvent.SUCCESS: "", PingEvent.FAIL: "/fail"}
_NOTIFY_TYPE = {
    Severity.CRITICAL: "failure",
    Severity.ERROR: "failure",
    Severity.WARNING: "warning",
    Severity.INFO: "info",
}
log = logging.getLogger(__name__)


class AlertSender:
    """Sends what is due. An alert is marked after it was sent: a crash between can send it twice, never lose it."""

    def tick(self) -> bool:
        """Send one batch of due alerts; return True when there may be more."""
        now = utc_now()
        # What waits for longer than any does is from before the clock was set back.
        is_due = Q(next_attempt_at__lte=now) | Q(next_attempt_at__gt=now + timedelta(seconds=_ALERT_WAITS[1]))
        waiting = Alert.objects.filter(is_due, state=Delivery.PENDING)
        if AlertSchedule.load().is_quiet(now):
            waiting = waiting.filter(Q(severity=Severity.CRITICAL) | Q(kind__in=kinds.AT_ONCE))
        due = list(waiting.order_by("id")[:_BATCH])
        if not due:
            return False
        configured = rules.every_destination()
        urls = {alert.pk: configured.get(alert.fingerprint, "") for alert in due}
        errors = _send([(alert, url) for alert in due if (url := urls[alert.pk])])
        for alert in due:
            if urls[alert.pk]:
                _record(alert, errors[alert.pk])
            else:
                _change(alert, state=Delivery.DROPPED, error="its destination is no longer configured")
        return len(due) == _BATCH


def _send(orders: list[tuple[Alert, str]]) -> dict[int, str]:
    """Return errors by alert, empty where it was sent. URLs go through a pipe: an argument is everyone's to read."""
    errors = {alert.pk: f"not sent within {_TIMEOUT_SECONDS} s" for alert, _ in orders}
    if not orders:
        return errors
    lines = [
        json.dumps(
            {
                "id": alert.pk,
                "url": url,
                "title": f"[{settings.ENVIRONMENT}] {alert.title}",
                "body": alert.body,
                "kind": "success" if alert.is_over else _NOTIFY_TYPE[Severity(alert.severity)],
            }
        )
        for alert, url in orders
    ]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError as error:
        return {alert.pk: f"the sender could not be started: {error.strerror}" for alert, _ in orders}
    with process:
        try:
            answers, _ = process.communicate("\n".join(lines) + "\n", timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            answers, _ = process.communicate()
    for answer in answers.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):  # cut off by a kill, or what a plugin printed
            result = json.loads(answer)
            errors[int(result["id"])] = str(result["error"])
    return errors


def _record(alert: Alert, error: str) -> None:
    if not error:
        log.info("alert %s (%s) was sent to %s", alert.pk, alert.title, alert.destination)
        _change(alert, state=Delivery.SENT, error="", sent_at=utc_now(), attempts=alert.attempts + 1)
        return
    wait = processes.backoff(alert.attempts, *_ALERT_WAITS)
    log.warning("alert %s was not sent to %s: %s; again in %.0f s", alert.pk, alert.destination, error, wait)
    again = utc_now() + timedelta(seconds=wait)
    _change(alert, error=error, attempts=alert.attempts + 1, next_attempt_at=again)


def _change(alert: Alert, **values: object) -> None:
    with transaction.atomic():
        Alert.objects.filter(pk=alert.pk).update(**values)


class PingSender:
    """Calls watchdogs, one at a time, in the order of each job's events."""

    def tick(self) -> bool:
        """Make the oldest call that is due; return True when there may be another."""
        now = utc_now()
        # What failed and waits lets none of its job pass, not even one that came later: a start must not arrive after
        # its end. One that waits for longer than any does is from before the clock was set back.
        longest = timedelta(seconds=_PING_WAITS[1])
        held_up = Ping.objects.filter(next_attempt_at__gt=now, next_attempt_at__lte=now + longest).values("job")
        due = Ping.objects.select_related("job").filter(next_attempt_at__lte=now).exclude(job__in=held_up)
        ping = due.order_by("id").first()
        if ping is None:
            return False
        if _call(ping) or now - ping.created_at > _PING_GIVE_UP_AFTER:
            with transaction.atomic():
                ping.delete()
            return True
        wait = timedelta(seconds=processes.backoff(ping.attempts, *_PING_WAITS))
        with transaction.atomic():
            Ping.objects.filter(pk=ping.pk).update(next_attempt_at=now + wait, attempts=ping.attempts + 1)
        return True


def _call(ping: Ping) -> bool:
    """Send a ping; returns True when nothing more is to be done for it."""
    url = ping.job.ping_url
    if not url:
        return True
    try:
        answer = httpx2.post(url.rstrip("/") + _SUFFIX[PingEvent(ping.event)], timeout=_PING_SECONDS)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:  # its text may hold the URL
        log.warning("the watchdog of job %s was not reached: %s", ping.job.name, type(error).__name__)
        return False
    if answer.is_success:
        return True
    log.warning("the watchdog of job %s answered %s", ping.job.name, answer.status_code)
    return 400 <= answer.status_code < 500 and answer.status_code != 429
