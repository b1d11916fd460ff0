"""The read view of a task: how long it took, and its history with the values that changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.display import duration
from core.timestamps import parse, utc_now
from tasks.models import Status, Task, TaskEvent

EVENTS_SHOWN = 100
_LABELS = {"repos": "repositories", "assigned_to": "assignee", "broker_repos": "registered repositories"}
_HIDDEN = frozenset({"status", "assigned_at", "completed_at", "broker_status", "broker_registered_at"})


@dataclass(frozen=True)
class Entry:
    """An entry of the history as people read it."""

    event: TaskEvent
    before: str
    changes: list[tuple[str, str, str]]

    @property
    def title(self) -> str:
        """What happened, in words."""
        return self.event.event_type.replace("_", " ")

    @property
    def who(self) -> str:
        """Who did it by their own words; who was identified, where they said nothing."""
        return self.event.actor or self.event.caller or ""

    @property
    def caller(self) -> str:
        """Who was identified, where that is not what `who` says already."""
        return self.event.caller if self.event.caller and self.event.caller != self.who else ""

    @property
    def changes_status(self) -> bool:
        return bool(self.before and self.event.status and self.before != self.event.status)

    @property
    def detail(self) -> str:
        """The text of the event; nothing where the values say more."""
        text = self.event.detail or ""
        is_said = self.event.event_type == "updated" and (self.changes or self.changes_status)
        return "" if is_said and text.startswith("Updated: ") else text


def timeline(task: Task) -> tuple[list[Entry], bool]:
    """Return the newest entries of a task's history, newest first, and whether there are older ones."""
    events = list(TaskEvent.objects.filter(task=task).order_by("-id")[: EVENTS_SHOWN + 1])
    return list(_entries(events))[:EVENTS_SHOWN], len(events) > EVENTS_SHOWN


def _entries(events: Sequence[TaskEvent]) -> Iterator[Entry]:
    for event, earlier in zip(events, [*events[1:], None], strict=True):
        changed = {name: (old, new) for name, old, new in event.field_changes}
        before = changed["status"][0] if "status" in changed else (earlier.status or "" if earlier else "")
        rows = [(_LABELS.get(name, name.replace("_", " ")), *pair) for name, pair in changed.items()]
        yield Entry(event, before, [row for row, name in zip(rows, changed, strict=True) if name not in _HIDDEN])


def durations(task: Task) -> list[tuple[str, str]]:
    """Return how long the task waited and was worked on, with labels."""
    now = utc_now()
    queued, assigned, ended = parse(task.queued_at), parse(task.assigned_at), parse(task.completed_at)
    if ended is None and task.is_over:
        ended = parse(task.updated_at)
    rows = []
    waited_until = assigned or (now if task.status == Status.QUEUED else None)
    if queued and waited_until and waited_until >= queued:
        rows.append(("Waited", _span(queued, waited_until)))
    worked_until = now if task.status == Status.ACTIVE else ended
    if assigned and worked_until and worked_until >= assigned:
        estimate = task.estimate_minutes if isinstance(task.estimate_minutes, int) else None
        of = f" of {duration(estimate * 60)} estimated" if estimate else ""
        rows.append(("Worked", f"{_span(assigned, worked_until)}{of}"))
    return rows


def is_over_estimate(task: Task) -> bool:
    """Return whether an active task takes longer than was estimated."""
    since = parse(task.assigned_at)
    if task.status != Status.ACTIVE or since is None or not isinstance(task.estimate_minutes, int):
        return False
    return task.estimate_minutes > 0 and (utc_now() - since).total_seconds() > task.estimate_minutes * 60


def _span(begin: datetime, end: datetime) -> str:
    return duration(round((end - begin).total_seconds()))


def context(task: Task) -> dict[str, Any]:
    """Return what the page and its live part show of the task itself."""
    entries, has_more = timeline(task)
    return {
        "task": task,
        "entries": entries,
        "has_more_events": has_more,
        "durations": durations(task),
        "over_estimate": is_over_estimate(task),
    }
