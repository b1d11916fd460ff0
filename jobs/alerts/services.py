"""What people do about alerts: test a destination, acknowledge, try again, snooze."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction

from core.errors import Invalid, NotFound
from core.timestamps import utc_now
from events import change_log
from jobs.alerts import rules
from jobs.alerts.destinations import all_destinations
from jobs.models import Alert, AlertKind, AlertSetting, Delivery, Job, Severity

_LONGEST_SNOOZE_HOURS = 24 * 14


def send_test(*, fingerprint: str, actor: str) -> Alert:
    """Queue a message to one destination, which the daemon sends at once; raises NotFound."""
    destination = next((each for each in all_destinations() if each.fingerprint == fingerprint), None)
    if destination is None:
        raise NotFound("this destination is no longer configured")
    now = utc_now()
    link = rules.link_to(None)
    body = f"{actor} sent a test. Alerts of {destination.of_whom} arrive here."
    with transaction.atomic():
        return Alert.objects.create(
            kind=AlertKind.TEST,
            severity=Severity.INFO,
            job_name="" if destination.is_for_all or not destination.jobs else destination.jobs[0],
            title="Test of this destination",
            body=f"{body}\n{link}" if link else body,
            destination=destination.mask,
            fingerprint=destination.fingerprint,
            created_at=now,
            next_attempt_at=now,
        )


def acknowledge(alerts: Iterable[Alert], *, actor: str) -> int:
    """Note who has taken care of alerts; return how many were open."""
    ids = [alert.pk for alert in alerts]
    with transaction.atomic():
        rows = Alert.objects.filter(pk__in=ids, acknowledged_at__isnull=True)
        return rows.update(acknowledged_at=utc_now(), acknowledged_by=actor)


def try_again(alerts: Iterable[Alert]) -> int:
    """Make alerts that wait for their next attempt due now; return how many."""
    ids = [alert.pk for alert in alerts]
    with transaction.atomic():
        return Alert.objects.filter(pk__in=ids, state=Delivery.PENDING).update(next_attempt_at=utc_now())


def snooze(*, job: Job, hours: int, actor: str) -> datetime | None:
    """Send no alerts of a job for some hours, or again with 0; they are recorded all the same. Raises Invalid."""
    until = _end_of_snooze(hours)
    with transaction.atomic():
        Job.objects.filter(pk=job.pk).update(alerts_snoozed_until=until)
        change_log.record([job], f"alerts snoozed for {hours} h" if hours else "alerts resumed", actor=actor)
    return until


def snooze_kind(*, kind: str, hours: int, actor: str) -> datetime | None:
    """Send no alerts of a kind for some hours, or again with 0. Raises Invalid, NotFound."""
    if kind not in AlertKind.values:
        raise NotFound(f"there is no kind of alerts {kind}")
    until = _end_of_snooze(hours)
    with transaction.atomic():
        row, _ = AlertSetting.objects.update_or_create(
            kind=kind, defaults={"snoozed_until": until, "snoozed_by": actor if until else ""}
        )
        change_log.record([row], f"alerts snoozed for {hours} h" if hours else "alerts resumed", actor=actor)
    return until


def _end_of_snooze(hours: int) -> datetime | None:
    if not 0 <= hours <= _LONGEST_SNOOZE_HOURS:
        raise Invalid(f"alerts are snoozed for at most {_LONGEST_SNOOZE_HOURS} hours")
    return utc_now() + timedelta(hours=hours) if hours else None
