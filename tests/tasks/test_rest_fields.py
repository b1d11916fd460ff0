"""What the fields of a task take over HTTP, and how they come back (contract, "Tasks" and "Timestamps")."""

from __future__ import annotations

from typing import Any

import pytest

from core.database.backend import is_postgres
from tests.support.installation import Installation
from tests.support.rest_tasks import events, made, patch, shown

TEXTS = ["slug", "type", "priority", "model", "assigned_to", "discord_thread_id", "workflow"]


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


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("sent", "stored", "answered"),
    [(1.5, 2, 2), ("1.5", 2, 2), ("30.0", 30, 30), (45.0, 45, 45), ("30m", None, None), ("", None, None)]
    if is_postgres()
    else [(1.5, 1.5, 1.5), ("1.5", 1.5, 1.5), (45.0, 45, 45), ("30m", "30m", None), ("", "", None)],
)
def test_an_estimate_may_be_a_fraction_or_a_text(server: Installation, sent: Any, stored: Any, answered: Any) -> None:
    """As the older service's column took it, as far as PostgreSQL has it; an answer has numbers alone."""
    number = made(server, estimate_minutes=sent)
    patched = made(server)
    assert server.request("PATCH", f"/api/v1/tasks/{patched}", {"estimate_minutes": sent}).status == 200
    for task in (number, patched):
        with server.database() as database:
            row = database.execute("SELECT estimate_minutes FROM tasks WHERE id = ?", [task]).fetchone()
        assert (row[0], type(row[0])) == (stored, type(stored))
        assert shown(server, task)["estimate_minutes"] == answered


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
    fields = {"model": "m", "assigned_to": "a", "repos": ["o/r"], "discord_thread_id": "1", "workflow": "w"}
    fields |= {"estimate_minutes": 5, "assigned_at": "2026-02-16T12:00:00Z", "completed_at": "2026-02-16T12:00:00Z"}
    number = made(server)
    assert patch(server, number, **fields).json["updated"] == list(fields)
    assert {name: shown(server, number)[name] for name in fields} == fields
    patch(server, number, **dict.fromkeys(fields))
    assert {shown(server, number)[name] for name in fields} == {None}


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


def test_sql_as_a_value_is_a_text(server: Installation) -> None:
    number = made(server)
    sql = "datetime('now')"
    path = f"/api/v1/tasks/{number}"
    assert server.request("PATCH", path, {"workflow": sql, "assigned_to": "'; DROP TABLE tasks; --"}).status == 200
    assert (shown(server, number)["workflow"], shown(server, number)["assigned_to"]) == (sql, "'; DROP TABLE tasks; --")
    assert server.request("PATCH", path, {"completed_at": sql}).status == 400


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


@pytest.mark.sqlite("what the older service let into a file")
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
