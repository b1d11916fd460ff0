"""GET /api/v1/events as a list: cursors, filters, what each role sees."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from django.db import transaction
from django.test import Client

from access.keys import create_key
from broker import audit
from broker.audit import SYSTEM
from broker.models import Action, Outcome
from core.callers import Role
from events.models import Event
from events.services import newest_id
from tasks.services import create_task, log_event

pytestmark = pytest.mark.django_db
REMOTE = "10.9.8.7"
PATH = "/api/v1/events"


def client(role: Role, **options: Any) -> Client:
    key = create_key(name=f"a-{role}", role=role, actor="test", **options)
    return Client(REMOTE_ADDR=REMOTE, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def viewer() -> Client:
    return client(Role.VIEWER)


def task() -> int:
    return int(create_task(fields={"name": "Work"}, actor="boss").pk)


def issue_token(number: int) -> None:
    with transaction.atomic():
        audit.record(
            action=Action.TOKEN, outcome=Outcome.ISSUED, requested_id=f"T{number}", task_number=number, caller=SYSTEM
        )


def types(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [event["type"] for event in answer.json()["events"]]


def test_without_a_cursor_it_begins_now(viewer: Client) -> None:
    task()
    begin = viewer.get(PATH).json()
    assert begin == {"events": [], "next": newest_id()}
    number = task()
    page = viewer.get(PATH, {"after": begin["next"]}).json()
    [event] = page["events"]
    assert list(event) == ["id", "type", "at", "subject", "actor", "caller", "data"]
    assert (event["type"], event["subject"], event["actor"]) == ("task.created", f"T{number}", "boss")
    assert event["at"].endswith("Z")
    assert event["data"]["name"] == "Work"
    assert page["next"] == event["id"]
    assert viewer.get(PATH, {"after": page["next"]}).json() == {"events": [], "next": page["next"]}


def test_pages_by_limit_type_and_task(viewer: Client) -> None:
    begin = newest_id()
    first, second = task(), task()
    log_event(task_id=first, event_type="progress", detail="half", actor=None)
    page = viewer.get(PATH, {"after": begin, "limit": 2}).json()
    assert (len(page["events"]), page["next"]) == (2, begin + 2)
    assert types(viewer.get(PATH, {"after": page["next"], "limit": 2})) == ["task.logged"]
    assert types(viewer.get(PATH, {"after": begin, "types": "task.logged,run.*"})) == ["task.logged"]
    assert types(viewer.get(PATH, {"after": begin, "task": f"T{second}"})) == ["task.created"]
    nothing = viewer.get(PATH, {"after": begin, "types": "vault.*"}).json()
    assert nothing == {"events": [], "next": begin + 3}


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"after": "x"}, "after"),
        ({"types": "task"}, "types"),
        ({"wait": 61}, "wait"),
        ({"limit": 0}, "limit"),
        ({"task": "x"}, "id"),
    ],
)
def test_what_is_wrong_is_a_400_that_says_so(viewer: Client, query: dict[str, Any], word: str) -> None:
    answer = viewer.get(PATH, query)
    assert (answer.status_code, word in answer.json()["error"]) == (400, True), answer.content


def test_a_cursor_of_removed_events_is_a_410_with_one_that_works(viewer: Client) -> None:
    begin = newest_id()
    for _ in range(3):
        task()
    Event.objects.filter(pk__lte=begin + 2).delete()
    answer = viewer.get(PATH, {"after": begin})
    assert (answer.status_code, answer.json()["next"]) == (410, begin + 2)
    assert f"after={begin + 2}" in answer.json()["error"]
    assert types(viewer.get(PATH, {"after": begin + 2})) == ["task.created"]
    streamed = viewer.get(PATH, headers={"Accept": "text/event-stream", "Last-Event-ID": str(begin)})
    assert streamed.status_code == 410


def test_an_agent_sees_its_own_task_alone() -> None:
    own, other = task(), task()
    begin = newest_id()
    for number in (own, other):
        log_event(task_id=number, event_type="progress", detail=None, actor=None)
        issue_token(number)
    agent = client(Role.AGENT, task_number=own)
    assert types(agent.get(PATH, {"after": begin})) == ["task.logged"]
    assert types(agent.get(PATH, {"after": begin, "types": "*"})) == ["task.logged"]
    assert agent.get(PATH, {"task": other}).status_code == 404
    assert agent.get(PATH, {"types": "token.issued"}).status_code == 403


def test_services_see_no_tokens_and_no_changes_by_operators() -> None:
    begin, number = newest_id(), task()
    service = client(Role.SERVICE)  # an event of its own
    issue_token(number)
    assert types(service.get(PATH, {"after": begin})) == ["task.created"]
    assert service.get(PATH, {"types": "admin.changed,task.*"}).status_code == 403
    assert service.get(PATH, {"types": "key.*"}).status_code == 403
    viewer = client(Role.VIEWER)
    assert types(viewer.get(PATH, {"after": begin, "types": "token.*"})) == ["token.issued"]


def test_runners_and_strangers_are_refused(settings: LazySettings) -> None:
    assert client(Role.RUNNER).get(PATH).status_code == 403
    assert Client(REMOTE_ADDR=REMOTE).get(PATH).status_code == 401


def test_the_session_of_a_page_may_read_and_another_sites_page_may_not(operator_client: Client) -> None:
    assert operator_client.get(PATH).status_code == 200
    assert operator_client.get(PATH, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
