"""The commands' common parts: errors as sentences, tables for people and JSON for programs."""

from __future__ import annotations

import abc
import json
import logging
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Literal

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.utils import OperationalError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from core.database.backend import in_words_for_the_console
from core.errors import LobwifeError
from core.text import one_line

OPERATOR_VARIABLES = ("SUDO_USER", "USER", "LOGNAME")
INTERRUPTED = 130


class OperatorCommand(BaseCommand):
    """A command whose errors are one sentence; `act()` does the work and returns the exit code."""

    requires_system_checks: list[str] | Literal["__all__"] = []  # what they warn of is not what was asked
    error_code = 1

    def run_from_argv(self, argv: list[str]) -> None:
        logging.getLogger(self.__module__.partition(".")[0]).setLevel(logging.WARNING)  # the answer says what was done
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
    def act(self, **options: Any) -> int | None:
        """Do the command's work and return its exit code, if not 0; raises LobwifeError."""

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


_STYLES = {
    "success": "green",
    "failed": "red",
    "timeout": "red",
    "error": "red",
    "lost": "red",
    "aborted": "yellow",
    "running": "cyan",
    "completed": "green",
    "cancelled": "dim",
    "active": "cyan",
    "blocked": "yellow",
    "disabled": "dim",
}


def add_json(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="answer in JSON, for programs")


def progress() -> Progress:
    """Return a place for bars that show how far something is, on a terminal alone."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def read_text(file: str) -> str:
    """Return what a file holds, stdin for `-`; raises CommandError."""
    try:
        return sys.stdin.read() if file == "-" else pathlib.Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"{file} can't be read: {reason}.") from None


def operator() -> str:
    """Return the name by which the system knows who types."""
    return next((os.environ[name] for name in OPERATOR_VARIABLES if os.environ.get(name)), "the command line")


def _text(value: object) -> str:
    """Return a value on one line without control characters; a dash for nothing."""
    return "-" if value is None or value == "" else one_line(str(value))
