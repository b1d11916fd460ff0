"""`manage.py doctor`: every line is ok or says what to do, and the exit code tells."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.database.backend import is_postgres
from tests.support.broker_rig import Rig
from tests.support.github import Canned
from tests.support.installation import ROOT, Installation, wait_for, write_locked
from tests.support.old_service import make_database

# Root reads everything, but for these two capabilities.
AS_OTHERS = ["setpriv", "--inh-caps=-dac_override,-dac_read_search", "--bounding-set=-dac_override,-dac_read_search"]


def lines(installation: Installation) -> tuple[int, str]:
    done = installation.manage("doctor", check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Everything runs, with a GitHub and a vault."""
    made = Rig(tmp_path_factory.mktemp("running"))
    made.state.chmod(0o700)
    subprocess.run(["git", "init", "-q", "-b", "main", str(made.vault)], check=True)
    try:
        made.start_web()
        made.start_daemon()
        if not is_postgres():
            wait_for(lambda: list((made.state / "backups").glob("*.gz")), what="a kept copy")
        yield made
    finally:
        made.stop()


@pytest.mark.postgres
def test_a_running_installation_is_well(running: Rig) -> None:
    code, said = lines(running)
    assert "DO " not in said
    assert code == 0
    for subject in (
        "configuration",
        "permissions",
        "disk",
        "database",
        *(() if is_postgres() else ("WAL",)),
        "copies",
        "daemon",
        "web",
        "clock",
        "broker",
        "vault",
    ):
        assert f"ok  {subject}: " in said, said
    assert "its installation is" in said


def test_a_handshake_that_github_refuses_is_told(running: Rig) -> None:
    running.github.canned = [Canned(401, b'{"message": "Bad credentials"}')] * 4
    try:
        code, said = lines(running)
    finally:
        running.github.canned = []
    assert code == 1
    assert "DO  broker: GitHub does not take the App's key" in said


def test_a_fresh_installation_is_told_what_to_start(installation: Installation) -> None:
    installation.state.chmod(0o755)
    for file in installation.state.glob("lobmob.db"):
        file.chmod(0o644)
    code, said = lines(installation)
    assert code == 1
    assert "DO  daemon: The daemon is not running: no script starts.\n    -> Start it" in said
    assert said.count("DO  web: ") == 2
    assert ("DO  copies: none is kept yet" in said) is not is_postgres()
    assert "chmod 700" in said
    assert "ok  broker: off" in said
    assert "ok  vault: there is no git repository" in said


def test_an_address_of_ipv6_is_asked_for_in_brackets(fresh: Installation) -> None:
    fresh.environment["LOBWIFE_BIND"] = "::1"
    assert f"http://[::1]:{fresh.web_port}/health does not answer" in lines(fresh)[1]


@pytest.mark.sqlite("the file")
def test_without_a_database_nothing_is_made(tmp_path: pathlib.Path) -> None:
    empty = Installation(tmp_path)
    code, said = lines(empty)
    assert code == 1
    assert "DO  database: there is no" in said
    assert not list(empty.state.glob("lobmob.db*"))


def test_a_state_directory_that_can_not_be_read_is_told(installation: Installation) -> None:
    installation.state.chmod(0)
    try:
        done = subprocess.run(
            [*(AS_OTHERS if os.geteuid() == 0 else ()), sys.executable, "manage.py", "doctor"],
            env=installation.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        installation.state.chmod(0o700)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr, done.stderr
    assert "DO  permissions: " in done.stdout
    assert "is damaged" not in done.stdout


def test_a_database_that_something_holds_is_neither_damaged_nor_a_daemon_to_start(installation: Installation) -> None:
    with installation.database() as database:
        database.execute(
            "INSERT INTO jobs_daemon (id, boot_id, version, trouble, paused_by) VALUES (1, '', '', '', '')"
            " ON CONFLICT (id) DO UPDATE SET beat_at = NULL, pid = NULL"
        )
    with write_locked(installation):
        code, said = lines(installation)
    assert code == 1
    assert (
        "DO  daemon: The daemon can't write its sign of life.\n    -> The database is locked by another program" in said
    )
    assert "is damaged" not in said


@pytest.mark.sqlite("a damaged file")
def test_a_damaged_database_is_told(installation: Installation) -> None:
    with (installation.state / "lobmob.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 5)
    code, said = lines(installation)
    assert code == 1
    assert "is damaged" in said
    assert "put a copy back" in said


@pytest.mark.sqlite("a file of the older service")
def test_an_older_database_is_told_to_be_migrated_and_its_odd_rows_are_named(tmp_path: pathlib.Path) -> None:
    old = Installation(tmp_path)
    make_database(old.state, 2)
    code, said = lines(old)
    assert code == 1
    assert "migrations are missing" in said
    old.manage("migrate", "-v0")
    code, said = lines(old)
    assert "ok  old rows: " in said
    assert "T2" in said


def test_a_vault_that_git_can_not_read_is_told(installation: Installation) -> None:
    (installation.vault / ".git").mkdir(parents=True)
    code, said = lines(installation)
    assert code == 1
    assert "DO  vault: git says: " in said
