"""`manage.py doctor`: is everything as it must be, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection
from django.db.utils import DatabaseError

from ops.checks import Finding, bad
from ops.checks.machine import CHECKS


class Command(BaseCommand):
    help = "Look at everything an installation needs; each line says ok or what to do. Exit code 1: something is to do."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        failed = False
        for check in CHECKS:
            for finding in _findings(check):
                failed |= not finding.is_well
                self.stdout.write(f"{'ok' if finding.is_well else 'DO'}  {finding.check}: {finding.sentence}")
                if finding.remedy:
                    self.stdout.write(f"    -> {finding.remedy}")
        if failed:
            raise SystemExit(1)


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield a check's findings; what can't be read is one too."""
    try:
        yield from check()
    except DatabaseError as error:
        yield bad(check.__name__, f"the database can't be used: {error}", "see to the database first")
    except OSError as error:
        path = error.filename or "a file"
        yield bad(check.__name__, f"{path} can't be read: {error.strerror}", "see to its rights and its disk")
    finally:
        connection.close()
