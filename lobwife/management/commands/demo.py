"""`manage.py demo`: a realistic fleet with history, in an empty database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from core.errors import LobwifeError
from ops import demo

_RUNS_A_JOB = 720  # a day of the busiest job, two weeks of the others


class Command(BaseCommand):
    help = "Fill an empty database with a realistic fleet, to look at the pages with. Refuses when there are tasks."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made = demo.make_fleet(runs_a_job=_RUNS_A_JOB)
        except LobwifeError as error:
            raise CommandError(str(error)) from None
        self.stdout.write("Made " + ", ".join(f"{count} {what}" for what, count in made.items()) + ".")
