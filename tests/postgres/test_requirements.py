"""What a server lacks is said before anything runs on it."""

from __future__ import annotations

import pathlib
import subprocess
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from core.postgres.requirements import obstacles
from tests.support.postgres import program, url_of_run

pytestmark = pytest.mark.django_db


def _sentences(url: str) -> list[str]:
    with psycopg.connect(url) as opened:
        return [obstacle.sentence for obstacle in obstacles(opened)]


def _made(name: str, statement: str) -> str:
    """Make a database of this name anew and return its URL."""
    url = url_of_run()
    with psycopg.connect(url, autocommit=True) as opened:
        opened.execute(f"DROP DATABASE IF EXISTS {name}")
        opened.execute(f"CREATE DATABASE {name} {statement}")
    return psycopg.conninfo.make_conninfo(url, dbname=name)


def test_the_database_of_this_run_lacks_nothing() -> None:
    assert connection.obstacles() == []
    assert connection.server_version()[:2].isdigit()


def test_another_encoding_is_refused() -> None:
    url = _made("obstacle_latin", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    assert _sentences(url) == ["The database obstacle_latin has the encoding LATIN1: this needs UTF8."]


def test_an_account_without_rights_is_refused() -> None:
    url = _made("obstacle_rights", "")
    with psycopg.connect(url, autocommit=True) as opened:
        opened.execute("DO $$ BEGIN CREATE ROLE obstacle_guest LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    (sentence,) = _sentences(psycopg.conninfo.make_conninfo(url, user="obstacle_guest"))
    assert sentence == (
        "The account obstacle_guest may not make tables in the schema public of the database obstacle_rights."
    )


def test_a_database_that_takes_no_writes_is_refused() -> None:
    url = psycopg.conninfo.make_conninfo(url_of_run(), options="-c default_transaction_read_only=on")
    (sentence,) = _sentences(url)
    assert "takes no writes" in sentence


def test_what_is_about_a_file_steps_aside() -> None:
    with pytest.raises(CommandError, match=r"PostgreSQL, whose copies are made .* with its own tools"):
        call_command("restore", "any.db", stdout=StringIO())


def test_a_copy_is_made_by_pg_dump(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "copies" / "now.dump"
    call_command("backup", str(target), stdout=StringIO())
    listed = subprocess.run(
        [program("pg_restore"), "--list", target], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "TABLE DATA public tasks " in listed
    assert list(target.parent.iterdir()) == [target]
    target.write_text("an earlier copy")
    with pytest.raises(CommandError, match="is there already: name another file, or remove it"):
        call_command("backup", str(target), stdout=StringIO())
    assert target.read_text() == "an earlier copy"


def test_without_pg_dump_a_sentence_says_what_to_install(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="install Debian's postgresql-client"):
        call_command("backup", str(tmp_path / "now.dump"), stdout=StringIO())
    assert list(tmp_path.iterdir()) == []
