"""`manage.py`: help for operators, and commands that destroy only what is meant."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.installation import Installation


def tasks(installation: Installation) -> int:
    with installation.database() as database:
        return database.execute("SELECT COUNT(*) FROM tasks").fetchone()[0]


@pytest.fixture
def living(installation: Installation) -> Installation:
    with installation.database() as database:
        database.execute("INSERT INTO tasks (name) VALUES ('one')")
    return installation


def test_help_begins_with_what_operators_use(installation: Installation) -> None:
    lines = installation.manage("help").stdout.splitlines()
    assert lines[2:4] == ["Start", f"  {'serve':<16}{lines[3][18:]}"]
    assert lines[3].endswith("then run web and daemon until stopped.")
    (doctor,) = (line for line in lines if line.startswith("  doctor "))
    assert doctor.endswith("each line says ok or what to do.")
    assert "startapp" in lines[-1]
    assert not any(line.startswith("  startapp") for line in lines)
    commands = installation.manage("help", "--commands").stdout.split()
    named = {line.split()[0] for line in lines if line.startswith("  ")} | {
        *lines[-1].partition(": ")[2][:-1].split(", ")
    }
    assert {*commands} == named


@pytest.mark.parametrize(
    "command", [["flush", "--no-input"], ["loaddata", "rows.json"], ["migrate", "tasks", "zero", "--no-input"]]
)
def test_what_destroys_is_refused_unless_meant(
    living: Installation, command: list[str], tmp_path: pathlib.Path
) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text('[{"model": "tasks.task", "pk": 1, "fields": {"name": "other"}}]')
    command = [str(rows) if word == rows.name else word for word in command]
    refused = living.manage(*command, check=False)
    assert refused.returncode == 1
    assert "--yes-i-mean-it" in refused.stderr
    assert tasks(living) == 1
    assert not list(living.state.glob("backups/*.gz"))


@pytest.mark.sqlite("copies of the file")
def test_what_is_meant_is_done_on_a_copy_first(living: Installation) -> None:
    living.manage("flush", "--no-input", "--yes-i-mean-it")
    assert tasks(living) == 0
    (copy,) = living.state.glob("backups/*-by-hand.db.gz")
    living.manage("restore", "--no-input", str(copy))
    assert tasks(living) == 1
