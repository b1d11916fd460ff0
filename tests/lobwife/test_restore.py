"""`manage.py restore`: a copy goes back into the live file; nothing that was given out is given out again."""

from __future__ import annotations

import contextlib
import gzip
import os
import pathlib
import shutil
import sqlite3

import pytest

from events.change_log import PROGRAMS
from jobs.services import DEFINITION
from lobwife.backups import carry_over
from tests.support import old_service
from tests.support.installation import Installation
from tests.support.jobs import define

pytestmark = pytest.mark.sqlite("copies of the file")


def newest_copy(installation: Installation) -> pathlib.Path:
    return max((installation.state / "backups").glob("*.db.gz"))


def add_task(installation: Installation, name: str) -> int:
    with installation.database() as database:
        return database.execute("INSERT INTO tasks (name) VALUES (?)", [name]).lastrowid or 0


def names(installation: Installation) -> list[str]:
    with installation.database() as database:
        return [row[0] for row in database.execute("SELECT name FROM tasks ORDER BY id")]


def whole(path: pathlib.Path) -> bool:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as opened:
        return opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.fixture
def copied(installation: Installation) -> Installation:
    """One task, a copy, then another task that the copy lacks and a third that is gone again."""
    add_task(installation, "before")
    installation.manage("backup")
    add_task(installation, "after")
    gone = add_task(installation, "gone")
    with installation.database() as database:
        database.execute("DELETE FROM tasks WHERE id = ?", [gone])
    return installation


RESTORE = """
import sys, pathlib, django; django.setup()
from core.errors import LobwifeError
from lobwife.backups.restore import restore
for file in sys.argv[1:]:
    try:
        restore(file=pathlib.Path(file), actor="a test")
        print("restored")
    except LobwifeError as error:
        print(error)
"""


def refusals(installation: Installation, *files: pathlib.Path) -> list[str]:
    """The sentences with which each is refused, all by one process; the database is as it was."""
    before = old_service.dump(installation.state / "lobmob.db")
    done = installation.run("-c", RESTORE, *map(str, files))
    assert done.returncode == 0, done.stderr
    assert old_service.dump(installation.state / "lobmob.db") == before
    assert not list(installation.state.glob(".restore-*"))
    return done.stdout.splitlines()


def test_a_copy_comes_back_and_the_replaced_state_is_kept(copied: Installation) -> None:
    done = copied.manage("restore", str(newest_copy(copied)))
    assert names(copied) == ["before"]
    assert "with 1 tasks" in done.stdout
    kept = copied.state / "lobmob.db.before-restore"
    assert whole(kept)
    copied.manage("restore", str(kept))
    assert names(copied) == ["before", "after"]
    assert (copied.state / "lobmob.db.before-restore.1").exists()
    assert whole(copied.state / "lobmob.db")


def test_no_id_is_given_out_again(copied: Installation) -> None:
    copied.manage("restore", str(newest_copy(copied)))
    assert add_task(copied, "next") == 4


def test_web_goes_on_over_the_restore_and_sees_it(copied: Installation) -> None:
    copied.start_web()
    assert len(copied.get("/api/v1/tasks").json) == 2
    copied.manage("restore", str(newest_copy(copied)))
    assert [task["name"] for task in copied.get("/api/v1/tasks").json] == ["before"]
    created = copied.post("/api/v1/tasks", {"name": "later"})
    assert (created.status, created.json["id"]) == (201, 4)
    copied.stop()
    assert names(copied) == ["before", "later"]
    assert whole(copied.state / "lobmob.db")


def test_while_the_daemon_runs_nothing_is_restored(copied: Installation) -> None:
    copied.start_daemon()
    done = copied.manage("restore", str(newest_copy(copied)), check=False)
    assert done.returncode == 1
    assert "the daemon runs: stop it first" in done.stderr
    assert names(copied) == ["before", "after"]
    copied.stop()
    copied.manage("restore", str(newest_copy(copied)))


