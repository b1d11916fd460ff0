"""lobmob-flush-logs.sh: no line lost, none doubled."""

from __future__ import annotations

import datetime
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

from tests.support.fleet import Fleet, git
from tests.support.installation import wait_for

SCRIPT = "lobmob-flush-logs.sh"


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    return Fleet(tmp_path / "fleet")


def log_of(fleet: Fleet) -> pathlib.Path:
    return fleet.logs / "lobmob-events.log"


def flushed(fleet: Fleet, folder: str = "020-logs/lobboss") -> list[str]:
    """Every line in the remote's event logs, of whatever day."""
    names = git("ls-tree", "-r", "--name-only", "main", folder + "/", at=fleet.remote).split()
    return [line for name in names for line in fleet.remote_file(name).splitlines()]


def test_lines_reach_the_vault_and_the_log_is_emptied(fleet: Fleet) -> None:
    log_of(fleet).write_text("one\ntwo\n")
    log_of(fleet).chmod(0o666)
    done = fleet.run(SCRIPT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 lines flushed" in done.stdout.splitlines()[-1]
    assert flushed(fleet) == ["one", "two"]
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    working = list((fleet.vault / "020-logs" / "lobboss").iterdir())
    assert [path.name for path in working] == [f"events-{today}.log"] or len(working) == 1  # midnight
    assert git("status", "--porcelain", at=fleet.vault) == ""
    assert [path.name for path in fleet.logs.iterdir()] == ["lobmob-events.log"]
    assert log_of(fleet).read_text() == ""
    assert log_of(fleet).stat().st_mode & 0o777 == 0o666


def test_later_lines_are_appended(fleet: Fleet) -> None:
    for line in ("one", "two", "three"):
        log_of(fleet).write_text(f"{line}\n")
        assert fleet.run(SCRIPT).returncode == 0
    assert flushed(fleet) == ["one", "two", "three"]


def test_a_lobster_has_a_folder_of_its_own(fleet: Fleet) -> None:
    log_of(fleet).write_text("one\n")
    assert fleet.run(SCRIPT, LOBSTER_ID="swe-t4").returncode == 0
    assert flushed(fleet, "020-logs/lobsters/lobster-swe-t4") == ["one"]
    log_of(fleet).write_text("two\n")
    assert fleet.run(SCRIPT, LOBSTER_ID="../../evil").returncode == 1
    assert log_of(fleet).read_text() == "two\n"


def test_nothing_to_flush_is_silent(fleet: Fleet) -> None:
    for content in (None, ""):
        if content is not None:
            log_of(fleet).write_text(content)
        done = fleet.run(SCRIPT)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert git("rev-list", "--count", "main", at=fleet.remote).strip() == "1"


def test_a_dry_run_changes_nothing(fleet: Fleet) -> None:
    log_of(fleet).write_text("one\n")
    done = fleet.run(SCRIPT, "--dry-run")
    assert done.returncode == 0
    assert "would:" in done.stdout
    assert log_of(fleet).read_text() == "one\n"
    assert git("rev-list", "--count", "main", at=fleet.remote).strip() == "1"
    assert "--dry-run" in fleet.run(SCRIPT, "--help").stdout


def test_without_a_vault_the_lines_wait(fleet: Fleet) -> None:
    log_of(fleet).write_text("one\n")
    done = fleet.run(SCRIPT, VAULT_PATH=str(fleet.folder / "nowhere"))
    assert done.returncode == 0
    assert "there is no vault" in done.stdout
    assert log_of(fleet).read_text() == "one\n"


def test_a_remote_that_is_away_costs_nothing(fleet: Fleet) -> None:
    log_of(fleet).write_text("one\n")
    away = fleet.remote.rename(fleet.folder / "away")
    for _ in range(2):
        done = fleet.run(SCRIPT)
        assert done.returncode == 1
        assert "the lines wait" in done.stderr
    assert log_of(fleet).read_text() == "one\n"
    away.rename(fleet.remote)
    assert fleet.run(SCRIPT).returncode == 0
    assert flushed(fleet) == ["one"]


def test_a_push_that_is_refused_is_made_up_for(fleet: Fleet) -> None:
    hook = fleet.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    hook.chmod(0o755)
    log_of(fleet).write_text("one\n")
    assert fleet.run(SCRIPT).returncode == 1
    log_of(fleet).write_text("two\n")
    assert fleet.run(SCRIPT).returncode == 1
    hook.unlink()
    assert fleet.run(SCRIPT).returncode == 0
    assert flushed(fleet) == ["one", "two"]
    assert len(list(fleet.logs.iterdir())) == 1


def test_a_push_whose_answer_was_lost_is_not_repeated(fleet: Fleet) -> None:
    hook = fleet.remote / "hooks" / "post-receive"
    hook.write_text("#!/bin/sh\nkill -9 $(ps -o ppid= -p $PPID) $PPID\n")
    hook.chmod(0o755)
    log_of(fleet).write_text("one\n")
    fleet.run(SCRIPT)
    hook.unlink()
    for _ in range(2):
        assert fleet.run(SCRIPT).returncode == 0
    assert flushed(fleet) == ["one"]
    assert len(list(fleet.logs.iterdir())) == 1


def test_what_others_pushed_meanwhile_stays(fleet: Fleet) -> None:
    other = fleet.folder / "other"
    git("clone", "-q", str(fleet.remote), str(other), at=fleet.folder)
    (other / "theirs.md").write_text("theirs\n")
    git("add", ".", at=other)
    git("commit", "-qm", "theirs", at=other)
    git("push", "-q", "origin", "main", at=other)
    (fleet.vault / "ours.md").write_text("ours\n")
    git("add", ".", at=fleet.vault)
    git("commit", "-qm", "ours, not pushed yet", at=fleet.vault)
    (fleet.vault / "AGENTS.md").write_text("being edited\n")
    log_of(fleet).write_text("one\n")
    assert fleet.run(SCRIPT).returncode == 0
    assert flushed(fleet) == ["one"]
    assert fleet.remote_file("theirs.md") == "theirs\n"
    assert (fleet.vault / "ours.md").read_text() == "ours\n"
    assert (fleet.vault / "AGENTS.md").read_text() == "being edited\n"


def test_the_sync_that_holds_the_lock_is_waited_for(fleet: Fleet) -> None:
    log_of(fleet).write_text("one\n")
    lock = fleet.state / "vault.lock"
    holder = subprocess.Popen(["flock", str(lock), "sh", "-c", "echo held; read line"], stdin=-1, stdout=-1)
    assert holder.stdout is not None
    assert holder.stdin is not None
    holder.stdout.readline()
    flush = subprocess.Popen(fleet.command(SCRIPT), env=fleet.environment, cwd=fleet.folder)
    try:
        wait_for(lambda: _waits_for(lock, flush.pid), what="the flush waits for the lock")
        assert flush.poll() is None
        assert log_of(fleet).read_text() == "one\n"
        holder.communicate(b"go\n")
        assert flush.wait(30) == 0
    finally:
        holder.kill()
        flush.kill()
    assert flushed(fleet) == ["one"]


def _waits_for(lock: pathlib.Path, pid: int) -> bool:
    """Whether the process has the lock's file open."""
    folder = pathlib.Path(f"/proc/{pid}/fd")
    return any(os.path.realpath(entry) == str(lock) for entry in folder.iterdir())


def test_a_writer_that_keeps_the_log_open_loses_nothing(fleet: Fleet) -> None:
    with log_of(fleet).open("ab", buffering=0) as writer:
        writer.write(b"one\ntw")
        assert fleet.run(SCRIPT).returncode == 0
        assert flushed(fleet) == ["one"]
        writer.write(b"o\nthree\n")
        assert fleet.run(SCRIPT).returncode == 0
        assert flushed(fleet) == ["one", "two", "three"]
        quiet = fleet.run(SCRIPT)
        assert (quiet.returncode, quiet.stdout) == (0, "")
        writer.write(b"four")
    assert fleet.run(SCRIPT).returncode == 0
    assert flushed(fleet) == ["one", "two", "three", "four"]
    assert len(list(fleet.logs.iterdir())) == 1


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.soak)], ids=["few", "many"])
def test_kills_at_any_moment_lose_and_double_nothing(fleet: Fleet, kills: int) -> None:
    dice = random.Random(kills)
    written = 0
    log = log_of(fleet)
    began = time.monotonic()
    fleet.run(SCRIPT, "--dry-run")
    log.write_text("first\n")
    assert fleet.run(SCRIPT).returncode == 0
    whole = time.monotonic() - began
    for _ in range(kills):
        with log.open("a") as file:
            file.writelines(f"line {written + number}\n" for number in range(5))
        written += 5
        flush = subprocess.Popen(
            fleet.command(SCRIPT), env=fleet.environment, cwd=fleet.folder, stdout=-3, stderr=-3, start_new_session=True
        )
        moment = dice.uniform(0, whole)
        try:
            flush.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(flush.pid, dice.choice([signal.SIGKILL, signal.SIGTERM]))
            flush.wait()
    assert fleet.run(SCRIPT).returncode == 0
    assert flushed(fleet) == ["first", *(f"line {number}" for number in range(written))]
    assert len(list(fleet.logs.iterdir())) == 1
