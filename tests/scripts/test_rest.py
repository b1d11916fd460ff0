"""What scripts need of REST: pages of tasks, and their exact counts."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.fleet import Fleet
from tests.support.installation import Installation, wait_for
from tests.support.jobs import define, output_of, run_now


def test_tasks_are_paged_by_the_last_id(server: Installation) -> None:
    for number in range(7):
        server.post("/api/v1/tasks", {"name": str(number), "type": "paged", "status": "blocked"})
    seen: list[int] = []
    query = "/api/v1/tasks?status=blocked&type=paged&limit=3"
    while page := server.get(query + (f"&before_id={seen[-1]}" if seen else "")).json:
        seen += [task["id"] for task in page]
    assert len(seen) == 7
    assert seen == sorted(seen, reverse=True)
    everything = [task["id"] for task in server.get(f"/api/v1/tasks?before_id={seen[0]}").json]
    assert everything[:6] == seen[1:]
    assert server.get("/api/v1/tasks?before_id=99999999999999999999").json == server.get("/api/v1/tasks").json


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "%00"])
def test_a_before_id_that_is_no_number_is_refused(server: Installation, value: str) -> None:
    answer = server.get(f"/api/v1/tasks?before_id={value}")
    assert (answer.status, "before_id" in answer.json["error"]) == (400, True)


def test_counts_are_exact_and_name_every_status(server: Installation) -> None:
    before = server.get("/api/v1/tasks/counts").json
    assert set(before["by_status"]) == {"queued", "active", "completed", "failed", "cancelled", "blocked"}
    with server.database() as database:
        database.executemany("INSERT INTO tasks (name, status) VALUES (?, 'failed')", [("one of many",)] * 701)
    after = server.get("/api/v1/tasks/counts").json
    assert after["by_status"]["failed"] == before["by_status"]["failed"] + 701
    assert after["total"] == before["total"] + 701 == sum(after["by_status"].values())


def test_the_four_scripts_run_as_jobs(tmp_path: pathlib.Path) -> None:
    """By the daemon, as a new installation has them, with its own environment."""
    made = Installation(tmp_path / "lobwife")
    fleet = Fleet(tmp_path / "fleet", made)
    own = ("LOBWIFE_STATE_DIR", "LOBWIFE_PYTHON", "LOG_DIR")
    made.environment |= {name: text for name, text in fleet.environment.items() if name not in own}
    scripts = {
        "tasks": "lobmob-task-manager.py",
        "review": "lobmob-review-prs.sh",
        "status": "lobmob-status-reporter.py",
        "flush": "lobmob-flush-logs.sh",
    }
    try:
        made.migrate()
        made.start_web()
        own_logs = {"LOG_DIR": str(fleet.logs)}
        define(
            made, *({"name": f"my-{name}", "script": each, "environment": own_logs} for name, each in scripts.items())
        )
        made.start_daemon()
        (fleet.logs / "lobmob-events.log").write_text("one\n")
        number = made.post("/api/v1/tasks", {"name": "lost", "status": "active", "assigned_to": "nobody"}).json["id"]
        with made.database() as database:
            database.execute("UPDATE tasks SET assigned_at = '2026-01-01T00:00:00Z' WHERE id = ?", (number,))
        fleet.jobs("somebody")
        last_lines = {}
        for name in scripts:
            run = run_now(made, f"my-{name}")
            text = output_of(made, run["id"])
            assert run["state"] == "success", text
            last_lines[name] = text.splitlines()[-1]
        assert last_lines["flush"].startswith("lobmob-flush-logs: 1 lines flushed")
        assert "1 failed, 1 investigations queued" in last_lines["tasks"]
        assert last_lines["review"] == "lobmob-review-prs: nothing to do"
        assert last_lines["status"].startswith("lobmob-status-reporter: reported")
        assert made.get(f"/api/v1/tasks/{number}").json["status"] == "failed"
        note = f"010-tasks/active/T{number + 1}.md"
        wait_for(lambda: "\nstatus: queued\n" in fleet.remote_file(note), what="the sync hands the investigation out")
        assert "Do not redo the work" in fleet.remote_file(note)
    finally:
        made.stop()
