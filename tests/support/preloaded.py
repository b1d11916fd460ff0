"""The project with all that it imports, for processes that are forked from this one and read their settings anew.

Nothing of the project reads its settings while it is imported.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import sys

import lobwife  # first: it puts pysqlite3 in sqlite3's place

os.environ["DJANGO_SETTINGS_MODULE"] = "lobwife.settings"

import django
from django.conf import Settings, settings
from django.core.management import get_commands, load_command_class
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.utils import ConnectionHandler
from django.utils.functional import empty

assert lobwife
django.setup()
importlib.import_module("lobwife.urls")
importlib.import_module("django.core.management.commands.migrate")
MigrationLoader(None)  # imports them all, as each start of a daemon does
sys.path.append(str(pathlib.Path(lobwife.__file__).parents[1] / "jobs" / "scripts"))
importlib.import_module("lobmob_lib.investigations")  # with what the fleet's scripts are made of
for _name, _app in get_commands().items():
    if _app.partition(".")[0] not in ("django", "axes"):
        load_command_class(_app, _name)
_DEFAULTS = {name: getattr(settings, name) for name in dir(settings) if name.startswith("AXES_")}


class SettingsWithDefaults(Settings):
    """Django's, with what django-axes adds to them when it is imported."""

    def __init__(self, module: str) -> None:
        super().__init__(module)
        for name, value in _DEFAULTS.items():
            if not hasattr(self, name):
                setattr(self, name, value)


def forget_settings() -> None:
    """Let the settings, and what was made of them, be read from the environment when they are needed."""
    sys.modules.pop("lobwife.settings", None)
    django.conf.Settings = SettingsWithDefaults  # type: ignore[misc]
    vars(settings).clear()
    settings._wrapped = empty
    vars(connections).clear()
    ConnectionHandler.__init__(connections)
