"""Stopping: what was started is gone, whatever it did to stay; and `aborted` is said only when that is so."""

from __future__ import annotations

import os
import pathlib
import signal
import time

import pytest

from tests.support.installation import Installation, wait_for
from tests.support.jobs import (
    define,
    define_scripts,
    ended,
    is_running,
    output_of,
    processes_of,
    run_now,
    run_of,
    trigger,
)

FAMILY = """\
import os, signal, subprocess, sys, time
def child(name, prepare, argument=None):
    path, new = os.path.join(os.environ["PIDS"], name), os.path.join(os.environ["PIDS"], "..", name + ".new")
    told = f"with open({new!r}, 'w') as file: file.write(str(os.getpid()))\\nos.rename({new!r}, {path!r})"
    code = f"import os, signal, time\\n{prepare}\\n{told}\\ntime.sleep(300)"
    environment = {} if argument == "bare" else None
    return subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=argument == "session")
child("deaf", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
child("session", "", "session")
child("bare", "os.setsid()", "bare")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        child("daemonized", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    os._exit(0)
os.wait()
while len(os.listdir(os.environ["PIDS"])) < 4:
    time.sleep(0.01)
print("complete", flush=True)
"""
CLOSES = """\
import os, time
print("before", flush=True)
os.close(1)
os.close(2)
time.sleep(0.2)
open(os.environ["PIDS"] + "/../closed", "w").close()
"""
# A process with an empty environment, in a session of its own, whose parent has ended.
TRACELESS = """\
file=$PIDS/../traceless
rm -f "$file"
(env -i setsid sh -c "echo \\$\\$ > $file; exec sleep 300" >/dev/null 2>&1 &)
until [ -s "$file" ]; do sleep 0.01; done
echo ready
sleep 300
"""
STAYS = "time.sleep(300)\n"


@pytest.fixture(scope="module")
def running(server: Installation) -> Installation:
    pids = server.folder / "pids"
    pids.mkdir()
    server.environment["PIDS"] = str(pids)
    scripts = {
        "family.py": FAMILY + STAYS,
        "leaves.py": FAMILY,
        "fails.py": FAMILY + "sys.exit(7)\n",
        "polite.sh": "trap 'echo bye; exit 0' TERM; echo ready; sleep 60 & wait",
        "deaf.sh": "trap '' TERM; echo ready; while :; do sleep 0.05; done",
        "closes.py": CLOSES,
        "floods.sh": "trap 'yes flood | head -c 1000000; echo over; exit 0' TERM; echo ready; sleep 60 & wait",
        "orphans.sh": "for i in $(seq 50); do (true &) ; done; echo ready; sleep 60",
        "quick.sh": "echo quick",
        "traceless.sh": TRACELESS,
        "waits.sh": "until [ -e $PIDS/../go-on ]; do sleep 0.02; done",
    }
    define_scripts(server, scripts)
    define(
        server,
        {"name": "limited", "script": "family.py", "timeout_seconds": 3},
        {"name": "replaced", "script": "polite.sh", "concurrency": "replace"},
        {"name": "queued", "script": "waits.sh", "concurrency": "queue"},
        {"name": "allowed", "script": "polite.sh", "concurrency": "allow", "max_parallel": 2},
    )
    server.start_daemon()
    return server


