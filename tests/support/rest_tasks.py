"""What tests of tasks over REST share: made, shown, changed."""

from __future__ import annotations

import re
from typing import Any

from tests.support.installation import Answer, Installation

SECONDS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
LISTED = [
    "id, name, slug, type, status, priority, model, assigned_to, repos, discord_thread_id, estimate_minutes",
    "requires_qa, workflow, created_at, updated_at, queued_at, assigned_at, completed_at",
]
FIELDS = {name for line in LISTED for name in line.split(", ")} | {"task_id"}
BROKER = {"broker_repos", "broker_status", "token_count", "broker_registered_at"}


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
