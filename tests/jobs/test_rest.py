"""The contract's "Jobs", through HTTP, with the real daemon."""

from __future__ import annotations

import contextlib
import json
import os
import re

import pytest

from tests.support.installation import Installation, wait_for
from tests.support.jobs import NEVER, define, define_scripts, ended, execute, output_of, rows, run_now, trigger

SHOWN = ["description", "schedule", "enabled", "running", "last_run", "last_status", "last_duration"]
SHOWN += ["run_count", "fail_count", "next_run"]
PRINTS = """\
import os, json, sys
print(json.dumps({"cwd": os.getcwd(), "group": os.getpgid(0) == os.getpid(), "session": os.getsid(0) == os.getpid(),
    "stdin": sys.stdin.read(), "environment": dict(os.environ), "executable": sys.executable}))
"""


@pytest.fixture(scope="module")
def running(server: Installation) -> Installation:
    """Web and daemon, and jobs to try."""
    scripts = {
        "ok.py": "print('fine')",
        "fails.sh": "echo before; exit 3",
        "many.sh": "seq 1 250",
        "sleeps.sh": "echo started; exec sleep 60",
        "prints.py": PRINTS,
        "shell.sh": 'echo "$0 $PWD ${BASH_VERSION:+bash}"; echo err >&2; echo out',
        "killed.sh": "kill -KILL $$",
        "realtime.sh": "kill -40 $$",
    }
    define_scripts(server, scripts)
    (server.scripts / "folder.py").mkdir()
    (server.scripts / "dangling.py").symlink_to(server.scripts / "nowhere.py")
    define(
        server,
        *({"name": name, "script": f"{name}.py"} for name in ("absent", "folder", "dangling")),
        {"name": "limited", "script": "sleeps.sh", "timeout_seconds": 1},
        {"name": "homeless", "script": "ok.py", "working_directory": "/nowhere/at/all"},
        {"name": "switched", "script": "ok.py", "schedule": "*/5 * * * *"},
        {"name": "untouched", "script": "ok.py"},
        {"name": "own", "script": "prints.py", "arguments": ["a b", "$HOME"], "environment": {"MINE": "yes"}},
    )
    server.start_daemon()
    return server


def test_jobs_are_keyed_by_name_in_the_order_they_were_defined(running: Installation) -> None:
    jobs = running.get("/api/jobs").json
    assert list(jobs)[:4] == ["task-manager", "review-prs", "status-reporter", "flush-logs"]
    assert list(jobs)[4:6] == ["ok", "fails"]
    assert all(list(job) == SHOWN for job in jobs.values())
    assert jobs["review-prs"]["description"] == "Deterministic PR validation and auto-merge"
    assert jobs["task-manager"]["schedule"] == "*/5 * * * *"


def test_the_four_jobs_of_a_new_installation_forbid_overlap_and_end_after_300_seconds(running: Installation) -> None:
    found = rows(running, "SELECT script, concurrency, timeout_seconds FROM jobs_job ORDER BY id LIMIT 4")
    assert [row[0] for row in found] == [
        "lobmob-task-manager.py",
        "lobmob-review-prs.sh",
        "lobmob-status-reporter.py",
        "lobmob-flush-logs.sh",
    ]
    assert {tuple(row)[1:] for row in found} == {("forbid", 300)}


def test_one_job_has_the_keys_of_the_list_and_four_more(running: Installation) -> None:
    job = running.get("/api/jobs/untouched").json
    assert set(job) == {*SHOWN, "name", "script", "concurrency", "last_output"}
    assert (job["name"], job["script"], job["concurrency"]) == ("untouched", "ok.py", "forbid")
    assert job["last_run"] is job["last_status"] is job["last_duration"] is job["last_output"] is None
    assert (job["run_count"], job["fail_count"], job["running"]) == (0, 0, False)


def test_an_unknown_job_is_a_404_in_the_shape_of_each_route(running: Installation) -> None:
    answer = running.get("/api/jobs/nope")
    assert (answer.status, answer.json) == (404, {"error": "Unknown job: nope"})
    for verb in ("trigger", "enable", "disable"):
        answer = running.post(f"/api/jobs/nope/{verb}")
        assert (answer.status, answer.json) == (404, {"message": "Unknown job: nope"})


