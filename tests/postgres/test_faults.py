"""Faults of a database that several share, and of these: all goes on by itself, and nothing is lost or doubled."""

from __future__ import annotations

import pathlib
import re
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.support.access import bearer
from tests.support.clock import Clock
from tests.support.disk import small_disk
from tests.support.installation import ROOT, Answer, Installation, wait_for
from tests.support.kills.fleet import DATABASE, Fleet
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300, func_only=True)]
NEVER = "0 0 29 2 *"
WAITS = 'echo begun; echo $LOBWIFE_RUN_ID >> "$HERE/begun"; until [ -e "$HERE/go" ]; do sleep 0.05; done; echo over\n'
TALKS = "while :; do echo a line; sleep 0.1; done\n"
OLD_RUNNER = """
import os, lobwife
lobwife.__version__ = "0.9.0"
os.environ["DJANGO_SETTINGS_MODULE"] = "lobwife.settings"
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "runner", "--labels", "old"])
"""
# An app with a migration of the next version: it adds columns to tables that every claim reads and writes.
MIGRATION = """
from django.db import migrations
class Migration(migrations.Migration):
    operations = [
        migrations.RunSQL("ALTER TABLE tasks ADD COLUMN later integer"),
        migrations.RunSQL("ALTER TABLE tasks_tasklease ADD COLUMN later text"),
        migrations.RunSQL("UPDATE tasks SET later = 1; SELECT pg_sleep(1)"),
        migrations.RunSQL("CREATE INDEX later ON tasks (later)"),
    ]
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two webs, of which the clock of the first is half a minute ahead, a daemon and a runner."""
    with Fleet(tmp_path_factory.mktemp("fleet"), webs=2, daemons=1, runners=1) as made:
        ahead = Clock(made.of("web")[0].installation)
        ahead.set(ahead.now() + timedelta(seconds=30))
        environment = {"HERE": str(made.folder)}
        jobs = {}
        for name, script, label in (("waits", WAITS, "work"), ("talks", TALKS, "work"), ("old", "echo done", "old")):
            (made.scripts / f"{name}.sh").write_text(script)
            jobs[name] = {"script": f"{name}.sh", "schedule": NEVER, "runs_on": label, "environment": environment}
        made.define({"jobs": jobs})
        made.start()
        yield made


def web(fleet: Fleet, number: int = 1) -> Installation:
    return fleet.of("web")[number].installation


def created(server: Installation, name: str = "a task") -> Answer:
    return server.post("/api/v1/tasks", {"name": name})


def triggered(fleet: Fleet, job: str) -> int:
    answer = web(fleet).post(f"/api/v1/jobs/{job}/runs")
    assert answer.status == 201, answer.body
    return int(answer.json["id"])


def state_of(fleet: Fleet, run: int) -> str:
    return str(web(fleet).get(f"/api/v1/runs/{run}").json.get("state"))


def output_of(fleet: Fleet, run: int) -> str:
    return str(web(fleet).get(f"/api/v1/runs/{run}/output").json.get("text"))


def test_a_lease_lasts_as_long_on_a_web_whose_clock_is_half_a_minute_ahead(fleet: Fleet) -> None:
    ahead, right = web(fleet, 0), web(fleet)
    number = created(right).json["id"]
    claimed = ahead.post("/api/v1/tasks/claim", {"lease_seconds": 4}).json
    assert claimed["id"] == number
    agent, beat = bearer(claimed["key"]), {"fence": claimed["lease"]["fence"]}
    until = time.monotonic() + 6
    while time.monotonic() < until:
        for server in (right, ahead):
            answer = server.post(f"/api/v1/tasks/{number}/heartbeat", beat, headers=agent)
            assert (answer.status, answer.json["stop"]) == (200, False), answer.body
            assert server.get(f"/api/v1/tasks/{number}", headers=agent).json["status"] == "active"
        threading.Event().wait(0.5)
    wait_for(lambda: right.get(f"/api/v1/tasks/{number}").json["status"] == "queued", 12, "its lease expires")
    assert ahead.post(f"/api/v1/tasks/{number}/heartbeat", beat, headers=agent).status == 409
    right.request("DELETE", f"/api/v1/tasks/{number}")
    findings = right.manage("doctor", check=False).stdout
    assert re.search(r"clock is \d\d s ahead of the database's", findings), findings


