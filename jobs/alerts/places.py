"""The places that alerts go to, without their secrets: who uses each, a test of it, and what can be acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from core.errors import Invalid, NotFound
from core.timestamps import utc_now
from jobs import change_log, secret_fields
from jobs.alerts import rules
from jobs.models import Alert, AlertKind, AlertSetting, Delivery, Job, Severity

_LONGEST_SNOOZE_HOURS = 24 * 14


@dataclass
class Place:
    """A destination: its masked URL, the jobs and kinds that name it, and the newest alert that was for it."""

    fingerprint: str
    mask: str
    is_for_all: bool = False
    jobs: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    last: Alert | None = None


def all_places() -> list[Place]:
    """Return every configured destination once, those for all jobs first."""
    places: dict[str, Place] = {}
    for url in settings.ALERT_URLS:
        _place(places, url).is_for_all = True
    for name, text in Job.objects.exclude(alert_urls="").order_by("name").values_list("name", "alert_urls"):
        for url in secret_fields.split(text):
            _place(places, url).jobs.append(name)
    for setting in AlertSetting.objects.exclude(urls="").order_by("kind"):
        for url in secret_fields.split(setting.urls):
            _place(places, url).kinds.append(str(setting))
    for place in places.values():
        place.last = Alert.objects.filter(fingerprint=place.fingerprint).order_by("-id").first()
    return list(places.values())


def send_test(*, fingerprint: str, actor: str) -> Alert:
    """Queue a message to one place, which the daemon sends at once; raises NotFound."""
    place = next((each for each in all_places() if each.fingerprint == fingerprint), None)
    if place is None:
        raise NotFound("this destination is no longer configured")
    now = utc_now()
    link = rules.link_to(None)
    body = f"{actor} sent a test. Alerts of {_of_whom(place)} arrive here."
    with transaction.atomic():
        return Alert.objects.create(
            kind=AlertKind.TEST,
            severity=Severity.INFO,
            job_name="" if place.is_for_all or not place.jobs else place.jobs[0],
            title="Test of this destination",
            body=f"{body}\n{link}" if link else body,
            destination=place.mask,
            fingerprint=place.fingerprint,
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


def _place(places: dict[str, Place], url: str) -> Place:
    fingerprint = secret_fields.fingerprint(url)
    return places.setdefault(fingerprint, Place(fingerprint, secret_fields.mask(url)))


def _of_whom(place: Place) -> str:
    if place.is_for_all:
        return "all jobs and of the daemon"
    names = [*place.jobs, *(f"the kind “{kind}”" for kind in place.kinds)]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