def test_a_triggered_script_runs_and_its_summary_follows(running: Installation) -> None:
    answer = running.post("/api/jobs/ok/trigger", b"this body is ignored")
    assert (answer.status, answer.json) == (200, {"message": "Job ok triggered"})
    job = wait_for(lambda: (j := running.get("/api/jobs/ok").json)["last_status"] and j)
    assert (job["last_status"], job["last_output"], job["run_count"], job["fail_count"]) == ("success", "fine", 1, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", job["last_run"])
    assert job["last_duration"] == round(job["last_duration"], 1)
    assert job["running"] is False


def test_a_job_is_running_from_its_trigger_on_and_can_not_be_triggered_again(running: Installation) -> None:
    assert running.post("/api/jobs/sleeps/trigger").status == 200
    assert running.get("/api/jobs/sleeps").json["running"] is True
    assert running.get("/api/jobs").json["sleeps"]["running"] is True
    answer = running.post("/api/jobs/sleeps/trigger")
    assert (answer.status, answer.json) == (409, {"message": "Job sleeps is already running"})
    run = running.get("/api/v1/runs?job=sleeps").json[0]
    running.post(f"/api/v1/runs/{run['id']}/abort")
    ended(running, run["id"])
    assert running.get("/api/jobs/sleeps").json["running"] is False


def test_a_non_zero_exit_is_a_failure(running: Installation) -> None:
    run = run_now(running, "fails")
    assert (run["state"], run["exit_code"], run["signal"]) == ("failed", 3, None)
    job = running.get("/api/jobs/fails").json
    assert (job["last_status"], job["last_output"], job["run_count"], job["fail_count"]) == ("failed", "before", 1, 1)


@pytest.mark.parametrize(("name", "number"), [("killed", 9), ("realtime", 40)])
def test_a_script_that_a_signal_ended_failed_and_the_signal_is_told(
    running: Installation, name: str, number: int
) -> None:
    run = run_now(running, name)
    assert (run["state"], run["exit_code"], run["signal"]) == ("failed", None, number)


def test_the_last_200_lines_are_kept_with_a_line_that_says_so(running: Installation) -> None:
    run_now(running, "many")
    lines = running.get("/api/jobs/many").json["last_output"].split("\n")
    assert lines == ["[truncated to last 200 lines]", *map(str, range(51, 251))]


def test_a_time_limit_ends_the_script_and_is_told_in_the_contracts_words(running: Installation) -> None:
    run = run_now(running, "limited")
    assert run["state"] == "timeout"
    job = running.get("/api/jobs/limited").json
    assert (job["last_status"], job["last_output"]) == ("timeout", "Job timed out after 1s")
    assert (job["run_count"], job["fail_count"]) == (1, 1)
    assert output_of(running, run["id"]) == "started\n", "the full output is in the run's history"


@pytest.mark.parametrize("name", ["absent", "folder", "dangling"])
def test_a_missing_script_is_an_error_in_words_that_help_and_counts_no_start(running: Installation, name: str) -> None:
    run = run_now(running, name)
    job = running.get(f"/api/jobs/{name}").json
    assert run["state"] == job["last_status"] == "error"
    assert f"{name}.py" in run["note"]
    assert job["last_output"] == run["note"]
    assert (job["run_count"], job["fail_count"], job["last_run"], job["last_duration"]) == (0, 0, None, None)


def test_a_working_directory_that_is_not_there_is_named(running: Installation) -> None:
    run = run_now(running, "homeless")
    assert run["state"] == "error"
    assert "working directory /nowhere/at/all" in run["note"]


def test_python_scripts_get_the_contracts_surroundings(running: Installation) -> None:
    told = json.loads(output_of(running, run_now(running, "prints")["id"]))
    environment = told["environment"]
    assert told["cwd"] == str(running.home)
    assert told["group"]
    assert told["session"]
    assert told["stdin"] == ""
    expected = {
        "VAULT_PATH": str(running.vault),
        "LOBWIFE_URL": f"http://127.0.0.1:{running.api_port}",
        "LOG_DIR": "/tmp",
        "TASK_STATE_DIR": "/tmp/lobmob-task-state",
        "LOBMOB_RUNTIME": "k8s",
        "LOBWIFE_STATE_DIR": str(running.state),
    }
    assert {name: environment.get(name) for name in expected} == expected
    assert environment["PATH"].split(os.pathsep)[0] == str(running.scripts)
    assert environment["PATH"].endswith(running.environment["PATH"])


def test_arguments_are_passed_without_a_shell_and_the_jobs_environment_is_added(running: Installation) -> None:
    run = run_now(running, "own")
    assert run["arguments"] == ["a b", "$HOME"]
    assert json.loads(output_of(running, run["id"]))["environment"]["MINE"] == "yes"


def test_shell_scripts_run_with_bash_and_both_streams_are_kept_in_order(running: Installation) -> None:
    run = run_now(running, "shell")
    path = running.scripts / "shell.sh"
    assert output_of(running, run["id"]) == f"{path} {running.home} bash\nerr\nout\n"


def test_a_disabled_job_shows_no_next_run_and_can_be_triggered_by_hand(running: Installation) -> None:
    next_run = running.get("/api/jobs/switched").json["next_run"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d[05]:00\+00:00", next_run)
    answer = running.post("/api/jobs/switched/disable")
    assert (answer.status, answer.json) == (200, {"message": "Job switched disabled"})
    job = running.get("/api/jobs/switched").json
    assert (job["enabled"], job["next_run"]) == (False, None)
    wait_for(lambda: not running.get("/api/jobs/switched").json["running"], what="what its schedule began is over")
    assert run_now(running, "switched")["state"] == "success"
    answer = running.post("/api/jobs/switched/enable")
    assert (answer.status, answer.json) == (200, {"message": "Job switched enabled"})
    assert running.get("/api/jobs/switched").json["next_run"] is not None


def test_enabled_lives_in_the_table_that_operators_edit_by_hand(running: Installation) -> None:
    execute(running, "UPDATE job_state SET enabled = FALSE WHERE name = 'switched'")
    assert running.get("/api/jobs/switched").json["enabled"] is False
    execute(running, "UPDATE job_state SET enabled = TRUE WHERE name = 'switched'")
    assert running.get("/api/jobs/switched").json["enabled"] is True


def test_a_job_whose_schedule_was_broken_by_hand_can_be_switched_and_shown(running: Installation) -> None:
    execute(running, "UPDATE jobs_job SET schedule = 'whenever', next_firing = NULL WHERE name = 'homeless'")
    assert running.post("/api/jobs/homeless/disable").status == 200
    assert running.post("/api/jobs/homeless/enable").status == 200
    assert running.get("/api/jobs/homeless").json["next_run"] is None
    answer = running.get("/api/v1/jobs/homeless/next")
    assert answer.status == 400
    assert "whenever" in answer.json["error"]


def test_the_next_firings_are_told_with_the_schedule_in_words(running: Installation) -> None:
    told = running.get("/api/v1/jobs/switched/next?count=3").json
    assert told["description"] == "Every 5 minutes"
    assert len(told["next"]) == 3


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"arguments": "x"}', b'{"arguments": [1]}', b'{"arguments": ["\\u0000"]}']
)
def test_a_run_with_arguments_that_can_not_be_used_is_refused(running: Installation, body: bytes) -> None:
    answer = running.post("/api/v1/jobs/ok/runs", body)
    assert answer.status == 400
    assert set(answer.json) == {"error"}


