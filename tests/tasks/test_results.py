"""Links and results of tasks: over REST, in the history, on the page."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from access.keys import create_key
from core.callers import Role
from tasks.models import TaskEvent, TaskLink
from tasks.services import create_task, update_task
from tests.support.pages import text

pytestmark = pytest.mark.django_db
PULL = "https://github.com/org/manual/pull/7"


@pytest.fixture
def number() -> int:
    return create_task(fields={"name": "Write the manual"}, actor=None).pk


@pytest.fixture
def agent(number: int) -> Client:
    key = create_key(name="agent", role=Role.AGENT, actor="test", task_number=number)
    return Client(REMOTE_ADDR="10.9.8.7", headers={"Authorization": f"Bearer {key}"})


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(f"/api/v1/tasks/{path}", body, content_type="application/json")


def test_a_link_is_added_once_and_read_with_its_task(agent: Client, number: int) -> None:
    first = post(agent, f"{number}/links", {"kind": "pull", "url": PULL, "actor": "agent-7"})
    again = post(agent, f"T{number}/links", {"kind": "pull", "url": PULL})
    assert (first.status_code, again.status_code) == (201, 200)
    answer = {"id": first.json()["id"], "task_id": f"T{number}", "kind": "pull", "url": PULL}
    assert first.json() == again.json() == answer
    post(agent, f"{number}/links", {"url": "http://gitea/org/x"})
    links = agent.get(f"/api/v1/tasks/{number}").json()["links"]
    assert [(link["kind"], link["url"]) for link in links] == [("pull", PULL), ("other", "http://gitea/org/x")]
    events = TaskEvent.objects.filter(event_type="link_added").order_by("pk")
    assert [(event.detail, event.actor, event.caller) for event in events] == [
        (f"pull: {PULL}", "agent-7", "key:agent"),
        ("other: http://gitea/org/x", None, "key:agent"),
    ]


def test_a_link_that_is_there_gets_the_kind_that_is_sent(agent: Client, number: int) -> None:
    post(agent, f"{number}/links", {"url": PULL})
    assert post(agent, f"{number}/links", {"kind": "pull", "url": PULL}).status_code == 200
    assert [link.kind for link in TaskLink.objects.all()] == ["pull"]


@pytest.mark.parametrize(
    "url", ["", "javascript:alert(1)", "ftp://host/x", "https://", "https://a b", "http://[", "//host/x", 7, None]
)
def test_a_link_is_an_address_of_the_web(agent: Client, number: int, url: Any) -> None:
    answer = post(agent, f"{number}/links", {"url": url})
    assert (answer.status_code, answer.json()["error"].startswith("url ")) == (400, True)


@pytest.mark.parametrize("url", ["https://bot:ghp_secret@github.com/org/x", "https://bot@github.com/", "http://@host/"])
def test_a_link_with_credentials_is_refused_and_its_error_does_not_repeat_them(
    agent: Client, number: int, url: str
) -> None:
    answer = post(agent, f"{number}/links", {"url": url})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "url must have no user name or password: everybody who reads the task sees it",
    }
    assert post(agent, f"{number}/links", {"url": "https://github.com/@bot"}).status_code == 201


def test_the_last_result_counts(agent: Client, number: int) -> None:
    assert agent.get(f"/api/v1/tasks/{number}").json()["result"] is None
    assert post(agent, f"{number}/result", {"summary": "half of it"}).status_code == 200
    answer = post(agent, f"{number}/result", {"summary": " All chapters ", "data": {"chapters": [1, 2]}})
    assert answer.json() == {"status": "stored", "task_id": f"T{number}"}
    result = agent.get(f"/api/v1/tasks/{number}").json()["result"]
    assert (result["summary"], result["data"]) == ("All chapters", {"chapters": [1, 2]})
    assert list(TaskEvent.objects.filter(event_type="result_written").order_by("pk").values_list("detail")) == [
        ("half of it",),
        ("All chapters",),
    ]


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("links", {"kind": "video", "url": PULL}, "kind"),
        ("links", {"kind": "pull"}, "url"),
        ("links", {"url": f"https://a/{'x' * 2000}"}, "url"),
        ("result", {"summary": "  "}, "summary"),
        ("result", {"data": {}}, "summary"),
        ("result", {"summary": "x", "data": [1]}, "data"),
        ("result", {"summary": "x", "data": {"x": "y" * 70_000}}, "data"),
    ],
)
def test_what_makes_no_sense_is_named(agent: Client, number: int, path: str, body: Any, word: str) -> None:
    answer = post(agent, f"{number}/{path}", body)
    assert (answer.status_code, answer.json()["error"].partition(" ")[0]) == (400, word)


def test_a_task_has_at_most_100_links(agent: Client, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.results.services._MOST_LINKS", 2)
    statuses = [post(agent, f"{number}/links", {"url": f"https://a/{n}"}).status_code for n in range(3)]
    assert statuses == [201, 201, 413]


@pytest.mark.parametrize(("path", "body"), [("links", {"url": PULL}), ("result", {"summary": "x"})])
def test_an_agent_writes_to_its_own_task_while_it_is_not_over(
    agent: Client, client: Client, number: int, path: str, body: Any
) -> None:
    other = create_task(fields={"name": "Another's"}, actor=None).pk
    assert post(agent, f"{other}/{path}", body).status_code == 404
    assert post(client, f"987654/{path}", body).status_code == 404
    update_task(task_id=number, changes={"status": "completed"}, actor=None)
    assert post(agent, f"{number}/{path}", body).status_code == 409
    assert post(client, f"{number}/{path}", body).status_code in (200, 201)


def test_operators_see_them_on_the_task_s_page(operator_client: Client, number: int) -> None:
    path = f"/admin/tasks/task/{number}/change/"
    assert "Result and links" not in text(operator_client, path)
    post(operator_client, f"{number}/links", {"kind": "pull", "url": f"{PULL}?a=<b>"})
    post(operator_client, f"{number}/result", {"summary": "<b>All</b>", "data": {"chapters": 7}})
    page = text(operator_client, path)
    assert f'href="{PULL}?a=&lt;b&gt;"' in page
    assert "&lt;b&gt;All&lt;/b&gt;" in page
    assert "&quot;chapters&quot;: 7" in page
