"""The daemon: one at a time, on schedule, stopped in time, killed at any moment without losing or doubling a run."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.execution.process import boot_id
from tests.support.installation import Installation, moment, wait_for
from tests.support.jobs import (
    define,
    ended,
    execute,
    is_running,
    output_of,
    processes_of,
    rows,
    run_now,
    run_of,
    trigger,
)

QUEUED = """INSERT INTO jobs_jobrun (trigger, requested_by, queued_at, attempt, note, abort_requested_by, output_bytes,
    job_id, state, definition, boot_id, started_at, pid, pid_started, scheduled_for)
    VALUES ('rest', '', '2026-01-01 00:00:00', 1, '', '', 0, ?, ?, ?, ?, ?, ?, ?, ?)"""
MARKS = 'echo "$LOBWIFE_RUN_ID" >> "$HOME/marks"\n'


@pytest.fixture
def served(installation: Installation) -> Iterator[Installation]:
    """Web and jobs; each test starts the daemon itself."""
    installation.script("marks.sh", MARKS + "sleep 0.0$((RANDOM % 10))\necho done")
    installation.script("deaf.sh", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    installation.script("polite.sh", "trap 'echo bye; exit 0' TERM; echo ready; sleep 60 & wait")
    installation.script(
        "brief.sh", MARKS + f"echo out; sleep 0.4; until [ -e {installation.folder}/go ]; do sleep 0.05; done; exit 4"
    )
    define(
        installation,
        {"name": "marks", "script": "marks.sh", "concurrency": "allow", "max_parallel": 30_000},
        *({"name": name, "script": f"{name}.sh"} for name in ("deaf", "polite", "brief")),
    )
    for name in ("task-manager", "review-prs", "status-reporter", "flush-logs"):
        execute(installation, "INSERT INTO job_state (name, enabled) VALUES (?, FALSE)", name)
    installation.start_web()
    yield installation
    # A run of a schedule by the minute may have begun just now.
    wait_for(lambda: not processes_of(installation), what="nothing is left")


def kill(process) -> None:  # type: ignore[no-untyped-def]
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def marks(installation: Installation) -> list[int]:
    path = installation.home / "marks"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def insert_run(installation: Installation, name: str, state: str = "queued", **values: object) -> None:
    columns = ("boot_id", "started_at", "pid", "pid_started", "scheduled_for")
    given = {"boot_id": "", **values}
    [(job, script, timeout)] = rows(
        installation, "SELECT id, script, timeout_seconds FROM jobs_job WHERE name = ?", name
    )
    definition = {"script": script, "arguments": [], "environment": {}, "working_directory": ""}
    definition["timeout_seconds"] = timeout
    execute(installation, QUEUED, job, state, json.dumps(definition), *(given.get(column) for column in columns))


def make_due(installation: Installation, name: str) -> None:
    """As if the daemon had last looked two minutes ago."""
    execute(
        installation,
        "UPDATE jobs_job SET schedule = '* * * * *', settled_through = ?, next_firing = ? WHERE name = ?",
        moment(minutes=-2),
        moment(minutes=-1),
        name,
    )


@pytest.mark.sqlite("its one daemon")
def test_a_second_daemon_is_refused_with_a_sentence(served: Installation) -> None:
    first = served.start_daemon()
    second = served.manage("daemon", check=False)
    assert second.returncode != 0
    assert f"another daemon (pid {first.pid}) works on {served.state}" in second.stderr
    assert "Traceback" not in second.stderr
    assert run_now(served, "marks")["state"] == "success"


def test_a_daemon_on_a_database_that_was_not_migrated_says_what_to_do(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = Installation(tmp_path)
    refused = made.manage("daemon", check=False)
    assert refused.returncode != 0
    assert "migrate" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_schedule_starts_a_script_and_an_edit_needs_no_restart(served: Installation) -> None:
    served.start_daemon()
    make_due(served, "marks")
    run = wait_for(lambda: served.get("/api/v1/runs?job=marks").json, what="the schedule made a run")[0]
    assert (run["trigger"], run["requested_by"]) in {("schedule", "the schedule"), ("catch-up", "the schedule")}
    assert ended(served, run["id"])["state"] == "success"
    wait_for(lambda: served.get("/api/jobs/marks").json["next_run"])


def test_a_job_switched_off_by_hand_does_not_fire(served: Installation) -> None:
    execute(served, "UPDATE job_state SET enabled = FALSE WHERE name = 'marks'")
    served.start_daemon()
    make_due(served, "marks")
    planned = "SELECT 1 FROM jobs_job WHERE name = 'marks' AND next_firing > ?"
    wait_for(lambda: rows(served, planned, moment()))
    assert served.get("/api/v1/runs?job=marks").json == []


def test_a_stop_ends_scripts_within_ten_seconds_and_records_why(served: Installation) -> None:
    daemon = served.start_daemon()
    both = [trigger(served, "deaf"), trigger(served, "polite")]
    for run_id in both:
        wait_for(lambda run_id=run_id: "ready" in output_of(served, run_id))
    start = time.monotonic()
    daemon.terminate()
    assert daemon.wait(10) == 0
    assert time.monotonic() - start < 10
    for run_id in both:
        run = run_of(served, run_id)
        assert (run["state"], run["note"]) == ("aborted", "aborted by the shutdown of the daemon")
    assert output_of(served, both[1]) == "ready\nbye\n"
    assert processes_of(served) == []
    assert served.get("/health").json["status"] == "degraded"


def test_a_script_that_ended_while_the_daemon_could_not_look_keeps_its_real_outcome(served: Installation) -> None:
    daemon = served.start_daemon()
    run_id = trigger(served, "brief")
    wait_for(lambda: output_of(served, run_id) == "out\n")
    daemon.send_signal(signal.SIGSTOP)
    (served.folder / "go").touch()
    result = served.state / "runs" / "0" / f"{run_id}.result"
    wait_for(result.exists, what="the run's parent left the result")
    kill(daemon)
    served.start_daemon()
    run = ended(served, run_id)
    assert (run["state"], run["exit_code"]) == ("failed", 4)
    assert run["duration"] >= 0.4
    assert output_of(served, run_id) == "out\n"
    assert served.get("/api/jobs/brief").json["last_output"] == "out"
    assert not result.exists()
    assert marks(served) == [run_id]


def test_a_script_that_outlives_a_killed_daemon_is_ended_and_its_run_is_lost(served: Installation) -> None:
    daemon = served.start_daemon()
    run_id = trigger(served, "deaf")
    wait_for(lambda: "ready" in output_of(served, run_id))
    left = processes_of(served)
    assert left
    kill(daemon)
    served.start_daemon()
    run = ended(served, run_id)
    assert run["state"] == "lost"
    assert not any(is_running(pid) for pid in left)
    job = served.get("/api/jobs/deaf").json
    assert (job["running"], job["last_status"], job["run_count"]) == (False, "failed", 1)
    assert served.post("/api/jobs/deaf/trigger").status == 200, "the job is not blocked"


@pytest.mark.sqlite("its one daemon: on PostgreSQL such a run is lost")
def test_a_claimed_run_whose_script_never_started_runs_once(served: Installation) -> None:
    insert_run(
        served, "marks", "running", boot_id=boot_id(), started_at="2026-01-01 00:00:00", pid=2**22, pid_started=1
    )
    execute(served, "UPDATE job_state SET run_count = 1 WHERE name = 'marks'")
    served.start_daemon()
    run_id = served.get("/api/v1/runs?job=marks").json[0]["id"]
    assert ended(served, run_id)["state"] == "success"
    assert marks(served) == [run_id]
    assert served.get("/api/jobs/marks").json["run_count"] == 1


def test_a_run_of_an_earlier_boot_is_lost_and_not_repeated(served: Installation) -> None:
    insert_run(
        served, "marks", "running", boot_id="an earlier one", started_at="2026-01-01 00:00:00", pid=1, pid_started=1
    )
    served.start_daemon()
    run_id = served.get("/api/v1/runs?job=marks").json[0]["id"]
    assert ended(served, run_id, 40)["state"] == "lost"
    assert marks(served) == []


def test_a_reused_process_id_is_left_alone(served: Installation) -> None:
    bystander = served.start("sleep", "60")
    insert_run(
        served,
        "marks",
        "running",
        boot_id=boot_id(),
        started_at="2026-01-01 00:00:00",
        pid=bystander.pid,
        pid_started=1,
    )
    served.start_daemon()
    ended(served, served.get("/api/v1/runs?job=marks").json[0]["id"], 40)
    assert bystander.poll() is None


def test_a_run_that_waited_longer_than_its_start_deadline_is_skipped(served: Installation) -> None:
    execute(served, "UPDATE jobs_job SET start_deadline_seconds = 60 WHERE name = 'marks'")
    insert_run(served, "marks", scheduled_for="2026-01-01 00:00:00")
    served.start_daemon()
    run = ended(served, served.get("/api/v1/runs?job=marks").json[0]["id"], 40)
    assert run["state"] == "skipped"
    assert "past its start deadline of 60 s" in run["note"]
    assert served.get("/api/jobs/marks").json["last_status"] is None


def kill_at_random_moments(installation: Installation, times: int) -> None:
    """Kills under load; afterwards every run has happened once at most, and the books balance."""
    asked = 0
    for _ in range(times):
        daemon = installation.start_daemon()
        until = time.monotonic() + random.uniform(0.0, 0.6)
        for _ in range(random.randrange(1, 9)):
            trigger(installation, "marks")
            asked += 1
        while time.monotonic() < until:
            installation.get("/health")
        kill(daemon)
    installation.start_daemon()
    active = "SELECT count(*) FROM jobs_jobrun WHERE state IN ('queued', 'running')"
    wait_for(lambda: rows(installation, active)[0][0] == 0, 60 + asked / 5, "every run is over")
    found = rows(installation, "SELECT id, state, started_at FROM jobs_jobrun")
    assert len(found) == asked
    assert {row["state"] for row in found} <= {"success", "lost"}
    marked = marks(installation)
    assert len(marked) == len(set(marked)), "a run was doubled"
    assert {row["id"] for row in found if row["state"] == "success"} <= set(marked)
    state = rows(installation, "SELECT run_count, fail_count FROM job_state WHERE name = 'marks'")[0]
    assert state["run_count"] == sum(row["started_at"] is not None for row in found)
    assert state["fail_count"] == sum(row["state"] == "lost" for row in found)
    assert processes_of(installation) == []
    wait_for(lambda: not leftovers(installation), what="how a run ended is kept twice")


def leftovers(installation: Installation) -> list[Path]:
    return [path for path in (installation.state / "runs").rglob("*") if path.suffix in {".result", ".new"}]


def test_what_a_killed_daemon_had_recorded_already_is_cleaned_up(served: Installation) -> None:
    served.start_daemon()
    run_id = run_now(served, "marks")["id"]
    kill(served.processes[-1])
    folder = served.state / "runs" / "0"
    for name in (f"{run_id}.result", f"{run_id}.result.new", "99.result"):
        (folder / name).write_text("{}")
    served.start_daemon()
    wait_for(lambda: not leftovers(served))
    assert "done" in output_of(served, run_id)


def test_kills_at_random_moments_under_load_lose_and_double_nothing(served: Installation) -> None:
    kill_at_random_moments(served, 4)


@pytest.mark.soak
def test_a_hundred_kills_at_random_moments_lose_and_double_nothing(served: Installation) -> None:
    kill_at_random_moments(served, 100)


def test_many_jobs_due_at_once_all_run_in_order_within_the_limit(served: Installation) -> None:
    names = [f"due-{number}" for number in range(24)]
    served.environment["LOBWIFE_MAX_PARALLEL_RUNS"] = "4"
    served.script("marks-at-once.sh", MARKS)
    define(served, *({"name": name, "script": "marks-at-once.sh"} for name in names))
    served.start_daemon()
    execute(
        served,
        "UPDATE jobs_job SET schedule = '0 0 * * *', settled_through = ?, next_firing = ? WHERE name LIKE 'due-%'",
        moment(days=-2),
        moment(days=-1),
    )
    count = "SELECT count(*), count(DISTINCT job_id), count(DISTINCT queued_at) FROM jobs_jobrun"
    wait_for(lambda: rows(served, count)[0][0] == 24)
    assert tuple(rows(served, count)[0]) == (24, 24, 1), "all in one transaction"
    over = "SELECT count(*) FROM jobs_jobrun WHERE ended_at IS NOT NULL"
    wait_for(lambda: rows(served, over)[0][0] == 24, 120, "every run is over")
    found = rows(served, "SELECT id, state, started_at, ended_at FROM jobs_jobrun ORDER BY id")
    assert {row["state"] for row in found} == {"success"}
    assert sorted(marks(served)) == [row["id"] for row in found], "a script was started twice, or never"
    starts = [row["started_at"] for row in found]
    assert starts == sorted(starts), "they start in the order in which they were queued"
    for start in starts:
        assert sum(row["started_at"] <= start < row["ended_at"] for row in found) <= 4
