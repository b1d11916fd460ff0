"""`manage.py vault`: rare operations on the vault."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection

from core.console import OperatorCommand
from core.git.command import Git, GitError
from core.git.lock import vault_lock
from core.text import one_line
from vaultsync import services
from vaultsync.git.files import Files
from vaultsync.git.remote import ACCEPTED, TRACKED
from vaultsync.notes.importing import DRIFT, IMPORTED, SKIPPED, import_notes

_WAIT_SECONDS = 120


class Command(OperatorCommand):
    help = "Import notes that no task knows, or accept a remote whose history was rewritten."
    requires_system_checks = "__all__"

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verb = verbs.add_parser("import", help="make tasks of notes that no task knows, and list what drifted")
        verb.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        verbs.add_parser("accept-remote", help="let the next sync merge a rewritten remote in")

    def act(self, **options: Any) -> None:
        connection.ensure_connection()  # before anything is left in a folder without a database
        if not (settings.VAULT_PATH / ".git").is_dir():
            raise CommandError(f"there is no vault at {settings.VAULT_PATH}; `manage.py sync` makes one")
        with vault_lock(settings.STATE_DIR, wait_seconds=_WAIT_SECONDS) as lock:
            if options["verb"] == "import":
                self._import(dry_run=options["dry_run"])
            else:
                self._accept(Git(settings.VAULT_PATH, lock=lock))

    def _import(self, *, dry_run: bool) -> None:
        counts = Counter[str]()
        for done, path, sentence in import_notes(Files(settings.VAULT_PATH), dry_run=dry_run):
            counts[done] += 1
            self.stdout.write(one_line(f"{done}: {path}: {sentence}"))
        self.stdout.write(f"{counts[IMPORTED]} imported, {counts[SKIPPED]} skipped, {counts[DRIFT]} with drift.")
        if counts[IMPORTED] and not dry_run:
            services.request_sync(actor="vault import", full=True)

    def _accept(self, git: Git) -> None:
        tip, accepted = git.resolve(TRACKED), git.resolve(ACCEPTED)
        if tip is None and accepted is None:
            raise CommandError("the remote was never fetched; `manage.py sync` does")
        try:
            git.run("update-ref", *([ACCEPTED, tip] if tip else ["-d", ACCEPTED]))
        except GitError as error:
            raise CommandError(str(error)) from None
        services.save_state(remote_retry_at=None, remote_failures=0)
        will_do = f"merges {tip[:10]} in" if tip else "sends everything to the empty remote"
        self.stdout.write(f"The next sync {will_do}.")
