"""The description of the API: valid, whole, and true to what the routes answer."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from playwright.sync_api import Page, expect

from lobwife.api import api
from tests.support.access import mounted
from tests.support.browser import url
from tests.support.installation import Installation

# Sent to every route of a method: the worst, the empty, and what a caller of any route might send.
BODIES: dict[str, list[Any]] = {
    "get": [None],
    "delete": [None],
    "post": [b"{", b"[]", {}, {"name": "x", "event_type": "note", "task_id": "T1", "repos": ["o/r"], "service": "s"}],
    "patch": [b"{", {}, {"status": "nonsense"}, {"model": "m"}, {"name": None}],
    "put": [b"{", {}],
}
IDS = ["1", "T1", "999999", "-1", "x", "a%2Fb"]


@pytest.fixture(scope="module")
def description(server: Installation) -> dict[str, Any]:
    answer = server.get("/api/openapi.json")
    assert answer.status == 200
    return answer.json


def operations(description: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, each) for path, found in description["paths"].items() for method, each in found.items()]


def test_views_ask_for_nothing_but_texts_of_their_path() -> None:
    """They are called without ninja's parsing, which would convert and check anything else."""
    views = {
        operation.view_func: path
        for _, router in api._routers
        for path, view in router.path_operations.items()
        for operation in view.operations
    }
    assert len(views) > 40
    for function, path in views.items():
        _, *parameters = inspect.signature(function).parameters.values()
        assert all(each.annotation == "str" and f"{{{each.name}}}" in path for each in parameters), path


def test_the_description_is_valid_openapi(description: dict[str, Any]) -> None:
    validate(description)


def test_every_route_is_described(description: dict[str, Any]) -> None:
    described = {(method.upper(), path.strip("/")) for method, path, _ in operations(description)}
    there = {(method, route.strip("/").replace("<", "{").replace(">", "}")) for method, route in mounted()}
    assert described == there - {("GET", "metrics")}  # in the format of Prometheus


def test_every_operation_says_what_it_does_and_answers(description: dict[str, Any]) -> None:
    for method, path, operation in operations(description):
        assert operation["summary"], (method, path)
        success = [each for status, each in operation["responses"].items() if status in {"200", "201", "202"}]
        assert success, (method, path)
        assert all("content" in each for each in success), (method, path)


def resolved(description: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the components that it refers to beside it."""
    return {**schema, "components": description["components"]}


def test_routes_answer_what_is_documented(server: Installation, description: dict[str, Any]) -> None:
    server.post("/api/v1/tasks", {"name": "The first"})
    undocumented = []
    for method, path, operation in operations(description):
        if path == "/api/v1/sync/trigger":
            continue  # answers by what the vault is, which its own tests show
        for given in IDS if "{" in path else [""]:
            called = path
            for parameter in [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]:
                called = called.replace(f"{{{parameter}}}", given)
            for body in BODIES[method]:
                answer = server.request(method.upper(), called, body)
                shown = operation["responses"].get(str(answer.status))
                if shown is None:
                    undocumented.append((method, called, body, answer.status, answer.body[:100]))
                    continue
                content = shown.get("content", {}).get("application/json")
                if content:
                    Draft202012Validator(resolved(description, content["schema"])).validate(answer.json)
    assert undocumented == []


def test_the_example_bodies_of_tasks_fit_their_schema(description: dict[str, Any]) -> None:
    paths = description["paths"]
    for path, method, fits, does_not in (
        ("/api/v1/tasks", "post", {"name": "x", "repos": "org/a", "requires_qa": True}, {"slug": "no-name"}),
        ("/api/v1/tasks/{task_id}", "patch", {"status": "active", "repos": None}, {"estimate_minutes": []}),
        ("/api/v1/tasks/{task_id}/events", "post", {"event_type": "note"}, {"detail": "no type"}),
    ):
        schema = paths[path][method]["requestBody"]["content"]["application/json"]["schema"]
        validator = Draft202012Validator(resolved(description, schema))
        assert validator.is_valid(fits)
        assert not validator.is_valid(does_not)


def test_the_documentation_is_drawn_from_our_own_files_without_errors(server: Installation, page: Page) -> None:
    problems: list[str] = []
    foreign: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: foreign.append(asked.url) if not is_own(server, asked.url) else None)
    assert page.goto(url(server, "/api/docs")).status == 200
    expect(page.locator(".opblock").first).to_be_visible(timeout=15_000)
    expect(page.get_by_text("/api/v1/tasks", exact=True).first).to_be_visible()
    page.locator(".opblock-summary-control").first.click()
    expect(page.locator(".opblock-body").first).to_be_visible()
    assert (problems, foreign) == ([], [])


def is_own(server: Installation, address: str) -> bool:
    return address.startswith((url(server, "/"), "data:"))
