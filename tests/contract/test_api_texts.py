"""The words of /api/docs: every parameter and answer is described, and every example is what the schema allows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from lobwife.api import api


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(json.dumps(api.get_openapi_schema()))
    return schema


def operations(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def bodies(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, operation in operations(description):
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            content = part.get("content", {}).get("application/json")
            if content:
                yield name, content


def test_every_parameter_is_described(description: dict[str, Any]) -> None:
    silent = [
        (name, parameter["name"])
        for name, operation in operations(description)
        for parameter in operation.get("parameters", [])
        if not parameter.get("description")
    ]
    assert silent == []


def test_every_field_of_a_body_and_of_an_answer_is_described(description: dict[str, Any]) -> None:
    sent = [(name, content["schema"]) for name, content in bodies(description)]
    silent = [
        (owner, field)
        for owner, schema in [*sent, *description["components"]["schemas"].items()]
        for field, about in schema.get("properties", {}).items()
        if not about.get("description")
    ]
    assert silent == []


def test_every_group_of_routes_is_described(description: dict[str, Any]) -> None:
    used = {tag for _, operation in operations(description) for tag in operation["tags"]}
    assert used == {tag["name"] for tag in description["tags"]}


def test_every_example_is_what_its_schema_allows(description: dict[str, Any]) -> None:
    wrong = []
    for name, content in bodies(description):
        schema = {**content["schema"], "components": description["components"]}
        errors = list(Draft202012Validator(schema).iter_errors(content["example"]))
        wrong += [(name, error.json_path, error.message) for error in errors]
    assert wrong == []


def test_refusals_have_a_body(description: dict[str, Any]) -> None:
    for name, operation in operations(description):
        for status in ("401", "403", "429"):
            refusal = operation["responses"].get(status)
            if "security" in operation:
                example = refusal["content"]["application/json"]["example"]
                assert example.get("error") or example["message"], (name, status)


def test_a_change_of_a_task_begins_with_one_field(description: dict[str, Any]) -> None:
    content = description["paths"]["/api/v1/tasks/{task_id}"]["patch"]["requestBody"]["content"]["application/json"]
    assert content["example"] == {"status": "active"}
    assert content["schema"]["properties"]["status"]["enum"][0] == "queued"


def test_the_introduction_leads_to_the_first_call(description: dict[str, Any]) -> None:
    assert "Authorization: Bearer $LOBWIFE_API_KEY" in description["info"]["description"]
