"""`manage.py logs JOB|RUN [--follow]`: a run's output."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from core.console import OperatorCommand
from core.errors import NotFound
from jobs import services
from jobs.console import show_from, wait_for_end
from jobs.execution import runs
from jobs.models import JobRun


class Command(OperatorCommand):
    help = "A run's output: of the run with this number, or of a job's latest run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("which", metavar="JOB|RUN")
        parser.add_argument("--follow", action="store_true", help="go on until the run is over")

    def act(self, **options: Any) -> int:
        run = find_run(options["which"])
        if options["follow"]:
            wait_for_end(run, self.pass_on, tell=self.say)
        else:
            show_from(run, 0, self.pass_on)
        return 0


def find_run(which: str) -> JobRun:
    """Return the run with that number, else the latest of the job with that name; raises NotFound."""
    if which.isascii() and which.isdigit() and len(which) < 19:
        return runs.get_run(int(which))
    job = services.get_job(which)
    latest = JobRun.objects.select_related("job").filter(job=job).order_by("-id").first()
    if latest is None:
        raise NotFound(f"job {which} has not run yet")
    return latest
