"""`manage.py enable NAME`: let a job's schedule run it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from jobs import services
from jobs.console import OperatorCommand, operator


class Command(OperatorCommand):
    help = "Let a job's schedule run it again; what it missed meanwhile does not run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the job")

    def act(self, **options: Any) -> int:
        services.set_enabled(name=options["name"], enabled=True, actor=operator())
        self.stdout.write(f"Job {options['name']} is enabled.")
        return 0
