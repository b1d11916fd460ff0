"""Requests made up from the API's own description, as each role: no 5xx, no status that is not described."""

from __future__ import annotations

import importlib
import os

import pytest

from tests.support.access import make_key
from tests.support.installation import Installation

EXAMPLES = int(os.environ.get("LOBWIFE_FUZZ_EXAMPLES", "2"))


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
    # Imported here, since each process of a run collects this test and one has it.
    fuzz = importlib.import_module("tests.support.fuzz")
    fuzz.attack(server, callers, examples=EXAMPLES)
