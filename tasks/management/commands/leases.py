"""`manage.py leases`: who holds which task; take a task away from its holder."""

from __future__ import annotations

import getpass
import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from core.callers import Caller, Role
from core.console import OperatorCommand
from core.timestamps import iso_text
from tasks.ids import parse_typed_id
from tasks.leases import services
from tasks.leases.queries import current_leases


class Command(OperatorCommand):
    help = "List who holds which task, or take a task away from its holder."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="action", required=True)
        commands.add_parser("list", help="the leases of now, in JSON lines")
        away = commands.add_parser("take-away", help="end the lease of a task and queue it again")
        away.add_argument("task", help="T42")
        away.add_argument("--reason", default="", help="what its holder is told")

    def act(self, **options: Any) -> None:
        if options["action"] == "list":
            self._list()
            return
        number = parse_typed_id(options["task"])
        if number is None:
            raise CommandError(f"the task is {options['task']!r}: write it as T42")
        actor = f"{getpass.getuser()} (command)"
        lease = services.take_away(
            task_id=number, actor=actor, caller=Caller("command line", Role.OPERATOR), reason=options["reason"]
        )
        self.stdout.write(f"T{number} was taken away from {lease.who}, and is queued again.")

    def _list(self) -> None:
        for lease, name in current_leases():
            row = {
                "task_id": f"T{lease.task_id}",
                "name": name,
                "holder": lease.holder,
                "runner": lease.runner,
                "fence": lease.fence,
                "attempt": lease.attempt,
                "since": iso_text(lease.taken_at),
                "last_sign_of_life": iso_text(lease.beat_at),
                "expires_at": iso_text(lease.expires_at),
            }
            self.stdout.write(json.dumps(row))
