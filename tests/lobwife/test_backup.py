"""The hourly copy, checkpoints and statistics of a database that is in use."""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.errors import Conflict, Unavailable
from core.files import locked
from core.sqlite.copies import keep_copy
from core.sqlite.upkeep import checkpoint
from tests.support import old_service
from tests.support.installation import ROOT, Installation, wait_for

pytestmark = [pytest.mark.usefixtures("in_process"), pytest.mark.sqlite("copies of the file")]
COPIES_IN_A_RUN = 12
COPIES_IN_A_SOAK = 200

WRITER = """
import sys, lobwife, sqlite3
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
number = 0
while True:
    number += 1
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO tasks (name, workflow) VALUES (?, ?)", (str(number), "x" * (number % 9000)))
    database.execute("INSERT INTO task_events (task_id, event_type) VALUES (last_insert_rowid(), 'created')")
    if number % 3 == 0:
        database.execute("DELETE FROM task_events WHERE task_id = ?", (number // 2,))
        database.execute("DELETE FROM tasks WHERE id = ?", (number // 2,))
    database.execute("COMMIT")
"""
CALL = """
import django; django.setup()
from core.sqlite import copies, upkeep
from core.errors import LobwifeError
try:
    {}
except LobwifeError as error:
    raise SystemExit(f"{{type(error).__name__}}: {{error}}")
"""


def call(
    installation: Installation, function: str, bytes_a_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Call a function in a process of its own, whose files can't grow beyond a size."""

    def limit() -> None:
        if bytes_a_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))

    return subprocess.run(
        [sys.executable, "-c", CALL.format(function)],
        env={
            **installation.environment,
            "DJANGO_SETTINGS_MODULE": "lobwife.settings",
            "LOBWIFE_DB_TIMEOUT": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )


@contextlib.contextmanager
def written_to(installation: Installation) -> Iterator[None]:
    """A process outside the project writes all the time, without any gate."""
    process = installation.start(sys.executable, "-c", WRITER, str(installation.state / "lobmob.db"))

    def has_written() -> bool:
        with installation.database() as database:
            return bool(database.execute("SELECT count(*) FROM tasks").fetchone()[0] > 50)

    try:
        wait_for(lambda: has_written() or process.poll() is not None, what="the writer writes")
        yield
        assert process.poll() is None, installation.log()
    finally:
        process.kill()
        process.wait()


def whole(path: pathlib.Path) -> bool:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as copy:
        checks = copy.execute("PRAGMA integrity_check").fetchall() + copy.execute("PRAGMA foreign_key_check").fetchall()
        return checks == [("ok",)] and copy.execute("SELECT count(*) FROM tasks").fetchone()[0] > 0


@pytest.fixture
def filled(installation: Installation) -> Installation:
    """Large enough that a copy takes a while."""
    with installation.database() as database:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
            " INSERT INTO tasks (name, workflow) SELECT i, hex(zeroblob(1000)) FROM n"
        )
    return installation


def copies_are_whole(installation: Installation, count: int) -> None:
    with written_to(installation):
        for _ in range(count):
            keep_copy()
            assert whole(installation.state / "lobmob.db.bak")


def test_copies_made_under_writes_are_whole(filled: Installation) -> None:
    copies_are_whole(filled, COPIES_IN_A_RUN)
    copy = filled.state / "lobmob.db.bak"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert {each.name for each in filled.state.glob("*.bak*")} == {"lobmob.db.bak", "lobmob.db.bak.lock"}


@pytest.mark.soak
def test_many_copies_made_under_writes_are_whole(filled: Installation) -> None:
    copies_are_whole(filled, COPIES_IN_A_SOAK)


def test_a_copy_has_what_is_only_in_the_wal(installation: Installation) -> None:
    with installation.database() as database:
        database.execute("INSERT INTO tasks (name) VALUES ('new')")
        database.commit()
        keep_copy()
        expected = old_service.dump(installation.state / "lobmob.db")
    assert old_service.dump(installation.state / "lobmob.db.bak") == expected


