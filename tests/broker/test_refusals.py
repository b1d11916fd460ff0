"""Every refusal is in the audit: who asked, for what, why; and histories have who was identified."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.access import bearer, make_key
from tests.support.broker_rig import Rig


def newest(rig: Rig, **wanted: str) -> dict[str, Any]:
    query = "&".join(f"{name}={value}" for name, value in wanted.items())
    return rig.audit(f"?{query}&limit=1")[0]


@pytest.fixture(scope="module")
def agent(rig: Rig) -> tuple[int, dict[str, str]]:
    number = rig.task("repo", status="active")
    return number, make_key(rig, "agent", "agent", "--task", f"T{number}")


def test_an_agent_that_asks_for_anothers_token_is_in_the_audit(rig: Rig, agent: tuple[int, dict[str, str]]) -> None:
    other = rig.task("repo")
    assert rig.post("/api/token", {"task_id": f"T{other}"}, headers=agent[1]).status == 404
    entry = newest(rig, identity="key:agent")
    assert (entry["action"], entry["outcome"], entry["task_id"]) == ("token_refused", "refused", f"T{other}")
    assert (entry["address"], entry["reason"]) == ("127.0.0.1", f"Task T{other} not found")


def test_a_service_that_asks_for_anothers_token_is_in_the_audit(rig: Rig) -> None:
    service = make_key(rig, "lobsigliere", "service")
    assert rig.post("/api/v1/service-token", {"service": "lobboss"}, headers=service).status == 403
    entry = newest(rig, identity="key:lobsigliere")
    assert (entry["action"], entry["outcome"], entry["task_id"]) == ("token_refused", "refused", "lobboss")
    assert "not as lobboss" in entry["reason"]


def test_what_a_role_may_not_do_is_in_the_audit(rig: Rig, agent: tuple[int, dict[str, str]]) -> None:
    number = agent[0]
    refused = rig.request("PATCH", f"/api/v1/tasks/{number}", {"broker_repos": ["other"]}, headers=agent[1])
    assert refused.status == 403
    entry = newest(rig, action="access_refused", identity="key:agent")
    assert (entry["task_id"], entry["task_number"]) == (f"PATCH /api/v1/tasks/{number}", number)
    assert "broker_repos" in entry["reason"]


def test_wrong_keys_are_in_the_audit_and_do_not_fill_it(rig: Rig) -> None:
    key = "lw_0123abcd_" + "x" * 43
    for _ in range(60):
        assert rig.get("/api/v1/tasks", headers=bearer(key)).status in {401, 429}
    entries = [entry for entry in rig.audit("?action=access_refused") if "lw_0123abcd" in entry["reason"]]
    assert 1 <= len(entries) <= 12
    assert entries[-1]["identity"] == "unidentified"
    assert entries[-1]["reason"] == "the credential is wrong, expired or revoked (lw_0123abcd)"
    assert key[12:] not in str(rig.audit("?limit=500"))


def test_events_have_who_was_identified_beside_the_actor_that_a_body_claims(
    rig: Rig, agent: tuple[int, dict[str, str]]
) -> None:
    number, headers = agent
    operator = make_key(rig, "olga", "operator")
    path = f"/api/v1/tasks/{number}"
    rig.post(f"{path}/events", {"event_type": "note", "actor": "operator"}, headers=headers)
    rig.request("PATCH", path, {"status": "blocked", "actor": "operator"}, headers=headers)
    rig.request("DELETE", path, headers=operator)
    with rig.database() as database:
        rows = database.execute(
            "SELECT event_type, actor, caller FROM task_events WHERE task_id = ? ORDER BY id", [number]
        )
        events = [tuple(row) for row in rows]
    assert events[0] == ("created", None, "local")
    assert events[-3:] == [
        ("note", "operator", "key:agent"),
        ("updated", "operator", "key:agent"),
        ("cancelled", None, "key:olga"),
    ]