def family_of(running: Installation) -> dict[str, int]:
    """The pids that the family wrote down, once all are there."""
    folder = running.folder / "pids"
    wait_for(lambda: len(list(folder.iterdir())) == 4, what="the family is complete")
    found = {path.name: int(path.read_text()) for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    return found


def wait_for_output(running: Installation, run_id: int, text: str) -> None:
    wait_for(lambda: text in output_of(running, run_id), what=f"run {run_id} says {text}")


def abort(running: Installation, run_id: int) -> None:
    assert running.post(f"/api/v1/runs/{run_id}/abort").status == 200


def test_an_abort_ends_a_family_that_ignores_signals_leaves_its_session_and_daemonizes(running: Installation) -> None:
    run_id = trigger(running, "family")
    pids = family_of(running)
    assert all(is_running(pid) for pid in pids.values())
    abort(running, run_id)
    run = ended(running, run_id)
    assert (run["state"], run["note"]) == ("aborted", "aborted by local")
    assert [name for name, pid in pids.items() if is_running(pid)] == []
    assert processes_of(running) == []
    job = running.get("/api/jobs/family").json
    assert (job["running"], job["run_count"]) == (False, 1)


def test_a_time_limit_ends_the_whole_family(running: Installation) -> None:
    run_id = trigger(running, "limited")
    pids = family_of(running)
    assert ended(running, run_id)["state"] == "timeout"
    assert [name for name, pid in pids.items() if is_running(pid)] == []


@pytest.mark.parametrize(("name", "state", "code"), [("leaves", "success", 0), ("fails", "failed", 7)])
def test_what_a_script_leaves_behind_is_ended_and_its_outcome_stays_its_own(
    running: Installation, name: str, state: str, code: int
) -> None:
    run = run_now(running, name)
    assert (run["state"], run["exit_code"]) == (state, code)
    assert [left for left, pid in family_of(running).items() if is_running(pid)] == []


@pytest.mark.postgres
def test_a_script_that_ends_politely_is_given_its_grace(running: Installation) -> None:
    run_id = trigger(running, "polite")
    wait_for_output(running, run_id, "ready")
    abort(running, run_id)
    assert ended(running, run_id)["state"] == "aborted"
    assert output_of(running, run_id) == "ready\nbye\n"


def test_what_a_script_says_while_it_is_stopped_is_kept_and_does_not_block_it(running: Installation) -> None:
    run_id = trigger(running, "floods")
    wait_for_output(running, run_id, "ready")
    abort(running, run_id)
    run = ended(running, run_id)
    assert run["state"] == "aborted"
    assert run["output_bytes"] == len("ready\nover\n") + 1_000_000


def test_an_abort_right_after_the_trigger_is_done_whenever_it_arrives(running: Installation) -> None:
    for delay in range(0, 60, 15):
        run_id = trigger(running, "polite")
        time.sleep(delay / 1000)  # not a wait: the moments of a start, one after the other
        abort(running, run_id)
        assert ended(running, run_id)["state"] == "aborted"
    wait_for(lambda: processes_of(running) == [], what="the supervisors that were told nothing are gone")


def test_a_script_that_closes_its_output_goes_on_to_its_end(running: Installation) -> None:
    run = run_now(running, "closes")
    assert run["state"] == "success"
    assert run["duration"] >= 0.2
    assert (running.folder / "closed").exists()


def test_orphans_that_ended_do_not_pile_up_while_a_script_runs(running: Installation) -> None:
    run_id = trigger(running, "orphans")
    wait_for_output(running, run_id, "ready")
    parent = only_child(pid_of(running, run_id))
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children")
    wait_for(lambda: len(children.read_text().split()) == 1, what="only the script is left")
    abort(running, run_id)
    ended(running, run_id)


def test_replace_aborts_the_earlier_run_and_then_starts(running: Installation) -> None:
    first = trigger(running, "replaced")
    wait_for_output(running, first, "ready")
    second = trigger(running, "replaced")
    assert ended(running, first)["note"] == "aborted by its job's concurrency (replace)"
    wait_for_output(running, second, "ready")
    abort(running, second)
    ended(running, second)


def test_queue_runs_one_after_the_other_and_refuses_a_third(running: Installation) -> None:
    first = trigger(running, "queued")
    wait_for(lambda: run_of(running, first)["state"] == "running")
    second = trigger(running, "queued")
    assert running.post("/api/jobs/queued/trigger").status == 409
    (running.folder / "go-on").touch()
    done = ended(running, second)
    assert done["state"] == "success"
    assert done["started_at"] >= run_of(running, first)["ended_at"]


def test_allow_runs_side_by_side_up_to_its_maximum(running: Installation) -> None:
    both = [trigger(running, "allowed"), trigger(running, "allowed")]
    for run_id in both:
        wait_for_output(running, run_id, "ready")
    assert running.post("/api/jobs/allowed/trigger").status == 409
    for run_id in both:
        abort(running, run_id)
        assert ended(running, run_id)["state"] == "aborted"


def only_child(pid: int) -> int:
    [child] = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def pid_of(running: Installation, run_id: int) -> int:
    with running.database() as database:
        return int(database.execute("SELECT pid FROM jobs_jobrun WHERE id = ?", [run_id]).fetchone()[0])


def test_a_killed_parent_of_a_run_is_an_error_and_leaves_nothing(running: Installation) -> None:
    run_id = trigger(running, "deaf")
    wait_for_output(running, run_id, "ready")
    os.kill(pid_of(running, run_id), signal.SIGKILL)
    run = ended(running, run_id)
    assert run["state"] == "error"
    assert "signal 9" in run["note"]
    wait_for(lambda: processes_of(running) == [], what="nothing of the run is left")
    assert run_now(running, "quick")["state"] == "success", "the daemon goes on"


@pytest.mark.parametrize("victim", ["the first", "the second"])
def test_nothing_without_a_trace_of_its_run_outlives_a_killed_supervisor(running: Installation, victim: str) -> None:
    run_id = trigger(running, "traceless")
    wait_for_output(running, run_id, "ready")
    left = int((running.folder / "traceless").read_text())
    first = pid_of(running, run_id)
    os.kill(first if victim == "the first" else only_child(first), signal.SIGKILL)
    run = ended(running, run_id)
    assert (run["state"], "ended unexpectedly" in run["note"]) == ("error", True)
    wait_for(lambda: not is_running(left), what="the process that nothing marks is gone")


def test_no_more_run_at_once_than_the_global_limit_and_the_rest_follow_in_order(installation: Installation) -> None:
    installation.environment["LOBWIFE_MAX_PARALLEL_RUNS"] = "2"
    installation.script("slow.sh", "sleep 0.2")
    names = [f"job-{number}" for number in range(6)]
    define(installation, *({"name": name, "script": "slow.sh"} for name in names))
    installation.start_web()
    ids = [trigger(installation, name) for name in names]
    installation.start_daemon()
    done = [ended(installation, run_id) for run_id in ids]
    assert {run["state"] for run in done} == {"success"}
    starts = [run["started_at"] for run in done]
    assert starts == sorted(starts)
    for run in done:
        at_once = [other for other in done if other["started_at"] < run["started_at"] < other["ended_at"]]
        assert len(at_once) < 2
