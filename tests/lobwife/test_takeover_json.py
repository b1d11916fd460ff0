"""The three JSON files of the oldest installations are imported once."""

from __future__ import annotations

import json
import pathlib

import pytest

from lobwife.takeover import json_files
from tests.support import old_service
from tests.support.installation import Installation

pytestmark = pytest.mark.sqlite("the older service's files")

NAMES = ("jobs.json", "tasks.json", "token-audit.json")


def counts(installation: Installation) -> tuple[int, int, int]:
    with installation.database() as database:
        return tuple(
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("job_state", "broker_tasks", "token_audit")
        )


def test_json_alone_becomes_a_database(fresh: Installation) -> None:
    old_service.make_json(fresh.state)
    texts = {name: (fresh.state / name).read_bytes() for name in NAMES}
    fresh.manage("migrate")
    assert counts(fresh) == (3, 2, 3)
    for name in NAMES:
        assert not (fresh.state / name).exists()
        assert (fresh.state / f"{name}.migrated").read_bytes() == texts[name]
    with fresh.database() as database:
        job = database.execute("SELECT * FROM job_state WHERE name = 'status-reporter'").fetchone()
        assert tuple(job) == (
            "status-reporter", "2026-02-16T10:00:00.123456+00:00", "failed", 2.5, "ünïcode\n", 5, 2, 0,
        )  # fmt: skip
        odd = database.execute("SELECT * FROM job_state WHERE name = 'long-gone'").fetchone()
        assert tuple(odd) == ("long-gone", None, None, None, '["\\ud800"]', 0, 0, 1)
        registration = database.execute("SELECT * FROM broker_tasks WHERE task_id = 'from-json'").fetchone()
        assert tuple(registration) == (
            "from-json", '["org/a", "org/b"]', "qa", "2026-02-16T10:00:00.123456+00:00", "expired", 2,
        )  # fmt: skip
        audit = database.execute("SELECT task_id, repos, action, created_at FROM token_audit ORDER BY id").fetchall()
        assert [tuple(row) for row in audit] == [
            ("a", '["org/a"]', "token_issued", "2026-02-15T10:00:00+00:00"),
            ("a", '["org/a"]', "token_issued", "2026-02-15T10:00:00+00:00"),
            ("b", None, "task_registered", "2026-02-15T11:00:00+00:00"),
        ]


def test_rows_that_exist_win(fresh: Installation) -> None:
    database = old_service.make_database(fresh.state, 2)
    before = old_service.dump(database)
    old_service.make_json(fresh.state)
    fresh.manage("migrate", "-v0")
    after = old_service.dump(database)
    for table in ("job_state", "broker_tasks"):
        assert set(before[table]) < set(after[table])
    kept = [row[: len(before["token_audit"][0])] for row in after["token_audit"]]  # columns came to it
    assert kept[: len(before["token_audit"])] == before["token_audit"]
    assert counts(fresh) == (5, 3, 5)


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_imported_without_the_others(installation: Installation, name: str) -> None:
    old_service.make_json(installation.state, name)
    installation.manage("migrate", "-v0")
    assert sum(counts(installation)) == (2 if name == "tasks.json" else 3)


def test_a_repeat_after_the_import_adds_nothing_twice(installation: Installation) -> None:
    old_service.make_json(installation.state)
    installation.manage("migrate", "-v0")
    old_service.make_json(installation.state)  # as if the process had been killed before it renamed them
    installation.manage("migrate", "-v0")
    assert counts(installation) == (3, 2, 3)
    assert not list(installation.state.glob("*.migrated.1")), "the same file is not kept twice"


def test_another_file_of_the_same_name_is_imported_and_the_first_kept(installation: Installation) -> None:
    old_service.make_json(installation.state)
    installation.manage("migrate", "-v0")
    more = [*old_service.AUDIT_JSON, old_service.AUDIT_JSON[2]]
    (installation.state / "token-audit.json").write_text(json.dumps(more))
    installation.manage("migrate", "-v0")
    assert counts(installation) == (3, 2, 4)
    assert json.loads((installation.state / "token-audit.json.migrated").read_bytes()) == more
    assert json.loads((installation.state / "token-audit.json.migrated.1").read_bytes()) == old_service.AUDIT_JSON


def test_a_part_of_the_migrations_does_not_import(fresh: Installation) -> None:
    old_service.make_json(fresh.state)
    fresh.manage("migrate", "tasks", "-v0")
    assert all((fresh.state / name).exists() for name in NAMES)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("jobs.json", ""),
        ("jobs.json", "null"),
        ("jobs.json", "[]"),
        ("jobs.json", '{"task-manager": 1}'),
        ("tasks.json", '{"a": {"repos": ["x"]}, '),
        ("tasks.json", '{"a": null}'),
        ("token-audit.json", "null"),
        ("token-audit.json", "{}"),
        ("token-audit.json", '[{"task_id": "a"}, "b"]'),
        ("token-audit.json", "[" * 100_000),
        ("token-audit.json", '["\xff"]'),
    ],
)
def test_a_file_that_cant_be_read_is_left_out_with_a_warning(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, name: str, content: str
) -> None:
    old_service.make_json(tmp_path)
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    assert [file.path.name for file in json_files.read(tmp_path)] == [other for other in NAMES if other != name]
    assert f"{name} can't be read" in caplog.text
    assert (tmp_path / name).read_bytes() == content.encode("latin-1")


def test_the_others_are_imported_and_it_is_once_it_is_mended(installation: Installation) -> None:
    old_service.make_json(installation.state)
    (installation.state / "tasks.json").write_text("null")
    done = installation.manage("migrate", "-v0")
    assert "tasks.json can't be read" in done.stdout + done.stderr
    assert counts(installation) == (3, 0, 3)
    assert (installation.state / "tasks.json").read_text() == "null"
    old_service.make_json(installation.state, "tasks.json")
    installation.manage("migrate", "-v0")
    assert counts(installation) == (3, 2, 3)


def test_a_file_that_may_not_be_read_does_not_stop_the_start(installation: Installation) -> None:
    (installation.state / "jobs.json").mkdir()
    done = installation.manage("migrate", "-v0")
    assert "jobs.json can't be read" in done.stdout + done.stderr
