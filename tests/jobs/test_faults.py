"""Bad input and faults: the daemon lives, or leaves with a reason; what happened is told."""

from __future__ import annotations

import contextlib
import pathlib
import resource
import signal
import subprocess
from datetime import UTC, datetime

import pytest

from core.database.backend import is_postgres
from core.errors import Invalid, NotFound
from jobs.execution import script_paths
from tests.support.clock import Clock
from tests.support.disk import small_disk
from tests.support.installation import ROOT, Installation, moment, wait_for, write_locked
from tests.support.jobs import (
    PYTHON,
    define,
    define_scripts,
    ended,
    execute,
    output_of,
    processes_of,
    rows,
    run_now,
    run_of,
    trigger,
)

pytestmark = pytest.mark.slow

# Today, since a day from now on might be the one on which jobs fire that never do.
QUIET = datetime.now(UTC).replace(hour=12, minute=5, second=5, microsecond=0)
FILLS = "head -c 3000000 /dev/zero | tr '\\0' 'x' | fold -w 80; echo end"


def wake_nothing(installation: Installation) -> Clock:
    """For some minutes no firing and no upkeep is due."""
    execute(installation, "DELETE FROM jobs_job WHERE id <= 4")
    clock = Clock(installation)
    clock.set(QUIET)
    return clock


@pytest.fixture
def served(installation: Installation) -> Installation:
    scripts = {
        "ok.sh": "echo fine",
        "fills.sh": FILLS,
        "bare.py": "print('no shebang, not executable')",
        "vanishes.sh": 'echo first; rm "$0"; sleep 0.1; echo second',
        "waits.sh": "echo ready; sleep 60",
    }
    define_scripts(installation, scripts)
    for name in scripts:
        (installation.scripts / name).chmod(0o644)
    installation.start_web()
    return installation


@pytest.fixture(scope="module")
def running(server: Installation) -> Installation:
    """Shared by tests that leave the daemon as it was."""
    server.script("ok.sh", "echo fine")
    define(server, {"name": "ok", "script": "ok.sh"})
    server.start_daemon()
    return server


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x.py", "/etc/x.py", "a/b.sh", "a\0.py", ".hidden.py", "x", "x.pl", "x.py\n", "\\x.exe"]
)
def test_a_scripts_name_can_not_leave_its_folders(name: str) -> None:
    with pytest.raises(Invalid):
        script_paths.find_script(name)


def test_a_script_that_is_not_there_is_named_with_the_folders_to_put_it_in() -> None:
    with pytest.raises(NotFound, match=r"script no-such\.py not found: put it in one of .*jobs/scripts"):
        script_paths.find_script("no-such.py")