def test_an_abort_reaches_a_runner_that_another_node_asks(fleet: Fleet) -> None:
    run = triggered(fleet, "talks")
    wait_for(lambda: output_of(fleet, run), 60, "it prints")
    asked = time.monotonic()
    web(fleet).post(f"/api/v1/runs/{run}/abort")
    wait_for(lambda: state_of(fleet, run) == "aborted", 10, "it is aborted")
    print(f"an abort took {time.monotonic() - asked:.2f} s")


def test_runs_go_on_while_the_database_is_away_and_end_once(fleet: Fleet) -> None:
    run = triggered(fleet, "waits")
    wait_for(lambda: output_of(fleet, run) == "begun\n", 60, "it has begun")
    fleet.cluster.stop(signal.SIGQUIT)
    (fleet.folder / "go").touch()
    fleet.cluster.start()
    wait_for(lambda: state_of(fleet, run) == "success", 60, "its end is recorded")
    assert output_of(fleet, run) == "begun\nover\n"
    assert (fleet.folder / "begun").read_text().split() == [str(run)]
    ends = f"SELECT count(*) FROM events_event WHERE type = 'run.ended' AND subject = 'run {run}'"
    assert fleet.query(ends) == [(1,)]
    wait_for(lambda: not fleet.query("SELECT 1 FROM procrastinate_jobs"), 90, "nothing of it is queued")


def test_a_runner_of_an_older_version_goes_on_and_is_named(fleet: Fleet) -> None:
    older = Installation(fleet.folder / "older", **_shared(fleet))
    older.start(sys.executable, "-c", OLD_RUNNER)
    try:
        run = triggered(fleet, "old")
        wait_for(lambda: state_of(fleet, run) == "success", 90, "it executes")
        findings = web(fleet).manage("doctor", check=False).stdout
        assert "runs version 0.9.0" in findings
    finally:
        older.stop()
    assert "No runner serves old: runs of old wait." in web(fleet).manage("doctor", check=False).stdout


def test_a_migration_waits_for_writers_and_no_call_fails_meanwhile(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    migrations = tmp_path / "later" / "migrations"
    migrations.mkdir(parents=True)
    for folder in (migrations, migrations.parent):
        (folder / "__init__.py").touch()
    (migrations / "0001_later.py").write_text(MIGRATION)
    (tmp_path / "next_settings.py").write_text("from lobwife.settings import *\nINSTALLED_APPS.append('later')\n")
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "DJANGO_SETTINGS_MODULE": "next_settings"}
    newer = Installation(tmp_path / "newer", **_shared(fleet), **environment)
    over, statuses = threading.Event(), []

    def call() -> None:
        while not over.is_set():
            number = created(web(fleet)).json.get("id")
            calls = [web(fleet).post("/api/v1/tasks/claim", {}), web(fleet).get("/api/v1/tasks?limit=5")]
            calls.append(web(fleet).request("PATCH", f"/api/v1/tasks/{number}", {"model": "x"}))
            statuses.extend(answer.status for answer in calls)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(statuses) > 20, 30, "calls are answered")
        newer.manage("migrate", "-v0")
        before = len(statuses)
        wait_for(lambda: len(statuses) > before + 20, 30, "calls are answered")
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert set(statuses) <= {200, 204}, statuses
    assert fleet.query("SELECT count(*) FROM tasks WHERE later IS NOT NULL")[0][0] > 0


def _shared(fleet: Fleet) -> dict[str, str]:
    names = ("LOBWIFE_DATABASE_URL", "LOBWIFE_SCRIPTS_DIR", "LOBWIFE_SECRET_KEY")
    return {name: web(fleet).environment[name] for name in names}


