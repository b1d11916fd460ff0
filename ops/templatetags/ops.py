"""Template filters for times, durations, sizes and states, and tags for parts of pages that read the tables."""

from __future__ import annotations

import json
from typing import Any

from django import template

import vaultsync.queries
from core.display import badge, count, due, duration, size, when
from jobs.models import Job
from ops import problems
from ops.job_summary import context as job_context
from tasks.costs.models import dollars
from tasks.costs.queries import costs_of
from tasks.models import Task
from tasks.results.queries import links_of, result_of

register = template.Library()
for display_filter in (badge, count, dollars, due, duration, size, when):
    register.filter(display_filter)
register.filter("minutes", lambda minutes: duration(minutes * 60))
register.filter("problem_key", problems.key_of)


@register.inclusion_tag("ops/job_live.html", takes_context=True)
def job_summary(context: dict[str, Any], job: Job) -> dict[str, Any]:
    """Render the summary of a job."""
    return {**job_context(job, context["request"].user), "csrf_token": context.get("csrf_token")}


@register.inclusion_tag("ops/task_results.html")
def task_results(task: Task) -> dict[str, Any]:
    """Render the result, the links and the costs of a task."""
    result = result_of(task.pk)
    data = json.dumps(result.data, indent=1, ensure_ascii=False) if result is not None and result.data else ""
    return {"links": links_of(task.pk), "result": result, "data": data, "costs": costs_of(task), "task": task}


@register.inclusion_tag("ops/task_note.html")
def task_note(task: Task) -> dict[str, Any]:
    """Render where a task's note is in the vault, and whether both say the same."""
    return {"note": vaultsync.queries.note_status(task)}
