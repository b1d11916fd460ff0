"""The commands' common parts: errors as sentences, tables for people and JSON for programs, following a run."""

from __future__ import annotations

import abc
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.utils import OperationalError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.errors import LobwifeError, Unavailable
from core.sqlite.messages import in_words_for_the_console
from core.text import one_line
from jobs import queries, services
from jobs.execution import output, queue_reasons
from jobs.models import JobRun, State

OPERATOR_VARIABLES = ("SUDO_USER", "USER", "LOGNAME")
INTERRUPTED = 130
_POLL_SECONDS = 0.1


class OperatorCommand(BaseCommand):
    """A command whose errors are one sentence; `act()` does the work and returns the exit code."""

    requires_system_checks: list[str] = []
    error_code = 1

    def run_from_argv(self, argv: list[str]) -> None:
        logging.getLogger("jobs").setLevel(logging.WARNING)  # the answer says what was done
        super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            code = self.act(**options)
        except LobwifeError as error:
            raise CommandError(str(error), returncode=self.error_code) from None
        except OperationalError as error:
            raise CommandError(in_words_for_the_console(error), returncode=self.error_code) from error
        except KeyboardInterrupt:
            self.stderr.write("")
            code = INTERRUPTED
        except BrokenPipeError:  # `… | head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if code:
            raise SystemExit(code)

    @abc.abstractmethod
    def act(self, **options: Any) -> int:
        """Do the command's work and return its exit code; raises LobwifeError."""

    def say(self, sentence: str) -> None:
        """Write to the person, beside the output."""
        self.stderr.write(sentence, self.style.NOTICE)

    def pass_on(self, text: str) -> None:
        """Write a piece of a script's output as it is, at once."""
        self.stdout.write(text, ending="")
        self.stdout.flush()

    def show_json(self, data: Any) -> None:
        self.stdout.write(json.dumps(data, indent=2, ensure_ascii=False))

    def show_table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Write a table on a terminal, else a line of names and lines of values between tabs."""
        texts = [[_text(value) for value in row] for row in rows]
        if not self.stdout.isatty():
            for line in [[column.upper() for column in columns], *texts]:
                self.stdout.write("\t".join(line))
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:  # the last one is prose
            table.add_column(column, no_wrap=column != columns[-1])
        for line in texts:
            table.add_row(*(Text(value, style=_STYLES.get(value, "")) for value in line))
        Console(file=sys.stdout).print(table)


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


_STYLES = {
    "success": "green",
    "failed": "red",
    "timeout": "red",
    "error": "red",
    "lost": "red",
    "aborted": "yellow",
    "running": "cyan",
    "disabled": "dim",
}


def add_json(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="answer in JSON, for programs")


def operator() -> str:
    """Return the name by which the system knows who types."""
    return next((os.environ[name] for name in OPERATOR_VARIABLES if os.environ.get(name)), "the command line")


def wait_for_end(
    run: JobRun, show: Callable[[str], object] | None = None, tell: Callable[[str], object] | None = None
) -> JobRun:
    """Return the run when it is over; `show` gets its output meanwhile, `tell` what it waits for before it starts.

    Raises Unavailable without a daemon.
    """
    offset, last_reason = 0, queue_reasons.NEXT_LOOK
    while True:
        run.refresh_from_db()  # before the output is read: what a run that is over wrote is all there
        if show:
            offset = show_from(run, offset, show)
        if not run.is_active:
            return run
        if not queries.daemon_is_alive():
            raise Unavailable(
                f"run {run.pk} is {run.state}, but the daemon is not running: start it (make run, manage.py daemon)"
                + (", and the run follows" if run.state == State.QUEUED else ", and it settles the run")
            )
        reason = queue_reasons.for_run(run)
        if tell and reason and reason not in (last_reason, queue_reasons.NEXT_LOOK):
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


def _text(value: object) -> str:
    """Return a value on one line without control characters; a dash for nothing."""
    return "-" if value is None or value == "" else one_line(str(value))
