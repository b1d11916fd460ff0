"""Limits of writers: how often, how long a text, how much of a history agents and services may write."""

from __future__ import annotations

import pytest
from django.test import Client
from django.test.utils import override_settings

from access.keys import create_key
from core.callers import Role
from tasks.models import TaskEvent
from tasks.services import create_task

ELSEWHERE = "10.9.8.7"


def client(role: Role, task_number: int | None = None) -> Client:
    key = create_key(name=f"a-{role}", role=role, actor="test", task_number=task_number)
    return Client(REMOTE_ADDR=ELSEWHERE, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def number(db: None) -> int:
    return create_task(fields={"name": "Its own"}, actor=None).pk


def log(caller: Client, number: int, detail: str) -> int:
    body = {"event_type": "note", "detail": detail}
    return caller.post(f"/api/v1/tasks/{number}/events", body, content_type="application/json").status_code


def test_writes_of_an_agent_have_a_rate_and_reads_have_none(number: int) -> None:
    with override_settings(WRITES_PER_MINUTE={"agent": 6}, WEB_WORKERS=1):
        agent = client(Role.AGENT, number)
        assert [log(agent, number, "x") for _ in range(8)] == [201] * 6 + [429] * 2
        refused = agent.patch(f"/api/v1/tasks/{number}", {"status": "active"}, content_type="application/json")
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert {agent.get(f"/api/v1/tasks/{number}").status_code for _ in range(20)} == {200}


def test_writes_of_a_service_have_a_rate_too(number: int) -> None:
    with override_settings(WRITES_PER_MINUTE={"service": 3}, WEB_WORKERS=1):
        service = client(Role.SERVICE)
        statuses = [
            service.post("/api/v1/tasks", {"name": "x"}, content_type="application/json").status_code for _ in range(4)
        ]
        assert statuses == [201] * 3 + [429]


def test_a_large_write_counts_as_several(number: int) -> None:
    with override_settings(WRITES_PER_MINUTE={"agent": 6}, WEB_WORKERS=1):
        agent = client(Role.AGENT, number)
        assert [log(agent, number, "x" * 33_000) for _ in range(3)] == [201, 201, 429]


def test_a_text_of_an_agent_or_service_is_at_most_64_kib(number: int) -> None:
    agent, service = client(Role.AGENT, number), client(Role.SERVICE)
    assert log(agent, number, "x" * 65536) == 201
    assert log(agent, number, "é" * 32769) == 413
    assert log(service, number, "x" * 65537) == 413
    for field, value in (("workflow", "x" * 65537), ("repos", ["x" * 300] * 300)):
        refused = service.post("/api/v1/tasks", {"name": "x", field: value}, content_type="application/json")
        assert refused.status_code == 413
        assert refused.json() == {"error": f"{field} must be at most 64 KiB from the role service"}
    assert log(client(Role.OPERATOR), number, "x" * 65537) == 201


def test_a_history_that_is_full_takes_no_more_events_of_agents_and_can_still_be_ended(number: int) -> None:
    agent, operator = client(Role.AGENT, number), client(Role.OPERATOR)
    with override_settings(TASK_HISTORY_BYTES=300_000):
        statuses = [log(agent, number, "x" * 60_000) for _ in range(6)]
        assert statuses == [201] * 5 + [413]
        assert log(operator, number, "x") == 201
        ended = agent.patch(f"/api/v1/tasks/{number}", {"status": "completed"}, content_type="application/json")
        assert ended.status_code == 200


def test_a_long_history_comes_in_pages_bounded_in_bytes(number: int) -> None:
    rows = [TaskEvent(task_id=number, event_type="note", detail="x" * 2**20) for _ in range(6)]
    TaskEvent.objects.bulk_create(rows)
    operator = client(Role.OPERATOR)
    answer = operator.get(f"/api/v1/tasks/{number}/events")
    assert len(answer.content) < 5 * 2**20
    seen = [event["id"] for event in answer.json()]
    while "Link" in answer.headers:
        address, _, relation = answer.headers["Link"].partition("; ")
        assert relation == 'rel="next"'
        answer = operator.get(address.strip("<>"))
        seen += [event["id"] for event in answer.json()]
    assert seen == list(TaskEvent.objects.filter(task_id=number).order_by("-pk").values_list("pk", flat=True))
    page = operator.get(f"/api/v1/tasks/{number}/events?limit=2&before_id={seen[1]}").json()
    assert [event["id"] for event in page] == seen[2:4]
