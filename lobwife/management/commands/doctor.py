"""`manage.py doctor`: is everything as it must be, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.core.management.base import BaseCommand

from ops.checks.finding import Finding
from ops.checks.service import MACHINE


class Command(BaseCommand):
    help = "Look at everything an installation needs; each line says ok or what to do. Exit code 1: something is to do."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        ill = 0
        for check in MACHINE:
            for finding in _findings(check):
                ill += not finding.is_well
                mark = "ok" if finding.is_well else "DO"
                self.stdout.write(f"{mark}  {finding.check}: {finding.sentence}")
                if finding.remedy:
                    self.stdout.write(f"    -> {finding.remedy}")
        if ill:
            raise SystemExit(1)


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield a check's findings; what can't be read is one too."""
    try:
        yield from check()
    except OSError as error:
        place = error.filename or "it"
        yield Finding(check.__name__, f"{place} can't be looked at: {error.strerror}", "see to its rights and its disk")
