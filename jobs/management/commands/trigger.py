"""`manage.py trigger NAME [--wait|--follow] [-- ARGS]`: run a job now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from core.console import INTERRUPTED, OperatorCommand, operator
from jobs.console import wait_for_end
from jobs.execution import queue_reasons, runs
from jobs.models import JobRun, State, Trigger

TIMED_OUT, NOT_RUN = 124, 125


class Command(OperatorCommand):
    help = (
        "Run a job now, also one that is disabled. With --wait or --follow the exit code is the script's; 128 and the "
        "signal's number when a signal ended it, 124 when its time limit did, 130 when it was aborted, 125 when it "
        "could not be run: no such job, already running, no daemon, no script. After -- come arguments for the "
        "script, in place of the job's own."
    )
    error_code = NOT_RUN

    arguments: list[str] | None = None

    def run_from_argv(self, argv: list[str]) -> None:
        """Leave what follows `--` to the script, whatever it looks like; argparse would take some of it."""
        if "--" in argv:
            cut = argv.index("--")
            argv, self.arguments = argv[:cut], argv[cut + 1 :]
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the job")
        parser.add_argument("--wait", action="store_true", help="return when the run is over")
        parser.add_argument("--follow", action="store_true", help="show its output meanwhile")

    def act(self, **options: Any) -> int:
        run = runs.request_run(
            name=options["name"],
            trigger=Trigger.COMMAND,
            requested_by=operator(),
            arguments=self.arguments,
        )
        if not (options["wait"] or options["follow"]):
            waits_for = queue_reasons.for_run(run)
            self.stdout.write(f"Run {run.pk} of {options['name']} is queued; it waits for {waits_for}.")
            return 0
        show = self.pass_on if options["follow"] else None
        try:
            run = wait_for_end(run, show, tell=self.say)
        except KeyboardInterrupt:
            self.say(f"\nRun {run.pk} goes on; `manage.py abort {run.pk}` ends it.")
            return INTERRUPTED
        if run.state != State.SUCCESS:
            self.say(f"Run {run.pk} of {options['name']} ended: {run.state}{run.note and f' ({run.note})'}.")
        return exit_code(run)


def exit_code(run: JobRun) -> int:
    """Return the exit code for a run's end."""
    if run.state == State.TIMEOUT:
        return TIMED_OUT
    if run.state == State.ABORTED:
        return INTERRUPTED
    if run.state in {State.ERROR, State.LOST, State.SKIPPED}:
        return NOT_RUN
    if run.signal is not None:
        return 128 + run.signal
    return run.exit_code or 0
