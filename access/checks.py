"""`manage.py check` says when everybody who reaches the service is let in."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db import connection

_SELECT = "SELECT decided, initial FROM lobwife_accesspolicy"


def register() -> None:
    checks.register(api_access, "lobwife")


def api_access(app_configs: Sequence[AppConfig] | None, **options: Any) -> list[checks.CheckMessage]:
    decided, mode = (True, settings.API_AUTH) if settings.API_AUTH else _stored()
    if mode != "open":
        return []
    if decided:
        return [
            checks.Warning(
                "The API is open: whoever reaches its ports may do everything, and is given tokens.",
                hint="Give callers credentials, see in the admin who still has none, then set LOBWIFE_API_AUTH=required"
                " or decide so in the admin under “API access”.",
                id="lobwife.W020",
            )
        ]
    return [
        checks.Warning(
            "The API is open to whoever reaches its ports, as it was on the service that this database is from, until"
            " an operator decides.",
            hint="In the admin, “API access” has the choice and “Callers without credentials” lists whom closing it"
            " would keep out; LOBWIFE_API_AUTH=required or =open decides too.",
            id="lobwife.W021",
        )
    ]


def _stored() -> tuple[bool, str]:
    """What the database says, without changing a byte of it; nothing when it has no answer yet."""
    row = None
    with contextlib.suppress(sqlite3.Error, OSError):
        if connection.connection is not None:  # closing another handle of our own would drop this one's locks
            row = connection.connection.execute(_SELECT).fetchone()
        else:
            path = pathlib.Path(str(connection.settings_dict["NAME"])).absolute()
            _read(path, "mode=ro&immutable=1")  # raises when the file is not ours; then nothing may be left beside it
            row = _read(path, "mode=ro")
    return (bool(row[0]), row[0] or row[1]) if row else (False, "")


def _read(path: pathlib.Path, how: str) -> tuple[str | None, str] | None:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=1)) as reader:
        row: tuple[str | None, str] | None = reader.execute(_SELECT).fetchone()
    return row
