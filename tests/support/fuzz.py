"""Requests that schemathesis makes up from the API's description."""

from __future__ import annotations

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.support.installation import Installation

UNAVAILABLE = 503


def attack(server: Installation, callers: dict[str, dict[str, str]], *, examples: int) -> None:
    """Send some requests of each operation as each caller; fails at an answer that is not described."""
    described = schemathesis.openapi.from_dict(server.get("/api/openapi.json").json)
    base = f"http://127.0.0.1:{server.api_port}"
    for result in described.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def send(case: schemathesis.Case) -> None:
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

        send()
