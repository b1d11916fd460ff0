"""Reads of links and results."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from core.timestamps import seconds_text
from tasks.ids import near
from tasks.results.models import TaskLink, TaskResult


def links_of(task_id: int) -> list[TaskLink]:
    """Return the links of a task, in the order in which they were added."""
    return list(TaskLink.objects.filter(task_id=task_id))


def result_of(task_id: int) -> TaskResult | None:
    """Return the result of a task; None when there is none."""
    return TaskResult.objects.filter(pk=task_id).first()


def link_urls(task_ids: Collection[int]) -> dict[int, list[str]]:
    """Return the addresses of the links of these tasks, maybe of others, in the order in which they were added."""
    urls: dict[int, list[str]] = {}
    for task_id, url in TaskLink.objects.filter(near("task_id", task_ids)).values_list("task_id", "url"):
        urls.setdefault(task_id, []).append(url)
    return urls


def summaries(task_ids: Collection[int]) -> dict[int, str]:
    """Return the summaries of the results of these tasks, and maybe of others."""
    return dict(TaskResult.objects.filter(near("pk", task_ids)).values_list("pk", "summary"))


def link_as_json(link: TaskLink) -> dict[str, Any]:
    """Return a link as REST answers it."""
    return {"id": link.pk, "kind": link.kind, "url": link.url, "added_at": seconds_text(link.added_at)}


def result_as_json(result: TaskResult) -> dict[str, Any]:
    """Return a result as REST answers it."""
    return {"summary": result.summary, "data": result.data, "written_at": seconds_text(result.written_at)}
