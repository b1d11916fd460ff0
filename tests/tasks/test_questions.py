"""Questions of agents: asked, answered, delivered with heartbeats, withdrawn."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client

from access.keys import create_key
from core.callers import Role
from core.timestamps import utc_now
from events.services import newest_id, read_after
from tasks.leases.expiry import Expiry
from tasks.models import Question, TaskEvent
from tasks.services import cancel_task, create_task, update_task

pytestmark = pytest.mark.django_db
REMOTE = "10.9.8.7"
TEXT = "May I delete the table sessions_old?"
APPROVAL = ["Approve", "Reject"]


def client_of(role: Role, name: str = "", **options: Any) -> Client:
    key = create_key(name=name or str(role), role=role, actor="test", **options)
    return Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {key}"})


def post(client: Client, path: str, body: Any, status: int) -> Any:
    answer = client.post(f"/api/v1/{path}", body, content_type="application/json")
    assert answer.status_code == status, answer.content
    return answer.json()


@pytest.fixture
def number() -> int:
    return create_task(fields={"name": "Write the manual"}, actor=None).pk


@pytest.fixture
def agent(number: int) -> Client:
    return client_of(Role.AGENT, task_number=number)


@pytest.fixture
def operator() -> Client:
    return client_of(Role.OPERATOR)


@pytest.fixture
def runner() -> Client:
    return client_of(Role.RUNNER, "box-3")


@pytest.fixture
def claimed(number: int, runner: Client) -> Any:
    """What the runner got with its claim."""
    return post(runner, "tasks/claim", {}, 200)


def beat(claimed: Any) -> list[Any]:
    holder = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {claimed['key']}"})
    answer = post(holder, f"tasks/{claimed['id']}/heartbeat", {"fence": claimed["lease"]["fence"]}, 200)
    return list(answer["messages"])


def test_a_question_is_asked_and_answered(agent: Client, operator: Client, number: int) -> None:
    asked = post(agent, f"tasks/T{number}/questions", {"text": f" {TEXT} ", "choices": APPROVAL, "actor": "me"}, 201)
    assert (asked["task_id"], asked["text"], asked["choices"]) == (f"T{number}", TEXT, APPROVAL)
    assert (asked["state"], asked["asked_by"], asked["answer"]) == ("open", "me (key:agent)", None)
    assert operator.get("/api/v1/questions?open=true").json()["questions"] == [asked]
    answered = post(operator, f"questions/{asked['id']}/answer", {"answer": "approve", "actor": "anna"}, 200)
    assert (answered["state"], answered["answer"], answered["answered_by"]) == (
        "answered",
        "Approve",
        "anna (key:operator)",
    )
    assert agent.get(f"/api/v1/questions/{asked['id']}?wait_seconds=60").json() == answered
    assert agent.get(f"/api/v1/tasks/{number}/questions").json() == {"questions": [answered]}
    assert operator.get("/api/v1/questions?open=true").json() == {"questions": []}


def test_both_are_in_the_history_and_in_the_feed(agent: Client, operator: Client, number: int) -> None:
    before = newest_id()
    asked = post(agent, f"tasks/{number}/questions", {"text": TEXT, "choices": APPROVAL}, 201)["id"]
    post(operator, f"questions/{asked}/answer", {"answer": "No, keep it"}, 200)
    history = list(TaskEvent.objects.order_by("pk").values_list("event_type", "detail", "caller"))
    assert history[-2:] == [
        ("question_asked", f"Question {asked}: {TEXT}", "key:agent"),
        ("question_answered", f"Answer to question {asked}: No, keep it", "key:operator"),
    ]
    events = [event for event in read_after(before, task=number).events if event.type.startswith("question.")]
    assert [event.type for event in events] == ["question.asked", "question.answered"]
    first, second = (json.loads(event.data) for event in events)
    assert first["choices"] == APPROVAL
    assert (second["answer"], second["answered_by"]) == ("No, keep it", "key:operator")


def test_the_same_answer_again_is_the_same_and_another_is_refused(agent: Client, operator: Client, number: int) -> None:
    asked = post(agent, f"tasks/{number}/questions", {"text": TEXT, "choices": APPROVAL}, 201)["id"]
    first = post(operator, f"questions/{asked}/answer", {"answer": "Reject"}, 200)
    assert post(operator, f"questions/{asked}/answer", {"answer": " reject "}, 200) == first
    second = client_of(Role.OPERATOR, "ben")
    refused = post(second, f"questions/{asked}/answer", {"answer": "Approve"}, 409)["error"]
    assert refused.startswith(f"question {asked} was answered by key:operator already")
    assert refused.endswith("“Reject”")
    assert TaskEvent.objects.filter(event_type="question_answered").count() == 1


def test_an_open_question_is_not_asked_twice(agent: Client, number: int) -> None:
    first = post(agent, f"tasks/{number}/questions", {"text": TEXT}, 201)
    assert post(agent, f"tasks/{number}/questions", {"text": TEXT}, 200) == first
    assert post(agent, f"tasks/{number}/questions", {"text": TEXT, "choices": APPROVAL}, 201)["id"] != first["id"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "text"),
        ({"text": "  "}, "text"),
        ({"text": "x" * 4001}, "text"),
        ({"text": "x\0"}, "text"),
        ({"text": "x", "choices": "yes"}, "choices"),
        ({"text": "x", "choices": [""]}, "choices"),
        ({"text": "x", "choices": ["a\nb"]}, "choices"),
        ({"text": "x", "choices": ["x" * 201]}, "choices"),
        ({"text": "x", "choices": [str(n) for n in range(11)]}, "choices"),
    ],
)
def test_a_question_that_makes_no_sense_is_named(agent: Client, number: int, body: Any, word: str) -> None:
    assert post(agent, f"tasks/{number}/questions", body, 400)["error"].startswith(f"{word} ")


@pytest.mark.parametrize("body", [{}, {"answer": ""}, {"answer": " "}, {"answer": "x" * 4001}])
def test_an_answer_is_text(agent: Client, operator: Client, number: int, body: Any) -> None:
    asked = post(agent, f"tasks/{number}/questions", {"text": TEXT}, 201)["id"]
    assert post(operator, f"questions/{asked}/answer", body, 400)["error"].startswith("answer ")


def test_a_task_has_so_many_open_questions_and_no_more(agent: Client, number: int, settings: Any) -> None:
    settings.OPEN_QUESTIONS = 2
    for text in ("a", "b"):
        post(agent, f"tasks/{number}/questions", {"text": text}, 201)
    assert "LOBWIFE_OPEN_QUESTIONS" in post(agent, f"tasks/{number}/questions", {"text": "c"}, 409)["error"]


def test_an_answer_comes_with_the_next_heartbeats(claimed: Any, operator: Client) -> None:
    holder = Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {claimed['key']}"})
    asked = post(holder, f"tasks/{claimed['id']}/questions", {"text": TEXT, "choices": APPROVAL}, 201)["id"]
    assert beat(claimed) == []
    post(operator, f"questions/{asked}/answer", {"answer": "Approve"}, 200)
    message = {
        "kind": "answer",
        "question_id": asked,
        "question": TEXT,
        "answer": "Approve",
        "answered_by": "key:operator",
    }
    assert beat(claimed) == [message]
    assert beat(claimed) == [message], "as the response before it may be lost"
    with time_machine.travel(utc_now() + timedelta(seconds=61), tick=False):
        assert beat(claimed) == []


def test_an_answer_waits_for_the_next_holder(claimed: Any, operator: Client, runner: Client) -> None:
    asked = post(runner, f"tasks/{claimed['id']}/questions", {"text": TEXT}, 201)["id"]
    post(runner, f"tasks/{claimed['id']}/release", {"fence": 1, "outcome": "queued"}, 200)
    post(operator, f"questions/{asked}/answer", {"answer": "Yes"}, 200)
    again = post(runner, "tasks/claim", {}, 200)
    assert [message["answer"] for message in beat(again)] == ["Yes"]


def test_a_runner_asks_about_the_task_that_it_holds(claimed: Any, runner: Client, number: int) -> None:
    other = create_task(fields={"name": "Another's"}, actor=None).pk
    asked = post(runner, f"tasks/{number}/questions", {"text": TEXT}, 201)
    assert runner.get(f"/api/v1/questions/{asked['id']}").json() == asked
    assert post(runner, f"tasks/{other}/questions", {"text": TEXT}, 404)["error"] == (
        f"key:box-3 holds no lease of task T{other}"
    )
    stranger = client_of(Role.RUNNER, "box-4")
    assert stranger.get(f"/api/v1/questions/{asked['id']}").status_code == 404
    post(runner, f"tasks/{number}/release", {"fence": 1, "outcome": "queued"}, 200)
    assert runner.get(f"/api/v1/tasks/{number}/questions").status_code == 404


def test_an_agent_asks_about_its_own_task_and_answers_nothing(agent: Client, operator: Client, number: int) -> None:
    other = create_task(fields={"name": "Another's"}, actor=None).pk
    foreign = post(operator, f"tasks/{other}/questions", {"text": TEXT}, 201)["id"]
    post(agent, f"tasks/{other}/questions", {"text": TEXT}, 404)
    assert agent.get(f"/api/v1/questions/{foreign}").json() == {"error": f"Question {foreign} not found"}
    own = post(agent, f"tasks/{number}/questions", {"text": TEXT}, 201)["id"]
    post(agent, f"questions/{own}/answer", {"answer": "Approve"}, 403)
    assert agent.get("/api/v1/questions").status_code == 403


def test_a_service_does_not_answer_itself(number: int) -> None:
    service, other = client_of(Role.SERVICE, "planner"), client_of(Role.SERVICE, "chat")
    asked = post(service, f"tasks/{number}/questions", {"text": TEXT}, 201)["id"]
    post(service, f"questions/{asked}/answer", {"answer": "Approve"}, 403)
    post(other, f"questions/{asked}/answer", {"answer": "Approve"}, 200)


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "released", "expired"])
def test_the_end_of_a_task_withdraws_what_is_open(
    claimed: Any, operator: Client, runner: Client, settings: Any, how: str
) -> None:
    number = claimed["id"]
    asked = post(runner, f"tasks/{number}/questions", {"text": TEXT}, 201)["id"]
    if how == "cancelled":
        cancel_task(task_id=number, actor=None)
    elif how == "released":
        post(runner, f"tasks/{number}/release", {"fence": 1, "outcome": "completed"}, 200)
    elif how == "expired":
        settings.LEASE_STRIKES = {"default": 1}
        with time_machine.travel(utc_now() + timedelta(hours=1)):
            Expiry(lambda task_id, sentence: None).tick()
    else:
        update_task(task_id=number, changes={"status": how}, actor=None)
    withdrawn = operator.get(f"/api/v1/questions/{asked}?wait_seconds=30").json()
    assert (withdrawn["state"], withdrawn["answer"]) == ("withdrawn", None)
    assert "withdrawn" in post(operator, f"questions/{asked}/answer", {"answer": "x"}, 409)["error"]
    assert post(operator, f"tasks/{number}/questions", {"text": "Too late?"}, 409)["error"].startswith(
        f"Task T{number}"
    )
    assert Question.objects.open().count() == 0


def test_lists_go_on_by_the_header_link(operator: Client, number: int) -> None:
    numbers = [post(operator, f"tasks/{number}/questions", {"text": str(n)}, 201)["id"] for n in range(3)]
    first = operator.get("/api/v1/questions?limit=2")
    assert [each["id"] for each in first.json()["questions"]] == [numbers[2], numbers[1]]
    assert f"before_id={numbers[1]}" in first.headers["Link"]
    last = operator.get(f"/api/v1/questions?limit=2&before_id={numbers[1]}")
    assert [each["id"] for each in last.json()["questions"]] == [numbers[0]]
    assert "Link" not in last.headers


@pytest.mark.parametrize(
    ("path", "status"), [("0", 404), ("x", 404), ("9" * 30, 404), ("12345", 404), ("1?wait_seconds=61", 404)]
)
def test_a_question_that_there_is_not_is_a_404(operator: Client, path: str, status: int) -> None:
    assert operator.get(f"/api/v1/questions/{path}").status_code == status


def test_the_longest_wait_is_named(operator: Client, number: int) -> None:
    asked = post(operator, f"tasks/{number}/questions", {"text": TEXT}, 201)["id"]
    refused = operator.get(f"/api/v1/questions/{asked}?wait_seconds=61")
    assert (refused.status_code, refused.json()) == (400, {"error": "wait_seconds is at most 60"})