def test_a_script_may_not_be_readable(tmp_path: pathlib.Path) -> None:
    """As another user than root, whom no mode stops."""
    (tmp_path / "secret.py").touch(mode=0o000)
    tmp_path.chmod(0o755)
    code = f"""
import os, django
django.setup()
from jobs.execution import script_paths
from django.conf import settings
settings.JOB_SCRIPT_DIRS = [{str(tmp_path)!r}]
os.chmod({str(tmp_path)!r}, 0o711)
for each in {[str(each) for each in tmp_path.parents if str(each).startswith("/tmp/")]!r}:
    os.chmod(each, os.stat(each).st_mode | 0o011)
os.setuid(65534)
try:
    script_paths.find_script("secret.py")
except script_paths.Invalid as error:
    print(error)
"""
    environment = {"DJANGO_SETTINGS_MODULE": "lobwife.settings", "HOME": "/tmp", "LOBWIFE_SECRET_KEY": "x"}
    done = subprocess.run([PYTHON, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "secret.py" in done.stdout
    assert "can't be read by this service: check its mode" in done.stdout


def test_scripts_need_neither_a_shebang_nor_a_mode_and_may_be_deleted_while_they_run(served: Installation) -> None:
    served.start_daemon()
    assert run_now(served, "bare")["state"] == "success"
    run = run_now(served, "vanishes")
    assert run["state"] == "success"
    assert output_of(served, run["id"]) == "first\nsecond\n"
    again = run_now(served, "vanishes")
    assert (again["state"], "not found" in again["note"]) == ("error", True)


def test_a_stored_script_name_that_leaves_the_folders_is_an_error_of_its_run(served: Installation) -> None:
    for name in ("../ok.sh", "/bin/true", *(() if is_postgres() else ("ok.sh\0",))):
        execute(served, "UPDATE jobs_job SET script = ? WHERE name = 'ok'", name)
        run_id = trigger(served, "ok")
        if len(served.processes) == 1:
            served.start_daemon()
        assert ended(served, run_id)["state"] == "error"


@pytest.mark.parametrize("definition", ["{}", "[]", '{"script": 7}', '{"script": "ok.sh", "arguments": null}'])
def test_a_run_whose_definition_was_broken_by_hand_is_an_error_of_that_run_alone(
    running: Installation, definition: str
) -> None:
    running.post("/api/v1/runs/pause")
    run_id = trigger(running, "ok")
    execute(running, "UPDATE jobs_jobrun SET definition = ? WHERE id = ?", definition, run_id)
    running.post("/api/v1/runs/resume")
    run = ended(running, run_id)
    assert (run["state"], run["note"][:27]) == ("error", "its definition can't be use")
    assert run_now(running, "ok")["state"] == "success"


def test_a_full_disk_under_the_output_ends_the_run_and_shows_in_health(served: Installation) -> None:
    with small_disk(served.state / "runs", "1m"):
        served.start_daemon()
        run = run_now(served, "fills")
        assert run["state"] == "error"
        assert run["note"] == "the output could not be written: No space left on device"
        assert served.get("/api/jobs/fills").json["last_status"] == "error"
        health = wait_for(lambda: (h := served.get("/health").json)["status"] == "degraded" and h)
        assert "nearly full" in health["daemon"]["trouble"]
        assert processes_of(served) == []
        assert run_of(served, trigger(served, "ok"))["state"], "calls are still answered"
        assert served.processes[-1].poll() is None
        served.stop()


def test_an_output_that_may_not_grow_ends_the_run_and_shows_in_health_until_one_is_kept(served: Installation) -> None:
    served.start_daemon()
    daemon = served.processes[-1]
    # Of what the daemon starts, not of itself: prlimit() on it would be inherited, and the database is larger.
    served.script("limited.sh", FILLS)
    execute(served, "UPDATE jobs_job SET script = 'limited.sh' WHERE name = 'waits'")
    soft = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (2_000_000, soft[1]))
    run = run_now(served, "waits")
    assert (run["state"], run["note"]) == ("error", "the output could not be written: File too large")
    health = wait_for(lambda: (h := served.get("/health").json)["status"] == "degraded" and h)
    assert health["daemon"]["trouble"] == run["note"]
    assert run_now(served, "ok")["state"] == "success"
    wait_for(lambda: served.get("/health").json["status"] == "ok", 40)


def test_a_full_disk_under_the_database_is_survived(installation: Installation) -> None:
    with small_disk(installation.state, "32m"):
        installation.migrate()
        installation.script("ok.sh", "echo fine")
        define(installation, {"name": "ok", "script": "ok.sh"})
        wake_nothing(installation)
        installation.start_web()
        daemon = installation.start_daemon()
        assert run_now(installation, "ok")["state"] == "success"
        wait_for(lambda: installation.get("/health").json["status"] == "ok")
        ballast = installation.state / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            file.write(b"\0" * 2**24)
            wait_for(lambda: "nearly full" in str(installation.get("/health").json["daemon"]["trouble"]))
            while True:
                file.write(b"\0" * 4096)
        answer = installation.post("/api/jobs/ok/trigger")
        assert answer.status == 200 or "the disk is full" in answer.json["message"]
        ballast.unlink()
        wait_for(lambda: not installation.get("/api/jobs/ok").json["running"])
        assert run_now(installation, "ok")["state"] == "success"
        found = [row["state"] for row in rows(installation, "SELECT state FROM jobs_jobrun")]
        assert found == ["success"] * (3 if answer.status == 200 else 2), "what was refused left nothing"
        wait_for(lambda: installation.get("/health").json["status"] == "ok")
        assert daemon.poll() is None, installation.log()
        assert "Logging error" not in installation.log()
        installation.stop()


def test_a_write_lock_held_longer_than_the_timeout_is_survived(served: Installation) -> None:
    served.stop()
    served.environment["LOBWIFE_DB_TIMEOUT"] = "1"
    wake_nothing(served)
    served.start_web()
    daemon = served.start_daemon()
    run_id = trigger(served, "waits")
    wait_for(lambda: "ready" in output_of(served, run_id))
    with write_locked(served):
        wait_for(lambda: "a tick failed and is tried again" in served.log(), 30)
        assert served.get("/api/jobs").status == 200
        assert served.post("/api/jobs/ok/trigger").status == 503
    assert run_now(served, "ok")["state"] == "success"
    assert run_of(served, run_id)["state"] == "running", "what ran went on"
    served.post(f"/api/v1/runs/{run_id}/abort")
    assert ended(served, run_id)["state"] == "aborted"
    assert daemon.poll() is None
    assert rows(served, "SELECT count(*) FROM jobs_jobrun")[0][0] == 2, "what was refused left nothing"


def test_a_firing_while_the_database_is_locked_is_made_up_for_and_what_runs_goes_on(served: Installation) -> None:
    served.stop()
    served.environment["LOBWIFE_DB_TIMEOUT"] = "1"
    clock = wake_nothing(served)
    execute(served, "UPDATE jobs_job SET schedule = '7 12 * * *', settled_through = NULL WHERE name = 'ok'")
    served.start_web()
    daemon = served.start_daemon()
    run_id = trigger(served, "waits")
    wait_for(lambda: "ready" in output_of(served, run_id))
    planned = "SELECT 1 FROM jobs_job WHERE name = 'ok' AND CAST(next_firing AS text) LIKE '%12:07:00%'"
    wait_for(lambda: rows(served, planned))
    # On PostgreSQL the daemon, which can't write its sign of life, does not get as far as waking the scheduler.
    said = "a tick failed and is" if is_postgres() else "the next wake-up could not be stored and is"
    with write_locked(served):
        clock.set(QUIET.replace(minute=7, second=0))
        wait_for(lambda: f"{said} tried again" in served.log(), 30)
    [run] = wait_for(lambda: served.get("/api/v1/runs?job=ok").json, what="the firing is made up for")
    assert ended(served, run["id"])["state"] == "success"
    assert run["scheduled_for"][:19] == f"{QUIET:%Y-%m-%d}T12:07:00"
    assert run_of(served, run_id)["state"] == "running", "what ran went on"
    assert daemon.poll() is None


def test_a_start_while_the_database_is_locked_goes_on_when_it_is_free(installation: Installation) -> None:
    installation.environment["LOBWIFE_DB_TIMEOUT"] = "1"
    with write_locked(installation):
        daemon = installation.fork(str(ROOT / "manage.py"), "daemon")
        said = "this daemon can't lead yet" if is_postgres() else "tried again: database is locked"
        wait_for(lambda: said in installation.log(), 30)
    wait_for(lambda: installation.heartbeat_of(daemon), 30)
    assert "Traceback" not in installation.log()


def test_a_stale_heartbeat_is_degraded_health(served: Installation) -> None:
    served.start_daemon()
    assert served.get("/health").json["status"] == "ok"
    with write_locked(served) as connection:  # else it might be stopped while it holds that lock itself
        served.processes[-1].send_signal(signal.SIGSTOP)
        connection.execute("UPDATE jobs_daemon SET beat_at = ?", [moment(minutes=-1)])
    health = served.get("/health")
    assert (health.status, health.json["status"], health.json["daemon"]["alive"]) == (200, "degraded", False)
    served.processes[-1].send_signal(signal.SIGCONT)
    wait_for(lambda: served.get("/health").json["status"] == "ok")


def test_what_an_outsider_removed_of_the_schedule_is_planned_again(served: Installation) -> None:
    daemon = served.start_daemon()
    planned = "SELECT id FROM django_apscheduler_djangojob ORDER BY id"
    wait_for(lambda: "firings" in [row["id"] for row in rows(served, planned)])  # it is planned last
    everything = [row["id"] for row in rows(served, planned)]
    for _ in range(20):  # some meet a wake that is under way
        execute(served, "UPDATE jobs_job SET settled_through = NULL WHERE name = 'ok'")
        execute(served, "DELETE FROM django_apscheduler_djangojob")
    wait_for(lambda: [row["id"] for row in rows(served, planned)] == everything)
    assert daemon.poll() is None
    assert run_now(served, "ok")["state"] == "success"
