"""Django's migrate, which first takes over what is in the state directory."""

from __future__ import annotations

import pathlib
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import OperationalError

from core.database.backend import is_postgres, one_at_a_time
from core.errors import LobwifeError
from lobwife.management.destructive import keep_copy_or_refuse
from lobwife.takeover import json_files
from lobwife.takeover.database import make_file, make_private, make_ready, prepared


class Command(migrate.Command):
    """Judges the database file before anything opens it, system checks included; hence `execute`, not `handle`."""

    help = "Takes over the state directory's database and JSON files, then updates the database schema."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--yes-i-mean-it", action="store_true", help="keep a copy, then undo migrations")

    def handle(self, *args: Any, **options: Any) -> str | None:
        if options["migration_name"] and not (options["plan"] or options["fake"]) and self._undoes(options):
            keep_copy_or_refuse(self, options)
        return super().handle(*args, **options)

    def _undoes(self, options: dict[str, Any]) -> bool:
        """Return whether migrations are undone, and with them columns and tables with their rows."""
        name = options["migration_name"]
        executor = MigrationExecutor(connection)
        app = options["app_label"]
        if name != "zero":
            name = executor.loader.get_migration_by_prefix(app, name).name
        return any(backwards for _, backwards in executor.migration_plan([(app, None if name == "zero" else name)]))

    def execute(self, *args: Any, **options: Any) -> str | None:
        if is_postgres():
            return self._migrate_server(*args, **options)
        if not self._is_for_the_installation(options):
            if options["database"] == DEFAULT_DB_ALIAS and not (options["plan"] or options["check_unapplied"]):
                make_file(_database())
            return super().execute(*args, **options)
        folder, database = settings.STATE_DIR, _database()
        connection.close()  # the file is copied: no connection of this process may be open then
        try:
            with prepared(folder):
                files = json_files.read(folder)
                make_ready(database)
                make_file(database)
                make_private(folder)
                output = super().execute(*args, **options)
                if files and not options["app_label"] and not options["fake"]:
                    self._report(json_files.import_all(files), options["verbosity"])
                return output
        except LobwifeError as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            raise CommandError(
                f"{database} can't be migrated ({error}): see that its disk has room, that it can be written and that"
                " no other program keeps it locked, then start again"
            ) from error

    def _migrate_server(self, *args: Any, **options: Any) -> str | None:
        """Migrate a database that has a server: there is no file to take over, but the key that a state directory has.

        One start migrates at a time, wherever it runs; the others wait.
        """
        if connection.in_atomic_block or options["plan"] or options["check_unapplied"]:
            return super().execute(*args, **options)
        try:
            with prepared(settings.STATE_DIR), one_at_a_time("migrate"):
                make_private(settings.STATE_DIR)
                return super().execute(*args, **options)
        except LobwifeError as error:
            raise CommandError(str(error)) from error

    def _is_for_the_installation(self, options: dict[str, Any]) -> bool:
        """Not the databases of tests, nor a mere look."""
        return (
            options["database"] == DEFAULT_DB_ALIAS
            and _database() == settings.STATE_DIR / settings.DATABASE_FILE
            and not connection.in_atomic_block
            and not (options["plan"] or options["check_unapplied"])
        )

    def _report(self, added: dict[str, int], verbosity: int) -> None:
        if verbosity >= 1:
            for name, count in added.items():
                self.stdout.write(f"  Imported {name}: {count} new rows; renamed to {name}.migrated")


def _database() -> pathlib.Path:
    return pathlib.Path(str(connection.settings_dict["NAME"]))
