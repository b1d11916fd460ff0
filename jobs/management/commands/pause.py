"""`manage.py pause`: start nothing until resumed."""

from __future__ import annotations

from typing import Any

from jobs import services
from jobs.console import OperatorCommand, operator


class Command(OperatorCommand):
    help = "Start no more runs until resumed; what runs goes on."

    def act(self, **options: Any) -> int:
        services.set_paused(paused=True, actor=operator())
        self.stdout.write("Starts are paused; `manage.py resume` ends that.")
        return 0
