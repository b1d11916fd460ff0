"""What can't be taken over is refused in a sentence, and is left as it was to the byte."""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support import old_service
from tests.support.installation import ROOT, Installation

pytestmark = pytest.mark.sqlite("the older service's files")


def refused(installation: Installation, *words: str, arguments: tuple[str, ...] = ("migrate",)) -> None:
    """The command ends with one sentence that has the words, and nothing in the state directory has changed."""
    before = old_service.snapshot(installation.state)
    done = installation.manage(*arguments, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert old_service.snapshot(installation.state) == before


def overwrite(path: pathlib.Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def execute(path: pathlib.Path, *statements: str) -> None:
    """Run and close, so that nothing is left in the WAL."""
    with contextlib.closing(old_service.open_raw(path)) as database:
        for sql in statements:
            database.execute(sql)


def without_wal(database: pathlib.Path) -> pathlib.Path:
    """A WAL that is whole would heal the pages that it has."""
    execute(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    return database


@pytest.mark.parametrize(
    "damage",
    [
        lambda database: without_wal(database).write_bytes(b"this is no database at all"),
        lambda database: without_wal(database).write_bytes(os.urandom(20_000)),
        lambda database: overwrite(without_wal(database), 4096 + 8, b"\xff" * 2000),
        lambda database: os.truncate(without_wal(database), database.stat().st_size // 2),
        lambda database: database.unlink(),
        lambda database: os.truncate(database, 0),
    ],
    ids=["text", "noise", "overwritten", "truncated", "a WAL alone", "emptied"],
)
def test_a_damaged_file_is_refused(fresh: Installation, damage: Callable[[pathlib.Path], None]) -> None:
    damage(old_service.make_database(fresh.state, 2))
    refused(fresh, "is damaged", "was left as it is", "lobmob.db.bak")


def test_a_directory_in_the_files_place_is_refused(fresh: Installation) -> None:
    (fresh.state / "lobmob.db").mkdir()
    done = fresh.manage("migrate", check=False)
    assert done.returncode == 1
    assert "was left as it is" in done.stderr


@pytest.mark.parametrize("in_wal", [False, True])
def test_a_newer_schema_version_is_refused(fresh: Installation, in_wal: bool) -> None:
    database = old_service.make_database(fresh.state, 2)
    newer = "INSERT INTO schema_version (version) VALUES (3)"
    if in_wal:
        write_and_die(database, newer)
    else:
        execute(database, newer)
    refused(fresh, "newer version", "schema version 3", "was left as it is")


@pytest.mark.parametrize("in_wal", [False, True])
@pytest.mark.parametrize("app", ["tasks", "alerts"])
def test_an_unknown_migration_is_refused(installation: Installation, app: str, in_wal: bool) -> None:
    newer = f"INSERT INTO django_migrations (app, name, applied) VALUES ('{app}', '9999_later', '2026-02-16')"
    if in_wal:
        write_and_die(installation.state / "lobmob.db", newer)
    else:
        execute(installation.state / "lobmob.db", newer)
    refused(installation, "newer version", f"{app}.9999_later")


def test_a_damaged_file_is_refused_in_the_middle_of_an_upgrade(installation: Installation) -> None:
    database = installation.state / "lobmob.db"
    execute(database, "DELETE FROM django_migrations WHERE app = 'jobs'")
    overwrite(database, 4096 * 2 + 8, b"\xff" * 3000)
    refused(installation, "is damaged")


def write_and_die(database: pathlib.Path, sql: str) -> None:
    """Leave the write in the WAL, as a killed process does."""
    code = (
        "import os, sys, lobwife, sqlite3\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute(sys.argv[2])\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(database), sql], cwd=ROOT, check=True)
    assert database.with_name("lobmob.db-wal").stat().st_size


def limited(installation: Installation, *command: str, bytes_a_file: int) -> subprocess.CompletedProcess[str]:
    """Run where no file can grow beyond a size: to a program that is a disk without room."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))

    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *command],
        env={**installation.environment, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )


@pytest.mark.parametrize("room", [30_000, *(pytest.param(room, marks=pytest.mark.soak) for room in (1_000, 200_000))])
def test_a_full_disk_while_copying_changes_nothing(fresh: Installation, room: int) -> None:
    database = old_service.make_database(fresh.state, 1)
    before = old_service.snapshot(fresh.state)
    done = limited(fresh, "migrate", bytes_a_file=room)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "was left as it is" in done.stderr
    assert old_service.snapshot(fresh.state) == before
    fresh.manage("migrate", "-v0")
    assert len(old_service.dump(database)["tasks"]) == 6


def test_a_full_disk_while_migrating_loses_nothing(fresh: Installation) -> None:
    database = old_service.make_database(fresh.state, 2, rows=False)
    execute(database, *old_service.ROWS[:1], "PRAGMA journal_mode = DELETE")
    before = old_service.dump(database)
    done = limited(fresh, "migrate", bytes_a_file=database.stat().st_size + 40_000)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "can't be migrated" in done.stderr
    fresh.manage("migrate", "-v0")
    after = old_service.dump(database)
    assert {name: after[name] for name in ("tasks", "schema_version")} == {
        name: before[name] for name in ("tasks", "schema_version")
    }


def test_a_state_directory_that_cannot_be_made_is_one_sentence(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("in the way")
    fresh = Installation(tmp_path)
    fresh.environment["LOBWIFE_STATE_DIR"] = str(tmp_path / "file" / "state")
    done = fresh.manage("migrate", check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "LOBWIFE_STATE_DIR" in done.stderr
