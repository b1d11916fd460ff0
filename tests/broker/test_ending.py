"""Tokens are gone when the task is over."""

from __future__ import annotations

import os
import pathlib
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.access import make_key
from tests.support.broker_rig import Rig
from tests.support.github import Canned
from tests.support.installation import moment, wait_for, waits_to_write, write_locked


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("ending"), LOBWIFE_BROKER_TASK_HOURS="48")
    made.start_web()
    yield made
    made.stop()


def is_live(rig: Rig, token: str) -> bool:
    return rig.github.token(f"token {token}") is not None


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_task_that_is_over_gets_no_token_and_loses_the_ones_it_has(rig: Rig, status: str) -> None:
    number = rig.task("repo", status="active")
    token = rig.token(f"T{number}").json["token"]
    rig.request("PATCH", f"/api/v1/tasks/{number}", {"status": status})
    answer = rig.token(f"T{number}")
    assert answer.status == 403
    assert status in answer.json["error"]
    rig.tick()
    assert not is_live(rig, token)
    with rig.database() as database:
        kept = database.execute("SELECT encrypted FROM broker_issuedtoken WHERE key = ?", [f"task:{number}"]).fetchall()
        assert [row[0] for row in kept] == [""]
    entry = rig.audit(f"?task_id=T{number}&outcome=revoked")[0]
    assert entry["token_sha256"] == rig.audit(f"?task_id=T{number}&outcome=issued")[0]["token_sha256"]


def test_a_task_whose_budget_is_spent_gets_no_token_and_loses_the_ones_it_has(rig: Rig) -> None:
    number = rig.task("repo", status="active")
    token = rig.token(f"T{number}").json["token"]
    rig.python(
        "import django; django.setup()\n"
        "from tasks.costs.budgets import save_budget\n"
        "from tasks.models import Budget\n"
        f"save_budget(Budget(scope='task', name='T{number}', period='total', limit_usd=5))\n"
    )
    cost = rig.post("/api/v1/costs", {"task_id": f"T{number}", "model": "m", "cost_usd": 5})
    sentence = f"the budget of T{number}, $5.00 in all, is spent"
    assert (cost.status, cost.json["budget"]) == (201, sentence)
    answer = rig.token(f"T{number}")
    assert (answer.status, sentence in answer.json["error"]) == (403, True)
    rig.tick()
    assert not is_live(rig, token)
    assert sentence in rig.audit(f"?task_id=T{number}&outcome=revoked")[0]["reason"]


@pytest.mark.parametrize("end", ["DELETE", "completed", "failed", "cancelled", "by the agent"])
def test_an_agent_changes_nothing_on_a_task_that_is_over(rig: Rig, end: str) -> None:
    number = rig.task("repo", status="active")
    path = f"/api/v1/tasks/{number}"
    agent = make_key(rig, f"agent-{number}", "agent", "--task", f"T{number}")
    if end == "DELETE":
        rig.request("DELETE", path)
    elif end == "by the agent":
        assert rig.request("PATCH", path, {"status": "completed"}, headers=agent).status == 200
    else:
        rig.request("PATCH", path, {"status": end})
    before = rig.get(path).json
    for status in ("active", "blocked", "completed", "failed"):
        refused = rig.request("PATCH", path, {"status": status}, headers=agent)
        assert refused.status == 409
        assert "an agent changes nothing on a task that is over" in refused.json["error"]
    assert rig.post(f"{path}/events", {"event_type": "note"}, headers=agent).status == 409
    assert rig.get(path).json == before
    assert rig.post("/api/token", {"task_id": f"T{number}"}, headers=agent).status == 403


