"""Reads of links and results."""

from __future__ import annotations

from typing import Any

from core.timestamps import seconds_text
from tasks.results.models import TaskLink, TaskResult


def links_of(task_id: int) -> list[TaskLink]:
    """Return the links of a task, in the order in which they were added."""
    return list(TaskLink.objects.filter(task_id=task_id))


def result_of(task_id: int) -> TaskResult | None:
    """Return the result of a task; None when there is none."""
    return TaskResult.objects.filter(pk=task_id).first()


def link_as_json(link: TaskLink) -> dict[str, Any]:
    """Return a link as REST answers it."""
    return {"id": link.pk, "kind": link.kind, "url": link.url, "added_at": seconds_text(link.added_at)}


def result_as_json(result: TaskResult) -> dict[str, Any]:
    """Return a result as REST answers it."""
    return {"summary": result.summary, "data": result.data, "written_at": seconds_text(result.written_at)}
