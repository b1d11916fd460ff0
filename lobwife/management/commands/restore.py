"""`manage.py restore FILE`: put a copy back."""

from __future__ import annotations

import getpass
import pathlib
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from core.console import OperatorCommand
from core.text import one_line
from lobwife.backups.restore import restore


class Command(OperatorCommand):
    help = (
        "Make the database what a copy holds: one of backups/, or any other. The daemon must be stopped; web may run."
        " What is replaced is kept as lobmob.db.before-restore."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=pathlib.Path)
        trust = "take accounts, API keys and allowed services from the copy too; without it the present ones stay"
        parser.add_argument("--trust", action="store_true", help=trust)
        no_input = "don't ask, whatever the copy changes"
        parser.add_argument("--no-input", action="store_false", dest="interactive", help=no_input)

    def act(self, **options: Any) -> None:
        done = restore(
            file=options["file"].absolute(),
            actor=_whoever_runs_this(),
            trusted=options["trust"],
            confirm=self._confirm if options["interactive"] else self._list,
        )
        self.stdout.write(f"Restored, with {done.tasks} tasks.")
        if done.kept_as is None:
            self.stdout.write("What was there before could not be read, so it was not kept.")
        else:
            self.stdout.write(f"What was there before is kept as {done.kept_as}.")
        if done.left_out:
            named = one_line(", ".join(done.left_out))
            self.stdout.write(f"Left out, since lobwife has none of its own: {named}.")
        self.stdout.write("Start the daemon now: it compares the whole vault with the tasks.")

    def _list(self, changes: list[str]) -> bool:
        self.stdout.write("With this copy:")
        for change in changes:
            self.stdout.write(f"  {one_line(change)}")  # names in a copy are anybody's words
        return True

    def _confirm(self, changes: list[str]) -> bool:
        self._list(changes)
        if not sys.stdin.isatty():
            raise CommandError("Nothing was changed: restore it with --no-input if that is as you want it.")
        return input("Restore it? [y/N] ").strip().lower() in {"y", "yes"}


def _whoever_runs_this() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return "operator"