def test_a_copy_can_take_the_databases_place(installation: Installation) -> None:
    with installation.database() as database:
        database.execute("INSERT INTO tasks (name) VALUES ('kept')")
    keep_copy()
    for name in ("lobmob.db", "lobmob.db-wal", "lobmob.db-shm"):
        (installation.state / name).unlink(missing_ok=True)
    os.rename(installation.state / "lobmob.db.bak", installation.state / "lobmob.db")
    installation.manage("migrate", "-v0")
    with installation.database() as database:
        assert database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert database.execute("SELECT name FROM tasks").fetchone()[0] == "kept"


def test_a_full_disk_leaves_the_earlier_copy(filled: Installation) -> None:
    keep_copy()
    copy = filled.state / "lobmob.db.bak"
    before = copy.read_bytes()
    done = call(filled, "copies.keep_copy()", bytes_a_file=1_000_000)
    assert done.stderr.startswith("Unavailable: ")
    assert "lobmob.db.bak can't be made" in done.stderr
    assert copy.read_bytes() == before
    assert not (filled.state / "lobmob.db.bak.part").exists()


def test_without_a_database_there_is_a_sentence_and_no_file(installation: Installation) -> None:
    for path in installation.state.glob("lobmob.db*"):
        path.unlink()
    for function in (keep_copy, checkpoint):
        with pytest.raises(Unavailable):
            function()
    assert not list(installation.state.glob("lobmob.db"))


def test_a_damaged_database_does_not_replace_a_whole_copy(filled: Installation) -> None:
    keep_copy()
    copy = filled.state / "lobmob.db.bak"
    before = copy.read_bytes()
    with (filled.state / "lobmob.db").open("r+b") as file:
        file.seek(4096 * 40)
        file.write(b"\xff" * 4096 * 20)
    with pytest.raises(Unavailable):
        keep_copy()
    assert copy.read_bytes() == before


def test_what_a_killed_backup_left_is_cleared(filled: Installation) -> None:
    for suffix in ("", "-journal"):
        (filled.state / f"lobmob.db.bak.part{suffix}").write_bytes(os.urandom(8192))
    keep_copy()
    assert whole(filled.state / "lobmob.db.bak")
    assert not list(filled.state.glob("*.part*"))


def test_a_second_backup_at_the_same_time_is_refused(filled: Installation) -> None:
    with locked(filled.state / "lobmob.db.bak.lock"), pytest.raises(Conflict):
        keep_copy()
    keep_copy()


def wal_bytes(installation: Installation) -> int:
    return (installation.state / "lobmob.db-wal").stat().st_size


def test_a_checkpoint_empties_the_wal(installation: Installation) -> None:
    with installation.database() as database:
        database.execute("INSERT INTO tasks (name) VALUES ('new')")
        database.commit()
        assert wal_bytes(installation) > 0
        assert checkpoint()
        assert wal_bytes(installation) == 0


def test_a_checkpoint_gives_way_to_readers_and_writers(installation: Installation) -> None:
    with installation.database() as reader, installation.database() as writer:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tasks").fetchone()
        writer.execute("INSERT INTO tasks (name) VALUES ('new')")
        writer.commit()
        assert not checkpoint()
        reader.rollback()
        writer.execute("BEGIN IMMEDIATE")
        assert not checkpoint()
        writer.rollback()
        assert checkpoint()


def test_statistics_are_renewed(filled: Installation) -> None:
    assert call(filled, "upkeep.optimize()").returncode == 0
    with filled.database() as database:
        assert database.execute("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'tasks'").fetchone()[0] > 0


def test_statistics_wait_for_no_writer_for_ever(installation: Installation) -> None:
    with installation.database() as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert call(installation, "upkeep.optimize()").stderr.startswith("Unavailable: ")


def test_the_daemon_makes_a_copy_when_the_last_one_is_an_hour_old(installation: Installation) -> None:
    copy = installation.state / "lobmob.db.bak"
    copy.write_bytes(b"old")
    os.utime(copy, (0, 0))
    installation.start_daemon()
    wait_for(lambda: copy.read_bytes().startswith(b"SQLite format 3"), what="a fresh copy")
