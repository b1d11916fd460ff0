"""The part of a task's page about its note in the vault."""

from __future__ import annotations

from typing import Any

from django import template

from tasks.models import Task
from vaultsync import queries
from vaultsync.notes import rendering

register = template.Library()


@register.inclusion_tag("admin/vaultsync/task_note.html")
def task_note(task: Task) -> dict[str, Any]:
    """Render a task's note, where it is in the vault, and whether both say the same."""
    status = queries.note_status(task)
    text = rendering.read_note(status.path)
    return {"note": status, "has_text": text is not None, "html": rendering.as_html(text or "")}
