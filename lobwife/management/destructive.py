"""Commands that delete or overwrite what an installation has: they refuse, or copy it first."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connection

from core.database.backend import is_postgres
from core.errors import LobwifeError
from core.sqlite.copies import keep_copy


def keep_copy_or_refuse(command: BaseCommand, options: dict[str, Any]) -> None:
    """Copy the installation's database; raises CommandError without --yes-i-mean-it, or when it can't be copied."""
    if is_postgres():
        _refuse_on_server(options)
        return
    database = settings.STATE_DIR / settings.DATABASE_FILE
    is_it = options["database"] == DEFAULT_DB_ALIAS and str(connection.settings_dict["NAME"]) == str(database)
    if not is_it or not database.exists() or not database.stat().st_size:
        return
    if not options.get("yes_i_mean_it"):
        raise CommandError(
            f"This deletes or overwrites rows of {database}. With --yes-i-mean-it it keeps a copy, then does so."
        )
    try:
        command.stdout.write(f"Kept a copy: {keep_copy()}")
    except LobwifeError as error:
        raise CommandError(f"Nothing was changed, since no copy could be made: {error}.") from error


def _refuse_on_server(options: dict[str, Any]) -> None:
    """Raise CommandError without --yes-i-mean-it; a server's copies are made with its own tools."""
    is_it = options["database"] == DEFAULT_DB_ALIAS and connection.settings_dict["NAME"] == settings.DATABASE_NAME
    if is_it and not options.get("yes_i_mean_it"):
        raise CommandError(
            f"This deletes or overwrites rows of the database {connection.settings_dict['NAME']}, of which no copy is"
            " made here: make one with the database's own tools (docs/postgres.md), then give --yes-i-mean-it."
        )


class Destructive(BaseCommand):
    """A mixin for a command of Django that is destructive."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--yes-i-mean-it", action="store_true", help="keep a copy of the database, then do it")

    def handle(self, *args: Any, **options: Any) -> str | None:
        keep_copy_or_refuse(self, options)
        return super().handle(*args, **options)
