"""`manage.py backup`: keep a copy of the database now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from core.errors import LobwifeError
from core.sqlite.copies import keep_copy, kept_copies


class Command(BaseCommand):
    help = "Copy the database, at any time, and keep the copy compressed in backups/ of the state directory."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        connection.ensure_connection()  # before anything is left in a folder without a database
        try:
            path = keep_copy()
        except LobwifeError as error:
            raise CommandError(str(error)) from None
        copies = kept_copies()
        total = sum(copy.size for copy in copies) / 10**6
        self.stdout.write(f"{path}\n{len(copies)} copies are kept, {total:.1f} MB together.")
