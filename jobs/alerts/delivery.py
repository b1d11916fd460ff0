"""Alerts on their way: sent by a short-lived process, tried again with growing pauses, never lost."""

from __future__ import annotations

import json
import logging
import pathlib
import subprocess
import sys
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from core import processes
from core.timestamps import utc_now
from jobs import secret_fields
from jobs.alerts import rules
from jobs.models import Alert, AlertKind, Delivery, Job

_PROGRAM = str(pathlib.Path(__file__).parent / "sender")
_TIMEOUT_SECONDS = 60
_BATCH = 20
_FIRST_WAIT, _LONGEST_WAIT = 10, 3600
_NOTIFY_TYPE = {
    AlertKind.FAILING: "failure",
    AlertKind.RECOVERED: "success",
    AlertKind.LATE: "warning",
    AlertKind.LONG: "warning",
    AlertKind.DAEMON_DOWN: "failure",
}
log = logging.getLogger(__name__)


class AlertSender:
    """Sends what is due. An alert is marked after it was sent: a crash between can send it twice, never lose it."""

    def tick(self) -> bool:
        """One batch of due alerts; true when there may be more."""
        now = utc_now()
        # What waits for longer than any does is from before the clock was set back.
        is_due = Q(next_attempt_at__lte=now) | Q(next_attempt_at__gt=now + timedelta(seconds=_LONGEST_WAIT))
        due = list(Alert.objects.filter(is_due, state=Delivery.PENDING).order_by("id")[:_BATCH])
        if not due:
            return False
        urls = {alert.pk: _url_of(alert) for alert in due}
        errors = _send([(alert, url) for alert in due if (url := urls[alert.pk])])
        for alert in due:
            if urls[alert.pk]:
                _record(alert, errors[alert.pk])
            else:
                _change(alert, state=Delivery.DROPPED, error="its destination is no longer configured")
        return len(due) == _BATCH


def _url_of(alert: Alert) -> str:
    """The URL behind the alert's fingerprint; empty when it is no longer configured."""
    job = Job.objects.filter(name=alert.job_name).first()
    return next((url for url in rules.destinations(job) if secret_fields.fingerprint(url) == alert.fingerprint), "")


def _send(orders: list[tuple[Alert, str]]) -> dict[int, str]:
    """Errors by alert, empty where it was sent. The URLs go through a pipe: an argument is everyone's to read."""
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
                "kind": _NOTIFY_TYPE[AlertKind(alert.kind)],
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
        told = json.loads(answer)
        errors[told["id"]] = told["error"]
    return errors


def _record(alert: Alert, error: str) -> None:
    if not error:
        log.info("alert %s (%s) was sent to %s", alert.pk, alert.title, alert.destination)
        _change(alert, state=Delivery.SENT, error="", sent_at=utc_now(), attempts=alert.attempts + 1)
        return
    wait = processes.backoff(alert.attempts, _FIRST_WAIT, _LONGEST_WAIT)
    log.warning("alert %s was not sent to %s: %s; again in %.0f s", alert.pk, alert.destination, error, wait)
    again = utc_now() + timedelta(seconds=wait)
    _change(alert, error=error, attempts=alert.attempts + 1, next_attempt_at=again)


def _change(alert: Alert, **values: object) -> None:
    with transaction.atomic():
        Alert.objects.filter(pk=alert.pk).update(**values)
