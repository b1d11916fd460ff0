"""`manage.py secrets [list]`, `secrets set NAME`, `secrets remove NAME`: values that scripts get by name."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from core.console import OperatorCommand, operator
from events import change_log
from jobs import secrets
from jobs.models import Secret


class Command(OperatorCommand):
    help = (
        "Secrets of scripts: a job names those that its script gets as variables. `set NAME` asks for the value, or "
        "reads it from stdin; nobody can read it back. Without an action, all names."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", nargs="?", choices=("list", "set", "remove"), default="list")
        parser.add_argument("name", nargs="?", help="of the secret, such as DEPLOY_TOKEN")

    def act(self, **options: Any) -> int:
        action, name = options["action"], options["name"]
        if (action == "list") is bool(name):
            raise CommandError("list takes no NAME, set and remove need one.", returncode=2)
        if action == "list":
            stored = list(Secret.objects.all())
            users = secrets.users_of(secret.name for secret in stored)
            rows = [
                [secret.name, str(secret.changed_at)[:19], secret.changed_by, ", ".join(users[secret.name])]
                for secret in stored
            ]
            self.show_table(("secret", "changed", "by", "used by"), rows)
        elif action == "set":
            secrets.check_name(name)
            value = _read_value(name)
            with transaction.atomic():
                secret = secrets.set_secret(name=name, value=value, actor=operator())
                change_log.record([secret], "set", actor=operator())
            self.stdout.write(f"Secret {name} is set.")
        else:
            with transaction.atomic():
                change_log.record(Secret.objects.filter(name=name), "removed", actor=operator())
                secrets.remove_secret(name=name, actor=operator())
            self.stdout.write(f"Secret {name} is removed.")
        return 0


def _read_value(name: str) -> str:
    """Ask without showing what is typed; from a pipe, read all but a last line end."""
    if sys.stdin.isatty():
        return getpass.getpass(f"Value of {name}: ")
    return sys.stdin.read().removesuffix("\n")
