"""`manage.py disable NAME`: keep a job's schedule from running it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from jobs import services
from jobs.console import OperatorCommand, operator


class Command(OperatorCommand):
    help = "Keep a job's schedule from running it; it can still be triggered."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the job")

    def act(self, **options: Any) -> int:
        services.set_enabled(name=options["name"], enabled=False, actor=operator())
        self.stdout.write(f"Job {options['name']} is disabled.")
        return 0
