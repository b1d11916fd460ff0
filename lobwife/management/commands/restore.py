"""`manage.py restore FILE`: put a copy back."""

from __future__ import annotations

import getpass
import pathlib
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.errors import LobwifeError
from core.text import one_line
from lobwife.backups.restore import restore


class Command(BaseCommand):
    help = (
        "Make the database what a copy holds: one of backups/, or any other. The daemon must be stopped; web may run."
        " What is replaced is kept as lobmob.db.before-restore."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=pathlib.Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            done = restore(file=options["file"].absolute(), actor=_whoever_runs_this())
        except LobwifeError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"Restored, with {done.tasks} tasks.")
        if done.kept_as is None:
            self.stdout.write("What was there before could not be read, so it was not kept.")
        else:
            self.stdout.write(f"What was there before is kept as {done.kept_as}.")
        if done.left_out:
            named = one_line(", ".join(done.left_out))
            self.stdout.write(f"Left out, since lobwife has none of its own: {named}.")
        self.stdout.write("Start the daemon now: it compares the whole vault with the tasks.")


def _whoever_runs_this() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return "operator"
