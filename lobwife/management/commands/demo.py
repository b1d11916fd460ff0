"""`manage.py demo`: a realistic fleet with history, in an empty database."""

from __future__ import annotations

from typing import Any

from core.console import OperatorCommand
from ops import demo

_RUNS_A_JOB = 720  # a day of the busiest job, two weeks of the others


class Command(OperatorCommand):
    help = "Fill an empty database with a realistic fleet, to look at the pages with. Refuses when there are tasks."
    requires_system_checks = "__all__"

    def act(self, **options: Any) -> None:
        made = demo.make_fleet(runs_a_job=_RUNS_A_JOB)
        self.stdout.write("Made " + ", ".join(f"{count} {what}" for what, count in made.items()) + ".")