def test_service_goes_on_at_a_standby_that_was_promoted_with_all_that_was_acknowledged(tmp_path: pathlib.Path) -> None:
    with Fleet(tmp_path, webs=1, daemons=1, runners=0) as fleet:
        standby = Cluster(primary=fleet.cluster, synchronous_commit="on")
        try:
            fleet.cluster.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            fleet.cluster.execute("SELECT pg_reload_conf()")
            synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            wait_for(lambda: fleet.query(synchronous), 30, "it replicates synchronously")
            fleet.start()
            acknowledged: list[int] = []
            over = threading.Event()
            writer = threading.Thread(target=_create_until, args=(web(fleet, 0), over, acknowledged))
            writer.start()
            wait_for(lambda: len(acknowledged) > 20, 30, "tasks are created")
            fleet.cluster.stop(signal.SIGKILL)
            standby.execute("SELECT pg_promote()")
            for node in fleet.nodes:
                node.proxy.targets = (standby.socket,)
            before = len(acknowledged)
            wait_for(lambda: len(acknowledged) > before + 20, 60, "tasks are created again")
            over.set()
            writer.join(30)
            fleet.cluster, fleet.url = standby, standby.url(DATABASE)
            fleet.wait_until_well()
            assert set(acknowledged) <= {number for (number,) in fleet.query("SELECT id FROM tasks")}
            ids = [number for (number,) in fleet.query("SELECT id FROM events_event ORDER BY id")]
            assert ids == list(range(1, len(ids) + 1))
        finally:
            over.set()
            standby.remove()


def _create_until(server: Installation, over: threading.Event, acknowledged: list[int]) -> None:
    while not over.is_set():
        answer = created(server)
        if answer.status == 201:
            acknowledged.append(answer.json["id"])
        else:
            assert answer.status == 503, answer.body
            over.wait(0.1)


def test_a_full_disk_of_the_database_is_a_sentence_and_loses_nothing(tmp_path: pathlib.Path) -> None:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lobwife-small-"))  # which others than root get to
    with small_disk(folder, "80m"):
        cluster = Cluster(folder=folder, synchronous_commit="on", min_wal_size="2MB", max_wal_size="4MB")
        server = Installation(tmp_path / "web", LOBWIFE_DATABASE_URL=cluster.make_database("full"))
        try:
            server.manage("migrate", "-v0")
            server.start_web()
            answers: list[Answer] = [created(server)]
            ballast = folder / "ballast"
            _fill(ballast, leave=2**20)
            text = secrets.token_hex(100_000)  # what can be compressed would fill the disk in minutes

            def refusal() -> str:
                answer = server.post("/api/v1/tasks", {"name": f"{time.monotonic()}", "workflow": text})
                answers.append(answer)
                return answer.json["error"] if answer.status == 503 else ""

            sentence = wait_for(refusal, 60, "a write is refused")
            assert "full" in sentence or "can't be reached" in sentence, sentence
            ballast.unlink()

            def writes_again() -> bool:
                if cluster.has_ended():  # without room for its log it gives up, and whoever looks after it starts it
                    cluster.start()
                return created(server).status == 201

            wait_for(writes_again, 60, "web writes again")
            assert {answer.status for answer in answers} == {201, 503}
            acknowledged = [answer.json["id"] for answer in answers if answer.status == 201]
            assert all(server.get(f"/api/v1/tasks/{number}").status == 200 for number in acknowledged)
        finally:
            server.stop()
            cluster.stop(signal.SIGQUIT)
    folder.rmdir()


def _fill(path: pathlib.Path, *, leave: int) -> None:
    """Fill the disk of a file but for so much."""
    free = shutil.disk_usage(path.parent).free - leave
    with path.open("wb") as file:
        for _ in range(max(0, free) // 2**16):
            file.write(b"\0" * 2**16)
