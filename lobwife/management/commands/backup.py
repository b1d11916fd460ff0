"""`manage.py backup [FILE]`: keep a copy of the database now."""

from __future__ import annotations

import pathlib
from typing import Any

from django.core.management.base import CommandParser
from django.db import connection

from core.console import OperatorCommand
from core.database.backend import server
from core.postgres import dump
from core.sqlite.copies import copy_to, folder, keep_copy, kept_copies
from core.timestamps import utc_now
from tasks.models import Task


class Command(OperatorCommand):
    help = (
        "Copy the database, at any time: into FILE, compressed if it ends in .gz, or into backups/ of the state"
        " directory. The hourly copies remove neither. On PostgreSQL pg_dump makes the copy."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=pathlib.Path)

    def act(self, **options: Any) -> None:
        file: pathlib.Path | None = options["file"]
        connection.ensure_connection()  # before anything is left in a folder without a database
        if database := server():
            Task.objects.exists()  # raises where the database is not an installation's
            target = file.absolute() if file else folder() / f"{utc_now():%Y-%m-%dT%H%M%SZ}-by-hand{dump.SUFFIX}"
            dump.dump(database, target)
            self.stdout.write(str(target))
            return
        if file is not None:
            copy_to(file.absolute())
            self.stdout.write(str(file.absolute()))
            return
        path = keep_copy()
        copies = kept_copies()
        total = sum(copy.size for copy in copies) / 10**6
        self.stdout.write(f"{path}\n{len(copies)} copies are kept, {total:.1f} MB together.")
