"""LOBWIFE_DATABASE_URL: read, refused with a sentence, and never quoted."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from core.postgres.url import settings_of
from core.sqlite.base import native_sql


def _settings(url: str, connections: int = 0) -> dict[str, Any]:
    return settings_of("LOBWIFE_DATABASE_URL", url, connections=connections, timeout=5)


def test_a_url_is_read_with_its_options() -> None:
    settings = _settings("postgresql://ann:p%40ss@db.example.com:5433/fleet?sslmode=verify-full&connect_timeout=9")
    names = ("USER", "PASSWORD", "HOST", "PORT", "NAME")
    assert [settings[name] for name in names] == ["ann", "p@ss", "db.example.com", "5433", "fleet"]
    assert settings["OPTIONS"]["sslmode"] == "verify-full"
    assert settings["OPTIONS"]["connect_timeout"] == "9"
    assert "lock_timeout=5s" in settings["OPTIONS"]["options"]


def test_several_hosts_and_a_socket_are_taken() -> None:
    settings = _settings("postgres://a@one:1,two:2/fleet?target_session_attrs=read-write")
    assert (settings["HOST"], settings["PORT"]) == ("one,two", "1,2")
    assert _settings("postgresql:///fleet?host=/run/postgresql")["HOST"] == "/run/postgresql"


def test_web_pools_connections_and_others_keep_theirs() -> None:
    web, daemon = _settings("postgresql://h/fleet", connections=16), _settings("postgresql://h/fleet")
    assert (web["OPTIONS"]["pool"]["max_size"], web["CONN_MAX_AGE"]) == (16, 0)
    assert (daemon["OPTIONS"]["pool"], daemon["CONN_MAX_AGE"]) == (None, None)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ann:hunter2@db/fleet",
        "postgresql://ann:hunter2%zz@db/fleet",
        "postgresql://ann:hunter2@db",
        "postgresql://ann:hunter2@db/fleet?nonsense=1",
        "postgresql://ann:hunter2@[db/fleet",
    ],
)
def test_what_can_not_be_used_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"LOBWIFE_DATABASE_URL .*: write postgresql://USER") as raised:
        _settings(url)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_statements_have_the_parameters_of_sqlite() -> None:
    sql = "SELECT %s, %(name)s, '100%%' WHERE a LIKE %s AND b = %(name)s"
    assert native_sql(sql) == "SELECT ?, :name, '100%' WHERE a LIKE ? AND b = :name"
