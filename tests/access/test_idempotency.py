"""Repeats of a POST with an Idempotency-Key: executed once, answered alike, for a day."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import time_machine
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access import idempotency, keys
from access.models import KeptAnswer
from core.callers import Caller, Role
from tasks.models import Task, TaskEvent
from tasks.services import create_task
from tests.support.installation import Installation

REMOTE = "10.9.8.7"


def post(client: Client, path: str, body: Any, key: str = "k1") -> Any:
    return client.post(path, body, content_type="application/json", headers={"Idempotency-Key": key})


@pytest.mark.django_db
def test_a_repeat_gets_the_first_answer_and_does_nothing(client: Client) -> None:
    first = post(client, "/api/v1/tasks", {"name": "once"})
    again = post(client, "/api/v1/tasks", {"name": "once"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert first.headers["Content-Type"] == again.headers["Content-Type"]
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    assert Task.objects.count() == TaskEvent.objects.count() == 1


@pytest.mark.django_db
def test_the_same_key_with_another_request_is_refused(client: Client) -> None:
    number = post(client, "/api/v1/tasks", {"name": "once"}).json()["id"]
    for path, body in (("/api/v1/tasks", {"name": "twice"}), (f"/api/v1/tasks/{number}/events", {"name": "once"})):
        answer = post(client, path, body)
        assert (answer.status_code, "another request" in answer.json()["error"]) == (422, True)
    assert Task.objects.count() == 1
    assert post(client, "/api/v1/tasks", {"name": "twice"}, "k2").status_code == 201


@pytest.mark.django_db
def test_what_was_refused_may_be_sent_right_with_the_same_key(client: Client) -> None:
    assert post(client, "/api/v1/tasks", {"name": ""}).status_code == 400
    assert not KeptAnswer.objects.exists()
    assert post(client, "/api/v1/tasks", {"name": "right"}).status_code == 201


@pytest.mark.django_db
def test_nothing_is_kept_of_a_request_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what it wrote before it failed, nor its key."""

    def fails(*_: Any, **__: Any) -> None:
        raise DatabaseError("in the middle")

    client = Client(raise_request_exception=False)
    number = create_task(fields={"name": "x"}, actor=None).pk
    with monkeypatch.context() as broken:
        broken.setattr("broker.services._registered", fails)
        assert post(client, f"/api/v1/tasks/{number}/register", {"repos": ["org/a"]}).status_code == 500
    assert (Task.objects.get().broker_repos, KeptAnswer.objects.count()) == (None, 0)
    assert post(client, f"/api/v1/tasks/{number}/register", {"repos": ["org/a"]}).status_code == 200


@pytest.mark.django_db
def test_callers_have_keys_of_their_own() -> None:
    for name in ("one", "two"):
        key = keys.create_key(name=name, role=Role.SERVICE, actor="test")
        caller = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {key}"})
        assert post(caller, "/api/v1/tasks", {"name": name}).status_code == 201
    assert Task.objects.count() == 2


@pytest.mark.django_db
def test_a_caller_with_a_long_name_may_repeat(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        caller = Caller(f"kubernetes:{'n' * 63}:{'s' * 253}/{number}", Role.SERVICE)
        monkeypatch.setattr(idempotency, "caller_of", lambda request, caller=caller: caller)
        answers = [post(client, "/api/v1/tasks", {"name": f"of {number}"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
    assert Task.objects.count() == 2


@pytest.mark.django_db
def test_a_caller_who_may_no_more_gets_no_kept_answer() -> None:
    key = keys.create_key(name="one", role=Role.SERVICE, actor="test")
    caller = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {key}"})
    assert post(caller, "/api/v1/tasks", {"name": "x"}).status_code == 201
    keys.revoke_key(name="one", actor="test")
    assert post(caller, "/api/v1/tasks", {"name": "x"}).status_code == 401


@pytest.mark.django_db
def test_an_operator_in_a_browser_may_repeat_too(operator_client: Client) -> None:
    numbers = {post(operator_client, "/api/v1/tasks", {"name": "x"}).json()["id"] for _ in range(2)}
    assert len(numbers) == Task.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "with blank", "é", "x" * 256])
def test_a_key_is_a_word(client: Client, key: str) -> None:
    answer = post(client, "/api/v1/tasks", {"name": "x"}, key)
    assert (answer.status_code, answer.json()["error"].startswith("Idempotency-Key must be")) == (400, True)


@pytest.mark.django_db
def test_an_answer_that_holds_a_token_is_not_kept(client: Client) -> None:
    for path, body in (("/api/token", {"task_id": "T1"}), ("/api/v1/service-token", {"service": "lobwife"})):
        assert post(client, path, body).status_code == 503  # no GitHub App: it was executed, and not within a key
        assert idempotency.HEADER not in {
            each["name"] for each in client.get("/api/openapi.json").json()["paths"][path]["post"].get("parameters", [])
        }
    assert not KeptAnswer.objects.exists()


@pytest.mark.django_db
def test_after_a_day_a_key_is_free_again_and_its_answer_removed(client: Client) -> None:
    with time_machine.travel("2026-03-01 10:00:00+00:00", tick=False):
        post(client, "/api/v1/tasks", {"name": "x"})
        post(client, "/api/v1/tasks", {"name": "x"}, "k2")
    with time_machine.travel("2026-03-02 09:59:59+00:00", tick=False):
        assert idempotency.trim() == 0
        assert "Idempotent-Replayed" in post(client, "/api/v1/tasks", {"name": "x"}).headers
    with time_machine.travel("2026-03-02 10:00:00+00:00", tick=False):
        assert "Idempotent-Replayed" not in post(client, "/api/v1/tasks", {"name": "x"}).headers
        assert idempotency.trim() == 1
    assert [kept.key for kept in KeptAnswer.objects.all()] == ["k1"]


@pytest.mark.django_db
def test_a_post_without_a_key_costs_no_query_more(client: Client) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert client.post("/api/v1/tasks", {"name": "x"}, content_type="application/json").status_code == 201
    assert not [query for query in asked if "keptanswer" in query["sql"]]


def test_of_repeats_at_once_one_is_executed(server: Installation) -> None:
    body, headers = {"name": "raced"}, {"Idempotency-Key": "race"}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: server.post("/api/v1/tasks", body, headers=headers), range(24)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert [task["name"] for task in server.get("/api/v1/tasks?q=raced").json] == ["raced"]
