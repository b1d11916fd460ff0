"""The commands' parts about jobs and runs: switching, pausing, following a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser

from core.console import OperatorCommand, operator
from core.database.backend import is_postgres
from core.errors import Unavailable
from jobs import queries, services
from jobs.execution import output, queue_reasons
from jobs.models import DEFAULT_LABEL, JobRun, State

_POLL_SECONDS = 0.1


class SwitchCommand(OperatorCommand):
    """Lets a job's schedule run it, or not."""

    enabled: bool

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the job")

    def act(self, **options: Any) -> int:
        services.set_enabled(name=options["name"], enabled=self.enabled, actor=operator())
        self.stdout.write(f"Job {options['name']} is {'enabled' if self.enabled else 'disabled'}.")
        return 0


class PauseCommand(OperatorCommand):
    """Lets runs start, or not."""

    paused: bool
    message: str

    def act(self, **options: Any) -> int:
        services.set_paused(paused=self.paused, actor=operator())
        self.stdout.write(self.message)
        return 0


def wait_for_end(
    run: JobRun, show: Callable[[str], object] | None = None, tell: Callable[[str], object] | None = None
) -> JobRun:
    """Return the run when it is over; `show` gets its output meanwhile, `tell` what it waits for before it starts.

    Raises Unavailable when nobody is there who would end it.
    """
    offset, last_reason = 0, queue_reasons.NEXT_LOOK
    while True:
        run.refresh_from_db()  # before the output is read: what a run that is over wrote is all there
        if show:
            offset = show_from(run, offset, show)
        if not run.is_active:
            return run
        if not queries.is_served(run):
            if is_postgres() and run.state == State.QUEUED and run.label != DEFAULT_LABEL:
                raise Unavailable(f"run {run.pk} is queued, but no runner for {run.label} is up: manage.py runner")
            raise Unavailable(
                f"run {run.pk} is {run.state}, but the daemon is not running: start it (make run, manage.py daemon)"
                + (", and the run follows" if run.state == State.QUEUED else ", and it settles the run")
            )
        reason = queue_reasons.for_run(run)
        if tell and reason and reason not in (last_reason, queue_reasons.NEXT_LOOK, queue_reasons.NEXT_FREE):
            tell(f"Run {run.pk} is queued; it waits for {reason}.")
            last_reason = reason
        time.sleep(_POLL_SECONDS)


def show_from(run: JobRun, offset: int, show: Callable[[str], object]) -> int:
    """Show all output there is from an offset on; return where to go on."""
    while True:
        piece = output.read_text(run, offset)
        if piece.skipped:
            show(f"\n[{piece.skipped} bytes left out]\n")
        if piece.next_offset == offset:
            return offset
        show(piece.text)
        offset = piece.next_offset