def test_what_is_no_whole_copy_is_refused(copied: Installation, tmp_path: pathlib.Path) -> None:
    content = newest_copy(copied).read_bytes()
    plain = gzip.decompress(content)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "cut.gz").write_bytes(content[: len(content) // 2])
    garbled = bytearray(plain)
    garbled[4096 * 3 : 4096 * 9] = os.urandom(4096 * 6)
    (tmp_path / "garbled.db").write_bytes(garbled)
    for name, content, statements in (
        ("other.db", b"", ["CREATE TABLE songs (name)"]),
        ("newer.db", plain, ["INSERT INTO django_migrations (app, name, applied) VALUES ('tasks', '9999_future', '')"]),
        ("view.db", plain, ["DROP TABLE token_audit", "CREATE VIEW token_audit AS SELECT 1 AS id"]),
    ):
        (tmp_path / name).write_bytes(content)
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as opened, opened:
            for statement in statements:
                opened.execute(statement)
    os.mkfifo(tmp_path / "pipe")
    expected = {
        "nothing.gz": "there is no",
        "text": "is not a copy of the database",
        "cut.gz": "is damaged",
        "garbled.db": "is damaged",
        "other.db": "not of lobwife",
        "newer.db": "from a newer version",
        "view.db": "it has no table token_audit",
        "pipe": "is not a file",
    }
    sentences = refusals(copied, *(tmp_path / name for name in expected))
    for (name, words), sentence in zip(expected.items(), sentences, strict=True):
        assert words in sentence, name


def test_a_refusal_is_one_sentence_of_the_command(copied: Installation, tmp_path: pathlib.Path) -> None:
    done = copied.manage("restore", str(tmp_path / "nothing"), check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"CommandError: there is no {tmp_path / 'nothing'}"]


def test_what_acts_by_itself_in_a_copy_is_left_out_of_it(copied: Installation, tmp_path: pathlib.Path) -> None:
    hostile = tmp_path / "hostile.db"
    hostile.write_bytes(gzip.decompress(newest_copy(copied).read_bytes()))
    with contextlib.closing(sqlite3.connect(hostile)) as opened, opened:
        opened.execute('CREATE TRIGGER "a""b" AFTER INSERT ON tasks BEGIN DELETE FROM tasks; END')
        opened.execute("CREATE TRIGGER stop BEFORE DELETE ON django_session BEGIN SELECT RAISE(ABORT, 'no'); END")
        opened.execute("INSERT INTO django_session VALUES ('a', 'b', '2030-01-01')")
        opened.execute('CREATE TABLE "x"" FROM tasks" (id INTEGER PRIMARY KEY AUTOINCREMENT)')
    done = copied.manage("restore", str(hostile))
    assert 'Left out, since lobwife has none of its own: trigger a"b, trigger stop.' in done.stdout
    add_task(copied, "later")
    assert names(copied) == ["before", "later"]


@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_copy_of_the_older_service_is_brought_up_first(
    copied: Installation, tmp_path: pathlib.Path, version: int
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    old = old_service.make_database(elsewhere, version)
    before = old_service.dump(old)
    copied.manage("restore", str(old))
    after = old_service.dump(copied.state / "lobmob.db")
    width = len(before["tasks"][0])
    assert [row[:width] for row in after["tasks"]] == before["tasks"]
    copied.start_web()
    assert copied.get("/health").json["db"]["ok"] is True


def test_a_damaged_database_is_written_over_and_ids_leave_room(copied: Installation) -> None:
    copy = newest_copy(copied)
    database = copied.state / "lobmob.db"
    with copied.database() as opened:
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with database.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (4096 * 4 - 100))
    done = copied.manage("restore", str(copy), check=False)
    if done.returncode:
        assert "move it and its -wal and -shm files away" in done.stderr
        for path in copied.state.glob("lobmob.db-*"):
            path.unlink()
        database.unlink()
        done = copied.manage("restore", str(copy))
    assert "could not be read" in done.stdout
    assert names(copied) == ["before"]
    assert add_task(copied, "next") > 1000
    assert whole(database)


def test_firings_and_runs_since_the_copy_are_not_repeated(installation: Installation) -> None:
    installation.script("hello.sh", "echo hello")
    define(installation, {"name": "hourly", "script": "hello.sh", "schedule": "0 * * * *"})
    with installation.database() as database:
        database.execute("UPDATE jobs_job SET settled_through = '2026-01-01 10:00:00', next_firing = NULL")
        database.execute(
            "INSERT INTO jobs_jobrun (job_id, state, trigger, requested_by, queued_at, attempt, note, definition,"
            " boot_id, abort_requested_by, output_bytes) SELECT id, 'queued', 'rest', '', '2026-01-01 10:00:00', 1, '',"
            " '{}', '', '', 0 FROM jobs_job WHERE name = 'hourly'"
        )
    installation.manage("backup")
    with installation.database() as database:
        database.execute(
            "UPDATE jobs_job SET settled_through = '2026-01-02 10:00:00', next_firing = '2026-01-02 11:00:00'"
        )
        database.execute("UPDATE jobs_jobrun SET state = 'success'")
    installation.manage("restore", str(newest_copy(installation)))
    with installation.database() as database:
        job = database.execute("SELECT settled_through, next_firing FROM jobs_job WHERE name = 'hourly'").fetchone()
        assert tuple(job) == ("2026-01-02 10:00:00", "2026-01-02 11:00:00")
        (run,) = database.execute("SELECT state, note, ended_at FROM jobs_jobrun").fetchall()
        assert run["state"] == "lost"
        assert "put back" in run["note"]


def test_what_was_closed_since_the_copy_stays_closed(installation: Installation) -> None:
    installation.manage("apikey", "access", "open")
    installation.manage("apikey", "create", "robot", "--role", "service")
    installation.manage("apikey", "create", "other", "--role", "service")
    user = (
        "INSERT INTO auth_user (username, password, is_active, is_staff, is_superuser, first_name, last_name, email,"
        " date_joined) VALUES (?, 'old', 1, 1, 1, '', '', '', '')"
    )
    with installation.database() as database:
        database.executemany(user, [["left"], ["demoted"], ["same"]])
    installation.manage("backup")
    with installation.database() as database:
        database.execute("UPDATE auth_user SET is_active = 0 WHERE username = 'left'")
        database.execute("UPDATE auth_user SET is_superuser = 0, password = 'new' WHERE username = 'demoted'")
    installation.manage("apikey", "revoke", "robot")
    installation.manage("apikey", "access", "required")
    installation.manage("restore", str(newest_copy(installation)))
    with installation.database() as database:
        revoked = database.execute("SELECT name FROM lobwife_apikey WHERE revoked_at IS NOT NULL").fetchall()
        assert [row["name"] for row in revoked] == ["robot"]
        assert database.execute("SELECT decided FROM lobwife_accesspolicy").fetchone()["decided"] == "required"
        people = database.execute("SELECT username, password, is_active, is_superuser FROM auth_user ORDER BY username")
        assert [tuple(row) for row in people if row["username"] != PROGRAMS] == [
            ("demoted", "new", 1, 0),
            ("left", "old", 0, 1),
            ("same", "old", 1, 1),
        ]


def add_operator(installation: Installation, name: str, password: str = "old") -> None:
    with installation.database() as database:
        database.execute(
            "INSERT INTO auth_user (username, password, is_active, is_staff, is_superuser, first_name, last_name,"
            " email, date_joined) VALUES (?, ?, 1, 1, 1, '', '', '', '2026-01-01 00:00:00')",
            [name, password],
        )


def operators(installation: Installation) -> list[str]:
    with installation.database() as database:
        return [row[0] for row in database.execute("SELECT username FROM auth_user ORDER BY username")]


def test_without_the_replaced_state_people_are_as_the_newest_copy_has_them(installation: Installation) -> None:
    add_operator(installation, "ada")
    installation.manage("backup")
    earlier = installation.folder / "earlier.db.gz"
    newest_copy(installation).rename(earlier)
    with installation.database() as database:
        database.execute("UPDATE auth_user SET password = 'new'")
    installation.manage("backup")
    for path in installation.state.glob("lobmob.db*"):
        if not path.name.endswith((".bak", ".gate")):
            path.unlink()
    installation.manage("restore", str(earlier))
    with installation.database() as database:
        assert [row[0] for row in database.execute("SELECT password FROM auth_user")] == ["new"]


@pytest.fixture
def hostile(copied: Installation) -> pathlib.Path:
    """A copy with an operator, a key and an allowed service of somebody else's, and another environment of each job."""
    add_operator(copied, "ada")
    define(copied, {"name": "nightly", "script": "hello.py"})
    copied.manage("backup")
    path = copied.folder / "hostile.db"
    path.write_bytes(gzip.decompress(newest_copy(copied).read_bytes()))
    with contextlib.closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("UPDATE auth_user SET username = 'backdoor\x1b[2J', is_superuser = 1 WHERE username = 'ada'")
        opened.execute(
            "INSERT INTO lobwife_apikey (name, role, service, prefix, digest, created_at, created_by, revoked_by)"
            " VALUES ('bd', 'operator', '', 'abcdefgh', '', '2026-01-01 00:00:00', '', '')"
        )
        opened.execute("INSERT INTO broker_allowedservice (name, note) VALUES ('anybody', '')")
        opened.execute(
            "INSERT INTO webhooks_subscription (name, url, types, job, repository, is_enabled, encrypted, cursor,"
            " failures, note, created_at) VALUES ('ci', 'https://elsewhere.example/', '[\"*\"]', '', '', 1, '', 0, 0,"
            " '', '2026-01-01')"
        )
        opened.execute(
            "INSERT INTO jobs_alertsetting (kind, is_on, severity, urls, snoozed_by)"
            " VALUES ('disk', 1, '', 'json://elsewhere.example/secret', '')"
        )
        opened.execute("""UPDATE jobs_job SET environment = '{"BASH_ENV": "/tmp/x"}' WHERE name = 'nightly'""")
    with copied.database() as database:
        database.execute("INSERT OR REPLACE INTO job_state (name, enabled) VALUES ('nightly', 0)")
    return path


@pytest.mark.parametrize("lacking", [[], ["long_after_seconds", "runs_on"]], ids=["this version", "an earlier one"])
def test_each_column_of_a_job_that_a_copy_changes_is_named(tmp_path: pathlib.Path, lacking: list[str]) -> None:
    columns = {"main": DEFINITION, "present": [name for name in DEFINITION if name not in lacking]}
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        copy.execute("ATTACH ? AS present", [str(tmp_path / "present.db")])
        for schema, names in columns.items():
            copy.execute(f"CREATE TABLE {schema}.jobs_job (name, {', '.join(names)})")
            copy.execute(f"CREATE TABLE {schema}.job_state (name, enabled)")
            copy.execute(f"INSERT INTO {schema}.jobs_job VALUES ('nightly', {', '.join(['?'] * len(names))})", names)
        copy.execute("INSERT INTO main.jobs_job (name, script) VALUES ('other', 'evil.sh')")
        copy.execute("UPDATE main.jobs_job SET runs_on = '', retry_delay_seconds = 0, alert_after_failures = 9")
        copy.commit()
        copy.execute("DETACH present")
        changes = carry_over.changed_jobs(copy, tmp_path / "present.db")
    other = ["retry_delay_seconds", *({"runs_on"} - set(lacking)), "alert_after_failures"]
    assert changes == [
        f"job nightly: other {', '.join(other)}",
        "job other is new and enabled, with the script evil.sh",
    ]


def test_a_copy_brings_nobody_in_and_says_what_it_would_change(copied: Installation, hostile: pathlib.Path) -> None:
    done = copied.manage("restore", str(hostile), check=False)
    assert done.returncode == 1
    assert "Nothing was changed" in done.stderr
    for line in (
        "account backdoor [2J is only in the copy and left out",
        "API key bd is only in the copy and left out",
        "allowed service anybody is only in the copy and left out",
        "job nightly: other environment",
        "job nightly is disabled and would be enabled",
        "webhook ci would send to https://elsewhere.example/",
        "alerts of the kind disk would go to other recipients, or be off",
    ):
        assert f"  {line}\n" in done.stdout
    copied.manage("restore", "--no-input", str(hostile))
    assert operators(copied) == ["ada"]
    with copied.database() as database:
        for table in ("lobwife_apikey", "broker_allowedservice"):
            assert database.execute(f"SELECT * FROM {table}").fetchall() == []
        assert "BASH_ENV" in database.execute("SELECT environment FROM jobs_job WHERE name = 'nightly'").fetchone()[0]


def test_tables_that_only_look_like_ours_are_refused(copied: Installation, tmp_path: pathlib.Path) -> None:
    plain = gzip.decompress(newest_copy(copied).read_bytes())
    with contextlib.closing(sqlite3.connect(copied.state / "lobmob.db")) as opened:
        columns = ", ".join(name for (name,) in opened.execute("SELECT name FROM pragma_table_info('lobwife_apikey')"))
    forged = {
        "virtual": (  # reads rows of another table, whatever is deleted and written here
            "ALTER TABLE lobwife_apikey RENAME TO evil",
            "INSERT INTO evil (name, role, service, prefix, digest, created_at, created_by, revoked_by)"
            " VALUES ('bd', 'operator', '', 'abcdefgh', '', '2026-01-01 00:00:00', '', '')",
            f"CREATE VIRTUAL TABLE lobwife_apikey USING fts5({columns}, content='evil')",
        ),
        "cascade": (  # who may set a slug makes superusers
            "CREATE UNIQUE INDEX slugs ON tasks(slug)",
            "PRAGMA writable_schema = ON",
            """UPDATE sqlite_master SET sql = replace(sql, '"is_superuser" bool', '"is_superuser" bool REFERENCES"""
            """ tasks(slug) ON UPDATE CASCADE') WHERE name = 'auth_user'""",
        ),
    }
    for name, statements in forged.items():
        (tmp_path / name).write_bytes(plain)
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as opened, opened:
            for statement in statements:
                opened.execute(statement)
    virtual, cascade = refusals(copied, *(tmp_path / name for name in forged))
    assert "lobwife_apikey" in virtual
    assert "auth_user" in cascade
    for sentence in (virtual, cascade):
        assert "is no copy that lobwife made" in sentence


def test_a_trusted_copy_brings_its_people(copied: Installation, hostile: pathlib.Path) -> None:
    copied.manage("restore", "--trust", "--no-input", str(hostile))
    assert operators(copied) == ["backdoor\x1b[2J"]


def test_a_restore_that_is_interrupted_leaves_nothing_behind(copied: Installation) -> None:
    left = copied.state / ".restore-killed"
    left.mkdir()
    shutil.copyfile(newest_copy(copied), left / "lobmob.db")
    copied.manage("restore", str(newest_copy(copied)))
    assert not list(copied.state.glob(".restore-*"))
