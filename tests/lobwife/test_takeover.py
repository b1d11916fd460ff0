"""Databases of every age are taken over with every row as it was."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Callable

import pytest
from django.conf import settings

from lobwife.web.banner import banner
from lobwife.web.prepare import NewOperator
from tests.support import old_service
from tests.support.installation import ROOT, Installation, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sqlite("the older service's files")]

SIX = set(old_service.TABLES)


def versions(installation: Installation) -> list[int]:
    with installation.database() as database:
        return [row[0] for row in database.execute("SELECT version FROM schema_version ORDER BY rowid")]


def test_the_banner_tells_of_it_once(fresh: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = NewOperator("admin", "a-password")
    monkeypatch.setattr(settings, "STATE_DIR", fresh.state)
    assert "taken over" not in banner(operator, is_open=True)
    (fresh.state / "lobmob.db.pre-migration").touch()
    assert "it is kept as lobmob.db.pre-migration" in banner(operator, is_open=True)
    assert "taken over" not in banner(None, is_open=True)


def test_the_banner_says_that_an_installation_is_closed_and_how_it_is_opened(fresh: Installation) -> None:
    fresh.migrate()
    assert "apikey access open" not in banner(None, is_open=True)
    text = banner(None, is_open=False)
    assert "manage.py apikey create NAME --role service" in text
    assert "manage.py apikey access open" in text
    fresh.environment["LOBWIFE_API_AUTH"] = "required"
    web = fresh.fork(str(ROOT / "manage.py"), "web")
    wait_for(lambda: web.poll() is not None or "web answers" in fresh.log(), 120)
    assert "apikey access open" in fresh.log()


def the_same_rows(before: dict, after: dict) -> None:
    """All rows of before are in after; columns that came with version 2 are at the end."""
    for table, rows in before.items():
        if table != "schema_version":
            width = len(rows[0]) if rows else 0
            assert [row[:width] for row in after[table][: len(rows)]] == rows, table


def test_a_first_start_makes_a_private_state_directory_a_key_and_a_database(fresh: Installation) -> None:
    fresh.state.rmdir()
    del fresh.environment["LOBWIFE_SECRET_KEY"]
    fresh.manage("migrate")
    assert stat.S_IMODE(fresh.state.stat().st_mode) == 0o700
    key = fresh.state / "secret-key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_text().strip()) >= 50
    assert versions(fresh) == [2]
    assert not list(fresh.state.glob("*.pre-migration*"))
    made = key.read_text()
    fresh.manage("migrate")
    assert key.read_text() == made


def test_no_key_is_made_beside_one_in_the_environment(fresh: Installation) -> None:
    fresh.manage("migrate", "contenttypes", "-v0")
    assert not (fresh.state / "secret-key").exists()


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_either_version_keeps_every_row_and_a_copy(fresh: Installation, version: int) -> None:
    database = old_service.make_database(fresh.state, version)
    before = old_service.dump(database)
    fresh.manage("migrate", "-v0")
    the_same_rows(before, old_service.dump(database))
    assert versions(fresh) == [1, 2]
    kept = fresh.state / "lobmob.db.pre-migration"
    assert old_service.dump(kept) == before
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    again = kept.read_bytes()
    fresh.manage("migrate", "-v0")
    assert kept.read_bytes() == again
    assert [each.name for each in fresh.state.glob("*.pre-migration*")] == [kept.name]
    assert not list(fresh.state.glob(".take-over-*"))


@pytest.mark.parametrize(
    "make",
    [
        lambda state: old_service.make_database(state, 2, columns_of_2=2),
        lambda state: old_service.make_database(state, 1, without={"broker_tasks", "token_audit"}),
        lambda state: old_service.make_database(state, 0, without=SIX - {"schema_version"}, rows=False),
        lambda state: old_service.make_database(state, 0, without={"schema_version", "task_events"}),
    ],
    ids=["two of four columns", "two tables missing", "one table", "no version"],
)
def test_a_half_made_file_is_completed(fresh: Installation, make: Callable[[pathlib.Path], pathlib.Path]) -> None:
    database = make(fresh.state)
    before = old_service.dump(database)
    fresh.manage("migrate", "-v0")
    the_same_rows(before, old_service.dump(database))
    assert versions(fresh)[-1] == 2
    with fresh.database() as opened:
        objects = {row[0] for row in opened.execute("SELECT name FROM sqlite_master")}
        columns = {row[1] for row in opened.execute("PRAGMA table_info(tasks)")}
    assert objects >= SIX | {sql.split()[5] for sql in old_service.INDEXES}
    assert columns >= {"broker_repos", "broker_status", "token_count", "broker_registered_at"}


def test_an_earlier_copy_is_moved_aside_not_overwritten(fresh: Installation) -> None:
    (fresh.state / "lobmob.db.pre-migration").write_text("an earlier one")
    (fresh.state / "lobmob.db.pre-migration.1").write_text("a still earlier one")
    database = old_service.make_database(fresh.state, 2)
    before = old_service.dump(database)
    fresh.manage("migrate", "tasks", "-v0")  # the copy comes first
    assert old_service.dump(fresh.state / "lobmob.db.pre-migration") == before
    assert (fresh.state / "lobmob.db.pre-migration.1").read_text() == "a still earlier one"
    assert (fresh.state / "lobmob.db.pre-migration.2").read_text() == "an earlier one"


def test_a_take_over_that_was_interrupted_keeps_the_first_copy(fresh: Installation) -> None:
    database = old_service.make_database(fresh.state, 1)
    before = old_service.dump(database)
    fresh.manage("migrate", "tasks", "-v0")  # tasks alone: the rest is as if the process had been killed
    fresh.manage("migrate", "-v0")
    assert old_service.dump(fresh.state / "lobmob.db.pre-migration") == before
    assert not (fresh.state / "lobmob.db.pre-migration.1").exists()
    the_same_rows(before, old_service.dump(database))


def test_two_starts_at_once_both_succeed(fresh: Installation) -> None:
    database = old_service.make_database(fresh.state, 1)
    old_service.make_json(fresh.state)
    before = old_service.dump(database)
    both = [fresh.fork(str(ROOT / "manage.py"), "migrate", "-v0") for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0], fresh.log()
    the_same_rows({"tasks": before["tasks"]}, old_service.dump(database))
    assert old_service.dump(fresh.state / "lobmob.db.pre-migration") == before
    assert versions(fresh) == [1, 2]


def test_a_start_beside_a_running_service_needs_no_copy(installation: Installation) -> None:
    with installation.database() as opened:  # its WAL is in use
        opened.execute("INSERT INTO tasks (name) VALUES ('written')")
        opened.commit()
        assert (installation.state / "lobmob.db-wal").stat().st_size
        installation.manage("migrate", "-v0")
        opened.execute("INSERT INTO tasks (name) VALUES ('still writing')")
    with installation.database() as opened:
        assert opened.execute("SELECT count(*) FROM tasks").fetchone()[0] == 2


def test_odd_values_are_answered_over_http(fresh: Installation) -> None:
    database = old_service.make_database(fresh.state, 2)
    before = old_service.dump(database)
    fresh.manage("migrate", "-v0")
    fresh.start_web()
    listed = fresh.get("/api/v1/tasks?limit=500")
    assert listed.status == 200
    assert [task["id"] for task in listed.json] == [6, 5, 4, 3, 2, 1]
    for number in (1, 2, 3, 4, 5, 6):
        detail = fresh.get(f"/api/v1/tasks/{number}")
        assert detail.status == 200, detail.body
        assert fresh.get(f"/api/v1/tasks/{number}/events").status == 200
    assert fresh.get("/api/v1/tasks/2").json["estimate_minutes"] is None
    assert fresh.get("/api/v1/tasks/2").json["repos"] is None
    assert fresh.get("/api/v1/tasks/1").json["assigned_at"] == "2026-02-16T12:00:00Z"
    assert fresh.get("/api/v1/tasks/999/events").json[0]["event_type"] == "orphan"
    assert fresh.get("/health").json["db"]["task_count"] == 6
    made = fresh.post("/api/v1/tasks", {"name": "new"})
    assert made.json["id"] == 8, "7 was given out once"
    fresh.stop()
    the_same_rows(
        {name: rows for name, rows in before.items() if name != "sqlite_sequence"}, old_service.dump(database)
    )


def test_the_old_service_can_still_run_on_the_file(fresh: Installation) -> None:
    old_service.make_database(fresh.state, 1)
    fresh.manage("migrate", "-v0")
    with fresh.database() as database:
        task = old_service.work(database)
    with fresh.database() as database:
        row = database.execute("SELECT * FROM tasks WHERE id = ?", (task,)).fetchone()
        assert (row["status"], row["token_count"], task) == ("active", 1, 8)
        for column in ("created_at", "updated_at", "queued_at"):
            assert len(row[column]) == len("2026-02-16 12:00:00")
        assert database.execute("SELECT max(version) FROM schema_version").fetchone()[0] == 2
        legacy = database.execute("SELECT task_id, status, token_count FROM broker_tasks ORDER BY 1").fetchall()
        assert [tuple(each) for each in legacy] == [("legacy", "expired", 1), ("legacy/1+2", "active", 3)]
        assert database.execute("SELECT run_count FROM job_state WHERE name = 'review-prs'").fetchone()[0] == 2
        assert database.execute("SELECT created_at FROM task_events ORDER BY id DESC").fetchone()[0].count(":") == 2


def test_a_database_of_tests_or_another_file_is_not_taken_over(fresh: Installation) -> None:
    """Only the installation's own file is; Django's test runner makes and drops its own beside it."""
    old_service.make_json(fresh.state)
    code = (
        "import django; django.setup()\n"
        "from django.db import connection\n"
        "name = connection.creation.create_test_db(verbosity=0)\n"
        "from tasks.models import Task; assert Task.objects.count() == 0\n"
        "from jobs.models import JobState; assert JobState.objects.count() == 0\n"
        "connection.creation.destroy_test_db(name, verbosity=0)\n"
    )
    fresh.run("-c", code, check=True)
    assert {name for name in os.listdir(fresh.state) if name.endswith(".json")} == {
        "jobs.json",
        "tasks.json",
        "token-audit.json",
    }
