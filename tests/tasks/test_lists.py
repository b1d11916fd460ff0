"""Lists of tasks: filters, the two orders and their pages; changes only of what a caller has read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from tasks.models import Task
from tasks.services import create_task

pytestmark = pytest.mark.django_db
NEXT = re.compile(r'<([^>]+)>; rel="next"')


def listed(client: Client, **query: Any) -> list[str]:
    answer = client.get("/api/v1/tasks", query)
    assert answer.status_code == 200, answer.content
    return [task["name"] for task in answer.json()]


def pages(client: Client, path: str) -> Iterator[list[str]]:
    """The names on each page, as the header Link leads from one to the next."""
    while path:
        answer = client.get(path)
        assert answer.status_code == 200, answer.content
        yield [task["name"] for task in answer.json()]
        match = NEXT.fullmatch(answer.headers.get("Link", ""))
        path = match[1] if match else ""


def queued(name: str, priority: str, at: str) -> Task:
    task = create_task(fields={"name": name, "priority": priority}, actor=None)
    Task.objects.filter(pk=task.pk).update(queued_at=at)
    return task


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"assigned_to": "agent-7"}, ["one"]),
        ({"priority": "high"}, ["two"]),
        ({"repo": "org/app"}, ["two", "one"]),
        ({"repo": "ORG/App"}, ["two", "one"]),
        ({"repo": "org/ap"}, []),
        ({"repo": "org/a%"}, []),
        ({"repo": "org/app", "priority": "high"}, ["two"]),
        ({"q": "THREE"}, ["three_%"]),
        ({"q": "_%"}, ["three_%"]),
        ({"q": "gent-7"}, ["one"]),
        ({"q": "the-slug"}, ["two"]),
        ({"q": "nothing"}, []),
    ],
)
def test_a_list_has_what_fits_every_filter(client: Client, query: dict[str, str], names: list[str]) -> None:
    create_task(fields={"name": "one", "assigned_to": "agent-7", "repos": ["org/app"]}, actor=None)
    create_task(
        fields={"name": "two", "priority": "high", "slug": "the-slug", "repos": ["org/b", "org/app"]}, actor=None
    )
    create_task(fields={"name": "three_%", "repos": ["org/apple"]}, actor=None)
    assert listed(client, **query) == names


def test_a_task_is_found_by_its_id(client: Client) -> None:
    number = create_task(fields={"name": "one"}, actor=None).pk
    create_task(fields={"name": "two"}, actor=None)
    for text in (f"T{number}", f"t{number}"):
        assert listed(client, q=text) == ["one"]


def test_what_was_updated_in_the_same_second_is_not_missed(client: Client) -> None:
    for name, at in (("old", "2026-01-01 10:00:00"), ("same", "2026-01-01 10:00:01"), ("new", "2026-01-01 10:00:02")):
        task = create_task(fields={"name": name}, actor=None)
        Task.objects.filter(pk=task.pk).update(updated_at=at)
    assert listed(client, updated_after="2026-01-01T10:00:01Z") == ["new", "same"]
    assert listed(client, updated_after="2026-01-01T12:00:02+02:00") == ["new"]
    assert listed(client, updated_after="2026-01-01T10:00:01Z", order="queue") == ["same", "new"]


def test_the_queue_is_by_priority_then_by_time_then_by_id(client: Client) -> None:
    queued("low", "low", "2026-01-01 10:00:00")
    queued("odd", "someday", "2026-01-01 10:00:03")
    queued("normal", "normal", "2026-01-01 10:00:02")
    queued("same second", "normal", "2026-01-01 10:00:02")
    queued("high", "high", "2026-01-01 10:00:09")
    queued("critical", "critical", "2026-01-01 10:00:10")
    order = ["critical", "high", "normal", "same second", "odd", "low"]
    assert listed(client, order="queue") == order
    for limit in (1, 2, 4, 6, 7):
        walked = list(pages(client, f"/api/v1/tasks?order=queue&status=queued&limit={limit}"))
        assert [name for page in walked for name in page] == order
        assert all(len(page) == limit for page in walked[:-1])


def test_a_page_of_the_queue_goes_on_where_it_was_though_tasks_leave_it(client: Client) -> None:
    tasks = [queued(f"t{number}", "normal", f"2026-01-01 10:00:0{number}") for number in range(4)]
    walk = pages(client, "/api/v1/tasks?order=queue&status=queued&limit=2")
    assert next(walk) == ["t0", "t1"]
    Task.objects.filter(pk=tasks[1].pk).update(status="active", priority="low")
    queued("urgent", "critical", "2026-01-01 10:00:05")
    assert next(walk) == ["t2", "t3"]


@pytest.mark.parametrize("query", ["", "&q=t", "&repo=org/a"])
def test_the_newest_come_in_pages_too(client: Client, query: str) -> None:
    for number in range(5):
        create_task(fields={"name": f"t{number}", "repos": ["org/a"]}, actor=None)
    walked = list(pages(client, f"/api/v1/tasks?limit=2{query}"))
    assert walked == [["t4", "t3"], ["t2", "t1"], ["t0"]]


@pytest.mark.parametrize(
    "query",
    [
        "cursor=x",
        "cursor=-1",
        f"cursor={'9' * 5000}",
        "cursor=٣",
        "cursor=2.1.2026-01-01&order=newest",
        "cursor=7&order=queue",
        "cursor=9.1.x&order=queue",
        "order=oldest",
        "updated_after=yesterday",
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(client: Client, query: str) -> None:
    answer = client.get(f"/api/v1/tasks?{query}")
    wrong = "order" if query == "order=oldest" else query.partition("=")[0]
    assert (answer.status_code, answer.json()["error"].startswith(wrong)) == (400, True)


# --- ETag and If-Match
def changed(client: Client, number: int, etag: str | None, **changes: Any) -> Any:
    headers = {} if etag is None else {"If-Match": etag}
    return client.patch(f"/api/v1/tasks/{number}", changes, content_type="application/json", headers=headers)


def etag(client: Client, number: int) -> str:
    return str(client.get(f"/api/v1/tasks/{number}").headers["ETag"])


def test_of_two_who_read_the_same_task_the_second_change_is_refused(client: Client) -> None:
    number = create_task(fields={"name": "shared"}, actor=None).pk
    read = etag(client, number)
    assert read == etag(client, number)
    first = changed(client, number, read, assigned_to="one")
    assert first.status_code == 200
    second = changed(client, number, read, assigned_to="two")
    assert (second.status_code, "read it again" in second.json()["error"]) == (412, True)
    assert Task.objects.get(pk=number).assigned_to == "one"
    assert first.headers["ETag"] == etag(client, number) != read
    assert changed(client, number, first.headers["ETag"], assigned_to="two").status_code == 200


@pytest.mark.parametrize(("etag", "status"), [("*", 200), ('"other"', 412), ("nonsense", 412), ("", 412)])
def test_if_match_takes_what_http_says(client: Client, etag: str, status: int) -> None:
    number = create_task(fields={"name": "x"}, actor=None).pk
    assert changed(client, number, etag, model="m").status_code == status
    assert changed(client, 987654, etag, model="m").status_code == 404


def test_a_change_without_if_match_is_taken_as_ever(client: Client) -> None:
    number = create_task(fields={"name": "x"}, actor=None).pk
    assert changed(client, number, None, model="m").status_code == 200


def test_a_token_that_is_handed_out_changes_no_etag(client: Client) -> None:
    number = create_task(fields={"name": "x"}, actor=None).pk
    read = etag(client, number)
    Task.objects.filter(pk=number).update(token_count=3)
    assert etag(client, number) == read
