"""`manage.py move-database`: everything goes to PostgreSQL and back, and the database that was left takes no writes."""

from __future__ import annotations

import pathlib
import signal
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from tests.support.installation import Installation
from tests.support.jobs import define
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.sqlite("it is moved from there")]


KILLED = """
import django; django.setup()
import os, signal
from lobwife.database_move import Observer, move
def on_table(name, rows):
    if name == "task_events":
        os.kill(os.getpid(), signal.SIGKILL)
move({url!r}, Observer(on_table=on_table))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.make_database(f"target_{uuid.uuid4().hex}")


def move(installation: Installation, to: str) -> tuple[int, str]:
    done = installation.manage("move-database", "--to", to, check=False)
    return done.returncode, done.stdout + done.stderr


def add_task(installation: Installation, name: str, **columns: object) -> int:
    values = {"name": name, **columns}
    marks = ", ".join("?" * len(values))
    with installation.database() as database:
        sql = f"INSERT INTO tasks ({', '.join(values)}) VALUES ({marks})"
        return database.execute(sql, list(values.values())).lastrowid or 0


def names(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM tasks ORDER BY id")]


def on(installation: Installation, url: str, folder: pathlib.Path) -> Installation:
    """Return the same installation on another database."""
    other = Installation(folder, LOBWIFE_DATABASE_URL=url, LOBWIFE_STATE_DIR=str(installation.state))
    other.state = installation.state
    return other


def test_a_database_goes_to_postgresql_and_back(installation: Installation, url: str, tmp_path: pathlib.Path) -> None:
    first = add_task(installation, "Größe 🦞")
    gone = add_task(installation, "gone")
    with installation.database() as database:
        database.execute("DELETE FROM tasks WHERE id = ?", [gone])
    installation.start_web()

    code, output = move(installation, url)

    assert code == 0, output
    assert "compared." in output
    assert names(url) == ["Größe 🦞"]
    assert installation.get(f"/api/v1/tasks/{first}").json["name"] == "Größe 🦞"
    refused = installation.post("/api/v1/tasks", {"name": "too late"})
    assert refused.status == 503
    assert "was moved, to another database" in refused.json["error"]
    there = on(installation, url, tmp_path / "there")
    there.manage("tasks", "create", "made there")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT max(id) FROM tasks").fetchone() == (gone + 1,)

    code, output = move(there, "sqlite")

    assert code == 0, output
    with installation.database() as database:
        rows = database.execute("SELECT name FROM tasks ORDER BY id").fetchall()
    assert [row["name"] for row in rows] == ["Größe 🦞", "made there"]
    assert add_task(installation, "made here") == gone + 2
    refused_there = there.manage("pause", check=False)
    assert refused_there.returncode == 1
    assert "was moved, to another database" in refused_there.stderr
    assert installation.manage("tasks", "create", "goes on", check=False).returncode == 0


def test_a_move_that_was_killed_goes_on(installation: Installation, url: str) -> None:
    with installation.database() as database:
        database.executemany("INSERT INTO tasks (name) VALUES (?)", [(f"task {number}",) for number in range(3000)])
        database.execute("INSERT INTO task_events (task_id, event_type) SELECT id, 'note' FROM tasks")
    assert installation.run("-c", KILLED.format(url=url)).returncode == -signal.SIGKILL
    assert len(names(url)) == 3000
    add = installation.manage("tasks", "create", "in between", check=False)
    assert "move" in add.stderr

    code, output = move(installation, url)

    assert code == 0, output
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT task_id) FROM task_events").fetchone() == (
            3000,
            3000,
        )
    assert len(names(url)) == 3000


def test_a_row_that_cannot_be_taken_is_named_and_the_service_goes_on(installation: Installation, url: str) -> None:
    add_task(installation, "a\0b")
    number = add_task(installation, "half an hour", estimate_minutes="30m")
    define(installation, {"name": "clean", "script": "clean.sh"})
    with installation.database() as database:
        database.execute("UPDATE jobs_job SET timeout_seconds = 'long'")

    code, output = move(installation, url)

    assert code == 1
    assert "the row 1 of jobs_job can't be taken over" in output
    with installation.database() as database:
        database.execute("UPDATE jobs_job SET timeout_seconds = 60")
    assert installation.manage("pause", check=False).returncode == 0, "it takes writes again"
    code, output = move(installation, url)
    assert code == 0, output
    assert names(url) == ["a\ufffdb", "half an hour"]
    assert f"{number} of tasks: estimate_minutes is '30m', which becomes null" in output


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        ("mysql://somewhere/else", "--to takes postgresql://"),
        ("postgresql://me:secret@127.0.0.1/database", "leave the password out of --to"),
        ("postgresql://me@127.0.0.1:1/database", "the target can't be used"),
        ("sqlite", "is on SQLite already"),
    ],
)
def test_a_target_that_cannot_be_taken_is_refused(installation: Installation, to: str, sentence: str) -> None:
    code, output = move(installation, to)

    assert code == 1
    assert sentence in output
    assert "secret" not in output
    assert installation.manage("pause", check=False).returncode == 0


def test_a_target_with_tables_of_its_own_is_refused(installation: Installation, url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE somebodys (id int)")

    code, output = move(installation, url)

    assert code == 1
    assert "name an empty database" in output
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)
