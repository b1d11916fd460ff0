"""Tasks and their events over HTTP, row by row (contract, "Tasks" and "Timestamps")."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.installation import Installation
from tests.support.rest_tasks import BROKER, FIELDS, SECONDS, events, made, patch, shown


# --- POST /api/v1/tasks
def test_a_task_is_made_with_its_defaults_and_an_event(server: Installation) -> None:
    answer = server.post("/api/v1/tasks", {"name": "  Trimmed  ", "actor": "lobboss", "unknown": 1})
    number = answer.json["id"]
    assert (answer.status, answer.json) == (201, {"id": number, "task_id": f"T{number}"})
    task = shown(server, number)
    assert set(task) == FIELDS | BROKER | {"links", "result"}
    assert (task["links"], task["result"]) == ([], None)
    assert (task["name"], task["type"], task["status"], task["priority"]) == ("Trimmed", "swe", "queued", "normal")
    assert (task["requires_qa"], task["token_count"]) == (False, 0)
    nothing = FIELDS | BROKER
    nothing -= {"id", "task_id", "name", "type", "status", "priority", "requires_qa", "token_count"}
    nothing -= {"created_at", "updated_at", "queued_at"}
    assert {task[name] for name in nothing} == {None}
    for name in ("created_at", "updated_at", "queued_at"):
        assert SECONDS.fullmatch(task[name])
    (event,) = events(server, number)
    assert set(event) == {"id", "task_id", "event_type", "detail", "actor", "created_at"}
    assert (event["task_id"], event["event_type"], event["actor"]) == (number, "created", "lobboss")
    assert event["detail"] == "Task created with status=queued"
    assert SECONDS.fullmatch(event["created_at"])


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "   "}, {"name": None}])
def test_a_task_needs_a_name(server: Installation, body: dict[str, Any]) -> None:
    answer = server.post("/api/v1/tasks", body)
    assert (answer.status, answer.json) == (400, {"error": "name is required"})


@pytest.mark.parametrize("status", ["done", "", "Queued", 7])
def test_only_the_six_statuses_are_taken(server: Installation, status: Any) -> None:
    number = made(server)
    for answer in (server.post("/api/v1/tasks", {"name": "x", "status": status}), patch(server, number, status=status)):
        assert (answer.status, answer.json) == (400, {"error": f"invalid status: {status}"})


# --- GET
def test_a_list_is_newest_first_filtered_and_limited(server: Installation) -> None:
    numbers = [made(server, type="image-gen", status="blocked") for _ in range(3)]
    answer = server.get("/api/v1/tasks?status=blocked&type=image-gen&limit=2")
    assert [task["id"] for task in answer.json] == numbers[:0:-1]
    assert all(set(task) == FIELDS for task in answer.json)
    assert server.get("/api/v1/tasks?status=nothing").json == []
    assert server.get("/api/v1/tasks?limit=0").json == []


def test_a_list_has_100_by_default_and_500_at_most(server: Installation) -> None:
    with server.database() as database:
        database.executemany("INSERT INTO tasks (name) VALUES (?)", [(f"t{n}",) for n in range(510)])
    assert len(server.get("/api/v1/tasks").json) == 100
    assert len(server.get("/api/v1/tasks?limit=").json) == 100
    for limit in ("500", "501", "9" * 40):
        assert len(server.get(f"/api/v1/tasks?limit={limit}").json) == 500


@pytest.mark.parametrize("limit", ["-1", "x", "1.5", "%20", "1e3", "+5"])
def test_a_limit_that_is_no_number_is_refused(server: Installation, limit: str) -> None:
    answer = server.get(f"/api/v1/tasks?limit={limit}")
    assert answer.status == 400
    assert "limit" in answer.json["error"]


def test_broker_repos_are_a_string_that_holds_json(server: Installation) -> None:
    number = made(server)
    with server.database() as database:
        database.execute("UPDATE tasks SET broker_repos = '[\"org/repo\"]' WHERE id = ?", [number])
    assert shown(server, number)["broker_repos"] == '["org/repo"]'


def test_an_unknown_task_is_a_404(server: Installation) -> None:
    answer = server.get("/api/v1/tasks/999999")
    assert (answer.status, answer.json) == (404, {"error": "Task T999999 not found"})


# --- PATCH
def test_a_change_names_its_fields_in_the_order_sent(server: Installation) -> None:
    number = made(server)
    answer = patch(server, number, status="active", actor="lobster-1", nonsense=1, assigned_to="lobster-1", name="New")
    updated = ["status", "assigned_to", "name"]
    assert (answer.status, answer.json) == (200, {"id": number, "task_id": f"T{number}", "updated": updated})
    newest = events(server, number)[0]
    assert newest["event_type"] == "updated"
    assert newest["detail"] == "Updated: status, assigned_to, name"
    assert newest["actor"] == "lobster-1"


@pytest.mark.parametrize("changes", [{}, {"actor": "x"}, {"unknown": 1}, {"created_at": "2026-01-01"}, {"slug": "s"}])
def test_a_change_of_nothing_is_refused(server: Installation, changes: dict[str, Any]) -> None:
    answer = patch(server, made(server), **changes)
    assert (answer.status, answer.json) == (400, {"error": "no valid fields to update"})


@pytest.mark.parametrize("name", ["", "   "])
def test_a_name_can_not_be_emptied(server: Installation, name: str) -> None:
    answer = patch(server, made(server), name=name)
    assert answer.status == 400
    assert answer.json["error"].startswith("name")


def test_json_is_checked_before_the_task_and_the_task_before_the_fields(server: Installation) -> None:
    assert server.request("PATCH", "/api/v1/tasks/999999", b"{").status == 400
    assert server.request("PATCH", "/api/v1/tasks/999999", {"status": "nonsense"}).status == 404
    assert server.request("PATCH", "/api/v1/tasks/999999", {}).status == 404
    assert server.post("/api/v1/tasks/999999/events", b"{").status == 400
    assert server.post("/api/v1/tasks/999999/events", {}).status == 404


# --- DELETE
@pytest.mark.parametrize("status", ["queued", "active", "failed", "blocked"])
def test_a_task_is_cancelled_and_stays(server: Installation, status: str) -> None:
    number = made(server, status=status)
    answer = server.request("DELETE", f"/api/v1/tasks/{number}")
    assert (answer.status, answer.json) == (200, {"id": number, "task_id": f"T{number}", "status": "cancelled"})
    assert shown(server, number)["status"] == "cancelled"
    newest = events(server, number)[0]
    assert (newest["event_type"], newest["detail"]) == ("cancelled", "Task cancelled via API")


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_a_task_that_is_over_can_not_be_cancelled(server: Installation, status: str) -> None:
    number = made(server, status=status)
    answer = server.request("DELETE", f"/api/v1/tasks/{number}")
    assert (answer.status, answer.json) == (409, {"error": f"Task T{number} is already {status}"})
    assert len(events(server, number)) == 1


def test_ids_are_never_reused(server: Installation) -> None:
    number = made(server)
    with server.database() as database:
        database.execute("DELETE FROM task_events WHERE task_id = ?", [number])
        database.execute("DELETE FROM tasks WHERE id = ?", [number])
    assert made(server) > number


# --- Events
def test_events_are_logged_and_listed_newest_first(server: Installation) -> None:
    number = made(server)
    body = {"event_type": "  note ", "detail": "  as it is ", "actor": "a"}
    answer = server.post(f"/api/v1/tasks/{number}/events", body)
    assert (answer.status, answer.json) == (201, {"status": "logged", "task_id": f"T{number}"})
    newest, first = events(server, number)
    assert (newest["event_type"], newest["detail"], newest["actor"]) == ("note", "  as it is ", "a")
    assert newest["id"] > first["id"]
    server.post(f"/api/v1/tasks/{number}/events", {"event_type": "bare"})
    assert (events(server, number)[0]["detail"], events(server, number)[0]["actor"]) == (None, None)


@pytest.mark.parametrize("body", [{}, {"event_type": ""}, {"event_type": "  "}, {"event_type": None}])
def test_an_event_needs_a_type(server: Installation, body: dict[str, Any]) -> None:
    answer = server.post(f"/api/v1/tasks/{made(server)}/events", body)
    assert (answer.status, answer.json) == (400, {"error": "event_type is required"})


def test_an_unknown_task_has_no_events(server: Installation) -> None:
    for number in ("999999", "T999999"):
        answer = server.get(f"/api/v1/tasks/{number}/events")
        assert (answer.status, answer.json) == (200, [])


def test_all_events_are_listed(server: Installation) -> None:
    number = made(server)
    with server.database() as database:
        database.executemany(
            "INSERT INTO task_events (task_id, event_type) VALUES (?, 'note')", [(number,) for _ in range(600)]
        )
    assert len(events(server, number)) == 601


# --- Side by side
def test_of_two_cancellations_at_once_one_wins(server: Installation) -> None:
    for _ in range(5):
        number = made(server)
        with ThreadPoolExecutor(4) as pool:
            path = f"/api/v1/tasks/{number}"
            answers = list(pool.map(lambda _, path=path: server.request("DELETE", path).status, range(4)))
        assert sorted(answers) == [200, 409, 409, 409]
        assert [event["event_type"] for event in events(server, number)] == ["cancelled", "created"]


def test_eight_clients_create_tasks_each_with_its_own_id_and_event(server: Installation) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda n: made(server, name=f"by {n}"), range(80)))
    assert len(set(numbers)) == 80
    with server.database() as database:
        without = database.execute(
            "SELECT count(*) FROM tasks WHERE name LIKE 'by %'"
            " AND (SELECT count(*) FROM task_events WHERE task_id = tasks.id AND event_type = 'created') <> 1"
        ).fetchone()[0]
    assert without == 0
