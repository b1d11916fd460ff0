"""`010-tasks/_overview.md`: counts for Dataview queries and the newest tasks."""

from __future__ import annotations

import re
from datetime import datetime

from django.db.models import Count

from core.text import escape_markdown, one_line
from core.timestamps import whole_seconds
from tasks.models import Status, Task
from vaultsync.notes.layout import TASKS, note_path

_NEWEST = 20
_NAME_MOST = 40
_SYNCED = re.compile(r"^synced_at: .*$", re.MULTILINE)


def overview_text(moment: datetime) -> str:
    """The overview as it would be written at this moment."""
    counted = dict(Task.objects.order_by().values_list("status").annotate(Count("id")))
    counts = {status.value: counted.get(status.value, 0) for status in Status}
    total = sum(counted.values())
    front = [f"synced_at: {moment:%Y-%m-%dT%H:%M:%SZ}", f"total_tasks: {total}"]
    front += [f"{status}: {count}" for status, count in counts.items()]
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none yet"
    rows = [_row(task) for task in Task.objects.order_by("-pk")[:_NEWEST]]
    head = ["# Tasks", "", f"**{total} tasks**: {summary}", "", f"## The {_NEWEST} newest", ""]
    table = ["| ID | Name | Type | Status | Assigned To | Created |", "|---|---|---|---|---|---|", *rows]
    return "\n".join(["---", *front, "---", "", *head, *table, ""])


def without_time(text: str) -> str:
    """Return an overview without the time at which it was written."""
    return _SYNCED.sub("", text)


def _row(task: Task) -> str:
    path = note_path(task).removeprefix(f"{TASKS}/")
    name = _cell(task.name)
    created = (whole_seconds(task.created_at) or "")[:10]
    cells = (f"[{task.task_id}]({path})", name, _cell(task.type), _cell(task.status), _cell(task.assigned_to), created)
    return f"| {' | '.join(cells)} |"


def _cell(text: object) -> str:
    short = " ".join(one_line(str(text or "")).split())[:_NAME_MOST].rstrip()
    return escape_markdown(short.replace("\\", "\\\\")).replace("|", "\\|")
