"""The table of roles against every route that is mounted, by HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from access.keys import create_key
from access.roles import RULES, entry_of
from core.callers import Role
from tasks.services import create_task
from tests.support.access import mounted

ROUTES = sorted(set(mounted()))
REMOTE = "10.9.8.7"


@pytest.fixture
def clients() -> dict[str, Client]:
    """A client for each role, the agent's task being T1, and one whom nobody knows."""
    task = create_task(fields={"name": "Its own"}, actor=None)
    clients = {"nobody": Client(REMOTE_ADDR=REMOTE)}
    for role in Role:
        number = task.pk if role is Role.AGENT else None
        key = create_key(name=str(role), role=role, actor="test", task_number=number)
        clients[str(role)] = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {key}"})
    return clients


def test_every_mounted_route_has_an_entry() -> None:
    missing = {entry_of(method, route) for method, route in ROUTES} - RULES.keys()
    assert not missing, f"say in access/roles.py who may take {sorted(missing)}"


def test_there_are_routes_to_walk() -> None:
    assert len(ROUTES) > 15


def _paths() -> Iterator[tuple[str, str, str]]:
    for method, route in ROUTES:
        path = "/" + route.replace("<task_id>", "1").replace("<run_id>", "1").replace("<name>", "task-manager")
        path = path.replace("<question_id>", "1")
        yield method, path, entry_of(method, route)


@pytest.mark.django_db
def test_each_role_gets_what_the_table_says_on_every_route(clients: dict[str, Client]) -> None:
    for method, path, entry in _paths():
        rule = RULES[entry]
        for role, client in clients.items():
            status = client.generic(method, path, b"{}", content_type="application/json").status_code
            outcome = f"{role}: {entry} answered {status}"
            if rule.everyone:
                assert status in {200, 503}, outcome
            elif role == "nobody":
                assert status == 401, outcome
            elif role not in rule.roles:
                assert status == 403, outcome
            else:
                assert status not in {401, 403, 405, 500}, outcome


@pytest.mark.django_db
def test_a_route_without_an_entry_is_closed_to_everyone(
    clients: dict[str, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(RULES, "GET /api/jobs")
    monkeypatch.delitem(RULES, "POST /api/v1/tasks")
    for client in [*clients.values(), Client()]:
        assert client.get("/api/jobs").status_code == 403
        assert client.post("/api/v1/tasks", {"name": "x"}, content_type="application/json").status_code == 405


@pytest.mark.django_db
def test_a_refusal_is_a_sentence_with_a_way_out(clients: dict[str, Client]) -> None:
    refused = clients["nobody"].get("/api/v1/tasks")
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="lobwife"'
    assert "manage.py apikey create" in refused.json()["error"]
    forbidden = clients["viewer"].post("/api/v1/tasks", {"name": "x"}, content_type="application/json")
    assert forbidden.json() == {
        "error": "this needs the role agent or operator or runner or service; key:viewer is viewer"
    }


@pytest.mark.django_db
def test_a_method_that_a_path_does_not_have_is_405_with_allow(clients: dict[str, Client]) -> None:
    answer = clients["operator"].put("/api/v1/tasks")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.django_db
def test_for_an_agent_there_is_its_own_task_and_no_other(clients: dict[str, Client]) -> None:
    agent = clients["agent"]
    other = create_task(fields={"name": "T1", "slug": "T1"}, actor=None)  # a name that looks like the agent's task
    mine = agent.get("/api/v1/tasks").json()
    assert len(mine) == 1
    number = mine[0]["id"]
    assert agent.get(f"/api/v1/tasks/T{number}").json()["name"] == "Its own"
    for path in (f"/api/v1/tasks/{other.pk}", f"/api/v1/tasks/{other.pk}/events", "/api/v1/tasks/987654"):
        refused = agent.get(path)
        assert refused.status_code == 404, path
        assert refused.json()["error"].endswith("not found")
    event = {"event_type": "note"}
    logged = agent.post(f"/api/v1/tasks/{number}/events", event, content_type="application/json")
    assert logged.status_code == 201
    foreign = agent.post(f"/api/v1/tasks/{other.pk}/events", event, content_type="application/json")
    assert foreign.status_code == 404
    assert agent.get("/api/v1/tasks?status=completed").json() == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"status": "completed", "completed_at": "2026-02-16T12:00:00Z", "actor": "me"}, 200),
        ({"status": "completed", "unknown": 1}, 200),
        ({"status": "cancelled"}, 403),
        ({"status": "queued"}, 403),
        ({"status": ["completed"]}, 403),
        ({"status": {}}, 403),
        ({"broker_repos": ["org/everything"]}, 403),
        ({"broker_status": "active"}, 403),
        ({"status": "active", "token_count": 0}, 403),
        ({"assigned_to": "somebody"}, 403),
        ({"repos": ["org/everything"]}, 403),
        ({"name": "T42"}, 403),
        ({"slug": "someone-elses"}, 400),
    ],
)
def test_an_agent_changes_how_far_its_task_is_and_nothing_else(
    clients: dict[str, Client], changes: dict[str, object], status: int
) -> None:
    agent = clients["agent"]
    before = agent.get("/api/v1/tasks").json()[0]
    answer = agent.patch(f"/api/v1/tasks/{before['id']}", changes, content_type="application/json")
    assert answer.status_code == status, answer.content
    after = agent.get("/api/v1/tasks").json()[0]
    assert (after["status"] == before["status"]) == (status != 200)


@pytest.mark.django_db
def test_an_agent_whose_task_is_gone_has_nothing() -> None:
    key = create_key(name="ghost", role=Role.AGENT, actor="test", task_number=4711)
    create_task(fields={"name": "Not for ghosts"}, actor=None)
    ghost = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {key}"})
    assert ghost.get("/api/v1/tasks").json() == []
    assert ghost.get("/api/v1/tasks/4711").status_code == 404
