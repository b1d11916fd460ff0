"""`manage.py resume`: start runs again."""

from __future__ import annotations

from typing import Any

from jobs import services
from jobs.console import OperatorCommand, operator


class Command(OperatorCommand):
    help = "Start runs again; firings missed while paused follow each job's policy."

    def act(self, **options: Any) -> int:
        services.set_paused(paused=False, actor=operator())
        self.stdout.write("Starts are resumed.")
        return 0
