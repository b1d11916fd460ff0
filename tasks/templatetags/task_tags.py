"""The part of a task's page about what came of it, and amounts of money."""

from __future__ import annotations

import json
from typing import Any

from django import template

from tasks.costs.models import dollars
from tasks.costs.queries import costs_of
from tasks.models import Task
from tasks.results.queries import links_of, result_of

register = template.Library()
register.filter(dollars)


@register.inclusion_tag("admin/tasks/task_results.html")
def task_results(task: Task) -> dict[str, Any]:
    """Render the result, the links and the costs of a task."""
    result = result_of(task.pk)
    data = json.dumps(result.data, indent=1, ensure_ascii=False) if result is not None and result.data else ""
    return {"links": links_of(task.pk), "result": result, "data": data, "costs": costs_of(task), "task": task}
