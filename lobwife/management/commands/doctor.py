"""`manage.py doctor`: is everything as it must be, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.core.management.base import BaseCommand

from ops.doctor import service, storage
from ops.doctor.finding import Finding

_LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    service.configuration,
    storage.permissions,
    storage.disk,
    storage.database,
    storage.copies,
    service.daemon,
    service.web,
    service.clock,
    service.broker_and_clock,
    service.vault,
)


class Command(BaseCommand):
    help = "Look at everything an installation needs; each line says ok or what to do. Exit code 1: something is to do."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        ill = 0
        for look in _LOOKS:
            for finding in _findings(look):
                ill += not finding.is_well
                mark = "ok" if finding.is_well else "DO"
                self.stdout.write(f"{mark}  {finding.subject}: {finding.found}")
                if finding.todo:
                    self.stdout.write(f"    -> {finding.todo}")
        if ill:
            raise SystemExit(1)


def _findings(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield a check's findings; what can't be read is one too."""
    try:
        yield from look()
    except OSError as error:
        place = error.filename or "it"
        yield Finding(look.__name__, f"{place} can't be looked at: {error.strerror}", "see to its rights and its disk")
