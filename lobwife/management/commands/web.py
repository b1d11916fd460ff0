"""`manage.py web`: prepare the installation, then answer on both ports, in the foreground."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from access import policy
from core import logs
from core.errors import LobwifeError
from lobwife.web.banner import CLOSED
from lobwife.web.preflight import OPERATOR_VARIABLES, check_ports, check_state_directory
from lobwife.web.prepare import prepare


class Command(BaseCommand):
    help = "Prepare the installation, then run web alone until stopped; the daemon is run beside it."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            check_state_directory(settings.STATE_DIR)
            check_ports(settings.BIND, {"LOBWIFE_WEB_PORT": settings.WEB_PORT, "LOBWIFE_API_PORT": settings.API_PORT})
            operator = prepare(stdout=self.stdout, stderr=self.stderr)
        except LobwifeError as error:
            raise CommandError(str(error)) from None
        if operator is not None:
            password = f", password {operator.password} (shown this once)" if operator.password else ""
            logs.announce(f"The first operator is {operator.username}{password}.", self.stdout)
            if not policy.is_open():
                logs.announce(f"The API is closed {CLOSED[0]} {CLOSED[1]}.", self.stdout)
        self.stdout.flush()
        connection.close()
        environment = {name: value for name, value in os.environ.items() if name not in OPERATOR_VARIABLES}
        os.chdir(settings.BASE_DIR)
        configuration = str(settings.BASE_DIR / "lobwife" / "web" / "gunicorn_conf.py")
        command = [sys.executable, "-m", "gunicorn", "--config", configuration]
        os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is wanted
