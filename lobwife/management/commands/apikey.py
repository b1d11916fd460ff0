"""`manage.py apikey`: make, list and revoke API keys; decide whether callers need one."""

from __future__ import annotations

import getpass
import json
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from access import keys, policy
from access.models import ApiKey, Mode, UncredentialedCaller
from core.callers import Role
from core.console import OperatorCommand
from core.text import one_line
from core.timestamps import utc_now
from tasks.ids import parse_typed_id


class Command(OperatorCommand):
    help = "Make, list and revoke API keys, and decide whether callers need a credential."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="action", required=True)
        create = commands.add_parser("create", help="make a key and print it, this once")
        create.set_defaults(run=self._create)
        create.add_argument("name")
        create.add_argument("--role", required=True, choices=[role.value for role in Role])
        create.add_argument("--task", help="the one task of a key of role agent: T42")
        create.add_argument("--service", default="", help="as which service a key of role service gets tokens")
        create.add_argument("--days", type=float, help="how long the key is good; without it, until it is revoked")
        revoke = commands.add_parser("revoke", help="make a key useless from now on")
        revoke.set_defaults(run=self._revoke)
        revoke.add_argument("name")
        commands.add_parser("list", help="all keys, in JSON lines").set_defaults(run=self._list)
        access = commands.add_parser("access", help="show or decide whether callers need a credential")
        access.set_defaults(run=self._access)
        access.add_argument("mode", nargs="?", choices=Mode.values)

    def act(self, **options: Any) -> None:
        options["run"](options, f"{getpass.getuser()} (command)")

    def _create(self, options: dict[str, Any], actor: str) -> None:
        number = parse_typed_id(options["task"] or "")
        if options["task"] and number is None:
            raise CommandError(f"--task is {options['task']!r}: write it as T42")
        key = keys.create_key(
            name=options["name"],
            role=Role(options["role"]),
            task_number=number,
            service=options["service"],
            expires_at=utc_now() + timedelta(days=options["days"]) if options["days"] is not None else None,
            actor=actor,
        )
        self.stderr.write(f"The key of {options['name']}, shown this once; callers send it as Authorization: Bearer")
        self.stdout.write(key)

    def _revoke(self, options: dict[str, Any], actor: str) -> None:
        keys.revoke_key(name=options["name"], actor=actor)
        self.stdout.write(f"{options['name']} is revoked.")

    def _list(self, options: dict[str, Any], actor: str) -> None:
        for key in ApiKey.objects.all():
            times = {"created": key.created_at, "expires": key.expires_at, "last_used": key.last_used_at}
            fields = {"name": key.name, "role": key.role, "state": key.state, "task": key.task_number}
            fields |= {name: moment.isoformat() if moment else None for name, moment in times.items()}
            self.stdout.write(json.dumps(fields))

    def _access(self, options: dict[str, Any], actor: str) -> None:
        if options["mode"]:
            policy.decide(mode=options["mode"], actor=actor)
        self.stdout.write(policy.current_mode())
        for caller in UncredentialedCaller.objects.all():
            program = one_line(caller.program)  # a stranger's own words
            self.stderr.write(f"without credentials: {caller.address} {program} {caller.route} {caller.last_seen}")
