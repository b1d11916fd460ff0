"""Template filters for times, durations, sizes and states."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

from core.display import badge, count, due, duration, size, when
from ops import navigation, problems
from tasks.costs.models import dollars
from tasks.costs.queries import costs_of
from tasks.models import Task
from tasks.results.queries import links_of, result_of

register = template.Library()
for display_filter in (badge, count, dollars, due, duration, size, when):
    register.filter(display_filter)
register.filter("minutes", lambda minutes: duration(minutes * 60))
register.filter("problem_key", problems.key_of)
register.filter("plural", navigation.plural)


@register.filter
def has_history(row: Model | None) -> bool:
    """Return whether somebody changed a row in the admin: only then its history says something."""
    if row is None or row.pk is None:
        return False
    return LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(row), object_id=row.pk).exists()


@register.inclusion_tag("ops/task_results.html")
def task_results(task: Task) -> dict[str, Any]:
    """Render the result, the links and the costs of a task."""
    result = result_of(task.pk)
    data = json.dumps(result.data, indent=1, ensure_ascii=False) if result is not None and result.data else ""
    return {"links": links_of(task.pk), "result": result, "data": data, "costs": costs_of(task), "task": task}
