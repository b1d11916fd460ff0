"""Registering a task for repositories, by each door, and ending that."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.broker_rig import Rig


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("registration"))
    made.start_web()
    yield made
    made.stop()


def detail(rig: Rig, number: int) -> dict[str, Any]:
    shown: dict[str, Any] = rig.get(f"/api/v1/tasks/{number}").json
    return shown


def test_registering_sets_the_broker_fields_and_logs_an_event(rig: Rig) -> None:
    number = rig.task()
    answer = rig.register(number, "org/repo", "other", lobster_type="swe")
    assert (answer.status, answer.json) == (200, {"status": "registered", "task_id": f"T{number}"})
    task = detail(rig, number)
    assert json.loads(task["broker_repos"]) == ["org/repo", "other"]
    assert task["broker_status"] == "active"
    assert task["broker_registered_at"].endswith("+00:00")
    event = rig.get(f"/api/v1/tasks/{number}/events").json[0]
    assert (event["event_type"], event["actor"]) == ("broker_registered", "swe")
    assert "org/repo, other" in event["detail"]


def test_addresses_are_taken_for_names_at_each_door(rig: Rig) -> None:
    address = "https://github.com/org/repo.git"
    number = rig.task()
    assert rig.register(number, address, "git@github.com:org/other").status == 200
    assert json.loads(detail(rig, number)["broker_repos"]) == ["org/repo", "org/other"]
    assert rig.request("PATCH", f"/api/v1/tasks/{number}", {"broker_repos": [address]}).status == 200
    assert json.loads(detail(rig, number)["broker_repos"]) == ["org/repo"]
    assert rig.post("/api/tasks/by-address/register", {"repos": [address]}).status == 200
    assert rig.get("/api/tasks").json["by-address"]["repos"] == ["org/repo"]
    assert rig.request("DELETE", "/api/tasks/by-address").status == 200
    made = rig.task(repos=[address])
    assert detail(rig, made)["repos"] == [address], "what a task is about stays as it was sent: agents clone it"


def test_a_number_that_no_task_has_may_be_a_legacy_id(rig: Rig) -> None:
    with rig.database() as database:
        database.execute(
            "INSERT INTO broker_tasks (task_id, repos, registered_at) VALUES ('T987654', '[\"org/repo\"]', ?)",
            [datetime.now(UTC).isoformat()],
        )
    assert rig.token("T987654").status == 200
    assert rig.request("DELETE", "/api/tasks/T987654").status == 200
    number = rig.task()
    assert rig.token(f"T{number}").json == {"error": f"Task T{number} not registered"}


def test_registrations_that_hold_addresses_keep_their_tokens(rig: Rig) -> None:
    number = rig.task("repo")
    with rig.database() as database:
        stored = json.dumps(["https://github.com/org/repo", "git@github.com:org/other.git"])
        database.execute("UPDATE tasks SET broker_repos = ? WHERE id = ?", [stored, number])
        database.execute(
            "INSERT INTO broker_tasks (task_id, repos, registered_at) VALUES ('old', ?, ?)",
            [stored, datetime.now(UTC).isoformat()],
        )
    for task_id in (f"T{number}", "old"):
        answer = rig.token(task_id)
        assert answer.status == 200, answer.body
        made = rig.github.token(f"token {answer.json['token']}")
        assert made is not None
        assert sorted(made.repositories or ()) == ["other", "repo"]
    assert rig.request("DELETE", "/api/tasks/old").status == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "repos required"),
        ({"repos": []}, 400, "repos required"),
        ({"repos": None}, 400, "repos required"),
        ({"repos": ""}, 400, "repos required"),
        ({"repos": [1]}, 400, "repos"),
        ({"repos": {"a": 1}}, 400, "repos"),
        ({"repos": ["org/repo/more"]}, 422, "org/repo/more"),
        ({"repos": ["org/.."]}, 422, "org/.."),
        ({"repos": ["org/re po"]}, 422, "re po"),
        ({"repos": ["-org/repo"]}, 422, "-org/repo"),
        ({"repos": ["org/repo.git"]}, 422, "repo.git"),
        ({"repos": ["org/"]}, 422, "org/"),
        ({"repos": ["org/répo"]}, 422, "owner/name"),
        ({"repos": ["a" * 101]}, 422, "owner/name"),
        ({"repos": [f"r{n}" for n in range(501)]}, 422, "500"),
    ],
)
def test_what_is_no_list_of_repositories_is_refused_in_words(
    rig: Rig, body: dict[str, Any], status: int, words: str
) -> None:
    number = rig.task()
    for path in (f"/api/v1/tasks/{number}/register", "/api/tasks/nobody/register"):
        answer = rig.post(path, body)
        assert answer.status == status
        assert words in answer.json["error"]
    assert detail(rig, number)["broker_repos"] is None
    assert "nobody" not in rig.get("/api/tasks").json


def test_a_string_is_a_list_of_one_and_duplicates_are_merged(rig: Rig) -> None:
    number = rig.task()
    assert rig.post(f"/api/v1/tasks/{number}/register", {"repos": "org/repo"}).status == 200
    assert detail(rig, number)["broker_repos"] == '["org/repo"]'
    assert rig.register(number, "org/Repo", "org/repo", " org/repo ").status == 200
    assert detail(rig, number)["broker_repos"] == '["org/Repo"]'


def test_no_json_and_an_unknown_task_are_told_apart(rig: Rig) -> None:
    assert rig.post("/api/v1/tasks/999999/register", b"{").json == {"error": "invalid JSON"}
    assert rig.post("/api/v1/tasks/999999/register", {"repos": ["a"]}).status == 404
    assert rig.post("/api/v1/tasks/x/register", {"repos": ["a"]}).status == 400


def test_a_foreign_owner_is_refused_at_registration_once_the_owner_is_known(rig: Rig) -> None:
    number = rig.task("org/repo")
    assert rig.token(f"T{number}").status == 200  # the owner is known from here on
    answer = rig.register(number, "org/repo", "evil/repo")
    assert answer.status == 422
    assert "evil/repo" in answer.json["error"]
    assert detail(rig, number)["broker_repos"] == '["org/repo"]'
    assert rig.register(number, "repo", "ORG/repo").status == 200
    assert detail(rig, number)["broker_repos"] == '["repo"]'


def test_a_foreign_owner_registered_before_the_owner_was_known_gets_no_token(tmp_path: pathlib.Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.start_web()
        number = rig.task("evil/repo")
        answer = rig.token(f"T{number}")
        assert answer.status == 422
        assert "evil/repo" in answer.json["error"]
        assert rig.github.tokens == []
    finally:
        rig.stop()


def test_a_patch_of_repositories_is_a_registration(rig: Rig) -> None:
    number = rig.task()
    sent = {"broker_repos": ["org/repo"], "broker_status": "active", "broker_registered_at": "2026-02-16T12:00:00Z"}
    answer = rig.request("PATCH", f"/api/v1/tasks/{number}", {**sent, "actor": "poller"})
    assert answer.json["updated"] == list(sent)
    task = detail(rig, number)
    assert (task["broker_repos"], task["broker_status"]) == ('["org/repo"]', "active")
    assert task["broker_registered_at"] == "2026-02-16T12:00:00Z"
    entry = rig.audit(f"?task_id=T{number}")[0]
    assert (entry["action"], entry["identity"], entry["repos"]) == ("task_registered", "local", ["org/repo"])
    assert entry["address"] == "127.0.0.1"
    assert rig.token(f"T{number}").status == 200


def test_a_patch_of_the_time_alone_renews_the_registration(rig: Rig) -> None:
    number = rig.task("org/repo")
    token = rig.token(f"T{number}").json["token"]
    sent = {"broker_registered_at": "2026-02-16T12:00:00Z"}
    assert rig.request("PATCH", f"/api/v1/tasks/{number}", sent).status == 200
    entries = rig.audit(f"?task_id=T{number}")
    assert [entry["action"] for entry in entries] == ["task_registered", "token_issued", "task_registered"]
    assert entries[0]["repos"] == ["org/repo"]
    assert rig.token(f"T{number}").json["token"] == token


def test_a_patch_is_checked_as_any_other_registration(rig: Rig) -> None:
    number = rig.task("org/repo")
    for repos, status in ((["org/a b"], 422), ([], 400), (["x"] * 2 + [f"r{n}" for n in range(500)], 422)):
        answer = rig.request("PATCH", f"/api/v1/tasks/{number}", {"broker_repos": repos, "assigned_to": "someone"})
        assert answer.status == status
    task = detail(rig, number)
    assert (task["broker_repos"], task["assigned_to"]) == ('["org/repo"]', None)


def test_a_patch_with_null_repositories_ends_the_registration(rig: Rig) -> None:
    number = rig.task("org/repo")
    assert rig.token(f"T{number}").status == 200
    assert rig.request("PATCH", f"/api/v1/tasks/{number}", {"broker_repos": None}).status == 200
    task = detail(rig, number)
    assert (task["broker_repos"], task["broker_status"]) == (None, None)
    assert rig.token(f"T{number}").json == {"error": f"Task T{number} not registered"}
    assert rig.audit(f"?task_id=T{number}&action=task_deregistered")[0]["reason"] == "ended by PATCH"


def test_a_patch_of_the_status_alone_pauses_and_resumes(rig: Rig) -> None:
    number = rig.task("org/repo")
    first = rig.token(f"T{number}").json["token"]
    rig.request("PATCH", f"/api/v1/tasks/{number}", {"broker_status": "paused"})
    assert rig.token(f"T{number}").json == {"error": f"Task T{number} broker is paused, not active"}
    rig.request("PATCH", f"/api/v1/tasks/{number}", {"broker_status": "active"})
    assert rig.token(f"T{number}").json["token"] != first


def test_a_legacy_path_registers_the_newest_open_task_of_that_slug_or_name(rig: Rig) -> None:
    old = rig.task(slug="fix-login")
    new = rig.task(slug="fix-login")
    over = rig.task(slug="fix-login")
    rig.request("DELETE", f"/api/v1/tasks/{over}")
    named = rig.task(name="Fix logout")
    answer = rig.post("/api/tasks/fix-login/register", {"repos": ["repo"]})
    assert answer.json == {"status": "registered", "task_id": "fix-login"}
    assert rig.post("/api/tasks/Fix%20logout/register", {"repos": ["repo"]}).status == 200
    assert rig.post(f"/api/tasks/T{old}/register", {"repos": ["other"]}).status == 200
    assert [detail(rig, number)["broker_repos"] for number in (old, new, over, named)] == [
        '["other"]',
        '["repo"]',
        None,
        '["repo"]',
    ]
    assert rig.get("/api/tasks").json == {}


def test_an_id_that_no_task_has_is_a_legacy_registration_with_its_exact_name(rig: Rig) -> None:
    for encoded, exact in (
        ("plain", "plain"),
        ("a%2Fb", "a/b"),
        ("a+b", "a+b"),
        ("100%2541", "100%41"),
        ("x%2F100%2541", "x/100%41"),
        ("%C3%BC%2f1", "ü/1"),
    ):
        answer = rig.post(f"/api/tasks/{encoded}/register", {"repos": ["repo"], "lobster_type": "qa"})
        assert answer.json == {"status": "registered", "task_id": exact}
        shown = rig.get("/api/tasks").json[exact]
        assert (shown["repos"], shown["lobster_type"], shown["status"]) == (["repo"], "qa", "active")
        assert rig.token(exact).status == 200
        assert rig.get("/api/tasks").json[exact]["token_count"] == 1
        assert rig.request("DELETE", f"/api/tasks/{encoded}").json == {"status": "removed", "task_id": exact}
        assert rig.token(exact).json == {"error": f"Task {exact} not registered"}
    assert rig.get("/api/tasks").json == {}


def test_deregistering_ends_what_the_task_itself_holds(rig: Rig) -> None:
    number = rig.task("repo", slug="held-by-the-task")
    assert rig.token("held-by-the-task").status == 200
    assert rig.request("DELETE", "/api/tasks/held-by-the-task").status == 200
    task = detail(rig, number)
    assert (task["broker_repos"], task["broker_status"]) == (None, None)
    assert rig.token(f"T{number}").status == 403
    assert rig.request("DELETE", "/api/tasks/never-registered").json["status"] == "removed"


def test_each_registration_and_its_end_are_in_the_contracts_audit(rig: Rig) -> None:
    number = rig.task("repo")
    rig.token(f"T{number}")
    rig.request("DELETE", f"/api/tasks/T{number}")
    rig.token(f"T{number}")
    entries = rig.get(f"/api/token/audit?task_id=T{number}").json
    assert [entry["action"] for entry in entries] == ["task_deregistered", "token_issued", "task_registered"]
    assert all(set(entry) == {"timestamp", "task_id", "repos", "action"} for entry in entries)
    assert all(entry["repos"] == ["repo"] and entry["task_id"] == f"T{number}" for entry in entries)


def test_the_audit_has_filters_and_pages(rig: Rig) -> None:
    number = rig.task("repo")
    for _ in range(4):
        rig.token(f"T{number}")
    first = rig.get(f"/api/v1/audit?task_id=T{number}&limit=3").json
    rest = rig.get(f"/api/v1/audit?task_id=T{number}&limit=3&before={first['next']}").json
    assert [entry["outcome"] for entry in first["entries"] + rest["entries"]] == [
        "cached",
        "cached",
        "cached",
        "issued",
        "done",
    ]
    assert rest["next"] is None
    issued = rig.audit(f"?task_id=T{number}&outcome=issued")
    assert len(issued) == 1
    assert issued[0]["address"] == "127.0.0.1"
    assert rig.audit("?identity=nobody") == []
    assert rig.get("/api/v1/audit?limit=-1").status == 400


def test_summary_counts_both_kinds_of_registrations(tmp_path: pathlib.Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.start_web()
        number = rig.task("repo")
        rig.post("/api/tasks/legacy/register", {"repos": ["repo"]})
        for task_id in (f"T{number}", f"T{number}", "legacy"):
            assert rig.token(task_id).status == 200
        assert rig.get("/health").json["broker"] == {
            "enabled": True,
            "app_id": "4711",
            "active_tasks": 2,
            "total_tokens_issued": 3,
            "audit_entries": 5,
        }
    finally:
        rig.stop()
