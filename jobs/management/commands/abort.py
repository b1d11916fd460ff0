"""`manage.py abort RUN [--wait]`: end a run and everything it started."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from core.console import OperatorCommand, operator
from jobs.console import wait_for_end
from jobs.execution import runs
from jobs.models import State


class Command(OperatorCommand):
    help = "End a run: SIGTERM to all its processes, SIGKILL after a grace. With --wait, 0 says that nothing is left."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=int)
        parser.add_argument("--wait", action="store_true", help="return when the run is over")

    def act(self, **options: Any) -> int:
        run = runs.abort_run(run_id=options["run"], actor=operator())
        if options["wait"]:
            run = wait_for_end(run)
        if run.state == State.ABORTED:
            self.stdout.write(f"Run {run.pk} of {run.job.name} is aborted.")
        elif run.is_active:
            self.stdout.write(f"Run {run.pk} of {run.job.name} is being ended.")
        else:
            self.say(f"Run {run.pk} of {run.job.name} ended otherwise: {run.state}{run.note and f' ({run.note})'}.")
            return 1
        return 0