def test_a_body_that_is_too_large_is_refused_with_a_sentence(running: Installation) -> None:
    answer = running.post("/api/v1/jobs/ok/runs", b" " * (2**20 + 1))
    assert (answer.status, answer.json) == (413, {"error": "the body is larger than 1 MiB"})


@pytest.mark.parametrize("path", ["limit=-1", "limit=x", "state=odd", "before_id=1.5"])
def test_a_list_of_runs_refuses_what_it_does_not_understand(running: Installation, path: str) -> None:
    assert running.get(f"/api/v1/runs?{path}").status == 400


@pytest.mark.parametrize("run_id", ["0", "99999999", "x", "-1", "9" * 30])
def test_an_unknown_run_is_a_404(running: Installation, run_id: str) -> None:
    for answer in (running.get(f"/api/v1/runs/{run_id}"), running.post(f"/api/v1/runs/{run_id}/abort")):
        assert answer.status == 404
        assert set(answer.json) == {"error"}


def test_a_run_that_is_over_can_not_be_aborted_but_run_again(running: Installation) -> None:
    run = run_now(running, "own")
    answer = running.post(f"/api/v1/runs/{run['id']}/abort")
    assert (answer.status, set(answer.json)) == (409, {"error"})
    again = running.post(f"/api/v1/runs/{run['id']}/retry")
    assert again.status == 201
    assert (again.json["retry_of"], again.json["arguments"]) == (run["id"], run["arguments"])
    assert ended(running, again.json["id"])["state"] == "success"


def test_while_all_is_paused_a_trigger_waits_and_says_so_in_health(running: Installation) -> None:
    assert running.post("/api/v1/runs/pause").json == {"paused": True}
    run_id = trigger(running, "ok")
    assert running.get("/health").json["daemon"]["paused"] is True
    with contextlib.suppress(AssertionError):
        wait_for(lambda: running.get(f"/api/v1/runs/{run_id}").json["state"] != "queued", 0.5)
    run = running.get(f"/api/v1/runs/{run_id}").json
    assert (run["state"], run["waits_for"]) == ("queued", "starts to be resumed; local paused them")
    assert running.post("/api/v1/runs/resume").json == {"paused": False}
    assert ended(running, run_id)["state"] == "success"


def test_with_the_daemon_down_a_trigger_queues_and_runs_when_it_is_back(installation: Installation) -> None:
    installation.script("ok.py", "print('fine')")
    define(installation, {"name": "ok", "script": "ok.py"})
    installation.start_web()
    assert installation.post("/api/jobs/ok/trigger").status == 200
    assert installation.post("/api/jobs/ok/trigger").status == 409
    job = installation.get("/api/jobs/ok").json
    assert (job["running"], job["run_count"]) == (True, 0)
    assert installation.get("/health").json["status"] == "degraded"
    installation.start_daemon()
    wait_for(lambda: installation.get("/api/jobs/ok").json["last_status"] == "success")
    assert installation.get("/health").json["status"] == "ok"


def test_status_shows_the_same_jobs(running: Installation) -> None:
    assert list(running.get("/api/status").json["jobs"]) == list(running.get("/api/jobs").json)
    assert running.get("/api/jobs/ok").json["schedule"] == NEVER
