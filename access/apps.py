"""The app and its system check: `manage.py check` warns while callers need no credential."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db import connection
from django.db.utils import DatabaseError

from access.queries import MODE
from core.database.backend import is_postgres
from core.database.statements import read_one


class AccessConfig(AppConfig):
    """Its label is the one that its tables, permissions and pages in the admin have."""

    name = "access"
    label = "lobwife"
    verbose_name = "API access"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        checks.register(check_api_access)


def check_api_access(**_: Any) -> list[checks.CheckMessage]:
    """Warn if the environment or the database says that access is open."""
    decided, initial = (settings.API_AUTH, "") if settings.API_AUTH else _stored_modes()
    if decided == "open":
        return [
            checks.Warning(
                "The API is open: whoever reaches its ports may do everything, and is given tokens.",
                hint="Give callers credentials, see in the admin who still has none, then set LOBWIFE_API_AUTH=required"
                " or decide so in the admin under “API access”.",
                id="lobwife.W020",
            )
        ]
    if not decided and initial == "open":
        return [
            checks.Warning(
                "The API is open to whoever reaches its ports, as it was on the service that this database is from,"
                " until an operator decides.",
                hint="In the admin, “API access” has the choice and “Callers without credentials” lists whom closing it"
                " would keep out; LOBWIFE_API_AUTH=required or =open decides too.",
                id="lobwife.W021",
            )
        ]
    return []


def _stored_modes() -> tuple[str, str]:
    """Return the decided and the initial mode, without changing a byte of the database; "" for what it doesn't have."""
    row = None
    if is_postgres():
        with contextlib.suppress(DatabaseError):
            row = read_one(MODE)
        return row or ("", "")
    with contextlib.suppress(sqlite3.Error, OSError):
        if connection.connection is not None:  # closing another handle of the file would drop this one's locks
            row = connection.connection.execute(MODE).fetchone()
        else:
            path = pathlib.Path(str(connection.settings_dict["NAME"])).absolute()
            # The first raises for what is no database, before anything is made beside it.
            for uri in (f"{path.as_uri()}?mode=ro&immutable=1", f"{path.as_uri()}?mode=ro"):
                with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as reader:
                    row = reader.execute(MODE).fetchone()
    return row or ("", "")
