"""`/health` answers within a second whatever the database does, and says what is wrong (contract, "Health")."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.installation import Installation, wait_for, write_locked


def beat(server: Installation, age: timedelta) -> None:
    with server.database() as database:
        database.execute("DELETE FROM jobs_daemon")
        database.execute(
            "INSERT INTO jobs_daemon (id, pid, boot_id, version, beat_at, trouble, paused_by)"
            " VALUES (1, 1, '', '', ?, '', '')",
            [(datetime.now(UTC) - age).strftime("%Y-%m-%d %H:%M:%S.%f")],
        )


def test_health_has_what_probes_and_dashboards_read(server: Installation) -> None:
    beat(server, timedelta(0))
    server.post("/api/v1/tasks", {"name": "Counted"})
    answer = server.get("/health")
    health = answer.json
    assert (answer.status, health["status"]) == (200, "ok")
    assert health["jobs_running"] == 0
    assert 0 <= health["uptime"] < 86_400
    assert set(health["broker"]) == {"enabled", "app_id", "active_tasks", "total_tokens_issued", "audit_entries"}
    assert (health["broker"]["enabled"], health["broker"]["app_id"]) == (False, None)
    assert health["db"]["ok"] is True
    assert health["db"]["size_bytes"] > 0
    assert health["db"]["task_count"] == len(server.get("/api/v1/tasks?limit=500").json)


def test_health_is_degraded_when_the_daemon_gives_no_sign_of_life(server: Installation) -> None:
    beat(server, timedelta(seconds=2))
    assert server.get("/health").json["status"] == "ok"
    beat(server, timedelta(minutes=2))
    answer = server.get("/health")
    assert (answer.status, answer.json["status"]) == (200, "degraded")
    assert answer.json["daemon"]["alive"] is False


def test_health_says_what_keeps_a_silent_daemon_from_writing(server: Installation) -> None:
    beat(server, timedelta(minutes=2))
    with write_locked(server):
        answer = server.get("/health")
        assert (answer.status, answer.json["status"]) == (200, "degraded")
        assert "locked by another program" in answer.json["daemon"]["trouble"]
    answer = server.get("/health")
    assert (answer.json["status"], answer.json["daemon"]["trouble"]) == ("degraded", None)


def test_health_counts_registrations_of_tasks_and_legacy_ones_together(server: Installation) -> None:
    before = server.get("/health").json["broker"]
    number = server.post("/api/v1/tasks", {"name": "Registered"}).json["id"]
    over = server.post("/api/v1/tasks", {"name": "Was registered"}).json["id"]
    with server.database() as database:
        database.execute("UPDATE tasks SET broker_status = 'active', token_count = 3 WHERE id = ?", [number])
        database.execute(
            "UPDATE tasks SET status = 'completed', broker_status = 'active', token_count = 2 WHERE id = ?", [over]
        )
        database.execute(
            "INSERT INTO broker_tasks (task_id, repos, registered_at, token_count) VALUES ('l', '[]', '', 4)"
        )
        database.execute("INSERT INTO token_audit (task_id, action, created_at) VALUES ('l', 'task_registered', '')")
    after = server.get("/health").json["broker"]
    assert after["active_tasks"] == before["active_tasks"] + 2, (
        "one that is over is not active, whatever its broker says"
    )
    assert after["total_tokens_issued"] == before["total_tokens_issued"] + 9
    assert after["audit_entries"] == before["audit_entries"] + 1


def test_the_fleets_client_gets_through_a_lock_of_nine_seconds(server: Installation) -> None:
    """It tries again after 1, 2 and 4 seconds when an answer can't be read as JSON, not when it says an error."""
    headers = {"User-Agent": "Python/3.11 aiohttp/3.9.1"}
    tried: list[tuple[int, str, float]] = []

    def call() -> int:
        for pause in (1, 2, 4, None):
            began = time.monotonic()
            answer = server.post("/api/v1/tasks", {"name": "Through the lock"}, headers=headers)
            tried.append((answer.status, answer.headers["content-type"], time.monotonic() - began))
            assert answer.body.count(b"\n") == 0
            assert json.loads(answer.body)
            if "json" in answer.headers["content-type"] or pause is None:
                return answer.status
            time.sleep(pause)
        return 0

    with ThreadPoolExecutor(1) as pool, write_locked(server):
        began = time.monotonic()
        pending = pool.submit(call)
        wait_for(lambda: time.monotonic() - began > 9, 15)
    assert pending.result() == 201
    assert [status for status, _, _ in tried[:-1]] == [503] * (len(tried) - 1)
    assert len(tried) > 1
    assert max(seconds for _, _, seconds in tried) < 8


def test_a_locked_database_refuses_writes_with_a_reason_and_answers_reads(server: Installation) -> None:
    number = server.post("/api/v1/tasks", {"name": "Before the lock"}).json["id"]
    calls = [
        ("POST", "/api/v1/tasks", {"name": "x"}),
        ("PATCH", f"/api/v1/tasks/{number}", {"model": "m"}),
        ("DELETE", f"/api/v1/tasks/{number}", None),
        ("POST", f"/api/v1/tasks/{number}/events", {"event_type": "note"}),
    ]
    with write_locked(server), ThreadPoolExecutor(32) as pool:
        # `timeout` is the promise itself: callers give up later, so a slower answer fails here.
        writes = [pool.submit(server.request, *call, timeout=8) for call in calls * 6]
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert server.get("/health", timeout=1).status == 200
            assert server.get(f"/api/v1/tasks/{number}", timeout=1).status == 200
        answers = [write.result() for write in writes]
    assert {answer.status for answer in answers} == {503}
    assert all("locked" in answer.json["error"] and "retry-after" in answer.headers for answer in answers)
    assert server.post("/api/v1/tasks", {"name": "After the lock"}).status == 201
    assert server.get(f"/api/v1/tasks/{number}").json["status"] == "queued"


@pytest.mark.sqlite("a damaged file")
def test_a_database_that_can_not_be_read_makes_health_a_503(installation: Installation) -> None:
    installation.start_web()
    for suffix in ("", "-wal", "-shm"):
        path = installation.state / f"lobmob.db{suffix}"
        if path.exists():
            path.write_bytes(b"this is no database " * 400)
    answer = wait_for(lambda: (got := installation.get("/health")).status == 503 and got, 10, "health notices")
    assert answer.json["db"]["ok"] is False
    assert answer.json["db"]["error"]
    assert installation.get("/api/v1/tasks").status in {500, 503}
    assert list(installation.get("/api/v1/tasks").json) == ["error"]
