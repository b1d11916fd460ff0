"""Requests made up from the API's own description, as each role: no 5xx, no status that is not described."""

from __future__ import annotations

import os

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.support.access import make_key
from tests.support.installation import Installation

EXAMPLES = int(os.environ.get("LOBWIFE_FUZZ_EXAMPLES", "2"))
UNAVAILABLE = 503


@pytest.fixture
def callers(server: Installation) -> dict[str, dict[str, str]]:
    """The headers of each role; whoever may do the least comes first, and leaves the others something to find."""
    number = server.post("/api/v1/tasks", {"name": "Fuzzed"}).json["id"]
    keys = {role: make_key(server, role, role) for role in ("viewer", "runner", "service", "operator")}
    agent = make_key(server, "agent", "agent", "--task", f"T{number}")
    headers = {"nobody": {}, "viewer": keys.pop("viewer"), "agent": agent, **keys}
    return {role: {**each, "X-Forwarded-For": "10.0.0.1"} for role, each in headers.items()}


@pytest.mark.slow
def test_no_request_is_answered_otherwise_than_described(
    server: Installation, callers: dict[str, dict[str, str]]
) -> None:
    described = schemathesis.openapi.from_dict(server.get("/api/openapi.json").json)
    base = f"http://127.0.0.1:{server.api_port}"
    for found in described.get_all_operations():
        operation = found.ok()

        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def attack(case: schemathesis.Case) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("wait_seconds"), int):
                case.body["wait_seconds"] = min(case.body["wait_seconds"], 1)  # nothing comes that it could wait for
            for role, headers in callers.items():
                response = case.call(base_url=base, headers=headers)
                expected = [status_code_conformance, response_schema_conformance]
                # Without a GitHub App and a daemon, 503 is the right answer of some routes.
                checks = expected if response.status_code == UNAVAILABLE else [not_a_server_error, *expected]
                try:
                    case.validate_response(response, checks=checks)
                except Exception as failure:
                    failure.add_note(f"asked as {role}")
                    raise

        attack()
