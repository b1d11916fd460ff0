"""`manage.py daemon`: run scripts on schedule and do all other background work, in the foreground."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from setproctitle import setproctitle

from access.policy import warn_if_open
from core.errors import LobwifeError
from core.processes import stop_with_supervisor
from lobwife.daemon.process import Daemon


class Command(BaseCommand):
    help = (
        "Run scripts on schedule and do all other background work, in the foreground. One per state directory; on"
        " PostgreSQL any number, of which one leads."
    )
    requires_system_checks: list[str] = []
    title = "lobwife-daemon"

    def handle(self, *args: Any, **options: Any) -> None:
        stop_with_supervisor()
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError("The database is not up to date: run `manage.py migrate` first.")
        setproctitle(self.title)
        warn_if_open()
        try:
            code = self.process(**options).run()
        except LobwifeError as error:
            raise CommandError(str(error)) from None
        except DatabaseError as error:
            raise CommandError(f"It could not start: {error}.") from None
        if code:
            raise SystemExit(code)

    def process(self, **options: Any) -> Daemon:
        """Return what runs; raises CommandError."""
        return Daemon()
