"""Django's flush, which refuses on an installation unless it is meant, and copies the database first."""

from __future__ import annotations

from django.core.management.commands import flush

from lobwife.management.destructive import Destructive


class Command(Destructive, flush.Command):  # type: ignore[misc]  # Django's two write their arguments otherwise
    pass
