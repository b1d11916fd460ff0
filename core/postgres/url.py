"""The database's URL as Django's settings."""

from __future__ import annotations

from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg import conninfo

_SCHEMES = ("postgresql://", "postgres://")
_WRITE = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, other than letters and digits as %XX"
# A server that is gone is noticed within these, and one that lost us ends our transaction within the last two.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "lobwife",
}
# A pool that can't connect is asked again by the next request, and does not back off for minutes.
_POOL = {"max_idle": 60.0, "reconnect_timeout": 2.0}
_OF_SERVER = {
    "idle_in_transaction_session_timeout": "15s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


def settings_of(variable: str, url: str, *, connections: int, timeout: int) -> dict[str, Any]:
    """Return Django's settings for a URL; raises ImproperlyConfigured with a sentence that has nothing of it.

    `connections` is the size of a process's pool, 0 for none; a transaction waits for others `timeout` seconds.
    """
    if not url.startswith(_SCHEMES):
        raise ImproperlyConfigured(f"{variable} is not a URL of PostgreSQL: {_WRITE}.")
    try:
        parts: dict[str, Any] = {key: str(value) for key, value in conninfo.conninfo_to_dict(url).items()}
    except psycopg.Error:
        raise ImproperlyConfigured(f"{variable} can't be read: {_WRITE}.") from None  # the reason quotes the password
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    settings = {setting: parts.pop(part, "") for setting, part in names.items()}
    if not settings["NAME"]:
        raise ImproperlyConfigured(f"{variable} names no database: {_WRITE}.")
    session = _OF_SERVER | {"lock_timeout": f"{timeout}s"}
    arguments = " ".join(f"-c {name}={value}" for name, value in session.items())
    options = _DEFAULTS | parts | {"options": f"{arguments} {parts.get('options', '')}".strip()}
    pool = {"min_size": 0, "max_size": connections, "timeout": timeout, **_POOL} if connections else None
    return {
        "ENGINE": "core.postgres",
        **settings,
        "CONN_MAX_AGE": 0 if connections else None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**options, "pool": pool, "timeout": timeout},
    }
