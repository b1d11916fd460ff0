"""`manage.py sync`: sync the vault now, beside a running daemon or without one."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import connection

from core.console import OperatorCommand, progress
from lobwife.daemon.upkeep import vault_token
from vaultsync.sync import Sync
from vaultsync.vault import SyncObserver, SyncResult, Vault

_WAIT_SECONDS = 120


class Command(OperatorCommand):
    help = "Sync the vault: fetch, merge, write the notes of changed tasks, commit, push."
    requires_system_checks = "__all__"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--full", action="store_true", help="compare every note with its task")
        parser.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")

    def act(self, **options: Any) -> None:
        dry_run: bool = options["dry_run"]
        connection.ensure_connection()  # before anything is left in a folder without a database
        with progress() as bar:
            line = bar.add_task("notes compared", total=None, visible=False)

            def on_progress(done: int, total: int) -> None:
                bar.update(line, completed=done, total=total, visible=True)

            sync = Sync(Vault.from_settings(vault_token), SyncObserver(on_progress=on_progress))
            result = sync.run(
                reason="manage.py sync", full=options["full"], dry_run=dry_run, wait_seconds=_WAIT_SECONDS
            )
        self._tell(result, dry_run)

    def _tell(self, result: SyncResult, dry_run: bool) -> None:
        for notice in result.notices:
            self.stdout.write(notice)
        if result.disabled or result.error:
            raise CommandError(result.disabled or result.error)
        if dry_run:
            for path in result.paths:
                self.stdout.write(path)
            self.stdout.write(f"{result.files} file(s) would be written.")
            return
        if result.remote_error:
            self.stderr.write(f"Committed here only: {result.remote_error}")
        state = f"{result.files} file(s) changed" if result.files else "Nothing changed"
        self.stdout.write(f"{state}{', pushed' if result.pushed else ''}.")
