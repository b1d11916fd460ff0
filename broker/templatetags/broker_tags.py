"""The part of a task's page about its tokens."""

from __future__ import annotations

from typing import Any

from django import template

from broker.queries import tokens_of_task
from tasks.models import Task

register = template.Library()


@register.inclusion_tag("admin/broker/task_tokens.html")
def task_tokens(task: Task) -> dict[str, Any]:
    """Render who got tokens for a task, for what, until when, and whether they were revoked."""
    return {"task": task, "tokens": tokens_of_task(task.pk)}
