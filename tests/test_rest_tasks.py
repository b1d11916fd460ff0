"""Tasks and their events over HTTP, row by row (contract, "Tasks" and "Timestamps")."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.installation import Answer, Installation

SECONDS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
LISTED = [
    "id, name, slug, type, status, priority, model, assigned_to, repos, discord_thread_id, estimate_minutes",
    "requires_qa, workflow, created_at, updated_at, queued_at, assigned_at, completed_at",
]
FIELDS = {name for line in LISTED for name in line.split(", ")} | {"task_id"}
BROKER = {"broker_repos", "broker_status", "token_count", "broker_registered_at"}
TEXTS = ["slug", "type", "priority", "model", "assigned_to", "discord_thread_id", "workflow"]


def made(server: Installation, **fields: Any) -> int:
    answer = server.post("/api/v1/tasks", {"name": "A task", **fields})
    assert answer.status == 201, answer.body
    return answer.json["id"]


def shown(server: Installation, number: int) -> dict[str, Any]:
    return server.get(f"/api/v1/tasks/{number}").json


def patch(server: Installation, number: int, **changes: Any) -> Answer:
    return server.request("PATCH", f"/api/v1/tasks/{number}", changes)


def events(server: Installation, number: int) -> list[dict[str, Any]]:
    return server.get(f"/api/v1/tasks/{number}/events").json


# --- POST /api/v1/tasks
def test_a_task_is_made_with_its_defaults_and_an_event(server: Installation) -> None:
    answer = server.post("/api/v1/tasks", {"name": "  Trimmed  ", "actor": "lobboss", "unknown": 1})
    number = answer.json["id"]
    assert (answer.status, answer.json) == (201, {"id": number, "task_id": f"T{number}"})
    task = shown(server, number)
    assert set(task) == FIELDS | BROKER
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


@pytest.mark.parametrize("status", ["queued", "active", "completed", "failed", "cancelled", "blocked"])
def test_a_status_sets_no_timestamp_by_itself(server: Installation, status: str) -> None:
    number = made(server)
    patch(server, number, status=status)
    task = shown(server, number)
    assert (task["status"], task["assigned_at"], task["completed_at"]) == (status, None, None)
    assert events(server, made(server, status=status))[0]["detail"] == f"Task created with status={status}"


# --- Lenient and strict types
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("sent", "stored"), [(7, "7"), (1.5, "1.5"), (1234567890123456789, "1234567890123456789")])
def test_a_number_for_a_text_field_is_stored_as_its_text(
    server: Installation, name: str, sent: Any, stored: str
) -> None:
    number = made(server, **{name: sent})
    assert shown(server, number)[name] == stored


@pytest.mark.parametrize(
    ("sent", "stored"), [("30", 30), (" 7 ", 7), (30, 30), (30.0, 30), ("-5", -5), (2**63 - 1,) * 2]
)
def test_a_numeric_string_for_an_integer_field_is_the_integer(server: Installation, sent: Any, stored: int) -> None:
    assert shown(server, made(server, estimate_minutes=sent))["estimate_minutes"] == stored
    number = made(server)
    assert patch(server, number, token_count=sent).status == 200
    assert shown(server, number)["token_count"] == stored


@pytest.mark.parametrize(
    ("sent", "truth"), [(1, True), ("no", True), ([0], True), (0, False), ("", False), ([], False), (None, False)]
)
def test_requires_qa_is_the_truth_of_any_value(server: Installation, sent: Any, truth: bool) -> None:
    number = made(server, requires_qa=sent)
    assert shown(server, number)["requires_qa"] is truth
    patch(server, number, requires_qa=not truth)
    patch(server, number, requires_qa=sent)
    assert shown(server, number)["requires_qa"] is truth


@pytest.mark.parametrize(
    ("sent", "created", "patched"),
    [
        (["org/a", "org/b"], ["org/a", "org/b"], ["org/a", "org/b"]),
        (None, None, None),
        ("org/a", ["org/a"], ["org/a"]),
        ('["org/a", "org/b"]', ["org/a", "org/b"], ["org/a", "org/b"]),
        ([], None, []),
    ],
)
def test_repos_come_in_several_forms(server: Installation, sent: Any, created: Any, patched: Any) -> None:
    number = made(server, repos=sent)
    assert shown(server, number)["repos"] == created
    assert patch(server, number, repos=sent).status == 200
    assert shown(server, number)["repos"] == patched


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 7),
        ("name", ["x"]),
        ("model", {"a": 1}),
        ("assigned_to", True),
        ("workflow", "a\0b"),
        ("repos", 7),
        ("repos", [1]),
        ("repos", "[1]"),
        ("repos", "[not json"),
        ("repos", {"a": 1}),
        ("estimate_minutes", "30m"),
        ("estimate_minutes", 1.5),
        ("estimate_minutes", True),
        ("estimate_minutes", 2**63),
        ("estimate_minutes", 10**40),
        ("estimate_minutes", [1]),
        ("actor", ["x"]),
    ],
)
def test_a_wrong_type_is_a_400_that_names_the_field(server: Installation, name: str, value: Any) -> None:
    number = made(server)
    created = server.post("/api/v1/tasks", {"name": "x", name: value})
    patched = patch(server, number, **{"model": "m", name: value})
    for answer in (created, patched):
        assert answer.status == 400
        assert answer.json["error"].startswith(name)
    assert shown(server, number)["model"] is None


def test_a_slug_is_given_on_creation_alone(server: Installation) -> None:
    answer = server.post("/api/v1/tasks", {"name": "x", "slug": ["x"]})
    assert answer.status == 400
    assert answer.json["error"].startswith("slug")
    number = made(server, slug="first")
    assert patch(server, number, slug="second", model="m").json["updated"] == ["model"]
    assert shown(server, number)["slug"] == "first"


@pytest.mark.parametrize("name", ["name", "type", "status", "priority", "token_count"])
def test_null_is_refused_where_a_value_is_needed(server: Installation, name: str) -> None:
    answer = patch(server, made(server), **{name: None})
    assert answer.status == 400
    assert name in answer.json["error"]


@pytest.mark.parametrize("name", ["type", "status", "priority"])
def test_null_is_refused_on_creation_too(server: Installation, name: str) -> None:
    answer = server.post("/api/v1/tasks", {"name": "x", name: None})
    assert answer.status == 400
    assert name in answer.json["error"]


def test_null_clears_what_may_be_empty(server: Installation) -> None:
    given = {"model": "m", "assigned_to": "a", "repos": ["o/r"], "discord_thread_id": "1", "workflow": "w"}
    given |= {"estimate_minutes": 5, "assigned_at": "2026-02-16T12:00:00Z", "completed_at": "2026-02-16T12:00:00Z"}
    number = made(server)
    assert patch(server, number, **given).json["updated"] == list(given)
    assert {name: shown(server, number)[name] for name in given} == given
    patch(server, number, **dict.fromkeys(given))
    assert {shown(server, number)[name] for name in given} == {None}


# --- Timestamps
@pytest.mark.parametrize(
    "text",
    ["2026-02-16T12:00:00Z", "2026-02-16T12:00:00.250000+00:00", "2026-02-16T14:00:00+02:00", "2026-02-16 12:00:00"],
)
def test_a_time_comes_back_as_it_was_sent(server: Installation, text: str) -> None:
    number = made(server)
    patch(server, number, assigned_at=text, completed_at=text)
    task = shown(server, number)
    assert (task["assigned_at"], task["completed_at"]) == (text, text)


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01T00:00:00Z", "12:00", 5, []])
def test_a_time_that_is_not_iso_8601_is_refused(server: Installation, text: Any) -> None:
    for name in ("assigned_at", "completed_at"):
        answer = patch(server, made(server), **{name: text})
        assert answer.status == 400
        assert answer.json["error"].startswith(name)


def test_times_of_old_rows_are_shown_in_the_promised_form(server: Installation) -> None:
    number = made(server)
    with server.database() as database:
        database.execute(
            "UPDATE tasks SET created_at = '2026-02-16T10:00:00.5+00:00', updated_at = '2026-02-16T10:00:00Z',"
            " queued_at = 'junk' WHERE id = ?",
            [number],
        )
    task = shown(server, number)
    assert (task["created_at"], task["updated_at"]) == ("2026-02-16 10:00:00", "2026-02-16 10:00:00")
    assert task["queued_at"] is None


def test_odd_values_of_old_rows_are_null_and_stay_in_the_file(server: Installation) -> None:
    number = made(server)
    with server.database() as database:
        database.execute(
            "UPDATE tasks SET repos = 'org/a, org/b', estimate_minutes = '30m', status = 'odd' WHERE id = ?", [number]
        )
    listed = next(task for task in server.get("/api/v1/tasks?limit=500").json if task["id"] == number)
    assert (listed["repos"], listed["estimate_minutes"], listed["status"]) == (None, None, "odd")
    assert patch(server, number, model="m").status == 200
    with server.database() as database:
        row = database.execute("SELECT repos, estimate_minutes FROM tasks WHERE id = ?", [number]).fetchone()
    assert tuple(row) == ("org/a, org/b", "30m")


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