def test_a_task_that_was_revived_gets_no_token_before_it_is_registered_anew(rig: Rig) -> None:
    number = rig.task("repo", status="active")
    path = f"/api/v1/tasks/{number}"
    agent = make_key(rig, f"agent-{number}", "agent", "--task", f"T{number}")
    service = make_key(rig, f"service-{number}", "service")
    rig.request("PATCH", path, {"status": "failed"}, headers=agent)
    assert rig.get(path).json["broker_status"] == "ended"
    assert rig.request("PATCH", path, {"status": "active"}, headers=service).status == 200
    assert rig.post("/api/token", {"task_id": f"T{number}"}, headers=agent).status == 403
    assert rig.post(f"{path}/register", {"repos": ["repo"]}, headers=service).status == 200
    assert rig.post("/api/token", {"task_id": f"T{number}"}, headers=agent).status == 200


def test_the_daemon_ends_registrations_of_tasks_that_were_over_before_it_came(rig: Rig) -> None:
    number = rig.task("repo")
    with rig.database() as database:
        database.execute("UPDATE tasks SET status = 'completed' WHERE id = ?", [number])
    rig.tick()
    assert rig.get(f"/api/v1/tasks/{number}").json["broker_status"] == "ended"


@pytest.mark.parametrize("status", ["queued", "active", "blocked"])
def test_a_task_that_is_not_over_gets_its_token(rig: Rig, status: str) -> None:
    number = rig.task("repo", status=status)
    assert rig.token(f"T{number}").status == 200


