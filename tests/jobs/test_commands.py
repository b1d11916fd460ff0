"""The commands for jobs and runs, as a shell sees them: output, errors, exit codes."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.database.backend import is_postgres
from tests.support.installation import ROOT, Installation, wait_for


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A daemon with a job for each way to end; it is one of its own because runs take time."""
    made = Installation(tmp_path_factory.mktemp("running"))
    made.migrate()
    scripts = {
        "exit.sh": "echo out; exit 7",
        "echo.sh": 'printf "<%s>" "$@"; echo',
        "signal.sh": "kill -TERM $$",
        "slow.sh": "echo begun; sleep 60",
        "short.sh": "echo one; sleep 0.3; echo two",
    }
    for name, text in scripts.items():
        made.script(name, f"#!/bin/bash\n{text}\n")
    jobs = {name.removesuffix(".sh"): {"script": name, "schedule": "0 0 1 1 *"} for name in scripts}
    jobs["limited"] = {"script": "slow.sh", "schedule": "0 0 1 1 *", "timeout_seconds": 1}
    jobs["missing"] = {"script": "missing.sh", "schedule": "0 0 1 1 *"}
    (made.folder / "jobs.yaml").write_text(json.dumps({"jobs": jobs}))
    made.manage("jobs", "import", str(made.folder / "jobs.yaml"))
    made.start_daemon()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """No daemon runs here."""
    made = Installation(tmp_path_factory.mktemp("idle"))
    made.migrate()
    return made


def test_a_command_in_the_wrong_place_says_how_to_name_the_right_one_and_leaves_no_file(tmp_path: pathlib.Path) -> None:
    elsewhere = Installation(tmp_path)
    wrong = (("trigger", "x", "--wait"), ("apikey", "list"), ("sync",), ("backup",), ("vault", "import"), ("daemon",))
    if is_postgres():
        wrong = tuple(command for command in wrong if command[0] != "vault")  # which looks for the vault first
    file = f"The database {elsewhere.state / 'lobmob.db'} is not there: set LOBWIFE_STATE_DIR to"
    for command in wrong:
        done = elsewhere.manage(*command, check=False)
        assert done.returncode == (125 if command[0] == "trigger" else 1)
        assert ("`manage.py migrate`" if is_postgres() else file) in done.stderr
        assert "Traceback" not in done.stderr
        left = {path.name for path in elsewhere.state.iterdir()}
        assert left <= ({"vault.lock"} if is_postgres() else set())


@pytest.mark.parametrize(
    ("job", "code", "said"),
    [
        ("exit", 7, "failed"),
        ("signal", 128 + signal.SIGTERM, "SIGTERM"),
        ("limited", 124, "timeout"),
        ("missing", 125, "put it in one of"),
        ("nowhere", 125, "Unknown job: nowhere"),
    ],
)
def test_the_exit_code_of_trigger_says_how_the_run_ended(running: Installation, job: str, code: int, said: str) -> None:
    done = running.manage("trigger", job, "--wait", check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stdout == ""


def test_follow_passes_the_output_on_and_nothing_else(running: Installation) -> None:
    assert running.manage("trigger", "short", "--follow").stdout == "one\ntwo\n"


def test_arguments_after_two_dashes_reach_the_script_as_they_are(running: Installation) -> None:
    done = running.manage("trigger", "echo", "--follow", "--", "--wait", "a b", "$HOME", "*")
    assert done.stdout == "<--wait><a b><$HOME><*>\n"


def test_a_running_job_can_be_followed_and_aborted(running: Installation) -> None:
    running.manage("trigger", "slow")
    [run] = json.loads(running.manage("runs", "slow", "--json").stdout)
    follower = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "logs", "slow", "--follow"],
        env=running.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout
    assert follower.stdout.readline() == "begun\n"
    refused = running.manage("trigger", "slow", "--wait", check=False)
    assert (refused.returncode, refused.stderr) == (125, "CommandError: Job slow is already running\n")
    done = running.manage("abort", str(run["id"]), "--wait")
    assert done.stdout == f"Run {run['id']} of slow is aborted.\n"
    assert follower.wait(10) == 0
    follower.stdout.close()
    again = running.manage("abort", str(run["id"]), check=False)
    assert (again.returncode, again.stderr) == (1, f"CommandError: run {run['id']} is over: aborted\n")


