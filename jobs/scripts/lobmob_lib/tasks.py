"""Tasks as the task manager sees them: their events so far, and what is done to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lobwife_client import Client, LobwifeError

from . import discord
from .script import Report

ACTOR = "lobmob-task-manager"
Task = dict[str, Any]
Event = dict[str, Any]


def title(task: Task) -> str:
    return f"{task['task_id']} ({str(task.get('name') or '')[:80]})"


def assignment(task: Task) -> str:
    """Return the mark of an assignment of a task in the details of events."""
    return f"[assigned to {task.get('assigned_to') or 'nobody'} at {task.get('assigned_at') or task.get('updated_at')}]"


@contextlib.contextmanager
def one_at_a_time(task: Task, report: Report) -> Iterator[None]:
    """Print what lobwife refuses for one task, and go on with the others."""
    try:
        yield
    except LobwifeError as error:
        if not error.status:
            raise
        report.fail(f"{task['task_id']}: {error}")


class Tasks:
    """Reads each history once a run; in a dry run it writes nothing."""

    def __init__(self, client: Client, report: Report) -> None:
        self.client = client
        self.report = report
        self._histories: dict[int, list[Event]] = {}

    def history(self, task: Task) -> list[Event]:
        """Return the events of a task, newest first."""
        if task["id"] not in self._histories:
            self._histories[task["id"]] = list(self.client.task_events(task["id"]))
        return self._histories[task["id"]]

    def events(self, task: Task, kind: str) -> list[Event]:
        return [event for event in self.history(task) if event.get("event_type") == kind]

    def has_event(self, task: Task, kind: str, mark: str) -> bool:
        """Return True when the task has such an event whose detail bears the mark."""
        return any(mark in str(event.get("detail") or "") for event in self.events(task, kind))

    def is_leased(self, task: Task) -> bool:
        """Return True for a task that its agent claimed: lobwife itself sees to it when that agent dies."""
        return bool(self.client.task(task["id"]).get("lease"))

    def log_event(self, task: Task, kind: str, detail: str) -> None:
        """Log an event."""
        if not self.report.dry_run:
            self.client.add_event(task["id"], kind, detail, actor=ACTOR)
        self.history(task).insert(0, {"event_type": kind, "detail": detail, "actor": ACTOR})

    def change(self, task: Task, **fields: Any) -> None:
        if not self.report.dry_run:
            self.client.update_task(task["id"], **fields, actor=ACTOR)

    def deregister(self, task: Task) -> None:
        """End its registration: its tokens go with it."""
        if not self.report.dry_run:
            self.client.deregister(task["task_id"])

    def unchanged(self, task: Task) -> bool:
        """Return True while the task is as it was listed: it may have ended, or been given to another, meanwhile."""
        current = self.client.task(task["id"])
        return all(current.get(name) == task.get(name) for name in ("status", "assigned_to", "assigned_at", "type"))

    def post_to_thread(self, task: Task, text: str) -> None:
        """Post to the task's thread, when it has one and there is a bot."""
        thread = str(task.get("discord_thread_id") or "")
        if thread and discord.configured() and not self.report.dry_run:
            try:
                discord.post(thread, text)
            except discord.DiscordError as error:
                self.report.fail(f"{task['task_id']}: {error}")
