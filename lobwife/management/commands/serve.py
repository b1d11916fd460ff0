"""`manage.py serve`: everything that a start needs, then web and daemon in the foreground."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from access import policy
from core import logs
from core.errors import LobwifeError
from lobwife.web.banner import banner
from lobwife.web.preflight import check_nothing_runs, check_ports, check_state_directory
from lobwife.web.prepare import NewOperator, prepare
from lobwife.web.supervisor import become_supervisor


class Command(BaseCommand):
    help = "Prepare the installation (database, static files, first operator), then run web and daemon until stopped."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            operator = self._prepare()
        except LobwifeError as error:
            raise CommandError(str(error)) from None
        logs.announce(banner(operator, is_open=policy.is_open()), self.stdout)
        become_supervisor()

    def _prepare(self) -> NewOperator | None:
        check_state_directory(settings.STATE_DIR)
        check_nothing_runs(settings.STATE_DIR)
        check_ports(settings.BIND, {"LOBWIFE_WEB_PORT": settings.WEB_PORT, "LOBWIFE_API_PORT": settings.API_PORT})
        return prepare(stdout=self.stdout, stderr=self.stderr)
