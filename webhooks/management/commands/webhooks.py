"""`manage.py webhooks [list]`, `export`, `import FILE`, `secret NAME`, `resume NAME`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from core.console import OperatorCommand, operator, read_text
from webhooks import definitions, services
from webhooks.models import Subscription


class Command(OperatorCommand):
    help = "List webhooks; write them as YAML and read them back; make a new secret; resume one that was paused."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="action")
        parser.set_defaults(run=self._list)
        commands.add_parser("list", help="all webhooks and how they stand").set_defaults(run=self._list)
        commands.add_parser("export", help="write all as YAML, without secrets").set_defaults(run=self._export)
        read = commands.add_parser("import", help="make and change those of a YAML file, all or none")
        read.set_defaults(run=self._import)
        read.add_argument("file", help="- is stdin")
        for action, run, words in (
            ("secret", self._secret, "make a new secret and print it, this once"),
            ("resume", self._resume, "send again to one that was paused"),
        ):
            command = commands.add_parser(action, help=words)
            command.set_defaults(run=run)
            command.add_argument("name")

    def act(self, **options: Any) -> None:
        options["run"](options)

    def _list(self, options: dict[str, Any]) -> None:
        for subscription in Subscription.objects.all():
            values = (subscription.name, subscription.state, subscription.url, subscription.note)
            self.stdout.write("\t".join(values))

    def _export(self, options: dict[str, Any]) -> None:
        self.stdout.write(definitions.exported(), ending="")

    def _import(self, options: dict[str, Any]) -> None:
        plan = definitions.plan_import(read_text(options["file"]))
        for name, secret in definitions.carry_out(plan, actor=operator()).items():
            self.stdout.write(f"The secret of {name}, shown this once: {secret}")
        self.stdout.write(f"{len(plan.made)} made, {len(plan.changed)} changed, {plan.same} as they were.")

    def _secret(self, options: dict[str, Any]) -> None:
        self.stdout.write(services.new_secret(name=options["name"], actor=operator()))

    def _resume(self, options: dict[str, Any]) -> None:
        services.resume(name=options["name"], actor=operator())
        self.stdout.write(f"{options['name']} is resumed.")
