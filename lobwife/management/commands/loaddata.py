"""Django's loaddata, which refuses on an installation unless it is meant, and copies the database first."""

from __future__ import annotations

from django.core.management.commands import loaddata

from lobwife.management.destructive import Destructive


class Command(Destructive, loaddata.Command):
    pass