def test_the_daemon_revokes_by_itself(tmp_path: pathlib.Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.start_web()
        rig.start_daemon()
        number = rig.task("repo")
        token = rig.token(f"T{number}").json["token"]
        rig.request("DELETE", f"/api/v1/tasks/{number}")
        wait_for(lambda: not is_live(rig, token), what="the token is revoked")
    finally:
        rig.stop()


def test_a_deregistered_tasks_token_is_revoked(rig: Rig) -> None:
    number = rig.task("repo")
    token = rig.token(f"T{number}").json["token"]
    rig.request("DELETE", f"/api/tasks/T{number}")
    rig.tick()
    assert not is_live(rig, token)


def test_a_task_queued_again_gets_a_new_token_that_the_old_end_does_not_touch(rig: Rig) -> None:
    number = rig.task("repo")
    first = rig.token(f"T{number}").json["token"]
    rig.request("PATCH", f"/api/v1/tasks/{number}", {"status": "failed"})
    rig.request("PATCH", f"/api/v1/tasks/{number}", {"status": "queued"})
    refused = rig.token(f"T{number}")
    assert (refused.status, refused.json["error"]) == (403, f"Task T{number} broker is ended, not active")
    rig.register(number, "repo")
    second = rig.token(f"T{number}").json["token"]
    assert first != second
    rig.tick()
    assert (is_live(rig, first), is_live(rig, second)) == (False, True)
    assert rig.token(f"T{number}").json["token"] == second


def test_a_token_in_store_does_not_reach_who_asked_while_the_task_was_cancelled(rig: Rig) -> None:
    number = rig.task("repo")
    assert rig.token(f"T{number}").status == 200
    with ThreadPoolExecutor(1) as pool, write_locked(rig) as database:
        asked = pool.submit(rig.token, f"T{number}")
        wait_for(lambda: waits_to_write(rig), what="the token is found and about to be counted")
        database.execute("UPDATE tasks SET status = 'cancelled' WHERE id = ?", [number])
        database.commit()
        answer = asked.result()
    assert answer.status == 403
    assert "cancelled" in answer.json["error"]
    rig.tick()


def test_a_mint_in_flight_while_the_task_is_cancelled_reaches_nobody(rig: Rig) -> None:
    number = rig.task("repo")
    live = len(rig.github.live)
    with ThreadPoolExecutor(1) as pool:
        with rig.github.holding():
            asked = pool.submit(rig.token, f"T{number}")
            assert rig.github.minting.acquire(timeout=10)
            assert rig.request("DELETE", f"/api/v1/tasks/{number}").status == 200
        answer = asked.result()
    assert answer.status == 403
    assert "cancelled" in answer.json["error"]
    assert len(rig.github.live) == live


def test_a_mint_in_flight_while_the_repositories_change_is_made_anew(rig: Rig) -> None:
    number = rig.task("repo")
    with ThreadPoolExecutor(1) as pool:
        with rig.github.holding():
            asked = pool.submit(rig.token, f"T{number}")
            assert rig.github.minting.acquire(timeout=10)
            assert rig.register(number, "other").status == 200
        answer = asked.result()
    made = rig.github.token(f"token {answer.json['token']}")
    assert made is not None
    assert made.repositories == ["other"]
    assert [token.repositories for token in rig.github.tokens[-2:]] == [["repo"], ["other"]]
    assert rig.github.tokens[-2].revoked


def test_a_mint_in_flight_while_the_registration_ends_and_begins_again_is_made_anew(rig: Rig) -> None:
    number = rig.task("repo")
    while rig.github.minting.acquire(blocking=False):
        pass
    rig.github.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(rig.token, f"T{number}")
        assert rig.github.minting.acquire(timeout=10)
        assert rig.request("DELETE", f"/api/tasks/T{number}").status == 200
        assert rig.register(number, "repo").status == 200
        rig.github.gate.set()
        answer = asked.result()
    first, second = rig.github.tokens[-2:]
    assert (first.revoked, second.revoked) == (True, False)
    assert answer.json["token"] == second.text


@pytest.mark.parametrize("ahead", [{"hours": -1}, {"days": 1}], ids=["its time has come", "clock set back"])
def test_a_revocation_that_fails_is_retried_and_blocks_nothing(rig: Rig, ahead: dict[str, int]) -> None:
    number = rig.task("repo")
    token = rig.token(f"T{number}").json["token"]
    rig.github.fail(*[Canned(500)] * 3)
    rig.request("DELETE", f"/api/v1/tasks/{number}")
    rig.tick()
    assert is_live(rig, token)
    with rig.database() as database:
        mine = "SELECT attempts, retry_at > minted_at AND retry_at < ? FROM broker_issuedtoken WHERE key = ?"
        assert [tuple(row) for row in database.execute(mine, [moment(minutes=10), f"task:{number}"])] == [(1, 1)]
        database.execute("UPDATE broker_issuedtoken SET retry_at = ? WHERE state = 'ended'", [moment(**ahead)])
    rig.tick()
    assert not is_live(rig, token)


def test_a_daemon_killed_in_mid_revocation_leaves_the_rest_to_the_next(tmp_path: pathlib.Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.start_web()
        number = rig.task("repo")
        token = rig.token(f"T{number}").json["token"]
        daemon = rig.start_daemon()
        rig.github.fail(Canned(204, b"", drip_head=True))
        rig.request("DELETE", f"/api/v1/tasks/{number}")
        wait_for(lambda: "DELETE /installation/token" in rig.github.calls, what="the token is being revoked")
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait(10)
        assert is_live(rig, token)
        rig.start_daemon()
        wait_for(lambda: rig.audit(f"?task_id=T{number}&outcome=revoked"), what="the next daemon revokes it")
        assert not is_live(rig, token)
        assert len(rig.audit(f"?task_id=T{number}&outcome=revoked")) == 1
    finally:
        rig.stop()


def test_a_token_that_github_forgot_already_counts_as_revoked(rig: Rig) -> None:
    number = rig.task("repo")
    token = rig.token(f"T{number}").json["token"]
    made = rig.github.token(f"token {token}")
    assert made is not None
    made.revoked = True
    rig.request("DELETE", f"/api/v1/tasks/{number}")
    rig.tick()
    assert rig.audit(f"?task_id=T{number}")[0]["outcome"] == "revoked"


def test_a_follower_that_was_never_there_finds_what_ended_before_it_came(tmp_path: pathlib.Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.start_web()
        number, other = rig.task("repo"), rig.task("repo")
        token, kept = rig.token(f"T{number}").json["token"], rig.token(f"T{other}").json["token"]
        rig.request("DELETE", f"/api/v1/tasks/{number}")
        with rig.database() as database:
            database.execute("UPDATE broker_githubstate SET cursor = NULL")
        rig.tick()
        assert (is_live(rig, token), is_live(rig, kept)) == (False, True)
    finally:
        rig.stop()


def ago(**units: float) -> str:
    return (datetime.now(UTC) - timedelta(**units)).isoformat()


def test_a_legacy_registration_ends_after_24_hours(rig: Rig) -> None:
    rig.post("/api/tasks/old/register", {"repos": ["repo"]})
    token = rig.token("old").json["token"]
    with rig.database() as database:
        database.execute("UPDATE broker_tasks SET registered_at = ? WHERE task_id = 'old'", [ago(hours=23.9)])
    assert rig.token("old").status == 200
    with rig.database() as database:
        database.execute("UPDATE broker_tasks SET registered_at = ? WHERE task_id = 'old'", [ago(hours=24.1)])
    assert rig.token("old").json == {"error": "Task old is expired, not active"}
    rig.tick()
    assert "old" not in rig.get("/api/tasks").json
    assert not is_live(rig, token)
    assert rig.audit("?task_id=old&action=task_deregistered")[0]["reason"] == "its time is over"
    rig.post("/api/tasks/old/register", {"repos": ["repo"]})
    assert rig.token("old").status == 200


def test_a_tasks_registration_ends_after_the_hours_of_the_setting(rig: Rig) -> None:
    number = rig.task("repo")
    rig.token(f"T{number}")
    with rig.database() as database:
        database.execute("UPDATE tasks SET broker_registered_at = ? WHERE id = ?", [ago(hours=48.1), number])
    assert rig.token(f"T{number}").json == {"error": f"Task T{number} broker is expired, not active"}
    rig.tick()
    assert rig.get(f"/api/v1/tasks/{number}").json["broker_status"] == "expired"
    rig.register(number, "repo")
    assert rig.token(f"T{number}").status == 200


def test_a_time_of_registration_at_the_end_of_the_calendar_is_borne(rig: Rig) -> None:
    far = "9999-12-31T23:59:59+00:00"
    number, ended = rig.task("repo"), rig.task("repo")
    token = rig.token(f"T{ended}").json["token"]
    rig.post("/api/tasks/far/register", {"repos": ["repo"]})
    assert rig.request("PATCH", f"/api/v1/tasks/{number}", {"broker_registered_at": far}).status == 200
    with rig.database() as database:
        database.execute("UPDATE broker_tasks SET registered_at = ? WHERE task_id = 'far'", [far])
    assert (rig.token(f"T{number}").status, rig.token("far").status) == (200, 200)
    rig.request("DELETE", f"/api/v1/tasks/{ended}")
    rig.tick()
    assert not is_live(rig, token)


@pytest.mark.parametrize(
    ("repos", "registered_at"),
    [("{", ago(hours=1)), ('["repo"]', "yesterday"), ("[1]", "")],
    ids=["not JSON", "no time", "no names"],
)
def test_what_the_older_service_left_unreadable_gives_no_token(rig: Rig, repos: str, registered_at: str) -> None:
    with rig.database() as database:
        database.execute(
            "INSERT INTO broker_tasks (task_id, repos, registered_at) VALUES ('odd', ?, ?)"
            " ON CONFLICT (task_id) DO UPDATE SET repos = excluded.repos, registered_at = excluded.registered_at",
            [repos, registered_at],
        )
    assert rig.token("odd").status == 403
    assert rig.get("/api/tasks").status == 200


def test_the_audit_keeps_what_its_retention_covers(rig: Rig) -> None:
    number = rig.task("repo")
    assert [rig.token(f"T{number}").status for _ in range(3)] == [200, 200, 200]
    with rig.database() as database:
        database.execute("UPDATE token_audit SET created_at = ? WHERE id IN (1, 2)", [ago(days=365.1)])
        database.execute("UPDATE token_audit SET created_at = ? WHERE id = 3", [ago(days=364.9)])
        before = [row[0] for row in database.execute("SELECT id FROM token_audit ORDER BY id")]
    rig.tick()
    with rig.database() as database:
        after = [row[0] for row in database.execute("SELECT id FROM token_audit ORDER BY id")]
    assert before[:2] == [1, 2]
    assert after[: len(before) - 2] == before[2:]
