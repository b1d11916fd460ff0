"""Every write to registrations and the token audit."""

from __future__ import annotations

from typing import Any

from tasks.models import Task


def register_by_patch(task: Task, changes: dict[str, Any], actor: str | None) -> dict[str, Any]:
    """What a PATCH of broker fields stores; called within the transaction that changes the task."""
    return changes
