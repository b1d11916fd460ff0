"""The destinations of alerts, without their secrets, and who uses each."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.conf import settings

from jobs import secret_fields
from jobs.models import Alert, AlertSetting, Job


@dataclass
class Destination:
    """A masked URL, the jobs and kinds that name it, and the newest alert that was for it."""

    fingerprint: str
    mask: str
    is_for_all: bool = False
    jobs: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    last: Alert | None = None

    @property
    def of_whom(self) -> str:
        """Whose alerts arrive here."""
        if self.is_for_all:
            return "all jobs and of the daemon"
        names = [*self.jobs, *(f"the kind “{kind}”" for kind in self.kinds)]
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def all_destinations() -> list[Destination]:
    """Return every configured destination once, those for all jobs first."""
    by_fingerprint: dict[str, Destination] = {}

    def of(url: str) -> Destination:
        fingerprint = secret_fields.fingerprint(url)
        return by_fingerprint.setdefault(fingerprint, Destination(fingerprint, secret_fields.mask(url)))

    for url in settings.ALERT_URLS:
        of(url).is_for_all = True
    for name, text in Job.objects.exclude(alert_urls="").order_by("name").values_list("name", "alert_urls"):
        for url in secret_fields.split(text):
            of(url).jobs.append(name)
    for setting in AlertSetting.objects.exclude(urls="").order_by("kind"):
        for url in secret_fields.split(setting.urls):
            of(url).kinds.append(str(setting))
    for destination in by_fingerprint.values():
        destination.last = Alert.objects.filter(fingerprint=destination.fingerprint).order_by("-id").first()
    return list(by_fingerprint.values())