def test_an_aborted_run_ends_its_trigger_with_130(running: Installation) -> None:
    command = [sys.executable, str(ROOT / "manage.py"), "trigger", "slow", "--follow"]
    process = subprocess.Popen(command, env=running.environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    [run] = json.loads(running.manage("runs", "slow", "--state", "running", "--json").stdout)
    running.manage("abort", str(run["id"]))
    assert process.wait(20) == 130
    process.stdout.close()


def test_logs_shows_a_run_by_number_and_a_job_by_its_latest(running: Installation) -> None:
    running.manage("trigger", "exit", "--wait", check=False)
    [run] = json.loads(running.manage("runs", "exit", "--limit", "1", "--json").stdout)
    assert running.manage("logs", "exit").stdout == "out\n"
    assert running.manage("logs", str(run["id"])).stdout == "out\n"
    assert "there is no run 99999" in running.manage("logs", "99999", check=False).stderr


def test_runs_in_a_pipe_are_lines_of_values_between_tabs(running: Installation) -> None:
    running.manage("trigger", "exit", "--wait", check=False)
    names, *lines = running.manage("runs", "exit", "--limit", "1").stdout.splitlines()
    shown = dict(zip(names.split("\t"), lines[0].split("\t"), strict=True))
    assert shown["JOB"] == "exit"
    assert (shown["STATE"], shown["TRIGGER"], shown["EXIT"]) == ("failed", "command", "7")


def test_a_job_shows_its_definition_its_next_ten_firings_and_its_last_runs(running: Installation) -> None:
    shown = json.loads(running.manage("jobs", "task-manager", "--json").stdout)
    assert shown["schedule_in_words"] == "Every 5 minutes"
    assert len(shown["next"]) == 10
    text = running.manage("jobs", "exit").stdout
    assert "exit: At 00:00, on day 1 of the month, only in January (UTC)" in text
    assert "exit.sh" in text
    assert running.manage("jobs", "nowhere", check=False).stderr == "CommandError: Unknown job: nowhere\n"


def test_all_jobs_are_listed_with_whether_they_are_enabled(idle: Installation) -> None:
    idle.manage("disable", "flush-logs")
    assert json.loads(idle.manage("jobs", "--json").stdout)["flush-logs"]["enabled"] is False
    assert "flush-logs\tdisabled\tEvery 30 minutes" in idle.manage("jobs").stdout
    idle.manage("enable", "flush-logs")
    assert json.loads(idle.manage("jobs", "--json").stdout)["flush-logs"]["enabled"] is True
    assert idle.manage("enable", "nowhere", check=False).returncode == 1


def test_pause_is_shown_with_the_jobs_until_resumed(idle: Installation) -> None:
    idle.manage("pause")
    assert "Starts are paused" in idle.manage("jobs").stderr
    idle.manage("resume")
    assert "Starts are paused" not in idle.manage("jobs").stderr


def test_without_a_daemon_a_waiting_trigger_says_so_and_ends(idle: Installation) -> None:
    done = idle.manage("trigger", "review-prs", "--wait", check=False)
    assert done.returncode == 125
    assert "the daemon is not running" in done.stderr
    later = idle.manage("trigger", "status-reporter")
    assert later.stdout.endswith("is queued; it waits for the daemon, which is down.\n")
    assert idle.manage("runs", "status-reporter").stdout.endswith("\twaits for the daemon, which is down\n")


def test_an_export_imports_into_the_same_definitions(idle: Installation, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "jobs.yaml"
    idle.manage("jobs", "export", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert idle.manage("jobs", "import", str(file), "--dry-run").stdout == "Nothing would change.\n"
    assert idle.manage("jobs", "import", str(file)).stdout == "0 made, 0 changed, 4 as they were.\n"


def test_a_dry_run_shows_the_difference_without_secrets_and_changes_nothing(
    idle: Installation, tmp_path: pathlib.Path
) -> None:
    before = idle.manage("jobs", "export", "--secrets").stdout
    text = before.replace("'*/2 * * * *'", "'*/3 * * * *'\n    alert_urls: discord://an-id/a-token")
    (tmp_path / "jobs.yaml").write_text(text)
    shown = idle.manage("jobs", "import", str(tmp_path / "jobs.yaml"), "--dry-run").stdout
    assert "-    schedule: '*/2 * * * *'\n+    schedule: '*/3 * * * *'\n" in shown
    assert "+    alert_urls: discord://…\n" in shown
    assert "a-token" not in shown
    assert idle.manage("jobs", "export", "--secrets").stdout == before
    (file := tmp_path / "there-already.yaml").touch(mode=0o644)
    idle.manage("jobs", "export", "--secrets", str(file))
    assert (file.read_text(), file.stat().st_mode & 0o777) == (before, 0o600)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"schedule": "61 * * * *"}, "job bad: schedule: '61 * * * *' is not a schedule"),
        ({"timezone": "Mars/Base"}, "job bad: timezone: 'Mars/Base' is not a timezone"),
        ({"script": "../x.sh"}, "job bad: script: a script is named by its file name alone"),
        ({"retries": "two"}, "job bad: retries must be a valid integer"),
        ({"colour": "red"}, "job bad: colour is not a known field"),
        ({"concurrency": "sometimes"}, "job bad: concurrency: Value 'sometimes' is not a valid choice."),
        ({"arguments": [1]}, "job bad: arguments.0 must be a valid string"),
    ],
)
def test_one_bad_job_keeps_the_whole_file_out(
    idle: Installation, tmp_path: pathlib.Path, fields: dict[str, object], sentence: str
) -> None:
    good = {"script": "hello.py", "schedule": "@hourly"}
    file = tmp_path / "jobs.yaml"
    file.write_text(json.dumps({"jobs": {"good": good, "bad": {**good, **fields}}}))
    done = idle.manage("jobs", "import", str(file), check=False)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert set(json.loads(idle.manage("jobs", "--json").stdout)) == {
        "task-manager",
        "review-prs",
        "status-reporter",
        "flush-logs",
    }


def test_an_interrupted_trigger_leaves_the_run_and_says_how_to_end_it(running: Installation) -> None:
    command = [sys.executable, str(ROOT / "manage.py"), "trigger", "slow", "--follow"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=running.environment, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    [run] = json.loads(running.manage("runs", "slow", "--state", "running", "--json").stdout)
    assert f"Run {run['id']} goes on" in said
    running.manage("abort", str(run["id"]))
    wait_for(lambda: json.loads(running.manage("runs", "slow", "--state", "running", "--json").stdout) == [])
